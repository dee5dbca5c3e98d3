"""A step of one token a row says what the decoder's own forward pass says."""

from __future__ import annotations

import pytest
import torch

from model.config import LMConfig, RopeScaling
from model.fast.decoding import TokenStepper
from model.fast.graphs import FastKVCache, FixedStep
from model.language import LanguageModel
from model.lora import add_lora

PLAIN = LMConfig(32, 3, 4, 2, 48, 60, max_position_embeddings=64)
QWEN = LMConfig(32, 2, 4, 4, 48, 60, max_position_embeddings=64, attention_bias=True, tie_word_embeddings=False)
LLAMA = LMConfig(32, 2, 4, 1, 48, 60, max_position_embeddings=64, rope_scaling=RopeScaling(8.0, 1.0, 4.0, 16))
CONFIGS = {"plain": PLAIN, "biases, untied": QWEN, "scaled rotary, one key head": LLAMA}


def seeded(config: LMConfig, scale: float = 4.0) -> LanguageModel:
    generator = torch.Generator().manual_seed(1)
    llm = LanguageModel(config, generator)
    with torch.no_grad():
        for parameter in llm.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.mul_(scale).add_(0.1 * noise) if parameter.dim() > 1 else parameter.add_(0.3 * noise)
    return llm


def stepped(
    llm: LanguageModel, ids: torch.Tensor, real: torch.Tensor, prompt: int, fixed: bool | None = None
) -> tuple[torch.Tensor, set]:
    """Logits (B, T - prompt, V) after each token of ids (B, T) from the prompt's end on, one step at a time, in
    float32, and the formats that they came in."""
    cache, stepper = FastKVCache(llm.config, ids.shape[1]), TokenStepper(llm, fixed)
    padded = not bool(real.all())
    positions = real.cumsum(1) - 1
    llm(llm.embed(ids[:, :prompt]), real[:, :prompt] if padded else None, cache)
    found = []
    for at in range(prompt, ids.shape[1]):
        mask = real[:, : at + 1] if padded else None
        found.append(stepper.step(ids[:, at], positions[:, at], mask, cache))
        assert cache.length == at + 1
    return torch.stack([logits.float() for logits in found], 1), {logits.dtype for logits in found}


def some_ids(rows: int, length: int = 20) -> torch.Tensor:
    return torch.randint(0, 60, (rows, length), generator=torch.Generator().manual_seed(2))


def left_padded(rows: int, length: int = 20) -> torch.Tensor:
    """(B, T) True where row b is real; each row has other padding."""
    return torch.arange(length) >= 2 * torch.arange(rows)[:, None]


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("rows", [1, 3])
@torch.no_grad()
def test_steps_give_the_logits_of_the_whole_text(name, rows):
    llm, ids, real = seeded(CONFIGS[name]), some_ids(rows), left_padded(rows)
    whole = llm.logits(llm(llm.embed(ids), None if rows == 1 else real))[:, 8:]
    assert whole.std() > 0.5
    assert (stepped(llm, ids, real, 8)[0] - whole).abs().max() < 1e-4


@pytest.mark.parametrize("rows", [1, 3])
@torch.no_grad()
def test_a_fixed_step_the_whole_cache_gives_the_same_logits(rows):
    """What a GPU records and replays, run here as it is: tensors that stay in their places, masks for lengths."""
    llm, ids, real = seeded(PLAIN), some_ids(rows), left_padded(rows)
    whole = llm.logits(llm(llm.embed(ids), None if rows == 1 else real))[:, 8:]
    assert (stepped(llm, ids, real, 8, fixed=True)[0] - whole).abs().max() < 1e-4


@torch.no_grad()
def test_a_fixed_step_the_whole_cache_is_laid_out_anew_for_other_rows_and_other_caches():
    llm, ids = seeded(PLAIN), some_ids(2)
    whole = llm.logits(llm(llm.embed(ids)))
    stepper, steps = TokenStepper(llm, fixed=True), []
    for longest in (20, 24):
        cache = FastKVCache(PLAIN, longest)
        llm(llm.embed(ids[:, :8]), None, cache)
        for at in range(8, 20):
            if at == 12:
                cache.keep(torch.tensor([1]))
            kept = ids if at < 12 else ids[1:]
            found = stepper.step(kept[:, at], torch.full((len(kept),), at), None, cache)
            assert (found - whole[-len(kept) :, at]).abs().max() < 1e-4
            steps.append(stepper._fixed_step)
    assert len(set(map(id, steps))) == 4 and len(steps) == 24


