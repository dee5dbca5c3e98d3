"""The dataloader: length-bucketed batches in reproducible order, collated to padded tensors, resumable at any step."""

from __future__ import annotations

import contextlib
import hashlib
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count
from typing import Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from dataset.answers_seen import AnswersSeen
from dataset.bad_rows import BadRow, BadRows, DataError
from dataset.pictures import load_pixels, picture_sample
from dataset.preprocess import PreprocessSpec
from dataset.record import IGNORE, Batch, Example, Picture, Record, with_caption

WINDOW = 50  # batches of shuffled examples that are sorted by length together
AHEAD = 2  # batches prefetched per worker

Item = TypeVar("Item")
Result = TypeVar("Result")
# Maps P pictures to one entry, "pixels", "features" or "words", with P rows.
# Raises BadImage for a picture that cannot be read.
PictureLoader = Callable[[Sequence[Picture]], Mapping[str, Tensor]]
Plan = Callable[[int], Sequence[np.ndarray]]  # epoch -> its batches, each as example indices


class Records(Protocol):
    """A list of records, or a RecordFile: [i] may raise BadRow."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Record: ...


class Examples:
    """The usable rows of some records as a map-style dataset, encoded on access, so that memory stays bounded.

    The constructor encodes every row once: bad rows are counted in `bad` and skipped, and only the lengths that batch
    planning needs are kept, and a fingerprint that changes with any token, label or picture. A picture with several
    captions makes an example of each. Raises TooManyBadRows, and DataError if no row is usable.
    progress: wraps the row indices, as tqdm does.
    """

    def __init__(
        self,
        records: Records,
        encode: Callable[[Record], Example],
        bad: BadRows | None = None,
        progress: Callable[[Iterable[int]], Iterable[int]] = iter,
    ):
        self.records = records
        self.encode = encode
        self.bad = bad = bad or BadRows()
        kept = array("q")  # row index, number of the caption, tokens and supervised tokens of each example
        self.truncated = 0  # examples truncated to the length limit
        self.answers = AnswersSeen()
        digest = hashlib.sha256()
        for row in progress(range(len(records))):
            bad.seen()
            name = f"row {row}"
            try:
                record = records[row]
                name = record.id
                made = [encode(with_caption(record, number)) for number in range(max(len(record.references), 1))]
                sampled = [picture_sample(picture) for picture in made[0].images]
            except BadRow as error:
                bad.add(error.row_id or name, error)
                continue
            for number, example in enumerate(made):
                kept.extend((row, number, len(example.ids), example.supervised_tokens))
                self.truncated += example.truncated
                self.answers.add(example.labels)
                for part in (example.ids.tobytes(), example.labels.tobytes(), *(() if number else sampled)):
                    digest.update(len(part).to_bytes(8, "little") + part)
        bad.finish()
        if not kept:
            raise DataError(f"no row can be trained on; expected at least one.\n{bad.report()}")
        self.fingerprint = digest.hexdigest()[:16]
        # of each example: the index of its record, the caption's number, its tokens, image tokens included, and its
        # supervised tokens
        self.rows, self.captions, self.lengths, self.supervised = np.array(kept, np.int64).reshape(-1, 4).T

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Example:
        return self.encode(with_caption(self.records[int(self.rows[index])], int(self.captions[index])))

    @property
    def used_rows(self) -> int:
        """Number of rows that the examples are made of."""
        return len(np.unique(self.rows))

    def epoch(self, seed: int, epoch: int) -> np.ndarray:
        """One example of each row, as indices in order of the rows: over as many epochs as a picture has captions each
        of them once, in random order. Deterministic in the arguments."""
        if not (np.diff(self.rows) == 0).any():  # one each
            return np.arange(len(self))
        shuffled = np.random.default_rng((seed, 5)).permutation(len(self))
        ordered = shuffled[np.argsort(self.rows[shuffled], kind="stable")]
        _, first, count = np.unique(self.rows[ordered], return_index=True, return_counts=True)
        return ordered[first + epoch % count]

    def some(self, numbers: Iterable[int]) -> list[Example]:
        """The examples of these numbers; one whose row has become bad since it was checked is counted and left out."""
        good = []
        for number in map(int, numbers):
            try:
                good.append(self[number])
            except BadRow as error:
                self.bad.add(error.row_id or f"row {self.rows[number]}", error)
        return good

    def pictures(self, numbers: Iterable[int] | None = None) -> Iterator[Picture]:
        """The pictures of these examples, by default of all rows, in order; those of rows become bad are left out."""
        for number in np.unique(self.rows, return_index=True)[1] if numbers is None else map(int, numbers):
            with contextlib.suppress(BadRow):  # counted when it is trained on
                yield from self.records[int(self.rows[number])].images


def batch_plan(
    lengths: Sequence[int] | np.ndarray, batch_size: int, seed: int, epoch: int, token_budget: int | None = None
) -> list[np.ndarray]:
    """The batches of one epoch as example indices: shuffled, bucketed by length, each example once.

    Every batch has batch_size examples (one may have fewer). With a token_budget, batch_size is ignored and a batch has
    as many examples as keep longest × count, padding included, within it (a longer example goes alone). Deterministic
    in the arguments.
    """
    lengths = np.asarray(lengths, np.int64)
    if (batch_size if token_budget is None else token_budget) < 1:
        raise ValueError(f"batch_size {batch_size} and token_budget {token_budget}; expected 1 or more")
    if not len(lengths):
        return []
    rng = np.random.default_rng((seed, epoch))
    order = rng.permutation(len(lengths))
    per_batch = batch_size if token_budget is None else max(int(token_budget / lengths.mean()), 1)
    batches: list[np.ndarray] = []
    for start in range(0, len(order), WINDOW * per_batch):
        window = order[start : start + WINDOW * per_batch]
        window = window[np.argsort(lengths[window], kind="stable")]
        edges = range(0, len(window), batch_size) if token_budget is None else _edges(lengths[window], token_budget)
        batches += np.split(window, list(edges)[1:])
    return [batches[i] for i in rng.permutation(len(batches))]


def _edges(lengths: np.ndarray, token_budget: int) -> list[int]:
    """Start of each batch in ascending lengths."""
    edges = [0]
    for position, length in enumerate(lengths):
        if position > edges[-1] and (position - edges[-1] + 1) * length > token_budget:
            edges.append(position)
    return edges


def even_length(length: int, longest: int) -> int:
    """Round `length` up to a multiple of the largest power of two within a sixteenth of it, at most to `longest`.

    With few distinct lengths, batches reuse each other's memory; many fragment it, and a step waits for new pages
    (docs/log.md).
    """
    step = 1 << max((length // 16).bit_length() - 1, 0)
    return max(min(-(-length // step) * step, longest), length)


def padding_share(batches: Sequence[np.ndarray], lengths: Sequence[int] | np.ndarray, longest: int = 0) -> float:
    """Fraction of the positions in these batches that is padding; longest: as for collate()."""
    lengths = np.asarray(lengths)
    positions = sum(even_length(int(lengths[batch].max()), longest) * len(batch) for batch in batches)
    return 1 - sum(int(lengths[batch].sum()) for batch in batches) / max(positions, 1)


def endless(plan: Plan, start_step: int = 0) -> Iterator[tuple[int, np.ndarray]]:
    """(step, example indices) epoch after epoch from start_step on; a step's batch does not depend on start_step."""
    first = 0
    for epoch in count():
        batches = plan(epoch)
        if not batches:
            raise DataError("there are no batches; expected at least one example: give data with usable rows")
        for step, batch in enumerate(batches, first):
            if step >= start_step:
                yield step, batch
        first += len(batches)


