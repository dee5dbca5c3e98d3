"""softmax(QK^T / sqrt(d)) V, by the quickest way that the device has."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

# On CPUs the fused kernel's backward pass in bf16 is slow where sequences are short; up to so many keys two matrix
# products and a softmax take a half to a seventh of its time (docs/log.md).
SHORT = 512


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, causal: bool = False) -> Tensor:
    """Attention of query (B, H, T, d) over key and value (B, KV, S, d), where H is a multiple of KV: (B, H, T, d).

    mask: bool (1 or B, 1, T, S), True where a query may look. causal: T is S, and query t sees the keys up to t.
    """
    if query.device.type == "cpu" and query.dtype == torch.bfloat16 and 1 < key.shape[2] <= SHORT:
        return _attend_short(query, key, value, mask, causal)
    grouped = query.shape[1] != key.shape[1]
    return F.scaled_dot_product_attention(query, key, value, mask, is_causal=causal, enable_gqa=grouped)


def _attend_short(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
    """The same in plain matrix products; a group's query heads stand as rows beside one another, so that keys and
    values are not repeated."""
    batch, heads, queries, width = query.shape
    groups, keys = key.shape[1], key.shape[2]
    rows = query.reshape(batch, groups, -1, width)  # (B, KV, H / KV * T, d)
    scores = (rows @ key.transpose(-1, -2)).view(batch, groups, -1, queries, keys) * width**-0.5
    if causal:
        mask = torch.ones(queries, keys, dtype=torch.bool, device=query.device).tril()[None, None]
    if mask is not None:
        scores = scores + torch.zeros_like(mask, dtype=query.dtype).masked_fill_(~mask, -torch.inf)[:, :, None]
    weights = scores.softmax(-1).to(value.dtype)
    return (weights.view(batch, groups, -1, keys) @ value).view(batch, heads, queries, width)
