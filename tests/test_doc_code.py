"""Code in the pages: each Python block is run by some test, each command exists and has the flags that it is given.

A block that cannot be run stands below a comment <!-- not run: REASON -->. The commands of README.md are run, too, by
tests/commands/test_readme.py, those of the tutorial by tests/test_tutorial.py.
"""

from __future__ import annotations

import argparse
import importlib
import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from dataset.bad_rows import BadRows
from dataset.console import FlagParser
from dataset.formats.sources import read_records
from dataset.record import IMAGE
from engine.command import MENDABLE
from tools.studies.arms import STUDIES, study_of
from tools.studies.runner import Plan, filled, steps_of

ROOT = Path(__file__).resolve().parent.parent
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
BLOCK = re.compile(r"^(?:<!-- not run: (?P<reason>[^\n]+) -->\n)?```(?P<language>\w*)\n(?P<code>.*?)^```",
                   re.DOTALL | re.MULTILINE)  # fmt: skip
INLINE = re.compile(r"`((?:python|torchrun|make) [^`]+)`")
FILE = re.compile(r"# (?P<name>[\w/]+\.py)(?: \(new\))?\n")
OUTSIDE = ("git", "cd", ".")  # programs that are not ours
RUN_BY = {  # page -> the test that runs its Python, in order
    "architecture.md": "test_architecture.py", "metrics.md": "test_metrics_page.py", "tutorial.md": "test_tutorial.py",
}  # fmt: skip


class Parsed(Exception):
    """A command's own parser has taken all its flags."""


def blocks(text: str, *languages: str) -> list[str]:
    return [block["code"] for block in BLOCK.finditer(text) if block["language"] in languages and not block["reason"]]


def commands(text: str) -> list[list[str]]:
    """The simple commands of a page, in shell blocks and in its prose, as words."""
    shell = "\n".join(blocks(text, "bash")).replace("\\\n", " ")
    prose = INLINE.findall(re.sub(r"\s+", " ", BLOCK.sub("", text)))
    prose = [f"{one} ..." if re.fullmatch(r"python (-m )?\S+", one) else one for one in prose]  # only its name
    lines = [part for line in shell.splitlines() for part in line.split(" && ")]
    return [words for words in (shlex.split(line, comments=True) for line in lines + prose) if words]


def new_files(text: str) -> dict[str, str]:
    """The files of the reader's own that a page has, by name."""
    heads = [(FILE.match(code), code) for code in blocks(text, "python")]
    return {head["name"]: code for head, code in heads if head and not (ROOT / head["name"]).exists()}


def wrong(words: list[str]) -> str:
    """What is wrong with a command, of which nothing but the parsing of its flags is run; "" if nothing is."""
    if words[0] == "make":
        makefile, names = (ROOT / "Makefile").read_text("utf-8"), [word.split("=")[0] for word in words if "=" in word]
        done = subprocess.run(["make", "-n", *words[1:]], cwd=ROOT, capture_output=True, text=True)
        unknown = [name for name in names if f"({name})" not in makefile and f"{name} " not in makefile]
        return done.stderr if done.returncode else f"no variable {unknown}" if unknown else ""
    if words[:3] == ["pip", "install", "-r"]:
        return "" if (ROOT / words[3]).is_file() else f"no file {words[3]}"
    if words[0] in OUTSIDE or words[:3] == ["python", "-m", "venv"]:
        return ""
    words = ["python", *words[1:]] if words[0] == ".venv/bin/python" else words
    if words[:2] == ["torchrun", "--nproc_per_node"] and words[2].isdecimal():
        words = ["python", *words[3:]]
    if words[0] != "python":
        return "no program that is known"
    program, *flags = words[2:] if words[1] == "-m" else words[1:]
    name = program.removesuffix(".py")
    where = ROOT / name.replace(".", "/")
    if not where.with_suffix(".py").is_file() and not (where / "__main__.py").is_file():
        return f"no file {program}"
    if "..." in flags:
        return ""
    try:
        module = importlib.import_module(f"{name}.__main__" if where.is_dir() else name)
        module.main(["1" if re.fullmatch("[A-Z]", word) else word for word in flags])  # N and S stand for numbers
    except Parsed:
        return ""
    except (SystemExit, *MENDABLE) as error:
        return f"{type(error).__name__}: {error}"
    return "takes no flags"


