"""Records from data files, each row validated: turns, answers, image tags, image names."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dataset.bad_rows import BadImage, BadRow, BadRows
from dataset.formats.captions import prompt_for
from dataset.formats.layout import CALLS, PAIR, TOOL, Layout, layout_of
from dataset.formats.rows import open_rows, stream_rows
from dataset.formats.textrows import parse_json
from dataset.pictures import resolve_image_path
from dataset.record import IMAGE, IMAGE_TAG, Picture, Record, Turn, turn_from_text, without_pictures

BASE64 = "data:image/"  # how a picture begins that is written into the row


def read_records(
    path: Path | str, images: Path | str | None = None, bad: BadRows | None = None, subset: str = "", use: str = ""
) -> Iterator[Record]:
    """Stream the good records of a data file in order, in bounded memory; bad rows are counted, reported and skipped.

    path: JSONL, a JSON list, parquet, a webdataset tar or captions, detected by content; rows in the schema of
    MiniMind-V, LLaVA, LLaMA-Factory (with its dataset_info.json beside the file) or Alpaca.
    images: the folder of the image files; by default the folder of path. subset, use: as for open_rows().
    Raises DataError for an unusable file, TooManyBadRows if the share of bad rows exceeds the limit.
    """
    path, bad = Path(path), bad or BadRows()
    root, layout = Path(images) if images is not None else folder_of(path), layout_of(path)
    for row_id, row in stream_rows(path, subset=subset, use=use):
        bad.seen()
        try:
            record, note = record_from_row(row, row_id, root, layout)
        except BadRow as error:
            bad.add(row_id, error)
            continue
        if note:
            bad.repaired(row_id, note)
        yield record
    bad.finish()


def folder_of(path: Path) -> Path:
    """The folder that a data file's pictures are looked for in."""
    return path if path.is_dir() else path.parent


class RecordFile:
    """Random access to the records of a data file: len() counts all rows, [i] raises BadRow for a bad one.

    Memory stays bounded, and [i] is thread-safe. Repaired rows are counted in `bad`.
    name: prefix of the record ids, by default the file name.
    text_only: pictures are left out and not looked for. subset, use: as for open_rows().
    """

    def __init__(
        self, path: Path | str, images: Path | str | None = None, bad: BadRows | None = None, name: str = "",
        text_only: bool = False, subset: str = "", use: str = "",
    ):  # fmt: skip
        self.path = Path(path)
        self.name = name or self.path.name
        self._layout = layout_of(self.path)
        self.root = None if text_only else Path(images) if images is not None else folder_of(self.path)
        self._rows = open_rows(self.path, subset, use)
        self._bad = bad
        self._noted = np.zeros(len(self._rows), bool)

    @property
    def subset(self) -> str:
        """The splits that were kept of a file of captions, joined by +, or the file of names; "" for all."""
        return getattr(self._rows, "subset", "")

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Record:
        if not 0 <= index < len(self):
            raise IndexError(f"{self.path} has {len(self)} rows; there is no row {index}")
        row_id = f"{self.name}:{self._rows.number(index)}"
        try:
            record, note = record_from_row(self._rows.read(index), row_id, self.root, self._layout)
        except BadRow as error:
            error.row_id = row_id
            raise
        if note and self._bad is not None and not self._noted[index]:
            self._noted[index] = True
            self._bad.repaired(row_id, note)
        return record


def record_from_row(row: Any, row_id: str, root: Path | None, layout: Layout) -> tuple[Record, str]:
    """The record of a raw row (a mapping, or the BadRow in its place) and a note on what was repaired, or BadRow.

    There must be one "<image>" tag per image; a single image without a tag is put in front of the question. Rows with
    video, audio, tool calls or preference pairs are bad, as are answers that KTO's label says to avoid.
    root: the folder of the pictures; None: the text alone, whatever the row says of pictures.
    """
    if isinstance(row, BadRow):
        raise row
    if not isinstance(row, Mapping):
        raise BadRow("row is not an object", f"found {type(row).__name__}")
    _refuse_unsupported(row, layout)
    label = _label(row, layout)
    named: list[Any] = []  # pictures in the turns
    references = _captions(row, layout)
    turns, note = _in_turn(_captioned(references) if references else _turns(row, layout, named))
    if root is None:
        return without_pictures(Record(row_id, (), tuple(turns), label=label, references=references)), note
    pictures = _pictures(row, root, layout)
    if named and pictures:
        raise BadRow("images are named in the turns and in a column", f"{len(named)} and {len(pictures)}; give one")
    pictures = pictures or tuple(_picture(item, root) for item in named)
    tags = sum(turn.image_count for turn in turns)
    if tags == 0 and len(pictures) == 1:
        first = next(i for i, turn in enumerate(turns) if turn.role == "user")
        turns[first] = Turn("user", (IMAGE, "\n", *turns[first].parts))
        note = "image tag was missing, put in front of the question"
    elif tags != len(pictures):
        raise BadRow("image tags and images disagree", f"{tags} tags for {len(pictures)} images")
    return Record(row_id, pictures, tuple(turns), label=label, references=references), note


