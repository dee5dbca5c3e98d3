"""The decoder with fused passes; the same parameters and results as model/language.py and model/layers.py.

Three things differ. Each residual addition is deferred to the norm that follows it, so a layer passes on a pair: the
residual stream, and the update still to be added to it. The last layer computes only keys and values before the first
position that is asked for (`first`). And decode steps go through a TokenStepper.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from model.cache import KVCache
from model.fast.attention import BLOCK, SHORT, attend
from model.fast.decoding import TokenStepper
from model.fast.fused import add_rms_norm, product_dtype, rms_norm, rotate, signed, swiglu
from model.fast.graphs import FastKVCache
from model.language import LanguageModel, causal_mask, token_positions
from model.layers import MLP, Attention, DecoderLayer, RMSNorm, Rotary, rotary_embedding


class FastRMSNorm(RMSNorm):
    def forward(self, x: Tensor) -> Tensor:
        return rms_norm(x, self.weight, self.eps)

    def after(self, x: Tensor, update: Tensor | None) -> tuple[Tensor, Tensor]:
        """x + update (None: just x), and the norm of that."""
        return (x, self(x)) if update is None else add_rms_norm(x, update, self.weight, self.eps)


class FastAttention(Attention):
    def forward(
        self, x: Tensor, rotary: Rotary, mask: Tensor | None = None, cache: KVCache | None = None, first: int = 0
    ) -> Tensor:
        """The output of x (B, T, D) for the positions from `first` on, (B, T - first, D); rotary is signed()."""
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


class FastMLP(MLP):
    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(swiglu(x, self.gate_proj, self.up_proj))


class FastDecoderLayer(DecoderLayer):
    input_layernorm: FastRMSNorm
    post_attention_layernorm: FastRMSNorm

    def forward(  # type: ignore[override]  # only FastLanguageModel calls it
        self, x: Tensor, update: Tensor | None, rotary: Rotary, mask: Tensor | None, cache: KVCache | None, first: int
    ) -> tuple[Tensor, Tensor]:
        """In: residual stream (B, T, D) and the update still to be added to it. Out: the same, (B, T - first, D)."""
        x, normed = self.input_layernorm.after(x, update)
        update = self.self_attn(normed, rotary, mask, cache, first)
        x, normed = self.post_attention_layernorm.after(x[:, first:], update)
        return x, self.mlp(normed)


class FastLanguageModel(LanguageModel):
    _stepper: TokenStepper | None = None
    _stepped: tuple[tuple[int, int], ...] = ()  # the weights that the stepper has copies of

    def forward(
        self, embeddings: Tensor, attention_mask: Tensor | None = None, cache: KVCache | None = None,
        positions: Tensor | None = None, first: int = 0,
    ) -> Tensor:  # fmt: skip
        """As LanguageModel.forward, for the positions from `first` on only: (B, T - first, D)."""
        cached, new = 0 if cache is None else cache.length, embeddings.shape[1]
        self._check(embeddings, attention_mask, cached)
        if positions is None:
            positions = token_positions(attention_mask, cached, new, embeddings.device)
        config, dtype = self.config, product_dtype(embeddings)
        cos, sin = signed(rotary_embedding(positions, config.head_dim, config.rope_theta, config.rope_scaling))
        rotary = cos.to(dtype), sin.to(dtype)
        mask = None if attention_mask is None else causal_mask(attention_mask, cached, new, embeddings.device)
        x, update = embeddings, None
        recompute = self.checkpointing and torch.is_grad_enabled() and cache is None
        for number, layer in enumerate(self.model.layers, 1):
            start = first if number == len(self.model.layers) else 0
            if recompute:
                x = x if update is None else x + update  # so that only one of them is stored
                given = (x, None, rotary, mask, None, start)
                x, update = checkpoint(layer, *given, use_reentrant=False, preserve_rng_state=False)
            else:
                x, update = layer(x, update, rotary, mask, cache, start)
        if cache is not None:
            cache.length += new
        norm = self.model.norm
        assert isinstance(norm, FastRMSNorm)
        return norm.after(x, update)[1]

    @staticmethod
    def kept_scores(length: int) -> int:
        """How many attention weights per query are stored for the backward pass, on average over a causal sequence of
        this length; 0 where the fused kernel is used, which stores none."""
        blocks = max(1, round(length / BLOCK))
        return length * (blocks + 1) // (2 * blocks) if length <= SHORT else 0

    def new_cache(self, max_length: int) -> KVCache:
        """An empty cache; also makes a new TokenStepper if the weights have changed."""
        weights = tuple((parameter.data_ptr(), parameter._version) for parameter in self.parameters())
        if weights != self._stepped:
            self._stepper, self._stepped = TokenStepper(self), weights
        return FastKVCache(self.config, max_length)

    def next_logits(self, tokens: Tensor, positions: Tensor, mask: Tensor | None, cache: KVCache) -> Tensor:
        assert self._stepper is not None and isinstance(cache, FastKVCache)  # new_cache made both
        return self._stepper.step(tokens, positions, mask, cache)
