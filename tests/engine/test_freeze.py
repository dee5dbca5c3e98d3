from __future__ import annotations

import pytest
import torch
from engine_parts import make_parts, pretrain_flags, small_batches, small_plan, small_vlm

import train_pretrain
from engine import trainer
from engine.command import guarded
from engine.freeze import (
    FreezeError,
    check_frozen,
    count_parameters,
    frozen_sums,
    parameter_table,
    resolve,
    set_trainable,
)
from engine.loop import gradients, take_step
from engine.optimizer import make_optimizer
from model.checkpoints import read_tensors

LAYER = "llm.model.layers."


def trainable(*prefixes: str) -> set[str]:
    model = small_vlm(vision=True)
    set_trainable(model, prefixes)
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def names(*starts: str) -> set[str]:
    return {name for name, _ in small_vlm(vision=True).named_parameters() if name.startswith(starts)}


@pytest.mark.parametrize(
    ("prefix", "path"),
    [
        ("projector", "projector"),
        (" llm ", "llm"),
        ("llm.layers.0", "llm.model.layers.0"),
        ("llm.layers.-1", "llm.model.layers.7"),
        ("llm.layers.-8.mlp", "llm.model.layers.0.mlp"),
        ("llm.model.layers.-2", "llm.model.layers.6"),
        ("llm.layers.-9", "llm.model.layers.-9"),
        ("llm.layers.-x", "llm.model.layers.-x"),
        ("llm.layers", "llm.model.layers"),
        ("vision.layers.-1", "vision.layers.-1"),
    ],
)
def test_a_prefix_is_written_as_people_say_it(prefix, path):
    assert resolve(prefix, 8) == path


def test_exactly_what_lies_under_the_prefixes_trains():
    assert trainable("projector") == names("projector.")
    assert trainable("llm.layers.0") == names(LAYER + "0.")
    assert trainable("llm.layers.-1", "projector") == names(LAYER + "1.", "projector.")
    assert trainable("llm.layers.-1.mlp") == names(LAYER + "1.mlp.")
    assert trainable("llm.model.embed_tokens.weight") == {"llm.model.embed_tokens.weight"}
    assert trainable("llm.layers.*.self_attn") == names(LAYER + "0.self_attn.", LAYER + "1.self_attn.")
    assert trainable("llm.layers.*.mlp.up_proj") == {f"{LAYER}{i}.mlp.up_proj.weight" for i in range(2)}
    assert trainable("vision", "projector", "llm") == names("")


def test_a_prefix_is_a_path_and_not_the_start_of_a_name():
    for prefix in ("proj", "llm.layers.", "llm.model.layer", "llm.*.self_attn", "llm.layers.*.self_att"):
        with pytest.raises(FreezeError):
            trainable(prefix)


@pytest.mark.parametrize(
    "prefix", ["decoder", "llm.layers.2", "llm.layers.-3", "llm.layers.-x", "", "llm.model.lm_head"]
)
def test_a_prefix_that_matches_nothing_is_named_with_what_there_is(prefix):
    with pytest.raises(FreezeError) as error:
        trainable("projector", prefix)
    text = str(error.value)
    assert f"--train {prefix}:" in text and "llm, projector, vision" in text and "llm.layers.0 to llm.layers.1" in text


def test_setting_what_trains_again_forgets_what_did():
    model = small_vlm()
    set_trainable(model, ("llm",))
    set_trainable(model, ("projector",))
    assert {name for name, p in model.named_parameters() if p.requires_grad} == names("projector.")


def test_counts_are_those_of_the_parts_and_the_table_leaves_the_encoder_out():
    model = small_vlm(vision=True)
    set_trainable(model, ("projector",))
    counts = count_parameters(model)
    for part in ("vision", "projector", "llm"):
        assert sum(counts[part]) == sum(p.numel() for p in getattr(model, part).parameters())
    assert counts["projector"][1] == counts["llm"][0] == 0
    table = parameter_table(model)
    without = sum(counts["llm"] + counts["projector"])
    rows = {line[:16].strip(): line[16:].split() for line in table.splitlines()}
    assert rows["without encoder"] == [f"{n:,}" for n in (sum(counts["projector"]), sum(counts["llm"]), without)]
    assert rows["all"][2] == f"{without + sum(counts['vision']):,}"


