"""--recipe: each command takes its section, and what comes before it in the file is run first."""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path

import pytest
from tiny import files_in, write_jsonl

import eval_vlm
import train_lm
import train_pretrain
import train_sft
from engine.arguments import TrainArguments, UsageError
from engine.recipe import CHAIN, FOLDER, command_arguments, read_recipe
from model.config import LMConfig

RUNS = {"vision": "train_vision", "lm": "train_lm", "pretrain": "train_pretrain", "sft1": "train_sft"}
TINY = """
[data]
data = "data.jsonl"
images = "images"
runs = "made"
steps = 1
batch_size = 4
num_workers = 0
device = "cpu"
dtype = "float32"

[vision]
image_size = 32
patch-size = 8
hidden_size = 64
layers = 1
augment = "shift"

[lm]
learning_rate = 1e-3

[pretrain]
cell_steps = 0
steps = 2

[sft1]
learning_rate = 1
english = 0.5

[eval]
data = "data.jsonl"
images = "images"
n = 2
max_new_tokens = 2
device = "cpu"
"""


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """A folder to run in, with data, my.toml, and a small language model for those that start at random weights."""
    write_jsonl(tmp_path)
    (tmp_path / "my.toml").write_text(TINY, "utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("engine.build.LMConfig", partial(LMConfig, 32, 1, 2, 1, 48))
    return tmp_path


def edited(folder: Path, old: str, new: str) -> None:
    text = (folder / "my.toml").read_text("utf-8")
    assert old in text
    (folder / "my.toml").write_text(text.replace(old, new), "utf-8")


def test_one_command_makes_every_run_of_the_recipe_each_with_its_section(here, capsys):
    train_sft.main(["--recipe", "my.toml", "--learning_rate", "0.5"])
    said = capsys.readouterr().out
    settings = {run: json.loads((here / "made" / run / "run.json").read_text("utf-8"))["settings"] for run in RUNS}
    for run, command in RUNS.items():
        assert (here / "made" / run / "finished.json").is_file() and settings[run]["data"] == "data.jsonl"
        assert run == "sft1" or f"made/{run} is not finished: running it first (python {command}.py" in said
    assert [settings[run]["steps"] for run in RUNS] == [1, 1, 2, 1]
    assert [settings[run]["learning_rate"] for run in RUNS] == [2e-3, 1e-3, 2e-3, 0.5]
    assert [settings[run]["english"] for run in RUNS] == [0.0, 0.0, 0.0, 0.5]
    assert settings["vision"]["patch_size"] == 8 and settings["vision"]["augment"] == "shift"
    assert (settings["pretrain"]["vision"], settings["pretrain"]["llm"]) == ("made/vision", "made/lm")
    assert not any("recipe" in some for some in settings.values())
    train_sft.main(["--recipe", "my.toml", "--learning_rate", "0.5"])
    assert capsys.readouterr().out.startswith("made/sft1 is finished; nothing to do")
    eval_vlm.main(["--recipe", "my.toml"])
    said = capsys.readouterr().out
    assert "made/sft1: VLM parameters" in said and "2 scored" in said
    eval_vlm.main(["--recipe", "my.toml", "--image", "images/0.png"])  # in place of [eval]'s data
    assert "1 pictures in" in capsys.readouterr().out
    eval_vlm.main(["--recipe", "my.toml", "--data", str(Path("data.jsonl").rename("other.jsonl"))])
    assert "2 scored" in capsys.readouterr().out  # its pictures are in [eval]'s folder


def test_a_dry_run_says_what_would_run_checks_it_and_writes_nothing(here, capsys):
    before = files_in(here)
    train_sft.main(["--recipe", "my.toml", "--dry-run"])
    said = capsys.readouterr().out
    assert [line.split()[0] for line in said.splitlines() if "its plan first" in line] == \
        ["made/pretrain", "made/vision", "made/lm"]  # fmt: skip
    plans = re.findall(r"^steps: (\d+) of 4 samples.*?plan of (\S+);", said, re.MULTILINE | re.DOTALL)
    assert plans == [("1", "made/vision"), ("1", "made/lm"), ("2", "made/pretrain"), ("1", "made/sft1")]
    sizes = re.findall(r"^vision +([\d,]+) +([\d,]+) ", said, re.MULTILINE)
    assert sizes[0][0] == sizes[1][1] == sizes[2][1]  # the recipe's own encoder stands in
    assert files_in(here) == before


def test_a_section_that_is_absent_is_a_run_that_is_not_made(here, capsys):
    edited(here, "[vision]\nimage_size = 32\npatch-size = 8\nhidden_size = 64\nlayers = 1\naugment = \"shift\"\n", "")
    edited(here, "[lm]\nlearning_rate = 1e-3\n", "")
    args = command_arguments("pretrain", train_pretrain.DEFAULTS, ["--recipe", "my.toml"], train_pretrain.FLAGS, "")
    assert (args.vision, args.llm, args.steps, args.out) == ("", "", 2, "made/pretrain")
    with pytest.raises(UsageError, match=r"no section \[lm\]"):
        train_lm.main(["--recipe", "my.toml"])
    edited(here, "[sft1]", "[sft3]")
    train_sft.main(["--recipe", "my.toml", "--stage", "3", "--dry-run"])
    assert "made/pretrain is not finished: its plan first" in capsys.readouterr().out
    edited(here, "[pretrain]\ncell_steps = 0\nsteps = 2\n", "")
    with pytest.raises(UsageError, match=r"nothing there comes before \[sft3\]"):
        train_sft.main(["--recipe", "my.toml", "--stage", "3"])


@pytest.mark.parametrize(("old", "new", "said"), [
    ("[vision]", "[visoin]", r"my.toml: found \[visoin\], expected \[vision\]"),
    ("[vision]", "vision = 1\n[lm0]", r"my.toml: found \[lm0\], expected \[lm\]"),
    ("[data]\n", "seed = 1\n[data]\n", r"my.toml: found \[seed\], expected one of \[data\]"),
    ("augment", "augmnt", r"my.toml, \[vision\]: no flag is called augmnt, expected augment"),
    ("layers = 1", "layers = 1.5", r"my.toml, \[vision\]: found layers = 1.5, expected a whole number"),
    ("layers = 1", "layers = true", r"found layers = True, expected a whole number"),
    ("1e-3", '"1e-3"', r"my.toml, \[lm\]: found learning_rate = '1e-3', expected a number"),
    ('"shift"', '"shifted"', r"found augment = 'shifted', expected one of none, gray, colours, shift, shift-flip"),
    ("[lm]", "[lm]\naugment = \"none\"", r"my.toml, \[lm\]: that command has no flag augment"),
    ("[lm]", "[lm]\nout = \"elsewhere\"", r"my.toml, \[lm\]: no flag is called out"),
    ("[lm]", "[lm", r"my.toml: .*line 19.*; expected a TOML file: copy and edit one of "),
])  # fmt: skip
def test_a_recipe_that_cannot_be_is_refused_with_file_found_and_expected(here, old, new, said):
    edited(here, old, new)
    with pytest.raises(UsageError, match=said):
        train_lm.main(["--recipe", "my.toml"])
    assert not (here / "made").exists()


def test_eval_refuses_a_flag_that_it_does_not_have(here):
    edited(here, "max_new_tokens", "max_tokens")
    with pytest.raises(UsageError, match=r"\[eval\]: no flag is called max_tokens, expected max_new_tokens"):
        eval_vlm.main(["--recipe", "my.toml"])


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.toml")), ids=lambda file: file.stem)
def test_the_recipes_of_the_repo_are_taken_by_their_names(file):
    recipe = read_recipe(file.stem)
    assert recipe == read_recipe(str(file)) and recipe["data"]["runs"] != TrainArguments.runs
    scripts = {run: __import__(f"train_{run.rstrip('123')}") for run in CHAIN if run in recipe}
    for run, script in scripts.items():
        argv = ["--preset", file.stem, *(["--stage", run[3:]] if run.startswith("sft") else [])]
        name = "sft" if run.startswith("sft") else run
        args = command_arguments(name, script.DEFAULTS, argv, script.FLAGS, "")
        assert args.out == f"{recipe['data']['runs']}/{run}"
