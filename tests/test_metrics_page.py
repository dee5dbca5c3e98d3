"""docs/metrics.md: its examples are what the functions give, and every metric that is printed stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dataset.picturebook.questions import SAMPLINGS
from dataset.picturebook.world import make_scene
from dataset.record import IMAGE, Record, Turn
from scoring import metrics
from scoring.controls import CONTROLS, HEADLINES, controls, gains, variety
from scoring.hallucination import hallucination_scores
from scoring.report import DETAILS, FIRST, IN_UNITS, OVER_ALL
from scoring.tasks import ReferenceTask, picture_book_task, question_task
from tools.compare import HEADS

TEXT = (Path(__file__).resolve().parent.parent / "docs" / "metrics.md").read_text("utf-8")
ROW = r"^\| `([^`]+)` (\|[^\n]+\|) ([^|\n]+) \|$"
ROWS = {name: cells for name, cells, _ in re.findall(ROW, TEXT, re.MULTILINE)}
ELSEWHERE = {"meteor": "needs java", "answers changed": "by tools.compare"}


def test_the_examples_are_what_the_functions_give():
    space: dict = {}
    checked = 0
    for code, name, _, example in re.findall(rf"^```python\n(.*?)^```|{ROW}", TEXT, re.DOTALL | re.MULTILINE):
        if code:
            exec(compile(code, "metrics.md", "exec"), space)
        elif name in ELSEWHERE:
            assert example == ELSEWHERE[name]
        else:
            key, _, said = example.rpartition(": ")
            whole = key if name.count("<") > 1 else re.sub("<[^>]+>", key, name) if key else name
            assert figure(whole, space["found"][whole]) == said, name
            checked += 1
    assert checked > 50


def figure(name: str, value) -> str:
    digits = 1 if name.removeprefix("question_") in IN_UNITS else 3
    if isinstance(value, tuple):
        top, bottom = value
        one = f" = {top / bottom:.{digits}f}" if bottom else ""
        ratio = f"{top:g}/{bottom:g}{one}"
        return ratio if top == int(top) else one.removeprefix(" = ")
    return str(value) if isinstance(value, int) else f"{value:.{digits}f}"


def stands_there(name: str) -> bool:
    """Whether the page has a metric: by its name, by the pattern of a row, or with a prefix or suffix of one."""
    if name in ROWS or name.endswith("_ci95"):
        return name in ROWS or stands_there(name.removesuffix("_ci95"))
    metric, _, part = name.rpartition("/")
    for row, cells in ROWS.items():
        fixed, mark, what = row.partition("<")
        if what == "metric>" and name.startswith(fixed) and stands_there(name.removeprefix(fixed)):
            return True
        if what in ("type>", "sampling>") and metric == fixed.rstrip("/") and f"`{part}`" in cells:
            return True
        if mark and re.fullmatch(re.escape(fixed) + {"n>": r"\d+", "label>": ".+"}.get(what, "\0"), name):
            return True
    return metric.startswith("pope_") and metric in ROWS and part in SAMPLINGS and f"`{part}`" in "".join(ROWS.values())


@pytest.fixture(scope="module")
def printed() -> set[str]:
    """The name of every metric in a score file of each task, and in the tables' own lists."""
    book, asked = picture_book_task("test", 12, language="en"), question_task("test", 12, "en")
    turns = (Turn("user", (IMAGE,)), Turn("assistant", ("a dog",)))
    captions = ReferenceTask(tuple(Record(str(i), (b"",), turns, references=("a dog", "a cat")) for i in range(3)))
    labelled = ReferenceTask(tuple(Record(word, (b"",), (turns[0], Turn("assistant", (word,))), label=word)
                                   for word in ("dog", "cat")))  # fmt: skip
    along = hallucination_scores("a dog", make_scene("test", 0), 3)
    names = {*along, *FIRST, *DETAILS, *OVER_ALL, *(f"{prefix}cider_d" for prefix in CONTROLS if prefix)}
    for task in (book, asked, captions, labelled):
        count = len(task.about())
        samples = task.samples(["a dog"] * count, [True] * count, [3] * count)
        found = metrics.summarise(samples, resamples=10) | variety(task, ["a dog"] * count)
        names |= {*found, *metrics.with_prefix("blank_", found), *gains("blank", samples, samples)}
        if task is captions:
            names |= set(controls(task, ["a dog"] * count, ["a cat"]))
    return names


def test_every_metric_that_is_printed_stands_there(printed):
    assert len(printed) > 200 and {"gain_over_blank/cider_d", "blank_chair_i_ci95", "vqa_accuracy/turn3"} <= printed
    assert sorted(name for name in printed if not stands_there(name)) == []
    unknown = ("bleu_5", "vqa_accuracy/size", "pope_f1/often", "blank_luck", "chair")
    assert not any(map(stands_there, unknown))


def test_every_row_is_of_a_metric_that_is_printed(printed):
    columns = {"A", "B", "B - A", "p", "answers changed"}
    assert all(any(column in head for head in HEADS) for column in columns)
    patterns = [re.sub("<[^>]+>", ".+", name) for name in ROWS if name not in columns and name != "meteor"]
    assert [one for one in patterns if not any(re.fullmatch(one, name) for name in printed)] == []


def test_the_page_names_the_headlines_that_gains_are_printed_of():
    (line,) = [line for line in TEXT.splitlines() if line.startswith("The `gain_over_")]
    assert all(f"`{name}`" in TEXT[TEXT.index(line):][:400] for name in HEADLINES)
