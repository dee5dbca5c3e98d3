"""The data types of the pipeline: Record (an annotated sample), Example (ids and labels), Batch (padded tensors)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from dataset.picturebook.facts import Scene

IGNORE = -100  # label of unsupervised positions
IMAGE_TAG = "<image>"  # image placeholder in the text of data sets
ROLES = ("system", "user", "assistant")


class ImageSlot(Enum):
    """Sentinel for a picture's position among the parts of a turn."""

    IMAGE = IMAGE_TAG


IMAGE = ImageSlot.IMAGE
Part = Union[str, ImageSlot]  # noqa: UP007  (evaluated at run time)
# bytes: an encoded image file; Path: a file; Scene: scene graph facts, drawn on demand
Picture = Union[bytes, Path, "Scene"]  # noqa: UP007


@dataclass(frozen=True)
class Turn:
    """One speaker's turn: text parts and image slots in reading order."""

    role: str  # one of ROLES
    parts: tuple[Part, ...]

    @property
    def text(self) -> str:
        """The turn as data set text, with "<image>" for each picture."""
        return "".join(part if isinstance(part, str) else IMAGE_TAG for part in self.parts)

    @property
    def image_count(self) -> int:
        return sum(part is IMAGE for part in self.parts)


def turn_from_text(role: str, text: str) -> Turn:
    """Parse data set text; each "<image>" becomes a slot. Never use it on what a user types in a chat."""
    parts = [part for piece in text.split(IMAGE_TAG) for part in (IMAGE, piece)][1:]
    return Turn(role, tuple(part for part in parts if part))


@dataclass(frozen=True)
class Record:
    """One sample of a data set: pictures, turns and, where known, the ground truth."""

    id: str  # provenance, e.g. "train.parquet:17"
    images: tuple[Picture, ...]  # as many as image slots in turns, in reading order
    turns: tuple[Turn, ...]
    scene: Scene | None = None  # ground-truth annotation, where known
    label: str | None = None  # a word that a correct answer contains
    references: tuple[str, ...] = ()  # all captions of the picture, where it has several

    @property
    def answers(self) -> tuple[str, ...]:
        """The references, if there are any, else the text of each assistant turn."""
        return self.references or tuple(turn.text for turn in self.turns if turn.role == "assistant")


def with_caption(record: Record, number: int) -> Record:
    """The record with one of its references as the answer; as it is without any."""
    if not record.references:
        return record
    return replace(record, turns=(*record.turns[:-1], Turn("assistant", (record.references[number],))))


def with_prompt(record: Record, prompt: str) -> Record:
    """The record with another text in its last question, after that question's pictures."""
    turns = list(record.turns)
    last = max(i for i, turn in enumerate(turns) if turn.role == "user")
    slots = [part for part in turns[last].parts if part is IMAGE]
    turns[last] = Turn("user", (*slots, f"\n{prompt}" if slots else prompt))
    return replace(record, turns=tuple(turns))


def without_pictures(record: Record) -> Record:
    """The record's text only, for a language model; a line break that only set off a picture goes too."""
    turns = tuple(
        Turn(turn.role, ("".join(part for part in turn.parts if isinstance(part, str)).strip(),))
        if turn.image_count
        else turn
        for turn in record.turns
    )
    return replace(record, images=(), turns=turns)


@dataclass(frozen=True, eq=False)
class Example:
    """Token ids and labels of one record; labels are not shifted."""

    ids: np.ndarray  # (T,) int32
    labels: np.ndarray  # (T,) int32: the id where supervised, else IGNORE
    image_mask: np.ndarray  # (T,) bool: M consecutive True positions per picture
    images: tuple[Picture, ...]
    id: str
    truncated: bool = False  # text was cut to fit, so the last answer may be incomplete

    @property
    def supervised_tokens(self) -> int:
        return int((self.labels != IGNORE).sum())


@dataclass(frozen=True, eq=False)
class Batch:
    """A padded batch of B examples with P pictures in all, M tokens per picture.

    Pictures are in reading order: row by row, left to right; each owns M consecutive True positions of image_mask. One
    of pixels, features and words is set, or none if P is 0; an encoder supervised with the words of each cell gets them
    alongside the pixels.
    """

    ids: Tensor  # (B, T) int64
    labels: Tensor  # (B, T) int64, IGNORE where not supervised, not shifted
    attention_mask: Tensor  # (B, T) bool, False on padding
    image_mask: Tensor  # (B, T) bool
    pixels: Tensor | None = None  # (P, 3, H, W) float32
    features: Tensor | None = None  # (P, N, Dv) of the frozen encoder
    words: Tensor | None = None  # (P, M, W) int64 token ids of each cell's words, padded with -1
    example_ids: tuple[str, ...] = ()  # (B,) for messages

    @classmethod
    def idle(cls) -> Batch:
        """A dummy batch of two unsupervised tokens."""
        ids = torch.zeros((1, 2), dtype=torch.int64)
        return cls(ids, torch.full_like(ids, IGNORE), torch.ones_like(ids, dtype=torch.bool), ids.bool())

    @property
    def supervised_tokens(self) -> int:
        return int((self.labels != IGNORE).sum())

    @property
    def tokens(self) -> int:
        """Number of non-padding tokens, image tokens included."""
        return int(self.attention_mask.sum())

    def to(self, device: torch.device | str) -> Batch:
        """The same batch with every tensor on the device."""
        moved: dict[str, Any] = {name: v.to(device) for name, v in vars(self).items() if isinstance(v, Tensor)}
        return replace(self, **moved)


@dataclass(frozen=True)
class Ask:
    """One prompt to answer: the turns before the answer, and their pictures in slot order."""

    turns: tuple[Turn, ...]
    images: tuple[Picture, ...]
    id: str
