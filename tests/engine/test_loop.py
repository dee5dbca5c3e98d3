from __future__ import annotations

import json
import math
from types import SimpleNamespace

import pytest
import torch
from engine_parts import broken_off, small_batches, small_plan, small_vlm, told
from torch import nn

from engine.checkpoint import Run, load_state, open_run
from engine.freeze import set_trainable
from engine.log import read_log
from engine.loop import gradients, mean_loss, take_step, train
from engine.optimizer import learning_rate, make_optimizer
from engine.recorder import NotFiniteError
from model.checkpoints.files import fingerprint, read_metadata


class Line(nn.Module):
    """loss = sum over supervised tokens of (w * x - y)^2, so that every number can be worked out by hand."""

    def __init__(self, start: float = 1.0):
        super().__init__()
        self.w = nn.Parameter(torch.tensor([[start]]))

    def loss(self, batch):
        return ((self.w[0, 0] * batch.x - batch.y) ** 2).sum(), len(batch.x)


def points(x: list[float], y: list[float]) -> SimpleNamespace:
    """A batch for Line: as many supervised tokens as there are points."""
    batch = SimpleNamespace(x=torch.tensor(x), y=torch.tensor(y), ids=torch.zeros(1), supervised_tokens=len(x))
    batch.tokens = 10 * len(x)
    batch.to = lambda device: batch
    return batch


def gradients_of(model: nn.Module, batches: list) -> tuple[float, float, dict[str, torch.Tensor]]:
    plan = small_plan(grad_clip=0.0)
    optimizer = make_optimizer(model, plan)
    loss, norm = gradients(model, optimizer, batches, plan)
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    optimizer.zero_grad()
    return loss, norm, found


def run_in(path) -> Run:
    return open_run(path, {}, {})


def from_list(steps: list[list]):
    return lambda start: iter(steps[start:])


def test_a_steps_loss_is_the_sum_over_supervised_tokens_by_their_number():
    loss, norm, grads = gradients_of(Line(), [points([1.0, 2.0, 3.0], [0.0, 0.0, 0.0]), points([4.0], [0.0])])
    assert loss == pytest.approx((1 + 4 + 9 + 16) / 4)  # and not the mean of the means, (14 / 3 + 16) / 2
    assert grads["w"].item() == pytest.approx(2 * (1 + 4 + 9 + 16) / 4) and norm == pytest.approx(grads["w"].item())


@pytest.mark.parametrize("vision", [False, True])
def test_accumulated_micro_batches_equal_one_big_batch(vision):
    parts = small_batches(3, rows=2)
    assert len({part.supervised_tokens for part in parts}) > 1  # of different sizes, or the test shows nothing
    width = max(part.ids.shape[1] for part in parts)

    def padded(name: str, fill: int) -> torch.Tensor:
        rows = [getattr(part, name) for part in parts]
        return torch.cat([torch.nn.functional.pad(row, (0, width - row.shape[1]), value=fill) for row in rows])

    whole = type(parts[0])(
        padded("ids", 0), padded("labels", -100), padded("attention_mask", 0), padded("image_mask", 0),
        features=torch.cat([part.features for part in parts]),
    )  # fmt: skip
    model = small_vlm(vision=vision)
    set_trainable(model, ("projector", "llm"))
    small, big = gradients_of(model, parts), gradients_of(model, [whole])
    assert small[0] == pytest.approx(big[0], abs=1e-6) and small[1] == pytest.approx(big[1], rel=1e-5)
    assert small[2].keys() == big[2].keys()
    for name in big[2]:
        torch.testing.assert_close(small[2][name], big[2][name], atol=1e-6, rtol=1e-5)


def test_validation_loss_is_per_supervised_token_however_the_batches_are_cut():
    parts = small_batches(3)
    model = small_vlm()
    sums = [model.loss(part) for part in parts]
    expected = sum(loss.item() for loss, _ in sums) / sum(count for _, count in sums)
    assert mean_loss(model, parts, torch.float32) == pytest.approx(expected, rel=1e-6)
    assert math.isfinite(mean_loss(model, [], torch.float32))


def test_the_gradient_is_clipped_to_its_largest_norm_and_zero_means_no_clipping():
    for clip, expected in ((0.5, 0.5), (0.0, 60.0), (100.0, 60.0)):
        model = Line()
        plan = small_plan(grad_clip=clip)
        _, norm = gradients(model, make_optimizer(model, plan), [points([1.0], [-29.0])], plan)
        assert norm == pytest.approx(60.0) and model.w.grad.item() == pytest.approx(expected, rel=1e-4)


