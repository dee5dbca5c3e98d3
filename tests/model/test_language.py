from __future__ import annotations

from dataclasses import asdict

import pytest
import torch

from model.cache import KVCache
from model.checkpoints.own import from_dict
from model.config import LMConfig, VLMConfig
from model.language import LanguageModel
from model.layers import RMSNorm, apply_rotary, rotary_embedding

SMALL = LMConfig(
    hidden_size=32,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    intermediate_size=48,
    vocab_size=50,
    max_position_embeddings=64,
)


def small_model(seed: int = 0) -> LanguageModel:
    model = LanguageModel(SMALL, torch.Generator().manual_seed(seed))
    for name, parameter in model.named_parameters():
        if name.endswith("norm.weight"):
            torch.nn.init.normal_(parameter, 1.0, 0.3, torch.Generator().manual_seed(seed))
        else:
            parameter.data.mul_(10)  # wide enough that attention is far from uniform
    return model.eval()


def random_ids(rows: int, length: int, seed: int = 1) -> torch.Tensor:
    return torch.randint(0, SMALL.vocab_size, (rows, length), generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def run(model, ids, mask=None, cache=None):
    return model.logits(model(model.embed(ids), mask, cache))


def llama_twin(model: LanguageModel):
    transformers = pytest.importorskip("transformers")
    config = model.config
    twin = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            hidden_size=config.hidden_size,
            num_hidden_layers=config.num_hidden_layers,
            num_attention_heads=config.num_attention_heads,
            num_key_value_heads=config.num_key_value_heads,
            intermediate_size=config.intermediate_size,
            vocab_size=config.vocab_size,
            max_position_embeddings=config.max_position_embeddings,
            rms_norm_eps=config.rms_norm_eps,
            tie_word_embeddings=config.tie_word_embeddings,
            rope_parameters={"rope_type": "default", "rope_theta": config.rope_theta},
            bos_token_id=None,
            eos_token_id=None,
            pad_token_id=0,
        )
    )
    result = twin.load_state_dict(model.state_dict(), strict=not config.tie_word_embeddings)
    assert result.missing_keys in ([], ["lm_head.weight"]) and not result.unexpected_keys
    return twin.eval()


def test_the_default_decoder_has_25829888_parameters():
    with torch.device("meta"):
        model = LanguageModel(LMConfig())
    assert sum(parameter.numel() for parameter in model.parameters()) == 25_829_888


def test_matrices_start_at_two_hundredths_and_norms_at_one():
    model = LanguageModel(SMALL, torch.Generator().manual_seed(0))
    assert abs(model.model.layers[0].mlp.up_proj.weight.std().item() - 0.02) < 0.002
    assert torch.equal(model.model.norm.weight, torch.ones(32))
    again = LanguageModel(SMALL, torch.Generator().manual_seed(0))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


def test_logits_equal_those_of_llama():
    model = small_model()
    ids = random_ids(2, 40)
    with torch.no_grad():
        theirs = llama_twin(model)(ids).logits
    assert (run(model, ids) - theirs).abs().max() < 1e-4


def test_logits_of_the_default_sizes_equal_those_of_llama():
    model = LanguageModel(LMConfig(num_hidden_layers=2), torch.Generator().manual_seed(3)).eval()
    ids = random_ids(1, 30)
    with torch.no_grad():
        theirs = llama_twin(model)(ids).logits
    assert (run(model, ids) - theirs).abs().max() < 1e-4


def test_logits_of_an_untied_head_equal_those_of_llama():
    model = LanguageModel(
        LMConfig(**{**asdict(SMALL), "tie_word_embeddings": False}), torch.Generator().manual_seed(0)
    ).eval()
    ids = random_ids(2, 9)
    with torch.no_grad():
        theirs = llama_twin(model)(ids).logits
    assert (run(model, ids) - theirs).abs().max() < 1e-4


def test_left_padded_logits_equal_those_of_llama():
    model = small_model()
    ids, mask = random_ids(2, 12), torch.ones(2, 12, dtype=torch.bool)
    mask[0, :5] = False
    with torch.no_grad():
        positions = (mask.long().cumsum(1) - 1).clamp(min=0)
        theirs = llama_twin(model)(ids, attention_mask=mask.long(), position_ids=positions).logits
    assert (run(model, ids, mask) - theirs)[mask].abs().max() < 1e-4


def test_rms_norm_is_the_formula():
    norm = RMSNorm(4, 1e-5)
    norm.weight.data = torch.tensor([1.0, 2.0, 3.0, 4.0])
    x = torch.tensor([[1.0, -1.0, 3.0, -3.0]])
    assert torch.allclose(norm(x), x / (5 + 1e-5) ** 0.5 * norm.weight)


def test_rotation_by_hand_pairs_the_halves():
    rotary = rotary_embedding(torch.tensor([0, 1]), 4, 100.0)  # angles per position: 1 and 1 / 10
    x = torch.tensor([1.0, 2.0, 3.0, 4.0]).expand(1, 2, 1, 4)
    turned = apply_rotary(x, rotary)[0, :, 0]
    angles = torch.tensor([1.0, 0.1])
    first = torch.tensor([1.0, 2.0]) * angles.cos() - torch.tensor([3.0, 4.0]) * angles.sin()
    second = torch.tensor([3.0, 4.0]) * angles.cos() + torch.tensor([1.0, 2.0]) * angles.sin()
    assert torch.allclose(turned[0], x[0, 0, 0])
    assert torch.allclose(turned[1], torch.cat((first, second)))