def _refuse_unsupported(holder: Mapping[str, Any], layout: Layout) -> None:
    """BadRow for a row or a turn that holds what is not trained on."""
    if layout.ranking:
        raise BadRow(f"row holds {PAIR}", f'"ranking" is set for {layout.registered} in dataset_info.json')
    for name, what in layout.unsupported.items():
        if (value := holder.get(name)) and value not in ("[]", "{}", "null"):
            raise BadRow(f"row holds {what}", f"in {name!r}, which is not supported")


def _label(row: Mapping[str, Any], layout: Layout) -> str | None:
    """The label, a word; BadRow where KTO's label, a truth value, says that the answer is one to avoid."""
    label = _first(row, layout.label)
    wanted = label if isinstance(label, bool) else _first(row, layout.kto_tag)
    if wanted not in (None, True):
        raise BadRow("answer is one to avoid", f"KTO's label is {wanted!r}; only answers with true are trained on")
    return None if label is None or wanted is not None else str(label)


def _captions(row: Mapping[str, Any], layout: Layout) -> tuple[str, ...]:
    """The captions of a row that is a picture with a list of them and no conversation, else ()."""
    captions = _first(row, layout.captions)
    if not isinstance(captions, list) or any(row.get(name) for name in (*layout.conversations, *layout.answer)):
        return ()
    if not captions or not all(isinstance(caption, str) and caption.strip() for caption in captions):
        raise BadRow("captions are no list of texts", f"found {captions!r:.60}")
    return tuple(caption.strip() for caption in captions)


def _captioned(captions: tuple[str, ...]) -> list[Turn]:
    """A question in the captions' language, and the first of them as the answer."""
    return [turn_from_text("user", f"{IMAGE_TAG}\n{prompt_for(captions)}"), Turn("assistant", (captions[0],))]


