"""A stage from its settings to a finished run: check, count, train, keep."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import nn

from dataset.bad_rows import DataError
from dataset.record import Batch
from engine import distributed
from engine.arguments import Stage, UsageError, rates_of, settings
from engine.checkpoint import Run, finish, is_finished, open_run
from engine.device import arithmetic, frozen_in, keep_in, peak_memory, pick_device, pick_dtype, prepare
from engine.feed import Feed
from engine.freeze import (
    LORA,
    check_frozen,
    frozen_sums,
    parameter_table,
    rate_table,
    set_trainable,
)
from engine.log import draw_curve
from engine.loop import Plan, mean_loss, train
from engine.memory import memory_plan, memory_table, total
from model.checkpoints.files import save_safetensors
from model.language import LanguageModel
from model.lora import add_lora, lora_tensors, merge_lora

VALIDATION_EXAMPLES = 256


@dataclass(frozen=True)
class Machine:
    device: torch.device
    dtype: torch.dtype


def machine(stage: Stage) -> Machine:
    """The device and number format that a stage runs on, made ready; under torchrun each process has its own.

    UsageError for --fsdp without torchrun.
    """
    if stage.fsdp and distributed.world_size() == 1:
        raise UsageError(
            "--fsdp divides a model among several processes, and this is the only one; start more of them with "
            "torchrun --nproc_per_node 2, or leave it out"
        )
    device = pick_device(distributed.local_device(stage.device))
    prepare(device)
    distributed.init(device)
    return Machine(device, pick_dtype(stage.dtype, device))


def is_done(stage: Stage) -> bool:
    """Whether the stage's run is finished with these settings, which is then said. RunError for other settings."""
    if stage.dry_run or not is_finished(Path(stage.out), settings(stage)):
        return False
    if distributed.is_main():
        print(f"{stage.out} is finished; nothing to do (delete the folder to train it again)")
    return True


