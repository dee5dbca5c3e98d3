"""On an NVIDIA GPU: the losses of a CPU, runs that are resumed, recorded decode steps. Skipped where there is none."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from engine_parts import Kill, in_process, pretrain_flags, prompt_batch, sft_flags, small_vlm, told

from model import fast
from model.config import LMConfig
from model.fast.decoding import TokenStepper
from model.fast.graphs import FastKVCache
from model.generation import generate
from model.language import LanguageModel

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
GPU = {"device": "cuda", "dtype": "float32"}


def trained(parts: Path, out: Path, kill: Kill | None = None, **changes) -> list[dict]:
    """The log of train_pretrain.py on make_parts' data."""
    output = out.with_name(out.name + ".txt")
    code = in_process("train_pretrain", pretrain_flags(parts, out, optimizer="adamw", **changes), output, kill)
    assert code == (-9 if kill else 0), output.read_text()
    return told(out)


def losses(log: list[dict]) -> list[float]:
    return [entry[key] for entry in log for key in ("loss", "val_loss") if key in entry]


@pytest.mark.parametrize("mode", ["on", "off"])
def test_a_training_has_the_losses_that_it_has_on_cpu(parts, tmp_path, mode):
    """TF32 products of a tiny model: a thousandth."""
    here = trained(parts, tmp_path / "cpu", fast=mode)
    there = trained(parts, tmp_path / "cuda", fast=mode, **GPU)
    assert [entry.keys() for entry in here] == [entry.keys() for entry in there]
    assert len(losses(here)) >= 5 and losses(there) == pytest.approx(losses(here), rel=2e-3)


def test_a_run_that_was_killed_ends_as_if_it_had_not_been(parts, tmp_path):
    whole = trained(parts, tmp_path / "whole", **GPU)
    trained(parts, tmp_path / "killed", Kill("loss", 4), **GPU)
    again = trained(parts, tmp_path / "killed", **GPU)
    assert losses(again) == pytest.approx(losses(whole), rel=1e-5)


def test_all_of_the_model_trains_in_bfloat16_with_muon(parts, tmp_path):
    trained(parts, tmp_path / "pretrain", **GPU)
    flags = sft_flags(tmp_path / "pretrain", tmp_path / "sft", device="cuda", dtype="bfloat16", vision=parts / "vision")
    assert in_process("train_sft", flags, tmp_path / "sft.txt") == 0, (tmp_path / "sft.txt").read_text()
    assert max(losses(told(tmp_path / "sft"))) < 12


@pytest.mark.parametrize("rows", [1, 3])
@torch.no_grad()
def test_a_decode_step_is_recorded_and_its_replays_give_the_logits_of_the_whole_text(rows):
    torch.manual_seed(1)
    llm = LanguageModel(LMConfig(64, 3, 4, 2, 96, 60, max_position_embeddings=64), torch.Generator().manual_seed(1))
    llm, ids = llm.cuda(), torch.randint(0, 60, (rows, 24)).cuda()
    whole = llm.logits(llm(llm.embed(ids)))
    stepper = TokenStepper(llm)
    for _ in range(2):  # the second time in other memory, so it is recorded anew
        cache = FastKVCache(llm.config, 24)
        llm(llm.embed(ids[:, :8]), None, cache)
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # "no CUDA graph ..."
            for at in range(8, 24):
                found = stepper.step(ids[:, at], torch.full((rows,), at, device="cuda"), None, cache)
                assert (found - whole[:, at]).abs().max() < 2e-3 * whole.abs().max()
        assert stepper._fixed_step is not None and stepper._fixed_step._graph is not None


def test_answers_are_those_of_the_plain_model_on_cpu():
    """Left-padded rows that end at different lengths, so that the recorded step is laid out anew on the way."""
    vlm = small_vlm()
    ids = torch.tensor([[0, 0, 7, 8, 9, 10], [11, 12, 13, 14, 15, 16], [0, 0, 0, 0, 20, 21]])
    batch = prompt_batch(ids, ids > 0, torch.zeros_like(ids, dtype=torch.bool))
    plain = generate(vlm, batch, max_new_tokens=24, end_id=3).ids
    fast.enable(vlm).cuda()
    ids = ids.cuda()
    there = prompt_batch(ids, ids > 0, torch.zeros_like(ids, dtype=torch.bool))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert generate(vlm, there, max_new_tokens=24, end_id=3).ids == plain
