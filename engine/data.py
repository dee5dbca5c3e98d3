"""The records of a stage: the picture book, or a user's file, each with some kept apart for validation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dataset.bad_rows import BadRows
from dataset.batching import Records
from dataset.picturebook.book import MIXES, PictureBook
from dataset.sources import RecordFile
from dataset.views import Subset, split_off
from engine.stage import Stage, UsageError

VALIDATION_ROWS = 256  # at most, and a twentieth of the file at most


@dataclass(frozen=True, eq=False)
class Data:
    train: Records
    val: Records
    bad: BadRows  # of both


def stage_data(stage: Stage, mix: str, size: int) -> Data:
    """The picture book's texts in a mix (`size` of them unless --samples says otherwise), or the rows of --data."""
    if stage.images and not Path(stage.images).is_dir():
        raise UsageError(f"--images {stage.images}: no such folder; give the folder that the data's image names are in")
    bad = BadRows(stage.max_bad)
    if not stage.data:
        size = stage.samples or size
        train = PictureBook("train", stage.scenes, size, MIXES[mix], stage.english, stage.seed)
        val = PictureBook("val", VALIDATION_ROWS, VALIDATION_ROWS, MIXES[mix], stage.english, stage.seed)
        return Data(train, val, bad)
    rows = RecordFile(stage.data, stage.images or None, bad)
    if stage.val_data:
        train, val = rows, RecordFile(stage.val_data, stage.images or None, bad)
    else:
        train, val = split_off(rows, min(VALIDATION_ROWS, len(rows) // 20), stage.seed)
    if stage.samples and stage.samples < len(train):
        chosen = np.random.default_rng((stage.seed, 1)).permutation(len(train))[: stage.samples]
        train = Subset(train, np.sort(chosen))
    return Data(train, val, bad)
