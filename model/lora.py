"""Low-rank adapters (arXiv 2106.09685) beside frozen linear layers, and their merging into the weights."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LoRALinear(nn.Module):
    """base(x) + (alpha / rank) * B A x, base a linear layer; B starts at zero, so at first it is base."""

    def __init__(self, base: nn.Linear, rank: int, alpha: float, generator: torch.Generator | None = None):
        super().__init__()
        self.base = base
        self.scale = alpha / rank
        bound = 1 / math.sqrt(base.in_features)  # as a linear layer of that input starts
        start = torch.empty(rank, base.in_features).uniform_(-bound, bound, generator=generator)
        self.lora_a = nn.Parameter(start.to(base.weight))
        self.lora_b = nn.Parameter(base.weight.new_zeros(base.out_features, rank))

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + F.linear(F.linear(x, self.lora_a), self.lora_b) * self.scale

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """The linear layer that does the same alone: base, its weight changed in place."""
        delta = self.lora_b.float() @ self.lora_a.float() * self.scale
        self.base.weight.copy_(self.base.weight.float() + delta)
        return self.base


def linear_names(module: nn.Module) -> dict[str, list[str]]:
    """The linear layers below a module: the last part of their name -> the whole names."""
    found: dict[str, list[str]] = {}
    for name, child in module.named_modules():
        if isinstance(child, nn.Linear):
            found.setdefault(name.rpartition(".")[2], []).append(name)
    return found


def add_lora(
    module: nn.Module, targets: tuple[str, ...], rank: int, alpha: float, generator: torch.Generator | None = None
) -> None:
    """Put an adapter beside every linear layer of the module that bears one of these names.

    ValueError for a name that none bears. What is random is drawn in the module's own order.
    """
    there = linear_names(module)
    for target in targets:
        if target not in there:
            raise ValueError(f"no linear layer is called {target!r}; there are {', '.join(sorted(there))}")
    for name in [name for name, child in module.named_modules() if isinstance(child, nn.Linear)]:
        parent, _, last = name.rpartition(".")
        if last in targets:
            holder = module.get_submodule(parent)
            setattr(holder, last, LoRALinear(getattr(holder, last), rank, alpha, generator))


def merge_lora(module: nn.Module) -> None:
    """Add every adapter below the module to its base and take it out: the names are what they were before add_lora."""
    for name, child in list(module.named_modules()):
        if isinstance(child, LoRALinear):
            parent, _, last = name.rpartition(".")
            setattr(module.get_submodule(parent), last, child.merged())


def lora_tensors(module: nn.Module) -> dict[str, Tensor]:
    """The adapters alone, by their names in the module."""
    return {name: tensor.detach() for name, tensor in module.named_parameters() if is_adapter(name)}


def is_adapter(name: str) -> bool:
    """Whether a weight of this name belongs to an adapter."""
    return name.rpartition(".")[2] in ("lora_a", "lora_b")
