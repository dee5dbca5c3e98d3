"""What is said before and after training of data that cannot be learned."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from tiny import QUICK, write_encoder, write_jsonl

import dataset.answers_seen
import train_pretrain
import train_vision
from dataset.answers_seen import AnswersSeen
from dataset.record import IGNORE
from engine.build import Encoder, encoder_note


def seen(*answers: tuple[int, ...]) -> AnswersSeen:
    found = AnswersSeen()
    for ids in answers:
        found.add(np.array([IGNORE, IGNORE, *ids], np.int32))
    return found


def test_the_answers_are_counted_and_the_commonest_has_its_share():
    found = seen(*[(5, 1)] * 6, *[(7, 8, 1)] * 10, *[(5, 1)] * 6, *[(9, 1)] * 8)
    number, share = found.commonest()
    assert (found.rows, number, share) == (30, 0, 0.4) and found.few
    assert found.lines("a cat") == ["answers: 30 rows, 3 different; always 'a cat' would be right in 40.0%"]


def test_answers_alike_and_answers_half_alike_are_warned_of():
    said, warning = seen((5, 1), (5, 1)).lines("a")
    assert said == "answers: 2 rows, 1 different; always 'a' would be right in 100.0%"
    assert warning.startswith("warning: every row has the same answer")
    _, warning = seen(*[(5, 1)] * 11, *[(6, 1)] * 9).lines("a")
    assert warning.startswith("warning: more than half of the rows")
    assert len(seen(*[(5, 1)] * 10, *[(6, 1)] * 10).lines("a")) == 1


def test_nothing_is_said_where_answers_are_many():
    assert seen(*[(i, 1) for i in range(2, 40)]).lines("a") == []


def test_the_baseline_is_the_entropy_of_words_or_of_few_answers():
    many = seen((2, 1), (3, 1), (4, 1), (5, 1))  # 1: half of the tokens; four others: an eighth each
    assert not many.few and many.baseline() == pytest.approx(0.5 * math.log(2) + 0.5 * math.log(8))
    few = seen(*[(2, 1)] * 8, *[(3, 1)] * 8)  # a bit per row, of two tokens
    assert few.few and few.baseline() == pytest.approx(math.log(2) / 2)
    assert few.verdict(0.34) == "" and few.verdict(0.35).startswith("warning: loss 0.350 is not below 0.347")
    assert "--vision" in few.verdict(0.35) and "--vision" not in few.verdict(0.35, sees=False)


def test_memory_is_bounded_and_a_share_stays_right(monkeypatch):
    monkeypatch.setattr(dataset.answers_seen, "MOST", 3)
    found = seen(*[(5, 1)] * 30, *[(i, 1) for i in range(10, 30)])
    assert not found.few and found.commonest() == (0, 0.6)
    assert found.lines("a")[0] == "answers: 50 rows, at least 3 different; always 'a' would be right in 60.0%"
    assert len(found._first) == 3


def test_the_shipped_encoder_is_warned_of_where_pictures_are_files(tmp_path):
    shipped, own = (Encoder(None, None, "", folder) for folder in ("", "mine"))
    assert "picturebook_vit" in encoder_note(shipped, iter([Path("a.png")]))
    assert encoder_note(shipped, iter([b"png"])) and not encoder_note(shipped, iter([]))
    assert not encoder_note(own, iter([b"png"])) and not encoder_note(shipped, iter([object()]))


@pytest.mark.parametrize("main", [train_pretrain.main, train_vision.main])
def test_a_dry_run_on_data_says_how_many_answers_there_are(main, tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_jsonl(tmp_path, 30)
    parts = ["--llm", str(tiny / "lm"), "--vision", str(write_encoder(tmp_path / "vision"))]
    sizes = ["--image_size", "32", "--patch_size", "8", "--hidden_size", "64", "--layers", "1"]
    flags = sizes if main is train_vision.main else parts
    main(["--data", "data.jsonl", "--images", "images", "--dry-run", *QUICK, *flags])
    assert "answers: 29 rows, 3 different; always '" in capsys.readouterr().out


def test_a_training_that_learned_less_than_frequencies_says_so(tiny, tmp_path, capsys):
    flags = ["--data", tiny / "data.jsonl", "--images", tiny / "images", "--llm", tiny / "lm",
             "--vision", tiny / "vision", "--out", tmp_path / "run", "--steps", 1, *QUICK]  # fmt: skip
    train_pretrain.main([str(flag) for flag in flags])
    assert "it learned less than those. Likely causes:" in capsys.readouterr().out
