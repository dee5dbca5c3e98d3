"""The training loop, the same for every command; it knows no data set."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import nn

from dataset.record import Batch
from engine import distributed
from engine.arguments import Plan
from engine.checkpoint import Run, drop_best, load_best, load_state, save_best, save_state
from engine.device import autocast
from engine.log import Log
from engine.optimizer import Optimizer, learning_rate, make_optimizer
from model.captioner import Captioner
from model.vlm import VLM


class NotFiniteError(RuntimeError):
    """A loss or gradient that is no number; the text names the step and the last good checkpoint."""


@dataclass
class Progress:
    """What a run has done so far; kept with the state, so that a run that was interrupted tells the same."""

    tokens: int = 0  # real tokens trained on
    seconds: float = 0.0  # spent on the steps that count
    losses: list[float] = field(default_factory=list)  # since the last entry of the log
    loss: float = math.nan  # mean over the last log interval
    val_loss: float | None = None
    best_loss: float | None = None  # the lowest validation loss, and the step after which it was found
    best_step: int = 0
    worse: int = 0  # validations since then
    stopped: int = 0  # the step after which patience ended; 0: it did not


@dataclass(frozen=True)
class Summary:
    steps: int
    loss: float  # mean over the last log interval
    val_loss: float | None  # of the weights that are kept
    seconds: float  # in every process that worked on the run
    tokens: int  # real tokens trained on
    kept_step: int  # the step whose weights the model has in the end


Trainee = VLM | Captioner  # or any module with such a loss()
# Each item holds the micro-batches of one optimizer step.
Steps = Callable[[int], Iterator[list]]


def train(
    model: Trainee,
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
    a loss, which keep_best and patience need. Raises NotFiniteError, and OSError where a checkpoint cannot be written.
    """
    if validate is None and (plan.keep_best or plan.patience):
        raise ValueError("keep_best and patience go by the validation loss, and there is no validate()")
    optimizer = make_optimizer(model, plan)
    start, before = load_state(run, model, optimizer)
    saved = start
    progress = Progress(**before)
    device = next(model.parameters()).device
    began, clock, counted = time.perf_counter() - progress.seconds, time.perf_counter(), progress.tokens
    with Log(run, plan.steps, start, progress.seconds, **log_options, quiet=not distributed.is_main()) as log:
        if start:
            log.say(f"going on after step {start} of {plan.steps}")
        batches = steps_from(start)
        for step in range(start, progress.stopped or plan.steps):
            micro_batches, done = [batch.to(device) for batch in next(batches)], step + 1
            loss, norm = gradients(model, optimizer, micro_batches, plan)
            if not (math.isfinite(loss) and math.isfinite(norm)):
                raise _not_finite(f"step {done}: loss {loss}, gradient norm {norm}", run, saved)
            if saved < step and step % plan.save_interval == 0:  # only now the loss of these weights is known
                save_state(run, step, model, optimizer, vars(progress))
                drop_best(run, progress.best_step)
                saved = step
            rate = take_step(optimizer, plan, step)
            tokens = sum(batch.tokens for batch in micro_batches)
            tokens, trained_on = distributed.all_reduce_sum(tokens, len(micro_batches))
            progress.tokens += int(tokens)
            progress.losses += [loss] if trained_on else []
            shown = {}
            if progress.losses and _due(done, plan.log_interval, plan):
                now, progress.loss = time.perf_counter(), sum(progress.losses) / len(progress.losses)
                speed = round((progress.tokens - counted) / (now - clock))
                clock, counted, progress.losses = now, progress.tokens, []
                shown = {"loss": f"{progress.loss:.3f}", "tok_s": speed}
                log.write(done, loss=progress.loss, lr=rate, grad_norm=norm, tokens_per_s=speed, tokens=counted)
            log.advance(**shown)
            if validate and _due(done, plan.eval_interval, plan):
                progress.val_loss = validate()
                if not math.isfinite(progress.val_loss):
                    raise _not_finite(f"step {done}: validation loss {progress.val_loss}", run, saved)
                log.write(done, val_loss=progress.val_loss)
                log.say(f"step {done}: loss {progress.loss:.4f}, validation {progress.val_loss:.4f}")
                if is_best(progress, done) and plan.keep_best:
                    save_best(run, done, model)
                if plan.patience and progress.worse >= plan.patience and done < plan.steps:
                    _stop(progress, done, log)
            progress.seconds = time.perf_counter() - began
            if progress.stopped:
                break
        end = progress.stopped or plan.steps
        if start < end:
            save_state(run, end, model, optimizer, vars(progress))
            drop_best(run, progress.best_step)
    kept, val_loss = end, progress.val_loss
    if plan.keep_best:
        kept, val_loss = progress.best_step, progress.best_loss
        distributed.barrier()  # for the file
        load_best(run, kept, model)
    return Summary(end, progress.loss, val_loss, progress.seconds, progress.tokens, kept)