def test_the_learning_rate_follows_the_hand_computed_schedule():
    rates = [learning_rate(step, 9, 1.0, 4, 0.2) for step in range(9)]
    cosine = [0.2 + 0.8 * 0.5 * (1 + math.cos(math.pi * k / 4)) for k in range(5)]
    assert rates == pytest.approx([0.25, 0.5, 0.75, 1.0, *cosine])
    assert rates[4] == pytest.approx(1.0) and rates[6] == pytest.approx(0.6) and rates[8] == pytest.approx(0.2)
    assert learning_rate(0, 1, 3.0, 1, 0.1) == 3.0
    assert learning_rate(10**6, 100, 1.0, 5, 0.1) == pytest.approx(0.1)  # past the end it stays


def test_the_loop_uses_the_schedules_rate_at_each_step(tmp_path):
    plan = small_plan(warmup=2, learning_rate=0.01, min_lr_ratio=0.1)
    train(Line(), plan, from_list([[points([1.0], [0.0])]] * 6), run_in(tmp_path))
    assert [entry["lr"] for entry in read_log(tmp_path / "log.jsonl")] == pytest.approx(
        [0.005, 0.01, 0.01, 0.001 + 0.009 * 0.75, 0.001 + 0.009 * 0.25, 0.001]
    )


def test_a_first_step_is_the_hand_computed_adamw_step():
    model = Line(2.0)
    plan = small_plan(warmup=1, learning_rate=0.1, weight_decay=0.5, grad_clip=0.0)
    optimizer = make_optimizer(model, plan)
    gradients(model, optimizer, [points([1.0], [0.0])], plan)
    assert take_step(optimizer, plan, 0) == 0.1
    assert model.w.item() == pytest.approx(2.0 * (1 - 0.1 * 0.5) - 0.1, abs=1e-6)  # decay, then the gradient's sign


def test_only_matrices_decay():
    groups = make_optimizer(small_vlm(), small_plan(weight_decay=0.3)).param_groups
    assert [group["weight_decay"] for group in groups] == [0.3, 0.0]
    assert {p.dim() >= 2 for p in groups[0]["params"]} == {True} and {p.dim() for p in groups[1]["params"]} == {1}


def test_a_step_whose_pictures_were_all_bad_changes_nothing_and_is_no_loss_of_zero(tmp_path):
    model = Line()
    steps = [[points([1.0], [0.0])], [], [points([1.0], [0.0])]]
    plan = small_plan(steps=3, log_interval=3, learning_rate=1e-9, warmup=1)
    summary = train(model, plan, from_list(steps), run_in(tmp_path))
    assert summary.loss == pytest.approx(1.0, abs=1e-4) and summary.tokens == 20
    (tmp_path / "log.jsonl").unlink()
    empty = train(model, small_plan(steps=4), from_list([[]] * 4), run_in(tmp_path / "empty"))
    assert math.isnan(empty.loss) and read_log(tmp_path / "empty" / "log.jsonl") == []


def test_the_log_has_each_step_once_with_loss_rate_norm_and_tokens(tmp_path):
    batches = [[points([1.0], [0.0])], [points([2.0], [0.0]), points([1.0, 1.0], [0.0, 0.0])]] * 3
    summary = train(Line(), small_plan(), from_list(batches), run_in(tmp_path), lambda: 0.5)
    entries = read_log(tmp_path / "log.jsonl")
    training = [entry for entry in entries if "loss" in entry]
    assert [entry["step"] for entry in training] == [1, 2, 3, 4, 5, 6]
    assert {"step", "loss", "lr", "grad_norm", "tokens_per_s", "tokens", "seconds"} == set(training[0])
    assert [entry["tokens"] for entry in training] == [10, 40, 50, 80, 90, 120] and summary.tokens == 120
    assert [(entry["step"], entry["val_loss"]) for entry in entries if "val_loss" in entry] == [(3, 0.5), (6, 0.5)]
    assert summary.loss == training[-1]["loss"] and summary.val_loss == 0.5


