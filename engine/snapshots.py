"""--snapshots: the weights after some epochs of one training, each in a folder that commands read as a finished run.

While a run trains, what it trains waits in epoch<K>.safetensors after epoch K; when it has trained, each becomes the
folder epoch<K>. Both appear whole or not at all, and a run that is resumed writes the same again.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch

from engine.arguments import TrainArguments, UsageError
from engine.checkpoint import Run, load_weights, save_weights
from engine.dataloader import Feed
from engine.log import read_log
from model.checkpoints import read_tensors, write_json
from model.checkpoints.files import discard
from model.lora import is_adapter

KEPT = ("loss", "val_loss", "tokens", "seconds")  # of the log, in a snapshot's summary


def snapshot_steps(plan: TrainArguments, feed: Feed, model: torch.nn.Module) -> dict[int, int]:
    """step -> the epoch that ends with it, of the epochs in --snapshots.

    UsageError for what is no list of epochs, an epoch that the run does not reach, and adapters.
    """
    words = [word.strip() for word in plan.snapshots.split(",")]
    if not all(word.isdigit() and int(word) for word in words):
        raise UsageError(f"--snapshots {plan.snapshots}: expected numbers of epochs, as 1,2,5,10")
    if any(is_adapter(name) for name, _ in model.named_parameters()):
        raise UsageError("--snapshots keeps weights, and --train lora trains adapters; leave one of them out")
    epochs = sorted(map(int, words))
    ends = list(accumulate(len(feed.plan(epoch)) for epoch in range(epochs[-1])))
    due = {max(ends[epoch - 1] // plan.accumulation_steps, 1): epoch for epoch in epochs}
    if max(due) > plan.steps:
        raise UsageError(f"--snapshots {plan.snapshots}: epoch {epochs[-1]} ends with step {max(due):,}, the training "
                         f"with {plan.steps:,}; leave it out, or train longer")  # fmt: skip
    return due


def waiting_file(run: Run, epoch: int) -> Path:
    return run.path / f"epoch{epoch}.safetensors"


def save_snapshot(run: Run, epoch: int, model: torch.nn.Module) -> None:
    """Keep the weights that train as they are after an epoch. All ranks call this."""
    save_weights(waiting_file(run, epoch), model)


def write_snapshots(
    run: Run, due: dict[int, int], model: torch.nn.Module, save: Callable[[Path], None],
    show: Callable[[Run], Any] | None,
) -> None:  # fmt: skip
    """Make a folder of each epoch that the run came to; the model ends with the weights that it has now.

    due: of snapshot_steps(). save, show: as for run_training(). Only the main process calls this.
    """
    final = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
    for step, epoch in due.items():
        file, folder, making = waiting_file(run, epoch), run.path / f"epoch{epoch}", run.path / f".epoch{epoch}"
        if file.is_file():
            load_weights(model, read_tensors(file), file)
        elif not folder.is_dir() and _last_step(run) == step:
            state = read_tensors(run.state_file, lambda name: name.startswith("weight."))
            load_weights(model, {name.removeprefix("weight."): p for name, p in state.items()}, run.state_file)
        else:  # it is there already, or the run was stopped early
            continue
        discard(making)
        save(making)
        if show:
            print(f"after epoch {epoch}:")
            show(Run(making))
        entries = [entry for entry in read_log(run.log_file) if entry["step"] <= step]
        summary = {key: value for entry in entries for key, value in entry.items() if key in KEPT}
        write_json(making / "run.json", run.record())
        write_json(making / "finished.json", {"steps": step, "kept_step": step, "epoch": epoch, **summary})
        discard(folder)
        os.replace(making, folder)
        file.unlink(missing_ok=True)
    load_weights(model, final, run.path)


def _last_step(run: Run) -> int:
    return max((entry["step"] for entry in read_log(run.log_file)), default=0)
