"""The installed command: its words lead to the scripts, and the wheel holds what they need."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import glimpse.__main__ as command
from engine.build import EMBEDDED_ENCODER, EMBEDDED_LANGUAGE
from engine.recipe import FOLDER
from model.fast.kernels import SOURCE
from tokenizer.tokenizer import default_folder

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
WHEEL = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]


def said_of(monkeypatch, capsys, *words: str) -> tuple[int, str]:
    """(exit status, both streams) of `glimpse` with these words."""
    monkeypatch.setattr(sys, "argv", ["glimpse", *words])
    monkeypatch.setattr(sys, "path", [*sys.path])
    try:
        status = command.main()
    except SystemExit as left:
        status = left.code
    said = capsys.readouterr()
    return status, said.out + said.err


def test_every_command_is_a_module_with_a_main(monkeypatch, capsys):
    there = [module for module, _ in command.COMMANDS.values()]
    assert len(there) > 10 and all(importlib.util.find_spec(module) for module in there)
    assert not [path.stem for path in ROOT.glob("*.py") if path.stem not in there]  # no script without a command
    status, said = said_of(monkeypatch, capsys)
    assert status == 0 and all(f"  glimpse {name}" in said for name in command.COMMANDS)
    assert said_of(monkeypatch, capsys, "train", "--help")[1].count("  glimpse train ") == 4


@pytest.mark.parametrize(("words", "said"), [
    ("trian sft", "found 'trian', expected one of train, eval"), ("train stf", "did you mean sft?"),
    ("train", "glimpse train: found nothing, expected one of vision, lm, pretrain, sft"), ("export", "llava, minimind"),
])  # fmt: skip
def test_words_that_name_no_command_are_refused_in_one_line(words, said, monkeypatch, capsys):
    status, line = said_of(monkeypatch, capsys, *words.split())
    assert status == 2 and said in line and line.count("\n") == 1


def test_a_command_takes_the_flags_of_its_script_and_is_called_by_its_own_name(monkeypatch, capsys):
    status, said = said_of(monkeypatch, capsys, "train", "sft", "--help")
    assert status == 0 and said.startswith("usage: glimpse train sft [flags]") and "python train_sft.py" not in said
    status, said = said_of(monkeypatch, capsys, "train", "sft", "--stag", "1")
    assert status == 2 and said == "error: no flag is called --stag; did you mean --stage?\n"
    status, said = said_of(monkeypatch, capsys, "eval", "--image", "a.png", "--runs", "nowhere")
    assert status == 1 and "train one (glimpse train sft --stage 3)" in said


def test_a_command_whose_library_is_missing_says_how_to_get_it(monkeypatch, capsys):
    monkeypatch.setitem(command.COMMANDS, "web", ("tools.compare", ""))
    monkeypatch.setitem(command.NEEDS, "web", ("not_a_library", "pip install not-a-library"))
    status, said = said_of(monkeypatch, capsys, "web")
    assert (status, said) == (1, "error: glimpse web: found no not_a_library, which this command needs: pip install "
                              "not-a-library\n")  # fmt: skip


def test_the_wheel_holds_every_package_script_and_shipped_file():
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests"}
    folders, scripts = set(WHEEL["only-include"]), WHEEL["force-include"]
    assert packages <= folders and all((ROOT / name).is_dir() for name in folders)
    assert set(scripts) == {path.name for path in ROOT.glob("*.py")}
    assert scripts == {name: f"glimpse/{name}" for name in scripts}
    assert WHEEL["sources"] == {name: f"glimpse/{name}" for name in folders - {"glimpse"}}
    shipped = (EMBEDDED_ENCODER, *EMBEDDED_LANGUAGE.values(), FOLDER, SOURCE, default_folder(), ROOT / "sft_images")
    assert {path.relative_to(ROOT).parts[0] for path in shipped} <= folders


def test_the_packages_libraries_are_those_of_the_requirements():
    wanted = dict(re.match(r"([\w-]+)>=([\d.]+)", text).groups() for text in PROJECT["project"]["dependencies"])
    pinned = re.findall(r"^([\w-]+)==([\d.]+)", (ROOT / "requirements.txt").read_text("utf-8"), re.MULTILINE)
    assert set(wanted) == {name for name, _ in pinned}
    as_numbers = lambda text: [int(part) for part in text.split(".")]  # noqa: E731
    for name, least in wanted.items():  # the oldest that is tested
        assert as_numbers(least) <= min(as_numbers(pin) for found, pin in pinned if found == name)


def test_in_an_installed_package_the_modules_are_found_in_its_own_folder(tmp_path):
    """The layout of the wheel, made of links; run from another folder, without the repo on the path."""
    site = tmp_path / "site" / "glimpse"
    site.mkdir(parents=True)
    for name in ("__init__.py", "__main__.py"):
        (site / name).write_bytes((ROOT / "glimpse" / name).read_bytes())
    for name, target in {**WHEEL["sources"], **WHEEL["force-include"]}.items():
        (site.parent / target).symlink_to(ROOT / name)
    done = subprocess.run([sys.executable, "-m", "glimpse", "train", "--help"], cwd=tmp_path, capture_output=True,
                          text=True, env={**os.environ, "PYTHONPATH": str(site.parent)})  # fmt: skip
    assert done.returncode == 0 and "glimpse train pretrain" in done.stdout and not done.stderr
