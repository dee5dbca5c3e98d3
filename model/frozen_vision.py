"""The layers of a vision transformer without gradients, by the kernels for CPUs: for a frozen encoder in bfloat16.

Against vision.Layer.forward: q, k and v are one product; biases are added where the products' outputs are read next;
the stream, which stays in float32, is added to and normed in one pass.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model import kernels
from model.attention import SHORT, see_all
from model.config import VisionConfig
from model.fused import are_compiled, one_product

# y sigmoid(linear y + cubic y^3): the factors
GELU = {"quick_gelu": (1.702, 0.0), "gelu_pytorch_tanh": (math.sqrt(8 / math.pi), 0.044715 * math.sqrt(8 / math.pi))}


def can_run(config: VisionConfig, x: Tensor) -> bool:
    """Whether the kernels have all that layers of this kind do with x (B, N, D), and no gradient is wanted."""
    known = config.hidden_act in GELU and not config.layer_scale and x.shape[1] <= SHORT
    return known and not torch.is_grad_enabled() and x.dtype == torch.float32 and are_compiled(x)


def run_layers(layers: Iterable[nn.Module], x: Tensor, config: VisionConfig) -> Tensor:
    """x (B, N, D) after the layers (vision.Layer), as they compute it one by one."""
    x, update, bias = x.clone(memory_format=torch.contiguous_format), None, None
    for layer in layers:
        y = kernels.add_layer_norm_(x, update, bias, layer.layer_norm1)
        out = layer.self_attn.out_proj
        update, bias = _product(_attend(layer.self_attn, y), out), out.bias.float()
        y = kernels.add_layer_norm_(x, update, bias, layer.layer_norm2)
        up, down = layer.mlp.fc1, layer.mlp.fc2
        y = kernels.gelu_(_product(y, up), up.bias.float(), *GELU[config.hidden_act])
        update, bias = _product(y, down), down.bias.float()
    return x if update is None else x.add_(update).add_(bias)


def _attend(attention: nn.Module, x: Tensor) -> Tensor:
    """What the heads find, side by side (B, N, D)."""
    projections = (attention.q_proj, attention.k_proj, attention.v_proj)
    biases = torch.cat([projection.bias for projection in projections]).float()
    heads = kernels.split_heads(one_product(x, *projections), biases, attention.heads)
    query, key, value = heads.flatten(1, 2)  # (B * H, N, d)
    found = see_all(query, key.transpose(1, 2), value, query.shape[-1] ** -0.5)
    return found.view(heads.shape[1:]).transpose(1, 2).flatten(2)


def _product(x: Tensor, linear: nn.Linear) -> Tensor:
    """A linear layer's output without its bias."""
    return F.linear(x, linear.weight)
