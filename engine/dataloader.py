"""The dataloader: from records to the micro-batches of each optimizer step, with features or pixels of the images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from dataset.bad_rows import BadRow, BadRows, DataError
from dataset.batching import (
    Examples,
    PictureLoader,
    Records,
    batch_plan,
    collate,
    endless,
    load_batches,
    padding_share,
    pixel_loader,
)
from dataset.curriculum import Curriculum
from dataset.features import FeatureCache
from dataset.mixture import draw, mixture_of, share_out
from dataset.record import Batch, Example, Picture, Record
from dataset.splits import Data
from engine import distributed
from engine.arguments import TrainArguments
from engine.build import Encoder
from engine.device import autocast
from engine.finite import ADVICE, PARTS, NotFiniteError
from tokenizer.tokenizer import Tokenizer

OPENED = 256  # rows of which a dry run opens the pictures


@dataclass(frozen=True, eq=False)
class Feed:
    """Examples and how they are batched. The batches depend on examples, sizes and seed alone.

    token_budget: if not 0, a batch has as many examples as keep longest x count within it, in place of batch_size.
    """

    examples: Examples
    batch_size: int
    seed: int
    pad_id: int
    load: PictureLoader | None
    bad: BadRows
    workers: int = 0
    token_budget: int = 0
    rank: int = field(default_factory=distributed.rank)  # each process takes its shard of every batch
    processes: int = field(default_factory=distributed.world_size)
    change: Callable[[int, Batch], Batch] | None = None  # (step, batch) -> the batch to train on in its place
    rows: int = 1  # that change makes of one
    fixed: bool = False  # the rows in their own order, in every epoch

    def plan(self, epoch: int) -> list:
        """The batches of an epoch as example indices: one of each row, or as a weighted mixture samples them."""
        if isinstance(self.examples.records, Curriculum):
            return self.examples.records.plan(self.examples, self.seed, epoch)
        numbers = self.examples.epoch(self.seed, epoch)
        if self._weighted:
            names, shares, of = self._weighted
            numbers = numbers[draw(of, shares, self.seed, 0 if self.fixed else epoch)]
        if self.fixed:
            return [numbers[i : i + self.batch_size] for i in range(0, len(numbers), self.batch_size)]
        lengths = self.examples.lengths[numbers]
        batches = batch_plan(lengths, self.batch_size, self.seed, epoch, self.token_budget or None)
        return [numbers[batch] for batch in batches]

    @cached_property
    def _weighted(self) -> tuple[Sequence[str], Sequence[float], np.ndarray] | None:
        """The names and shares of a weighted mixture, and the source (rows,) of each usable row; None where the data is
        none. DataError where a source has no usable row."""
        mixture, of = mixture_of(self.examples.records)
        if mixture is None or mixture.shares is None:
            return None
        of = of[np.unique(self.examples.rows)]
        for source, name in enumerate(mixture.names):
            if not (of == source).any():
                raise DataError(f"--data {name}: no row of it can be trained on; leave it out, or repair it")
        return mixture.names, mixture.shares, of

    @cached_property
    def _collate(self) -> Callable[[list[Example]], Batch | None]:
        longest = int(self.examples.lengths.max())  # no batch is padded beyond the longest example
        return partial(collate, pad_id=self.pad_id, load=self.load, bad=self.bad, longest=longest)

    def samples(self, longest: int) -> str:
        """A line on the samples and tokens of an epoch; longest: the tokens at which they are cut."""
        examples = self.examples
        first = examples.epoch(self.seed, 0)
        several = f" with {len(examples):,} captions, one of each an epoch" if len(first) < len(examples) else ""
        tokens, supervised = int(examples.lengths[first].sum()), int(examples.supervised[first].sum())
        return (
            f"samples: {len(first):,}{several} ({examples.truncated} cut at {longest} tokens), {tokens:,} tokens, "
            f"{supervised:,} supervised an epoch"
        )

    def mixing(self) -> list[str]:
        """A line per source of a weighted mixture: its samples per epoch, its share, passes over its rows."""
        if not self._weighted:
            return []
        names, shares, of = self._weighted
        rows, drawn = np.bincount(of, minlength=len(names)), share_out(len(of), shares)
        return [
            f"from {name}: {count:,} samples an epoch ({count / sum(drawn):.1%}), {count / have:.2f} times its {have:,}"
            for name, count, have in zip(names, drawn, rows, strict=True)
        ]

    def answers(self) -> list[str]:
        """Lines on how many different answers there are to learn, if they are few (dataset/answers_seen.py)."""
        number, _ = self.examples.answers.commonest()
        record = self.examples.records[int(self.examples.rows[number])]
        return self.examples.answers.lines(" / ".join(t.text for t in record.turns if t.role == "assistant"))

    def steps_from(self, start: int, accumulation: int) -> Iterator[list[Batch]]:
        """The micro-batches of each optimizer step from step `start` on, endlessly; one without a readable picture is
        missing."""
        whole = endless(self.plan, start * accumulation)
        own = ((number, batch[self.rank :: self.processes]) for number, batch in whole)
        step = start
        batches: list[Batch] = []
        for number, batch in load_batches(self.examples, own, self._collate, self.workers):
            while number // accumulation > step:
                yield batches
                step, batches = step + 1, []
            batches.append(self.change(step, batch) if self.change else batch)

    def some(self, count: int) -> list[Batch]:
        """The first batches in the examples' own order, for validation: `count` examples in all ranks together."""
        numbers = self.examples.epoch(self.seed, 0)[:count]
        groups = (numbers[i : i + self.batch_size] for i in range(0, len(numbers), self.batch_size))
        made = [self._collate(self.examples.some(group[self.rank :: self.processes])) for group in groups]
        return [batch for batch in made if batch is not None]

    def open_pictures(self, what: str) -> list[str]:
        """Lines on what came of loading the picture files of OPENED rows, spread evenly, or of all if they are fewer;
        none if there are no files. TooManyBadRows where more of these rows are bad than allowed."""
        count = len(self.examples)
        chosen = np.unique(np.linspace(0, count - 1, min(count, OPENED)).astype(int))
        bad = self.bad if len(chosen) == count else BadRows(self.bad.limit)
        bad.seen(0 if bad is self.bad else len(chosen))
        rows = [one for one in self.examples.some(chosen) if any(isinstance(p, (Path, bytes)) for p in one.images)]
        before = bad.bad
        for example in rows:
            try:
                self.load(example.images)  # type: ignore[misc]  # there is a loader where there are pictures
            except BadRow as error:
                bad.add(example.id, error)
        bad.finish()
        line = f"pictures: those of {len(rows):,} of {count:,} {what} opened, of which {bad.bad - before} are bad"
        return [line, *([bad.report()] if bad.bad and bad is not self.bad else [])] if rows else []

    def padding(self) -> float:
        """The share of positions in the first epoch's batches that is padding."""
        return padding_share(self.plan(0), self.examples.lengths, int(self.examples.lengths.max()))


