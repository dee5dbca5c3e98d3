"""Other formats' names of our weights, and loading them: every tensor fits, or nothing is loaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from model.checkpoints.files import WeightsError, listed

# Buffers that the model computes itself; some files store them all the same.
BUFFERS = ("position_ids", "rotary_emb.inv_freq", "freqs_cos", "freqs_sin", "pos_cis")

# A key table: (our prefix, their prefix) pairs; the first pair whose prefix a key starts with renames it.
KeyTable = tuple[tuple[str, str], ...]
SAME: KeyTable = (("", ""),)
Module = TypeVar("Module", bound=nn.Module)


def their_name(key: str, table: KeyTable) -> str:
    """The other format's name for our `key`; KeyError where the table has none."""
    for ours, theirs in table:
        if key.startswith(ours):
            return theirs + key[len(ours) :]
    raise KeyError(key)


def rename(tensors: dict[str, Tensor], table: KeyTable) -> dict[str, Tensor]:
    """`tensors` under the other format's names instead of ours."""
    return {their_name(key, table): tensor for key, tensor in tensors.items()}


def load_strict(
    make: Callable[[], Module], tensors: dict[str, Tensor], where: Path | str, table: KeyTable = SAME,
    other_parts: tuple[str, ...] = (),
) -> Module:  # fmt: skip
    """The module that make() gives, with every weight from `tensors` in its own dtype, on the CPU; or WeightsError.

    `tensors` has the file's own names, to which `table` maps ours. Missing, unexpected and misshaped tensors, integers
    and values that are not finite are errors, apart from BUFFERS and names that start with one of `other_parts`.
    """
    with torch.device("meta"):
        module = make()
    state = module.state_dict()
    expected = {their_name(key, table): key for key in state}
    skipped = {name for name in tensors if name.startswith(other_parts) or name.endswith(BUFFERS)}
    problems: dict[str, list[str]] = {
        "missing": [*expected.keys() - tensors.keys()],
        "unexpected": [*tensors.keys() - expected.keys() - skipped],
        "wrong shape": [], "not floating point": [], "not finite": [],
    }  # fmt: skip
    for name in expected.keys() & tensors.keys():
        found, wanted = tensors[name], state[expected[name]]
        if found.shape != wanted.shape:
            problems["wrong shape"].append(f"{name} (found {tuple(found.shape)}, expected {tuple(wanted.shape)})")
        if not found.is_floating_point():
            problems["not floating point"].append(f"{name} ({found.dtype})")
        elif not found.float().isfinite().all():
            problems["not finite"].append(name)
    if any(problems.values()):
        lines = [f"  {problem}: {listed(names)}\n" for problem, names in problems.items() if names]
        raise WeightsError(
            f"{where}: these weights do not fit this {type(module).__name__}.\n{''.join(lines)}  Found {len(tensors)} "
            f"tensors, expected {len(expected)}. Check that this is the right file and that the config beside it gives "
            "its sizes; nothing was loaded."
        )
    ready = {key: tensors[name].contiguous().to(state[key].dtype, copy=True) for name, key in expected.items()}
    module.load_state_dict(ready, assign=True)
    return module
