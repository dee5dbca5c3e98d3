from __future__ import annotations

from functools import partial
from types import SimpleNamespace

import pytest
import torch
from engine_parts import VISION, feed_of, small_batches, small_plan, small_vlm

from engine.freeze import set_trainable
from engine.loop import gradients, take_step
from engine.memory import GIB, KEPT, fits, kept_memory, layer_activations, memory_plan, memory_table, vision_activations
from engine.optimizer import make_optimizer
from model import fast
from model.captioner import Captioner
from model.config import LMConfig, VisionConfig, VLMConfig
from model.fast.language import FastLanguageModel
from model.vision import VisionTransformer
from model.vlm import VLM


def kept_bytes(model, loss, dtype: torch.dtype) -> int:
    """What autograd keeps for the backward pass of loss(), weights and their copies left out."""
    shapes = {tuple(p.shape) for p in model.parameters()}
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    seen = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        weight = tuple(tensor.shape) in shapes or tuple(tensor.shape)[::-1] in shapes
        if storage.data_ptr() not in own and not weight:
            seen[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16),
    ):
        loss()
    return sum(size for size, _ in seen.values())


def layer_difference(trained: bool, checkpointing: bool, dtype: torch.dtype, is_fast: bool) -> float:
    """Bytes a token that a layer more keeps, measured."""
    found = []
    for layers in (1, 3):
        config = LMConfig(32, layers, 2, 1, 80, 60)
        torch.manual_seed(0)
        model = VLM(VLMConfig(config))
        if is_fast:
            fast.enable(model)
        set_trainable(model, ("llm",) if trained else ("llm.model.embed_tokens",))
        model.llm.checkpointing = checkpointing
        ids = torch.randint(4, 60, (1, 520))
        labels = torch.where(torch.arange(520) < 510, -100, ids)
        batch = SimpleNamespace(ids=ids, labels=labels, attention_mask=ids > 0, image_mask=ids < 0, pixels=None,
                                features=None, words=None)  # fmt: skip
        found.append(kept_bytes(model, partial(model.loss, batch), dtype))
    return (found[1] - found[0]) / 2 / 520


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("trained", [True, False])
@pytest.mark.parametrize("is_fast", [True, False])
def test_a_layer_keeps_what_the_plan_says_it_keeps(dtype, trained, is_fast):
    half = dtype == torch.bfloat16
    scores = FastLanguageModel.kept_scores(520) if half and is_fast else 0
    expected = layer_activations(LMConfig(32, 1, 2, 1, 80, 60), trained, half, is_fast, scores)
    assert layer_difference(trained, False, dtype, is_fast) == pytest.approx(expected, rel=0.1 if is_fast else 0.02)


