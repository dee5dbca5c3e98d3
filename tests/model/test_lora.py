from __future__ import annotations

import copy
import json

import pytest
import torch
from engine_parts import broken_off, make_parts, pretrain_flags, small_batches, small_plan, small_vlm
from torch import nn

import train_pretrain
import train_sft
from engine.arguments import UsageError
from engine.checkpoint import open_run
from engine.freeze import FreezeError, count_parameters, peak_rates, set_trainable
from engine.loop import gradients, take_step, train
from engine.optimizer import make_optimizer
from model.checkpoints import fingerprint, load_language, load_vlm, read_tensors
from model.checkpoints.files import read_metadata
from model.lora import LoRALinear, add_lora, lora_tensors, merge_lora

TARGETS = ("q_proj", "v_proj")


def adapted(targets=TARGETS, rank: int = 4, alpha: float = 8.0, seed: int = 0):
    model = small_vlm()
    add_lora(model.llm, targets, rank, alpha, torch.Generator().manual_seed(seed))
    return model


def trained_steps(model: nn.Module, count: int = 3) -> nn.Module:
    plan = small_plan()
    optimizer = make_optimizer(model, plan)
    for step, batch in enumerate(small_batches(count)):
        gradients(model, optimizer, [batch], plan)
        take_step(optimizer, plan, step)
    return model


def test_at_step_zero_the_model_is_the_base_bit_for_bit():
    batch = small_batches(1)[0]
    with torch.no_grad():
        assert torch.equal(adapted().logits(batch), small_vlm().logits(batch))


def test_an_adapter_adds_the_scaled_product_of_its_matrices():
    layer = LoRALinear(nn.Linear(6, 5), rank=2, alpha=3.0)
    nn.init.normal_(layer.lora_b)
    x = torch.randn(4, 6)
    expected = x @ (layer.base.weight + 1.5 * layer.lora_b @ layer.lora_a).T + layer.base.bias
    torch.testing.assert_close(layer(x), expected)


def test_the_adapters_are_where_they_were_asked_for_and_as_many_as_that_makes():
    model = adapted(rank=4)
    set_trainable(model, ("projector", "lora"))
    found = {name for name, p in model.llm.named_parameters() if p.requires_grad}
    assert found == {f"model.layers.{i}.self_attn.{t}.lora_{x}" for i in (0, 1) for t in TARGETS for x in "ab"}
    counts = count_parameters(model)
    assert counts["llm"][0] == 2 * (4 * (64 + 64) + 4 * (64 + 32))
    assert counts["llm"][1] == sum(p.numel() for p in small_vlm().llm.parameters())
    assert counts["projector"][1] == 0


def test_in_training_the_base_keeps_its_bits_and_the_adapters_do_not():
    model = adapted()
    set_trainable(model, ("lora",))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    trained_steps(model)
    changed = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert changed == lora_tensors(model).keys()


def test_merged_it_answers_as_before_under_the_bases_names():
    model = adapted(targets=("q_proj", "v_proj", "down_proj", "up_proj"))
    set_trainable(model, ("projector", "lora"))
    trained_steps(model)
    batch = small_batches(1, seed=9)[0]
    with torch.no_grad():
        unmerged = model.logits(batch)
        merge_lora(model)
        merged = model.logits(batch)
        base = small_vlm().logits(batch)
    torch.testing.assert_close(merged, unmerged, atol=1e-5, rtol=1e-5)
    assert (merged - base).abs().max() > 1e-2  # there was something to merge
    assert model.state_dict().keys() == small_vlm().state_dict().keys()
    assert not lora_tensors(model)


def test_what_the_adapters_file_holds_makes_the_merged_weights_again():
    model = adapted()
    set_trainable(model, ("lora",))
    trained_steps(model)
    adapters = {name: tensor.clone() for name, tensor in lora_tensors(model).items()}
    again = adapted(seed=5)
    again.load_state_dict({**again.state_dict(), **adapters})
    merge_lora(model)
    merge_lora(again)
    assert fingerprint(again) == fingerprint(model)


