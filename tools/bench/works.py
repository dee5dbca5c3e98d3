"""The workloads: the commands as a user runs them, and the reference on the same data."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType

import torch

import eval_vlm
import train_pretrain
import train_sft
from dataset.batching import collate, pixel_loader
from dataset.encoding import encode_prompt, encode_record
from dataset.record import IMAGE, Ask, Batch, Turn
from dataset.splits import stage_data
from engine.arguments import TrainArguments
from engine.build import Encoder, get_encoder, get_tokenizer
from engine.console import parse
from engine.dataloader import Feed, feature_loader, make_feeds
from engine.device import autocast, pick_device, pick_dtype
from engine.freeze import set_trainable
from model.checkpoints import load_vlm
from model.config import ProjectorConfig, VLMConfig
from tokenizer.tokenizer import Tokenizer
from tools.bench.children import Wait, metered
from tools.bench.cost import decoding_flops, matmul_peak, training_flops
from tools.bench.data import QUESTIONS, Sizes, make_folder
from tools.bench.reference import Reference, answer_one, make_step

WORKERS = 2  # image decoding threads, on both sides
START = "out/start"  # the run that SFT and generation start from
NEVER = 10**6  # steps


@dataclass(frozen=True)
class Job:
    """What all workloads share. folder: see make_folder(); runs are in out/, with the feature cache beside them."""

    folder: Path
    sizes: Sizes
    device: str
    seed: int

    @property
    def config(self) -> VLMConfig:
        lm, vision = self.sizes.lm, self.sizes.vision
        return VLMConfig(lm, vision, ProjectorConfig("linear", vision.hidden_size, lm.hidden_size))


def words_of(flags: dict) -> list[str]:
    return [word for name, value in flags.items() for word in (f"--{name}", str(value))]


@dataclass(frozen=True)
class Training:
    """'pretrain' (trains the projector) or 'sft' (the language model too), with or without cached features."""

    what: str
    cached: bool = False

    def flags(self, job: Job, steps: int = NEVER) -> list[str]:
        """The command's flags; no validation and no checkpoint falls between the steps."""
        sizes, folder = job.sizes, job.folder
        if self.what == "pretrain":
            own = {
                "llm": folder / "lm", "vision": folder / "vision", "projector": "linear", "learning_rate": 4e-4,
                "batch_size": sizes.pretrain_batch, "max_seq_len": sizes.pretrain_pad,
            }  # fmt: skip
        else:
            own = {
                "from": folder / START, "stage": 3, "fit": "drop", "learning_rate": 1e-6,  # no row is used in part
                "batch_size": sizes.sft_batch, "max_seq_len": sizes.sft_pad,
            }  # fmt: skip
        out = START if steps == 1 else f"out/{self.what}_{'cached' if self.cached else 'pixels'}"
        return words_of({
            **own, "data": folder / f"{self.what}.jsonl", "images": folder / "images", "out": folder / out,
            "optimizer": "adamw", "steps": steps, "num_workers": WORKERS, "cache_gb": 8 if self.cached else 0,
            "seed": job.seed, "device": job.device, "eval_interval": NEVER, "save_interval": NEVER,
        })  # fmt: skip

    @property
    def script(self) -> ModuleType:
        return train_pretrain if self.what == "pretrain" else train_sft

    def metered(self, steps: Iterable[list[Batch]], job: Job, wait: Wait) -> Iterator[list[Batch]]:
        """The steps' batches; what trains on them is measured."""
        cost = partial(training_flops, job.config, trains_lm=self.what == "sft", with_encoder=not self.cached)
        return metered(steps, wait, pick_device(job.device), job.sizes.warmup, job.sizes.seconds, cost)


def prepare_folder(job: Job, wait: Wait) -> None:
    """Make the data and weights, and the run that others start from, which also fills the feature cache."""
    make_folder(job.folder, job.sizes, job.seed)
    train_pretrain.main(Training("pretrain", cached=True).flags(job, steps=1))
    wait({})


