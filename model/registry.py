"""The kinds of projectors; a user's own are registered by name from a file outside the repo (docs/tutorial.md)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeVar

from torch import nn

Module = TypeVar("Module", bound=type[nn.Module])


def same_grid(patches: int) -> int:
    """Number of tokens where each feature makes one."""
    return patches


def halved_grid(patches: int) -> int:
    """Number of tokens where each side of a square grid of `patches` features is halved, rounding up."""
    side = math.isqrt(patches)
    if side * side != patches or patches < 1:
        raise ValueError(f"the projector needs a square grid of features, found {patches} of them")
    return ((side + 1) // 2) ** 2


# kind of projector -> number of tokens for so many features
PROJECTORS: dict[str, Callable[[int], int]] = {"linear": same_grid, "mlp": same_grid, "ldp": halved_grid}
MODULES: dict[str, type[nn.Module]] = {}  # kind -> the class of a user's own


def register_projector(kind: str) -> Callable[[Module], Module]:
    """Class decorator: --projector `kind` makes such a projector; ValueError for the name of one that is built in.

    The class is an nn.Module made with a ProjectorConfig (in_features Dv, out_features D) whose forward takes features
    (B, N, Dv), row by row of the grid, to tokens (B, M, D). M is what its static method tokens_out(N) says, or N where
    it has none. With a method scale_output(factor), which multiplies what comes out by changing the weights, and 16
    tokens of 64 features, alignment on the picture book begins with the warm-up on cells (engine/cells.py).
    """

    def register(module: Module) -> Module:
        if not (isinstance(module, type) and issubclass(module, nn.Module)):
            raise ValueError(f"register_projector({kind!r}): found {module!r}, expected a class derived from nn.Module")
        if kind in PROJECTORS and kind not in MODULES:
            raise ValueError(f"register_projector({kind!r}): that one is built in; choose another name")
        PROJECTORS[kind] = getattr(module, "tokens_out", same_grid)
        MODULES[kind] = module
        return module

    return register


def warms_up(kind: str, cells: int) -> bool:
    """Whether such a projector makes `cells` tokens of four times as many features, and can scale its output."""
    scales = kind not in MODULES or hasattr(MODULES[kind], "scale_output")
    return scales and PROJECTORS[kind](4 * cells) == cells