@pytest.mark.parametrize("is_fast", [True, False])
def test_with_checkpointing_a_layer_keeps_its_input(is_fast):
    assert layer_difference(True, True, torch.float32, is_fast) == pytest.approx(4 * 32, rel=0.1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("is_fast", [True, False])
def test_an_encoder_keeps_what_the_plan_says_it_keeps(dtype, is_fast):
    config = VisionConfig(48, 160, 2, 3, 64, 8, "gelu", class_token=False, pre_norm=False, stem="conv")
    encoder = VisionTransformer(config)
    if is_fast:
        fast.enable(encoder)
    pixels = torch.randn(2, 3, 64, 64)
    half = dtype == torch.bfloat16
    scores = FastLanguageModel.kept_scores(config.num_patches) if half and is_fast else 0
    expected = 2 * vision_activations(config, half, is_fast, scores)
    assert kept_bytes(encoder, lambda: encoder(pixels), dtype) == pytest.approx(expected, rel=0.15)


def test_the_plain_model_is_planned_with_more_activations():
    plans = [memory_plan(model, feed_of([100]), torch.float32, "adamw")
             for model in (small_vlm(), fast.enable(small_vlm()))]  # fmt: skip
    assert plans[0]["activations"] > 1.2 * plans[1]["activations"] and plans[0]["weights"] == plans[1]["weights"]


@pytest.mark.parametrize("kind", ["adamw", "muon"])
@pytest.mark.parametrize("trained", [("projector",), ("projector", "llm"), ("llm.layers.-1",)])
def test_weights_gradients_and_moments_are_those_that_there_are_after_a_step(kind, trained):
    model, plan = small_vlm(vision=True), small_plan(optimizer=kind)
    set_trainable(model, trained)
    expected = memory_plan(model, feed_of([4]), torch.float32, kind)
    optimizer = make_optimizer(model, plan)
    gradients(model, optimizer, small_batches(1), plan)
    grads = sum(4 * p.grad.numel() for p in model.parameters() if p.grad is not None)
    take_step(optimizer, plan, 0)
    moments = sum(4 * v.numel() for state in optimizer.state.values() for v in state.values() if v.dim())
    assert expected["weights"] == sum(4 * p.numel() for p in model.parameters())
    assert (expected["gradients"], expected["optimizer"]) == (grads, moments) and expected["bf16 copies"] == 0
    if kind == "muon" and "llm" in trained:
        assert grads < moments < 2 * grads


def test_layers_below_what_trains_keep_nothing():
    def activations(*trained: str) -> int:
        model = small_vlm()
        set_trainable(model, trained)
        return memory_plan(model, feed_of([100]), torch.float32, "adamw")["activations"]

    assert activations("llm.model.norm") == 0
    assert 0 < activations("llm.layers.-1") < activations("llm.layers.-1", "projector") < activations("llm")
    assert activations("llm.layers.0") == activations("llm.layers.-1", "projector")


def test_the_plan_grows_with_the_batch_shrinks_with_checkpointing_and_is_split_among_processes():
    model = small_vlm()
    one, many = (memory_plan(model, feed_of([100] * n), torch.float32, "adamw") for n in (1, 8))
    assert many["activations"] == 8 * one["activations"] and many["logits"] == 8 * one["logits"]
    assert many["weights"] == one["weights"]
    again = memory_plan(model, feed_of([100] * 8), torch.float32, "adamw", checkpointing=True)
    assert again["activations"] < many["activations"] and again["logits"] == many["logits"]
    half = memory_plan(model, feed_of([100] * 8), torch.float32, "adamw", ranks=2)
    assert 2 * half["activations"] == many["activations"] and half["weights"] == many["weights"]


def test_a_gpu_holds_frozen_weights_of_products_in_bf16_alone():
    model = small_vlm()
    set_trainable(model, ("projector",))
    here, gpu = (memory_plan(model, feed_of([100]), torch.bfloat16, "adamw", on_gpu=on) for on in (False, True))
    frozen = sum(p.numel() for name, p in model.llm.named_parameters() if p.dim() == 2 and "embed" not in name)
    assert here["weights"] - gpu["weights"] == 4 * frozen and here["bf16 copies"] == gpu["bf16 copies"]


def test_rows_that_share_a_picture_count_for_the_decoder_and_not_for_the_encoder():
    model = Captioner(VISION, 60)
    one, three = feed_of([20, 20]), feed_of([20, 20])
    three.rows = 3
    plain, several = (memory_plan(model, feed, torch.float32, "adamw") for feed in (one, three))
    assert several["logits"] == 3 * plain["logits"] and several["weights"] == plain["weights"]
    pictures = 2 * vision_activations(VISION, half=False, fast=False)
    assert several["activations"] - pictures == 3 * (plain["activations"] - pictures) > 0


def test_the_table_says_which_gpus_are_big_enough():
    plan = {"weights": 9 * GIB, "activations": GIB}  # 11.5 GiB with slack and program
    assert [fits(plan, gpu) for gpu in (8, 11, 12, 24)] == [False, False, True, True]
    table = memory_table(plan)
    assert "weights         9.00 GiB" in table and "8 GB no, 12 GB yes, 16 GB yes, 24 GB yes" in table


def test_gradients_with_checkpointing_are_the_same():
    batch, found = small_batches(1)[0], []
    for checkpointing in (False, True):
        model = small_vlm()
        set_trainable(model, ("projector", "llm"))
        model.llm.checkpointing = checkpointing
        loss, _ = model.loss(batch)
        loss.backward()
        found.append((loss.item(), {name: p.grad for name, p in model.named_parameters()}))
    assert found[0][0] == found[1][0] and found[0][1].keys() == found[1][1].keys()
    for name, grad in found[0][1].items():
        torch.testing.assert_close(found[1][1][name], grad, atol=0, rtol=0)


def test_blocks_that_are_freed_and_kept_count_on_a_cpu_alone():
    plan = memory_plan(small_vlm(), feed_of([100]), torch.float32, "adamw")
    assert kept_memory(plan, torch.device("cpu")) == int(KEPT * (plan["activations"] + plan["logits"])) > 0
    assert kept_memory(plan, torch.device("cuda")) == 0
