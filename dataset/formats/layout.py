"""Where rows keep turns, pictures and answers: the known column names, and those of a dataset_info.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from dataset.bad_rows import DataError

REGISTER = "dataset_info.json"  # LLaMA-Factory's registry of the columns and tags of the files beside it
SPEAKERS = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}


@dataclass(frozen=True)
class Layout:
    """Names of columns, and of the keys and roles of a turn, each in lookup order."""

    conversations: tuple[str, ...] = ("conversations", "messages")
    images: tuple[str, ...] = ("image_bytes", "images", "image")
    system: tuple[str, ...] = ("system",)
    label: tuple[str, ...] = ("label",)
    role: tuple[str, ...] = ("role", "from")
    content: tuple[str, ...] = ("content", "value")
    # Alpaca's columns, for rows without a conversation
    question: tuple[str, ...] = ("instruction",)
    context: tuple[str, ...] = ("input",)
    answer: tuple[str, ...] = ("output",)
    speakers: tuple[tuple[str, str], ...] = tuple(SPEAKERS.items())
    registered: str = ""  # the file's name in dataset_info.json

    def columns(self) -> tuple[str, ...]:
        return (*self.conversations, *self.images, *self.system, *self.label, *self.question, *self.context,
                *self.answer)  # fmt: skip


COLUMNS = Layout().columns()
# dataset_info.json's names of columns and tags -> ours
REGISTERED_COLUMNS = {"messages": "conversations", "images": "images", "system": "system", "prompt": "question",
                      "query": "context", "response": "answer", "role_tag": "role",
                      "content_tag": "content"}  # fmt: skip
REGISTERED_ROLES = {"user_tag": "user", "assistant_tag": "assistant", "system_tag": "system"}


def layout_of(path: Path) -> Layout:
    """The known names, preceded by those of a dataset_info.json beside the file, if there is one."""
    file = path.parent / REGISTER
    if not file.is_file() or file == path:
        return Layout()
    stat = file.stat()
    return _registered(file, stat.st_mtime_ns, stat.st_size, path.name)


@lru_cache(maxsize=64)
def _registered(file: Path, changed: int, size: int, name: str) -> Layout:
    """The registered layout of the data file `name`; reread if the registry has changed."""
    for title, entry in read_register(file).items():
        if Path(entry["file_name"]).name == name:
            return _layout(title, entry)
    return Layout()


def read_register(file: Path) -> dict[str, Mapping[str, Any]]:
    """The entries of a dataset_info.json that name a file; DataError if it is not JSON."""
    try:
        found = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise DataError(
            f"{file} cannot be read ({error}); expected LLaMA-Factory's registry of the files beside it: repair it, or "
            "move it away"
        ) from error
    entries = found.items() if isinstance(found, Mapping) else ()
    return {title: entry for title, entry in entries
            if isinstance(entry, Mapping) and isinstance(entry.get("file_name"), str)}  # fmt: skip


def _layout(title: str, entry: Mapping[str, Any]) -> Layout:
    known = Layout()
    given = {**_mapping(entry, "columns"), **_mapping(entry, "tags")}
    names = {}
    for theirs, ours in REGISTERED_COLUMNS.items():
        if isinstance(given.get(theirs), str):
            names[ours] = tuple(dict.fromkeys((given[theirs], *getattr(known, ours))))
    tags = {given[tag]: role for tag, role in REGISTERED_ROLES.items() if isinstance(given.get(tag), str)}
    return Layout(**names, speakers=tuple((SPEAKERS | tags).items()), registered=title)


def _mapping(entry: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    return entry[key] if isinstance(entry.get(key), Mapping) else {}
