"""Weights that begin so that heads match like with like."""

from __future__ import annotations

import torch

from model.config import LMConfig
from model.init import match_like_with_like
from model.language import LanguageModel

TINY = LMConfig(hidden_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
                intermediate_size=96, vocab_size=50)  # fmt: skip


def begun(seed: int = 0) -> LanguageModel:
    model = LanguageModel(TINY, torch.Generator().manual_seed(seed))
    match_like_with_like(model, torch.Generator().manual_seed(seed))
    return model


def test_a_head_scores_a_position_that_holds_its_own_vector_highest():
    def found(model: LanguageModel) -> float:
        attention = model.model.layers[0].self_attn
        x = torch.randn(40, 64, generator=torch.Generator().manual_seed(1))
        query, key = (proj(x).unflatten(-1, (-1, 16)) for proj in (attention.q_proj, attention.k_proj))
        scores = torch.einsum("qhd,khd->hqk", query, key.repeat_interleave(2, 1))
        return (scores.argmax(-1) == torch.arange(40)).float().mean().item()

    assert found(begun()) > 0.7
    assert found(LanguageModel(TINY, torch.Generator().manual_seed(0))) < 0.2


def test_the_output_matrix_gives_back_what_the_value_matrix_took():
    attention = begun().model.layers[1].self_attn
    values = attention.v_proj.weight.unflatten(0, (2, 16)).repeat_interleave(2, 0).flatten(0, 1)
    assert torch.equal(attention.o_proj.weight, values.T)


def test_shapes_stay_and_the_same_generator_gives_the_same_weights():
    one, again, other = begun(3).state_dict(), begun(3).state_dict(), begun(4).state_dict()
    plain = LanguageModel(TINY).state_dict()
    assert {name: w.shape for name, w in one.items()} == {name: w.shape for name, w in plain.items()}
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one["model.layers.0.self_attn.q_proj.weight"],
                           other["model.layers.0.self_attn.q_proj.weight"])  # fmt: skip
