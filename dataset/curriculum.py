"""A curriculum of growing answer lengths for any data set: what a stage sees, and what it replays of earlier stages."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial

import numpy as np

from dataset.bad_rows import BadRow
from dataset.batching import Records
from dataset.record import Record
from dataset.views import Changed, Subset, cut_answers

BOUNDS = {1: 32, 2: 96, 3: 0}  # stage -> maximum answer length in tokens; 0: no limit
REPLAY = 0.25  # share of a stage's rows that are cut as in an earlier stage


def cut_for_stage(record: Record, stage: int, length: Callable[[str], int], seed: int) -> Record:
    """Truncate each answer to whole sentences within the stage's bound, or on replay within an earlier stage's.

    length: number of tokens in a text.
    """
    rng = random.Random(f"replay {seed} {record.id}")
    if stage > 1 and rng.random() < REPLAY:
        stage = rng.randrange(1, stage)
    bound = BOUNDS[stage]
    return cut_answers(record, lambda text: bound == 0 or length(text) <= bound)


def stage_records(records: Records, stage: int, fit: str, length: Callable[[str], int], seed: int) -> Records:
    """The records of a stage. fit 'cut': all rows, answers truncated at a sentence; 'drop': rows that fit whole."""
    if fit == "cut":
        return Changed(records, partial(cut_for_stage, stage=stage, length=length, seed=seed))
    bound = BOUNDS[stage]
    return Subset(records, np.array([i for i in range(len(records)) if _fits(records, i, bound, length)], np.int64))


def _fits(records: Records, i: int, bound: int, length: Callable[[str], int]) -> bool:
    try:
        answers = [turn.text for turn in records[i].turns if turn.role == "assistant"]
    except BadRow:
        return True  # counted where it is encoded
    return bound == 0 or all(length(text) <= bound for text in answers)
