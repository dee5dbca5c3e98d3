"""The image encoder: one vision transformer for CLIP, SigLIP, InternViT and the small one trained here.

The names of its weights are those of Hugging Face's CLIP; model/vision_formats.py has the other families' names.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.attention import attend
from model.config import VisionConfig
from model.frozen_vision import GELU, can_run, run_layers
from model.fused import product_dtype

QUICK, _ = GELU["quick_gelu"]


def quick_gelu(x: Tensor) -> Tensor:
    """CLIP's cheaper GELU."""
    return x * torch.sigmoid(QUICK * x)


def gelu_tanh(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


ACTIVATION = {"quick_gelu": quick_gelu, "gelu": F.gelu, "gelu_pytorch_tanh": gelu_tanh}


def patch_stem(config: VisionConfig) -> nn.Module:
    """(B, 3, H, W) -> (B, Dv, h, w): one linear map per patch; pixels beyond the last whole patch are left out."""
    return nn.Conv2d(3, config.hidden_size, config.patch_size, stride=config.patch_size, bias=config.patch_bias)


def conv_stem(config: VisionConfig) -> nn.Module:
    """(B, 3, H, W) -> (B, Dv, h, w) by log2(patch_size) halvings, each as wide again as the one before.

    Convolutions see across patch borders and train faster than one big patch (arXiv 2106.14881).
    """
    halvings = config.patch_size.bit_length() - 1
    layers: list[nn.Module] = []
    width_in = 3
    for step in range(halvings):
        width = max(16, config.hidden_size >> (halvings - 1 - step))
        convolution = nn.Conv2d(width_in, width, 3, stride=2, padding=1, bias=False)
        layers += [convolution, nn.GroupNorm(1, width), nn.GELU()]
        width_in = width
    return nn.Sequential(*layers, nn.Conv2d(width_in, config.hidden_size, 1))


class Embeddings(nn.Module):
    """Patches plus learned positions, after a class token where the config has one."""

    def __init__(self, config: VisionConfig):
        super().__init__()
        positions = config.num_patches + config.class_token
        self.class_embedding = nn.Parameter(torch.empty(config.hidden_size)) if config.class_token else None
        self.patch_embedding = conv_stem(config) if config.stem == "conv" else patch_stem(config)
        self.position_embedding = nn.Embedding(positions, config.hidden_size)

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.patch_embedding(pixels).flatten(2).transpose(1, 2)  # (B, N, Dv)
        if self.class_embedding is not None:
            first = self.class_embedding.to(x.dtype).expand(x.shape[0], 1, -1)
            x = torch.cat((first, x), dim=1)  # (B, 1 + N, Dv)
        return x + self.position_embedding.weight


class Attention(nn.Module):
    """Full attention among the patches, with biases."""

    def __init__(self, config: VisionConfig):
        super().__init__()
        self.heads = config.num_attention_heads
        self.q_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.k_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.v_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.out_proj = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        def split(projected: Tensor) -> Tensor:
            return projected.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, H, N, head_dim)

        x = x.to(product_dtype(x))  # once for the three
        query, key, value = split(self.q_proj(x)), split(self.k_proj(x)), split(self.v_proj(x))
        out = attend(query, key, value)
        return self.out_proj(out.transpose(1, 2).reshape(x.shape))


class MLP(nn.Module):
    def __init__(self, config: VisionConfig):
        super().__init__()
        self.activation = ACTIVATION[config.hidden_act]
        self.fc1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.fc2 = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.activation(self.fc1(x)))


class Layer(nn.Module):
    """Attention and MLP, each behind a LayerNorm and added to the stream, scaled where the config says so."""

    def __init__(self, config: VisionConfig):
        super().__init__()
        self.self_attn = Attention(config)
        self.layer_norm1 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp = MLP(config)
        self.layer_norm2 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.layer_scale1 = nn.Parameter(torch.empty(config.hidden_size)) if config.layer_scale else None
        self.layer_scale2 = nn.Parameter(torch.empty(config.hidden_size)) if config.layer_scale else None

    def forward(self, x: Tensor) -> Tensor:
        x = x + _scaled(self.self_attn(self.layer_norm1(x)), self.layer_scale1)
        if self.mlp.activation is quick_gelu and self.layer_scale2 is None:
            return self._with_quick_mlp(x)
        return x + _scaled(self.mlp(self.layer_norm2(x)), self.layer_scale2)

    def _with_quick_mlp(self, x: Tensor) -> Tensor:
        """x plus the MLP's output. c * quick_gelu(y) is silu(c * y) with c = QUICK: c goes into the norm's weights and
        out again where the sum is made, so that no pass over the wide activations is spent on it."""
        norm, up, down = self.layer_norm2, self.mlp.fc1, self.mlp.fc2
        y = F.layer_norm(x, norm.normalized_shape, QUICK * norm.weight, QUICK * norm.bias, norm.eps)
        y = F.linear(y, up.weight, QUICK * up.bias)
        y = F.linear(F.silu(y, inplace=not torch.is_grad_enabled()), down.weight, QUICK * down.bias)
        return torch.add(x, y, alpha=1 / QUICK)


