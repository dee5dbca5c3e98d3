"""Mixtures of data files: `a.jsonl:0.7,b.json:0.3` gives the shares of an epoch's samples to draw from each."""

from __future__ import annotations

import glob
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from torch.utils.data import ConcatDataset, Subset

from dataset.bad_rows import BadRows, DataError
from dataset.batching import Records
from dataset.formats.captions import default_subset
from dataset.formats.rows import splits_of
from dataset.formats.sources import RecordFile
from dataset.record import Record
from dataset.views import Changed

WEIGHTED = re.compile(r"(.+):([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)", re.DOTALL)
RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")  # as in the shard names of webdatasets


@dataclass(frozen=True)
class Source:
    """One entry of --data: its files (several for a pattern), and its weight."""

    name: str  # as written
    files: tuple[Path, ...]
    weight: float | None
    subset: str = ""  # of files of captions: a split, or a file of names


class Mixture(ConcatDataset[Record]):
    """The concatenated records of several sources.

    shares: the fraction of an epoch's samples to draw from each source, summing to 1; None: every row once.
    """

    def __init__(self, names: Sequence[str], parts: Sequence[Records], shares: Sequence[float] | None):
        super().__init__(parts)  # type: ignore[arg-type]  # it asks for no more than Records promise
        self.names = names
        self.shares = shares


def read_names(text: str) -> list[Source]:
    """Parse --data: FILE[@SUBSET][:WEIGHT], separated by commas, with weights for all files or for none.

    A name may be a pattern (`shards/*.tar`, `shard-{000..012}.tar`). An existing file goes by its whole name, commas
    colons and @ included, and a colon without a number after it (`C:\\data.jsonl`) is part of the name.
    """
    pieces, sources = text.split(","), []
    while pieces:
        taken = next((n for n in range(len(pieces), 0, -1) if _source(",".join(pieces[:n])).files), 1)
        sources.append(_source(",".join(pieces[:taken]).strip()))
        del pieces[:taken]
    weights = [source.weight for source in sources if source.weight is not None]
    if 0 < len(weights) < len(sources):
        without = ", ".join(source.name for source in sources if source.weight is None)
        raise DataError(f"--data {text}: {without} has no weight; give one to every file (FILE:0.7) or to none")
    if not all(weight > 0 and math.isfinite(weight) for weight in weights):
        raise DataError(f"--data {text}: a weight is not above 0; expected FILE:0.7, or leave the file out")
    files = [(path.resolve(), source.subset) for source in sources for path in source.files]
    twice = next((path for path, subset in files if files.count((path, subset)) > 1), None)
    if twice:
        raise DataError(f"--data {text}: {twice} is given twice; give each file once, with its total weight")
    return [replace(source, files=source.files or (Path(source.name),)) for source in sources]


def _source(text: str) -> Source:
    """One entry; without files if none has that name."""
    weighted = None if _files(text) else WEIGHTED.fullmatch(text)
    if weighted:
        return replace(read_name(weighted[1]), weight=float(weighted[2]))
    return read_name(text)


def read_name(text: str) -> Source:
    """FILE or FILE@SUBSET; without files if none has that name."""
    found = _files(text)
    name, _, subset = text.rpartition("@")
    if not found and subset and _files(name):
        return Source(text, _files(name), None, subset)
    return Source(text, found, None)


def _files(name: str) -> tuple[Path, ...]:
    """The file of that name, or those that match a pattern, sorted by name; () if there are none."""
    try:
        if not name or Path(name).exists():
            return (Path(name),) if name else ()
    except (OSError, ValueError):  # name too long, or with a NUL byte
        return ()
    between = RANGE.search(name)
    if between:
        low, high = between.groups()
        numbers = range(int(low), int(high) + 1)
        names = [name[: between.start()] + str(n).zfill(len(low)) + name[between.end() :] for n in numbers]
        return tuple(map(Path, names)) if names and Path(names[0]).exists() else ()
    return tuple(sorted(map(Path, glob.glob(name)))) if glob.has_magic(name) else ()


