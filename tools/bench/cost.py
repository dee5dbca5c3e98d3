"""What a work costs in floating-point operations, counted for the tokens that are real, and what the machine has.

A weight costs 2 operations for each token that passes it: 2 forward, 2 for the gradient of its input, 2 for its own.
So 6 where it trains, 4 where it is frozen and a gradient passes through it, 2 where nothing trains behind it. The
projector costs 4: it trains, and its input, the encoder's features, needs no gradient. The head is counted at
positions with a label alone, and so is the last layer, but for its keys and values. Attention costs 4 * D forward for
each pair of a query and a key that it may see, and twice that backward, whether weights train or not; 4 * N² * D in
each of the encoder's layers. The encoder is counted where it runs. Norms, activations and embeddings are not counted,
nor padding: who computes it gets no credit.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import torch

from dataset.record import IGNORE, Batch
from model.config import LMConfig, VisionConfig, VLMConfig


@dataclass
class Done:
    """What was worked through."""

    samples: int = 0
    tokens: int = 0  # real ones
    flops: float = 0.0
    seconds: float = 0.0


def layer_weights(lm: LMConfig) -> int:
    """Weights in the matrices of all layers."""
    attention = 2 * lm.hidden_size * (lm.hidden_size + lm.num_key_value_heads * lm.head_dim)
    return lm.num_hidden_layers * (attention + 3 * lm.hidden_size * lm.intermediate_size)


def key_value_weights(lm: LMConfig) -> int:
    """Weights in the matrices of one layer that make its keys and values."""
    return 2 * lm.hidden_size * lm.num_key_value_heads * lm.head_dim


def encoder_flops(vision: VisionConfig) -> float:
    """For one picture, forward."""
    tokens = vision.num_patches + vision.class_token
    width = vision.hidden_size
    layers = vision.num_hidden_layers + 1 + vision.feature_layer
    weights = layers * (4 * width**2 + 2 * width * vision.intermediate_size)
    patches = vision.num_patches * 3 * vision.patch_size**2 * width
    return 2.0 * (weights * tokens + patches) + 4.0 * tokens**2 * width * layers


def training_flops(config: VLMConfig, batch: Batch, trains_lm: bool, with_encoder: bool) -> float:
    """For one step on a batch with one picture a row."""
    lm, each, labels = config.lm, 6 if trains_lm else 4, batch.supervised_tokens
    keys, layers = key_value_weights(lm), lm.num_hidden_layers
    a_layer = layer_weights(lm) // layers
    weights = ((layers - 1) * a_layer + keys) * batch.tokens
    weights += (a_layer - keys + lm.vocab_size * lm.hidden_size) * labels
    lengths = batch.attention_mask.sum(1).double()
    pairs = (layers - 1) * float((lengths * (lengths + 1) / 2).sum())
    pairs += float(((batch.labels[:, 1:] != IGNORE).nonzero()[:, 1] + 1).sum())  # the last layer's
    flops = each * weights + 12.0 * lm.hidden_size * pairs
    flops += 4.0 * config.projector.in_features * lm.hidden_size * int(batch.image_mask.sum())
    return flops + (len(batch.ids) * encoder_flops(config.vision) if with_encoder else 0.0)


def decoding_flops(lm: LMConfig, prompt: int, new_tokens: int) -> float:
    """For the tokens of one answer after its first."""
    some = new_tokens - 1
    weights = layer_weights(lm) + lm.vocab_size * lm.hidden_size
    seen = some * (prompt + new_tokens / 2)  # positions looked at, of all these tokens together
    return 2.0 * weights * some + 4.0 * lm.hidden_size * lm.num_hidden_layers * seen


def matmul_peak(device: torch.device, dtype: torch.dtype, lm: LMConfig, tokens: int, seconds: float) -> float:
    """Operations a second of the fastest of some matrix products near the model's, the best of several runs.

    tokens: rows of the products (eight times as many on a GPU); each product is tried for so many seconds.
    """
    tokens *= 1 if device.type == "cpu" else 8
    wide, narrow = lm.intermediate_size, lm.hidden_size
    shapes = [(tokens, narrow, wide), (tokens, wide, narrow), (tokens, narrow, lm.vocab_size), (tokens // 2,) * 3]
    best = 0.0
    for rows, inner, columns in shapes:
        left = torch.randn(rows, inner, device=device).to(dtype)
        right = torch.randn(columns, inner, device=device).to(dtype)  # as nn.Linear holds its weight
        until, fastest = time.perf_counter() + seconds, math.inf
        torch.nn.functional.linear(left, right)
        while True:
            finish(device)
            began = time.perf_counter()
            torch.nn.functional.linear(left, right)
            finish(device)
            fastest = min(fastest, time.perf_counter() - began)
            if time.perf_counter() > until:
                break
        best = max(best, 2.0 * rows * inner * columns / fastest)
    return best


def finish(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
