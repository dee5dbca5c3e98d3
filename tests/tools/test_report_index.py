"""python -m tools.report: an index of whatever lies in a folder of runs."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import pytest
from tiny import png

from engine.arguments import UsageError
from scoring.page import Shown, write_page
from scoring.pagelinks import run_of
from scoring.report import write_scores
from tools.report.__main__ import main
from tools.report.index import differing
from tools.report.runs import find, natural, read_run, read_scores

EVIL = '</script><script>alert(1)</script>"><img src=x onerror=alert(2)>'


def write_run(folder: Path, steps: int = 30, finished: bool = True, **settings) -> Path:
    """A run's folder as training leaves it, without weights."""
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"format": 1, "settings": {"seed": 42, "data": "", **settings}}))
    entries = [{"step": i, "loss": 3 / i, "tokens": 100 * i, "tokens_per_s": 50, "lr": 1e-3, "seconds": 2.0 * i}
               for i in range(1, steps + 1)]  # fmt: skip
    entries.append({"step": steps, "val_loss": 0.5, "seconds": 2.0 * steps + 1})
    (folder / "log.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    if finished:
        done = {"steps": steps, "loss": 0.1, "val_loss": 0.5, "seconds": 61.0}
        (folder / "finished.json").write_text(json.dumps(done))
    return folder


def write_samples(run: Path, answer: str, ids=("picturebook/val:0", "picturebook/val:1")) -> None:
    rows = [{"id": name, "prompt": "<image>\nDescribe it.", "reference": "a dog", "answer": answer} for name in ids]
    (run / "samples.json").write_text(json.dumps({"samples": rows}))


def index_of(root: Path, capsys) -> tuple[str, str]:
    """The page and what was printed."""
    main([str(root)])
    return (root / "index.html").read_text("utf-8"), capsys.readouterr().out


def test_finished_unfinished_and_broken_runs_are_listed_each_with_its_state(tmp_path, capsys):
    write_run(tmp_path / "good", learning_rate=0.5)
    write_run(tmp_path / "en" / "seed43" / "cut", 7, finished=False, learning_rate=0.25)
    (write_run(tmp_path / "torn") / "run.json").write_text('{"format": 1, "sett')
    (write_run(tmp_path / "lost") / "run.json").unlink()
    (write_run(tmp_path / "bytes") / "log.jsonl").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "nothing").mkdir()
    write_run(tmp_path / "cache" / "no_run")
    text, said = index_of(tmp_path, capsys)
    assert "5 runs (" in said and "3 broken" in said and "1 finished" in said and "1 unfinished" in said
    assert "torn is broken" in said and "no valid JSON" in said and "Empty folders: nothing" in text
    row = next(row for row in text.split("<tr>") if ">en/seed43/cut</a>" in row)
    assert "unfinished" in row and "<td>7</td>" in row and "<td>0.25</td>" in row
    assert "no_run" not in text


def test_only_settings_that_differ_are_columns(tmp_path):
    runs = [read_run(write_run(tmp_path / name, seed=seed, epochs=2), name) for name, seed in (("a", 1), ("b", 2))]
    assert differing(runs) == ["seed"]
    assert differing(runs[:1]) == []


def test_thirty_runs_have_their_curves_in_the_page_at_full_length_but_few_points(tmp_path, capsys):
    for i in range(30):
        write_run(tmp_path / f"run{i:02}", 2000 if i == 7 else 12, seed=i)
    text, _ = index_of(tmp_path, capsys)
    held = json.loads(re.search(r'id="curves">(.*?)</script>', text)[1])
    assert [run["name"] for run in held] == [f"run{i:02}" for i in range(30)]
    long = held[7]["loss"]
    assert len(long) <= 401 and long[0][0] == 1 and long[-1] == [2000, 200000, 4000, 0.0015]
    assert held[0]["val_loss"] == [[12, 1200, 25, 0.5]]  # so many tokens had been trained on


def test_scores_are_found_wherever_they_lie_and_what_is_no_score_is_left_out(tmp_path, capsys):
    write_run(tmp_path / "sft1")
    metrics = {"f1": 0.5, "f1_ci95": [0.4, 0.6], "chair_i": None}
    write_scores(tmp_path / "en" / "s.json", "python", 20, 1, "out/sft1", metrics)
    (tmp_path / "bad.json").write_text('{"metrics": {"f1": "high", "chair_i": [1, 2, 3], "recall": NaN}}')
    (tmp_path / "list.json").write_text("[1]")
    text, said = index_of(tmp_path, capsys)
    assert "2 files of scores" in said and "0.500 [0.400, 0.600]" in text and ">en/s.json</a>" in text
    assert read_scores(tmp_path / "bad.json", tmp_path).metrics == {}
    assert read_scores(tmp_path / "list.json", tmp_path) is None


def test_the_same_picture_stands_once_with_the_answers_of_all_stages_in_their_order(tmp_path, capsys):
    answers = {"lm": "一只猫。", "pretrain": "一匹马。", "sft1": "一个男人骑着马。"}
    for number, name in enumerate(answers):
        run = write_run(tmp_path / name)
        write_samples(run, answers[name])
        for file in run.iterdir():  # the language model is of a later date
            os.utime(file, (1e9 - number, 1e9 - number))
    text, _ = index_of(tmp_path, capsys)
    articles = text.split("<article>")[1:]
    assert len(articles) == 2 and all(article.count("data:image/jpeg") == 1 for article in articles)
    places = [articles[0].index(f">{name}</a>") for name in ("lm", "pretrain", "sft1")]
    assert places == sorted(places) and articles[0].count("<mark") >= 3


