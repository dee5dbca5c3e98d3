"""softmax(QK^T / sqrt(d)) V, in the fastest way for the device."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor

from model.fast.fused import causal_softmax

# On CPUs two matmuls and a softmax take a third to a half of the fused kernel's time in bf16 (docs/log.md), but
# training stores the attention weights: 2 bytes per head, query and visible key. So only up to this many keys.
SHORT = 2048
AT_ONCE = 2**23  # scores at a time, so that they stay in the CPU's cache
BLOCK = 128  # queries per block of causal attention; smaller blocks compute fewer masked scores


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, causal: bool = False) -> Tensor:
    """Attention of query (B, H, T, d) over key and value (B, KV, S, d), where H is a multiple of KV: (B, H, T, d).

    mask: bool (1 or B, 1, T, S), True where a query may attend. causal: the queries are the last T of the S positions,
    and each attends to the keys up to its own position.
    """
    queries, keys = query.shape[2], key.shape[2]
    if queries == 1:  # a decode step: a group's query heads become its rows, so that keys are not repeated per head
        grouped = query.reshape(query.shape[0], key.shape[1], -1, query.shape[3])
        return F.scaled_dot_product_attention(grouped, key, value, attn_mask=mask).view(query.shape)
    if query.device.type == "cpu" and query.dtype == torch.bfloat16 and keys <= SHORT:
        return _attend_short(query, key, value, mask, causal)
    if causal and queries < keys:
        mask, causal = query.new_ones((queries, keys), dtype=torch.bool).tril(keys - queries), False
    gqa = query.shape[1] != key.shape[1]
    return F.scaled_dot_product_attention(query, key, value, mask, is_causal=causal, enable_gqa=gqa)


def _attend_short(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
    """The same in plain matmuls. The query heads of a group become adjacent rows, so that keys and values are not
    repeated. Causal queries are processed in blocks, which skip the keys after their last query."""
    batch, heads, queries, width = query.shape
    groups, keys = key.shape[1], key.shape[2]
    group, scale = heads // groups, width**-0.5
    rows = query.transpose(1, 2).unflatten(2, (groups, group)).transpose(1, 2)  # (B, KV, T, group, d)
    rows = rows.reshape(batch * groups, queries * group, width)
    key, value = key.reshape(-1, keys, width).transpose(1, 2), value.reshape(-1, keys, width)
    if mask is not None:
        scores = (rows @ key).view(batch, groups, queries, group, keys)
        hidden = torch.zeros_like(mask, dtype=query.dtype).masked_fill_(~mask, -torch.inf)  # (1 or B, 1, T, S)
        weights = torch.add(hidden[:, :, :, None], scores, alpha=scale).softmax(-1)
        out = weights.view(-1, queries * group, keys) @ value
    elif not causal:
        out = see_all(rows, key, value, scale)
    else:
        past, blocks = keys - queries, max(1, round(queries / BLOCK))
        ends = [queries * i // blocks for i in range(blocks + 1)]
        parts = []
        for start, end in itertools.pairwise(ends):
            seen = past + end
            scores = rows[:, start * group : end * group] @ key[..., :seen]
            parts.append(causal_softmax(scores, scale, group, past + start + 1) @ value[:, :seen])
        out = torch.cat(parts, 1) if blocks > 1 else parts[0]
    out = out.view(batch, groups, queries, group, width).transpose(1, 2)  # (B, T, KV, group, d)
    return out.reshape(batch, queries, heads, width).transpose(1, 2)


def see_all(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    """Unmasked attention of query (N, T, d) over key (N, d, S) and value (N, S, d), a few of the N at a time."""
    chunk = max(1, AT_ONCE // (query.shape[1] * key.shape[2]))
    parts = [
        causal_softmax(q @ k, scale, 1, k.shape[2]) @ v
        for q, k, v in zip(query.split(chunk), key.split(chunk), value.split(chunk), strict=True)
    ]
    return torch.cat(parts) if len(parts) > 1 else parts[0]
