"""The rows of a study that are there, for a table without any training: those missing are named."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from dataset.bad_rows import DataError
from model.checkpoints import read_json
from tools.studies.runner import ROW, Plan

Row = dict[str, Any]


def kept_rows(plan: Plan, arms: Sequence[str], seeds: Collection[int]) -> list[Row]:
    """The finished rows of these arms, of these seeds or without any of all, arms and seeds in order.

    DataError where there is none.
    """
    found = [read_json(file) for file in plan.folder.glob(f"*/{ROW}")]
    rows = [row for row in found if row["arm"] in arms and (not seeds or row["seed"] in seeds)]
    if not rows:
        raise DataError(f"{plan.folder} has no finished row; expected some: {plan.typed()} makes them")
    return sorted(rows, key=lambda row: (arms.index(row["arm"]), row["seed"]))


def in_common(rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """The rows of the seeds that every arm has, which can be compared, and the others. DataError where no seed is."""
    of_arms: dict[str, set[int]] = {}
    for row in rows:
        of_arms.setdefault(row["arm"], set()).add(row["seed"])
    shared = set.intersection(*of_arms.values())
    if not shared:
        told = "; ".join(f"{arm}: {', '.join(map(str, sorted(seeds)))}" for arm, seeds in of_arms.items())
        raise DataError(f"the arms have no seed in common ({told}); make the missing rows, or name arms with --arm")
    return [row for row in rows if row["seed"] in shared], [row for row in rows if row["seed"] not in shared]


def named(rows: Iterable[tuple[str, int]]) -> str:
    """Arms with their seeds on one line: "growing 43, 44; reversed 44"."""
    of_arms: dict[str, list[str]] = {}
    for arm, seed in rows:
        of_arms.setdefault(arm, []).append(str(seed))
    return "; ".join(f"{arm} {', '.join(seeds)}" for arm, seeds in of_arms.items())