def _first(row: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    """The first value among the named columns that is not None, else None."""
    return next((row[name] for name in names if row.get(name) is not None), None)


def _turns(row: Mapping[str, Any], layout: Layout, pictures: list[Any]) -> list[Turn]:
    """The row's turns as they stand; the pictures that they name are appended to `pictures`."""
    key = next((name for name in layout.conversations if row.get(name)), None)
    if key is not None:
        messages = row[key]
        if isinstance(messages, (str, bytes)):
            messages = parse_json(messages, f"{key} is not JSON")
        if not isinstance(messages, list):
            raise BadRow(f"{key} is not a list", f"found {type(messages).__name__}")
        turns = [_turn(message, layout, pictures) for message in messages]
    elif _first(row, layout.answer) is not None and _first(row, layout.question) is not None:
        asked = [_first(row, names) for names in (layout.question, layout.context)]
        question = "\n".join(filter(None, (content_text(text) for text in asked if text is not None)))
        turns = [turn_from_text("user", question), _answer(_first(row, layout.answer))]
    else:
        raise BadRow("row has no conversation", f"found {', '.join(map(str, row)) or 'nothing'}")
    system = _first(row, layout.system)
    if isinstance(system, str) and system and (not turns or turns[0].role != "system"):
        turns.insert(0, Turn("system", (system,)))
    return turns


def _turn(message: Any, layout: Layout, pictures: list[Any]) -> Turn:
    if not isinstance(message, Mapping):
        raise BadRow("turn is not an object", f"found {type(message).__name__}")
    speaker, content = _first(message, layout.role), _first(message, layout.content)
    role = layout.speakers.get(speaker) if isinstance(speaker, str) else None
    _refuse_unsupported(message, layout)
    if role is None:
        known = ", ".join(name for name, role in layout.speakers.items() if role != TOOL)
        raise BadRow("role is unknown", f"found {speaker!r}, expected one of {known}")
    if role == TOOL:
        raise BadRow(f"row holds {CALLS}", f"a turn of the role {speaker!r}, which is not supported")
    if role != "assistant":
        return turn_from_text(role, content_text(content, pictures))
    if any(message.get(name) not in (None, 1) for name in ("weight", "loss_weight")):
        raise BadRow("answer has a weight other than 1", "answers are trained on alike: leave the row out")
    return _answer(content)


def _answer(content: Any) -> Turn:
    """An assistant turn; it has no pictures, so a tag in it is plain text."""
    text = content_text(content)
    if not text.strip():
        raise BadRow("answer is empty")
    return Turn("assistant", (text,))


def content_text(content: Any, pictures: list[Any] | None = None) -> str:
    """A turn's content as one text, "<image>" for each picture: a text, or a list of texts and pictures as OpenAI's.

    What names a picture in the list is appended to `pictures`; without them (None) a picture is a BadRow.
    """
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise BadRow("turn has no text", f"found {type(content).__name__}")
    texts = []
    for part in content:
        kind = part.get("type") if isinstance(part, Mapping) else None
        found = _first(part, (kind, "value", "url", "path")) if isinstance(kind, str) else None
        if kind == "text" and isinstance(found, str):
            texts.append(found)
        elif kind in ("image", "image_url") and pictures is not None:
            texts.append(IMAGE_TAG)
            pictures += [] if found is None else [found]
        else:
            raise BadRow("turn has a part that is not supported", f"found {kind or part!r:.40}, expected text"
                         + (" or image_url" if pictures is not None else " alone in an answer"))  # fmt: skip
    return "".join(texts)


def _in_turn(turns: list[Turn]) -> tuple[list[Turn], str]:
    """The turns normalised to system?, (user, assistant)+, and a note on what was dropped."""
    answers = sum(turn.role == "assistant" for turn in turns)
    if not answers:
        raise BadRow("row has no answer")
    note = ""
    opening = turns[:1] if turns[0].role == "system" else []
    turns = turns[len(opening) :]
    if turns[0].role == "assistant" and answers > 1:
        turns, note = turns[1:], "an answer before the first question was left out"
    if turns[-1].role == "user":
        turns, note = turns[:-1], "a question without an answer at the end was left out"
    roles = [turn.role for turn in turns]
    if roles != ["user", "assistant"] * (len(roles) // 2):
        raise BadRow("turns do not alternate", f"found {' '.join(roles)[:80]}")
    return opening + turns, note


def _pictures(row: Mapping[str, Any], root: Path, layout: Layout) -> tuple[Picture, ...]:
    """The row's pictures, given as bytes, a list of bytes, a name, several names in one text, or a list of names."""
    value = _first(row, layout.images)
    if value is None:
        return ()
    items = _names(value, root) if isinstance(value, str) else value if isinstance(value, list) else [value]
    return tuple(_picture(item, root) for item in items)


def _names(text: str, root: Path) -> list[str]:
    """Split a text such as "0.jpg, 1.jpg" into file names; an existing file with a comma in its name stays one."""
    if "," not in text or text.startswith(BASE64):
        return [text] if text.strip() else []
    try:
        resolve_image_path(root, text)
        return [text]
    except BadImage:
        return [name.strip() for name in text.split(",") if name.strip()]


def _picture(value: Any, root: Path) -> Picture:
    if isinstance(value, Mapping):  # Hugging Face's image feature, or OpenAI's image_url
        value = value.get("bytes") or value.get("path") or value.get("url")
    if isinstance(value, str) and value.startswith(BASE64):
        try:
            value = base64.b64decode(value.partition(";base64,")[2], validate=True)
        except ValueError as error:
            raise BadImage("image is not base64", str(error)) from error
    if isinstance(value, bytes):
        if not value:
            raise BadImage("image has zero bytes")
        return value
    if isinstance(value, str):
        return resolve_image_path(root, value)
    raise BadImage("image is neither a name nor bytes", f"found {type(value).__name__}")
