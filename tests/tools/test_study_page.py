"""The page of a study: every arm's answers under the same picture, filters, plots, nothing from elsewhere; rows."""

from __future__ import annotations

import base64
import html
import json
import random
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from tiny import png

import ablate
from dataset.bad_rows import DataError
from dataset.picturebook.captions import caption
from dataset.record import Record, Turn, turn_from_text
from model.checkpoints import write_json
from scoring.answer_file import answer_rows, write_answers
from scoring.bars import ANY, gain_signs
from scoring.tasks import ReferenceTask, picture_book_task, question_task
from tools.studies import gallery
from tools.studies.arms import Study
from tools.studies.curves import draw_curves
from tools.studies.figures import INK, PAPER, svg
from tools.studies.page import write_study
from tools.studies.results import Value, compare, crossed, gain_of, gains_table
from tools.studies.rows import in_common, kept_rows, named
from tools.studies.runner import Plan

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
EVIL = '</script><script>alert(1)</script>"><img src=x onerror=alert(2)>'
ARMS = ("plain", "wrong & <b>", "silent")
METRICS = ("statement_accuracy", "chair_i", "mean_tokens")


def plan_of(folder, **given) -> Plan:
    study = Study(f"Is it so? {EVIL}", dict.fromkeys(ARMS, ("train_sft.py",)), ARMS[0], metrics=METRICS, **given)
    return Plan("made-up", study, folder, 4)


def keep(plan: Plan, arm: str, seed: int, rows: list[dict]) -> None:
    folder = plan.path(arm, seed)
    folder.mkdir(parents=True)
    write_answers(folder / "answers.jsonl", rows)
    row = {"study": plan.name, "arm": arm, "seed": seed, "n": 4, "steps": 9, "tokens": 90, "supervised": 30,
           "seconds": 60.0, "command": plan.typed("--arm", arm, "--seed", str(seed)), "commands": [f"x {EVIL}"],
           "answers": f"{folder.name}/answers.jsonl", "metrics": {"f1": 0.5, "f1_ci95": [0.25, 0.75]}}  # fmt: skip
    write_json(folder / "row.json", row)


def answered(task, texts: list[str]) -> list[dict]:
    given = [True] * len(texts), [len(text) for text in texts]
    return answer_rows(task, texts, *given, task.samples(texts, *given))


@pytest.fixture(scope="module")
def scenes(tmp_path_factory) -> Plan:
    """A study of four scenes with its page: one arm is right, one says what is right of the next scene, one nothing of
    the last and else what the first says, but answers questions wrong."""
    plan, task = plan_of(tmp_path_factory.mktemp("study")), picture_book_task("test", 4)
    right = [caption(scene, "sentence", random.Random(0), "en") for scene in task.scenes]
    for seed in (42, 43):
        for arm, texts in zip(ARMS, (right, [*right[1:], EVIL], [*right[:3], ""]), strict=True):
            asked = question_task("test", 1)
            questions = [f"{EVIL} {i}" if arm == ARMS[2] else one.answer for i, (one, _) in enumerate(asked.asked)]
            keep(plan, arm, seed, answered(task, texts) + answered(asked, questions))
    ablate.report(plan, kept_rows(plan, ARMS, ()), plan.folder)
    return plan


def page_of(plan: Plan) -> str:
    return (plan.folder / f"{plan.name}.html").read_text("utf-8")


def entries_of(page: str) -> list[tuple[list[str], dict[str, float], str]]:
    """(tags, values, text) of each entry."""
    found = re.findall(r"<article class=\"study\" data-tags='([^']*)' data-values='([^']*)'[^>]*>(.*?)</article>", page)
    return [(json.loads(html.unescape(tags)), json.loads(html.unescape(values)), text) for tags, values, text in found]


def test_an_answer_that_states_nothing_is_not_called_right():
    assert "✓ 0 of 2 statements false" in gallery.verdict({"statement_accuracy": (2, 2)})
    wrong = {"statement_accuracy": (1, 2), "statement_accuracy/thing": (1, 2)}
    assert "✗ 1 of 2 statements false" in gallery.verdict(wrong)
    nothing = gallery.verdict({"statement_accuracy": (0, 0)})
    assert "no statement" in nothing and "✓" not in nothing and "faint" in nothing


