"""Features of a frozen encoder, computed once and cached on disk, so that training does not run the encoder again.

A cache folder has one folder per encoder and preprocessing. Each shard in it is two files: NAME.npy with fp16 features
(n, N, Dv), and NAME.json with the keys of its n pictures, a checksum of each one's features, and the sizes of the
batches they were computed in. The keys are written last, after the features were synced to disk, and a shard counts
only if both files are whole, so that one torn by a kill or a full disk is never used. Later corruption is detected when
the picture is next passed to ensure().
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import time
import warnings
import zlib
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dataset.atomic import replacing
from dataset.bad_rows import BadImage, DataError
from dataset.batching import in_order
from dataset.pictures import load_pixels, picture_key
from dataset.preprocess import PreprocessSpec
from dataset.record import Picture

CHUNK = 64  # pictures per forward pass of the encoder
SHARD_BYTES = 64 << 20  # features buffered in memory before they are written
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

Encode = Callable[[Tensor], Tensor]  # pixels (P, 3, H, W) float32 -> features (P, N, Dv)
Progress = Callable[[int], object]  # called with the number of further distinct pictures done


@dataclass(eq=False)
class Shard:
    """The features (n, N, Dv) of n pictures, memory-mapped, and what stands beside them in the file `path`."""

    path: Path
    features: np.ndarray
    keys: list[bytes]
    sums: list[int]  # checksums
    batches: list[int]  # the first `batches[0]` rows were computed together, and so on

    def batch_of(self, row: int) -> tuple[int, int]:
        """The first row and the number of rows of the batch that a row was computed in."""
        ends = list(accumulate(self.batches))
        batch = bisect_right(ends, row)
        return ends[batch] - self.batches[batch], self.batches[batch]

    def write_keys(self) -> None:
        content = {"keys": [key.hex() for key in self.keys], "crc32": self.sums, "batches": self.batches}
        with replacing(self.path) as file:
            file.write(json.dumps(content).encode())


class FeatureCache:
    """Memory-mapped features of pictures for one encoder and one preprocessing; see ensure() and load()."""

    def __init__(self, folder: Path | str, encoder: str, spec: PreprocessSpec, encode: Encode, limit_gb: float = 20.0):
        """encoder: a fingerprint of the encoder's weights and of which features are taken.

        limit_gb: maximum size of the cache folder; features of other encoders are evicted to make room, least recently
        used first.
        """
        name = hashlib.sha256(f"{encoder} {spec!r}".encode()).hexdigest()[:16]
        self.folder = Path(folder) / name
        self.spec = spec
        self.limit = int(limit_gb * 1e9)
        self._encode = encode
        self._where: dict[bytes, tuple[Shard, int]] = {}  # key -> shard, row
        self._bad: dict[bytes, BadImage] = {}
        self._used = 0  # bytes in the cache folder, as far as this object knows
        self.folder.mkdir(parents=True, exist_ok=True)
        os.utime(self.folder)  # mark as just used
        for left_over in self.folder.glob("*.partial"):
            if time.time() - left_over.stat().st_mtime > 3600:  # of a killed run, not of a concurrent one
                left_over.unlink(missing_ok=True)
        for keys in sorted(self.folder.glob("*.json")):
            self._open_shard(keys)

    def __len__(self) -> int:
        return len(self._where)

    def ensure(
        self,
        pictures: Iterable[Picture],
        total: int | None = None,
        workers: int = 1,
        progress: Progress = lambda count: None,
    ) -> bool:
        """Compute the missing features; True when every readable picture is in the cache.

        False means that they do not all fit (limit or disk), and the caller falls back to pixels. total: the number of
        distinct pictures, so that this shows before work is lost. Unreadable pictures are remembered: load() raises
        their BadImage. An interrupted run resumes where it stopped, with the same pictures encoded together as in an
        unbroken one, so that features are identical bit for bit. So are those that were damaged and are computed again.
        """
        pending: dict[bytes, np.ndarray] = {}  # key -> features (N, Dv) that are not written yet
        batches: list[int] = []  # how many of them were computed together
        damaged: dict[bytes, Picture] = {}
        left = (total or 0) - len(self._where)  # a lower bound: as if all known ones were among the pictures
        self._used = _size(self.folder.parent)
        for count, chunk in in_order(partial(_prepare, self.spec), self._missing(pictures, damaged), workers):
            self._bad.update((key, found) for key, found in chunk if isinstance(found, BadImage))
            pixels = {key: found for key, found in chunk if not isinstance(found, BadImage)}
            if pixels:
                features = self._compute(np.stack(list(pixels.values())))
                pending.update(zip(pixels, features, strict=True))
                batches.append(len(pixels))
                left -= len(pixels)
                if not self._make_room((len(pending) + max(left, 0)) * features[0].nbytes):
                    return False
                if len(pending) * features[0].nbytes >= SHARD_BYTES:
                    if not self._write(pending, batches):
                        return False
                    pending, batches = {}, []
            progress(count)
        if damaged:
            self._repair(damaged)
        return self._write(pending, batches)

    def load(self, pictures: Sequence[Picture]) -> dict[str, Tensor]:
        """The PictureLoader for collate(): (P, N, Dv) float32 features of pictures passed to ensure().

        Raises BadImage for a picture that could not be read, or that ensure() has not seen.
        """
        rows = []
        for picture in pictures:
            key = bytes.fromhex(picture_key(picture))
            if key in self._bad:
                raise self._bad[key]
            if key not in self._where:
                name = f"{picture}: " if isinstance(picture, Path) else ""
                raise BadImage("image is not the one that was encoded", f"{name}changed since training began")
            shard, row = self._where[key]
            rows.append(shard.features[row])
        return {"features": torch.from_numpy(np.stack(rows)).float()}

    def _missing(
        self, pictures: Iterable[Picture], damaged: dict[bytes, Picture]
    ) -> Iterator[tuple[int, list[tuple[bytes, Picture]]]]:
        """(number of new distinct pictures, those not cached), for CHUNK pictures at a time, in order; collects those
        whose features in the cache are not what was written."""
        seen: set[bytes] = set()
        source = iter(pictures)
        while some := list(islice(source, CHUNK)):
            chunk, before = [], len(seen)
            for picture in some:
                try:
                    key = bytes.fromhex(picture_key(picture))
                except BadImage:
                    continue  # load() will raise it again
                if key not in seen and key in self._where:
                    shard, row = self._where[key]
                    if zlib.crc32(shard.features[row]) != shard.sums[row]:
                        damaged[key] = picture
                elif key not in seen and key not in self._bad:
                    chunk.append((key, picture))
                seen.add(key)
            yield len(seen) - before, chunk

    def _compute(self, pixels: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            features = self._encode(torch.from_numpy(pixels)).detach().to("cpu", torch.float16).numpy()
        if features.ndim != 3 or len(features) != len(pixels):
            raise ValueError(
                f"the encoder returned features of shape {features.shape} from {len(pixels)} pictures; expected "
                f"({len(pixels)}, N, Dv)"
            )
        if not np.isfinite(features).all():
            raise DataError(
                f"the image encoder's features are too large for the cache, which keeps them in float16 (at most "
                f"{np.finfo(np.float16).max:.0f}); work without it (--cache_gb 0), or check the encoder's weights"
            )
        return features

    def _repair(self, damaged: dict[bytes, Picture]) -> None:
        """Compute features again in batches of the size, and at the place in them, that they were first computed in:
        rounding depends on both, but not on the other pictures of a batch."""
        warnings.warn(f"{self.folder}: the features of {len(damaged)} pictures are damaged, recomputed", stacklevel=3)
        together: dict[tuple[Shard, int, int], dict[int, Picture]] = {}
        for key, picture in damaged.items():
            shard, row = self._where[key]
            together.setdefault((shard, *shard.batch_of(row)), {})[row] = picture
        for (shard, start, size), pictures in together.items():
            pixels = np.zeros((size, 3, *self.spec.shape), np.float32)
            rows = list(pictures)
            pixels[np.array(rows) - start] = load_pixels(list(pictures.values()), self.spec)
            features = self._compute(pixels)
            written = np.load(shard.path.with_suffix(".npy"), mmap_mode="r+", allow_pickle=False)
            for row in rows:
                written[row] = features[row - start]
                shard.sums[row] = zlib.crc32(features[row - start])
            written.flush()
            shard.write_keys()

    def _make_room(self, wanted: int) -> bool:
        """Whether `wanted` more bytes fit in the limit, after evicting features of other encoders if needed."""
        excess = self._used + wanted - self.limit
        if excess <= 0:
            return True
        others = [path for path in self.folder.parent.iterdir() if path.is_dir() and path != self.folder]
        if excess > sum(map(_size, others)):
            return False
        for other in sorted(others, key=lambda path: path.stat().st_mtime):
            if excess <= 0:
                break
            excess -= _size(other)
            shutil.rmtree(other, ignore_errors=True)
        self._used = _size(self.folder.parent)
        return self._used + wanted <= self.limit

    def _write(self, pending: dict[bytes, np.ndarray], batches: list[int]) -> bool:
        """Write a shard; False if the disk has no room for it. batches: how many were computed together, in order."""
        if not pending:
            return True
        features = np.ascontiguousarray(np.stack(list(pending.values())))
        name = hashlib.sha256(" ".join(key.hex() for key in pending).encode()).hexdigest()[:24]
        path = self.folder / f"{name}.json"
        try:
            with replacing(path.with_suffix(".npy")) as file:
                np.save(file, features)
            Shard(path, features, list(pending), [zlib.crc32(row) for row in features], batches).write_keys()
        except OSError as error:
            if error.errno in NO_ROOM:
                return False
            raise
        self._open_shard(path)
        self._used += features.nbytes
        return True

    def _open_shard(self, path: Path) -> None:
        """Memory-map the shard with these keys, unless it is torn."""
        try:
            written = json.loads(path.read_bytes())
            keys = [bytes.fromhex(key) for key in written["keys"]]
            sums = [int(checksum) for checksum in written["crc32"]]
            whole, rest = divmod(len(keys), CHUNK)
            batches = written.get("batches", [CHUNK] * whole + [rest] * (rest > 0))  # not in older ones
            features = np.load(path.with_suffix(".npy"), mmap_mode="r", allow_pickle=False)
            sizes = {len(features), len(keys), len(sums), sum(batches)}
        except (OSError, ValueError, TypeError, KeyError, EOFError):
            return
        if features.dtype == np.float16 and features.ndim == 3 and len(sizes) == 1:
            shard = Shard(path, features, keys, sums, batches)
            self._where.update((key, (shard, row)) for row, key in enumerate(keys))


def _prepare(
    spec: PreprocessSpec, item: tuple[int, list[tuple[bytes, Picture]]]
) -> tuple[int, list[tuple[bytes, np.ndarray | BadImage]]]:
    """(number of new pictures, the key of each with its pixels or its BadImage)."""
    count, chunk = item
    prepared: list[tuple[bytes, np.ndarray | BadImage]] = []
    for key, picture in chunk:
        try:
            prepared.append((key, load_pixels([picture], spec)[0]))
        except BadImage as error:
            prepared.append((key, error))
    return count, prepared


def _size(folder: Path) -> int:
    size = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):  # deleted since it was listed
            size += path.stat().st_size if path.is_file() else 0
    return size
