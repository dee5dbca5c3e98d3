"""Projectors: image features (B, N, Dv) to M input embeddings (B, M, D) of the language model."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.config import ProjectorConfig
from model.registry import MODULES


def build_projector(config: ProjectorConfig) -> nn.Module:
    """The projector that `config` names, with PyTorch's default initialisation."""
    return MODULES.get(config.kind, Projector)(config)


class Projector(nn.Module):
    """`linear`; `mlp`: linear, GELU, linear; `ldp`: mlp, then pooling to a quarter of the tokens.

    ldp is MobileVLM V2's LDPv2 (arXiv 2402.03766): average pooling over the grid, then a depthwise 3x3
    convolution with a residual connection, which encodes position. It pools to half the grid's side,
    rounded up, where MobileVLM pools to a fixed 12x12. All layers have biases.
    """

    def __init__(self, config: ProjectorConfig):
        super().__init__()
        self.config = config
        width = config.out_features
        self.linear_1 = nn.Linear(config.in_features, width)
        if config.kind != "linear":
            self.linear_2 = nn.Linear(width, width)
        if config.kind == "ldp":
            self.depthwise = nn.Conv2d(width, width, 3, padding=1, groups=width)

    def forward(self, features: Tensor) -> Tensor:
        if features.dim() != 3 or features.shape[-1] != self.config.in_features:
            raise ValueError(
                f"features: found shape {tuple(features.shape)}, expected (images, patches, "
                f"{self.config.in_features}); use the encoder that this projector was made for"
            )
        x = self.linear_1(features)  # (B, N, D)
        if self.config.kind != "linear":
            x = self.linear_2(F.gelu(x))
        if self.config.kind == "ldp":
            x = self._pool(x)
        return x

    @torch.no_grad()
    def scale_output(self, factor: Tensor) -> None:
        """Changes the weights so that the output is multiplied by `factor`."""
        last = "linear_1." if self.config.kind == "linear" else "linear_2."
        for name, parameter in self.named_parameters():
            if name.startswith((last, "depthwise.bias")):  # the convolution's weights pass the factor on
                parameter.mul_(factor)

    def _pool(self, x: Tensor) -> Tensor:
        side, side_out = math.isqrt(x.shape[1]), math.isqrt(self.config.tokens_out(x.shape[1]))
        grid = x.transpose(1, 2).unflatten(-1, (side, side))  # (B, D, h, w)
        grid = F.adaptive_avg_pool2d(grid, side_out)
        grid = grid + self.depthwise(grid)
        return grid.flatten(2).transpose(1, 2)  # (B, M, D)


def band_order(tokens: int, band: int) -> list[int]:
    """The tokens of a square grid, numbered row by row, in the order of bands of so many rows, column by column."""
    side = math.isqrt(tokens)
    return sorted(range(tokens), key=lambda i: (i // side // band, i % side, i))
