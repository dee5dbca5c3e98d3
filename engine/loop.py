"""The training loop, the same for every command and data set."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.optim import Optimizer

from engine import distributed
from engine.arguments import TrainArguments
from engine.checkpoint import Run
from engine.device import DTYPES, autocast
from engine.optimizer import learning_rate, make_optimizer
from engine.recorder import Recorder, Summary, Trainee

Steps = Callable[[int], Iterator[list]]  # from step k on, the micro-batches of each optimizer step


def train(
    model: Trainee, plan: TrainArguments, steps_from: Steps, run: Run, validate: Callable[[], float] | None = None,
    board: Any = None,
) -> Summary:  # fmt: skip
    """Train model's parameters that require a gradient for plan.steps optimizer steps, resuming `run`'s checkpoint.

    steps_from(k) yields the micro-batches of each step from k on and must depend on k alone, so that an interrupted run
    ends with the weights of an uninterrupted one. model.loss(batch) returns (summed loss, supervised tokens); a step's
    loss is the sum over its micro-batches per supervised token. validate() returns the validation loss, which plan.keep
    and plan.patience may need. board: of engine/board.py, if any. Raises NotFiniteError, and OSError if a checkpoint
    cannot be written.
    """
    optimizer = make_optimizer(model, plan)
    device = next(model.parameters()).device
    with Recorder(run, plan, model, optimizer, board) as record:
        steps = steps_from(record.start)
        for step in range(record.start, record.last):
            micro_batches = [batch.to(device) for batch in next(steps)]
            loss, norm = gradients(model, optimizer, micro_batches, plan)
            record.check(step, loss, norm, micro_batches)
            rate = take_step(optimizer, plan, step)
            record.step(step + 1, loss, norm, rate, micro_batches)
            if validate and record.is_due(step + 1, plan.eval_interval):
                record.validation(step + 1, validate())
                if record.last == step + 1:
                    break
        return record.finish()


def gradients(model: Trainee, optimizer: Optimizer, micro_batches: list, plan: TrainArguments) -> tuple[float, float]:
    """Leaves the clipped gradient of the loss in the parameters; returns that loss per supervised token, over the
    micro-batches of all ranks, and the gradient norm before clipping."""
    supervised = sum(batch.supervised_tokens for batch in micro_batches)
    total, batches = distributed.all_reduce_sum(supervised, len(micro_batches))
    loss = 0.0
    for batch in distributed.in_lockstep(model, micro_batches):
        with autocast(batch.ids.device, DTYPES[plan.dtype]):
            loss_sum, _ = model.loss(batch)
        if loss_sum.requires_grad:  # not if only the projector trains and no row has an image
            (loss_sum / max(total, 1)).backward()
        loss += loss_sum.item() / max(total, 1)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    if batches:
        for parameter in parameters:  # even one that no batch reached takes the step, for any world size
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        distributed.all_reduce_gradients(parameters)
    (loss,) = distributed.all_reduce_sum(loss)
    norm = torch.nn.utils.clip_grad_norm_(parameters, plan.grad_clip or math.inf)
    return loss, distributed.full_tensor(norm).item()


def take_step(optimizer: Optimizer, plan: TrainArguments, step: int) -> float:
    """Updates the parameters at the schedule's learning rate, which is returned, and drops the gradients.

    A parameter group with its own peak rate follows the same schedule, scaled.
    """
    rate = learning_rate(step, plan.steps, plan.learning_rate, plan.warmup, plan.min_lr_ratio)
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("share", 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return rate


@torch.no_grad()
def mean_loss(model: Trainee, batches: list, dtype: torch.dtype) -> float:
    """Loss per supervised token over the batches of all ranks."""
    device = next(model.parameters()).device
    loss_sum, tokens = 0.0, 0.0
    was_training = model.training
    model.eval()
    for batch in distributed.in_lockstep(model, batches):
        with autocast(device, dtype):
            loss, count = model.loss(batch.to(device))
        loss_sum, tokens = loss_sum + loss.item(), tokens + count
    model.train(was_training)
    loss_sum, tokens = distributed.all_reduce_sum(loss_sum, tokens)
    return loss_sum / max(tokens, 1)
