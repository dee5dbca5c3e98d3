"""Captions of one length: each row of a study gets the scores of the forced captions beside its own."""

from __future__ import annotations

import json

import pytest

import eval_vlm
from dataset.bad_rows import BadRows
from model.checkpoints import read_json
from scoring.answer_file import read_answers, write_answers
from tools.studies import lengths

REFERENCES = ["a man and a dog", "a man with a dog"]


def test_forced_captions_are_scored_beside_the_others(tmp_path, monkeypatch):
    calls = []

    def evaluate(argv):
        calls.append(argv)
        given = dict(zip(argv, argv[1:], strict=False))
        text = "a man, a cat" if "--min_new_tokens" in argv else "a man"
        rows = [{"picture": f"{i}.jpg", "prompt": "?", "references": REFERENCES, "answer": text, "stopped": True,
                 "tokens": 10, "scores": {"cider_d": [1, 1], "chair_i": [text.count("cat"), 1 + text.count("cat")]}}
                for i in range(2)]  # fmt: skip
        write_answers(given["--answers"], rows)
        if given["--scores"]:
            (tmp_path / "scores.json").write_text(json.dumps({"n": 2, "metrics": {"chair_i": 0.0}}))

    monkeypatch.setattr(eval_vlm, "main", evaluate)
    lengths.main(["--n", "2", "--answers", str(tmp_path / "a.jsonl"), "--scores", str(tmp_path / "scores.json")])
    assert calls[1][2:6] == ["--min_new_tokens", "64", "--max_new_tokens", "64"]
    assert calls[1][calls[1].index("--scores") + 1] == ""  # a recipe would name a file of its own
    rows = read_answers(tmp_path / "a.jsonl", BadRows(0.0))
    assert all(row["answer"] == "a man" and row["scores"]["chair_i"] == (0, 1) for row in rows)
    assert all(row["scores"]["forced_chair_i"] == (1, 2) for row in rows)
    assert rows[0]["scores"]["forced_absent_per_100_tokens"] == (100, 10)
    metrics = read_json(tmp_path / "scores.json")["metrics"]
    assert metrics["chair_i"] == 0 and metrics["forced_chair_i"] == pytest.approx(0.5)
