"""Encode records to token ids and labels, which are built together turn by turn: labels are never searched for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from dataset.bad_rows import BadRow
from dataset.record import IGNORE, Example, Picture, Record, Turn
from tokenizer.chat import Segment, render
from tokenizer.tokenizer import Tokenizer


def encode_record(record: Record, tokenizer: Tokenizer, image_tokens: int, max_seq_len: int) -> Example:
    """Encode a record to at most max_seq_len ids: image_tokens per picture, labels on the answers.

    An overlong record is truncated at its end, never inside a picture: a later exchange whose pictures do not fit is
    dropped as a whole, and nothing unsupervised is kept after the last label. A truncated answer has no end token, and
    its example is marked truncated.
    Raises BadRow where tags and pictures disagree, nothing is supervised, or pictures and prompt leave no room.
    """
    example = _join(render(tokenizer, record.turns), tokenizer.image_id, image_tokens, record.images, record.id)
    if not (example.labels != IGNORE).any():
        raise BadRow("nothing is supervised", "no answer has a token")
    if len(example.ids) <= max_seq_len:
        return example
    return _truncate(example, image_tokens, max_seq_len)


def encode_prompt(
    turns: Sequence[Turn],
    tokenizer: Tokenizer,
    image_tokens: int,
    images: Sequence[Picture] = (),
    max_seq_len: int | None = None,
    row_id: str = "",
) -> Example:
    """Encode the turns as a prompt for generation, without labels. BadRow if it is too long."""
    pieces = render(tokenizer, turns, for_generation=True)
    example = _join(pieces, tokenizer.image_id, image_tokens, tuple(images), row_id)
    if max_seq_len is not None and len(example.ids) >= max_seq_len:
        raise BadRow("prompt does not fit", f"{len(example.ids)} tokens of {max_seq_len}, none left for an answer")
    return example


def split_answer(record: Record) -> tuple[tuple[Turn, ...], tuple[Picture, ...], str]:
    """(prompt turns, their pictures, reference): the record up to its first answer, and that answer."""
    first = next((i for i, turn in enumerate(record.turns) if turn.role == "assistant"), None)
    if first is None:
        raise BadRow("row has no answer")
    turns = record.turns[:first]
    pictures = record.images[: sum(turn.image_count for turn in turns)]
    return turns, pictures, record.turns[first].text


def _join(
    pieces: Sequence[Segment], image_id: int, image_tokens: int, images: tuple[Picture, ...], row_id: str
) -> Example:
    """Concatenate segments, with image_tokens copies of image_id for each picture."""
    slots = sum(piece.image for piece in pieces)
    if slots != len(images):
        raise BadRow("image tags and images disagree", f"{slots} tags for {len(images)} images")
    if slots and image_tokens < 1:
        raise ValueError(f"a picture takes {image_tokens} tokens; expected the projector's count, 1 or more")
    ids: list[int] = []
    labels: list[int] = []
    is_image: list[bool] = []
    for piece in pieces:
        piece_ids = [image_id] * image_tokens if piece.image else piece.ids
        ids += piece_ids
        labels += piece_ids if piece.supervised else [IGNORE] * len(piece_ids)
        is_image += [piece.image] * len(piece_ids)
    return Example(np.array(ids, np.int32), np.array(labels, np.int32), np.array(is_image, bool), images, row_id)


def _truncate(example: Example, image_tokens: int, max_seq_len: int) -> Example:
    """Truncate after the last label within max_seq_len, keeping whole pictures only."""
    end = max_seq_len
    positions = np.flatnonzero(example.image_mask)
    starts = positions[::image_tokens]  # start of each picture
    cut_through = starts[(starts < end) & (starts + image_tokens > end)]
    if len(cut_through):
        end = int(cut_through[0])
    labelled = np.flatnonzero(example.labels[:end] != IGNORE)
    if not len(labelled):
        raise BadRow(
            "pictures and prompt leave no room for an answer",
            f"{len(example.ids)} tokens of at most {max_seq_len}, {len(positions)} of them for "
            f"{len(example.images)} pictures: raise --max_seq_len",
        )
    end = int(labelled[-1]) + 1
    return replace(
        example,
        ids=example.ids[:end],
        labels=example.labels[:end],
        image_mask=example.image_mask[:end],
        images=example.images[: int((starts < end).sum())],
        truncated=True,
    )
