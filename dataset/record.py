"""The types that data takes on its way: Record (a row), Example (ids and labels), Batch (padded tensors)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from dataset.picturebook.facts import Scene

IGNORE = -100  # the label of a position that is not supervised
IMAGE_TAG = "<image>"  # how data sets write an image's place in a text
ROLES = ("system", "user", "assistant")


class ImageSlot(Enum):
    """The one value that stands for a picture's place among the parts of a turn."""

    IMAGE = IMAGE_TAG


IMAGE = ImageSlot.IMAGE
Part = Union[str, ImageSlot]  # noqa: UP007  (evaluated at run time)
# bytes: an encoded image file; Path: a file; Scene: facts that are drawn when the picture is wanted
Picture = Union[bytes, Path, "Scene"]  # noqa: UP007


@dataclass(frozen=True)
class Turn:
    """One speaker's turn: text parts and image slots in reading order."""

    role: str  # one of ROLES
    parts: tuple[Part, ...]

    @property
    def text(self) -> str:
        """The turn as a data set would write it, pictures shown as "<image>"."""
        return "".join(part if isinstance(part, str) else IMAGE_TAG for part in self.parts)

    @property
    def image_count(self) -> int:
        return sum(part is IMAGE for part in self.parts)


def turn_from_text(role: str, text: str) -> Turn:
    """A turn from a data set's text, each "<image>" in it a slot. Never for what a user types in a chat."""
    parts: list[Part] = []
    for position, piece in enumerate(text.split(IMAGE_TAG)):
        if position:
            parts.append(IMAGE)
        if piece:
            parts.append(piece)
    return Turn(role, tuple(parts))


@dataclass(frozen=True)
class Record:
    """A row of a data set: pictures, turns and, where they are known, facts."""

    id: str  # where it came from, e.g. "train.parquet:17"
    images: tuple[Picture, ...]  # as many as there are image slots in turns, in reading order
    turns: tuple[Turn, ...]
    scene: Scene | None = None  # what is in the picture, where that is known
    label: str | None = None  # a word that a right answer contains


@dataclass(frozen=True, eq=False)
class Example:
    """Token ids and labels of one record; labels are not shifted."""

    ids: np.ndarray  # (T,) int32
    labels: np.ndarray  # (T,) int32: the id where supervised, else IGNORE
    image_mask: np.ndarray  # (T,) bool: M True positions in a row for each picture
    images: tuple[Picture, ...]
    id: str
    truncated: bool = False  # text was cut to fit, so the last answer may lack its end

    @property
    def supervised_tokens(self) -> int:
        return int((self.labels != IGNORE).sum())


@dataclass(frozen=True, eq=False)
class Batch:
    """Padded tensors of B examples with P pictures between them, of M tokens each.

    Pictures are in reading order: row by row, left to right; each owns M consecutive True positions of
    image_mask. None of pixels, features and words is given where P is 0, else one; an encoder that learns from the
    words of each cell is given these beside the pixels.
    """

    ids: Tensor  # (B, T) int64
    labels: Tensor  # (B, T) int64, IGNORE where not supervised, not shifted
    attention_mask: Tensor  # (B, T) bool, False on padding
    image_mask: Tensor  # (B, T) bool
    pixels: Tensor | None = None  # (P, 3, H, W) float32
    features: Tensor | None = None  # (P, N, Dv) of the frozen encoder
    words: Tensor | None = None  # (P, M, W) int64 token ids of what each cell shows, -1 where there are fewer
    example_ids: tuple[str, ...] = ()  # (B,) names for messages

    @classmethod
    def idle(cls) -> Batch:
        """A batch of two tokens that nothing is learned from."""
        ids = torch.zeros((1, 2), dtype=torch.int64)
        return cls(ids, torch.full_like(ids, IGNORE), torch.ones_like(ids, dtype=torch.bool), ids.bool())

    @property
    def supervised_tokens(self) -> int:
        return int((self.labels != IGNORE).sum())

    @property
    def tokens(self) -> int:
        """Real tokens, image tokens included, padding not."""
        return int(self.attention_mask.sum())

    def to(self, device: torch.device | str) -> Batch:
        """The same batch with every tensor on the device."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        moved: dict[str, Any] = {name: v.to(device) if isinstance(v, Tensor) else v for name, v in values.items()}
        return Batch(**moved)


@dataclass(frozen=True)
class Ask:
    """One thing to answer: the turns up to the answer, with pictures in reading order of their slots."""

    turns: tuple[Turn, ...]
    images: tuple[Picture, ...]
    id: str
