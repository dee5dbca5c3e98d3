"""Weights at a quarter of their size in fp32: matrices as int8, with one fp32 scale per row beside them."""

from __future__ import annotations

import torch
from torch import Tensor

SCALE = ".int8_scale"  # after a matrix's name, for its scales


def pack(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """`tensors` with each matrix (rows, columns) as int8, its entry of largest magnitude in a row at 127.

    The error is at most half a scale, a 254th of the row's largest magnitude. Vectors stay as they are.
    """
    packed = {}
    for name, tensor in tensors.items():
        if tensor.dim() == 2:
            scale = tensor.float().abs().amax(dim=1) / 127
            packed[name + SCALE] = scale
            tensor = (tensor / scale.clamp_min(torch.finfo(torch.float32).tiny)[:, None]).round().to(torch.int8)
        packed[name] = tensor
    return packed


def unpack(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `pack`, up to rounding: matrices in fp32, the rest as it is. ValueError for scales amiss."""
    unpacked = {}
    for name, tensor in tensors.items():
        if tensor.dtype == torch.int8:
            scale = tensors.get(name + SCALE)
            if scale is None or scale.shape != tensor.shape[:1]:
                found = None if scale is None else tuple(scale.shape)
                raise ValueError(f"{name + SCALE}: found {found}, expected one scale for each row of {name}")
            tensor = tensor.float() * scale[:, None]
        if not name.endswith(SCALE):
            unpacked[name] = tensor
    return unpacked
