"""softmax(QK^T / sqrt(d)) V, by the quickest way that the device has."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor

# On CPUs the fused kernel's backward pass in bf16 is slow where sequences are short; up to so many keys two matrix
# products and a softmax take a half to a seventh of its time (docs/log.md).
SHORT = 512
BLOCK = 128  # queries that look at the same keys in causal attention; the fewer, the less is computed for nothing


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, causal: bool = False) -> Tensor:
    """Attention of query (B, H, T, d) over key and value (B, KV, S, d), where H is a multiple of KV: (B, H, T, d).

    mask: bool (1 or B, 1, T, S), True where a query may look. causal: the queries are the last T of the S positions,
    and each sees the keys up to its own.
    """
    queries, keys = query.shape[2], key.shape[2]
    if queries == 1:  # one position: a group's query heads stand as its rows, so that the keys are not copied per head
        grouped = query.reshape(query.shape[0], key.shape[1], -1, query.shape[3])
        return F.scaled_dot_product_attention(grouped, key, value, attn_mask=mask).view(query.shape)
    if query.device.type == "cpu" and query.dtype == torch.bfloat16 and keys <= SHORT:
        return _attend_short(query, key, value, mask, causal)
    if causal and queries < keys:
        mask, causal = query.new_ones((queries, keys), dtype=torch.bool).tril(keys - queries), False
    grouped = query.shape[1] != key.shape[1]
    return F.scaled_dot_product_attention(query, key, value, mask, is_causal=causal, enable_gqa=grouped)


def _attend_short(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
    """The same in plain matrix products; a group's query heads stand as rows beside one another, so that keys and
    values are not repeated. Causal queries are taken in blocks, which see no keys behind their last one."""
    batch, heads, queries, width = query.shape
    groups, keys = key.shape[1], key.shape[2]
    rows = (query * width**-0.5).view(batch, groups, -1, queries, width)
    key = key.transpose(-1, -2)
    if not causal:
        return _attend_block(rows, key, value, None if mask is None else _bias(mask, query.dtype)).view(query.shape)
    past, blocks = keys - queries, max(1, round(queries / BLOCK))
    ends = [queries * i // blocks for i in range(blocks + 1)]
    parts = []
    for start, end in itertools.pairwise(ends):
        bias = query.new_full((end - start, past + end), -torch.inf).triu_(past + start + 1)
        seen = slice(0, past + end)
        parts.append(_attend_block(rows[:, :, :, start:end], key[..., seen], value[:, :, seen], bias))
    return torch.cat(parts, 3).view(query.shape) if blocks > 1 else parts[0].view(query.shape)


def _attend_block(rows: Tensor, key: Tensor, value: Tensor, bias: Tensor | None) -> Tensor:
    """rows (B, KV, H / KV, T, d), scaled; key (B, KV, d, S); value (B, KV, S, d); bias is added to the scores."""
    scores = (rows.flatten(2, 3) @ key).view(*rows.shape[:4], -1)
    if bias is not None:
        scores.add_(bias)  # nothing but the softmax keeps scores for the backward pass
    return (scores.softmax(-1).flatten(2, 3) @ value).view(rows.shape)


def _bias(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """0 where a mask (1 or B, 1, T, S) is True, minus infinity elsewhere; (1 or B, 1, 1, T, S)."""
    return torch.zeros_like(mask, dtype=dtype).masked_fill_(~mask, -torch.inf)[:, :, None]
