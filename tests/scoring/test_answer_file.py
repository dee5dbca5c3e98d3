"""Files of answers are read back as they were written, whatever the answers hold."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dataset.bad_rows import BadRows, DataError, TooManyBadRows
from dataset.record import Record, Turn, turn_from_text
from scoring.answer_file import answer_rows, read_answers, write_answers
from scoring.metrics import totals
from scoring.tasks import ReferenceTask, picture_book_task, question_task

TURNS = (turn_from_text("user", "<image>\n这是什么？"), Turn("assistant", ("一只猫。",)))


def test_answers_are_read_back_with_their_scores(tmp_path):
    """Half a surrogate pair, as a broken tokenizer may say it, and a line break in an answer."""
    task = ReferenceTask(tuple(
        Record(f"d:{i}", (picture,), TURNS, references=("一只猫。", "猫")) for i, picture in
        enumerate((Path("a/1.jpg"), b"picture", Path("b\udcff.jpg")))
    ))  # fmt: skip
    texts = ["一只猫", "half \ud83d of it\nand more", ""]
    samples = task.samples(texts, [True, False, True], [3, 9, 0])
    write_answers(tmp_path / "new" / "a.jsonl", answer_rows(task, texts, [True, False, True], [3, 9, 0], samples))
    rows = read_answers(tmp_path / "new" / "a.jsonl", BadRows())
    assert [row["answer"] for row in rows] == texts and [row["picture"] for row in rows][:2] == ["1.jpg", "d:1"]
    assert rows[0]["path"] == str(Path("a/1.jpg").resolve()) and "path" not in rows[1]
    assert {row["prompt"] for row in rows} == {"这是什么？"} and rows[0]["references"] == ["一只猫。", "猫"]
    assert [(row["stopped"], row["tokens"]) for row in rows] == [(True, 3), (False, 9), (True, 0)]
    assert totals([row["scores"] for row in rows]) == totals(samples)


def test_answers_about_scenes_have_their_facts_and_questions_their_answers():
    captions, questions = picture_book_task("test", 2), question_task("test", 2)
    rows = answer_rows(captions, ["猫", "狗"], [True] * 2, [1] * 2, [{}] * 2)
    assert [row["picture"] for row in rows] == ["picturebook/test:0", "picturebook/test:1"]
    assert all("×" in row["facts"] and row["prompt"] == captions.prompt for row in rows)
    count = len(questions.asked)
    rows = answer_rows(questions, ["有"] * count, [True] * count, [1] * count, [{}] * count)
    for row, (question, _) in zip(rows, questions.asked, strict=True):
        assert row["prompt"] == question.text and row["references"] == [question.answer]
        assert captions.scenes[int(row["picture"].rpartition(":")[2])] == question.scene


GOOD = {"picture": "1.jpg", "prompt": "?", "answer": "a", "scores": {"exact": [1.0, 1]}}


@pytest.mark.parametrize(
    "line, reason",
    [
        ("{not json", "row is not JSON"),
        ("[1]", "no picture and no prompt and no answer"),
        (json.dumps({**GOOD, "answer": None}), "no answer; expected what eval_vlm.py --answers writes"),
        (json.dumps({**GOOD, "scores": {"exact": [1]}}), "scores are not pairs of numbers"),
        (json.dumps({**GOOD, "scores": {"exact": [float("nan"), 1]}}), "scores are not pairs of numbers"),
        (json.dumps({**GOOD, "references": "a"}), "references are not texts"),
    ],
)
def test_a_bad_line_is_counted_and_named(tmp_path, line, reason):
    path = tmp_path / "a.jsonl"
    path.write_text(f"{json.dumps(GOOD)}\n{line}\n", "utf-8")
    bad = BadRows(0.5)
    (row,) = read_answers(path, bad)
    assert row["scores"] == {"exact": (1.0, 1)} and row["references"] == []
    assert reason in bad.report() and "a.jsonl:2" in bad.report()
    with pytest.raises(TooManyBadRows):
        read_answers(path, BadRows())


def test_a_file_without_answers_is_an_error(tmp_path):
    (tmp_path / "a.jsonl").write_text("{}\n", "utf-8")
    with pytest.raises(DataError, match="has no answers; expected what eval_vlm.py --answers FILE writes"):
        read_answers(tmp_path / "a.jsonl", BadRows(1.0))
    with pytest.raises(DataError, match="is no file; expected the answers of a run"):
        read_answers(tmp_path / "none.jsonl", BadRows())
