"""Score files, tables, contact sheets and pages."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFont

from dataset.picturebook.facts import Relation, Scene, Thing
from scoring import page, report

METRICS = {"f1": 0.5, "f1_ci95": [0.4, 0.6], "mean_length": 12.34, "chair_i": None, "blank_f1": 0.25}


def test_scores_are_written_as_promised(tmp_path):
    path = tmp_path / "new" / "scores.json"
    report.write_scores(path, "python eval_vlm.py", 10, 3, "out/sft3", METRICS)
    content = json.loads(path.read_text(encoding="utf-8"))
    assert content == {
        "command": "python eval_vlm.py", "n": 10, "seed": 3, "checkpoint": "out/sft3", "metrics": METRICS,
    }  # fmt: skip
    assert os.listdir(path.parent) == ["scores.json"]


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "scores.json"
    report.write_scores(path, "first", 1, 0, "c", {})

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(report.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        report.write_scores(path, "second", 1, 0, "c", {})
    assert json.loads(path.read_text())["command"] == "first" and os.listdir(tmp_path) == ["scores.json"]


def test_what_json_cannot_say_is_refused(tmp_path):
    with pytest.raises(ValueError):
        report.write_scores(tmp_path / "s.json", "c", 1, 0, "c", {"f1": float("nan")})


def test_a_table_shows_values_intervals_gaps_and_the_blanked_image():
    rows = [re.split(r"\s{2,}", line) for line in report.score_table({"sft3": METRICS}).splitlines()]
    assert rows[0] == ["metric", "sft3", "image blanked"]
    assert rows[2:] == [["f1", "0.500 [0.400, 0.600]", "0.250"], ["chair_i", "-"], ["mean_length", "12.3"]]


def test_columns_stand_side_by_side_in_markdown():
    lines = report.score_table({"一": {"f1": 1.0}, "b": {"recall": 0.5}}, markdown=True).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[0] == ["metric", "一", "b"] and set(cells[1][0]) == {"-"}
    assert cells[2:] == [["f1", "1.000", ""], ["recall", "", "0.500"]]


def pictures(count: int) -> list[Image.Image]:
    return [Image.new("RGB", (40 + i, 60), (200, 30, 30)) for i in range(count)]


def test_english_captions_need_no_font(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "font_folders", list)
    assert report.contact_sheet(tmp_path / "sheet.png", pictures(5), ["a red wall"] * 5) is None
    sheet = np.asarray(Image.open(tmp_path / "sheet.png").convert("L"))
    assert sheet.shape[1] == 12 + 4 * 272 and sheet.min() < 60  # four columns, and text was drawn


def test_without_a_chinese_font_a_number_is_drawn_and_said(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "font_folders", list)
    note = report.contact_sheet(tmp_path / "a.png", pictures(2), ["一面墙", "a wall"])
    assert note and "1 captions" in note and "numbers" in note
    report.contact_sheet(tmp_path / "b.png", pictures(2), ["#1", "a wall"])
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_chinese_is_drawn_where_a_font_has_it(tmp_path):
    found = next(report.chinese_fonts(), None)
    if found is None:
        pytest.skip("no font with Chinese characters on this machine")
    assert report.contact_sheet(tmp_path / "sheet.png", pictures(1), ["一面墙"]) is None
    assert not report.has_chinese(ImageFont.load_default(16))


def test_a_user_without_a_home_has_fonts_too(monkeypatch):
    pwd = pytest.importorskip("pwd")

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", lambda number: {}[number])  # as of a container's made-up user
    assert Path("/usr/share/fonts") in report.font_folders()


def test_a_broken_font_is_no_reason_to_look_among_the_systems(tmp_path, monkeypatch):
    """Pillow, given the path of a file that it cannot read, takes the system's font of that name."""
    installed = tmp_path / "share" / "fonts" / "NotoSansCJK-Regular.ttc"
    installed.parent.mkdir(parents=True)
    installed.write_bytes(ImageFont.load_default(16).font_bytes)
    monkeypatch.setenv("XDG_DATA_DIRS", str(tmp_path / "share"))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / installed.name).write_bytes(b"not a font")
    monkeypatch.setattr(report, "font_folders", lambda: [tmp_path / "mine"])
    monkeypatch.setattr(report, "has_chinese", lambda font: True)
    assert ImageFont.truetype(str(tmp_path / "mine" / installed.name), 16)  # what must not happen
    assert report.find_font(16)[1] is False


