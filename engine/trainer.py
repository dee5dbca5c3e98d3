"""From a model and its data to a finished run: features, freezing, the loop, checkpoints; used by every command."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dataset.augment import augmented
from dataset.bad_rows import DataError
from dataset.batching import PictureLoader, pixel_loader
from dataset.encoding import encode_record
from dataset.features import FeatureCache
from dataset.record import Batch
from dataset.splits import Data
from engine import distributed, snapshots
from engine.arguments import TrainArguments, UsageError, rates_of, settings
from engine.board import log_samples, wandb_run
from engine.build import Encoder, encoder_note
from engine.checkpoint import Run, is_finished, locked, open_run
from engine.curves import draw_curve
from engine.dataloader import Feed, feature_loader, make_feeds
from engine.device import (
    accelerate,
    arithmetic,
    frozen_in,
    keep_in,
    peak_memory,
    pick_device,
    pick_dtype,
    prepare,
    release_memory,
)
from engine.familiar import describe_training, save_familiar
from engine.freeze import LORA, add_adapters, check_frozen, frozen_sums, parameter_table, rate_table, set_trainable
from engine.inference import SAMPLES, Samples, sample_records, write_samples
from engine.loop import mean_loss, train
from engine.memory import kept_memory, memory_plan, memory_table, program_memory
from engine.recorder import Summary, Trainee
from model.checkpoints import fingerprint, save_safetensors, save_vlm, write_json
from model.checkpoints.exports import describe_exports
from model.language import LanguageModel
from model.lora import lora_tensors, merge_lora
from model.vlm import VLM
from tokenizer.tokenizer import Tokenizer

VALIDATION_EXAMPLES = 256


@dataclass(frozen=True)
class Machine:
    device: torch.device
    dtype: torch.dtype


def machine(args: TrainArguments) -> Machine:
    """Set up and return the device and dtype of this run; under torchrun each rank has its own device.

    UsageError for --fsdp without torchrun, and for a batch with fewer samples than there are ranks.
    """
    count = distributed.world_size()
    if not args.token_budget and args.batch_size < count:
        raise UsageError(f"--batch_size {args.batch_size} for {count} processes; give each at least one sample")
    if args.fsdp and count == 1:
        raise UsageError("--fsdp divides a model among several processes, and this is the only one; start more of "
                         "them with torchrun --nproc_per_node 2, or leave it out")  # fmt: skip
    device = pick_device(distributed.local_device(args.device))
    prepare(device)
    distributed.init(device)
    return Machine(device, pick_dtype(args.dtype, device))


def is_done(args: TrainArguments) -> bool:
    """Whether this run is finished already, and says so. RunError for a run of other settings."""
    if args.dry_run or not is_finished(Path(args.out), settings(args)):
        return False
    if distributed.is_main():
        print(f"{args.out} is finished; nothing to do (delete the folder to train it again)")
    return True


def plan_of(args: TrainArguments, feed: Feed, here: Machine) -> TrainArguments:
    """The arguments as the loop takes them: dtype by name, and steps, if not given, as epochs and data make them."""
    steps = args.steps or args.epochs * max(len(feed.plan(0)) // args.accumulation_steps, 1)
    return dataclasses.replace(args, steps=steps, dtype=str(here.dtype).removeprefix("torch."))


def train_vlm(
    args: TrainArguments, model: VLM, encoder: Encoder, tokenizer: Tokenizer, data: Data, trained: tuple[str, ...],
    here: Machine, begin: Callable[[PictureLoader], None] | None = None,
) -> Run | None:  # fmt: skip
    """Train `model` on the data and save it; None for a dry run.

    trained: prefixes of the modules to train, unless --train gives others. begin: called with the picture loader
    before training starts, also when the run is resumed.
    """
    print(describe_exports(model, in_full=args.dry_run and not args.stage))
    accelerate(model, args.fast)  # its encoder too, which may run before the training
    trained = tuple(prefix.strip() for prefix in args.train.split(",")) if args.train else trained
    longest = min(args.max_seq_len, model.config.lm.max_position_embeddings)
    encode = partial(encode_record, tokenizer=tokenizer, image_tokens=model.image_tokens, max_seq_len=longest)
    feeds = make_feeds(args, data, encode, tokenizer)
    note = encoder_note(encoder, feeds[0].examples.pictures())
    print(note, end="\n" if note else "")
    sees = any(prefix.split(".")[0] == "vision" for prefix in trained)
    facts = {
        "tokenizer": tokenizer.fingerprint,
        "start": fingerprint(model),
        "vision": {"folder": str(Path(encoder.folder).resolve()) if encoder.folder else "",
                   "fingerprint": encoder.fingerprint, "feature_layer": encoder.module.config.feature_layer},
    }  # fmt: skip
    if not sees:
        keep_in(here.dtype, encoder.module)
    load, change = pixel_loader(encoder.spec), None
    if args.augment != "none":
        load, change = augmented(args.augment, args.seed, encoder.spec, args.cache_gb)
    elif not (args.dry_run or sees):
        pictures = lambda: chain.from_iterable(each.examples.pictures() for each in feeds)  # noqa: E731
        count = sum(each.examples.used_rows for each in feeds) if args.data else args.scenes + len(data.val)
        cache = Path(args.out).parent / "cache"
        with distributed.main_first():
            load = feature_loader(encoder, pictures, count, cache, args.cache_gb, here.device, here.dtype,
                                  args.num_workers)  # fmt: skip
    cached = isinstance(getattr(load, "__self__", None), FeatureCache)
    feeds = [dataclasses.replace(each, load=load, workers=0 if cached else args.num_workers) for each in feeds]
    feeds[0] = dataclasses.replace(feeds[0], change=change)
    if begin and not args.dry_run:
        begin(load)

    def save(folder: Path) -> None:
        save_vlm(folder, model, with_vision=sees)
        if sees:
            write_json(folder / "preprocessor_config.json", encoder.spec.to_settings())
        tokenizer.save(folder)
        if cached:  # else the features changed in training, or would have to be computed again, which can take minutes
            familiar = describe_training([each.examples for each in feeds], load, encoder.fingerprint, args.seed)
            if familiar:
                save_familiar(folder, familiar)

    def show(run: Run) -> Samples:
        records = sample_records((row for val in feeds[1:] for row in val.examples.rows[:SAMPLES]), data.val)
        return write_samples(run, model, tokenizer, records, load, here.dtype)

    return run_training(args, model, trained, feeds, facts, here, save, show)


def run_training(
    args: TrainArguments, model: Trainee, trained: tuple[str, ...], feeds: list[Feed], facts: dict, here: Machine,
    save: Callable[[Path], None], show: Callable[[Run], Samples] | None = None,
) -> Run | None:  # fmt: skip
    """Train `model` and save it in the run's folder; None for a dry run.

    trained: prefixes of the modules to train. feeds: of make_feeds(). facts: what the run depends on beside its
    settings. save(folder) writes the trained weights. show(run) writes samples of the trained model.
    """
    accelerate(model, args.fast)
    if LORA in trained:
        add_adapters(args, model)
    set_trainable(model, trained)
    print(parameter_table(model))
    feed, *validation = feeds
    plan = plan_of(args, feed, here)
    if plan.learning_rates:
        print(rate_table(model, plan.learning_rate, rates_of(plan.learning_rates)))
    if not validation and (args.keep == "best" or args.patience):
        raise UsageError(f"--keep {args.keep} --patience {args.patience} go by the validation loss, and the data is "
                         "too little to keep some apart; give --val_data, or leave them out")  # fmt: skip
    due = snapshots.snapshot_steps(plan, feed, model) if plan.snapshots else {}
    if args.dry_run:
        for each, what in zip(feeds, ("samples", "validation rows"), strict=False):
            print("".join(f"{line}\n" for line in each.open_pictures(what)), end="")
    memory = memory_plan(model, feed, here.dtype, args.optimizer, args.gradient_checkpointing, distributed.world_size(),
                         here.device.type == "cuda", args.fsdp)  # fmt: skip
    print(describe(plan, feed, model, here, memory))
    if args.dry_run:
        return None
    run = Run(Path(args.out))
    with locked(run.path) if distributed.is_main() else contextlib.nullcontext():
        if distributed.is_main():
            examples = feed.examples
            seen = [len(examples), int(examples.lengths.sum()), int(examples.supervised.sum())]
            data = [each.examples.fingerprint for each in feeds]
            facts = {**facts, "samples, tokens, supervised": seen, "data": data}
            open_run(run.path, settings(args), facts, arithmetic(model, here.device, here.dtype))
            feed.bad.write(run.path / "bad_rows.json")
        distributed.barrier()
        project = args.wandb_project if args.use_wandb and distributed.is_main() else ""
        with wandb_run(run, project, settings(plan)) as board:
            frozen = frozen_sums(model)
            try:
                summary = fit(plan, model, feeds, run, here, board, memory, due)
            except DataError:  # too many unreadable pictures, which are opened while training
                if distributed.is_main():
                    feed.bad.write(run.path / "bad_rows.json")
                raise
            check_frozen(model, frozen)
            if distributed.is_main():
                feed.bad.write(run.path / "bad_rows.json")
                if due:
                    snapshots.write_snapshots(run, due, model, save, None if args.fsdp else show)
                if LORA in trained:
                    about = {"rank": str(args.lora_rank), "alpha": str(args.lora_alpha), "targets": args.lora_targets}
                    save_safetensors(run.path / "lora.safetensors", lora_tensors(model), about)
                    merge_lora(model)
                save(run.path)
                draw_curve(run.log_file, run.path / "loss.png", summary.kept_step)
                if show:
                    if args.fsdp:  # the whole model, in as little memory as possible
                        keep_in(here.dtype, model)
                    model.to(here.device)
                    samples = show(run)
                    if board:
                        log_samples(board, samples, summary.steps)
                done = {**vars(summary), "peak_memory_mib": peak_memory(here.device) >> 20, "finished_at": time.time()}
                if board:
                    board.summary.update(done)
                write_json(run.path / "finished.json", done)  # last, as it marks the run as finished
        distributed.barrier()
    val = "" if summary.val_loss is None else f", validation {summary.val_loss:.4f}"
    best = f", the weights after step {summary.kept_step} kept" if plan.keep == "best" else ""
    print(f"{run.path}: {summary.steps} steps, loss {summary.loss:.4f}{val}{best}, {summary.seconds:.0f} s")
    if isinstance(model, VLM):
        warning = feed.examples.answers.verdict(summary.val_loss or summary.loss, sees=model.projector is not None)
        print(warning, end="\n" if warning else "")
    return run


def fit(
    plan: TrainArguments, model: Trainee, feeds: list[Feed], run: Run, here: Machine, board: Any,
    memory: dict[str, int], due: dict[int, int],
) -> Summary:  # fmt: skip
    """Run the loop on the device: on the model itself, or with --fsdp on a copy sharded over all ranks.

    memory: of memory_plan(); what a CPU process has freed beyond it goes back to the system. due: of snapshot_steps().
    """
    feed, *validation = feeds
    planned = sum(memory.values()) + program_memory(here.dtype, here.device)
    gc.collect()  # the models of earlier stages, which refer to themselves
    release_memory()
    for module in model.modules():
        if isinstance(module, LanguageModel):
            module.checkpointing = plan.gradient_checkpointing

    def steps_from(start: int) -> Iterator[list[Batch]]:
        for step, batches in enumerate(feed.steps_from(start, plan.accumulation_steps), start):
            if step in due:
                snapshots.save_snapshot(run, due[step], trainee)
            if here.device.type == "cpu":
                release_memory(planned)
            yield batches

    with in_training(plan, model, here) as trainee:
        batches = [batch for val in validation for batch in val.some(VALIDATION_EXAMPLES)]
        validate = partial(mean_loss, trainee, batches, here.dtype) if validation else None
        return train(trainee, plan, steps_from, run, validate, board)


def in_training(args: TrainArguments, model: Trainee, here: Machine) -> AbstractContextManager[Trainee]:
    """A context that gives the model to train, on the device: itself, or with --fsdp a copy sharded over all ranks."""
    if not args.fsdp:
        return frozen_in(here.dtype, model.to(here.device))
    from engine.fsdp import divided  # slow to import

    assert isinstance(model, VLM)  # only commands that train one have --fsdp
    return divided(model, here.device, here.dtype)


def describe(args: TrainArguments, feed: Feed, model: nn.Module, here: Machine, memory: dict[str, int]) -> str:
    """A summary of the training to come, with the arguments of plan_of(): samples, tokens, steps, padding, memory."""
    epochs = args.steps * args.accumulation_steps / len(feed.plan(0))
    used = arithmetic(model, here.device, here.dtype)
    compiled = ", with compiled kernels" if used["kernels"] else "" if used["fast"] else ", by the plain model"
    beside = program_memory(here.dtype, here.device) + kept_memory(memory, here.device)
    size = f"{args.token_budget} tokens" if args.token_budget else f"{args.batch_size} samples"
    size = f"about {args.supervised_tokens} supervised tokens" if args.curriculum else size
    lines = [
        feed.samples(args.max_seq_len),
        *feed.mixing(),
        *(feed.answers() if args.data else ()),
        f"steps: {args.steps:,} of {size} x {args.accumulation_steps} ({epochs:.2f} epochs), {feed.padding():.1%} "
        f"padding, on {here.device} in {used['dtype']}{compiled}",
        f"peak memory: about {sum(memory.values()) / 2**30:.1f} GiB for weights, gradients, optimizer "
        f"and activations, beside about {beside / 2**30:.1f} GiB for the program and freed blocks",
    ]
    if feed.bad.bad:
        lines.append(feed.bad.report())
    if args.dry_run:
        lines.append(f"{memory_table(memory)}\nthis is the plan of {args.out}; a dry run trains nothing\n")
    return "\n".join(lines)
