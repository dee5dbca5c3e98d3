from __future__ import annotations

import builtins
import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from engine_parts import make_parts, pretrain_flags
from PIL import Image

import train_pretrain
from engine.board import wandb_run
from engine.checkpoint import Run, RunError, open_run
from engine.log import Log, read_log
from engine.signals import Interrupted

ROOT = Path(train_pretrain.__file__).parent


def run_in(path: Path) -> Run:
    return open_run(path, {}, {})


def written(path: Path, steps: int = 3) -> Run:
    run = run_in(path)
    with Log(run, 10, 0) as log:
        for step in range(1, steps + 1):
            log.write(step, loss=1 / step)
            log.advance(loss=step)
    return run


def test_entries_can_be_read_by_any_program_line_by_line(tmp_path):
    run = written(tmp_path)
    lines = run.log_file.read_text().splitlines()
    entries = [json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is no JSON")) for line in lines]
    assert entries == read_log(run.log_file)
    assert [(entry["step"], entry["loss"]) for entry in entries] == [(1, 1.0), (2, 0.5), (3, 1 / 3)]
    assert all(0 <= entry["seconds"] < 60 for entry in entries)


def test_an_entry_is_in_the_file_as_soon_as_it_is_written(tmp_path):
    run = run_in(tmp_path)
    with Log(run, 10, 0) as log:
        log.write(1, loss=0.5)
        assert len(read_log(run.log_file)) == 1


@pytest.mark.parametrize("torn", ['{"step": 4, "lo', "{", '{"step": 4}extra', "\0\0\0\0"])
def test_a_torn_last_line_is_left_out_and_gone_when_the_run_goes_on(tmp_path, torn):
    run = written(tmp_path)
    with open(run.log_file, "a") as file:
        file.write(torn)
    assert [entry["step"] for entry in read_log(run.log_file)] == [1, 2, 3]
    with Log(run, 10, 3) as log:
        log.write(4, loss=0.25)
    assert [json.loads(line)["step"] for line in run.log_file.read_text().splitlines()] == [1, 2, 3, 4]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.jsonl", "run.json"]


@pytest.mark.parametrize("start", [0, 1, 2, 3])
def test_steps_that_are_done_again_are_told_once(tmp_path, start):
    run = written(tmp_path)
    with Log(run, 10, start) as log:
        for step in range(start + 1, 6):
            log.write(step, loss=9.0)
    assert [entry["step"] for entry in read_log(run.log_file)] == [1, 2, 3, 4, 5]
    assert [entry["loss"] for entry in read_log(run.log_file)[start:]] == [9.0] * (5 - start)


def test_seconds_go_on_from_those_of_the_process_before(tmp_path):
    with Log(run_in(tmp_path), 10, 0, 1000.0) as log:
        log.write(1, loss=1.0)
    assert 1000 <= read_log(tmp_path / "log.jsonl")[0]["seconds"] < 1060


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_a_log_that_cannot_be_written_is_an_error_that_says_so(tmp_path):
    run = run_in(tmp_path)
    run.log_file.symlink_to("/dev/full")
    with pytest.raises(OSError, match="log.jsonl: step 1 could not be logged .*No space left.*repeat the command"):  # noqa: SIM117
        with Log(run, 10, 0) as log:
            log.write(1, loss=1.0)


def test_a_run_keeps_its_curve_log_samples_and_summary(tmp_path):
    make_parts(tmp_path)
    train_pretrain.main(pretrain_flags(tmp_path, tmp_path / "run"))
    run = tmp_path / "run"
    assert {"run.json", "config.json", "model.safetensors", "log.jsonl", "loss.png", "samples.json", "bad_rows.json",
            "tokenizer.json", "finished.json"} <= {path.name for path in run.iterdir()}  # fmt: skip
    with Image.open(run / "loss.png") as picture:
        assert picture.format == "PNG"
    summary = json.loads((run / "finished.json").read_text())
    assert summary["steps"] == 5 and math.isfinite(summary["loss"]) and math.isfinite(summary["val_loss"])
    entries = read_log(run / "log.jsonl")
    assert [entry["step"] for entry in entries if "loss" in entry] == [1, 2, 3, 4, 5]
    sample = json.loads((run / "samples.json").read_text())["samples"][0]
    assert set(sample) == {"id", "prompt", "reference", "answer", "picture"} and sample["reference"]
    with Image.open(run / sample["picture"]) as picture:
        assert picture.size == (40, 36)


def test_wandb_that_is_not_installed_is_an_error_that_says_what_to_do(tmp_path, monkeypatch):
    imported = builtins.__import__

    def without(name, *args):
        if name == "wandb":
            raise ImportError("No module named 'wandb'")
        return imported(name, *args)

    monkeypatch.setattr(builtins, "__import__", without)
    run, said = run_in(tmp_path), "--use_wandb: No module named 'wandb'; pip install wandb, or leave"
    with pytest.raises(RunError, match=said), wandb_run(run, "p", {}):
        pass


class Table:
    def __init__(self, columns):
        self.columns, self.rows = columns, []

    def add_data(self, *row):
        self.rows.append(row)


class FakeWandb:
    """What the program uses of wandb; says what it was told, in order, and refuses what comes after the end."""

    Table, Image = Table, staticmethod(lambda picture: picture.size)

    def __init__(self):
        self.told, self.summary, self.ended, self.given = [], {}, None, None

    def init(self, **given):
        self.given = given
        return self

    def log(self, values, step):
        assert self.ended is None
        self.told.append((step, values))

    def finish(self, exit_code):
        self.ended = exit_code


def test_wandb_gets_log_samples_with_pictures_summary_and_end(tmp_path, monkeypatch):
    make_parts(tmp_path)
    board = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", board)
    train_pretrain.main(pretrain_flags(tmp_path, tmp_path / "run", use_wandb=True, wandb_project="Tests"))
    run = tmp_path / "run"
    assert board.given["project"] == "Tests" and board.given["id"] == (run / "wandb_id.txt").read_text()
    assert [step for step, values in board.told if "loss" in values] == [1, 2, 3, 4, 5]
    step, values = board.told[-1]
    table, written = values["samples"], json.loads((run / "samples.json").read_text())["samples"]
    assert step == 5 and table.columns == ["picture", "prompt", "reference", "answer"]
    assert table.rows == [((40, 36), s["prompt"], s["reference"], s["answer"]) for s in written] and written
    summary = json.loads((run / "finished.json").read_text())
    assert board.summary == {**summary, "end": "finished"} and board.ended == 0


@pytest.mark.parametrize(
    "error, code, end",
    [
        (Interrupted("stopped after step 2", signal.SIGTERM), 143, "stopped: stopped after step 2"),
        (KeyboardInterrupt(), 130, "stopped: "),
        (OSError("no space"), 1, "failed: no space"),
    ],
)
def test_wandb_is_told_what_ended_a_run_that_is_not_finished(tmp_path, monkeypatch, error, code, end):
    board = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", board)
    with pytest.raises(type(error)), wandb_run(run_in(tmp_path), "p", {}):
        raise error
    assert (board.ended, board.summary) == (code, {"end": end})


@pytest.mark.slow
def test_an_offline_wandb_run_works_and_goes_on_under_its_id(tmp_path):
    """In a process of its own: wandb starts threads and a server, and takes over the output."""
    pytest.importorskip("wandb")
    make_parts(tmp_path)
    argv = pretrain_flags(tmp_path, tmp_path / "run", use_wandb=True, wandb_project="Tests")
    program = f"""
import train_pretrain
from engine import trainer
def stop(*args):
    raise KeyboardInterrupt
if __name__ == "__main__":
    kept = trainer.check_frozen
    trainer.check_frozen = stop
    try:
        train_pretrain.main({argv!r})
    except KeyboardInterrupt:
        trainer.check_frozen = kept
    train_pretrain.main({argv!r})
"""
    environment = {**os.environ, "WANDB_MODE": "offline", "WANDB_SILENT": "true", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    run = tmp_path / "run"
    kept = [path.name for path in (run / "wandb").glob("offline-run-*")]
    name = (run / "wandb_id.txt").read_text()
    assert kept and all(f"-{name}" in folder for folder in kept)
    assert all(list((run / "wandb" / folder).glob("*.wandb")) for folder in kept)
    assert (run / "finished.json").is_file() and [e["step"] for e in read_log(run / "log.jsonl")][-1] == 5