def plan_of(stage: Stage, feed: Feed, here: Machine) -> Plan:
    """The numbers of the loop: the steps follow from epochs and data unless they are given."""
    an_epoch = max(len(feed.plan(0)) // stage.accumulation_steps, 1)
    steps = stage.steps or stage.epochs * an_epoch
    return Plan(
        steps, stage.learning_rate, stage.min_lr_ratio, max(round(stage.warmup_ratio * steps), 1), stage.weight_decay,
        stage.grad_clip, stage.save_interval, stage.eval_interval, stage.log_interval, here.dtype, stage.optimizer,
        rates_of(stage.learning_rates), stage.keep == "best", stage.patience,
    )  # fmt: skip


def run_stage(
    stage: Stage,
    model: nn.Module,
    trained: tuple[str, ...],
    feed: Feed,
    val_feed: Feed | None,
    facts: dict,
    here: Machine,
    save: Callable[[Path], None],
    change: Callable[[int, Batch], Batch] | None = None,
    show: Callable[[Run], None] | None = None,
) -> Run | None:
    """Train `model` as the stage says and keep the result in its folder; None for a dry run.

    trained: prefixes of the modules that train. facts: what the run depends on beside its settings. save(folder)
    writes the finished weights; change(step, batch) gives the batch that is trained on in its place; show(run)
    writes samples of what the model now does.
    """
    prefixes = tuple(prefix.strip() for prefix in trained)
    if LORA in prefixes:
        add_adapters(stage, model)
    set_trainable(model, prefixes)
    print(parameter_table(model))
    plan = plan_of(stage, feed, here)
    if plan.learning_rates:
        print(rate_table(model, plan.learning_rate, plan.learning_rates))
    if val_feed is None and (stage.keep == "best" or stage.patience):
        raise UsageError(
            f"--keep {stage.keep} --patience {stage.patience} go by the validation loss, and the data is too little to "
            "keep some apart; give --val_data, or leave them out"
        )
    print(describe(stage, feed, plan, model, here))
    if stage.dry_run:
        return None
    examples = feed.examples
    feed, val_feed = own_parts(stage, feed), own_parts(stage, val_feed)
    seen = [len(examples), int(examples.lengths.sum()), int(examples.supervised.sum())]
    run = Run(Path(stage.out))
    if distributed.is_main():
        run = open_run(stage.out, settings(stage), {**facts, "samples, tokens, supervised": seen},
                       arithmetic(model, here.device, here.dtype))
        feed.bad.write(run.path / "bad_rows.json")
    distributed.barrier()
    for module in model.modules():
        if isinstance(module, LanguageModel):
            module.checkpointing = stage.gradient_checkpointing
    frozen = frozen_sums(model)
    log_options = {
        "wandb_project": stage.wandb_project if stage.use_wandb else "", "settings": settings(stage),
    }  # fmt: skip

    def steps_from(start: int) -> Iterator[list[Batch]]:
        for step, batches in enumerate(feed.steps_from(start, stage.accumulation_steps), start):
            yield [change(step, batch) for batch in batches] if change else batches

    validate = None
    try:
        with in_training(stage, model, here) as trainee:
            if val_feed is not None:
                validate = partial(mean_loss, trainee, val_feed.some(VALIDATION_EXAMPLES), here.dtype)
            summary = train(trainee, plan, steps_from, run, log_options, validate)
    except DataError:  # too many pictures that cannot be read, which are opened while it trains
        if distributed.is_main():
            feed.bad.write(run.path / "bad_rows.json")
        raise
    check_frozen(model, frozen)
    if not distributed.is_main():
        distributed.barrier()
        return run
    feed.bad.write(run.path / "bad_rows.json")
    if LORA in prefixes:
        keep_adapters(stage, model, run)
    save(run.path)
    draw_curve(run.log_file, run.path / "loss.png")
    if show:
        if stage.fsdp:  # whole, so in as little memory as may be
            keep_in(here.dtype, model)
        model.to(here.device)
        show(run)
    finish(run, {**vars(summary), "peak_memory_mib": peak_memory(here.device) >> 20, "finished_at": time.time()})
    distributed.barrier()
    val = "" if summary.val_loss is None else f", validation {summary.val_loss:.4f}"
    best = f", the weights after step {summary.kept_step} kept" if plan.keep_best else ""
    print(f"{run.path}: {summary.steps} steps, loss {summary.loss:.4f}{val}{best}, {summary.seconds:.0f} s")
    return run


def in_training(stage: Stage, model: nn.Module, here: Machine) -> AbstractContextManager[nn.Module]:
    """Within, the model as it trains on the device: itself, or for --fsdp a copy divided among the processes."""
    if not stage.fsdp:
        return frozen_in(here.dtype, model.to(here.device))
    from engine.fsdp import divided  # takes half a second

    return divided(model, here.device, here.dtype)


def own_parts(stage: Stage, feed: Feed | None) -> Feed | None:
    """The feed of this process's part of every batch. UsageError where a batch has no part for some."""
    count = distributed.world_size()
    if not stage.token_budget and stage.batch_size < count:
        raise UsageError(f"--batch_size {stage.batch_size} for {count} processes; give each at least one sample")
    return feed and dataclasses.replace(feed, rank=distributed.rank(), processes=count)


def add_adapters(stage: Stage, model: nn.Module) -> None:
    """Adapters beside the linear layers of the language model that --lora_targets names."""
    targets = tuple(target.strip() for target in stage.lora_targets.split(","))
    try:
        add_lora(model.llm, targets, stage.lora_rank, stage.lora_alpha, torch.Generator().manual_seed(stage.seed))
    except ValueError as error:
        raise UsageError(f"--lora_targets {stage.lora_targets}: {error}") from error


def keep_adapters(stage: Stage, model: nn.Module, run: Run) -> None:
    """The adapters alone as lora.safetensors; then they become part of the model's weights."""
    how = {"rank": str(stage.lora_rank), "alpha": str(stage.lora_alpha), "targets": stage.lora_targets}
    save_safetensors(run.path / "lora.safetensors", lora_tensors(model), how)
    merge_lora(model)


def describe(stage: Stage, feed: Feed, plan: Plan, model: nn.Module, here: Machine) -> str:
    """What will be trained on: samples, tokens, steps, padding, memory."""
    examples = feed.examples
    an_epoch = len(feed.plan(0)) / stage.accumulation_steps
    memory = memory_plan(
        model, feed, here.dtype, stage.optimizer, stage.gradient_checkpointing, distributed.world_size(),
        here.device.type == "cuda", stage.fsdp,
    )  # fmt: skip
    used = arithmetic(model, here.device, here.dtype)
    compiled = ", with compiled kernels" if used["kernels"] else "" if used["fast"] else ", by the plain model"
    size = f"{stage.token_budget} tokens" if stage.token_budget else f"{stage.batch_size} samples"
    lines = [
        f"samples: {len(examples):,} ({examples.truncated} cut at {stage.max_seq_len} tokens), "
        f"{int(examples.lengths.sum()):,} tokens, {int(examples.supervised.sum()):,} supervised an epoch",
        *feed.mixing(),
        f"steps: {plan.steps:,} of {size} x {stage.accumulation_steps} "
        f"({plan.steps / an_epoch:.2f} epochs), {feed.padding():.1%} padding, on {here.device} in "
        f"{str(here.dtype).removeprefix('torch.')}{compiled}",
        f"peak memory: about {total(memory) / 2**30:.1f} GiB for weights, gradients, optimizer "
        "and activations, beside about 0.5 GiB for the program",
    ]
    if stage.dry_run:
        lines.append(memory_table(memory))
    if feed.bad.bad:
        lines.append(feed.bad.report())
    return "\n".join(lines)

