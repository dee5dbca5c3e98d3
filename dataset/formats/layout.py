"""Where rows keep turns, pictures and answers: the known column names, and those of a dataset_info.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dataset.bad_rows import DataError

REGISTER = "dataset_info.json"  # LLaMA-Factory's registry of the columns and tags of the files beside it
TOOL = "tool"  # the role of a turn that calls a tool or holds what it returned; refused
SPEAKERS = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system",
            "tool": TOOL, "function": TOOL, "function_call": TOOL, "observation": TOOL}  # fmt: skip
PAIR, CALLS = "a preference pair", "tool calls"
# columns of a row, and keys of a turn, whose content is not trained on, and what it is: such rows are refused
UNSUPPORTED = {"videos": "video", "video": "video", "audios": "audio", "audio": "audio", "tools": CALLS,
               "tool_calls": CALLS, "function_call": CALLS, "chosen": PAIR, "rejected": PAIR, "chosen_messages": PAIR,
               "rejected_messages": PAIR, "history": "earlier turns"}  # fmt: skip


@dataclass(frozen=True)
class Layout:
    """Names of columns, and of the keys and roles of a turn, each in lookup order."""

    conversations: tuple[str, ...] = ("conversations", "messages")
    images: tuple[str, ...] = ("image_bytes", "images", "image")
    system: tuple[str, ...] = ("system",)
    label: tuple[str, ...] = ("label",)
    kto_tag: tuple[str, ...] = ("kto_tag",)  # whether the answer is a good one
    role: tuple[str, ...] = ("role", "from")
    content: tuple[str, ...] = ("content", "value")
    # Alpaca's columns, for rows without a conversation
    question: tuple[str, ...] = ("instruction",)
    context: tuple[str, ...] = ("input",)
    answer: tuple[str, ...] = ("output",)
    captions: tuple[str, ...] = ("captions", "caption")  # a list of texts, for rows that are no conversation
    speakers: Mapping[str, str] = field(default_factory=lambda: SPEAKERS)  # name in the file -> ours
    unsupported: Mapping[str, str] = field(default_factory=lambda: UNSUPPORTED)  # name in the file -> what it holds
    ranking: bool = False  # every row is a preference pair
    registered: str = ""  # the file's name in dataset_info.json

    def columns(self) -> tuple[str, ...]:
        return (*self.conversations, *self.images, *self.system, *self.label, *self.kto_tag, *self.question,
                *self.context, *self.answer, *self.captions, *self.unsupported)  # fmt: skip


# dataset_info.json's names of columns and tags -> ours
REGISTERED_COLUMNS = {"messages": "conversations", "images": "images", "system": "system", "prompt": "question",
                      "query": "context", "response": "answer", "kto_tag": "kto_tag", "role_tag": "role",
                      "content_tag": "content"}  # fmt: skip
REGISTERED_ROLES = {"user_tag": "user", "assistant_tag": "assistant", "system_tag": "system", "observation_tag": TOOL,
                    "function_tag": TOOL}  # fmt: skip


def layout_of(path: Path) -> Layout:
    """The known names, preceded by those of a dataset_info.json beside the file, if there is one."""
    file = path.parent / REGISTER
    if file.is_file() and file != path:
        for title, entry in read_register(file).items():
            if Path(entry["file_name"]).name == path.name:
                return _registered(title, entry)
    return Layout()


def read_register(file: Path) -> dict[str, Mapping[str, Any]]:
    """The entries of a dataset_info.json that name a file; DataError if it is not JSON."""
    try:
        found = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(
            f"{file} cannot be read ({error}); expected LLaMA-Factory's registry of the files beside it: repair it, or "
            "move it away"
        ) from error
    entries = found.items() if isinstance(found, Mapping) else ()
    return {title: entry for title, entry in entries
            if isinstance(entry, Mapping) and isinstance(entry.get("file_name"), str)}  # fmt: skip


def _registered(title: str, entry: Mapping[str, Any]) -> Layout:
    """The layout of an entry: its names of columns and tags before the known ones."""
    parts = [part for part in (entry.get("columns"), entry.get("tags")) if isinstance(part, Mapping)]
    given = {theirs: name for part in parts for theirs, name in part.items() if isinstance(name, str)}
    names = {ours: tuple(dict.fromkeys((given[theirs], *getattr(Layout(), ours))))
             for theirs, ours in REGISTERED_COLUMNS.items() if theirs in given}  # fmt: skip
    tags = {given[tag]: role for tag, role in REGISTERED_ROLES.items() if tag in given}
    unsupported = {name: what for name, what in UNSUPPORTED.items() if name not in given.values()}
    unsupported |= {given[theirs]: what for theirs, what in UNSUPPORTED.items() if theirs in given}
    return Layout(**names, speakers=SPEAKERS | tags, unsupported=unsupported, ranking=bool(entry.get("ranking")),
                  registered=title)  # fmt: skip
