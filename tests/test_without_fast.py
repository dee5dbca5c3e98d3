"""model/fast can be deleted: the core's tests pass without it, and so does a command."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("model", "engine", "dataset", "tokenizer", "scoring", "tests")
CORE = ("language", "vlm", "vision", "generation", "projector", "lora", "loop", "weights", "initial")


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Path:
    """The repository without model/fast."""
    root = tmp_path_factory.mktemp("plain")
    without = shutil.ignore_patterns("fast", "__pycache__")
    for name in FOLDERS:
        shutil.copytree(ROOT / name, root / name, ignore=without)
    for file in (ROOT / "pyproject.toml", *ROOT.glob("*.py")):
        shutil.copy(file, root)
    assert (root / "model").is_dir() and not list(root.rglob("fast"))
    return root


def run(root: Path, *command: object) -> str:
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, *map(str, command)]
    done = subprocess.run(words, cwd=root, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_core_tests_pass(plain):
    files = [file for name in CORE for file in plain.glob(f"tests/*/test_{name}.py")]
    assert len(files) == len(CORE)
    said = run(plain, "-m", "pytest", "-p", "no:cacheprovider", *files)
    assert " passed" in said or "100%" in said


@pytest.mark.slow
def test_a_command_trains_by_the_plain_model(plain, tmp_path):
    flags = ["--steps", 2, "--samples", 64, "--batch_size", 4, "--scenes", 20, "--num_workers", 0]
    said = run(plain, "train_lm.py", "--llm", "random:1x64", *flags, "--out", tmp_path / "lm")
    assert "by the plain model" in said and (tmp_path / "lm" / "finished.json").is_file()
