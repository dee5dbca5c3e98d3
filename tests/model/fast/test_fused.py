"""The fused parts of a layer against the same written out: values and every gradient."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from model.fast.fused import product_dtype, rms_norm, rotate, swiglu


def some(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator).requires_grad_()


def gradients(out: torch.Tensor, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
    weight = torch.linspace(-1, 2, out.numel()).view(out.shape).to(out.dtype)
    return out.detach(), *torch.autograd.grad(out, inputs, weight)


def check(fused, plain, *inputs: torch.Tensor) -> None:
    for found, expected in zip(gradients(fused(*inputs), *inputs), gradients(plain(*inputs), *inputs), strict=True):
        torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-5)


def test_rms_norm():
    def plain(x, weight):
        return x / (x.square().mean(-1, keepdim=True) + 1e-3).sqrt() * weight

    check(lambda x, weight: rms_norm(x, weight, 1e-3), plain, some(2, 5, 16), some(16, seed=1))


def test_rms_norm_of_zeros_is_zero_and_its_gradient_finite():
    x, weight = torch.zeros(3, 8, requires_grad=True), some(8)
    out, for_x, for_weight = gradients(rms_norm(x, weight, 1e-5), x, weight)
    assert not out.any() and not for_weight.any() and for_x.isfinite().all()


def test_rms_norm_asks_for_the_gradients_that_are_wanted_alone():
    x, weight = some(4, 8), some(8).detach()
    rms_norm(x, weight, 1e-5).sum().backward()
    assert x.grad is not None and weight.grad is None


def matrix(weight: torch.Tensor) -> nn.Linear:
    linear = nn.Linear(*weight.shape[::-1], bias=False)
    linear.weight = nn.Parameter(weight.detach())
    return linear


def test_swiglu():
    gate, up = matrix(some(6, 8, seed=1)), matrix(some(6, 8, seed=2))

    def plain(x, gate_weight, up_weight):
        return F.silu(x @ gate_weight.T) * (x @ up_weight.T)

    check(lambda x, *weights: swiglu(x, gate, up), plain, some(3, 4, 8), gate.weight, up.weight)


def test_rotation_turns_pairs_by_an_angle():
    angle = some(1, 5, 1, 4, seed=2).detach()
    cos, sin = torch.cat((angle.cos(), angle.cos()), -1), torch.cat((-angle.sin(), angle.sin()), -1)

    def plain(x):
        a, b = x.chunk(2, dim=-1)
        return torch.cat((a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()), -1)

    x = some(2, 5, 3, 8)
    check(lambda x: rotate(x, cos, sin), plain, x)
    torch.testing.assert_close(rotate(x, cos, sin).norm(dim=-1), x.norm(dim=-1))


WEIGHT = torch.linspace(1, 2, 8, dtype=torch.float64)


EXACT = matrix(torch.linspace(-1, 2, 24, dtype=torch.float64).view(3, 8))


@pytest.mark.parametrize("function", [lambda x: rms_norm(x, WEIGHT, 1e-5), lambda x: swiglu(x, EXACT, EXACT)])
def test_numerical_gradients(function):
    x = torch.randn(2, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(4)).requires_grad_()
    assert torch.autograd.gradcheck(function, (x,))


def test_a_norm_gives_what_the_next_product_computes_in():
    x, weight = some(2, 8), some(8)
    assert rms_norm(x, weight, 1e-5).dtype == product_dtype(x) == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        out = rms_norm(x, weight, 1e-5)
        assert out.dtype == product_dtype(x) == torch.bfloat16
        out.float().sum().backward()
    assert x.grad.dtype == weight.grad.dtype == torch.float32
    torch.testing.assert_close(out.float(), rms_norm(x, weight, 1e-5), atol=0.02, rtol=0.01)
