"""Two files of answers set side by side."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tiny import png

from dataset.bad_rows import DataError
from dataset.record import Record, Turn, turn_from_text
from engine.command import guarded
from scoring.answer_file import answer_rows, write_answers
from scoring.metrics import totals
from scoring.tasks import ReferenceTask, picture_book_task
from tools import compare

THINGS = ("a dog runs", "two boys play football", "a red car stands there", "a woman in a boat", "birds over the sea")


def write(path: Path, texts: list[str], folder: Path, references=THINGS, prompt: str = "Describe it.") -> Path:
    """Answers about as many pictures, each with two references."""
    folder.mkdir(exist_ok=True)
    records = []
    for i in range(len(texts)):
        (folder / f"{i}.png").write_bytes(png((i, 9, 9)))
        turns = (turn_from_text("user", f"<image>\n{prompt}"), Turn("assistant", ("",)))
        thing = references[i % len(references)]
        records.append(Record(f"r:{i}", (folder / f"{i}.png",), turns, references=(thing, f"look, {thing}")))
    task = ReferenceTask(tuple(records))
    given = [True] * len(texts), [4] * len(texts)
    write_answers(path, answer_rows(task, texts, *given, task.samples(texts, *given)))
    return path


def rows_of(said: str) -> dict[str, list[str]]:
    """The table's cells by metric."""
    table = said[said.index("metric ") :].split("\n\n")[0].splitlines()[2:]
    return {cells[0]: cells[1:] for cells in (re.split(r"\s{2,}", line.strip()) for line in table)}


def test_a_better_run_is_told_from_a_worse_one(tmp_path, capsys):
    right = [THINGS[i % 5] for i in range(40)]
    half = [text if i % 2 else "a dog runs" for i, text in enumerate(right)]
    first, second = (write(tmp_path / f"{i}.jsonl", texts, tmp_path / "p") for i, texts in enumerate((half, right)))
    compare.main([str(first), str(second), "--page", str(tmp_path / "page.html")])
    said = capsys.readouterr().out
    table = rows_of(said)
    assert "40 answers in pairs" in said and "16 answers differ" in said
    assert table["exact"][:2] == ["0.600", "1.000"] and table["exact"][2].startswith("+0.400 [")
    assert float(table["exact"][3]) < 0.01 and table["exact"][4] == "16" == table["bleu_4"][4]
    assert {"bleu_1", "bleu_4", "cider_d", "rouge_l", "mean_length"} <= set(table)
    page = (tmp_path / "page.html").read_text("utf-8")
    assert page.count("data:image") == 40 and [page.count(f'<p class="text">{name}: ') for name in "AB"] == [40, 40]
    page = re.sub("</?mark[^>]*>", "", page)
    assert page.index("A: a dog runs") < page.index("B: a dog runs")  # those that differ come first


def test_equal_answers_are_not_told_apart(tmp_path, capsys):
    file = write(tmp_path / "a.jsonl", ["a cat"] * 12, tmp_path / "p")
    compare.main([str(file), str(file)])
    said = capsys.readouterr().out
    assert all(cells[2:] == ["+0.000 [+0.000, +0.000]", "1.000", "0"] for cells in rows_of(said).values())
    assert "0 answers differ" in said


def test_what_only_one_has_is_counted_named_and_left_out(tmp_path, capsys):
    """A has scored eight pictures, B five; CIDEr-D is that of the five."""
    texts = [THINGS[i % 5] for i in range(8)]
    first, second = (write(tmp_path / f"{n}.jsonl", texts[:n], tmp_path / "p") for n in (8, 5))
    compare.main([str(first), str(second)])
    said = capsys.readouterr().out
    assert "5 answers in pairs\n3 only in A, left out: 5.png: Describe it., 6.png" in said
    cider = rows_of(said)["cider_d"]
    assert cider[0] == cider[1]
    assert cider[2] == "+0.000 [+0.000, +0.000]"


def test_answers_to_other_prompts_do_not_pair(tmp_path):
    first = write(tmp_path / "a.jsonl", ["a"], tmp_path / "p")
    second = write(tmp_path / "b.jsonl", ["a"], tmp_path / "p", prompt="What is it?")
    with pytest.raises(DataError, match=r"(?s)no answer of A has its picture and prompt in B; .*1 only in B"):
        compare.main([str(first), str(second)])
    assert guarded(lambda: compare.main([str(first), str(tmp_path / "none.jsonl")])) == 1


def test_the_same_question_asked_twice_is_paired_in_order():
    row = {"picture": "1.jpg", "prompt": "?", "references": [], "scores": {}}
    one, two, other = ({**row, "answer": text} for text in "abc")
    pairs, notes = compare.paired([one, two], [other, two])
    assert pairs == [(one, other), (two, two)] and notes == []
    assert compare.paired([one], [{**other, "references": ["x"]}])[1] == [
        "1 have other references in B; captions of both are scored against those of A"
    ]


def test_scenes_are_drawn_with_both_answers_marked(tmp_path):
    task = picture_book_task("test", 3)
    for name, text in (("a", "一只猫"), ("b", "没有什么")):
        samples = task.samples([text] * 3)
        assert totals(samples)
        write_answers(tmp_path / f"{name}.jsonl", answer_rows(task, [text] * 3, [True] * 3, [2] * 3, samples))
    compare.main([str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl"), "--page", str(tmp_path / "p.html")])
    page = (tmp_path / "p.html").read_text("utf-8")
    assert page.count("data:image") == 3 and "<mark" in page and page.count("facts: ") >= 3


def test_a_picture_that_is_gone_leaves_its_answers_on_the_page(tmp_path):
    file = write(tmp_path / "a.jsonl", ["a cat"] * 2, tmp_path / "p")
    (tmp_path / "p" / "0.png").unlink()
    compare.main([str(file), str(file), "--page", str(tmp_path / "p.html")])
    page = (tmp_path / "p.html").read_text("utf-8")
    assert page.count("data:image") == 1 and page.count('<p class="text">A: ') == 2