def test_a_font_is_chosen_by_name_and_a_broken_one_is_passed_over(tmp_path, monkeypatch):
    (tmp_path / "NotoSansCJK-Regular.ttc").write_bytes(b"not a font")
    (tmp_path / "simhei.ttf").write_bytes(b"neither")
    (tmp_path / "DejaVuSans.ttf").write_bytes(b"no Chinese here")
    monkeypatch.setattr(report, "font_folders", lambda: [tmp_path, tmp_path / "missing"])
    assert [path.name for path in report.chinese_fonts()] == ["NotoSansCJK-Regular.ttc", "simhei.ttf"]
    assert report.find_font(16)[1] is False


def test_a_sheet_shows_the_first_of_many_pictures_and_says_so(tmp_path):
    one = Image.new("RGB", (8, 8))
    note = report.contact_sheet(tmp_path / "sheet.png", [one] * 1000, [("w" * 20 + " ") * 20] * 1000)
    assert note == f"the sheet shows the first {report.SHEET} of 1,000 pictures"
    assert Image.open(tmp_path / "sheet.png").height < 20_000
    assert report.contact_sheet(tmp_path / "sheet.png", [one] * report.SHEET, ["a"] * report.SHEET) is None


def test_captions_wrap_within_the_width():
    font = ImageFont.load_default(14)
    for text in ("a long caption of many words about nothing at all", "一只小狗，在海边。" * 4, "wordwithoutanyspaces"):
        lines = report._wrap(text, font, 150, most=99)
        assert "".join(lines).replace(" ", "") == text.replace(" ", "")
        assert all(font.getlength(line.rstrip("，。 ")) <= 150 or " " not in line for line in lines)
    assert len(report._wrap("word " * 200, font, 100)) == 12


SCENE = Scene(0, "sea", (Thing("dog", "brown", 2, None, "medium", 0.5, 0.8, 0.3, False),))


def marks(text: str) -> str:
    """The marked text with a letter for each mark and no hints: [+right], [-wrong], [?open]."""
    marked = page.marked(page.judged_parts(text, SCENE), text)
    for name, letter in (("right", "+"), ("wrong", "-"), ("open", "?")):
        marked = re.sub(f'<mark class="{name}" title="[^"<>]*">', f"[{letter}", marked)
    return marked.replace("</mark>", "]")


@pytest.mark.parametrize(
    "text",
    [
        "[?几只][+小狗]",
        "[+海边]有[+两只][+棕色]的[+小狗]、[-一只][-黑色]的[+狗]和&lt;一只&gt;[-猫]。",
        "[+小狗]在画面的[-左边]，正在[-奔跑]，[-看起来很大]。小狗在[-空中]。[-猫]在小狗的[?左边]。",
        "In the [-room], [+two] [-red] [+dogs] are [-on the left].",
        "[+Dogs], and [?a] [-cat].",
    ],
)
def test_each_word_is_marked_by_its_own_statement(text):
    bare = re.sub(r"\[[-+?]([^]]*)\]", r"\1", text).replace("&lt;", "<").replace("&gt;", ">")
    assert marks(bare) == text


def test_a_mark_tells_the_facts_and_the_facts_their_sides():
    text = '黑色的小狗在左边，骑着"猫"。'
    marked = page.marked(page.judged_parts(text, SCENE), text)
    assert 'title="colour of dog: black (wrong); facts: brown"' in marked
    assert 'title="side of dog: left (wrong); facts: middle (centre at 0.50)"' in marked
    assert 'title="relation of dog: riding cat (open); facts: no cat"' in marked
    man, horse = (Thing(kind, None, 1, "sitting", "medium", x, 0.8, 0.5, False) for kind, x in (("man", 0.2),) * 2)
    scene = Scene(0, "sea", (man, replace(horse, kind="horse", action=None)), Relation("riding", 0, 1))
    assert page.facts_line(scene) == "海边 · 男人×1 左边 坐着 · 马×1 左边 · 男人骑着马"


def test_a_page_is_one_file_that_fetches_nothing_and_runs_no_text(tmp_path):
    shown = [page.Shown(pictures(1)[0], "小狗<script>alert(1)</script>\udcff", scene=SCENE)]
    shown.append(page.Shown(pictures(1)[0], "", title='"><b>', references=("<i>",)))
    page.write_page(tmp_path / "page.html", shown, scores={"sft3": METRICS}, command="python eval_vlm.py")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert text.count("<script") == 1 and "alert(1)</script>" not in text and "<b>" not in text.replace("<b style", "")
    assert "http:" not in text and "https:" not in text and " src=\"data:" in text
    assert text.count("data:image/jpeg;base64,") == 2 and "小狗×2 棕色" in text
    assert "0.500 [0.400, 0.600]" in text and "(empty)" in text
