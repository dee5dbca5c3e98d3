"""Parts of a decoder layer as fused autograd functions: fewer passes over memory, fewer saved activations.

In plain PyTorch each is a chain of elementwise operations, every one of which passes over all activations and saves
some of them. The formulas are the same; on CPUs the fused ones take a third (RMSNorm) to two thirds of the time
(docs/log.md). The compiled ones are a single pass each (model/fast/kernels.py), for bfloat16 on CPUs with a compiler.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.fast import kernels


def product_dtype(x: Tensor) -> torch.dtype:
    """The dtype that a matmul of x runs in: autocast's if it is enabled, else x's."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


def are_compiled(x: Tensor, *more: Tensor) -> bool:
    """Whether the compiled kernels are used for these tensors, whose matmuls run in the same dtype as those of x."""
    return product_dtype(x) == torch.bfloat16 and kernels.usable(x, *more)


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
        compute_dtype = torch.promote_types(x.dtype, torch.float32)
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=compute_dtype)
        scale = norm.square_().div_(x.shape[-1]).add_(eps).rsqrt_()  # (..., 1)
        ctx.save_for_backward(x, weight, scale)
        return (x * scale).mul_(weight).to(dtype)

    @staticmethod
    def backward(ctx, grad: Tensor):
        x, weight, scale = ctx.saved_tensors
        grad = grad.to(scale.dtype)
        grad_weight = None
        if ctx.needs_input_grad[1]:
            grad_weight = (grad * x).mul_(scale).flatten(0, -2).sum(0).to(weight.dtype)
        if not ctx.needs_input_grad[0]:
            return None, grad_weight, None, None
        grad = grad * weight
        along = (grad * x).sum(-1, keepdim=True).mul_(scale**3).div_(-x.shape[-1])
        return grad.mul_(scale).addcmul_(x, along).to(x.dtype), grad_weight, None, None


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """RMSNorm of x (..., D) with weight (D,), computed in float32 or better (arXiv 1910.07467).

    The result has the dtype of the matmuls that read it, so that none of them has to cast it.
    """
    dtype = product_dtype(x)
    if x.device.type == "cuda":  # a single kernel on CUDA
        return F.rms_norm(x, weight.shape, weight.to(x.dtype), eps).to(dtype)
    if x.dtype == weight.dtype == torch.float32 and are_compiled(x, weight):
        return kernels.RMSNorm.apply(x, None, weight, eps)
    return _RMSNorm.apply(x, weight, eps, dtype)


def add_rms_norm(x: Tensor, update: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """x + update, both (..., D), and the rms_norm of that sum."""
    float32 = x.dtype == weight.dtype == torch.float32
    if float32 and update.dtype == torch.bfloat16 and are_compiled(x, update, weight):
        return kernels.RMSNorm.apply(x, update, weight, eps)
    x = x + update
    return x, rms_norm(x, weight, eps)


class _SwiGLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx, gate: Tensor, up: Tensor) -> Tensor:
        ctx.save_for_backward(gate, up)
        return F.silu(gate).mul_(up)

    @staticmethod
    def backward(ctx, grad: Tensor):
        gate, up = ctx.saved_tensors
        return torch.ops.aten.silu_backward(grad * up, gate), F.silu(gate).mul_(grad)


def swiglu(x: Tensor, gate: nn.Module, up: nn.Module) -> Tensor:
    """silu(gate(x)) * up(x) (arXiv 2002.05202); saves only the outputs of gate and up for the backward pass."""
    if are_linear(gate, up) and gate.bias is up.bias is None and are_compiled(x):
        return kernels.SwiGLU.apply(one_product(x, gate, up))
    return _SwiGLU.apply(gate(x), up(x))


def are_linear(*modules: nn.Module) -> bool:
    """Whether these are plain linear layers, not LoRA adapters or the like."""
    return all(type(module) is nn.Linear for module in modules)


def one_product(x: Tensor, *linears: nn.Linear) -> Tensor:
    """Linear layers that share an input, without biases, in one matmul: their outputs concatenated."""
    dtype = product_dtype(x)
    return F.linear(x, torch.cat([linear.weight.to(dtype) for linear in linears]))


def _rotate(x: Tensor, cos: Tensor, sin: Tensor, sign: float = 1.0) -> Tensor:
    if x.dim() == 4 and x.dtype == torch.bfloat16 and are_compiled(x, cos, sin):
        return kernels.rotate(x, cos, sin, sign)
    sin = sin if sign == 1.0 else sin * sign
    return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, -1), sin)


class _Rotation(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _rotate(x, cos, sin)

    @staticmethod
    def backward(ctx, grad: Tensor):
        cos, sin = ctx.saved_tensors
        return _rotate(grad, cos, sin, -1.0), None, None


def signed(rotary: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """cos and sin of layers.rotary_embedding in the form that rotate() takes: the first half of sin is negated."""
    cos, sin = rotary
    first, second = sin.chunk(2, dim=-1)
    return cos, torch.cat((-first, second), dim=-1)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x (B, T, H, d) cos + swapped(x) sin, where swapped exchanges the halves of the last dimension.

    cos, sin: (1 or B, T, 1, d), as signed() returns them.
    """
    cos, sin = cos.to(x.dtype), sin.to(x.dtype)
    return _Rotation.apply(x, cos, sin) if torch.is_grad_enabled() else _rotate(x, cos, sin)


def causal_softmax(scores: Tensor, scale: float, group: int, seen: int) -> Tensor:
    """softmax(scale * scores) of scores (N, queries * group, S): each query has `group` rows, and query q attends to
    the first seen + q of the S keys. May overwrite the scores."""
    queries = scores.shape[1] // group
    if scores.dtype == torch.bfloat16 and are_compiled(scores):
        return kernels.Softmax.apply(scores.contiguous(), scale, queries, group, seen)
    hidden = scores.new_full((queries, scores.shape[2]), -torch.inf).triu_(seen)[:, None]
    return torch.add(hidden, scores.unflatten(1, (queries, group)), alpha=scale).softmax(-1).flatten(1, 2)