def _scaled(x: Tensor, scale: Tensor | None) -> Tensor:
    return x if scale is None else x * scale.to(x.dtype)


class Encoder(nn.Module):
    def __init__(self, config: VisionConfig):
        super().__init__()
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))


class KeptNorm(nn.Module):
    """The weights of a LayerNorm that no feature goes through: buffers, so that nothing counts or trains them."""

    def __init__(self, width: int):
        super().__init__()
        self.register_buffer("weight", torch.ones(width))
        self.register_buffer("bias", torch.zeros(width))


def shuffle_pixels(x: Tensor, factor: int) -> Tensor:
    """(B, N, Dv) -> (B, N / factor², factor² · Dv): each square block of the grid becomes one feature.

    Blocks stand row by row, and in a feature its patches row by row: InternVL's pixel shuffle with ps_version v2,
    that of InternVL 1.5 and later. (v1 had the same features with the blocks column by column.)
    """
    side = math.isqrt(x.shape[1]) // factor
    blocks = x.unflatten(1, (side, factor, side, factor)).transpose(2, 3)  # (B, h, w, factor, factor, Dv)
    return blocks.flatten(3).flatten(1, 2)


class VisionTransformer(nn.Module):
    """Pixels (B, 3, H, W) in, features (B, N, Dv) out: a hidden state without its class token.

    The hidden state is config.feature_layer's. The LayerNorm at the end is part of the last one in SigLIP
    (post_norm 'applied'); CLIP has it for the class token alone, so its features are taken before it ('kept').
    Random weights are scaled as CLIP's are (arXiv 2103.00020), from torch's global generator.
    """

    def __init__(self, config: VisionConfig):
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config)
        norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps) if config.pre_norm else None
        self.pre_layrnorm = norm  # the name, misspelt, is Hugging Face's
        self.encoder = Encoder(config)
        self.post_layernorm: nn.Module | None = None
        if config.post_norm == "applied":
            self.post_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        elif config.post_norm == "kept":
            self.post_layernorm = KeptNorm(config.hidden_size)
        self._initialise()

    def _initialise(self) -> None:
        width, layers = self.config.hidden_size, self.config.num_hidden_layers
        residual = width**-0.5 * (2 * layers) ** -0.5
        nn.init.normal_(self.embeddings.position_embedding.weight, std=0.02)
        if self.embeddings.class_embedding is not None:
            nn.init.normal_(self.embeddings.class_embedding, std=0.02)
        if self.config.stem == "patch":
            nn.init.normal_(self.embeddings.patch_embedding.weight, std=0.02)
        if self.config.stem == "patch" and self.config.patch_bias:
            nn.init.zeros_(self.embeddings.patch_embedding.bias)
        for layer in self.encoder.layers:
            attention, mlp = layer.self_attn, layer.mlp
            for linear in (attention.q_proj, attention.k_proj, attention.v_proj):
                nn.init.normal_(linear.weight, std=width**-0.5)
            nn.init.normal_(attention.out_proj.weight, std=residual)
            nn.init.normal_(mlp.fc1.weight, std=(2 * width) ** -0.5)
            nn.init.normal_(mlp.fc2.weight, std=residual)
            for linear in (*attention.children(), mlp.fc1, mlp.fc2):
                nn.init.zeros_(linear.bias)
            if self.config.layer_scale:
                nn.init.constant_(layer.layer_scale1, 0.1)  # InternViT's
                nn.init.constant_(layer.layer_scale2, 0.1)

    def hidden_state(self, pixels: Tensor) -> Tensor:
        """The chosen hidden state as it is, with any class token, (B, 1 + N, Dv); ValueError for other sizes."""
        size = self.config.image_size
        if pixels.dim() != 4 or pixels.shape[1:] != (3, size, size):
            raise ValueError(
                f"pixels: found shape {tuple(pixels.shape)}, expected (pictures, 3, {size}, {size}); "
                "preprocess with this encoder's own settings"
            )
        x = self.embeddings(pixels)
        if self.pre_layrnorm is not None:
            x = self.pre_layrnorm(x)
        layers = self.encoder.layers[: self.config.num_hidden_layers + 1 + self.config.feature_layer]
        if can_run(self.config, x):
            x = run_layers(layers, x, self.config)
        else:
            for layer in layers:
                x = layer(x)
        if self.config.post_norm == "applied" and self.config.feature_layer == -1:
            x = self.post_layernorm(x)
        return x

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.hidden_state(pixels)
        x = x[:, 1:] if self.config.class_token else x
        return shuffle_pixels(x, self.config.pixel_shuffle) if self.config.pixel_shuffle > 1 else x