@pytest.fixture
def parsing_only(monkeypatch):
    for kind in (argparse.ArgumentParser, FlagParser):

        def parse(self, *given, take=kind.parse_args):
            take(self, *given)
            raise Parsed

        monkeypatch.setattr(kind, "parse_args", parse)

    def run(*given):  # of a study, which passes flags on
        raise Parsed

    monkeypatch.setattr("ablate.run_study", run)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_exists_and_has_the_flags_that_it_is_given(page, parsing_only, tmp_path, monkeypatch):
    text = page.read_text("utf-8")
    own = new_files(text)
    for name, code in own.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(code, "utf-8")
    shutil.copytree(ROOT / "recipes", tmp_path / "recipes")
    monkeypatch.chdir(tmp_path)
    found = [words for words in commands(text) if not any(word in own for word in words[1:2])]
    if shutil.which("make") is None:
        found = [words for words in found if words[0] != "make"]
    assert {shlex.join(words): problem for words in found if (problem := wrong(words))} == {}


@pytest.mark.parametrize(
    "command, told",
    [
        ("python train_sft.py --stage 4", "SystemExit"), ("python train_sft.py --stages 3", "SystemExit"),
        ("python train_none.py", "no file"), ("python -m tools.none A B", "no file"), ("make nothing", "nothing"),
        ("python train_sft.py --stage 1 --recipe recipes/none.toml", "UsageError"), ("pip install -r a.txt", "no file"),
        ("python ablate.py projector --projectors 3", "SystemExit"), ("ls -l", "no program"),
        ("python eval_vlm.py --split test --scores", "SystemExit"), ("make demo LANGUAGES=en", "no variable"),
    ],
)  # fmt: skip
def test_a_command_that_is_wrong_is_found(command, told, parsing_only, capsys):
    assert told in wrong(shlex.split(command))


@pytest.mark.parametrize("name", STUDIES)
def test_every_command_of_a_study_has_the_flags_that_it_is_given(name, parsing_only, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study = study_of(name)
    plan = Plan(name, study, tmp_path, 8, recipe=("--recipe", "photos") if study.photos else ())
    training = [words for arm in (study.shared, *study.arms.values())
                for words in steps_of(plan, arm, tmp_path / "arm", 42, tmp_path / "shared")]  # fmt: skip
    data = [filled(command, data=plan.data) for command in study.data]
    scored = [*filled(study.scored, n=8, data=plan.data), *plan.recipe]
    scored += ["--weights", "x", "--answers", "y", "--scores", "z"]
    assert training and {shlex.join(words): problem for words in (*data, *training, scored)
                         if (problem := wrong(["python", *words]))} == {}  # fmt: skip


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_has_a_language_and_a_test_runs_its_python(page):
    text = page.read_text("utf-8")
    assert {block["language"] for block in BLOCK.finditer(text)} <= {"bash", "python", "json", "bibtex", "text", ""}
    if not blocks(text, "python"):
        return
    runs = (ROOT / "tests" / RUN_BY[page.name]).read_text("utf-8")
    assert page.name in runs
    if page.name == "architecture.md":  # a test for each section that has code
        sections = [part.split("\n")[0] for part in text.split("\n### ")[1:] if "```python" in part]
        assert sections and all(f'follow("{title}"' in runs for title in sections)


def test_a_mark_with_a_reason_leaves_a_block_out():
    text = "<!-- not run: it takes a day -->\n```bash\npython none.py\n```\n```bash\npython a.py && make b  # c\n```\n"
    assert commands(text) == [["python", "a.py"], ["make", "b"]]


@pytest.mark.parametrize("page", ["README.md", "README_zh.md"])
def test_the_row_of_data_in_the_readme_can_be_read(page, tmp_path):
    (row,) = blocks((ROOT / page).read_text("utf-8"), "json")
    Image.new("RGB", (8, 8)).save(tmp_path / "market.jpg")
    (tmp_path / "data.jsonl").write_text(json.dumps(json.loads(row), ensure_ascii=False) + "\n", "utf-8")
    (record,) = list(read_records(tmp_path / "data.jsonl", tmp_path, BadRows()))
    assert record.images == (tmp_path / "market.jpg",) and [turn.role for turn in record.turns] == ["user", "assistant"]
    assert record.turns[0].parts[0] is IMAGE
