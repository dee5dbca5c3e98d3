"""The dataloader: from records to the micro-batches of each optimizer step, with the images' features or pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from dataset.bad_rows import BadRows, DataError
from dataset.batching import (
    Examples,
    PictureLoader,
    batch_plan,
    collate,
    endless,
    load_batches,
    padding_share,
    pixel_loader,
)
from dataset.features import FeatureCache
from dataset.mixture import Mixture, draw, mixture_of, share_out
from dataset.record import Batch, Picture
from engine import distributed
from engine.build import Encoder
from engine.device import autocast

ENCODE_AT_ONCE = 64  # pictures


@dataclass(frozen=True, eq=False)
class Feed:
    """Examples and how they are batched. The batches follow from seed, sizes and examples alone.

    token_budget: where it is not 0, a batch holds as many examples as keep longest x count within it,
    before its length is rounded up by up to a sixteenth.
    """

    examples: Examples
    batch_size: int
    seed: int
    pad_id: int
    load: PictureLoader | None
    bad: BadRows
    workers: int = 0
    token_budget: int = 0
    rank: int = 0  # of so many processes, each of which takes its part of every batch
    processes: int = 1

    def plan(self, epoch: int) -> list:
        """The batches of an epoch as indices of examples: each once, or as a weighted mixture samples them."""
        lengths, mixture = self.examples.lengths, self._mixture
        if mixture is None or mixture.shares is None:
            return self._batches(lengths, epoch)
        drawn = draw(self._of, mixture.shares, self.seed, epoch)
        return [drawn[batch] for batch in self._batches(lengths[drawn], epoch)]

    def _batches(self, lengths: np.ndarray, epoch: int) -> list[np.ndarray]:
        return batch_plan(lengths, self.batch_size, self.seed, epoch, self.token_budget or None)

    @cached_property
    def _mixture(self) -> Mixture | None:
        return mixture_of(self.examples.records)[0]

    @cached_property
    def _of(self) -> np.ndarray:
        """(examples,) which source of the mixture each is of; DataError where one has none."""
        mixture, of = mixture_of(self.examples.records)
        of = of[self.examples.rows]
        for source, name in enumerate(mixture.names if mixture else ()):
            if not (of == source).any():
                raise DataError(f"--data {name}: no row of it can be trained on; leave it out, or repair it")
        return of

    @cached_property
    def _longest(self) -> int:
        """Of all examples: no batch is padded beyond what some example needs."""
        return int(self.examples.lengths.max())

    def mixing(self) -> list[str]:
        """A line for each source of a weighted mixture: its share, samples of an epoch, passes over its rows."""
        mixture = self._mixture
        if mixture is None or mixture.shares is None:
            return []
        rows = np.bincount(self._of, minlength=len(mixture.names))
        drawn = share_out(len(self._of), mixture.shares)
        return [
            f"from {name}: {count:,} samples an epoch ({count / sum(drawn):.1%}), {count / have:.2f} times its {have:,}"
            for name, count, have in zip(mixture.names, drawn, rows, strict=True)
        ]

    def steps_from(self, start: int, accumulation: int) -> Iterator[list[Batch]]:
        """The micro-batches of each optimizer step from step `start` on, endlessly; a list may lack some."""
        make = partial(collate, pad_id=self.pad_id, load=self.load, bad=self.bad, longest=self._longest)
        whole = endless(self.plan, start * accumulation)
        own = ((number, batch[self.rank :: self.processes]) for number, batch in whole)
        numbered = load_batches(self.examples, own, make, self.workers)
        step = start
        batches: list[Batch] = []
        for number, batch in numbered:
            while number // accumulation > step:
                yield batches
                step, batches = step + 1, []
            batches.append(batch)

    def some(self, count: int) -> list[Batch]:
        """The first batches in the examples' own order, for validation; about `count` examples over all ranks."""
        size = self.batch_size
        numbers = range(min(count, len(self.examples)))
        groups = [list(numbers[i : i + size])[self.rank :: self.processes] for i in range(0, len(numbers), size)]
        made = (
            collate([self.examples[i] for i in g], self.pad_id, self.load, self.bad, longest=self._longest)
            for g in groups
        )
        return [batch for batch in made if batch is not None]

    def padding(self) -> float:
        """The share of positions in the first epoch's batches that is padding."""
        return padding_share(self.plan(0), self.examples.lengths, self._longest)


def make_examples(records, encode: Callable, bad: BadRows, what: str) -> Examples:
    """The records' usable rows, with a progress bar while they are checked."""
    shown = {"desc": what, "unit": "row", "leave": False, "disable": not distributed.is_main()}
    return Examples(records, encode, bad, progress=lambda rows: tqdm(rows, **shown))


def feature_loader(
    encoder: Encoder, pictures: Callable[[], Iterator[Picture]], count: int, cache: Path, limit_gb: float,
    device: torch.device, dtype: torch.dtype, workers: int,
) -> PictureLoader:  # fmt: skip
    """Loads images as the frozen encoder's features, computed once and cached; as pixels where they do not fit."""
    if limit_gb == 0:
        return pixel_loader(encoder.spec)
    encode = partial(encode_pixels, encoder, device=device, dtype=dtype)
    name = f"{encoder.fingerprint} {encoder.module.config} {dtype}"
    features = FeatureCache(cache, name, encoder.spec, encode, limit_gb)
    quiet = not distributed.is_main()
    with tqdm(total=count, desc="features", unit="picture", leave=False, disable=quiet) as bar:
        complete = features.ensure(pictures(), total=count, workers=max(workers, 1), progress=bar.update)
    if complete:
        return features.load
    print(f"{count} pictures' features do not fit in {limit_gb} GB (--cache_gb); the encoder runs at every step")
    return pixel_loader(encoder.spec)


@torch.no_grad()
def encode_pixels(encoder: Encoder, pixels: torch.Tensor, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """Features (P, N, Dv) of pixels (P, 3, H, W), on the device."""
    with autocast(device, dtype):
        return encoder.module.to(device)(pixels.to(device))
