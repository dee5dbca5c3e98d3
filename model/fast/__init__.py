"""Faster forward passes: enable(model) swaps the classes of a model's modules for subclasses with the same parameters,
names and results. This folder can be deleted: nothing else in model/ imports it.
"""

from __future__ import annotations

import torch
from torch import nn

from model.fast import kernels
from model.fast.language import FastAttention, FastDecoderLayer, FastLanguageModel, FastMLP, FastRMSNorm
from model.fast.vision import FastEncoderLayer, FastVisionAttention, FastVisionTransformer
from model.fast.vlm import FastVLM

CLASSES: dict[type[nn.Module], type[nn.Module]] = {
    fast.__bases__[0]: fast
    for fast in (
        FastRMSNorm, FastAttention, FastMLP, FastDecoderLayer, FastLanguageModel,
        FastVisionAttention, FastEncoderLayer, FastVisionTransformer, FastVLM,
    )
}  # fmt: skip


def enable(model: nn.Module) -> nn.Module:
    """Switch a model and all modules inside it to the fast classes, in place; returns the same object."""
    for module in model.modules():
        module.__class__ = CLASSES.get(type(module), type(module))
    return model


def is_enabled(model: nn.Module) -> bool:
    """Whether any module of the model has a fast class."""
    return any(type(module) in CLASSES.values() for module in model.modules())


def compiles(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether the compiled kernels are used when matmuls run in this dtype on this device."""
    return dtype == torch.bfloat16 and kernels.usable(torch.empty(0, device=device))
