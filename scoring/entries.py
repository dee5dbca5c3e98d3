"""The entries of a page of scores: each answer with its picture, its errors and what it can be sorted by."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from dataset.picturebook.facts import Scene
from scoring.bars import ANY, error_tags, sort_values
from scoring.page import Question, Shown, preview
from scoring.tasks import Asked

SIDE = 336  # pixels of a picture
Row = Mapping[str, Any]  # of answer_file.answer_rows


def scene_entries(scenes: Sequence[Scene], rows: Sequence[Row]) -> Iterator[Shown]:
    """Captions of scenes, which come first among the rows, each with the questions asked about its picture."""
    asked: dict[str, list[Row]] = defaultdict(list)
    for row in rows[len(scenes) :]:
        asked[row["picture"]].append(row)
    for number, (scene, row) in enumerate(zip(scenes, rows[: len(scenes)], strict=True), 1):
        further = asked[row["picture"]]
        questions = [question_of(one) for one in further]
        tags = merged([row, *further])
        title = f"#{number}"
        yield Shown(preview(scene, SIDE), row["answer"], title, scene, questions=questions, tags=tags,
                    values=sort_values(row["scores"]))  # fmt: skip


def reference_entries(about: Iterable[Asked], rows: Sequence[Row]) -> Iterator[Shown]:
    """Answers to a data set's prompts beside its references; those about no picture without one."""
    for asked, row in zip(about, rows, strict=True):
        picture = preview(asked.pictures[0], SIDE) if asked.pictures else None
        yield Shown(picture, row["answer"], f"{row['picture']}: {asked.prompt}", references=asked.references,
                    tags=error_tags(row["scores"]), values=sort_values(row["scores"]))  # fmt: skip


def question_of(row: Row) -> Question:
    return Question(row["prompt"], row["answer"], " / ".join(row.get("references", ())), not error_tags(row["scores"]))


def merged(rows: Iterable[Row]) -> tuple[str, ...]:
    """The errors of several answers, ANY first."""
    found = dict.fromkeys(tag for row in rows for tag in error_tags(row["scores"]) if tag != ANY)
    return (ANY, *found) if found else ()