def train_glimpse(training: Training, job: Job, wait: Wait) -> None:
    """The command itself; only the method that yields batches to its loop is wrapped, to read the clock there."""
    steps_from = Feed.steps_from
    Feed.steps_from = lambda *given, **named: training.metered(steps_from(*given, **named), job, wait)
    try:
        training.script.main(training.flags(job))
    finally:
        Feed.steps_from = steps_from


def train_reference(training: Training, job: Job, wait: Wait) -> None:
    """The reference, on the batches that the command would see without cached features."""
    device = pick_device(job.device)
    args, feed = make_feed(training, job)
    model, _, _ = reference_model(job)
    set_trainable(model, ("projector",) if training.what == "pretrain" else ("projector", "llm"))
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], args.learning_rate)
    step = make_step(model, optimizer, args.max_seq_len, feed.pad_id, pick_dtype("auto", device))
    for batches in training.metered(feed.steps_from(0, 1), job, wait):
        for batch in batches:
            step(batch)


def reference_model(job: Job) -> tuple[Reference, Tokenizer, Encoder]:
    """The reference with the weights of START, on the device, its tokenizer, and its encoder."""
    tokenizer, encoder = get_tokenizer("", job.folder / "lm"), get_encoder(str(job.folder / "vision"))
    vlm = load_vlm(job.folder / START, encoder.module)
    return Reference(vlm, tokenizer.image_id).to(pick_device(job.device)), tokenizer, encoder


def make_feed(training: Training, job: Job) -> tuple[TrainArguments, Feed]:
    """The stage's arguments and its feed, as the command makes them."""
    args = parse(training.script.DEFAULTS, training.flags(job), training.script.FLAGS)
    tokenizer, encoder = get_tokenizer("", job.folder / "lm"), get_encoder(str(job.folder / "vision"))
    encode = partial(
        encode_record, tokenizer=tokenizer, image_tokens=job.config.image_tokens, max_seq_len=args.max_seq_len
    )
    feed = make_feeds(args, stage_data(args, training.what, 0), encode, tokenizer)[0]
    device = pick_device(job.device)
    load = feature_loader(encoder, feed.examples.pictures, len(feed.examples), job.folder / "out/cache", args.cache_gb,
                          device, pick_dtype("auto", device), WORKERS)  # fmt: skip
    return args, dataclasses.replace(feed, load=load, workers=0 if training.cached else WORKERS)


def load_data(training: Training, job: Job, wait: Wait) -> None:
    """The batches alone, without training on them."""
    _, feed = make_feed(training, job)
    seconds = min(job.sizes.seconds, 4.0)
    for _ in metered(feed.steps_from(0, 1), wait, torch.device("cpu"), 2 * WORKERS + 1, seconds, lambda batch: 0.0):
        pass


def asks(job: Job, count: int) -> list[Ask]:
    """Questions about `count` pictures."""
    turns = [Turn("user", (IMAGE, "\n" + question)) for question in QUESTIONS]
    files = [job.folder / "images" / f"{number}.jpg" for number in range(job.sizes.rows)]
    return [Ask((turns[i % len(turns)],), (files[i % len(files)],), str(i)) for i in range(count)]


def measure_answers(answer: Callable[[int], object], job: Job, count: int, wait: Wait) -> None:
    """Measure answer(new_tokens), which gives `count` answers of that length, in pairs of one token and all tokens."""
    new = job.sizes.new_tokens
    flops = count * decoding_flops(job.sizes.lm, job.config.image_tokens + 30, new)
    answer(2)
    wait({})
    while True:
        began, first, whole, pairs = time.perf_counter(), 0.0, 0.0, 0
        while not pairs or time.perf_counter() - began < job.sizes.seconds:
            first, whole, pairs = first + took(answer, 1), whole + took(answer, new), pairs + 1
        decoding = max(whole - first, 1e-9)
        wait({
            "value": count * (new - 1) * pairs / decoding, "tokens_per_s": count * new * pairs / whole,
            "flops_per_s": flops * pairs / decoding, "first_token_ms": 1000 * first / pairs,
        })  # fmt: skip


