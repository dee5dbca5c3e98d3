"""softmax(QK^T / sqrt(d)) V, by the quickest way that the device has."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor

from model.fast.fused import causal_softmax

# On CPUs two matrix products and a softmax take a third to a half of the fused kernel's time in bf16 (docs/log.md), but
# training keeps what the softmax gives: 2 bytes for each head, query and key that it sees. So up to so many keys alone.
SHORT = 2048
AT_ONCE = 2**23  # scores, which then stay in the cache
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
    fewer = query.shape[1] != key.shape[1]
    return F.scaled_dot_product_attention(query, key, value, mask, is_causal=causal, enable_gqa=fewer)


def _attend_short(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
    """The same in plain matrix products. The query heads of a group stand beside one another as rows, so that keys and
    values are not repeated. Causal queries are taken in blocks, which see no keys behind their last one."""
    batch, heads, queries, width = query.shape
    groups, keys = key.shape[1], key.shape[2]
    group, scale = heads // groups, width**-0.5
    rows = query.transpose(1, 2).unflatten(2, (groups, group)).transpose(1, 2)  # (B, KV, T, group, d)
    rows = rows.reshape(batch * groups, queries * group, width)
    key, value = key.reshape(-1, keys, width).transpose(1, 2), value.reshape(-1, keys, width)
    if mask is not None:
        scores = (rows @ key).view(batch, groups, queries, group, keys)
        shares = torch.add(_bias(mask, query.dtype), scores, alpha=scale).softmax(-1)
        out = shares.view(-1, queries * group, keys) @ value
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
    """Attention of query (N, T, d) over all of key (N, d, S) and value (N, S, d), some of the N at a time."""
    some = max(1, AT_ONCE // (query.shape[1] * key.shape[2]))
    parts = [
        causal_softmax(q @ k, scale, 1, k.shape[2]) @ v
        for q, k, v in zip(query.split(some), key.split(some), value.split(some), strict=True)
    ]
    return torch.cat(parts) if len(parts) > 1 else parts[0]


def _bias(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """0 where a mask (1 or B, 1, T, S) is True, minus infinity elsewhere; (1 or B, 1, T, 1, S)."""
    return torch.zeros_like(mask, dtype=dtype).masked_fill_(~mask, -torch.inf)[:, :, :, None]