def is_best(progress: Progress, done: int) -> bool:
    """Whether the last validation, after `done` steps, found the lowest loss so far; counts those that did not."""
    assert progress.val_loss is not None  # there was one
    if progress.best_loss is not None and progress.val_loss >= progress.best_loss:
        progress.worse += 1
        return False
    progress.best_loss, progress.best_step, progress.worse = progress.val_loss, done, 0
    return True


def _stop(progress: Progress, done: int, log: Log) -> None:
    """Let this step be the last; losses that are not in the log yet come into it."""
    progress.stopped = done
    if progress.losses:
        progress.loss, progress.losses = sum(progress.losses) / len(progress.losses), []
        log.write(done, loss=progress.loss)
    log.say(f"stopped after step {done}: no validation loss below that of step {progress.best_step} since")


def _due(done: int, interval: int, plan: Plan) -> bool:
    return done % interval == 0 or done == plan.steps


def _not_finite(found: str, run: Run, saved: int) -> NotFiniteError:
    kept = f"the state after step {saved} is good and is kept in {run.state_file}" if saved else "nothing was saved yet"
    return NotFiniteError(f"{found}; {kept}. Try a lower --learning_rate or --dtype float32, with another --out.")


def gradients(
    model: Trainee, optimizer: Optimizer, micro_batches: list, plan: Plan
) -> tuple[float, float]:
    """Leave in the weights the clipped gradient of all micro-batches' loss; that loss per supervised token and the
    gradient's norm before clipping. The micro-batches are those of all processes that train together."""
    supervised = sum(batch.supervised_tokens for batch in micro_batches)
    total, batches = distributed.all_reduce_sum(supervised, len(micro_batches))
    loss = 0.0
    for batch in in_lockstep(model, micro_batches):
        with autocast(batch.ids.device, plan.dtype):
            loss_sum, _ = model.loss(batch)
        if loss_sum.requires_grad:  # not where only the projector trains and no row has a picture
            (loss_sum / max(total, 1)).backward()
        loss += loss_sum.item() / max(total, 1)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    if batches:
        for parameter in parameters:  # one that no batch reached takes the step too, whatever the number of processes
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        distributed.all_reduce_gradients(parameters)
    (loss,) = distributed.all_reduce_sum(loss)
    norm = torch.nn.utils.clip_grad_norm_(parameters, plan.grad_clip or math.inf)
    return loss, distributed.full_tensor(norm).item()


def in_lockstep(model: nn.Module, batches: list) -> list:
    """The batches; of a model in lockstep as many as the process with the most has, those added without labels."""
    if not getattr(model, "lockstep", False):
        return batches
    device = next(model.parameters()).device
    return batches + [Batch.idle().to(device)] * (distributed.all_reduce_max(len(batches)) - len(batches))


def take_step(optimizer: Optimizer, plan: Plan, step: int) -> float:
    """Change the weights by their gradients at the schedule's rate, which is returned, and drop the gradients.

    A part with a peak of its own has the same share of it at every step.
    """
    rate = learning_rate(step, plan.steps, plan.learning_rate, plan.warmup, plan.min_lr_ratio)
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("share", 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return rate


@torch.no_grad()
def mean_loss(model: Trainee, batches: list, dtype: torch.dtype) -> float:
    """Loss per supervised token over the batches, those of the other processes too."""
    device = next(model.parameters()).device
    loss_sum, tokens = 0.0, 0.0
    for batch in in_lockstep(model, batches):
        with autocast(device, dtype):
            loss, count = model.loss(batch.to(device))
        loss_sum, tokens = loss_sum + loss.item(), tokens + count
    loss_sum, tokens = distributed.all_reduce_sum(loss_sum, tokens)
    return loss_sum / max(tokens, 1)