def took(answer: Callable[[int], object], new_tokens: int) -> float:
    began = time.perf_counter()
    answer(new_tokens)
    return time.perf_counter() - began


def generate_glimpse(count: int, job: Job, wait: Wait) -> None:
    """eval_vlm.py's own path from picture files to texts, `count` at once."""
    flags = {"image": job.folder / "images/0.jpg", "weights": job.folder / START, "batch_size": count}
    looker = eval_vlm.load_looker(eval_vlm.parse(words_of({**flags, "device": job.device})))
    asked = asks(job, count)

    def answer(new_tokens: int) -> None:
        decoding = dataclasses.replace(looker.decoding, max_new_tokens=new_tokens)
        answers = dataclasses.replace(looker, decoding=decoding).say(asked)
        if any(made is None or made.tokens != new_tokens for made in answers):
            raise RuntimeError(f"an answer does not have {new_tokens} tokens; the random model should never end one")

    measure_answers(answer, job, count, wait)


def generate_reference(job: Job, wait: Wait) -> None:
    """From a picture file to a text, one at a time, as MiniMind-V's own command answers."""
    device = pick_device(job.device)
    model, tokenizer, encoder = reference_model(job)
    ask, load, dtype = asks(job, 1)[0], pixel_loader(encoder.spec), pick_dtype("auto", device)

    def answer(new_tokens: int) -> str:
        prompt = encode_prompt(ask.turns, tokenizer, model.image_tokens, ask.images)
        batch = collate([prompt], tokenizer.pad_id, load, left=True).to(device)
        line: list[int] = []

        def show(tokens: list[int]) -> None:
            line.extend(tokens)
            if tokenizer.decode(line)[-1:] > "\u2e80":  # a streamer prints up to the last Chinese character
                line.clear()

        with autocast(device, dtype):
            ids = answer_one(model, batch.ids, batch.pixels, new_tokens, tokenizer.end_id, show)
        return tokenizer.decode(ids)

    measure_answers(answer, job, 1, wait)


def measure_peak(job: Job, wait: Wait) -> None:
    """The machine's fastest matmuls, in bfloat16 ("value") and in the dtype that training uses here ("used")."""
    device, sizes = pick_device(job.device), job.sizes
    used, seconds = pick_dtype("auto", device), min(sizes.seconds, 1.0)
    wait({})
    while True:
        peaks = {kind: matmul_peak(device, kind, sizes.lm, sizes.matmul_tokens, seconds)
                 for kind in {torch.bfloat16, used}}  # fmt: skip
        wait({"value": peaks[torch.bfloat16], "used": peaks[used]})


def groups(sizes: Sizes) -> list[dict]:
    """Workloads that are measured in turn, by name; those called 'reference...' only with --reference."""
    pretrain, sft = Training("pretrain"), Training("sft")
    cached, sft_cached = Training("pretrain", cached=True), Training("sft", cached=True)
    return [
        {"data_pixels": partial(load_data, pretrain), "data_cached": partial(load_data, cached)},
        {
            "pretrain_cached": partial(train_glimpse, cached), "pretrain_pixels": partial(train_glimpse, pretrain),
            "reference_pretrain": partial(train_reference, pretrain),
        },
        {
            "sft": partial(train_glimpse, sft_cached), "sft_pixels": partial(train_glimpse, sft),
            "reference_sft": partial(train_reference, sft),
        },
        {
            "generate_b1": partial(generate_glimpse, 1), "generate_b16": partial(generate_glimpse, sizes.batched),
            "reference_generate": generate_reference,
        },
    ]  # fmt: skip
