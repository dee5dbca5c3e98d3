"""FLOPs of a workload, counted for real tokens only, and the machine's peak FLOP/s.

A weight costs 2 FLOPs per token in the forward pass, 2 for the gradient of its input and 2 for its own gradient: 6 if
it is trained, 4 if it is frozen and a gradient flows through it, 2 if nothing before it is trained. The projector costs
4: it is trained, but its input, the encoder's features, needs no gradient. The head counts only at positions with a
label, and so does the last layer, except for its keys and values. Attention costs 4 * D forward for each pair of a
query and a visible key, and twice that backward, whether or not the weights are trained; 4 * N² * D in each encoder
layer. The encoder counts where it runs. Norms, activations, embeddings and padding are not counted: computing padding
earns no credit.
"""

from __future__ import annotations

import math
import time

import torch

from dataset.record import IGNORE, Batch
from model.config import LMConfig, VisionConfig, VLMConfig


def layer_weights(lm: LMConfig) -> int:
    """Number of weights in the matrices of all layers."""
    attention = 2 * lm.hidden_size * (lm.hidden_size + lm.num_key_value_heads * lm.head_dim)
    return lm.num_hidden_layers * (attention + 3 * lm.hidden_size * lm.intermediate_size)


def key_value_weights(lm: LMConfig) -> int:
    """Number of weights in the key and value matrices of one layer."""
    return 2 * lm.hidden_size * lm.num_key_value_heads * lm.head_dim


def encoder_flops(vision: VisionConfig) -> float:
    """FLOPs of one image, forward pass only."""
    tokens = vision.num_patches + vision.class_token
    width = vision.hidden_size
    layers = vision.num_hidden_layers + 1 + vision.feature_layer
    weights = layers * (4 * width**2 + 2 * width * vision.intermediate_size)
    patches = vision.num_patches * 3 * vision.patch_size**2 * width
    return 2.0 * (weights * tokens + patches) + 4.0 * tokens**2 * width * layers


def training_flops(config: VLMConfig, batch: Batch, trains_lm: bool, with_encoder: bool) -> float:
    """FLOPs of one step on a batch with one image per row."""
    lm, each, labels = config.lm, 6 if trains_lm else 4, batch.supervised_tokens
    keys, layers = key_value_weights(lm), lm.num_hidden_layers
    per_layer = layer_weights(lm) // layers
    weights = ((layers - 1) * per_layer + keys) * batch.tokens
    weights += (per_layer - keys + lm.vocab_size * lm.hidden_size) * labels
    lengths = batch.attention_mask.sum(1).double()
    pairs = (layers - 1) * float((lengths * (lengths + 1) / 2).sum())
    pairs += float(((batch.labels[:, 1:] != IGNORE).nonzero()[:, 1] + 1).sum())  # the last layer's
    flops = each * weights + 12.0 * lm.hidden_size * pairs
    flops += 4.0 * config.projector.in_features * lm.hidden_size * int(batch.image_mask.sum())
    return flops + (len(batch.ids) * encoder_flops(config.vision) if with_encoder else 0.0)


def decoding_flops(lm: LMConfig, prompt: int, new_tokens: int) -> float:
    """FLOPs of all tokens of one answer after its first."""
    steps = new_tokens - 1
    weights = layer_weights(lm) + lm.vocab_size * lm.hidden_size
    seen = steps * (prompt + new_tokens / 2)  # visible positions, summed over these tokens
    return 2.0 * weights * steps + 4.0 * lm.hidden_size * lm.num_hidden_layers * seen


def matmul_peak(device: torch.device, dtype: torch.dtype, lm: LMConfig, tokens: int, seconds: float) -> float:
    """FLOP/s of the fastest of several matmuls with about the model's shapes, best of several runs.

    tokens: rows of the matmuls (eight times as many on a GPU). Each shape is timed for `seconds`.
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
        while fastest == math.inf or time.perf_counter() <= until:
            finish(device)
            began = time.perf_counter()
            torch.nn.functional.linear(left, right)
            finish(device)
            fastest = min(fastest, time.perf_counter() - began)
        best = max(best, 2.0 * rows * inner * columns / fastest)
    return best


def finish(device: torch.device) -> None:
    """Wait until the device has finished all queued work."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
