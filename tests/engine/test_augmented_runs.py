"""--augment when a language model learns: pictures change at each step, and a run still follows from its settings."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from engine_parts import Kill, finished, flags, in_process, pretrain_flags, small_batches, told

from dataset.augment import augmented
from dataset.bad_rows import DataError
from dataset.preprocess import PreprocessSpec

SPEC = PreprocessSpec.square(32)


def test_training_batches_change_with_the_step_and_batches_without_pictures_stay():
    _, change = augmented("crop", 7, SPEC, 1.0)
    (batch,) = small_batches(1)
    seen = dataclasses.replace(batch, features=None, pixels=torch.rand(2, 3, 32, 32))
    one, again, other = (change(step, seen).pixels for step in (1, 1, 2))
    assert torch.equal(one, again) and not torch.equal(one, other) and not torch.equal(one, seen.pixels)
    text = dataclasses.replace(batch, features=None)
    assert change(1, text) is text


@pytest.mark.parametrize("name", ["gray", "colours"])
def test_a_change_that_makes_captions_false_is_refused(name):
    with pytest.raises(DataError, match=f"--augment {name} is for train_vision.py alone"):
        augmented(name, 7, SPEC, 1.0)


def test_a_killed_run_ends_as_if_it_had_not_been(parts, tmp_path):
    run = lambda name, argv: told(finished("train_pretrain", argv, tmp_path / name))  # noqa: E731
    whole = run("whole", pretrain_flags(parts, tmp_path / "whole", augment="crop"))
    plain = run("plain", pretrain_flags(parts, tmp_path / "plain"))
    argv = pretrain_flags(parts, tmp_path / "killed", augment="crop")
    assert in_process("train_pretrain", argv, tmp_path / "k.txt", Kill("loss", 4)) == -9
    assert run("killed", argv) == whole
    assert [entry.get("loss") for entry in whole] != [entry.get("loss") for entry in plain]


def test_a_killed_training_of_an_encoder_with_dropout_on_captions_ends_as_if_it_had_not_been(parts, tmp_path):
    """Crops, captions and what is dropped follow from the step's number."""
    lines = [f"{i}.png#{k}\t一个东西{'，很大' * k}。\n" for i in range(24) for k in range(2)]
    (tmp_path / "captions.token").write_text("".join(lines), "utf-8")
    values = {
        "data": tmp_path / "captions.token", "images": parts / "pictures", "image_size": 16, "patch_size": 4,
        "hidden_size": 64, "layers": 1, "dropout": 0.2, "augment": "crop", "steps": 5, "batch_size": 6,
        "save_interval": 2, "eval_interval": 3, "log_interval": 1, "device": "cpu", "dtype": "float32",
    }  # fmt: skip
    whole = told(finished("train_vision", flags(**values, out=tmp_path / "whole"), tmp_path / "whole"))
    argv = flags(**values, out=tmp_path / "killed")
    output = tmp_path / "k.txt"
    assert in_process("train_vision", argv, output, Kill("training_state.safetensors", 2, "after")) == -9
    assert "resuming" not in output.read_text()
    assert told(finished("train_vision", argv, tmp_path / "killed")) == whole
    assert "resuming after step" in (tmp_path / "killed.txt").read_text()
