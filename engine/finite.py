"""Values that are not finite: which part of a model they come from."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

PARTS = {"vision": "image encoder", "llm": "language model"}  # others are called what they are named
ADVICE = "check the weights that it was loaded from, or try --dtype float32"


class NotFiniteError(RuntimeError):
    """A loss, gradient or output that is not finite; the text names what is at fault, and what a run has kept."""


def part_of(name: str) -> str:
    """What the part of a model is called that the module of that name belongs to."""
    part = name.split(".")[0]
    return PARTS.get(part, part)


@torch.no_grad()
def first_not_finite(model: nn.Module, run: Callable[[], object]) -> str:
    """The name of the innermost module whose output is the first one that is not finite while `run` uses the model;
    "" if the modules' outputs are all finite."""
    found: list[str] = []

    def look(name: str, module: nn.Module, inputs: object, output: object) -> None:
        tensors = output if isinstance(output, tuple) else (output,)
        if not found and any(isinstance(one, Tensor) and not bool(one.isfinite().all()) for one in tensors):
            found.append(name)

    hooks = [module.register_forward_hook(partial(look, name)) for name, module in model.named_modules()]
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()
    return found[0] if found else ""
