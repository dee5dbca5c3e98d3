"""THE training loop: every stage runs through it, and it knows no data set."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import nn

from engine.log import Log
from engine.run import Run, load_state, save_state
from engine.runtime import autocast
from engine.schedule import learning_rate


class NotFiniteError(RuntimeError):
    """A loss or gradient that is no number; the text names the step and the last good checkpoint."""


@dataclass(frozen=True)
class Plan:
    """The numbers that the loop follows."""

    steps: int
    learning_rate: float
    min_lr_ratio: float
    warmup: int  # steps
    weight_decay: float
    grad_clip: float  # 0: none
    save_interval: int
    eval_interval: int
    log_interval: int
    dtype: torch.dtype  # of matrix products


@dataclass(frozen=True)
class Summary:
    steps: int
    loss: float  # mean over the last log interval
    val_loss: float | None
    seconds: float  # of this process
    tokens: int  # real tokens trained on in this process


# Each item holds the micro-batches of one optimizer step.
Steps = Callable[[int], Iterator[list]]


def train(
    model: nn.Module,
    plan: Plan,
    steps_from: Steps,
    run: Run,
    log_options: dict,
    validate: Callable[[], float] | None = None,
) -> Summary:
    """Train model's parameters that require a gradient for plan.steps optimizer steps, going on where `run` stopped.

    steps_from(k) yields, from step k on, the list of micro-batches of each step; it must depend on k alone, which
    makes an interrupted run end with the weights of an uninterrupted one. model.loss(batch) gives (sum of losses,
    number of supervised tokens); a step's loss is the sum over its micro-batches by their tokens. validate() gives
    a loss. Raises NotFiniteError, and OSError where a checkpoint cannot be written.
    """
    optimizer = make_optimizer(model, plan)
    start = load_state(run, model, optimizer)
    device = next(model.parameters()).device
    began = time.perf_counter()
    recent, tokens, val_loss, last_loss = [], 0, None, math.nan
    with Log(run, plan.steps, start, **log_options) as log:
        if start:
            log.say(f"going on after step {start} of {plan.steps}")
        batches = steps_from(start)
        clock, counted = began, 0
        for step in range(start, plan.steps):
            rate = learning_rate(step, plan.steps, plan.learning_rate, plan.warmup, plan.min_lr_ratio)
            for group in optimizer.param_groups:
                group["lr"] = rate
            micro_batches = [batch.to(device) for batch in next(batches)]
            loss, norm = take_step(model, optimizer, micro_batches, plan)
            if not (math.isfinite(loss) and math.isfinite(norm)):
                raise NotFiniteError(
                    f"step {step + 1}: loss {loss}, gradient norm {norm}; {_last_good(run, step, start, plan)}. "
                    "Try a lower --learning_rate or --dtype float32."
                )
            recent.append(loss)
            seen = sum(batch.tokens for batch in micro_batches)
            tokens, counted, done = tokens + seen, counted + seen, step + 1
            if done % plan.log_interval == 0 or done == plan.steps:
                last_loss, now = sum(recent) / len(recent), time.perf_counter()
                speed = counted / (now - clock)
                log.write(done, loss=last_loss, lr=rate, grad_norm=norm, tokens_per_s=round(speed), tokens=tokens)
                recent, clock, counted = [], now, 0
                log.advance(loss=f"{last_loss:.3f}", tok_s=f"{speed:.0f}")
            else:
                log.advance()
            if validate and (done % plan.eval_interval == 0 or done == plan.steps):
                val_loss = validate()
                log.write(done, val_loss=val_loss)
                log.say(f"step {done}: loss {last_loss:.4f}, validation {val_loss:.4f}")
            if done % plan.save_interval == 0 or done == plan.steps:
                save_state(run, done, model, optimizer)
    return Summary(plan.steps, last_loss, val_loss, time.perf_counter() - began, tokens)


def _last_good(run: Run, step: int, start: int, plan: Plan) -> str:
    saved = max(start, step // plan.save_interval * plan.save_interval)
    return f"the state after step {saved} is good and is kept in {run.state_file}" if saved else "nothing was saved yet"


def make_optimizer(model: nn.Module, plan: Plan) -> torch.optim.Optimizer:
    """AdamW over what trains; only matrices decay."""
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.dim() >= 2], "weight_decay": plan.weight_decay},
        {"params": [p for p in trained if p.dim() < 2], "weight_decay": 0.0},
    ]
    fused = trained[0].device.type in ("cpu", "cuda")
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=plan.learning_rate, betas=(0.9, 0.98), fused=fused)


def take_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, micro_batches: list, plan: Plan
) -> tuple[float, float]:
    """One optimizer step over all micro-batches; returns the loss per supervised token and the gradient's norm.

    A step that is not finite is not taken.
    """
    total = sum(batch.supervised_tokens for batch in micro_batches)
    loss = 0.0
    for batch in micro_batches:
        with autocast(batch.ids.device, plan.dtype):
            loss_sum, _ = model.loss(batch)
        (loss_sum / max(total, 1)).backward()
        loss += loss_sum.item() / max(total, 1)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    norm = torch.nn.utils.clip_grad_norm_(parameters, plan.grad_clip or math.inf).item()
    if math.isfinite(loss) and math.isfinite(norm):
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss, norm


@torch.no_grad()
def mean_loss(model: nn.Module, batches: list, dtype: torch.dtype) -> float:
    """Loss per supervised token over the batches."""
    device = next(model.parameters()).device
    loss_sum, tokens = 0.0, 0
    for batch in batches:
        with autocast(device, dtype):
            loss, count = model.loss(batch.to(device))
        loss_sum, tokens = loss_sum + loss.item(), tokens + count
    return loss_sum / max(tokens, 1)
