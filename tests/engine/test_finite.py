"""A part of the model whose output is not finite is named, in training and in answering; not the learning rate."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from engine_parts import small_batches, small_plan, small_vlm

from engine.build import Encoder
from engine.checkpoint import Run
from engine.dataloader import encode_pixels
from engine.device import accelerate
from engine.finite import NotFiniteError
from engine.freeze import set_trainable
from engine.inference import Decoding, generate_batch
from engine.loop import train

NAMES = {"vision": "image encoder", "llm": "language model", "projector": "projector"}


def overflowing(part: str, fast: str):
    """A VLM of finite weights, and one batch with pixels, on which one part overflows."""
    model = small_vlm(vision=True)
    with torch.no_grad():
        for name, parameter in model.get_submodule(part).named_parameters():
            if name.endswith(("fc2.weight", "model.norm.weight", "linear_2.weight")):
                parameter.fill_(3e38)
    accelerate(model, fast)
    batch = small_batches(1, rows=1)[0]
    return model, replace(batch, features=None, pixels=torch.randn(1, 3, 32, 32))


@pytest.mark.parametrize("fast", ["on", "off"])
@pytest.mark.parametrize("part", NAMES)
def test_in_training(tmp_path, part, fast):
    model, batch = overflowing(part, fast)
    set_trainable(model, ("projector", "llm"))
    with pytest.raises(NotFiniteError, match=f"^step 1: .* output of the {NAMES[part]} is not finite .{part}") as error:
        train(model, small_plan(), lambda start: iter([[batch]]), Run(tmp_path))
    assert "lower" not in str(error.value) and "--dtype float32" in str(error.value)


@pytest.mark.parametrize("fast", ["on", "off"])
@pytest.mark.parametrize("part", NAMES)
def test_in_answering(part, fast):
    model, batch = overflowing(part, fast)
    words = SimpleNamespace(end_ids=[1], decode=str)
    with pytest.raises(NotFiniteError, match=f"new token 1 are not finite: the {NAMES[part]} is at fault"):
        generate_batch(model.eval(), words, batch, Decoding(4))


def test_in_filling_the_cache():
    model, batch = overflowing("vision", "off")
    encoder = Encoder(model.vision, None, "", "folder")
    with pytest.raises(NotFiniteError, match="output of the image encoder in folder is not finite"):
        encode_pixels(encoder, batch.pixels, torch.device("cpu"), torch.float32)


def test_after_a_step_the_learning_rate_is_named(tmp_path):
    model, batch = small_vlm(), small_batches(1)[0]
    set_trainable(model, ("llm",))
    plan = small_plan(warmup=1, grad_clip=0.0, learning_rate=1e30, min_lr_ratio=1.0)
    with pytest.raises(NotFiniteError, match="^step 2: .* Try a lower --learning_rate"):
        train(model, plan, lambda start: iter([[batch]] * 6), Run(tmp_path))
