"""Weight initialisation: of the vision transformer, and an alternative to normal(0, 0.02) for the language model."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, cast

import torch
from torch import nn

if TYPE_CHECKING:
    from model.language import LanguageModel
    from model.layers import DecoderLayer
    from model.vision import EncoderLayer, VisionTransformer


@torch.no_grad()
def match_like_with_like(model: LanguageModel, generator: torch.Generator | None = None) -> None:
    """Initialise each head to attend to positions similar to its own, and to copy what it finds there.

    A query head starts as its group's key matrix plus noise, so that equal vectors match; the output matrix starts as
    the transposed value matrix, so that a retrieved vector is added back roughly as it was. Associative recall (given
    a noun, find the position that holds it) then forms in a fraction of the steps. Architecture and shapes stay the
    same. Starting near the identity is the idea of mimetic initialisation (arXiv 2305.09828).
    """
    config = model.config
    group = config.num_attention_heads // config.num_key_value_heads
    for layer in cast("Iterable[DecoderLayer]", model.model.layers):
        attention = layer.self_attn
        nn.init.normal_(attention.k_proj.weight, std=0.03, generator=generator)
        keys = attention.k_proj.weight.unflatten(0, (config.num_key_value_heads, config.head_dim))  # (KV, head_dim, D)
        queries = keys.repeat_interleave(group, 0).flatten(0, 1)  # (H * head_dim, D)
        nn.init.normal_(attention.q_proj.weight, std=0.02, generator=generator).add_(queries)
        values = attention.v_proj.weight.unflatten(0, (config.num_key_value_heads, config.head_dim))
        attention.o_proj.weight.copy_(values.repeat_interleave(group, 0).flatten(0, 1).T)


def init_vision(model: VisionTransformer) -> None:
    """CLIP's initialisation (arXiv 2103.00020), from torch's global generator; InternViT's for LayerScale."""
    width, layers = model.config.hidden_size, model.config.num_hidden_layers
    residual = width**-0.5 * (2 * layers) ** -0.5
    nn.init.normal_(model.embeddings.position_embedding.weight, std=0.02)
    if model.embeddings.class_embedding is not None:
        nn.init.normal_(model.embeddings.class_embedding, std=0.02)
    stem = model.embeddings.patch_embedding
    if isinstance(stem, nn.Conv2d):  # 'patch'
        nn.init.normal_(stem.weight, std=0.02)
        if stem.bias is not None:
            nn.init.zeros_(stem.bias)
    for layer in cast("Iterable[EncoderLayer]", model.encoder.layers):
        attention, mlp = layer.self_attn, layer.mlp
        deviations = dict.fromkeys((attention.q_proj, attention.k_proj, attention.v_proj), width**-0.5)
        deviations |= {attention.out_proj: residual, mlp.fc1: (2 * width) ** -0.5, mlp.fc2: residual}
        for linear, std in deviations.items():
            nn.init.normal_(linear.weight, std=std)
            nn.init.zeros_(linear.bias)
        for scale in (layer.layer_scale1, layer.layer_scale2):
            if scale is not None:
                nn.init.constant_(scale, 0.1)