@pytest.mark.parametrize("stopped_at", [0, 1, 2, 3, 4, 6])
def test_a_run_that_was_stopped_ends_with_the_weights_log_and_summary_of_one_that_was_not(tmp_path, stopped_at):
    """The log interval of 4 does not fit the save interval of 2, so a mean over an interval spans the stop."""
    batches = [[batch] for batch in small_batches(7)]
    plan = small_plan(steps=7, log_interval=4)

    def go(path, model, kill=None):
        set_trainable(model, ("projector", "llm.layers.-1"))
        steps_from = broken_off(batches, kill)
        return train(model, plan, steps_from, run_in(path), lambda: mean_loss(model, batches[0], torch.float32))

    whole, stopped, repeated = small_vlm(), small_vlm(), small_vlm()
    expected = go(tmp_path / "whole", whole)
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path / "stopped", stopped, stopped_at)
    found = go(tmp_path / "stopped", repeated)
    assert fingerprint(repeated) == fingerprint(whole) != fingerprint(small_vlm())
    assert told(tmp_path / "stopped") == told(tmp_path / "whole")
    assert (found.loss, found.val_loss, found.tokens) == (expected.loss, expected.val_loss, expected.tokens)


def test_a_run_stopped_after_its_last_save_still_tells_its_losses(tmp_path):
    batches = from_list([[points([1.0], [0.0])]] * 6)
    first = train(Line(), small_plan(), batches, run_in(tmp_path), lambda: 0.25)
    again = train(Line(), small_plan(), batches, run_in(tmp_path), lambda: 1 / 0)
    assert again == first
    json.loads(json.dumps(vars(again), allow_nan=False))


def test_validation_and_saving_and_logging_do_not_change_training(tmp_path):
    ends = set()
    for number, (save, evaluate, log) in enumerate([(2, 3, 1), (1, 1, 4), (100, 100, 100)]):
        model, batches = small_vlm(), small_batches(6)
        plan = small_plan(save_interval=save, eval_interval=evaluate, log_interval=log)
        train(model, plan, from_list([[batch] for batch in batches]), run_in(tmp_path / str(number)),
              lambda: mean_loss(model, batches, torch.float32))  # fmt: skip  # noqa: B023
        ends.add(fingerprint(model))
    assert len(ends) == 1


NOTHING, AFTER = "nothing was saved yet", "the state after step {} is good and is kept in .*training_state"


@pytest.mark.parametrize(
    ("bad", "kept"), [(1, NOTHING), (2, NOTHING), (3, NOTHING), (4, AFTER.format(2)), (6, AFTER.format(4))]
)
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_the_run_and_names_step_and_checkpoint(tmp_path, bad, kept, value):
    steps = [[points([1.0], [0.0])] for _ in range(6)]
    steps[bad - 1] = [points([1.0], [0.0]), points([1.0], [value])]
    model, run = Line(), run_in(tmp_path)
    before = []

    def steps_from(start):
        for step in steps[start:]:
            before.append(model.w.item())
            yield step

    with pytest.raises(NotFiniteError, match=f"^step {bad}: loss {value}, .*; {kept}.* Try a lower --learning_rate"):
        train(model, small_plan(), steps_from, run)
    assert model.w.item() == before[bad - 1]  # the bad step was not taken
    if kept == NOTHING:
        assert not run.state_file.exists()
    else:  # and what is kept is from before it
        model = Line()
        step, _ = load_state(run, model, make_optimizer(model, small_plan()))
        assert AFTER.format(step) == kept and model.w.item() == before[step]


def test_a_finite_loss_with_a_gradient_that_is_not_stops_the_run_too(tmp_path):
    class Steep(Line):
        def loss(self, batch):
            return (self.w - self.w.detach()).abs().sqrt().sum(), 1  # 0, and its slope is not a number

    with pytest.raises(NotFiniteError, match="step 1: loss 0.0, gradient norm nan"):
        train(Steep(), small_plan(), from_list([[points([1.0], [0.0])]] * 6), run_in(tmp_path))


def test_weights_that_a_step_ruined_are_not_kept_as_a_good_state(tmp_path):
    """Step 2 is the one that goes wrong; its own loss was finite, and the save after it would be due."""
    run, model = run_in(tmp_path), Line()
    plan = small_plan(save_interval=1, warmup=1, grad_clip=0.0, learning_rate=1e30, min_lr_ratio=1.0)
    with pytest.raises(NotFiniteError, match="step 2: loss inf.*; nothing was saved yet"):
        train(model, plan, from_list([[points([1.0], [0.0])]] * 6), run)
    assert not run.state_file.exists()


def test_a_validation_loss_that_is_not_finite_stops_the_run_before_it_is_kept(tmp_path):
    run = run_in(tmp_path)
    with pytest.raises(NotFiniteError, match="step 3: validation loss nan; the state after step 2 is good"):
        train(Line(), small_plan(), from_list([[points([1.0], [0.0])]] * 6), run, lambda: math.nan)
    assert read_metadata(run.state_file)["step"] == "2"
    assert all("val_loss" not in entry for entry in read_log(run.log_file))