def test_a_sample_s_picture_is_the_one_that_the_run_kept_and_none_outside_its_folder(tmp_path, capsys):
    (tmp_path / "secret.png").write_bytes(png())
    for name, picture in (("a", "samples/0.jpg"), ("b", "../secret.png"), ("c", "samples/none.jpg")):
        run = write_run(tmp_path / name)
        (run / "samples").mkdir()
        (run / "samples" / "0.jpg").write_bytes(png())
        sample = {"id": f"mine:{name}", "prompt": "?", "reference": "r", "answer": "a", "picture": picture}
        (run / "samples.json").write_text(json.dumps({"samples": [sample, {"id": 3}, "x"]}))
    text, _ = index_of(tmp_path, capsys)
    articles = text.split("<article>")[1:]
    shown = {re.search(r"<h3>(.*?)</h3>", article)[1]: "data:image" in article for article in articles}
    assert shown == {"mine:a": True, "mine:b": False, "mine:c": False}


def test_no_text_of_a_run_becomes_html(tmp_path, capsys):
    run = write_run(tmp_path / "a<b>&'", data=EVIL)
    write_run(tmp_path / "other")
    write_samples(run, EVIL, ids=(EVIL,))
    write_scores(run / "<i>.json", "python", 1, 0, EVIL, {"f1": 1.0})
    text, _ = index_of(tmp_path, capsys)
    assert "alert(1)" in text and "<script>alert" not in text and "<img src=x" not in text and "<b>&'" not in text
    assert text.count("<script") == 2  # the curves' points and the script that draws them
    assert "http:" not in text and "https:" not in text


def test_the_pages_of_a_run_and_the_index_are_linked_to_each_other_and_stay_so_when_moved(tmp_path, capsys):
    root = tmp_path / "out"
    run, other = write_run(root / "sft3"), write_run(root / "sft2")
    for page, about in (("page_test.html", run), ("sft3/captions a.html", run), ("sft2/c.html", other)):
        write_page(root / page, [Shown(None, "a cat")], run=about)
    (root / "foreign.html").write_text("<html><nav class=\"pages\"></nav></html>")
    text, said = index_of(root, capsys)
    assert "3 pages of answers" in said and 'href="sft3/captions%20a.html"' in text
    first = (root / "page_test.html").read_text("utf-8")
    links = re.search(r'^<nav class="pages">(.*)</nav>$', first, re.MULTILINE)[1]
    assert re.findall(r'href="([^"]*)"', links) == ["index.html", "sft3/captions%20a.html"]
    assert 'href="../page_test.html"' in (root / "sft3" / "captions a.html").read_text("utf-8")
    assert "page_test" not in (root / "sft2" / "c.html").read_text("utf-8")
    assert (root / "foreign.html").read_text() == "<html><nav class=\"pages\"></nav></html>"
    moved = Path(shutil.move(root, tmp_path / "moved"))
    assert run_of(moved / "page_test.html") == (moved / "sft3").resolve()


@pytest.mark.parametrize("make, said", [
    (lambda root: None, "no such folder"),
    (lambda root: root.mkdir(), "no run lies there"),
    (lambda root: (write_run(root / "a"), (root / "index.html").write_text("mine")), "is no index of runs"),
])  # fmt: skip
def test_what_cannot_be_indexed_is_an_error_that_says_what_to_do(tmp_path, make, said):
    make(tmp_path / "out")
    with pytest.raises(UsageError, match=said):
        main([str(tmp_path / "out")])


def test_a_folder_that_is_a_run_itself_is_indexed_under_its_name(tmp_path):
    write_run(tmp_path / "sft3")
    assert [run.name for run in find(tmp_path / "sft3").runs] == ["sft3"]


def test_runs_of_a_folder_stand_together_and_those_of_other_names_by_their_date(tmp_path):
    for number, name in enumerate(("b/sft2", "a/mine", "b/pretrain", "b/lm", "a/also", "b/other")):
        for file in write_run(tmp_path / name).iterdir():
            os.utime(file, (1e9 + number, 1e9 + number))
    names = [run.name for run in find(tmp_path).runs]
    assert sorted(["r10", "r2", "a/1", "r"], key=natural) == ["a/1", "r", "r2", "r10"]
    assert names == ["b/lm", "b/pretrain", "b/sft2", "b/other", "a/mine", "a/also"]


def test_a_folder_of_damaged_files_makes_a_page_all_the_same(tmp_path, capsys):
    damaged = ('{"steps": "x", "loss": [], "seconds": {}}', "[" * 100_000, "1" * 5000, '{"loss": ' + "9" * 400 + "}",
               "", "null", '{"samples": {"a": 1}}', '{"samples": [null, [], {"id": 1}]}', "\0" * 100)  # fmt: skip
    for number, text in enumerate(damaged):
        for name in ("finished.json", "samples.json", "log.jsonl", "scores.json", "run.json"):
            run = write_run(tmp_path / f"{number} {name}")
            (run / name).write_text(text)
        (run / "log.jsonl").write_text('{"step": "x", "loss": 1}\n[1]\n{"step": 2, "loss": ' + "9" * 400 + "}\n")
    text, said = index_of(tmp_path, capsys)
    assert f"{5 * len(damaged)} runs (" in said and "broken" in said and "</html>" in text