def test_each_picture_has_the_answers_of_all_arms_with_their_errors_and_arms_that_agree_stand_together(scenes):
    page = page_of(scenes)
    entries = entries_of(page)
    assert len(entries) == 4 and all(text.count("<img") == 1 for *_, text in entries)
    tags, values, text = entries[1]
    assert tags[:3] == ["arms differ", ANY, f"{ARMS[1]}: {ANY}"] and f"{ARMS[0]}: {ANY}" not in tags
    assert values["false statements: plain"] == 0 < values[f"false statements: {ARMS[1]}"] == values["false statements"]
    assert text.count("<section>") == 2 and "<h3>plain · silent</h3>" in text and 'class="wrong"' in text
    assert "wrong &amp; &lt;b&gt;</h3>" in text and "✓ 0 of " in text and "statements false" in text
    assert "questions answered wrong by some arm" in entries[0][2] and "questions answered" not in text
    assert f"{ARMS[2]}: {ANY}" in entries[0][0] and all(f"{ARMS[0]}: {ANY}" not in tags for tags, *_ in entries)


def test_the_page_fetches_nothing_and_hostile_text_stays_text(scenes):
    page = page_of(scenes)
    assert EVIL not in page and html.escape(EVIL) in page and "onerror=alert(2)>" not in page
    resources = re.findall(r'(?:src|srcset|href)="([^"]*)"', page)
    assert resources and all(one.startswith("data:image/") for one in resources)
    assert str(scenes.folder) not in page and "http" not in re.sub(r"data:image/[^\"]*|http-equiv", "", page)


def test_the_page_says_what_the_arms_were_given_and_how_they_differ(scenes):
    page = page_of(scenes)
    assert "<code>python ablate.py made-up --n 4</code>" in page and page.count("<td>42, 43</td><td>9</td>") == 3
    assert 'plain <span class="faint">(reference)</span>' in page and "all 4." in page and "of seed 42" in page
    assert re.search(r'<small class="(bad|faint)">(▼ )?-0\.\d{3} \[-0\.\d{3}, [-+]0\.\d{3}\], p 0\.\d{3}</small>', page)


def test_the_plots_follow_the_reader_s_light_or_dark_mode():
    values = {arm: {"f1": Value(0.5, [0.4, 0.6]), "false_at/1": Value(0.1, None)} for arm in "abcdefgh"}
    text = svg(values, ("f1", "chair_i"), "a", 3)
    assert "prefers-color-scheme:dark" in text and "var(--ink)" in text and INK not in text and PAPER not in text
    assert text == svg(values, ("f1", "chair_i"), "a", 3)


def test_photographs_are_shown_whether_they_are_files_or_rows_of_a_file(tmp_path):
    inside = "data:image/png;base64," + base64.b64encode(png((0, 200, 0))).decode()
    lines = [{"image": inside, "conversations": [{"from": "human", "value": "<image>\nWhat?"},
                                                 {"from": "gpt", "value": "a dog"}]}] * 2  # fmt: skip
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "1.png").write_bytes(png((200, 0, 0)))
    turns = (turn_from_text("user", "<image>\nWhat?"), Turn("assistant", ("a dog",)))
    records = [Record("data.jsonl:1", (png((0, 200, 0)),), turns), Record("x", (tmp_path / "1.png",), turns),
               Record("gone:1", (b"",), turns)]  # fmt: skip
    plan = plan_of(tmp_path / "study", scored=f"eval_vlm.py --data {data}")
    for arm, texts in zip(ARMS, (["a dog"] * 3, ["a cat", "a dog", "a dog"], ["a cat", "", "a dog"]), strict=True):
        keep(plan, arm, 42, answered(ReferenceTask(tuple(records)), texts))
    ablate.report(plan, kept_rows(plan, ARMS, ()), plan.folder)
    first, second, third = entries_of(page_of(plan))
    assert [text.count("data:image/jpeg") for *_, text in (first, second, third)] == [1, 1, 0]
    assert first[0] == ["arms differ", ANY, f"{ARMS[1]}: {ANY}", f"{ARMS[2]}: {ANY}", "reference not contained"]
    assert '✗ a cat <span class="faint">wrong &amp; &lt;b&gt; · silent</span>' in first[2] and third[0] == []
    assert "(expected: a dog)" in first[2]


def test_no_more_pictures_than_fit_in_a_page_are_shown_and_it_says_so(scenes, tmp_path, monkeypatch):
    monkeypatch.setattr(gallery, "PICTURES", 3)
    monkeypatch.setattr("tools.studies.page.svg", lambda *given: "")
    plan = replace(scenes, folder=Path(shutil.copytree(scenes.folder, tmp_path / "copy")))
    rows = kept_rows(plan, ARMS, ())
    curves = plan.folder / "curves.png"
    assert draw_curves(curves, [{"arm": "plain", "seed": 42, "curve": [{"epoch": 1, "test": 0.5}]}], "?")
    write_study(plan, rows, compare(crossed(rows, plan.folder), ARMS[0]), ARMS[0], curves)
    assert base64.b64encode(curves.read_bytes()).decode() in page_of(plan)
    page = page_of(plan)
    assert len(entries_of(page)) == 3 and "the first 3 of 4" in page