@torch.no_grad()
def test_a_fixed_step_forgets_the_padding_of_the_batch_before():
    """The same memory may serve another batch, of rows without padding."""
    llm, ids, real = seeded(PLAIN), some_ids(3), left_padded(3)
    cache, stepper, found = FastKVCache(PLAIN, 20), TokenStepper(llm, fixed=True), []
    for mask in (real, None):
        cache.length = 0
        llm(llm.embed(ids[:, :19]), None if mask is None else mask[:, :19], cache)
        found.append(stepper.step(ids[:, 19], (real if mask is not None else real | True).sum(1) - 1, mask, cache))
    whole = [llm.logits(llm(llm.embed(ids), mask))[:, -1] for mask in (real, None)]
    for one, expected in zip(found, whole, strict=True):
        assert (one - expected).abs().max() < 1e-4


@torch.no_grad()
def test_where_no_step_can_be_recorded_it_is_said_and_steps_go_on(monkeypatch):
    def refuse(self, *given):
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(FixedStep, "__call__", refuse)
    llm, ids, real = seeded(PLAIN), some_ids(3), left_padded(3)
    with pytest.warns(UserWarning, match="no CUDA graph of a decode step .operation not permitted") as said:
        found, _ = stepped(llm, ids, real, 8, fixed=True)
    assert len(said) == 1 and torch.equal(found, stepped(llm, ids, real, 8)[0])


@torch.no_grad()
def test_one_row_under_bfloat16_is_nearer_to_float32_than_the_forward_pass_is():
    llm, ids = seeded(PLAIN), some_ids(1)
    real = torch.ones_like(ids, dtype=torch.bool)
    exact = llm.logits(llm(llm.embed(ids)))[:, 8:]
    with torch.autocast("cpu", torch.bfloat16):
        quick, formats = stepped(llm, ids, real, 8)
        slow = llm.logits(llm(llm.embed(ids)))[:, 8:]
    assert formats == {torch.float16}
    assert (quick - exact).abs().mean() < 0.6 * (slow - exact).abs().mean()


@torch.no_grad()
def test_several_rows_under_bfloat16_agree_with_the_forward_pass():
    llm, ids, real = seeded(PLAIN), some_ids(4), left_padded(4)
    exact = llm.logits(llm(llm.embed(ids), real))[:, 8:]
    with torch.autocast("cpu", torch.bfloat16):
        quick, formats = stepped(llm, ids, real, 8)
        slow = llm.logits(llm(llm.embed(ids), real))[:, 8:]
    assert formats == {torch.bfloat16}
    assert (quick - exact).abs().mean() < 1.2 * (slow - exact).abs().mean()


@torch.no_grad()
def test_activations_beyond_float16_are_taken_in_bfloat16():
    llm, ids = seeded(PLAIN), some_ids(1)
    real = torch.ones_like(ids, dtype=torch.bool)
    for layer in llm.model.layers:
        layer.mlp.up_proj.weight.mul_(1e6)
        layer.mlp.down_proj.weight.mul_(1e-6)
    with torch.autocast("cpu", torch.bfloat16):
        quick, formats = stepped(llm, ids, real, 8)
        slow = llm.logits(llm(llm.embed(ids)))[:, 8:]
    assert formats == {torch.bfloat16} and quick.isfinite().all()
    assert (quick - slow).abs().mean() < 0.05 * slow.float().std()


@torch.no_grad()
def test_rows_that_leave_change_nothing_for_the_last():
    """From several rows to one the format changes, and with it the cache's."""
    llm, ids = seeded(PLAIN), some_ids(2)
    whole = llm.logits(llm(llm.embed(ids[:1])))
    with torch.autocast("cpu", torch.bfloat16):
        cache, stepper = FastKVCache(PLAIN, 20), TokenStepper(llm)
        llm(llm.embed(ids[:, :8]), None, cache)
        for at in range(8, 12):
            stepper.step(ids[:, at], torch.tensor([at, at]), None, cache)
        cache.keep(torch.tensor([0]))
        for at in range(12, 20):
            last = stepper.step(ids[:1, at], torch.tensor([at]), None, cache)
            assert (last - whole[:, at]).abs().mean() < 0.05 * whole.std()


@torch.no_grad()
def test_adapters_are_heeded():
    llm, ids = seeded(PLAIN), some_ids(1)
    real = torch.ones_like(ids, dtype=torch.bool)
    before, _ = stepped(llm, ids, real, 8)
    add_lora(llm, ("q_proj",), 4, 8.0, torch.Generator().manual_seed(0))
    for layer in llm.model.layers:
        layer.self_attn.q_proj.lora_b.normal_(generator=torch.Generator().manual_seed(3))
    assert not TokenStepper(llm).stepping
    after, _ = stepped(llm, ids, real, 8)
    assert (after - before).abs().max() > 0.1
    assert (after - llm.logits(llm(llm.embed(ids)))[:, 8:]).abs().max() < 1e-4
