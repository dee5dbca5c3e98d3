"""LoRA (arXiv 2106.09685): low-rank adapters on frozen linear layers, and merging them into the weights."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LoRALinear(nn.Module):
    """base(x) + (alpha / rank) * B A x for a linear layer `base`; B starts at zero, so the output starts as base(x)."""

    def __init__(self, base: nn.Linear, rank: int, alpha: float, generator: torch.Generator | None = None):
        super().__init__()
        self.base = base
        self.scale = alpha / rank
        bound = 1 / math.sqrt(base.in_features)  # nn.Linear's default for this fan-in
        start = torch.empty(rank, base.in_features).uniform_(-bound, bound, generator=generator)
        self.lora_a = nn.Parameter(start.to(base.weight))
        self.lora_b = nn.Parameter(base.weight.new_zeros(base.out_features, rank))

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + F.linear(F.linear(x, self.lora_a), self.lora_b) * self.scale


def add_lora(
    module: nn.Module, targets: tuple[str, ...], rank: int, alpha: float, generator: torch.Generator | None = None
) -> None:
    """Add an adapter to every linear layer of the module whose last name part is one of `targets`.

    ValueError for a target that matches none. Random weights are drawn in the order of module.named_modules().
    """
    linears = [name for name, child in module.named_modules() if isinstance(child, nn.Linear)]
    there = {name.rpartition(".")[2] for name in linears}
    for target in targets:
        if target not in there:
            raise ValueError(f"no linear layer is called {target!r}; there are {', '.join(sorted(there))}")
    for name in linears:
        parent, _, last = name.rpartition(".")
        if last in targets:
            holder = module.get_submodule(parent)
            setattr(holder, last, LoRALinear(getattr(holder, last), rank, alpha, generator))


@torch.no_grad()
def merge_lora(module: nn.Module) -> None:
    """Merge every adapter into its base layer and remove it: parameters have the names they had before add_lora."""
    for name, child in list(module.named_modules()):
        if isinstance(child, LoRALinear):
            delta = child.lora_b.float() @ child.lora_a.float() * child.scale
            child.base.weight.copy_(child.base.weight.float() + delta)
            parent, _, last = name.rpartition(".")
            setattr(module.get_submodule(parent), last, child.base)


def lora_tensors(module: nn.Module) -> dict[str, Tensor]:
    """The adapters' weights alone, by their names in the module."""
    return {name: tensor.detach() for name, tensor in module.named_parameters() if is_adapter(name)}


def is_adapter(name: str) -> bool:
    """Whether the parameter of this name belongs to an adapter."""
    return name.rpartition(".")[2] in ("lora_a", "lora_b")
