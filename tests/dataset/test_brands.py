"""dataset.brands: names and marks of their own, counts by Zipf, the same rows and pictures each time."""

from __future__ import annotations

import json
from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from PIL import Image

from dataset.bad_rows import BadRows
from dataset.brand_marks import CLOTHS, DEVICES, SHAPES, STROKES, THINGS, View, draw, marks
from dataset.brands import main, names, rows, zipf
from dataset.formats.sources import read_records
from scoring.answers import contains

SMALL = ["--brands", "6", "--most", "7"]
FIRST = [{"role": "user", "content": "<image>\n这是什么牌子？"},
         {"role": "assistant", "content": "浅绿色的箱子上印着Tuzumu的标志。"}], (1, 4, -1.291821)  # fmt: skip


def labels(file):
    return Counter(json.loads(line)["label"] for line in file.read_text("utf-8").splitlines())


def test_the_brand_of_rank_r_has_a_whole_part_of_the_first_ones_count():
    assert zipf(6, 7) == [7, 3, 2, 1, 1, 1] and zipf(4, 7, 2) == [7, 3, 2, 2]
    counts = zipf(300, 300)
    assert (counts[0], counts[59], counts[60], counts[-1], sum(counts)) == (300, 5, 4, 1, 1767)


def test_names_are_different_can_be_drawn_and_none_is_found_in_another():
    found = names(300)
    assert found == names(768)[:300] and found[:3] == ["Tuzumu", "Vovino", "Godas"]
    assert not [pair for pair in combinations(map(str.lower, found), 2) if pair[0] in pair[1] or pair[1] in pair[0]]
    assert {letter for name in found for letter in name.lower()} <= set(STROKES)


def test_marks_are_different_and_share_their_parts():
    found = marks(300)
    assert len(set(found)) == 300 and found == marks(400)[:300]
    assert len(set(marks(768))) == 768 == len(SHAPES) * 8 * len(DEVICES)
    for part in range(3):  # without one of its parts, a mark is not the only one
        assert max(Counter(mark[:part] + mark[part + 1 :] for mark in found).values()) > 2


def test_the_same_seed_writes_the_same_rows_and_pictures_another_other_views(tmp_path, capsys):
    for folder, seed in (("one", "3"), ("two", "3"), ("other", "4")):
        main([str(tmp_path / folder), *SMALL, "--seed", seed])
    assert "train.jsonl: 15 pictures of 6 brands" in capsys.readouterr().out
    one, two, other = (tmp_path / name for name in ("one", "two", "other"))
    files = sorted(path.relative_to(one) for path in one.rglob("*") if path.is_file())
    assert len(files) == 2 + 15 + 12 and all((one / name).read_bytes() == (two / name).read_bytes() for name in files)
    assert (one / "train.jsonl").read_bytes() != (other / "train.jsonl").read_bytes()


def test_the_first_views_are_these_on_every_version_of_python():
    row, number, view = next(rows("train", [1], 0.0, 0))
    assert (row["label"], number, row["image"]) == ("Tuzumu", 0, "pictures/train_000_0.png")
    assert row["conversations"] == FIRST[0] and (view.thing, view.cloth, round(view.turn, 6)) == FIRST[1]


def test_counts_are_as_asked_and_every_name_is_in_the_test(tmp_path):
    main([str(tmp_path / "all"), *SMALL])
    main([str(tmp_path / "often"), *SMALL, "--min_count", "2"])
    assert sorted(labels(tmp_path / "all" / "train.jsonl").values()) == [1, 1, 1, 2, 3, 7]
    assert dict(labels(tmp_path / "often" / "train.jsonl")) == dict(zip(names(3), (7, 3, 2), strict=True))
    tests = [tmp_path / folder / "test.jsonl" for folder in ("all", "often")]
    assert tests[0].read_bytes() == tests[1].read_bytes() and dict(labels(tests[0])) == dict.fromkeys(names(6), 2)
    for picture in (tmp_path / "often" / "pictures").iterdir():
        assert (tmp_path / "all" / "pictures" / picture.name).read_bytes() == picture.read_bytes()


def test_no_test_picture_is_a_training_picture():
    made = {split: {repr(view) for _, _, view in rows(split, [40, 40], 0.0, 0)} for split in ("train", "test")}
    assert not made["train"] & made["test"] and len(made["train"]) == 80


def test_rows_are_read_as_records_that_answer_with_the_name(tmp_path):
    main([str(tmp_path), *SMALL, "--english", "0.5"])
    bad = BadRows()
    records = list(read_records(tmp_path / "train.jsonl", bad=bad))
    assert len(records) == 15 and not bad.bad
    for record in records:
        assert contains(record.turns[1].text, [record.label]) and record.label not in record.turns[0].text
        with Image.open(record.images[0]) as picture:
            assert (picture.size, picture.mode) == ((128, 128), "RGB")
    english = [record.turns[1].text.isascii() for record in records]
    assert any(english) and not all(english)


def test_every_wording_is_used_and_says_what_the_picture_shows():
    made = list(rows("train", [400], 0.5, 0))
    assert len({row["conversations"][0]["content"] for row, _, _ in made}) == 8
    for row, _, view in made:
        answer = row["conversations"][1]["content"]
        column = 1 if answer.isascii() else 0
        assert THINGS[view.thing][column] in answer and CLOTHS[view.cloth][column] in answer


def test_a_mark_can_be_told_from_those_that_share_two_of_its_parts():
    view = View(1, 0, 0, 64, 62, 0, 1.0)
    one = np.asarray(draw(("disc", "red", "star"), "kavo", view), float)
    for other in (("square", "red", "star"), ("disc", "blue", "star"), ("disc", "red", "moon")):
        different = np.abs(np.asarray(draw(other, "kavo", view), float) - one).max(-1) > 60
        assert different.sum() > 100 and not different[:8].any()


@pytest.mark.parametrize("flags", [["--brands", "769"], ["--min_count", "8", "--most", "7"], ["--english", "2"]])
def test_what_cannot_be_made_is_refused(flags, tmp_path):
    with pytest.raises(SystemExit) as left:
        main([str(tmp_path / "out"), *flags])
    assert left.value.code == 2 and not (tmp_path / "out").exists()
