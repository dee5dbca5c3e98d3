"""The torture campaign finds what it looks for, makes the same cases again, and a short one of it ends well."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from model.checkpoints.files import WeightsError
from tools.torture import child, mutate
from tools.torture.child import watch

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the campaign watches processes as Linux shows them")


def refused():
    raise WeightsError("found one thing, expected another")


def opens(path: Path):
    return path.read_bytes()


@pytest.fixture
def canary(tmp_path) -> Path:
    (tmp_path / "outside").write_bytes(b"x")
    return tmp_path / "outside"


@pytest.mark.parametrize(
    "case, verdict",
    [
        (lambda: None, "ok"),
        (refused, "ok"),
        (lambda: {}["a"], "traceback"),
        (lambda: (_ for _ in ()).throw(RecursionError("deep")), "traceback"),
        (lambda: subprocess.run(["true"]), "VIOLATION subprocess.Popen"),
        (lambda: time.sleep(b"x" * (520 << 20) == b""), "memory"),
        (lambda: time.sleep(30), "hang"),
        (lambda: print(input()), "ok"),
    ],
)
def test_what_a_case_does_is_seen(tmp_path, canary, monkeypatch, case, verdict):
    monkeypatch.setattr(child, "SECONDS", 1.0 if verdict == "hang" else 20.0)
    monkeypatch.setattr(child, "MEMORY", 300)
    ending = watch(case, tmp_path, canary, b"typed\n")
    assert ending.verdict.startswith(verdict), ending


def test_a_file_outside_is_not_opened_unseen(tmp_path, canary):
    assert watch(lambda: opens(canary), tmp_path, canary).verdict.startswith("VIOLATION open")


def test_mutations_are_the_same_for_the_same_seed():
    def some(seed: int) -> list[bytes]:
        rng = random.Random(seed)
        value = {"a": [1, {"b": "c"}], "d": None}
        return [mutate.text_of(value, rng) for _ in range(20)] + [mutate.bytes_of(b"abcdefgh" * 9, rng)]

    assert some(1) == some(1) != some(2)


@pytest.mark.slow
def test_a_short_campaign_ends_well():
    command = [sys.executable, "-m", "tools.torture", "--cases", "36", "--kills", "0", "--minutes", "20"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "hostile inputs: 36 tried, 36 ended well" in done.stdout
