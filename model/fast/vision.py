"""The vision transformer with fewer passes over memory; the same parameters and results as model/vision.py.

A frozen encoder in bfloat16 on a CPU goes through the kernels: q, k and v are one matmul, biases are added where matmul
outputs are read next, and the residual stream, which stays in float32, is updated and normalised in one pass.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from model.fast import kernels
from model.fast.attention import SHORT, attend, see_all
from model.fast.fused import are_compiled, one_product, product_dtype
from model.vision import Attention, EncoderLayer, VisionTransformer, quick_gelu, scaled

# GELU as y sigmoid(linear y + cubic y^3): (linear, cubic)
GELU = {"quick_gelu": (1.702, 0.0), "gelu_pytorch_tanh": (math.sqrt(8 / math.pi), 0.044715 * math.sqrt(8 / math.pi))}
QUICK, _ = GELU["quick_gelu"]


class FastVisionAttention(Attention):
    attend = staticmethod(attend)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.to(product_dtype(x)))  # one cast for three matmuls


class FastEncoderLayer(EncoderLayer):
    def forward(self, x: Tensor) -> Tensor:
        x = x + scaled(self.self_attn(self.layer_norm1(x)), self.layer_scale1)
        norm, up, down = self.layer_norm2, self.mlp.fc1, self.mlp.fc2
        if self.mlp.activation is not quick_gelu or self.layer_scale2 is not None:
            return x + scaled(self.mlp(norm(x)), self.layer_scale2)
        # c * quick_gelu(y) is silu(c * y) with c = QUICK: c is folded into the norm's weights and divided out in the
        # residual addition, so that it costs no pass over the wide activations
        y = F.layer_norm(x, norm.normalized_shape, QUICK * norm.weight, QUICK * norm.bias, norm.eps)
        y = F.linear(y, up.weight, QUICK * up.bias)
        y = F.linear(F.silu(y, inplace=not torch.is_grad_enabled()), down.weight, QUICK * down.bias)
        return torch.add(x, y, alpha=1 / QUICK)


class FastVisionTransformer(VisionTransformer):
    def run_layers(self, x: Tensor) -> Tensor:
        known = self.config.hidden_act in GELU and not self.config.layer_scale and x.shape[1] <= SHORT
        if not known or torch.is_grad_enabled() or x.dtype != torch.float32 or not are_compiled(x):
            return super().run_layers(x)
        x = x.clone(memory_format=torch.contiguous_format)
        update: Tensor | None = None
        bias: Tensor | None = None
        for layer in self.encoder.layers[: self.config.num_hidden_layers + 1 + self.config.feature_layer]:
            assert isinstance(layer, EncoderLayer)
            y = kernels.add_layer_norm_(x, update, bias, layer.layer_norm1)
            attention, out = layer.self_attn, layer.self_attn.out_proj
            inputs = (attention.q_proj, attention.k_proj, attention.v_proj)
            biases = torch.cat([linear.bias for linear in inputs]).float()
            heads = kernels.split_heads(one_product(y, *inputs), biases, attention.heads)
            query, key, value = heads.flatten(1, 2)  # (B * H, N, d)
            y = see_all(query, key.transpose(1, 2), value, query.shape[-1] ** -0.5)
            y = y.view(heads.shape[1:]).transpose(1, 2).flatten(2)  # (B, N, D)
            update, bias = F.linear(y, out.weight), out.bias.float()
            y = kernels.add_layer_norm_(x, update, bias, layer.layer_norm2)
            up, down = layer.mlp.fc1, layer.mlp.fc2
            y = kernels.gelu_(F.linear(y, up.weight), up.bias.float(), *GELU[self.config.hidden_act])
            update, bias = F.linear(y, down.weight), down.bias.float()
        return x if update is None or bias is None else x.add_(update).add_(bias)
