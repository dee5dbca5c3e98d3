from __future__ import annotations

import json
import math

import pytest
import torch
from engine_parts import broken_off, make_parts, pretrain_flags, small_batches, small_plan, small_vlm

import train_pretrain
from engine.arguments import TrainArguments, rates_of
from engine.checkpoint import open_run
from engine.console import parse
from engine.freeze import FreezeError, peak_rates, rate_table, set_trainable
from engine.loop import gradients, take_step, train
from engine.optimizer import Muon, learning_rate, make_optimizer
from model.checkpoints import fingerprint, read_tensors

RATES = {"llm": 1e-3, "projector": 5e-3, "llm.layers.-1": 2e-3, "llm.layers.-1.mlp.up_proj": 4e-3}


def model_with(*prefixes: str):
    model = small_vlm()
    set_trainable(model, prefixes)
    return model


def test_the_longest_prefix_counts_in_whatever_order_they_stand():
    model = model_with("llm", "projector")
    for rates in (RATES, dict(reversed(RATES.items()))):
        found = peak_rates(model, 1.0, rates)
        assert found.keys() == {name for name, _ in model.named_parameters()}
        for name, rate in found.items():
            expected = 5e-3 if name.startswith("projector.") else 1e-3
            if name.startswith("llm.model.layers.1."):
                expected = 4e-3 if ".up_proj." in name else 2e-3
            assert rate == expected, name


def test_what_no_prefix_names_takes_the_one_rate_and_frozen_weights_none():
    model = model_with("llm.layers.0", "projector")
    found = peak_rates(model, 0.5, {"projector": 0.25})
    assert {rate for name, rate in found.items() if name.startswith("projector.")} == {0.25}
    assert {rate for name, rate in found.items() if name.startswith("llm.")} == {0.5}
    assert found.keys() == {name for name, p in model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize(("rates", "said"), [
    ({"decoder": 1.0}, "--learning_rates decoder: no weight is named 'decoder'"),
    ({"llm.layers.7": 1.0}, "--learning_rates llm.layers.7: no weight"),
    ({"llm": 1.0}, "--learning_rates llm: nothing under it trains"),
])  # fmt: skip
def test_a_prefix_without_effect_is_an_error(rates, said):
    with pytest.raises(FreezeError, match=said):
        peak_rates(model_with("projector"), 0.1, rates)


@pytest.mark.parametrize("text", ["llm", "llm=", "=1", "llm=fast", "llm=0", "llm=-1", "llm=nan", "llm=inf", "llm=1,,",
                                  "llm=1,llm=2"])  # fmt: skip
def test_a_text_that_is_no_list_of_rates_ends_a_command(text, capsys):
    with pytest.raises(SystemExit) as left:
        parse(TrainArguments(), ["--learning_rates", text])
    assert left.value.code == 2 and f"--learning_rates {text}: " in capsys.readouterr().err


def test_rates_are_read_with_blanks_around():
    assert rates_of("") == {} and rates_of(" llm = 1e-4, projector=1e-3 ") == {"llm": 1e-4, "projector": 1e-3}


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_every_weight_follows_the_schedule_at_its_own_peak(kind):
    model = model_with("llm", "projector")
    plan = small_plan(optimizer=kind, rates=RATES, learning_rate=1e-2)
    optimizer = make_optimizer(model, plan)
    assert isinstance(optimizer, Muon) == (kind == "muon")
    names, peaks = {id(p): n for n, p in model.named_parameters()}, peak_rates(model, 1e-2, RATES)
    for step, batch in enumerate(small_batches(4)):
        gradients(model, optimizer, [batch], plan)
        assert take_step(optimizer, plan, step) == learning_rate(step, 6, 1e-2, 2, 0.1)
        found = {names[id(p)]: group["lr"] for group in optimizer.param_groups for p in group["params"]}
        assert found.keys() == peaks.keys()
        for name, rate in found.items():
            assert math.isclose(rate, learning_rate(step, 6, peaks[name], 2, 0.1), rel_tol=1e-12)


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_one_rate_given_to_each_part_trains_as_the_one_rate_does(kind):
    ends = []
    for rates in ({}, {"llm": 1e-2, "llm.layers.0": 1e-2, "projector": 1e-2}):
        model, plan = model_with("llm", "projector"), small_plan(optimizer=kind, rates=rates)
        optimizer = make_optimizer(model, plan)
        for step, batch in enumerate(small_batches(3)):
            gradients(model, optimizer, [batch], plan)
            take_step(optimizer, plan, step)
        ends.append(fingerprint(model))
    assert ends[0] == ends[1] != fingerprint(small_vlm())


def test_a_part_at_a_tiny_rate_stays_nearly_where_it_was():
    model = model_with("llm", "projector")
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    plan = small_plan(optimizer="muon", rates={"llm": 1e-12})
    optimizer = make_optimizer(model, plan)
    gradients(model, optimizer, small_batches(1), plan)
    take_step(optimizer, plan, 1)
    moved = {name: (p - before[name]).abs().max().item() for name, p in model.named_parameters()}
    assert max(size for name, size in moved.items() if name.startswith("llm.")) < 1e-9
    assert max(size for name, size in moved.items() if name.startswith("projector.")) > 1e-3


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_a_run_with_rates_goes_on_bit_identically(tmp_path, kind):
    batches = [[batch] for batch in small_batches(6)]
    plan = small_plan(optimizer=kind, rates={"projector": 2e-2, "llm.layers.-1": 1e-3})

    def go(path, stop=None):
        model = model_with("llm", "projector")
        train(model, plan, broken_off(batches, stop), open_run(path, {}, {}))
        return fingerprint(model)

    with pytest.raises(KeyboardInterrupt):
        go(tmp_path / "stopped", 5)
    assert go(tmp_path / "stopped") == go(tmp_path / "whole")


def test_the_table_counts_the_weights_at_each_rate():
    model = model_with("llm.layers.0", "projector")
    rows = [line.split() for line in rate_table(model, 0.5, {"projector": 0.25}).splitlines()]
    sizes = {part: sum(p.numel() for n, p in model.named_parameters() if p.requires_grad and n.startswith(part))
             for part in ("projector", "llm")}  # fmt: skip
    assert {(row[0], row[1], row[-1]) for row in rows} == {
        ("projector", f"{sizes['projector']:,}", "0.25"), ("llm", f"{sizes['llm']:,}", "0.5"),
    }  # fmt: skip


def test_a_command_takes_rates_prints_them_and_runs_from_before_the_flag_stay_usable(tmp_path, capsys):
    make_parts(tmp_path)
    argv = pretrain_flags(tmp_path, tmp_path / "run", steps=2, train="projector,llm")
    train_pretrain.main([*argv, "--learning_rates", "projector=1e-3,llm=1e-9"])
    said = capsys.readouterr().out
    assert "at a peak rate of 0.001" in said and "at a peak rate of 1e-09" in said
    start, end = (read_tensors(tmp_path / folder / "model.safetensors") for folder in ("lm", "run"))
    assert all(torch.allclose(end[name], start[name], atol=1e-6) for name in start)
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["settings"]["learning_rates"] == "projector=1e-3,llm=1e-9"

    argv = pretrain_flags(tmp_path, tmp_path / "old", steps=2)
    train_pretrain.main(argv)
    record = json.loads((tmp_path / "old" / "run.json").read_text())
    del record["settings"]["learning_rates"]
    (tmp_path / "old" / "run.json").write_text(json.dumps(record))
    capsys.readouterr()
    train_pretrain.main(argv)
    assert "is finished; nothing to do" in capsys.readouterr().out
