"""Deduplication: rows that say the same about the same picture, exactly or nearly.

A row is a duplicate only if both its pictures and its text are: one picture may have several questions, and one caption
may fit a thousand pictures.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

from dataset.curation.quality import units
from dataset.pictures import open_picture, picture_key
from dataset.record import Picture, Record

SHINGLE = 3  # words or Chinese characters per shingle
ALIKE = 0.8  # Jaccard similarity of two texts' shingles from which they are near-duplicates
BANDS, IN_BAND = 8, 4  # MinHash bands of a text, hashes per band
DISTANCE = 3  # maximum Hamming distance of two pictures' difference hashes, of 64 bits
COLOUR = 12  # maximum difference of their corners' mean colours, of 255
COMPARED = 32  # maximum rows of a bucket that a row is compared with in full
MEMBERS = 2000  # maximum rows of a bucket that later ones are compared with
PRIME = (1 << 31) - 1


def exact_key(record: Record) -> bytes:
    """Hash of a row's pictures, to the byte, and of its words, whatever their case and punctuation."""
    digest = hashlib.blake2b(digest_size=16)
    for picture in record.images:
        digest.update(bytes.fromhex(picture_key(picture)))
    for turn in record.turns:
        digest.update(f"\0{turn.role} {_plain(turn.text)}".encode("utf-8", "surrogatepass"))
    return digest.digest()


def _plain(text: str) -> str:
    """The words; the text itself where it has hardly any (arithmetic, emoji, code)."""
    return " ".join(units(text)) if len(text) < 3 * len("".join(units(text))) + 3 else text


def shingles(text: str) -> set[str]:
    """Every run of three words or Chinese characters."""
    words = units(text)
    return {" ".join(words[i : i + SHINGLE]) for i in range(max(len(words) - SHINGLE + 1, 1))}


def similarity(one: str, other: str) -> float:
    """Jaccard similarity of two texts' shingles, 0 if the numbers in them differ."""
    if re.findall(r"\d+", one) != re.findall(r"\d+", other):
        return 0.0
    first, second = shingles(one), shingles(other)
    return len(first & second) / len(first | second)


def min_hashes(text: str) -> np.ndarray:
    """(BANDS,) uint64: MinHash bands of a text's shingles, most of which near-duplicates share."""
    codes = np.array([zlib.crc32(s.encode("utf-8", "surrogatepass")) % PRIME for s in shingles(text)], np.uint64)
    rng = np.random.default_rng(0)
    factors, offsets = rng.integers(1, PRIME, (2, BANDS * IN_BAND, 1), dtype=np.uint64)
    lowest = ((codes * factors + offsets) % PRIME).min(1).reshape(BANDS, IN_BAND)
    mixed = np.zeros(BANDS, np.uint64)
    for column in lowest.T:
        mixed = mixed * np.uint64(0x9E3779B97F4A7C15) + column
    return mixed


@dataclass(frozen=True)
class Look:
    """A perceptual hash of a picture, robust to rescaling and recompression."""

    difference: int  # 64 bits: whether each of 8 x 8 places is brighter than its right neighbour
    colours: tuple[int, ...]  # (12,) mean red, green and blue of four corners

    def is_near(self, other: Look | None) -> bool:
        if other is None:
            return False
        apart = max(abs(a - b) for a, b in zip(self.colours, other.colours, strict=True))
        return (self.difference ^ other.difference).bit_count() <= DISTANCE and apart <= COLOUR


def look(picture: Picture) -> Look:
    """The difference hash of a picture, and its colours, to which that hash is blind; BadImage if it is unreadable."""
    image = open_picture(picture, 64)
    gray = np.asarray(image.convert("L").resize((9, 8), Image.Resampling.BOX), np.int16)
    bits = (gray[:, :-1] > gray[:, 1:]).flatten()
    corners = np.asarray(image.convert("RGB").resize((2, 2), Image.Resampling.BOX))
    return Look(int.from_bytes(np.packbits(bits).tobytes(), "big"), tuple(map(int, corners.flatten())))


def nearly_same(one: Record, other: Record) -> bool:
    """Whether two rows are near-duplicates in their questions, answers and pictures each."""
    if len(one.images) != len(other.images) or [t.role for t in one.turns] != [t.role for t in other.turns]:
        return False
    for role in ("user", "assistant"):
        texts = ["\n".join(turn.text for turn in record.turns if turn.role == role) for record in (one, other)]
        if similarity(*texts) < ALIKE:
            return False
    return all(look(a).is_near(look(b)) for a, b in zip(one.images, other.images, strict=True))


class NearIndex:
    """Finds near-duplicates among many rows; keeps a few hundred bytes per row, however large it is."""

    def __init__(self) -> None:
        # of each row: its number, the (BANDS,) hashes of its text, and the look of its first picture
        self._rows: list[tuple[int, np.ndarray, Look | None]] = []

    def add(self, row: int, record: Record) -> None:
        """Index a row. BadImage if its first picture cannot be read."""
        first = look(record.images[0]) if record.images else None
        self._rows.append((row, min_hashes("\n".join(turn.text for turn in record.turns)), first))

    def duplicates(self, read: Callable[[int], Record]) -> dict[int, int]:
        """Near-duplicate row -> the earlier row it repeats. read: loads a row again, to compare in full."""
        found: dict[int, int] = {}
        if not self._rows:
            return found
        texts = np.stack([text for _, text, _ in self._rows])
        has = np.array([first is not None for _, _, first in self._rows])
        pictures = np.array([first.difference if first else 0 for _, _, first in self._rows], np.uint64)
        for band in range(BANDS):
            for part in range(DISTANCE + 1):  # of hashes that differ in 3 bits, one of 4 parts is equal
                picture = (pictures >> np.uint64(16 * part) & np.uint64(0xFFFF)) + np.uint64(1) * has
                keys = texts[:, band] * np.uint64(0x9E3779B97F4A7C15) + picture
                among = np.arange(len(keys)) if part == 0 else np.flatnonzero(has)
                for bucket in _buckets(keys[among]):
                    self._compare(among[bucket], read, found)
        return found

    def _compare(self, places: np.ndarray, read: Callable[[int], Record], found: dict[int, int]) -> None:
        """Compare the rows at these places with the earlier ones among them, in order."""
        kept: list[tuple[int, Look | None]] = []
        for place in places:
            row, _, first = self._rows[place]
            if row in found:
                continue
            near = [other for other, theirs in kept if first is None or first.is_near(theirs)][:COMPARED]
            same = next((other for other in near if nearly_same(read(other), read(row))), None)
            if same is not None:
                found[row] = same
            elif len(kept) < MEMBERS:
                kept.append((row, first))


def _buckets(keys: np.ndarray) -> Iterator[np.ndarray]:
    """The places of each key that occurs more than once, in order."""
    order = np.argsort(keys, kind="stable")
    edges = np.flatnonzero(np.diff(keys[order], prepend=keys[order[:1]] + 1, append=keys[order[-1:]] + 1))
    for start in np.flatnonzero(np.diff(edges) > 1):
        yield order[edges[start] : edges[start + 1]]
