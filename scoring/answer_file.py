"""Files of answers, one JSON object a line, that a later run can be compared with.

    {"picture": "1.jpg", "path": "/data/1.jpg", "prompt": ..., "references": [...], "answer": ..., "stopped": true,
     "tokens": 12, "scores": {"exact": [0.0, 1], ...}}

`path` is there where the picture is a file, `facts` where it is a scene. Scores are [numerator, denominator].
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from dataset.atomic import encoded, replacing
from dataset.bad_rows import BadRow, BadRows, DataError
from dataset.formats.rows import stream_rows
from dataset.picturebook.facts import Scene
from scoring.metrics import SampleScores
from scoring.page import facts_line
from scoring.tasks import Asked, Task

TEXTS = ("picture", "prompt", "answer")
Row = dict[str, Any]


def answer_rows(
    task: Task, texts: Sequence[str], stopped: Sequence[bool], tokens: Sequence[int], scores: Sequence[SampleScores]
) -> list[Row]:
    """One row for each answer to a task, in order."""
    return [
        _about(one) | {"answer": text, "stopped": end, "tokens": length, "scores": score}
        for one, text, end, length, score in zip(task.about(), texts, stopped, tokens, scores, strict=True)
    ]


def _about(asked: Asked) -> Row:
    files = [picture for picture in asked.pictures if isinstance(picture, Path)]
    scenes = [picture for picture in asked.pictures if isinstance(picture, Scene)]
    row: Row = {"picture": ", ".join(file.name for file in files) or asked.id}
    if files:
        row["path"] = str(files[0].resolve())
    row["prompt"] = asked.prompt
    if asked.references:
        row["references"] = list(asked.references)
    if scenes:
        row["facts"] = facts_line(scenes[0])
    return row


def write_answers(path: Path | str, rows: Iterable[Row]) -> None:
    """Write the rows atomically. ValueError for a score that JSON cannot represent."""
    with replacing(Path(path)) as file:
        for row in rows:
            file.write(encoded(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n"))


def read_answers(path: Path | str, bad: BadRows) -> list[Row]:
    """The rows of a file, scores as pairs of numbers; others are counted in `bad`. DataError where there are none."""
    if not Path(path).is_file():
        raise DataError(f"{path} is no file; expected the answers of a run: eval_vlm.py --answers FILE writes them")
    rows = []
    for row_id, row in stream_rows(Path(path)):
        bad.seen()
        try:
            rows.append(_checked(row))
        except BadRow as error:
            bad.add(row_id, error)
    bad.finish()
    if not rows:
        raise DataError(f"{path} has no answers; expected what eval_vlm.py --answers FILE writes")
    return rows


def _checked(row: Any) -> Row:
    if isinstance(row, BadRow):
        raise row
    held = row if isinstance(row, dict) else {}
    missing = [name for name in TEXTS if not isinstance(held.get(name), str)]
    if missing:
        raise BadRow("not an answer", f"no {' and no '.join(missing)}; expected what eval_vlm.py --answers writes")
    references, scores = held.get("references", []), held.get("scores")
    if not isinstance(references, list) or not all(isinstance(one, str) for one in references):
        raise BadRow("references are not texts", f"{references!r:.80}")
    if not isinstance(scores, dict) or not all(map(_is_ratio, scores.values())):
        raise BadRow("scores are not pairs of numbers", f"{scores!r:.80}")
    return {**held, "references": references, "scores": {name: tuple(pair) for name, pair in scores.items()}}


def _is_ratio(value: Any) -> bool:
    return (
        isinstance(value, list) and len(value) == 2
        and all(isinstance(one, (int, float)) and abs(one) < math.inf for one in value)
    )  # fmt: skip
