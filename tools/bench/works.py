"""The workloads: the commands as a user runs them, and the reference on the same data."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch

import eval_vlm
import train_pretrain
import train_sft
from dataset.batching import collate, pixel_loader
from dataset.encoding import encode_prompt, encode_record
from dataset.features import FeatureCache
from dataset.record import IMAGE, Ask, Batch, Turn
from dataset.splits import stage_data
from engine.arguments import parse
from engine.build import get_encoder, get_tokenizer
from engine.dataloader import Feed, feature_loader, make_examples
from engine.device import autocast, pick_device, pick_dtype
from engine.freeze import set_trainable
from model.checkpoints import load_vlm
from model.config import ProjectorConfig, VLMConfig
from tools.bench.children import StepMeter, Turns
from tools.bench.cost import decoding_flops, matmul_peak, training_flops
from tools.bench.data import QUESTIONS, Folder, Sizes, make_folder
from tools.bench.reference import Reference, answer_one, make_step

WORKERS = 2  # image decoding threads, on both sides
START = "start"  # the run that SFT and generation start from


@dataclass(frozen=True)
class Job:
    folder: Folder
    sizes: Sizes
    device: str
    seed: int

    @property
    def config(self) -> VLMConfig:
        lm, vision = self.sizes.lm, self.sizes.vision
        return VLMConfig(lm, vision, ProjectorConfig("linear", vision.hidden_size, lm.hidden_size))


@dataclass(frozen=True)
class Training:
    """'pretrain' (trains the projector) or 'sft' (the language model too), with or without cached features."""

    what: str
    cached: bool = False

    def flags(self, job: Job, steps: int = 10**6) -> list[str]:
        """The command's flags; no validation and no checkpoint falls between the steps."""
        sizes, what = job.sizes, self.what
        batch, longest, rate = {
            "pretrain": (sizes.pretrain_batch, sizes.pretrain_pad, 4e-4), "sft": (sizes.sft_batch, sizes.sft_pad, 1e-6),
        }[what]  # fmt: skip
        name = START if steps == 1 else f"{what}_{'cached' if self.cached else 'pixels'}"
        start = {
            "pretrain": {"llm": job.folder.lm, "vision": job.folder.vision, "projector": "linear"},
            "sft": {"from": job.folder.out(START), "stage": 3, "fit": "drop"},  # no row is used in part
        }[what]  # fmt: skip
        values = {
            **start, "data": job.folder.data(what), "images": job.folder.images, "out": job.folder.out(name),
            "batch_size": batch, "max_seq_len": longest, "learning_rate": rate, "optimizer": "adamw", "steps": steps,
            "num_workers": WORKERS, "cache_gb": 8 if self.cached else 0, "seed": job.seed, "device": job.device,
            "eval_interval": 10**6, "save_interval": 10**6,
        }  # fmt: skip
        return [word for name, value in values.items() for word in (f"--{name}", str(value))]

    def script(self):
        return train_pretrain if self.what == "pretrain" else train_sft

    def cost(self, job: Job) -> Callable[[Batch], float]:
        sft = self.what == "sft"
        return partial(training_flops, job.config, trains_lm=sft, with_encoder=not self.cached)


def prepare_folder(job: Job, turns: Turns) -> None:
    """Make the data and weights, and the run that others start from, which also fills the feature cache."""
    make_folder(job.folder.path, job.sizes, job.seed)
    train_pretrain.main(Training("pretrain", cached=True).flags(job, steps=1))
    turns.wait()


def train_glimpse(training: Training, job: Job, turns: Turns) -> None:
    """The command itself; only the method that yields batches to its loop is wrapped, to read the clock there."""
    sizes, steps_from = job.sizes, Feed.steps_from
    meter = StepMeter(turns, pick_device(job.device), sizes.warmup, sizes.seconds, training.cost(job))

    def watched(feed: Feed, start: int, accumulation: int) -> Iterator[list[Batch]]:
        for batches in steps_from(feed, start, accumulation):
            meter.tick(batches)
            yield batches

    Feed.steps_from = watched
    try:
        training.script().main(training.flags(job))
    finally:
        Feed.steps_from = steps_from


def train_reference(training: Training, job: Job, turns: Turns) -> None:
    """The reference, on the batches that the command would see without cached features."""
    sizes, device = job.sizes, pick_device(job.device)
    args, feed = make_feed(training, job)
    vlm = load_vlm(job.folder.out(START), get_encoder(str(job.folder.vision)).module)
    set_trainable(vlm, ("projector",) if training.what == "pretrain" else ("projector", "llm"))
    model = Reference(vlm, get_tokenizer("", job.folder.lm).image_id)
    for mine, theirs in zip(model.llm.parameters(), vlm.llm.parameters(), strict=True):
        mine.requires_grad_(theirs.requires_grad)
    del vlm
    meter = StepMeter(turns, device, sizes.warmup, sizes.seconds, training.cost(job))
    optimizer = torch.optim.AdamW([p for p in model.to(device).parameters() if p.requires_grad], args.learning_rate)
    step = make_step(model, optimizer, args.max_seq_len, feed.pad_id, pick_dtype("auto", device))
    for batches in feed.steps_from(0, 1):
        meter.tick(batches)
        for batch in batches:
            step(batch)