def load_batches(
    examples: Examples,
    steps: Iterable[tuple[int, np.ndarray]],
    make: Callable[[list[Example]], Batch | None],
    workers: int = 0,
) -> Iterator[tuple[int, Batch]]:
    """(step, Batch) in the order of steps, prefetched by `workers` threads; the result is the same for any number.

    make: collate with its other arguments bound. A batch without a readable row is skipped, so a step may be
    missing; resume an interrupted run from the last step's number plus one.
    """

    def prepare(item: tuple[int, np.ndarray]) -> tuple[int, Batch | None]:
        step, numbers = item
        return step, make(examples.some(numbers))

    skipped = 0
    for step, batch in in_order(prepare, steps, workers):
        if batch is not None:
            skipped = 0
            yield step, batch
        elif (skipped := skipped + 1) > len(examples):
            raise DataError("no batch has a picture that can be read; the report of bad rows names the pictures")


def in_order(function: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Iterator[Result]:
    """map() with `workers` threads prefetching; results and errors come in the order of items."""
    if workers < 1:
        yield from map(function, items)
        return
    pool = ThreadPoolExecutor(workers)
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= AHEAD * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def pixel_loader(spec: PreprocessSpec) -> PictureLoader:
    """A loader of preprocessed pixels."""
    return lambda pictures: {"pixels": torch.from_numpy(load_pixels(pictures, spec))}


def collate(
    examples: Sequence[Example],
    pad_id: int,
    load: PictureLoader | None = None,
    bad: BadRows | None = None,
    left: bool = False,
    longest: int = 0,
) -> Batch | None:
    """Collate examples to one padded batch, with their pictures in reading order.

    left: pad on the left, as generation needs. longest: round the length up by even_length(), at most to this (0: do
    not). An example whose picture cannot be read is counted in `bad` and dropped (None if none is left); without `bad`
    its BadImage is raised.
    """
    examples, pictures = _load(list(examples), load, bad)
    if not examples:
        return None
    shape = (len(examples), even_length(max(len(example.ids) for example in examples), longest))
    ids, labels = np.full(shape, pad_id, np.int64), np.full(shape, IGNORE, np.int64)
    attention_mask, image_mask = np.zeros(shape, bool), np.zeros(shape, bool)
    for row, example in enumerate(examples):
        length = len(example.ids)
        place = slice(shape[1] - length, None) if left else slice(0, length)
        ids[row, place] = example.ids
        labels[row, place] = example.labels
        image_mask[row, place] = example.image_mask
        attention_mask[row, place] = True
    padded = [torch.from_numpy(array) for array in (ids, labels, attention_mask, image_mask)]
    example_ids = tuple(example.id for example in examples)
    return Batch(padded[0], padded[1], padded[2], padded[3], example_ids=example_ids, **pictures)


def _load(
    examples: list[Example], load: PictureLoader | None, bad: BadRows | None
) -> tuple[list[Example], Mapping[str, Tensor]]:
    """The examples with readable pictures, and the tensor of those pictures."""
    pictures = [picture for example in examples for picture in example.images]
    if not pictures:
        return examples, {}
    if load is None:
        raise ValueError(f"{len(pictures)} pictures but no loader; expected a PictureLoader")
    try:
        return examples, load(pictures)
    except BadRow:
        if bad is None:
            raise
    good = []
    for example in examples:
        try:
            if example.images:
                load(example.images)
            good.append(example)
        except BadRow as error:
            bad.add(example.id, error)
    return _load(good, load, None)
