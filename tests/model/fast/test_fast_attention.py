"""The two ways of attention: they agree, and neither lets a query see what it must not."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from model.fast import attention
from model.fast.attention import attend


def heads(length: int, count: int, seed: int) -> torch.Tensor:
    return torch.randn(3, count, length, 16, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def padding_mask(queries: int, keys: int) -> torch.Tensor:
    """Row b of the batch has b + 1 keys of padding at the start; every query sees its own place."""
    mask = torch.arange(keys) > torch.arange(3)[:, None]
    own = torch.arange(keys) == torch.arange(keys - queries, keys)[:, None]
    return mask[:, None, None, :] | own


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("how", ["full", "causal", "masked"])
def test_plain_matrix_products_give_what_the_fused_kernel_gives_and_so_do_their_gradients(groups, how):
    def run(function):
        query, key, value = (heads(7, count, seed).requires_grad_() for seed, count in enumerate((4, groups, groups)))
        mask = padding_mask(7, 7) if how == "masked" else None
        out = function(query, key, value, mask, how == "causal")
        out.square().sum().backward()
        return out.detach(), query.grad, key.grad, value.grad

    def fused(query, key, value, mask, causal):
        return F.scaled_dot_product_attention(query, key, value, mask, is_causal=causal, enable_gqa=True)

    for ours, theirs in zip(run(attention._attend_short), run(fused), strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("past", [0, 5])
@pytest.mark.parametrize("queries", [2, 300])
def test_causal_queries_behind_what_is_past_see_up_to_themselves(past, queries):
    """In blocks or not, and in the fused kernel's way, they are the last rows of the whole square."""
    keys = past + queries
    query, key, value = heads(queries, 4, 0), heads(keys, 2, 1), heads(keys, 2, 2)
    everything = torch.cat((heads(past, 4, 3), query), 2)
    expected = F.scaled_dot_product_attention(everything, key, value, is_causal=True, enable_gqa=True)[:, :, past:]
    torch.testing.assert_close(attend(query, key, value, causal=True), expected)
    torch.testing.assert_close(attention._attend_short(query, key, value, None, True), expected)


@pytest.mark.parametrize("keys", [1, 9, attention.SHORT + 1])
def test_bf16_agrees_with_double_precision_on_either_side_of_the_bound(keys):
    query, key, value = heads(3, 4, 0), heads(keys, 2, 1), heads(keys, 2, 2)
    expected = attend(query, key, value)
    found = attend(query.bfloat16(), key.bfloat16(), value.bfloat16())
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.double(), expected, atol=0.03, rtol=0.03)


@pytest.mark.parametrize("at_once", [1, 50, 63, 10**6])
def test_rows_taken_some_at_a_time_find_what_all_at_once_find(at_once, monkeypatch):
    query, key, value = heads(7, 4, 0), heads(9, 4, 1), heads(9, 4, 2)
    monkeypatch.setattr(attention, "AT_ONCE", at_once)
    found = attention._attend_short(query, key, value, None, False)
    torch.testing.assert_close(found, F.scaled_dot_product_attention(query, key, value))


def test_what_a_query_may_not_see_does_not_change_its_answer():
    query, key, value = (heads(6, 2, seed).bfloat16() for seed in range(3))
    before = attend(query, key, value, causal=True)
    key[:, :, 4:], value[:, :, 4:] = 100.0, 100.0
    after = attend(query, key, value, causal=True)
    assert torch.equal(before[:, :, :4], after[:, :, :4]) and not torch.equal(before[:, :, 4:], after[:, :, 4:])
