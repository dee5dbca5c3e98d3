"""The language model: a Llama-style decoder with Hugging Face's parameter names."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from model.cache import KVCache
from model.config import LMConfig
from model.layers import DecoderLayer, RMSNorm, rotary_embedding


class Decoder(nn.Module):
    """What Hugging Face calls `model`: token embedding, layers, final norm."""

    def __init__(self, config: LMConfig):
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(DecoderLayer(config, layer) for layer in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)


class LanguageModel(nn.Module):
    """Embeddings (B, T, D) in, hidden states (B, T, D) out; `logits` maps those to (..., V).

    Weight matrices start from normal(0, 0.02), drawn from `generator` (default: torch's global one), biases from zero,
    norms from one. `checkpointing`: the backward pass recomputes each layer's activations instead of storing them.
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
    def head(self) -> nn.Embedding | nn.Linear:
        """The module whose weight (V, D) maps hidden states to logits: the embedding itself if the two are tied."""
        return self.model.embed_tokens if self.config.tie_word_embeddings else self.lm_head

    def logits(self, hidden: Tensor) -> Tensor:
        return F.linear(hidden, self.head.weight)

    def forward(
        self, embeddings: Tensor, attention_mask: Tensor | None = None, cache: KVCache | None = None,
        positions: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """Hidden states after the final norm, (B, T, D).

        attention_mask: bool (B, cached + T), True for real tokens; None: no padding. Right padding needs no mask,
        since no real token attends to it. positions: (T,) or (B, T), by default counted from the mask.
        ValueError beyond max_position_embeddings or for a mask of the wrong shape.
        """
        x = embeddings
        cached = 0 if cache is None else cache.length
        self._check(x, attention_mask, cached)
        if positions is None:
            positions = token_positions(attention_mask, cached, x.shape[1], x.device)
        config = self.config
        rotary = rotary_embedding(positions, config.head_dim, config.rope_theta, config.rope_scaling)
        mask = causal_mask(attention_mask, cached, x.shape[1], x.device)
        recompute = self.checkpointing and torch.is_grad_enabled() and cache is None
        for layer in self.model.layers:
            if recompute:
                x = checkpoint(layer, x, rotary, mask, use_reentrant=False, preserve_rng_state=False)
            else:
                x = layer(x, rotary, mask, cache)
        if cache is not None:
            cache.length += x.shape[1]
        return self.model.norm(x)

    def new_cache(self, max_length: int) -> KVCache:
        """An empty KV cache for one batch of sequences of at most max_length positions."""
        return KVCache(self.config, max_length)

    def next_logits(self, tokens: Tensor, positions: Tensor, mask: Tensor | None, cache: KVCache) -> Tensor:
        """Decode step: logits (B, V) after one token (B,) per row; positions (B,), mask (B, S + 1) as in forward."""
        hidden = self(self.embed(tokens[:, None]), mask, cache, positions[:, None])
        return self.logits(hidden[:, -1])

    def _check(self, x: Tensor, attention_mask: Tensor | None, cached: int) -> None:
        rows, new = x.shape[:2]
        if cached + new > self.config.max_position_embeddings:
            raise ValueError(
                f"found a sequence of {cached + new} positions, this model takes at most "
                f"{self.config.max_position_embeddings}; shorten the text"
            )
        if attention_mask is not None and attention_mask.shape != (rows, cached + new):
            raise ValueError(
                f"attention_mask: found shape {tuple(attention_mask.shape)}, expected {(rows, cached + new)} "
                "(batch, cached + new positions)"
            )


def token_positions(attention_mask: Tensor | None, cached: int, new: int, device: torch.device) -> Tensor:
    """Positions of the new tokens: (T,), or with an attention mask (B, T), where padding is not counted."""
    if attention_mask is None:
        return torch.arange(cached, cached + new, device=device)
    return (attention_mask.cumsum(1) - 1).clamp(min=0)[:, cached:]


def causal_mask(attention_mask: Tensor | None, cached: int, new: int, device: torch.device) -> Tensor | None:
    """Causal and padding mask, bool (B or 1, 1, T, cached + T), True where a query may attend; None if none is needed.

    A padding query attends to itself, so that its softmax is not over nothing.
    """
    if attention_mask is None and (cached == 0 or new == 1):
        return None
    keys = torch.arange(cached + new, device=device)
    queries = keys[cached:, None]
    causal = keys <= queries
    if attention_mask is None:
        return causal[None, None]
    return (causal & attention_mask[:, None, None, :]) | (keys == queries)