def read_folders(text: str, count: int) -> list[Path | None]:
    """The image folder of each of `count` sources, from --images: one for all, or one each, separated by commas.

    An empty name gives None, the folder of the data file itself. DataError for a missing folder.
    """
    names = [text] if count == 1 or not text or Path(text).is_dir() else text.split(",")
    if len(names) not in (1, count):
        raise DataError(f"--images {text}: {len(names)} folders for {count} files of --data; give one, or one for each")
    for name in names:
        if name and not Path(name).is_dir():
            raise DataError(f"--images {name}: no such folder; give the folder of the data's image files")
    return [Path(name) if name else None for name in (names * count)[:count]]


def open_sources(
    text: str, images: str, bad: BadRows, text_only: bool = False, use: str = "train"
) -> tuple[list[Source], list[Records]]:
    """The sources of --data, and the records of each; text_only: without their pictures.

    use: 'train' or 'val', which splits are taken of a file of captions that names splits, unless it says @SUBSET.
    """
    sources = read_names(text)
    names = [path.name for source in sources for path in source.files]
    parts: list[Records] = []
    for source, folder in zip(sources, read_folders(images, len(sources)), strict=True):
        files = [
            RecordFile(
                path, folder, bad, str(path) if names.count(path.name) > 1 else "", text_only, source.subset, use
            )
            for path in source.files
        ]
        for file in files:
            if file.subset != source.subset:
                print(f"{file.path}: {file.subset} {'trains' if use == 'train' else 'validates'}; @SPLIT takes others")
        parts.append(files[0] if len(files) == 1 else Mixture(list(map(str, source.files)), files, None))
    return sources, parts


def has_split(source: Source, use: str) -> bool:
    """Whether all files of a source, which has no @SUBSET, name a split for 'train', 'val' or 'test'."""
    return not source.subset and all(default_subset(splits_of(path), use) for path in source.files)


def shares_of(sources: Sequence[Source], parts: Sequence[Records]) -> list[float]:
    """The share of each source, proportional to its weight, or to its rows if there are no weights."""
    given = [source.weight or 0.0 for source in sources]
    weights = given if len(given) > 1 and sum(given) > 0 else [len(part) for part in parts]
    return [weight / sum(weights) for weight in weights]


def join(sources: Sequence[Source], parts: Sequence[Records]) -> Records:
    """The parts as one mixture, with shares from the sources' weights; a single part as it is."""
    if len(parts) == 1:
        return parts[0]
    shares = shares_of(sources, parts) if sources[0].weight is not None else None
    return Mixture([source.name for source in sources], parts, shares)


def mixture_of(records: Records) -> tuple[Mixture | None, np.ndarray]:
    """(the weighted mixture that a view is based on, or None; the source of each row of the view)."""
    if isinstance(records, Mixture) and records.shares:
        return records, np.repeat(np.arange(len(records.datasets)), np.diff(records.cumulative_sizes, prepend=0))
    if isinstance(records, Changed):
        return mixture_of(records.records)
    if isinstance(records, Subset):
        mixture, of = mixture_of(records.dataset)  # type: ignore[arg-type]
        return mixture, of[records.indices] if mixture else of
    return None, np.empty(0, np.int64)


def draw(of: np.ndarray, shares: Sequence[float], seed: int, epoch: int) -> np.ndarray:
    """Sample the rows of an epoch, as many as there are in total, each source by its share.

    of: (rows,) source of each row; every source has at least one. A source is traversed in random order, pass after
    pass, each epoch continuing where the last one stopped, so that no row repeats before all were drawn. Deterministic
    in the arguments.
    """
    counts = share_out(len(of), shares)
    chosen = []
    for source, count in enumerate(counts):
        rows = np.flatnonzero(of == source)
        start, stop = epoch * count, (epoch + 1) * count
        for number in range(start // len(rows), -(-stop // len(rows))):
            order = np.random.default_rng((seed, 2, source, number)).permutation(rows)
            first = number * len(rows)
            chosen.append(order[max(start - first, 0) : stop - first])
    return np.concatenate(chosen)


def share_out(total: int, shares: Sequence[float]) -> list[int]:
    """Integers in these shares that sum to total (largest remainder), each within 1 of its exact share."""
    exact = np.asarray(shares, float) * total
    counts = np.floor(exact).astype(int)
    for place in np.argsort(counts - exact, kind="stable")[: total - counts.sum()]:
        counts[place] += 1
    return counts.tolist()
