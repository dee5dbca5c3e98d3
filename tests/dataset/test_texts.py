"""The texts that a tokenizer is trained on are the answers of the training rows, all captions of each picture."""

from __future__ import annotations

import json

import pytest

from dataset import texts
from dataset.bad_rows import DataError

CAPTIONS = "a.jpg#0\t一只狗。\na.jpg#1\t草地上的狗。\nb.jpg#0\t两个人。\nc.jpg#0\t雪。\n"


def written(tmp_path, data: str) -> list[str]:
    texts.main(["--data", data, "--out", str(tmp_path / "out" / "texts.txt")])
    return (tmp_path / "out" / "texts.txt").read_text("utf-8").splitlines()


def test_all_captions_of_the_pictures_that_are_listed(tmp_path, capsys):
    (tmp_path / "captions.token").write_text(CAPTIONS, "utf-8")
    (tmp_path / "train.txt").write_text("a.jpg\nc.jpg\n", "utf-8")
    assert written(tmp_path, f"{tmp_path}/captions.token@{tmp_path}/train.txt") == ["一只狗。", "草地上的狗。", "雪。"]
    assert "3 texts" in capsys.readouterr().out


def test_the_answers_of_conversations_without_the_questions_line_by_line(tmp_path, capsys):
    answer = {"role": "assistant", "content": "A dog.\n\nIt runs."}
    turns = [{"role": "user", "content": "<image>\nWhat is it?"}, answer]
    rows = [{"image": "1.png", "conversations": turns}, {"image": "2.png"}]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    assert written(tmp_path, f"{tmp_path}/data.jsonl") == ["A dog.", "It runs."]
    assert "1 of 2 rows" in capsys.readouterr().out  # the bad one is counted


def test_nothing_is_written_where_there_is_no_answer(tmp_path):
    (tmp_path / "data.jsonl").write_text('{"image": "2.png"}\n', "utf-8")
    with pytest.raises(DataError):
        written(tmp_path, f"{tmp_path}/data.jsonl")
    assert not list((tmp_path / "out").iterdir())
