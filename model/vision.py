"""The vision encoder: one vision transformer for CLIP, SigLIP, InternViT and the small encoder trained here.

Parameters have the names of Hugging Face's CLIP; model/checkpoints/vision_families.py maps those of other families.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.config import VisionConfig
from model.init import init_vision


def quick_gelu(x: Tensor) -> Tensor:
    """CLIP's sigmoid approximation of GELU."""
    return x * torch.sigmoid(1.702 * x)


ACTIVATION: dict[str, Callable[[Tensor], Tensor]] = {
    "quick_gelu": quick_gelu,
    "gelu": F.gelu,
    "gelu_pytorch_tanh": partial(F.gelu, approximate="tanh"),
}


def build_stem(config: VisionConfig) -> nn.Module:
    """(B, 3, H, W) -> (B, Dv, h, w).

    'patch' is one linear map per patch; pixels beyond the last whole patch are cropped. 'conv' is log2(patch_size)
    stride-2 convolutions that double the channels: they see across patch borders and train faster (arXiv 2106.14881).
    """
    if config.stem == "patch":
        return nn.Conv2d(3, config.hidden_size, config.patch_size, stride=config.patch_size, bias=config.patch_bias)
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
    """Patch embeddings, after a class token if the config has one, plus learned position embeddings."""

    def __init__(self, config: VisionConfig):
        super().__init__()
        positions = config.num_patches + config.class_token
        self.class_embedding = nn.Parameter(torch.empty(config.hidden_size)) if config.class_token else None
        self.patch_embedding = build_stem(config)
        self.position_embedding = nn.Embedding(positions, config.hidden_size)

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.patch_embedding(pixels).flatten(2).transpose(1, 2)  # (B, N, Dv)
        if self.class_embedding is not None:
            class_token = self.class_embedding.to(x.dtype).expand(x.shape[0], 1, -1)
            x = torch.cat((class_token, x), dim=1)  # (B, 1 + N, Dv)
        return x + self.position_embedding.weight


class Attention(nn.Module):
    """Bidirectional self-attention, with biases."""

    attend: Callable[..., Tensor] = staticmethod(F.scaled_dot_product_attention)

    def __init__(self, config: VisionConfig):
        super().__init__()
        self.heads = config.num_attention_heads
        self.q_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.k_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.v_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.out_proj = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (
            projection(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, H, N, head_dim)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        return self.out_proj(self.attend(query, key, value).transpose(1, 2).flatten(2))


class MLP(nn.Module):
    def __init__(self, config: VisionConfig):
        super().__init__()
        self.activation = ACTIVATION[config.hidden_act]
        self.fc1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.fc2 = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.activation(self.fc1(x)))


class EncoderLayer(nn.Module):
    """Pre-norm block with LayerNorm; InternViT also scales each branch's output per channel (LayerScale)."""

    def __init__(self, config: VisionConfig):
        super().__init__()
        self.self_attn = Attention(config)
        self.layer_norm1 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp = MLP(config)
        self.layer_norm2 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.layer_scale1 = nn.Parameter(torch.empty(config.hidden_size)) if config.layer_scale else None
        self.layer_scale2 = nn.Parameter(torch.empty(config.hidden_size)) if config.layer_scale else None

    def forward(self, x: Tensor) -> Tensor:
        x = x + scaled(self.self_attn(self.layer_norm1(x)), self.layer_scale1)
        x = x + scaled(self.mlp(self.layer_norm2(x)), self.layer_scale2)
        return x


def scaled(x: Tensor, scale: Tensor | None) -> Tensor:
    return x if scale is None else x * scale.to(x.dtype)


class Encoder(nn.Module):
    def __init__(self, config: VisionConfig):
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.num_hidden_layers))


class KeptNorm(nn.Module):
    """A LayerNorm that the features skip, kept for export: its weights are buffers, neither counted nor trained."""

    def __init__(self, width: int):
        super().__init__()
        self.register_buffer("weight", torch.ones(width))
        self.register_buffer("bias", torch.zeros(width))


def shuffle_pixels(x: Tensor, factor: int) -> Tensor:
    """(B, N, Dv) -> (B, N / factor², factor² · Dv): each factor x factor block of the grid becomes one feature.

    Blocks are in row-major order, and so are the patches within each: InternVL's pixel shuffle with ps_version v2,
    that of InternVL 1.5 and later. (v1 has the same features with the blocks in column-major order.)
    """
    side = math.isqrt(x.shape[1]) // factor
    blocks = x.unflatten(1, (side, factor, side, factor)).transpose(2, 3)  # (B, h, w, factor, factor, Dv)
    return blocks.flatten(3).flatten(1, 2)


class VisionTransformer(nn.Module):
    """Pixels (B, 3, H, W) in, features (B, N, Dv) out: one of the hidden states, without the class token.

    config.feature_layer selects it. SigLIP applies the final LayerNorm to its last hidden state (post_norm 'applied');
    CLIP uses it for the class token only, so the features are taken before it ('kept').
    """

    def __init__(self, config: VisionConfig):
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config)
        norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps) if config.pre_norm else None
        self.pre_layrnorm = norm  # [sic]: Hugging Face's name
        self.encoder = Encoder(config)
        self.post_layernorm: nn.Module | None = None
        if config.post_norm == "applied":
            self.post_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        elif config.post_norm == "kept":
            self.post_layernorm = KeptNorm(config.hidden_size)
        init_vision(self)

    def hidden_state(self, pixels: Tensor) -> Tensor:
        """The selected hidden state, (B, 1 + N, Dv) if there is a class token; ValueError for other image sizes."""
        size = self.config.image_size
        if pixels.dim() != 4 or pixels.shape[1:] != (3, size, size):
            raise ValueError(
                f"pixels: found shape {tuple(pixels.shape)}, expected (images, 3, {size}, {size}); "
                "preprocess with this encoder's own settings"
            )
        x = self.embeddings(pixels)
        if self.pre_layrnorm is not None:
            x = self.pre_layrnorm(x)
        x = self.run_layers(x)
        if isinstance(self.post_layernorm, nn.LayerNorm) and self.config.feature_layer == -1:
            x = self.post_layernorm(x)
        return x

    def run_layers(self, x: Tensor) -> Tensor:
        """x (B, 1 + N, Dv) through the layers up to config.feature_layer."""
        for layer in self.encoder.layers[: self.config.num_hidden_layers + 1 + self.config.feature_layer]:
            x = layer(x)
        return x

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.hidden_state(pixels)
        x = x[:, 1:] if self.config.class_token else x
        return shuffle_pixels(x, self.config.pixel_shuffle) if self.config.pixel_shuffle > 1 else x
