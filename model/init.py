"""Initialisations of the language model beside the ordinary one."""

from __future__ import annotations

import torch
from torch import nn

from model.language import LanguageModel
from model.layers import DecoderLayer

KEY_STD = 0.03
NOISE = 0.02


@torch.no_grad()
def match_like_with_like(model: LanguageModel, generator: torch.Generator | None = None) -> None:
    """Let each head start out looking for what resembles its own position, and copying what it finds.

    A query head begins as its group's key matrix plus noise, so that equal vectors match; the output matrix begins as
    the transposed value matrix, so that what is found is added as it was. Recall by name (told a noun, find the
    position that holds it) then forms in a fraction of the steps. Nothing else changes, neither shapes nor the
    architecture. The idea of weights that begin near the identity is that of mimetic initialisation (arXiv 2305.09828).
    """
    config = model.config
    group = config.num_attention_heads // config.num_key_value_heads
    for layer in model.model.layers:
        assert isinstance(layer, DecoderLayer)
        attention = layer.self_attn
        nn.init.normal_(attention.k_proj.weight, std=KEY_STD, generator=generator)
        keys = attention.k_proj.weight.unflatten(0, (config.num_key_value_heads, config.head_dim))  # (KV, head_dim, D)
        queries = keys.repeat_interleave(group, 0).flatten(0, 1)  # (H * head_dim, D)
        nn.init.normal_(attention.q_proj.weight, std=NOISE, generator=generator).add_(queries)
        values = attention.v_proj.weight.unflatten(0, (config.num_key_value_heads, config.head_dim))
        attention.o_proj.weight.copy_(values.repeat_interleave(group, 0).flatten(0, 1).T)