def make_feed(training: Training, job: Job):
    """(the stage's arguments, its feed) as the command makes them."""
    args = parse(training.script().DEFAULTS, training.flags(job), training.script().FLAGS)
    tokenizer, encoder = get_tokenizer("", job.folder.lm), get_encoder(str(job.folder.vision))
    data = stage_data(args, training.what, 0)
    encode = partial(
        encode_record, tokenizer=tokenizer, image_tokens=job.config.image_tokens, max_seq_len=args.max_seq_len
    )
    examples = make_examples(data.train, encode, data.bad, "samples")
    load, device = pixel_loader(encoder.spec), pick_device(job.device)
    if training.cached:
        pictures, count = examples.pictures, len(examples)
        cache, dtype = job.folder.out("cache"), pick_dtype("auto", device)
        load = feature_loader(encoder, pictures, count, cache, args.cache_gb, device, dtype, WORKERS)
    workers = 0 if isinstance(getattr(load, "__self__", None), FeatureCache) else WORKERS
    return args, Feed(examples, args.batch_size, args.seed, tokenizer.pad_id, load, data.bad, workers)


def load_data(training: Training, job: Job, turns: Turns) -> None:
    """The batches alone, without training on them."""
    _, feed = make_feed(training, job)
    cpu = torch.device("cpu")
    meter = StepMeter(turns, cpu, 2 * WORKERS + 1, min(job.sizes.seconds, 4.0), lambda batch: 0.0)
    for batches in feed.steps_from(0, 1):
        meter.tick(batches)


def asks(job: Job, count: int) -> list[Ask]:
    """Questions about `count` pictures."""
    files = [job.folder.images / f"{i % job.sizes.rows}.jpg" for i in range(count)]
    return [
        Ask((Turn("user", (IMAGE, "\n" + QUESTIONS[i % len(QUESTIONS)])),), (file,), str(i))
        for i, file in enumerate(files)
    ]


def say(answer: Callable[[int], object], job: Job, count: int, turns: Turns) -> None:
    """Measure answer(new_tokens), which gives `count` answers of that length, in pairs of one token and all tokens."""
    new, lm = job.sizes.new_tokens, job.sizes.lm
    flops = count * decoding_flops(lm, job.config.image_tokens + 30, new)
    answer(2)
    turns.wait()
    while True:
        began, first, whole, pairs = time.perf_counter(), 0.0, 0.0, 0
        while not pairs or time.perf_counter() - began < job.sizes.seconds:
            first, whole, pairs = first + took(answer, 1), whole + took(answer, new), pairs + 1
        decoding = max(whole - first, 1e-9)
        turns.wait({
            "value": count * (new - 1) * pairs / decoding, "tokens_per_s": count * new * pairs / whole,
            "flops_per_s": flops * pairs / decoding, "first_token_ms": 1000 * first / pairs,
        })  # fmt: skip


def took(answer: Callable[[int], object], new_tokens: int) -> float:
    began = time.perf_counter()
    answer(new_tokens)
    return time.perf_counter() - began


def generate_glimpse(count: int, job: Job, turns: Turns) -> None:
    """eval_vlm.py's own path from picture files to texts, `count` at once."""
    argv = {"image": job.folder.images / "0.jpg", "weights": job.folder.out(START), "batch_size": count,
            "device": job.device}  # fmt: skip
    looker = eval_vlm.load_looker(eval_vlm.parse([word for k, v in argv.items() for word in (f"--{k}", str(v))]))
    asked = asks(job, count)

    def answer(new_tokens: int) -> None:
        decoding = dataclasses.replace(looker.decoding, max_new_tokens=new_tokens)
        answers = dataclasses.replace(looker, decoding=decoding).say(asked)
        if any(made is None or made.tokens != new_tokens for made in answers):
            raise RuntimeError(f"an answer does not have {new_tokens} tokens; the random model should never end one")

    say(answer, job, count, turns)


def generate_reference(job: Job, turns: Turns) -> None:
    """From a picture file to a text, one at a time, as MiniMind-V's own command answers."""
    device = pick_device(job.device)
    tokenizer, encoder = get_tokenizer("", job.folder.lm), get_encoder(str(job.folder.vision))
    model = Reference(load_vlm(job.folder.out(START), encoder.module), tokenizer.image_id).to(device).eval()
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

    say(answer, job, 1, turns)


def measure_peak(job: Job, turns: Turns) -> None:
    """The machine's fastest matmuls, in bfloat16 and in the dtype that training uses here."""
    device = pick_device(job.device)
    turns.wait()
    while True:
        kinds = {torch.bfloat16, pick_dtype("auto", device)}
        sizes = job.sizes
        peaks = {
            kind: matmul_peak(device, kind, sizes.lm, sizes.matmul_tokens, min(sizes.seconds, 1.0)) for kind in kinds
        }
        turns.wait({"value": peaks[torch.bfloat16], "used": peaks[pick_dtype("auto", device)]})