def test_a_layer_of_another_name_and_training_a_base_beside_its_adapter_are_refused():
    with pytest.raises(ValueError, match="no linear layer is called 'query'; there are down_proj, gate_proj, k_proj"):
        add_lora(small_vlm().llm, ("q_proj", "query"), 4, 8.0)
    with pytest.raises(FreezeError, match=r"--train llm,lora: llm.model.layers.0.self_attn.q_proj.base.weight has an"):
        set_trainable(adapted(), ("llm", "lora"))
    with pytest.raises(FreezeError, match="--train lora: no weight"):
        set_trainable(small_vlm(), ("lora",))
    set_trainable(adapted(), ("llm.model.embed_tokens", "lora"))  # weights without an adapter may train beside


def test_the_adapters_may_learn_at_a_rate_of_their_own():
    model = adapted()
    set_trainable(model, ("projector", "lora"))
    rates = peak_rates(model, 1.0, {"lora": 0.5, "projector": 0.25})
    assert {rate for name, rate in rates.items() if name.startswith("llm.")} == {0.5}
    assert {rate for name, rate in rates.items() if name.startswith("projector.")} == {0.25}


def test_every_linear_layer_can_have_one_and_merged_before_it_learned_nothing_has_changed():
    model = small_vlm()
    names = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    twin = copy.deepcopy(model)
    add_lora(model.llm, names, 2, 2.0)
    assert not any(type(child) is nn.Linear and not name.endswith(".base") for name, child in model.llm.named_modules())
    merge_lora(model)  # nothing learned yet
    assert fingerprint(model) == fingerprint(twin)


def test_a_run_with_adapters_goes_on_bit_identically(tmp_path):
    batches = [[batch] for batch in small_batches(6)]

    def go(path, stop=None):
        model = adapted()
        set_trainable(model, ("projector", "lora"))
        train(model, small_plan(optimizer="muon"), broken_off(batches, stop), open_run(path, {}, {}))
        return fingerprint(model)

    with pytest.raises(KeyboardInterrupt):
        go(tmp_path / "stopped", 5)
    assert go(tmp_path / "stopped") == go(tmp_path / "whole")


def test_a_commands_run_holds_merged_weights_that_the_next_stage_starts_from(tmp_path, capsys):
    make_parts(tmp_path)
    train_pretrain.main(pretrain_flags(tmp_path, tmp_path / "run", steps=3, train="projector, lora", lora_rank=2,
                                       lora_targets="q_proj,down_proj"))  # fmt: skip
    run = tmp_path / "run"
    start, end = (read_tensors(tmp_path / folder / "model.safetensors") for folder in ("lm", "run"))
    changed = {name for name in start if not torch.equal(start[name], end[name])}
    assert changed == {name for name in start if name.endswith(("q_proj.weight", "down_proj.weight"))}
    adapters, how = read_tensors(run / "lora.safetensors"), read_metadata(run / "lora.safetensors")
    assert (how["rank"], how["alpha"], how["targets"]) == ("2", "16.0", "q_proj,down_proj")
    for name in changed:
        a, b = (adapters[f"{name.removesuffix('.weight')}.lora_{x}"] for x in "ab")
        torch.testing.assert_close(end[name], start[name] + 8.0 * b @ a)
    load_vlm(run)
    load_language(run)
    assert json.loads((run / "run.json").read_text())["settings"]["lora_rank"] == 2
    capsys.readouterr()
    train_sft.main(["--from", str(run), "--data", str(tmp_path / "data.jsonl"), "--images", str(tmp_path / "pictures"),
                    "--dry-run", "--device", "cpu"])  # fmt: skip
    assert "without encoder" in capsys.readouterr().out


def test_a_target_that_is_not_there_is_a_command_in_words(tmp_path):
    make_parts(tmp_path)
    argv = pretrain_flags(tmp_path, tmp_path / "run", train="lora", lora_targets="query")
    with pytest.raises(UsageError, match="--lora_targets query: no linear layer is called 'query'; there are"):
        train_pretrain.main(argv)
    assert not (tmp_path / "run").exists()
