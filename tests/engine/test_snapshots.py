"""--snapshots and --order: weights kept after epochs, rows in the data's own order."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from engine_parts import Kill, flags, in_process, make_parts, pretrain_flags, small_vlm

import train_pretrain
from dataset.bad_rows import BadRows
from engine.arguments import TrainArguments, UsageError
from engine.build import load_trained
from engine.checkpoint import Run
from engine.console import check
from engine.dataloader import Feed
from engine.snapshots import snapshot_steps
from model.checkpoints import read_tensors

EPOCHS = {"steps": 0, "epochs": 3, "batch_size": 8, "samples": 23}  # a step for 8 rows: 3 an epoch


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parts")
    make_parts(folder)
    return folder


@pytest.fixture(scope="module")
def whole(parts):
    """A run of 3 epochs that keeps the first and the last."""
    train_pretrain.main(pretrain_flags(parts, parts / "whole", **EPOCHS, snapshots="1,3"))
    return parts / "whole"


def weights(folder):
    return read_tensors(folder / "model.safetensors")


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_a_snapshot_is_the_run_as_it_was_after_that_epoch(parts, whole, monkeypatch):
    """A run of the same schedule that is stopped there has the same weights in its training state."""
    assert sorted(path.name for path in whole.iterdir() if "epoch" in path.name) == ["epoch1", "epoch3"]
    kept = Run(whole / "epoch1")
    assert kept.is_finished() and (kept.summary()["epoch"], kept.summary()["steps"]) == (1, 3)
    stopped = parts / "stopped"
    kill = Kill("training_state.safetensors", 1, "after")
    argv = pretrain_flags(parts, stopped, **{**EPOCHS, "save_interval": 3}, snapshots="1,3")
    assert in_process("train_pretrain", argv, parts / "stopped.txt", kill) == -9
    state = read_tensors(stopped / "training_state.safetensors")
    found = weights(whole / "epoch1")
    trained = {name.removeprefix("weight."): value for name, value in state.items() if name.startswith("weight.")}
    assert trained and all(torch.equal(found[name], value) for name, value in trained.items())
    assert not same(found, weights(whole)) and same(weights(whole / "epoch3"), weights(whole))


def test_a_snapshot_is_read_as_a_run_is(whole):
    trained = load_trained(whole / "epoch1")
    assert trained.settings["snapshots"] == "1,3"
    assert json.loads((whole / "epoch1" / "samples.json").read_text())["samples"]
    assert "val_loss" in Run(whole / "epoch1").summary()


def test_snapshots_do_not_change_the_training(parts, whole):
    train_pretrain.main(pretrain_flags(parts, parts / "without", **EPOCHS))
    assert same(weights(parts / "without"), weights(whole)) and not list((parts / "without").glob("*epoch*"))


@pytest.mark.parametrize("kill", [
    Kill("epoch1.safetensors", 1, "after"), Kill("epoch1", 1, "before"), Kill("epoch1", 1, "after"),
    Kill("model.safetensors", 2, "half"),
], ids=str)  # fmt: skip
def test_a_run_that_was_killed_loses_no_snapshot_and_leaves_no_half(parts, whole, kill):
    out = parts / "killed"
    shutil.rmtree(out, ignore_errors=True)
    argv = pretrain_flags(parts, out, **EPOCHS, snapshots="1,3")
    assert in_process("train_pretrain", argv, parts / "killed.txt", kill) == -9
    assert not list(out.glob("epoch*/")) or all(Run(folder).is_finished() for folder in out.glob("epoch?"))
    train_pretrain.main(argv)
    for name in ("", "epoch1", "epoch3"):
        assert same(weights(out / name), weights(whole / name))
    names = [{path.name for path in folder.iterdir()} for folder in (out, whole)]
    assert names[0] - {"loss.png"} == names[1] - {"loss.png"}


def test_the_best_weights_are_kept_apart_from_those_of_the_epochs(parts, whole):
    changes = {**EPOCHS, "eval_interval": 1, "keep": "best", "val_data": parts / "data.jsonl"}
    train_pretrain.main(pretrain_flags(parts, parts / "best", **{**changes, "learning_rate": 0.3}, snapshots="1,3"))
    step = Run(parts / "best").summary()["kept_step"]
    best = read_tensors(parts / "best" / f"best-{step}.safetensors")
    end = weights(parts / "best")
    assert all(torch.equal(end[name], value) for name, value in best.items())
    assert step == 9 or not same(end, weights(parts / "best" / "epoch3"))


@pytest.mark.parametrize(("given", "message"), [
    ("1,x", "expected numbers of epochs"), ("0", "expected numbers of epochs"), ("1,,2", "expected numbers of epochs"),
    ("4", "epoch 4 ends with step 12, the training with 9"),
])  # fmt: skip
def test_what_is_no_epoch_of_the_run_is_refused(given, message):
    feed = SimpleNamespace(plan=lambda epoch: [None] * 3)
    with pytest.raises(UsageError, match=message):
        snapshot_steps(TrainArguments(snapshots=given, steps=9), feed, small_vlm())


def test_adapters_are_refused_before_anything_is_written(parts):
    with pytest.raises(UsageError, match="trains adapters"):
        train_pretrain.main(pretrain_flags(parts, parts / "lora", **EPOCHS, snapshots="1", train="projector,lora"))
    assert not (parts / "lora").exists()


def test_epochs_of_other_lengths_and_accumulated_steps_end_where_they_do():
    feed = SimpleNamespace(plan=lambda epoch: [None] * (5 + epoch % 2))  # 5, 6, 5 batches: ends 5, 11, 16
    plan = TrainArguments(snapshots="3, 1,2", steps=8, accumulation_steps=2)
    assert snapshot_steps(plan, feed, small_vlm()) == {2: 1, 5: 2, 8: 3}


class Rows(SimpleNamespace):
    """Examples of these lengths, one of each row."""

    def epoch(self, seed, epoch):
        return np.arange(len(self.lengths))


def test_in_fixed_order_every_epoch_has_the_rows_as_they_stand_in_the_data():
    rows = Rows(lengths=np.array([9, 3, 8, 2, 7, 1, 5]), records=[])
    fixed = Feed(rows, 3, 42, 0, None, BadRows(), fixed=True)
    for epoch in range(3):
        assert [batch.tolist() for batch in fixed.plan(epoch)] == [[0, 1, 2], [3, 4, 5], [6]]
    shuffled = [Feed(rows, 3, 42, 0, None, BadRows()).plan(epoch) for epoch in range(3)]
    assert all(sorted(np.concatenate(plan).tolist()) == list(range(7)) for plan in shuffled)
    assert len({str(plan) for plan in shuffled}) == 3


def test_the_order_reaches_the_training_and_belongs_to_the_run(parts, whole):
    train_pretrain.main(pretrain_flags(parts, parts / "fixed", **EPOCHS, order="fixed"))
    assert not same(weights(parts / "fixed"), weights(whole))
    assert Run(parts / "fixed").record()["settings"]["order"] == "fixed"
    assert "leave out --token_budget" in check(TrainArguments(order="fixed", token_budget=100))
    assert "leave out --token_budget" in check(TrainArguments(order="fixed", curriculum="short"))
    assert flags(order="fixed") == ["--order", "fixed"]
