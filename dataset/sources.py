"""Records from the files that data sets come in, each row checked: turns, answers, image tags, image names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dataset.bad_rows import BadImage, BadRow, BadRows
from dataset.pictures import resolve_image_path
from dataset.record import IMAGE, Picture, Record, Turn, turn_from_text
from dataset.rows import (
    CONVERSATION_COLUMNS,
    IMAGE_COLUMNS,
    is_parquet,
    open_parquet,
    open_rows,
    parquet_batches,
    parse_json,
)

SPEAKERS = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}


def read_records(path: Path | str, images: Path | str | None = None, bad: BadRows | None = None) -> Iterator[Record]:
    """The good records of a data file in order, in bounded memory; bad rows are counted, named and left out.

    path: MiniMind-V's JSONL or parquet, a JSON list as LLaVA's, sharegpt's messages; recognised by content.
    images: the folder of the image files; by default the one that path is in.
    Raises DataError for a file that cannot be used, TooManyBadRows where the share of bad rows passes the limit.
    """
    path, bad = Path(path), bad or BadRows()
    root = Path(images) if images is not None else path.parent
    for number, row in _in_order(path):
        row_id = f"{path.name}:{number}"
        bad.seen()
        try:
            record, note = record_from_row(row, row_id, root)
        except BadRow as error:
            bad.add(row_id, error)
            continue
        if note:
            bad.repaired(row_id, note)
        yield record
    bad.finish()


def _in_order(path: Path) -> Iterator[tuple[int, Any]]:
    if not is_parquet(path):
        yield from open_rows(path)
        return
    number = 0
    for batch in parquet_batches(path, open_parquet(path)):
        for row in batch.to_pylist():
            yield number, row
            number += 1


class RecordFile:
    """The rows of a data file as records, in any order: len() counts all rows, [i] raises BadRow for a bad one.

    Memory stays bounded, and [i] may be called from several threads. `bad` is told of rows that were put right.
    """

    def __init__(self, path: Path | str, images: Path | str | None = None, bad: BadRows | None = None):
        self.path = Path(path)
        self.root = Path(images) if images is not None else self.path.parent
        self._rows = open_rows(self.path)
        self._bad = bad
        self._noted = np.zeros(len(self._rows), bool)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Record:
        if not 0 <= index < len(self):
            raise IndexError(f"{self.path} has {len(self)} rows; there is no row {index}")
        row_id = f"{self.path.name}:{self._rows.number(index)}"
        try:
            record, note = record_from_row(self._rows.read(index), row_id, self.root)
        except BadRow as error:
            error.row_id = row_id
            raise
        if note and self._bad is not None and not self._noted[index]:
            self._noted[index] = True
            self._bad.repaired(row_id, note)
        return record


def record_from_row(row: Any, row_id: str, root: Path) -> tuple[Record, str]:
    """The record of a raw row (a dict, or JSON text of one) and a note on what was put right, or BadRow.

    As many "<image>" tags as images are needed; a single image without one is put in front of the question.
    """
    if isinstance(row, (bytes, str)):
        row = parse_json(row, "row is not JSON")
    if not isinstance(row, Mapping):
        raise BadRow("row is not an object", f"found {type(row).__name__}")
    turns, note = _in_turn(_turns(row))
    pictures = _pictures(row, root)
    tags = sum(turn.image_count for turn in turns)
    if tags == 0 and len(pictures) == 1:
        first = next(i for i, turn in enumerate(turns) if turn.role == "user")
        turns[first] = Turn("user", (IMAGE, "\n", *turns[first].parts))
        note = "image tag was missing, put in front of the question"
    elif tags != len(pictures):
        raise BadRow("image tags and images disagree", f"{tags} tags for {len(pictures)} images")
    label = row.get("label")
    return Record(row_id, pictures, tuple(turns), label=None if label is None else str(label)), note


def _turns(row: Mapping[str, Any]) -> list[Turn]:
    key = next((name for name in CONVERSATION_COLUMNS if row.get(name)), None)
    if key is None:
        raise BadRow("row has no conversation", f"found {', '.join(map(str, row)) or 'nothing'}")
    messages = row[key]
    if isinstance(messages, (str, bytes)):
        messages = parse_json(messages, f"{key} is not JSON")
    if not isinstance(messages, list):
        raise BadRow(f"{key} is not a list", f"found {type(messages).__name__}")
    turns = [_turn(message) for message in messages]
    system = row.get("system")
    if isinstance(system, str) and system and (not turns or turns[0].role != "system"):
        turns.insert(0, Turn("system", (system,)))
    return turns


def _turn(message: Any) -> Turn:
    if not isinstance(message, Mapping):
        raise BadRow("turn is not an object", f"found {type(message).__name__}")
    speaker, text = message.get("role", message.get("from")), message.get("content", message.get("value"))
    role = SPEAKERS.get(speaker) if isinstance(speaker, str) else None
    if role is None:
        raise BadRow("role is unknown", f"found {speaker!r}, expected one of {', '.join(SPEAKERS)}")
    if not isinstance(text, str):
        raise BadRow("turn has no text", f"found {type(text).__name__}")
    if role == "assistant":
        if not text.strip():
            raise BadRow("answer is empty")
        return Turn(role, (text,))  # an answer shows no pictures: a tag in it is text
    return turn_from_text(role, text)


def _in_turn(turns: list[Turn]) -> tuple[list[Turn], str]:
    """The turns as system?, (user, assistant)+, and a note on what was left out for it."""
    if not any(turn.role == "assistant" for turn in turns):
        raise BadRow("row has no answer")
    note = ""
    opening = turns[:1] if turns[0].role == "system" else []
    turns = turns[len(opening) :]
    if turns[0].role == "assistant" and any(turn.role == "assistant" for turn in turns[1:]):
        turns, note = turns[1:], "an answer before the first question was left out"
    if turns[-1].role == "user":
        turns, note = turns[:-1], "a question without an answer at the end was left out"
    roles = [turn.role for turn in turns]
    if roles != ["user", "assistant"] * (len(roles) // 2):
        raise BadRow("turns do not alternate", f"found {' '.join(roles)[:80]}")
    return opening + turns, note


def _pictures(row: Mapping[str, Any], root: Path) -> tuple[Picture, ...]:
    """The row's pictures: bytes, a list of bytes, a name, several names in one text, or a list of names."""
    value = next((row[name] for name in IMAGE_COLUMNS if row.get(name) is not None), None)
    if isinstance(value, str):
        value = _names(value, root)
    elif value is None or isinstance(value, (bytes, Mapping)):
        value = [] if value is None else [value]
    if not isinstance(value, list):
        raise BadImage("image is neither a name nor bytes", f"found {type(value).__name__}")
    return tuple(_picture(item, root) for item in value)


def _names(text: str, root: Path) -> list[str]:
    """The file names in a text as "0.jpg, 1.jpg"; a file whose own name has a comma is one."""
    if "," not in text:
        return [text] if text.strip() else []
    try:
        resolve_image_path(root, text)
        return [text]
    except BadImage:
        return [name.strip() for name in text.split(",") if name.strip()]


def _picture(value: Any, root: Path) -> Picture:
    if isinstance(value, Mapping):  # Hugging Face's image feature
        value = value.get("bytes") or value.get("path")
    if isinstance(value, bytes):
        if not value:
            raise BadImage("image has zero bytes")
        return value
    if isinstance(value, str):
        return resolve_image_path(root, value)
    raise BadImage("image is neither a name nor bytes", f"found {type(value).__name__}")
