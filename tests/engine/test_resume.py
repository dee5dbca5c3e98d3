"""Runs of the real commands, killed with SIGKILL and repeated, end as if they had never been killed."""

from __future__ import annotations

import json
import signal
import sys
import time
from pathlib import Path

import pytest
from engine_parts import Kill, finished, flags, in_process, pretrain_flags, sft_flags, told

from model.checkpoints import read_tensors

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL on Windows")

STATE = "training_state.safetensors"
MACHINE = {"device": "cpu", "dtype": "float32"}


@pytest.fixture(scope="module")
def pretrained(parts) -> Path:
    """An uninterrupted run of train_pretrain.py: saves after steps 2, 4 and 5."""
    return finished("train_pretrain", pretrain_flags(parts, parts / "out" / "whole"), parts / "out" / "whole")


def killed(script: str, argv: list[str], run: Path, kill: Kill) -> None:
    output = run.with_name(run.name + ".killed.txt")
    output.parent.mkdir(parents=True, exist_ok=True)
    assert in_process(script, argv, output, kill) == -signal.SIGKILL, output.read_text()
    assert not (run / "finished.json").exists()


def outcome(run: Path) -> dict:
    """All that a run leaves behind, but for times."""
    summary = json.loads((run / "finished.json").read_text())
    left = sorted(path.name for path in run.iterdir())
    return {
        "weights": {name: tensor.numpy().tobytes() for name, tensor in read_tensors(run / "model.safetensors").items()},
        "config": (run / "config.json").read_text(),
        "samples": (run / "samples.json").read_text() if "samples.json" in left else "",
        "log": told(run),
        "summary": {key: summary[key] for key in ("steps", "loss", "val_loss", "tokens")},
        "files": left,
    }


@pytest.mark.parametrize(
    ("kill", "goes_on"),
    [
        (Kill("run.json", 1, "half"), 0),
        (Kill(".npy", 1, "half"), 0),  # features
        (Kill("loss", 2), 0),
        (Kill(STATE, 1, "half"), 0),
        (Kill(STATE, 1, "after"), 2),
        (Kill(STATE, 2, "half"), 2),
        (Kill(STATE, 3, "after"), 5),
        (Kill("model.safetensors", 1, "half"), 5),
        (Kill("finished.json", 1, "half"), 5),
    ],
    ids=lambda value: f"{value.what}-{value.nth}-{value.when}" if isinstance(value, Kill) else f"after-{value}",
)
def test_a_run_killed_once_and_repeated_ends_bit_identical(parts, pretrained, tmp_path, kill, goes_on):
    run = tmp_path / "run"
    argv = pretrain_flags(parts, run)
    killed("train_pretrain", argv, run, kill)
    finished("train_pretrain", argv, run)
    said = (tmp_path / "run.txt").read_text()
    assert (f"resuming after step {goes_on} of 5" in said) if goes_on else ("going on" not in said)
    assert outcome(run) == outcome(pretrained)


@pytest.mark.slow
def test_a_run_killed_from_outside_at_whatever_moment_ends_bit_identical(parts, pretrained, tmp_path):
    """Eight kills, each a little later, within about the time that a whole run takes on this machine now."""
    began = time.perf_counter()
    finished("train_pretrain", pretrain_flags(parts, tmp_path / "timed" / "run"), tmp_path / "timed" / "run")
    whole, run = time.perf_counter() - began, tmp_path / "killed" / "run"
    run.parent.mkdir()
    argv = pretrain_flags(parts, run, save_interval=1)
    for part in range(1, 9):
        if in_process("train_pretrain", argv, run.with_name("run.txt"), seconds=whole * part / 9) == 0:
            break
    finished("train_pretrain", argv, run)
    assert outcome(run) == outcome(pretrained)


def check_killed_again_and_again(script: str, argv_for, tmp_path: Path, kills: list[Kill]) -> None:
    whole, run = tmp_path / "a" / "run", tmp_path / "b" / "run"
    finished(script, argv_for(whole), whole)
    for kill in kills:
        killed(script, argv_for(run), run, kill)
    finished(script, argv_for(run), run)
    assert outcome(run) == outcome(whole)
    steps = [entry["step"] for entry in told(run) if "loss" in entry]
    assert steps == sorted(set(steps))


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{"accumulation_steps": 2, "log_interval": 3}, {"cache_gb": 0, "num_workers": 2}],
                         ids=lambda changes: "-".join(changes))  # fmt: skip
def test_on_a_users_pictures_with_other_settings(parts, tmp_path, changes):
    """Killed in the middle of the first save, just after the second one, and when all but the mark is written."""
    check_killed_again_and_again(
        "train_pretrain", lambda run: pretrain_flags(parts, run, **changes), tmp_path,
        [Kill(STATE, 1, "half"), Kill(STATE, 2, "after"), Kill("finished.json")],
    )  # fmt: skip


MUCH = {"accumulation_steps": 2, "token_budget": 250, "cache_gb": 0, "num_workers": 2,
        "dtype": "bfloat16"}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, MUCH], ids=["as-it-is", "changed"])
def test_sft_on_the_picture_book(pretrained, tmp_path, changes):
    check_killed_again_and_again(
        "train_sft", lambda run: sft_flags(pretrained, run, **changes), tmp_path,
        [Kill("loss", 2), Kill(STATE, 1, "after"), Kill("finished.json")],
    )  # fmt: skip


def test_language_only_training(parts, tmp_path):
    def argv_for(run: Path) -> list[str]:
        return flags(out=run, llm=parts / "lm", scenes=6, samples=16, steps=4, batch_size=3, save_interval=2,
                     log_interval=1, **MACHINE)  # fmt: skip

    check_killed_again_and_again("train_lm", argv_for, tmp_path, [Kill(STATE, 1, "after")])


def test_the_encoder_with_pictures_that_move_at_each_step(tmp_path):
    def argv_for(run: Path) -> list[str]:
        return flags(out=run, hidden_size=64, layers=1, image_size=32, scenes=12, steps=4, batch_size=3,
                     save_interval=2, log_interval=1, augment="shift-flip", **MACHINE)  # fmt: skip

    check_killed_again_and_again("train_vision", argv_for, tmp_path, [Kill(STATE, 1, "after"), Kill("finished.json")])
