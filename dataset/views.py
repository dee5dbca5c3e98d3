"""Other ways to look at records: some of them, or each of them changed. Nothing is copied."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from dataset.batching import Records
from dataset.record import Record, Turn

# where a sentence ends, with what closes it
SENTENCE_END = re.compile(r"[。！？；!?]+[”’」』）)\"']*|\.+[\"')]*(?=\s|$)")


@dataclass(frozen=True, eq=False)
class Subset:
    """Those rows of some records, in that order."""

    records: Records
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> Record:
        return self.records[int(self.rows[i])]


@dataclass(frozen=True, eq=False)
class Changed:
    """Each record as `change` gives it back."""

    records: Records
    change: Callable[[Record], Record]

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, i: int) -> Record:
        return self.change(self.records[i])


def split_off(records: Records, count: int, seed: int) -> tuple[Subset, Subset]:
    """(the rest, `count` records chosen at random)."""
    order = np.random.default_rng((seed, 0)).permutation(len(records))
    return Subset(records, np.sort(order[count:])), Subset(records, np.sort(order[:count]))


def without_pictures(record: Record) -> Record:
    """The record's text alone, for a language model; a line break that only set a picture off goes with it."""
    turns = tuple(_text_only(turn) for turn in record.turns)
    return replace(record, images=(), turns=turns)


def _text_only(turn: Turn) -> Turn:
    if not turn.image_count:
        return turn
    return Turn(turn.role, ("".join(part for part in turn.parts if isinstance(part, str)).strip(),))


def cut_answers(record: Record, fits: Callable[[str], bool]) -> Record:
    """The record with each answer cut back to the most whole sentences that fit; one at least stays."""
    turns = tuple(
        Turn("assistant", (cut_to_sentences(turn.text, fits),))
        if turn.role == "assistant" and not turn.image_count and not fits(turn.text)
        else turn
        for turn in record.turns
    )
    return replace(record, turns=turns)


def cut_to_sentences(text: str, fits: Callable[[str], bool]) -> str:
    """The longest start of text that ends a sentence and fits; the first sentence where none does."""
    ends = [match.end() for match in SENTENCE_END.finditer(text)]
    if not ends:
        return text
    return next((text[:end] for end in reversed(ends) if fits(text[:end])), text[: ends[0]]).strip()
