"""The language model: a Llama-shaped decoder under Hugging Face's names, in one sitting."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from model.attention import attend
from model.config import LMConfig, RopeScaling
from model.fused import add_rms_norm, product_dtype, rms_norm, rotate, swiglu

Rotary = tuple[Tensor, Tensor]  # cos and sin as fused.rotate takes them, (1 or B, T, 1, head_dim)


def rotary_angles(positions: Tensor, head_dim: int, theta: float, scaling: RopeScaling | None = None) -> Rotary:
    """cos and sin for `positions` (T,) or (B, T), shared by all layers (RoFormer, arXiv 2104.09864)."""
    exponents = torch.arange(0, head_dim, 2, device=positions.device, dtype=torch.float32) / head_dim
    periods = theta**exponents  # positions per radian, (head_dim / 2,)
    if scaling is not None:
        periods = stretched(periods, scaling)
    angles = positions[..., None].float() / periods  # (T or B,T, head_dim / 2)
    if angles.dim() == 2:
        angles = angles[None]
    cos, sin = angles.cos()[:, :, None], angles.sin()[:, :, None]
    return torch.cat((cos, cos), -1), torch.cat((-sin, sin), -1)  # the first half pairs with the second, as in Llama


def stretched(periods: Tensor, scaling: RopeScaling) -> Tensor:
    """Periods as Llama 3.1 uses them: the long ones times the factor, the short ones as they are."""
    turns = scaling.original_max_position_embeddings / (2 * math.pi * periods)  # within the original length
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    kept = ((turns - low) / (high - low)).clamp(0, 1)  # the share of the old frequency that stays
    return periods / (kept + (1 - kept) / scaling.factor)


def attention_mask_for(attention_mask: Tensor | None, queries: int, past: int, device) -> Tensor | None:
    """A bool mask (B, 1, queries, past + queries), True where a query may look; None: plain causal.

    A padding query keeps sight of itself, so that its softmax has something to sum over.
    """
    if attention_mask is None:
        return None
    if queries == 1:
        return attention_mask[:, None, None, :]
    keys = torch.arange(past + queries, device=device)
    own = keys[past:, None]
    causal = keys <= own
    return (causal & attention_mask[:, None, None, :]) | (keys == own)


class KVCache:
    """Keys and values of every layer, allocated once at the first write.

    `length` counts the positions that hold something; a model's forward moves it on by itself.
    """

    def __init__(self, config: LMConfig, max_length: int):
        self.max_length = max_length
        self.length = 0
        self._keys: list[Tensor | None] = [None] * config.num_hidden_layers
        self._values: list[Tensor | None] = [None] * config.num_hidden_layers

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Stores (B, KV, T, head_dim) after what is there; gives views of all of it, (B, KV, S, head_dim)."""
        end = self.length + keys.shape[2]
        if end > self.max_length:
            raise ValueError(f"the cache holds {self.max_length} positions, {end} were asked of it")
        if self._keys[layer] is None:
            shape = (*keys.shape[:2], self.max_length, keys.shape[3])
            self._keys[layer], self._values[layer] = keys.new_zeros(shape), values.new_zeros(shape)
        self._keys[layer][:, :, self.length : end] = keys
        self._values[layer][:, :, self.length : end] = values
        return self._keys[layer][:, :, :end], self._values[layer][:, :, :end]

    def put(self, layer: int, keys: Tensor, values: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
        """Stores those of one position (B, KV, 1, head_dim) at `at` (1,) int64; gives all places, (B, KV, max_length,
        head_dim), zeros where nothing was written. Nothing here depends on what `at` holds but the data."""
        self._keys[layer].index_copy_(2, at, keys)
        self._values[layer].index_copy_(2, at, values)
        return self._keys[layer], self._values[layer]

    def place(self) -> tuple[int, ...]:
        """What tells the tensors of this cache from others that are in memory at the same time or had other rows."""
        return (self.max_length, *(n for keys in self._keys if keys is not None for n in (len(keys), keys.data_ptr())))

    def to(self, dtype: torch.dtype) -> None:
        """What is held from now on in another format; nothing where it is in that already."""
        if self._keys[0] is not None and self._keys[0].dtype != dtype:
            self._keys = [keys.to(dtype) for keys in self._keys]
            self._values = [values.to(dtype) for values in self._values]

    def keep(self, rows: Tensor) -> None:
        """Only `rows` (int64) of the batch stay, in that order."""
        self._keys = [None if keys is None else keys[rows] for keys in self._keys]
        self._values = [None if values is None else values[rows] for values in self._values]


class RMSNorm(nn.Module):
    """x over its root mean square, times a weight."""

    def __init__(self, width: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return rms_norm(x, self.weight, self.eps)

    def after(self, x: Tensor, update: Tensor | None) -> tuple[Tensor, Tensor]:
        """x plus update (None: nothing), and that normed."""
        if update is None:
            return x, self(x)
        return add_rms_norm(x, update, self.weight, self.eps)


class Attention(nn.Module):
    """Grouped-query attention with rotary positions."""

    def __init__(self, config: LMConfig, layer: int):
        super().__init__()
        self.layer = layer
        self.head_dim = config.head_dim
        width, kv_width = (n * config.head_dim for n in (config.num_attention_heads, config.num_key_value_heads))
        self.q_proj = nn.Linear(config.hidden_size, width, bias=config.attention_bias)
        self.k_proj = nn.Linear(config.hidden_size, kv_width, bias=config.attention_bias)
        self.v_proj = nn.Linear(config.hidden_size, kv_width, bias=config.attention_bias)
        self.o_proj = nn.Linear(width, config.hidden_size, bias=False)

    def forward(self, x: Tensor, rotary: Rotary, mask: Tensor | None, cache: KVCache | None, first: int) -> Tensor:
        cos, sin = rotary
        split = (-1, self.head_dim)
        query = self.q_proj(x[:, first:].contiguous()).unflatten(-1, split)
        query = rotate(query, cos[:, first:], sin[:, first:]).transpose(1, 2)  # (B, H, T - first, head_dim)
        key = rotate(self.k_proj(x).unflatten(-1, split), cos, sin).transpose(1, 2)  # (B, KV, T, head_dim)
        value = self.v_proj(x).unflatten(-1, split).transpose(1, 2)
        if cache is not None:
            key, value = cache.append(self.layer, key, value)  # (B, KV, S, head_dim)
        if mask is not None:
            mask = mask[:, :, first:]
        out = attend(query, key, value, mask, causal=mask is None)
        return self.o_proj(out.transpose(1, 2).flatten(2))


class MLP(nn.Module):
    """SwiGLU (arXiv 2002.05202)."""

    def __init__(self, config: LMConfig):
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(swiglu(x, self.gate_proj, self.up_proj))


class Layer(nn.Module):
    """Attention and MLP, each behind a norm and added to the stream; the sum is made by the norm that comes next."""

    def __init__(self, config: LMConfig, layer: int):
        super().__init__()
        self.self_attn = Attention(config, layer)
        self.mlp = MLP(config)
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(
        self, x: Tensor, update: Tensor | None, rotary: Rotary, mask: Tensor | None, cache: KVCache | None, first: int
    ) -> tuple[Tensor, Tensor]:
        """The stream (B, T, D) and the last layer's update in, from position `first` on both of them (B, T - first, D)
        out."""
        x, normed = self.input_layernorm.after(x, update)
        update = self.self_attn(normed, rotary, mask, cache, first)
        x, normed = self.post_attention_layernorm.after(x[:, first:], update)
        return x, self.mlp(normed)


class Decoder(nn.Module):
    """What Hugging Face calls `model`: embedding, layers, last norm."""

    def __init__(self, config: LMConfig):
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Layer(config, layer) for layer in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)


class LanguageModel(nn.Module):
    """Embeddings (B, T, D) in, hidden states (B, T, D) out; `logits` turns those into (.., V).

    Matrices start as normal(0, 0.02) drawn from `generator` (default: torch's global one), norms as ones. With
    `checkpointing` the backward pass computes each layer again instead of keeping what is inside it.
    """

    checkpointing = False

    def __init__(self, config: LMConfig, generator: torch.Generator | None = None):
        super().__init__()
        self.config = config
        self.model = Decoder(config)
        if not config.tie_word_embeddings:
            self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        for name, parameter in self.named_parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=0.02, generator=generator)
            elif name.endswith(".bias"):
                nn.init.zeros_(parameter)

    def embed(self, ids: Tensor) -> Tensor:
        return self.model.embed_tokens(ids)

    @property
    def head(self) -> nn.Module:
        """The module whose weight (V, D) makes logits of hidden states."""
        return self.model.embed_tokens if self.config.tie_word_embeddings else self.lm_head

    def logits(self, hidden: Tensor) -> Tensor:
        return F.linear(hidden, self.head.weight)

    def forward(
        self,
        embeddings: Tensor,
        attention_mask: Tensor | None = None,
        cache: KVCache | None = None,
        positions: Tensor | None = None,
        first: int = 0,
    ) -> Tensor:
        """Hidden states after the last norm, (B, T, D); from position `first` on alone, (B, T - first, D), where given.

        The last layer computes nothing else of the positions before `first` than their keys and values.

        attention_mask: (B, past + T) bool, True where a token is real; None means none is padding. Right
        padding needs no mask: what comes after a token cannot reach it. Positions, unless given as (T,) or
        (B, T), count the real tokens. ValueError beyond max_position_embeddings or for a misshaped mask.
        """
        past = 0 if cache is None else cache.length
        new = embeddings.shape[1]
        if past + new > self.config.max_position_embeddings:
            raise ValueError(
                f"a sequence of {past + new} positions was given, the model was made for at most "
                f"{self.config.max_position_embeddings}; shorten the text"
            )
        if attention_mask is not None and attention_mask.shape != (embeddings.shape[0], past + new):
            raise ValueError(
                f"attention_mask: found shape {tuple(attention_mask.shape)}, expected "
                f"{(embeddings.shape[0], past + new)} (batch, cached and new positions)"
            )
        if positions is None and attention_mask is not None:
            positions = (attention_mask.cumsum(1) - 1).clamp(min=0)[:, past:]  # (B, T)
        elif positions is None:
            positions = torch.arange(past, past + new, device=embeddings.device)  # (T,)
        config, dtype = self.config, product_dtype(embeddings)
        angles = rotary_angles(positions, config.head_dim, config.rope_theta, config.rope_scaling)
        rotary = angles[0].to(dtype), angles[1].to(dtype)
        mask = attention_mask_for(attention_mask, new, past, embeddings.device)
        x, update = embeddings, None
        again = self.checkpointing and torch.is_grad_enabled() and cache is None
        for number, layer in enumerate(self.model.layers, 1):
            start = first if number == len(self.model.layers) else 0
            if again:
                x = x if update is None else x + update  # so that one of them is kept
                x, update = checkpoint(
                    layer, x, None, rotary, mask, None, start, use_reentrant=False, preserve_rng_state=False
                )
            else:
                x, update = layer(x, update, rotary, mask, cache, start)
        if cache is not None:
            cache.length += new
        return self.model.norm.after(x, update)[1]
