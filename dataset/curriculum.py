"""Parts of one training, each with texts of its own, under one budget: --curriculum short,middle,long,final.

Every part has as many steps, and every step supervises about as many tokens, whatever the length of its texts: parts
with shorter ones have more samples a step. So curricula differ in nothing but what is seen when, which is what a
comparison of them needs; train_sft.py's stages are trainings of their own, each with its schedule of the rate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
from torch.utils.data import ConcatDataset, Subset

from dataset.bad_rows import BadRow, DataError
from dataset.batching import Examples, Records, batch_plan
from dataset.mixture import share_out
from dataset.picturebook.book import MIXES, PictureBook
from dataset.record import Example, Record
from dataset.told import TOLD, Told
from dataset.views import SENTENCE_END, Changed, change_answers

SHORT, MIDDLE, LONG = {"phrase": 0.5, "sentence": 0.5}, {"paragraph": 1.0}, {"long": 1.0}
# part -> text kind -> share of its records. "all" has as many supervised tokens of each as the three one after
# another: a phrase has some 13, a sentence 20, a paragraph 26 and a long caption 56 (Chinese).
PARTS: dict[str, dict[str, float]] = {
    "short": SHORT, "middle": MIDDLE, "long": LONG,
    "all": {"phrase": 0.26, "sentence": 0.26, "paragraph": 0.33, "long": 0.15},
    "final": {"phrase": 0.1, "sentence": 0.15, "paragraph": 0.25, "long": 0.5},
    "beginning": LONG, "half": LONG,
    "questions": {"questions": 1.0},
    "replay5": {"long": 0.95, "questions": 0.05}, "replay20": {"long": 0.8, "questions": 0.2},
    **MIXES,
}  # fmt: skip
SENTENCES = {"beginning": 2, "half": 4}  # of each text, the first so many
SAMPLED = 256  # records of a part from which the length of its texts is estimated


@dataclass(frozen=True)
class Part:
    name: str
    steps: int
    batch_size: int
    supervised: float  # tokens of a sample


class Curriculum(ConcatDataset[Record]):
    """The records of all parts in order, each for its own steps."""

    def __init__(self, parts: Sequence[Part], records: Sequence[Subset]):
        super().__init__(records)
        self.parts = parts

    def plan(self, examples: Examples, seed: int, epoch: int) -> list[np.ndarray]:
        """The batches of an epoch, as example indices: part after part, each shuffled and bucketed by length."""
        of = np.searchsorted(self.cumulative_sizes, examples.rows, side="right")
        return [
            numbers[batch]
            for k, part in enumerate(self.parts)
            for numbers in [np.flatnonzero(of == k)]
            for batch in batch_plan(examples.lengths[numbers], part.batch_size, seed, epoch)
        ]

    def lines(self) -> Iterator[str]:
        """A line on each part."""
        for number, part in enumerate(self.parts, 1):
            yield (
                f"part {number}, {part.name}: {part.steps:,} steps of {part.batch_size} samples, some "
                f"{part.batch_size * part.supervised:,.0f} supervised tokens each"
            )


class CurriculumArguments(Protocol):
    """The flags that make a curriculum; engine/arguments.py explains each."""

    curriculum: str
    steps: int
    supervised_tokens: int
    scenes: int
    english: float
    seed: int


def curriculum(
    args: CurriculumArguments, encode: Callable[[Record], Example], captions: Records | None = None
) -> Curriculum:
    """The parts of a training on the picture book, or on captions, of equal numbers of steps; none sees the pictures of
    another before all were seen.

    encode: counts the tokens. captions: records with several each (dataset/told.py). DataError for a part that there is
    not, and for fewer steps than parts.
    """
    names = [name.strip() for name in args.curriculum.split(",")]
    known = PARTS if captions is None else TOLD
    unknown = next((name for name in names if name not in known), None)
    if unknown is not None:
        raise DataError(f"--curriculum {args.curriculum}: found {unknown!r}, expected parts of {', '.join(known)}")
    if args.steps < len(names):
        raise DataError(f"--curriculum {args.curriculum} --steps {args.steps}: expected {len(names)} steps or more")
    parts: list[Part] = []
    records: list[Subset] = []
    start = 0
    for name, steps in zip(names, share_out(args.steps, [1 / len(names)] * len(names)), strict=True):
        texts = partial(texts_of, name, args, captions)
        sample = texts(SAMPLED)
        length = mean_supervised(sample, encode)
        part = Part(name, steps, max(round(args.supervised_tokens / length), 1), length)
        stop = start + part.steps * part.batch_size
        records.append(Subset(texts(stop), range(start, stop)))  # type: ignore[arg-type]
        parts.append(part)
        start = stop
    return Curriculum(parts, records)


def mean_supervised(records: Records, encode: Callable[[Record], Example]) -> float:
    """The supervised tokens of a record that can be used, on average. DataError if none can."""
    found, reason = [], "no rows"
    for i in range(len(records)):
        try:
            found.append(encode(records[i]).supervised_tokens)
        except BadRow as error:  # counted when all are read
            reason = f"{error.row_id}: {error}"
    if not found:
        raise DataError(f"--curriculum: no row of --data can be used, as in {reason}")
    return sum(found) / len(found)


def texts_of(name: str, args: CurriculumArguments, captions: Records | None, size: int) -> Records:
    """`size` records of a part."""
    if captions is not None:
        return Told(captions, name, size, args.seed)
    book = PictureBook("train", args.scenes, size, PARTS[name], args.english, args.seed)
    return Changed(book, partial(beginning, count=SENTENCES[name])) if name in SENTENCES else book


def beginning(record: Record, count: int) -> Record:
    """The record with the first `count` sentences of each answer."""

    def first(text: str) -> str:
        ends = [match.end() for match in SENTENCE_END.finditer(text)]
        return text[: ends[count - 1]] if len(ends) > count else text

    return change_answers(record, first)
