"""Rows that say the same about the same picture: alike to the byte, or nearly.

A row is a duplicate where both its pictures and its text are: one picture may be asked about twice, and one caption may
be true of a thousand pictures.
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
from dataset.record import Record

SHINGLE = 3  # words or Chinese characters
ALIKE = 0.8  # Jaccard similarity of two texts' shingles from which on they are nearly the same
BANDS, IN_BAND = 8, 4  # hashes of a text: so many bands of so many
DISTANCE = 3  # of 64 bits in which two pictures' difference hashes may differ
COLOUR = 12  # of 255 by which their corners' mean colours may
COMPARED = 32  # rows of a bucket with which a row is compared in full, at most
MEMBERS = 2000  # rows of a bucket with which later ones are compared at all
PRIME = (1 << 31) - 1


def exact_key(record: Record) -> bytes:
    """The same for rows of the same pictures, to the byte, and the same words, whatever their case and punctuation."""
    digest = hashlib.blake2b(digest_size=16)
    for picture in record.images:
        digest.update(bytes.fromhex(picture_key(picture)))
    for turn in record.turns:
        digest.update(f"\0{turn.role} {_plain(turn.text)}".encode("utf-8", "surrogatepass"))
    return digest.digest()


def _plain(text: str) -> str:
    """The words; the text as it is where it has none (sums, emoji, code)."""
    return " ".join(units(text)) if len(text) < 3 * len("".join(units(text))) + 3 else text


def shingles(text: str) -> set[str]:
    """Every three words or Chinese characters in a row."""
    words = units(text)
    return {" ".join(words[i : i + SHINGLE]) for i in range(max(len(words) - SHINGLE + 1, 1))}


def similarity(one: str, other: str) -> float:
    """Jaccard similarity of two texts' shingles, 0 where their numbers differ."""
    if re.findall(r"\d+", one) != re.findall(r"\d+", other):
        return 0.0
    first, second = shingles(one), shingles(other)
    return len(first & second) / len(first | second)


def min_hashes(text: str) -> np.ndarray:
    """(BANDS,) uint64: hashes of a text's shingles that are mostly the same for texts that are nearly the same."""
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
    """How a picture looks: scaled or saved again it is much the same."""

    difference: int  # 64 bits: whether each of 8 x 8 places is brighter than the one to its right
    colours: tuple[int, ...]  # (12,) mean red, green and blue of four corners

    def is_near(self, other: Look | None) -> bool:
        if other is None:
            return False
        apart = max(abs(a - b) for a, b in zip(self.colours, other.colours, strict=True))
        return (self.difference ^ other.difference).bit_count() <= DISTANCE and apart <= COLOUR


def look(image: Image.Image) -> Look:
    """The difference hash of a picture, with colours, which it does not see."""
    gray = np.asarray(image.convert("L").resize((9, 8), Image.Resampling.BOX), np.int16)
    bits = (gray[:, :-1] > gray[:, 1:]).flatten()
    corners = np.asarray(image.convert("RGB").resize((2, 2), Image.Resampling.BOX))
    return Look(int.from_bytes(np.packbits(bits).tobytes(), "big"), tuple(map(int, corners.flatten())))


def looks(record: Record) -> list[Look]:
    return [look(open_picture(picture, 64)) for picture in record.images]


def nearly_same(one: Record, other: Record) -> bool:
    """Whether questions, answers and pictures of two rows are each nearly the same."""
    if len(one.images) != len(other.images) or [t.role for t in one.turns] != [t.role for t in other.turns]:
        return False
    for role in ("user", "assistant"):
        texts = ["\n".join(turn.text for turn in record.turns if turn.role == role) for record in (one, other)]
        if similarity(*texts) < ALIKE:
            return False
    return all(a.is_near(b) for a, b in zip(looks(one), looks(other), strict=True))


class NearIndex:
    """Finds rows that are nearly the same among many; keeps some 200 bytes a row, whatever the rows hold."""

    def __init__(self) -> None:
        self._rows: list[int] = []
        self._texts: list[np.ndarray] = []  # (BANDS,) of each row
        self._first: list[Look | None] = []  # its first picture's

    def add(self, row: int, record: Record) -> None:
        """Take in a row. BadImage where its first picture cannot be read."""
        self._first.append(look(open_picture(record.images[0], 64)) if record.images else None)
        self._texts.append(min_hashes("\n".join(turn.text for turn in record.turns)))
        self._rows.append(row)

    def duplicates(self, read: Callable[[int], Record]) -> dict[int, int]:
        """Each row that nearly repeats an earlier one, and that one. read: gives a row again, to compare in full."""
        found: dict[int, int] = {}
        if not self._rows:
            return found
        texts = np.stack(self._texts)
        has = np.array([one is not None for one in self._first])
        pictures = np.array([one.difference if one else 0 for one in self._first], np.uint64)
        for band in range(BANDS):
            for part in range(DISTANCE + 1):  # of hashes that differ in 3 bits one of 4 parts is the same
                picture = (pictures >> np.uint64(16 * part) & np.uint64(0xFFFF)) + np.uint64(1) * has
                keys = texts[:, band] * np.uint64(0x9E3779B97F4A7C15) + picture
                among = np.arange(len(keys)) if part == 0 else np.flatnonzero(has)
                for bucket in _buckets(keys[among]):
                    self._compare(among[bucket], read, found)
        return found

    def _compare(self, places: np.ndarray, read: Callable[[int], Record], found: dict[int, int]) -> None:
        """Compare the rows at these places with those before them, in order."""
        kept: list[int] = []
        for place in map(int, places):
            row, mine = self._rows[place], self._first[place]
            if row in found:
                continue
            near = [k for k in kept if mine is None or mine.is_near(self._first[k])][:COMPARED]
            same = None
            if near:
                record = read(row)
                same = next((self._rows[k] for k in near if nearly_same(read(self._rows[k]), record)), None)
            if same is not None:
                found[row] = same
            elif len(kept) < MEMBERS:
                kept.append(place)


def _buckets(keys: np.ndarray) -> Iterator[np.ndarray]:
    """The places of each key that stands more than once, in order."""
    order = np.argsort(keys, kind="stable")
    edges = np.flatnonzero(np.diff(keys[order], prepend=keys[order[:1]] + 1, append=keys[order[-1:]] + 1))
    for start in np.flatnonzero(np.diff(edges) > 1):
        yield order[edges[start] : edges[start + 1]]
