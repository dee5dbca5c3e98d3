"""Lazy views of records: a subset of them, or a transform of each. Nothing is copied."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from dataset.batching import Records
from dataset.record import Record, Turn

# the end of a sentence, with closing quotes and brackets
SENTENCE_END = re.compile(r"[。！？；!?]+[”’」』）)\"']*|\.+[\"')]*(?=\s|$)")


@dataclass(frozen=True, eq=False)
class Subset:
    """The given rows of some records, in that order."""

    records: Records
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> Record:
        return self.records[int(self.rows[i])]


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
    return Subset(records, np.sort(order[count:])), Subset(records, np.sort(order[:count]))


def without_pictures(record: Record) -> Record:
    """The record's text only, for a language model; a line break that only set off a picture goes too."""
    turns = tuple(
        Turn(turn.role, ("".join(part for part in turn.parts if isinstance(part, str)).strip(),))
        if turn.image_count
        else turn
        for turn in record.turns
    )
    return replace(record, images=(), turns=turns)


def cut_answers(record: Record, fits: Callable[[str], bool]) -> Record:
    """The record with each answer truncated to as many whole sentences as fit, at least one."""
    turns = tuple(
        Turn("assistant", (cut_to_sentences(turn.text, fits),))
        if turn.role == "assistant" and not fits(turn.text)
        else turn
        for turn in record.turns
    )
    return replace(record, turns=turns)


def cut_to_sentences(text: str, fits: Callable[[str], bool]) -> str:
    """The longest prefix of whole sentences that fits; the first sentence if none does."""
    ends = [match.end() for match in SENTENCE_END.finditer(text)]
    if not ends:
        return text
    return next((text[:end] for end in reversed(ends) if fits(text[:end])), text[: ends[0]]).strip()
