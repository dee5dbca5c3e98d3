"""Each kind of projector at the other number of tokens, which the study `projector` compares (--plugin)."""

from __future__ import annotations

import math
from dataclasses import replace

from torch import Tensor, nn
from torch.nn import functional as F

from model.config import ProjectorConfig
from model.projector import Projector
from model.registry import halved_grid, register_projector


class Pooled(nn.Module):
    """A projector of the same kind without pooling, then averages over the grid to a quarter of the tokens."""

    kind = ""
    tokens_out = staticmethod(halved_grid)

    def __init__(self, config: ProjectorConfig):
        super().__init__()
        self.projector = Projector(replace(config, kind=self.kind))

    def forward(self, features: Tensor) -> Tensor:
        x = self.projector(features)  # (B, N, D)
        side, pooled = math.isqrt(x.shape[1]), math.isqrt(halved_grid(x.shape[1]))
        grid = x.transpose(1, 2).unflatten(-1, (side, side))  # (B, D, h, w)
        return F.adaptive_avg_pool2d(grid, pooled).flatten(2).transpose(1, 2)  # (B, M, D)


@register_projector("linear-pooled")
class LinearPooled(Pooled):
    kind = "linear"


@register_projector("mlp-pooled")
class MlpPooled(Pooled):
    kind = "mlp"


@register_projector("ldp-full")
class LdpFull(nn.Module):
    """mlp, then ldp's depthwise convolution with its residual connection, on all tokens."""

    def __init__(self, config: ProjectorConfig):
        super().__init__()
        self.projector = Projector(replace(config, kind="mlp"))
        width = config.out_features
        self.depthwise = nn.Conv2d(width, width, 3, padding=1, groups=width)

    def forward(self, features: Tensor) -> Tensor:
        x = self.projector(features).transpose(1, 2)  # (B, D, N)
        side = math.isqrt(x.shape[2])
        grid = x.unflatten(-1, (side, side))
        return (grid + self.depthwise(grid)).flatten(2).transpose(1, 2)