def test_arms_that_were_asked_something_else_are_not_set_side_by_side():
    one, other = ({"picture": name, "prompt": "?", "answer": "", "references": [], "scores": {}} for name in "ab")
    with pytest.raises(DataError, match="not every arm was asked 'a: .'"):
        next(gallery.gallery({"first": [one], "second": [other]}))


def test_a_report_takes_what_is_finished_and_names_what_is_not(scenes, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(ablate.STUDIES, scenes.name, scenes.study)
    monkeypatch.setattr(ablate, "run_study", None)
    plan = replace(scenes, folder=Path(shutil.copytree(scenes.folder, tmp_path / "copy")))
    shutil.rmtree(plan.path(ARMS[2], 43))
    ablate.main([scenes.name, "--report", "--out", str(plan.folder)])
    said = capsys.readouterr().out
    assert f"not there yet: {ARMS[0]} 44; {ARMS[1]} 44; {ARMS[2]} 43, 44\n" in said
    assert f"left out, as other arms lack the seed: {ARMS[0]} 43; {ARMS[1]} 43\n" in said
    kept = [json.loads(line) for line in (plan.folder / "made-up.jsonl").read_text("utf-8").splitlines()]
    assert [(row["arm"], row["seed"]) for row in kept] == [(arm, 42) for arm in ARMS]
    assert "Less 'plain'" in (plan.folder / "made-up.md").read_text("utf-8")
    with pytest.raises(DataError, match="no finished row; expected some: python ablate.py made-up"):
        ablate.main([scenes.name, "--report", "--out", str(tmp_path / "none")])


def test_arms_without_a_seed_in_common_cannot_be_compared():
    rows = [{"arm": "a", "seed": 42}, {"arm": "a", "seed": 43}, {"arm": "b", "seed": 43}]
    assert in_common(rows) == (rows[1:], rows[:1]) and named([("a", 1), ("b", 1), ("a", 2)]) == "a 1, 2; b 1"
    with pytest.raises(DataError, match="no seed in common .a: 42; b: 43"):
        in_common(rows[::2])


def test_a_difference_is_told_with_its_interval_and_p_and_marked_by_which_way_is_better():
    value = Value(0.5, [0.4, 0.6], -0.1, [-0.15, -0.05], 0.002)
    assert gain_of(value) == "-0.100 [-0.150, -0.050], p 0.002" and gain_of(Value(0.5, None)) == "-"
    assert gain_signs("f1", [-2, -1]) == ("bad", "▼ ") and gain_signs("chair_i", [-2, -1]) == ("good", "▼ ")
    assert gain_signs("false_at/3", [1, 2]) == ("bad", "▲ ") and gain_signs("mean_tokens", [1, 2]) == ("", "▲ ")
    assert gain_signs("f1", [-1, 1]) == ("", "") and gains_table({"a": {"f1": value}}, ("f1",), "a") == ""


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_a_browser_filters_the_gallery_and_shows_the_page_at_any_width_without_a_network(scenes):
    sync = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with sync.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for width in (1366, 390):
            page = browser.new_context(viewport={"width": width, "height": 800}).new_page()
            asked, errors = [], []
            page.on("request", lambda request, asked=asked: asked.append(request.url))
            page.on("pageerror", lambda error, errors=errors: errors.append(error))
            page.on("dialog", lambda dialog, errors=errors: errors.append(dialog))
            page.goto((scenes.folder / f"{scenes.name}.html").as_uri())
            shown = page.locator("article:visible")
            assert shown.count() == 4 and page.evaluate("document.documentElement.scrollWidth") <= width
            page.select_option("select[name=show]", f"{ARMS[2]}: {ANY}")
            assert shown.count() == 1
            page.select_option("select[name=show]", "")
            page.select_option("select[name=sort]", f"-false statements: {ARMS[1]}")
            counts = [int(text.split()[1]) for text in shown.locator("p.bad small").all_inner_texts()]
            assert counts == sorted(counts, reverse=True) and len(counts) >= 3
            page.fill("input[name=find]", "test:2")
            assert shown.count() == 1 and page.evaluate("document.querySelector('.plots img').naturalWidth") > 0
            assert not errors and all(url.startswith(("file:", "data:")) for url in asked)
        browser.close()