def test_a_token_never_sees_what_comes_after_it():
    model = small_model()
    ids = random_ids(1, 12)
    changed = ids.clone()
    changed[:, 7:] = (changed[:, 7:] + 1) % SMALL.vocab_size
    assert torch.allclose(run(model, ids)[:, :7], run(model, changed)[:, :7], atol=1e-5)


def test_left_padding_changes_nothing():
    model = small_model()
    ids = random_ids(1, 10)
    padded = torch.cat((random_ids(1, 6, seed=9), ids), dim=1)
    mask = torch.arange(16)[None] >= 6
    assert torch.allclose(run(model, padded, mask)[:, 6:], run(model, ids), atol=1e-4)


def test_padding_gives_no_nan():
    model = small_model()
    mask = torch.arange(8)[None] >= 5
    assert run(model, random_ids(1, 8), mask).isfinite().all()


def test_right_padding_needs_no_mask():
    model = small_model()
    ids = random_ids(1, 10)
    padded = torch.cat((ids, torch.zeros(1, 5, dtype=torch.long)), dim=1)
    mask = torch.arange(15)[None] < 10
    assert torch.allclose(run(model, padded)[:, :10], run(model, ids), atol=1e-5)
    assert torch.allclose(run(model, padded, mask)[:, :10], run(model, ids), atol=1e-5)


def test_rows_of_a_batch_do_not_meet():
    model = small_model()
    ids = random_ids(3, 9)
    together = run(model, ids)
    for row in range(3):
        assert torch.allclose(together[row], run(model, ids[row : row + 1])[0], atol=1e-5)


@pytest.mark.parametrize("chunks", [[10, 1, 1, 1, 1], [1] * 14, [5, 4, 5], [13, 1]])
@pytest.mark.parametrize("padding", [0, 3])
def test_the_cache_changes_nothing(chunks, padding):
    model = small_model()
    ids = random_ids(2, 14)
    mask = torch.ones(2, 14, dtype=torch.bool)
    mask[1, :padding] = False
    whole = run(model, ids, mask if padding else None)
    cache = KVCache(SMALL, 14)
    parts = []
    for size in chunks:
        start = cache.length
        seen = mask[:, : start + size] if padding else None
        parts.append(run(model, ids[:, start : start + size], seen, cache))
    assert cache.length == 14
    assert torch.allclose(torch.cat(parts, dim=1)[mask], whole[mask], atol=1e-4)


def test_a_cache_keeps_the_rows_it_is_told_to():
    model = small_model()
    ids = random_ids(3, 8)
    cache = KVCache(SMALL, 8)
    run(model, ids[:, :6], None, cache)
    cache.keep(torch.tensor([2, 0]))
    kept = run(model, ids[[2, 0]][:, 6:7], None, cache)
    assert torch.allclose(kept[:, 0], run(model, ids[[2, 0]])[:, 6], atol=1e-4)


def test_too_long_a_sequence_a_full_cache_and_a_short_mask_are_refused():
    model = small_model()
    with pytest.raises(ValueError, match="65 positions.*at most 64"):
        run(model, random_ids(1, 65))
    with pytest.raises(ValueError, match="cache holds 4 positions, 5"):
        run(model, random_ids(1, 5), None, KVCache(SMALL, 4))
    with pytest.raises(ValueError, match=r"found shape \(1, 4\), expected \(1, 5\)"):
        run(model, random_ids(1, 5), torch.ones(1, 4, dtype=torch.bool))


def test_bfloat16_autocast_stays_near_fp32():
    model = small_model()
    ids = random_ids(2, 16)
    exact = run(model, ids)
    with torch.autocast("cpu", torch.bfloat16):
        rough = run(model, ids).float()
    cosine = torch.nn.functional.cosine_similarity(exact, rough, dim=-1)
    assert cosine.min() > 0.99


def test_a_model_held_in_bfloat16_runs():
    model = small_model().to(torch.bfloat16)
    assert run(model, random_ids(2, 16)).dtype == torch.bfloat16


def test_configs_round_trip_and_name_strange_keys():
    config = VLMConfig(SMALL)
    assert from_dict(VLMConfig, asdict(config)) == config
    values = asdict(SMALL)
    del values["rope_theta"]
    values["ropeTheta"] = 1e4
    with pytest.raises(ValueError, match=r"unknown keys \['ropeTheta'\], missing keys \['rope_theta'\]"):
        from_dict(LMConfig, values)


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"num_attention_heads": 3}, "does not split"),
        ({"num_key_value_heads": 3}, "evenly"),
        ({"vocab_size": 0}, "vocab_size: found 0"),
        ({"hidden_size": 32.0}, "hidden_size: found 32.0"),
    ],
)
def test_impossible_sizes_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        LMConfig(**{**asdict(SMALL), **wrong})