def make_feeds(
    args: TrainArguments, data: Data, encode: Callable[[Record], Example], tokenizer: Tokenizer,
    load: PictureLoader | None = None, workers: int = 1,
) -> list[Feed]:  # fmt: skip
    """The feed of the training records and, if there are any, that of the validation records."""

    def feed(records: Records, what: str) -> Feed:
        examples = make_examples(records, encode, data.bad, what)
        return Feed(examples, args.batch_size, args.seed, tokenizer.pad_id, load, data.bad, workers, args.token_budget,
                    fixed=args.order == "fixed")  # fmt: skip

    return [feed(data.train, "samples"), *([feed(data.val, "validation")] if len(data.val) else [])]


def make_examples(records: Records, encode: Callable[[Record], Example], bad: BadRows, what: str) -> Examples:
    """The usable rows of the records, with a progress bar while they are checked."""
    bar = partial(tqdm, desc=what, unit="row", leave=False, disable=not distributed.is_main())
    return Examples(records, encode, bad, progress=bar)


def feature_loader(
    encoder: Encoder, pictures: Callable[[], Iterator[Picture]], count: int, cache: Path, limit_gb: float,
    device: torch.device, dtype: torch.dtype, workers: int,
) -> PictureLoader:  # fmt: skip
    """Loads images as features of the frozen encoder, computed once and cached; as pixels if they do not fit."""
    if limit_gb == 0:
        return pixel_loader(encoder.spec)
    encode = partial(encode_pixels, encoder, device=device, dtype=dtype)
    name = f"{encoder.fingerprint} {encoder.module.config} {dtype}"
    features = FeatureCache(cache, name, encoder.spec, encode, limit_gb)
    with tqdm(total=count, desc="features", unit="picture", leave=False, disable=not distributed.is_main()) as bar:
        complete = features.ensure(pictures(), total=count, workers=max(workers, 1), progress=bar.update)
    if complete:
        return features.load
    print(f"{count} pictures' features do not fit in {limit_gb} GB (--cache_gb); the encoder runs at every step")
    return pixel_loader(encoder.spec)


@torch.no_grad()
def encode_pixels(encoder: Encoder, pixels: torch.Tensor, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """Features (P, N, Dv) of pixels (P, 3, H, W), on the device; NotFiniteError where they are not finite."""
    with autocast(device, dtype):
        features = encoder.module.to(device)(pixels.to(device))
    if not bool(features.isfinite().all()):
        where = f" in {encoder.folder}" if encoder.folder else ""
        raise NotFiniteError(f"the output of the {PARTS['vision']}{where} is not finite; {ADVICE}")
    return features
