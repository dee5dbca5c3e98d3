"""The decoder's layers: RMSNorm, rotary position embedding, grouped-query attention, SwiGLU, the pre-norm block.

Shape letters: B batch size, T new positions, S all positions including those in the KV cache, D hidden size (the width
of the residual stream), H query heads, KV key/value heads, V vocabulary size.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.cache import KVCache
from model.config import LMConfig, RopeScaling

Rotary = tuple[Tensor, Tensor]  # cos and sin, (1 or B, T, 1, head_dim), shared by all heads and layers


class RMSNorm(nn.Module):
    """x / RMS(x) * weight over the last dimension (arXiv 1910.07467)."""

    def __init__(self, width: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.weight.shape, self.weight.to(x.dtype), self.eps)


def rotary_embedding(positions: Tensor, head_dim: int, theta: float, scaling: RopeScaling | None = None) -> Rotary:
    """cos and sin of the rotary position embedding (arXiv 2104.09864) at `positions` (T,) or (B, T).

    As in Llama, dimension i is paired with dimension i + head_dim / 2.
    """
    exponents = torch.arange(0, head_dim, 2, device=positions.device, dtype=torch.float32) / head_dim
    periods = theta**exponents  # positions per radian, (head_dim / 2,)
    if scaling is not None:
        periods = scale_periods(periods, scaling)
    angles = positions[..., None].float() / periods  # (T, head_dim / 2) or (B, T, head_dim / 2)
    angles = torch.cat((angles, angles), dim=-1)
    if angles.dim() == 2:
        angles = angles[None]
    return angles.cos()[:, :, None], angles.sin()[:, :, None]


def scale_periods(periods: Tensor, scaling: RopeScaling) -> Tensor:
    """Llama 3.1's long-context RoPE scaling: long periods are stretched by the factor, short ones are left alone."""
    turns = scaling.original_max_position_embeddings / (2 * math.pi * periods)  # within the original context
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    kept = ((turns - low) / (high - low)).clamp(0, 1)  # share of the original frequency that is kept
    return periods / (kept + (1 - kept) / scaling.factor)


def apply_rotary(x: Tensor, rotary: Rotary) -> Tensor:
    """Rotates each pair of dimensions of x (B, T, H, head_dim) by its angle."""
    cos, sin = (part.to(x.dtype) for part in rotary)
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


class Attention(nn.Module):
    """Grouped-query attention (arXiv 2305.13245) with rotary position embedding and an optional KV cache."""

    def __init__(self, config: LMConfig, layer: int):
        super().__init__()
        self.layer = layer
        self.head_dim = config.head_dim
        width, kv_width = (n * config.head_dim for n in (config.num_attention_heads, config.num_key_value_heads))
        self.q_proj = nn.Linear(config.hidden_size, width, bias=config.attention_bias)
        self.k_proj = nn.Linear(config.hidden_size, kv_width, bias=config.attention_bias)
        self.v_proj = nn.Linear(config.hidden_size, kv_width, bias=config.attention_bias)
        self.o_proj = nn.Linear(width, config.hidden_size, bias=False)

    def forward(self, x: Tensor, rotary: Rotary, mask: Tensor | None = None, cache: KVCache | None = None) -> Tensor:
        """x (B, T, D) -> (B, T, D). mask: bool (B or 1, 1, T, S), True where a query may attend; None: causal."""
        split = (-1, self.head_dim)
        query = apply_rotary(self.q_proj(x).unflatten(-1, split), rotary).transpose(1, 2)  # (B, H, T, head_dim)
        key = apply_rotary(self.k_proj(x).unflatten(-1, split), rotary).transpose(1, 2)  # (B, KV, T, head_dim)
        value = self.v_proj(x).unflatten(-1, split).transpose(1, 2)
        if cache is not None:
            key, value = cache.append(self.layer, key, value)  # (B, KV, S, head_dim)
        causal = mask is None and x.shape[1] > 1  # a single new query attends to all positions so far
        out = F.scaled_dot_product_attention(query, key, value, mask, is_causal=causal, enable_gqa=True)
        return self.o_proj(out.transpose(1, 2).flatten(2))


class MLP(nn.Module):
    """SwiGLU (arXiv 2002.05202)."""

    def __init__(self, config: LMConfig):
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class DecoderLayer(nn.Module):
    """Pre-norm transformer block: attention and MLP each read the normalised residual stream and add to it."""

    def __init__(self, config: LMConfig, layer: int):
        super().__init__()
        self.self_attn = Attention(config, layer)
        self.mlp = MLP(config)
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, x: Tensor, rotary: Rotary, mask: Tensor | None = None, cache: KVCache | None = None) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), rotary, mask, cache)
        x = x + self.mlp(self.post_attention_layernorm(x))
        return x
