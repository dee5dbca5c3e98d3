"""Training and validation data of a command: the picture book, or a user's files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from dataset.bad_rows import BadRows
from dataset.batching import Records
from dataset.mixture import has_split, join, open_sources, share_out, shares_of
from dataset.picturebook.book import MIXES, PictureBook
from dataset.views import split_off

VALIDATION_ROWS = 256  # at most, and at most a twentieth of a file


class DataArguments(Protocol):
    """The flags that select the data; engine/arguments.py explains each."""

    data: str
    images: str
    val_data: str
    max_bad: float
    samples: int
    scenes: int
    english: float
    seed: int


@dataclass(frozen=True, eq=False)
class Data:
    train: Records
    val: Records
    bad: BadRows  # of both


def stage_data(args: DataArguments, mix: str, size: int, split: str = "train", text_only: bool = False) -> Data:
    """The picture book in a mix (`size` records unless --samples says otherwise), or the rows of --data.

    Validation rows are those of --val_data; else those of the splits for it, where all files name one; else each file's
    share of VALIDATION_ROWS is held out, at most a twentieth of its rows.
    text_only: its rows without their pictures, which need not be there.
    """
    bad = BadRows(args.max_bad)
    if not args.data:
        size = args.samples or size
        book = PictureBook(split, args.scenes, size, MIXES[mix], args.english, args.seed)
        unseen = PictureBook("val", VALIDATION_ROWS, VALIDATION_ROWS, MIXES[mix], args.english, args.seed)
        return Data(book, unseen, bad)
    sources, parts = open_sources(args.data, args.images, bad, text_only)
    shares = shares_of(sources, parts)
    if args.val_data:
        folder = args.images if Path(args.images).is_dir() else ""
        val = join(*open_sources(args.val_data, folder, bad, text_only, "val"))
    elif all(has_split(source, "val") for source in sources):
        val = join(*open_sources(args.data, args.images, bad, text_only, "val"))
    else:
        divided = [
            split_off(part, min(round(VALIDATION_ROWS * share), len(part) // 20), args.seed)
            for part, share in zip(parts, shares, strict=True)
        ]
        parts, val = [rest for rest, _ in divided], join(sources, [held_out for _, held_out in divided])
    if args.samples:
        counts = share_out(args.samples, shares)
        parts = [split_off(part, max(n, 1), args.seed, stream=1)[1] for part, n in zip(parts, counts, strict=True)]
    return Data(join(sources, parts), val, bad)
