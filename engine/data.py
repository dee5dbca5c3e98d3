"""The records of a stage: the picture book, or a user's file, each with some kept apart for validation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dataset.bad_rows import BadRows
from dataset.batching import Records
from dataset.mixture import join, open_sources, share_out, shares_of
from dataset.picturebook.book import MIXES, PictureBook
from dataset.views import Subset, split_off
from engine.arguments import Stage

VALIDATION_ROWS = 256  # at most, and a twentieth of the file at most


@dataclass(frozen=True, eq=False)
class Data:
    train: Records
    val: Records
    bad: BadRows  # of both


def stage_data(stage: Stage, mix: str, size: int, split: str = "train") -> Data:
    """The picture book's texts in a mix (`size` of them unless --samples says otherwise), or the rows of --data.

    Of each file of --data its share of the validation rows is kept apart, a twentieth of its rows at most.
    """
    bad = BadRows(stage.max_bad)
    if not stage.data:
        size = stage.samples or size
        train = PictureBook(split, stage.scenes, size, MIXES[mix], stage.english, stage.seed)
        val = PictureBook("val", VALIDATION_ROWS, VALIDATION_ROWS, MIXES[mix], stage.english, stage.seed)
        return Data(train, val, bad)
    sources, parts = open_sources(stage.data, stage.images, bad)
    shares = shares_of(sources, parts)
    if stage.val_data:
        val = join(*open_sources(stage.val_data, stage.images if Path(stage.images).is_dir() else "", bad))
    else:
        split = [
            split_off(part, min(round(VALIDATION_ROWS * share), len(part) // 20), stage.seed)
            for part, share in zip(parts, shares, strict=True)
        ]
        parts, val = [rest for rest, _ in split], join(sources, [apart for _, apart in split])
    if stage.samples:
        counts = share_out(stage.samples, shares)
        parts = [_some(part, count, stage.seed) for part, count in zip(parts, counts, strict=True)]
    return Data(join(sources, parts), val, bad)


def _some(records: Records, count: int, seed: int) -> Records:
    """At most so many of the records, chosen at random, one at least."""
    if count >= len(records):
        return records
    return Subset(records, np.sort(np.random.default_rng((seed, 1)).permutation(len(records))[: max(count, 1)]))