def test_frozen_weights_keep_their_bits_in_training_and_the_others_do_not():
    model = small_vlm(vision=True)
    set_trainable(model, ("projector", "llm.layers.-1"))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    sums, optimizer = frozen_sums(model), make_optimizer(model, small_plan())
    for step, batch in enumerate(small_batches(3)):
        gradients(model, optimizer, [batch], small_plan())
        take_step(optimizer, small_plan(), step)
    check_frozen(model, sums)
    changed = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert changed == names("projector.", LAYER + "1.")


@pytest.mark.parametrize("change", [
    lambda weight: weight.mul_(1 + 2**-23),
    lambda weight: weight.view(-1)[:1].add_(1e-6),
    lambda weight: weight.neg_(),
    lambda weight: weight.copy_(weight.flip(0)),
], ids=["all-by-one-bit", "one", "signs", "order"])  # fmt: skip
def test_a_frozen_weight_that_changed_fails_by_name(change):
    model = small_vlm()
    set_trainable(model, ("projector",))
    before = frozen_sums(model)
    check_frozen(model, before)
    with torch.no_grad():
        change(model.llm.model.layers[1].mlp.up_proj.weight)
    with pytest.raises(FreezeError, match="1 frozen weights changed in training, as llm.model.layers.1.mlp.up_proj"):
        check_frozen(model, before)


def test_a_frozen_weight_in_another_number_format_is_watched_too():
    model = small_vlm(vision=True)
    model.vision.half()
    set_trainable(model, ("projector",))
    before = frozen_sums(model)
    with torch.no_grad():
        next(model.vision.parameters()).mul_(2)
    with pytest.raises(FreezeError, match="vision."):
        check_frozen(model, before)


def test_a_command_leaves_the_frozen_language_model_as_it_was(tmp_path):
    make_parts(tmp_path)
    train_pretrain.main(pretrain_flags(tmp_path, tmp_path / "run", learning_rate=0.05))
    start, end = (read_tensors(tmp_path / folder / "model.safetensors") for folder in ("lm", "run"))
    assert all(torch.equal(end[name], start[name]) for name in start)
    assert {name.split(".")[0] for name in end.keys() - start.keys()} == {"projector"}


def test_a_command_that_changed_a_frozen_weight_fails_and_keeps_no_model(tmp_path, monkeypatch, capsys):
    make_parts(tmp_path)
    train = trainer.train

    def careless(model, *args):
        summary = train(model, *args)
        model.llm.model.norm.weight.data += 1
        return summary

    monkeypatch.setattr(trainer, "train", careless)
    assert guarded(lambda: train_pretrain.main(pretrain_flags(tmp_path, tmp_path / "run"))) == 1
    assert "1 frozen weights changed in training, as llm.model.norm.weight" in capsys.readouterr().err
    assert not (tmp_path / "run" / "model.safetensors").exists()
    assert not (tmp_path / "run" / "finished.json").exists()


def test_a_command_trains_the_encoder_where_it_is_asked_to_and_keeps_it(tmp_path):
    make_parts(tmp_path)
    argv = pretrain_flags(tmp_path, tmp_path / "run", train="projector, vision", steps=2)
    train_pretrain.main(argv)
    end = read_tensors(tmp_path / "run" / "model.safetensors")
    lm, vision = (read_tensors(tmp_path / folder / "model.safetensors") for folder in ("lm", "vision"))
    assert all(torch.equal(end[name], lm[name]) for name in lm)
    kept = {name for name in vision if not torch.equal(end["vision." + name], vision[name])}
    assert len(kept) > len(vision) / 2


def test_a_command_trains_the_first_and_the_last_layer_alone(tmp_path, capsys):
    make_parts(tmp_path)
    train_pretrain.main(pretrain_flags(tmp_path, tmp_path / "run", train="llm.layers.0,llm.layers.-1", steps=2))
    start, end = (read_tensors(tmp_path / folder / "model.safetensors") for folder in ("lm", "run"))
    changed = {name for name in start if not torch.equal(end[name], start[name])}
    assert changed == {name for name in start if name.startswith((LAYER + "0.", LAYER + "1."))}
    count = sum(start[name].numel() for name in changed)
    assert f"llm         {count:>14,}" in capsys.readouterr().out
