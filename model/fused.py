"""Parts of a decoder layer as autograd functions that read memory less often, and keep less for the backward pass.

Written out, each is a chain of elementwise operations, every one of which passes over all activations and keeps some
of them. The formulas are the same; on CPUs they take a third (RMSNorm) to two thirds of the time (docs/log.md).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def product_dtype(x: Tensor) -> torch.dtype:
    """The format that a matrix product of x is computed in: autocast's where it is on, else x's."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
        exact = torch.promote_types(x.dtype, torch.float32)
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=exact)
        scale = norm.square_().div_(x.shape[-1]).add_(eps).rsqrt_()  # (.., 1)
        ctx.save_for_backward(x, weight, scale)
        return (x * scale).mul_(weight).to(dtype)

    @staticmethod
    def backward(ctx, grad: Tensor):
        x, weight, scale = ctx.saved_tensors
        grad = grad.to(scale.dtype)
        for_weight = None
        if ctx.needs_input_grad[1]:
            for_weight = (grad * x).mul_(scale).flatten(0, -2).sum(0).to(weight.dtype)
        if not ctx.needs_input_grad[0]:
            return None, for_weight, None, None
        grad = grad * weight
        along = (grad * x).sum(-1, keepdim=True).mul_(scale**3).div_(-x.shape[-1])
        return grad.mul_(scale).addcmul_(x, along).to(x.dtype), for_weight, None, None


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x (.., D) over its root mean square times weight (D,), computed in float32 or better (arXiv 1910.07467).

    The result is in the format of the products that take it, so none of them has to cast it.
    """
    dtype = product_dtype(x)
    if x.device.type == "cuda":  # one kernel there
        return F.rms_norm(x, weight.shape, weight.to(x.dtype), eps).to(dtype)
    return _RMSNorm.apply(x, weight, eps, dtype)


class _SwiGLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx, gate: Tensor, up: Tensor) -> Tensor:
        ctx.save_for_backward(gate, up)
        return F.silu(gate).mul_(up)

    @staticmethod
    def backward(ctx, grad: Tensor):
        gate, up = ctx.saved_tensors
        return torch.ops.aten.silu_backward(grad * up, gate), F.silu(gate).mul_(grad)


def swiglu(gate: Tensor, up: Tensor) -> Tensor:
    """silu(gate) * up (arXiv 2002.05202); keeps its two inputs alone."""
    return _SwiGLU.apply(gate, up)


def _turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, -1), sin)


class _Rotation(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _turned(x, cos, sin)

    @staticmethod
    def backward(ctx, grad: Tensor):
        cos, sin = ctx.saved_tensors
        return _turned(grad, cos, -sin), None, None


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x (B, T, H, d) cos + swapped(x) sin, where swapped exchanges the halves of the last dimension.

    cos, sin: (1 or B, T, 1, d), equal in both halves but for sin's sign, minus in the first.
    """
    cos, sin = cos.to(x.dtype), sin.to(x.dtype)
    return _Rotation.apply(x, cos, sin) if torch.is_grad_enabled() else _turned(x, cos, sin)
