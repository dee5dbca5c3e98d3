"""Pages of scores: bars, errors to filter by, lists in parts; what their script does is seen in a browser."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from urllib.parse import quote

import pytest
from PIL import Image

from dataset.htmlpage import PART, Entry, entry_list, write_html
from dataset.picturebook.facts import Scene, Thing
from scoring.bars import ANY, LEADING, arrow, error_tags, score_bars, score_cell, sort_values
from scoring.entries import scene_entries
from scoring.metrics import caption_scores, text_scores
from scoring.page import SHOWN, Question, Shown, write_page
from tools.report.__main__ import main as index_main

SCENE = Scene(0, "sea", (Thing("dog", "brown", 2, None, "medium", 0.5, 0.8, 0.3, False),))
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def test_a_bar_is_as_long_as_its_score_and_its_interval_stands_at_its_ends():
    cell = score_cell({"f1": 0.5, "f1_ci95": [0.4, 0.65]}, "f1")
    assert cell.startswith("0.500 [0.400, 0.650]<span") and '<i style="width:50.0%"></i>' in cell
    assert '<b style="left:40.0%;width:25.0%"></b>' in cell
    assert 'width:25.0%"></i>' in score_cell({"mean_length": 15.0}, "mean_length", 60.0)


@pytest.mark.parametrize("metrics", [{"f1": None}, {}, {"f1": 3}, {"f1": -0.25}])
def test_what_is_no_share_has_no_bar(metrics):
    assert "bar" not in score_cell(metrics, "f1")


def test_the_leading_scores_come_first_and_the_others_are_folded_with_the_blanked_picture_beside():
    text = score_bars({"test": {"f1": 0.5, "statement_accuracy/colour": 0.25, "blank_f1": 0.1, "blank_only<": 0.2}})
    first, folded = text.split("<details>")
    assert "image blanked" in first and "0.100" in first and "0.250" not in first
    assert "2 more scores" in folded and "0.250" in folded and "only&lt;" in folded


def test_an_arrow_says_which_way_is_better_where_one_is():
    found = {name: re.sub(r" <.*>(.)</span>", r"\1", arrow(name)) for name in LEADING}
    assert [name for name, sign in found.items() if sign == "↓"] == [
        "contradiction_share", "chair_i", "chair_s", "loop_share"
    ]  # fmt: skip
    assert [name for name, sign in found.items() if not sign] == ["mean_length"]
    assert not arrow("gain_over_blank/f1") and not arrow("pope_yes_rate/random") and "↓" in arrow("blank_loop_share")


def test_errors_are_named_by_kind_from_an_answer_s_own_scores():
    def tags(text: str) -> tuple[str, ...]:
        return error_tags(caption_scores(text, SCENE) | text_scores(text, stopped=True))

    assert tags("海边有两只棕色的小狗。") == ()
    assert tags("海边有两只黑色的小狗。") == (ANY, "false: colour")
    assert tags("房间里有两只棕色的小狗和一只猫。") == (ANY, "false: thing", "false: place")
    assert tags("海边有两只棕色的小狗。" * 9)[-1] == "loops"
    assert error_tags({"stopped_share": (0.0, 1)}) == (ANY, "cut off")
    assert error_tags({"exact": (0.0, 1), "contains": (0.0, 1), "contains/red": (0.0, 1)}) == (ANY, "wrong: red")
    assert error_tags({"vqa_accuracy": (1.0, 1), "vqa_accuracy/what": (1.0, 1)}) == ()
    assert error_tags({"cider_d": (0.05, 1), "contains": (0.0, 1)})[0] == ANY
    assert error_tags({"cider_d": (0.5, 1), "contains": (0.0, 1)}) == ()


def test_a_list_is_sorted_by_scores_that_are_defined():
    scores = caption_scores("有一只猫。", SCENE)
    assert sort_values(scores)["chair_i"] == 1.0 and "colour_binding" not in sort_values(scores)
    assert set(sort_values(scores)) <= {*LEADING, "recall", "colour_binding"}


def test_the_questions_about_a_scene_stand_below_its_caption_with_their_errors():
    right, wrong = {"vqa_accuracy": (1.0, 1)}, {"vqa_accuracy/colour": (0.0, 1)}
    rows = [{"picture": name, "answer": "海边。", "scores": caption_scores("海边。", SCENE)} for name in ("a", "b")]
    asked = ({"picture": "b", "prompt": "?", "answer": "x", "references": ["y"], "scores": scores}
             for scores in (right, wrong, wrong))  # fmt: skip
    first, second = scene_entries([SCENE, SCENE], [*rows, *asked])
    assert not first.questions and [one.right for one in second.questions] == [True, False, False]
    assert first.tags == () and second.tags == (ANY, "wrong: colour")


def test_a_question_answered_wrong_is_shown_once_with_what_was_expected(tmp_path):
    asked = [Question("<b>?", "left", "right", False)] * 3 + [Question("how many?", "two", "two", True)]
    write_page(tmp_path / "p.html", [Shown(None, "a cat", questions=asked)])
    text = (tmp_path / "p.html").read_text("utf-8")
    assert text.count("✗ &lt;b&gt;? → left (expected: right) ×3") == 1 and "1 of 4 questions answered right" in text


def test_each_false_statement_is_named_below_the_caption_for_who_cannot_hover_or_see_colours(tmp_path):
    write_page(tmp_path / "p.html", [Shown(None, "海边有一只黑色的小狗。", scene=SCENE)])
    text = (tmp_path / "p.html").read_text("utf-8")
    assert "✗ colour of dog: black (wrong); facts: brown" in text and "✗ number of dog: 1 (wrong); facts: 2" in text
    assert all(f'mark.{name}::after{{content:"{sign}"' in text for name, sign in (("right", "✓"), ("wrong", "✗")))


@pytest.mark.parametrize("text, facts", [("一只狗。", "海边 · 小狗×2 棕色 中间"),
                                        ("A dog.", "by the sea · 2 dog brown middle")])  # fmt: skip
def test_the_facts_are_told_in_the_caption_s_language(tmp_path, text, facts):
    write_page(tmp_path / "p.html", [Shown(None, text, scene=SCENE)])
    assert f"facts: {facts}</p>" in (tmp_path / "p.html").read_text("utf-8")


def test_a_thousand_entries_make_a_page_of_which_a_part_is_shown(tmp_path):
    picture = Image.new("RGB", (8, 8))
    write_page(tmp_path / "p.html", (Shown(picture, f"number {i}") for i in range(SHOWN + 5)))
    text = (tmp_path / "p.html").read_text("utf-8")
    articles = re.findall(r"<article[^>]*>", text)
    assert len(articles) == SHOWN and sum(article.endswith(" hidden>") for article in articles) == SHOWN - PART
    assert "There are more: the first 1,000 are shown." in text
    assert "<noscript>" in text and text.count('loading="lazy"') == SHOWN


def test_tags_and_values_of_hostile_names_stay_data(tmp_path):
    entries = [Entry("x", ("'><b>",), {'"<i>': 1.0}), Entry("y", ("a b", "'><b>"), {'"<i>': 2.0})]
    write_html(tmp_path / "p.html", "<title>", entry_list(entries))
    text = (tmp_path / "p.html").read_text("utf-8")
    assert "<i>" not in text and "'><b>" not in text and "&lt;title&gt;" in text
    held = re.findall(r"data-tags='([^']*)' data-values='([^']*)'", text)
    assert [json.loads(html.unescape(one)) for one in held[1]] == [["a b", "'><b>"], {'"<i>': 2}]


def seen(page: Path, state: str = "") -> str:
    """The page's HTML after its script has run."""
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", f"{page.as_uri()}#{state}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60).stdout


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
def test_a_browser_filters_sorts_and_turns_over(tmp_path):
    shown = [Shown(None, f"number {i:03}", tags=("any error",) if i % 2 else (), values={"chair_i": i % 50 / 50})
             for i in range(100)]  # fmt: skip
    write_page(tmp_path / "p.html", shown)

    def numbers(state: str) -> list[int]:
        text = seen(tmp_path / "p.html", state)
        visible = re.findall(r'<article class=""[^>]*?>(?:(?!</article>).)*?number (\d+)', text, re.DOTALL)
        hidden = re.findall(r'<article class=""[^>]*? hidden="">(?:(?!</article>).)*?number (\d+)', text, re.DOTALL)
        return [int(number) for number in visible if number not in hidden]

    worst = numbers("show=" + quote("any error") + "&sort=-chair_i")
    assert worst[:4] == [49, 99, 47, 97] and len(worst) == PART and all(number % 2 for number in worst)
    assert numbers("part=2&find=" + quote("number 0")) == list(range(30, 60))


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
def test_a_browser_draws_a_line_for_each_run_of_an_index(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text('{"format": 1}')
        entries = [{"step": i, "loss": 1 / i, "val_loss": 2 / i} for i in range(1, 5)]
        (tmp_path / name / "log.jsonl").write_text("\n".join(map(json.dumps, entries)))
    index_main([str(tmp_path)])
    text = seen(tmp_path / "index.html")
    lines = re.findall(r'<polyline points="([^"]*)"', text)
    assert len(lines) == 2 and all(len(line.split()) == 4 for line in lines)
    heights = [float(point.split(",")[1]) for point in lines[0].split()]
    assert heights == sorted(heights) and heights[0] < heights[-1]  # a falling loss goes down on the screen
