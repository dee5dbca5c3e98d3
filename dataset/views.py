"""Lazy views of records: a subset, a transform of each, or what a stage of the curriculum sees. Nothing is copied."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from torch.utils.data import Subset

from dataset.bad_rows import BadRow
from dataset.batching import Records
from dataset.record import Record

BOUNDS = {1: 32, 2: 96, 3: 0}  # stage of the curriculum -> maximum answer length in tokens; 0: no limit
REPLAY = 0.25  # share of a stage's rows that are cut as in an earlier stage
# the end of a sentence, with closing quotes and brackets
SENTENCE_END = re.compile(r"[。！？；!?]+[”’」』）)\"']*|\.+[\"')]*(?=\s|$)")


@dataclass(frozen=True, eq=False)
class Changed:
    """Each record after the transform `change`."""

    records: Records
    change: Callable[[Record], Record]

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, i: int) -> Record:
        return self.change(self.records[i])


def split_off(records: Records, count: int, seed: int, stream: int = 0) -> tuple[Subset, Subset]:
    """Random split: (the rest, `count` records). Another stream is an independent split of the same seed."""
    order = np.random.default_rng((seed, stream)).permutation(len(records))
    return Subset(records, np.sort(order[count:])), Subset(records, np.sort(order[:count]))  # type: ignore[arg-type]


def stage_records(records: Records, stage: int, fit: str, length: Callable[[str], int], seed: int) -> Records:
    """The records of a stage. fit 'cut': all rows, answers truncated at a sentence; 'drop': rows that fit whole.

    length: number of tokens in a text.
    """
    if fit == "cut":
        return Changed(records, partial(cut_for_stage, stage=stage, length=length, seed=seed))
    rows = [i for i in range(len(records)) if _fits(records, i, BOUNDS[stage], length)]
    return Subset(records, np.array(rows, np.int64))  # type: ignore[arg-type]


def _fits(records: Records, i: int, bound: int, length: Callable[[str], int]) -> bool:
    try:
        record = records[i]
    except BadRow:
        return True  # counted where it is encoded
    return bound == 0 or all(length(text) <= bound for text in record.answers)


def cut_for_stage(record: Record, stage: int, length: Callable[[str], int], seed: int) -> Record:
    """Truncate each answer to whole sentences within the stage's bound, or on replay within an earlier stage's."""
    rng = random.Random(f"replay {seed} {record.id}")
    if stage > 1 and rng.random() < REPLAY:
        stage = rng.randrange(1, stage)
    bound = BOUNDS[stage]
    fits = lambda text: bound == 0 or length(text) <= bound  # noqa: E731
    return change_answers(record, partial(cut_to_sentences, fits=fits))


def change_answers(record: Record, change: Callable[[str], str]) -> Record:
    """The record with `change` applied to each answer, and to each caption of its picture."""
    turns = (replace(turn, parts=(change(turn.text),)) if turn.role == "assistant" else turn for turn in record.turns)
    return replace(record, turns=tuple(turns), references=tuple(map(change, record.references)))


def cut_to_sentences(text: str, fits: Callable[[str], bool]) -> str:
    """The text if it fits, else its longest prefix of whole sentences that does, at least the first sentence."""
    ends = [match.end() for match in SENTENCE_END.finditer(text)]
    if fits(text) or not ends:
        return text
    return next((text[:end] for end in reversed(ends) if fits(text[:end])), text[: ends[0]]).strip()
