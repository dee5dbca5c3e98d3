"""What model/fast exchanges: the same values and gradients as the plain model, and the same names of weights."""

from __future__ import annotations

import copy

import pytest
import torch
from test_generation import prompt, say
from test_generation import seeded as speaker
from test_vlm import batch_of, seeded

from model import fast
from model.config import LMConfig
from model.language import LanguageModel


def loss_and_gradients(vlm, batch) -> list[torch.Tensor]:
    trained = [parameter for parameter in vlm.parameters() if parameter.requires_grad]
    loss, _ = vlm.loss(batch)
    return [loss.detach(), *torch.autograd.grad(loss, trained, allow_unused=True)]


@pytest.mark.parametrize("trained", ["projector.", "llm.", "vision.", ""])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_loss_and_gradients_are_those_of_the_plain_model(trained, checkpointing):
    plain, batch = seeded(), batch_of(rows=3, pixels=torch.randn(3, 3, 32, 32))
    plain.llm.checkpointing = checkpointing
    for name, parameter in plain.named_parameters():
        parameter.requires_grad_(name.startswith(trained))
    quick = fast.enable(copy.deepcopy(plain))
    for found, expected in zip(loss_and_gradients(quick, batch), loss_and_gradients(plain, batch), strict=True):
        assert (found is None) == (expected is None)
        if found is not None:
            torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_every_class_of_the_model_is_exchanged_and_no_name_of_a_weight():
    vlm = seeded()
    names = list(vlm.state_dict())
    assert not fast.is_enabled(vlm) and fast.enable(vlm) is vlm and fast.is_enabled(vlm)
    exchanged = {type(module) for module in vlm.modules()}
    assert exchanged >= set(fast.CLASSES.values()) and not exchanged & set(fast.CLASSES)
    assert list(vlm.state_dict()) == names


def test_answers_follow_weights_that_changed():
    """Decoding steps have copies of the weights; they must not outlive them."""
    plain, vlm = speaker(), fast.enable(speaker())
    ids = prompt(6, rows=2)
    first = say(vlm, ids).ids
    with torch.no_grad():
        for model in (plain, vlm):
            model.llm.model.layers[0].mlp.down_proj.weight.neg_()
    second = say(vlm, ids).ids
    assert first != second and second == say(plain, ids).ids


@pytest.mark.parametrize("checkpointing", [False, True])
def test_hidden_states_from_a_position_on_are_the_last_of_all(checkpointing):
    torch.manual_seed(0)
    model = fast.enable(LanguageModel(LMConfig(32, 2, 4, 2, 48, 60)))
    model.checkpointing = checkpointing
    x = torch.randn(2, 7, 32)
    mask = torch.arange(7) >= torch.tensor([[0], [2]])
    for given in (None, mask):
        whole = model(x, given)
        assert (model(x, given, first=4) - whole[:, 4:]).abs().max() < 1e-5
        assert model(x, given, first=4).shape == (2, 3, 32)
    parameters = list(model.model.layers.parameters())
    one = torch.autograd.grad(model(x, first=4).square().sum(), parameters)
    other = torch.autograd.grad(model(x)[:, 4:].square().sum(), parameters)
    assert max((a - b).abs().max() for a, b in zip(one, other, strict=True)) < 1e-4


@pytest.mark.parametrize("same", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_text_before_the_first_picture_is_read_without_gradients_and_changes_none(monkeypatch, same, dtype):
    """With a frozen language model; where all rows begin alike it is read for one row."""
    vlm, batch = fast.enable(seeded()), batch_of(rows=3)
    if same:
        batch.ids[:, :2] = batch.ids[0, :2]
    sizes, forward = [], vlm.llm.forward
    monkeypatch.setattr(vlm.llm, "forward", lambda x, *a, **k: sizes.append(tuple(x.shape)) or forward(x, *a, **k))

    def loss_and_gradients() -> list[torch.Tensor]:
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            loss, _ = vlm.loss(batch)
        return [loss, *torch.autograd.grad(loss, list(vlm.projector.parameters()))]

    expected = loss_and_gradients()
    assert sizes == [(3, 16, 32)]
    vlm.llm.requires_grad_(False)
    found = loss_and_gradients()
    assert sizes[1:] == [(1 if same else 3, 2, 32), (3, 14, 32)]
    close = {"atol": 1e-4, "rtol": 1e-4} if dtype == torch.float32 else {"atol": 0.5, "rtol": 0.1}
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, **close)
    batch.image_mask[0, 0] = True  # a picture at the start leaves nothing to read ahead
    batch.image_mask[0, 2] = False
    loss_and_gradients()
    assert sizes[-1] == (3, 16, 32)
