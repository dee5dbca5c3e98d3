"""dataset.easy_vqa: the package's questions as rows, and what they say of each picture."""

from __future__ import annotations

import sys
import types

import pytest
from tiny import png

from dataset.bad_rows import BadRows, DataError
from dataset.easy_vqa import caption, main
from dataset.formats.sources import read_records

QUESTIONS = [
    ("what color is the shape?", "blue", 0),
    ("is there not a circle?", "no", 0),
    ("is there a circle?", "no", 1),
]


@pytest.mark.parametrize(("asked", "said"), [
    ([("what is the blue shape?", "rectangle")], "a blue rectangle"),
    ([("what is the color of the circle?", "teal")], "a teal circle"),
    ([("what shape is in the image?", "triangle"), ("is a red shape present?", "yes")], "a red triangle"),
    ([("is no circle present?", "no"), ("does the image not contain a gray shape?", "no")], "a gray circle"),
    ([("is there not a circle?", "yes"), ("is there a gray shape in the image?", "yes")], ""),
    ([("what color is the shape?", "black"), ("does the image contain a circle?", "no")], ""),
])  # fmt: skip
def test_a_caption_is_what_the_questions_and_answers_say_together(asked, said):
    assert caption(asked) == said


def test_each_question_is_a_row_whose_label_is_its_answer(tmp_path, monkeypatch, capsys):
    package = types.ModuleType("easy_vqa")
    files = {}
    for image in (0, 1):
        files[image] = str(tmp_path / f"{image}.png")
        (tmp_path / f"{image}.png").write_bytes(png())
    for split in ("train", "test"):
        vars(package)[f"get_{split}_questions"] = lambda: tuple(map(list, zip(*QUESTIONS, strict=True)))
        vars(package)[f"get_{split}_image_paths"] = lambda: files
    monkeypatch.setitem(sys.modules, "easy_vqa", package)
    main([str(tmp_path / "out")])
    said = capsys.readouterr().out
    assert "2 pictures; rows: 3 in train.jsonl, 1 in captions_train.jsonl, 2 in words_train.jsonl" in said
    bad = BadRows()
    for split in ("train", "test"):
        records = list(read_records(tmp_path / "out" / f"{split}.jsonl", bad=bad))
        assert [record.label for record in records] == ["blue", "no", "no"]
        assert [record.turns[0].text for record in records] == [f"<image>\n{question}" for question, _, _ in QUESTIONS]
        assert [record.images[0].name for record in records] == [f"{split}_{image}.png" for _, _, image in QUESTIONS]
        (told,) = read_records(tmp_path / "out" / f"captions_{split}.jsonl", bad=bad)
        assert told.label == "a blue circle" and told.images[0].read_bytes() == png()
        words = list(read_records(tmp_path / "out" / f"words_{split}.jsonl", bad=bad))
        assert [record.turns[0].text for record in words] == [f"a blue circle\n{QUESTIONS[i][0]}" for i in (0, 1)]
        assert not any(record.images for record in words)
    assert not bad.bad


def test_without_the_package_it_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "easy_vqa", None)
    with pytest.raises(DataError, match="pip install easy-vqa"):
        main([str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()
