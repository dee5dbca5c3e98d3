"""Small parts that the tests of the training engine are put together from: folders, data, commands, batches."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from PIL import Image

import dataset.splits
from dataset.batching import collate
from dataset.preprocess import PreprocessSpec
from dataset.record import IGNORE, Batch, Example
from engine.arguments import TrainArguments
from engine.log import read_log
from engine.loop import Steps
from model.checkpoints import save_vision, save_vlm
from model.config import LMConfig, ProjectorConfig, VisionConfig, VLMConfig
from model.vision import VisionTransformer
from model.vlm import VLM
from tokenizer.tokenizer import default_folder, load_tokenizer

VISION = VisionConfig(64, 128, 1, 1, 32, 8, hidden_act="gelu", class_token=False, pre_norm=False, stem="conv")
WORDS = ("红色", "绿色", "蓝色", "黄色")
COLOURS = ("red", "green", "blue", "yellow")


def small_lm(vocab_size: int = 60) -> LMConfig:
    return LMConfig(64, 2, 2, 1, 96, vocab_size, max_position_embeddings=512)


def small_vlm(vocab_size: int = 60, kind: str = "ldp", vision: bool = False) -> VLM:
    """A random VLM that is the same each time: 4 image tokens of 16 patches."""
    torch.manual_seed(0)
    config = VLMConfig(small_lm(vocab_size), VISION, ProjectorConfig(kind, 64, 64))
    return VLM(config, VisionTransformer(VISION) if vision else None)


def small_batches(count: int, rows: int = 2, seed: int = 3, answer: tuple[int, int] = (1, 9)) -> list[Batch]:
    """Batches for small_vlm() of examples with one picture each and answers of different lengths."""
    rng = np.random.default_rng(seed)

    def load(pictures) -> dict[str, torch.Tensor]:
        return {"features": torch.stack([torch.randn(16, 64, generator=seeded(p[0])) for p in pictures])}

    batches = []
    for number in range(count):
        examples = []
        for row in range(rows):
            prompt, said = int(rng.integers(1, 6)), int(rng.integers(*answer))
            ids = rng.integers(4, 60, 4 + prompt + said).astype(np.int32)
            labels = np.where(np.arange(len(ids)) < 4 + prompt, IGNORE, ids).astype(np.int32)
            name = number * rows + row
            examples.append(Example(ids, labels, np.arange(len(ids)) < 4, (bytes([name]),), str(name)))
        batches.append(collate(examples, 0, load))
    return batches


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def prompt_batch(ids, attention_mask, image_mask, pixels=None, features=None, words=None) -> SimpleNamespace:
    """What generate() reads of a batch."""
    return SimpleNamespace(ids=ids, attention_mask=attention_mask, image_mask=image_mask, pixels=pixels,
                           features=features, words=words)  # fmt: skip


def small_plan(warmup: int = 2, rates: dict[str, float] | None = None, **changes) -> TrainArguments:
    """rates: --learning_rates."""
    values = {
        "steps": 6, "learning_rate": 1e-2, "save_interval": 2, "eval_interval": 3, "log_interval": 1,
        "dtype": "float32", "optimizer": "adamw",
    } | changes  # fmt: skip
    text = ",".join(f"{prefix}={rate}" for prefix, rate in (rates or {}).items())
    return TrainArguments(**values, warmup_ratio=warmup / values["steps"], learning_rates=text)


def feed_of(lengths: list[int], supervised: int = 5) -> SimpleNamespace:
    """What memory_plan asks of a feed whose examples all stand in one batch."""
    examples = SimpleNamespace(lengths=np.array(lengths), supervised=np.full(len(lengths), supervised))
    return SimpleNamespace(examples=examples, plan=lambda epoch: [np.arange(len(lengths))], rows=1)


def make_parts(folder: Path) -> None:
    """In folder: an encoder (vision), a language model (lm), data.jsonl of 24 rows, their pictures (pictures)."""
    torch.manual_seed(1)
    tokenizer = load_tokenizer(default_folder())
    save_vision(folder / "vision", VisionTransformer(VISION), PreprocessSpec.square(32).to_settings())
    save_vlm(folder / "lm", VLM(VLMConfig(small_lm(tokenizer.vocab_size))))
    tokenizer.save(folder / "lm")
    (folder / "pictures").mkdir()
    rng = np.random.default_rng(0)
    rows = []
    for i in range(24):
        name, colour = f"{i}.png", i % len(WORDS)
        picture = Image.new("RGB", (40, 36), COLOURS[colour])
        picture.paste(tuple(int(x) for x in rng.integers(0, 256, 3)), (i, 4, i + 12, 20))
        picture.save(folder / "pictures" / name)
        answer = f"一个{WORDS[colour]}的东西" + "，很大" * (i % 5) + "。"
        turns = [{"role": "user", "content": "<image>\n这是什么？"}, {"role": "assistant", "content": answer}]
        rows.append(json.dumps({"image": name, "conversations": turns}, ensure_ascii=False))
    (folder / "data.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")


def broken_off(batches: list[list[Batch]], stop: int | None) -> Steps:
    """steps_from() of these batches; KeyboardInterrupt in place of batch number `stop`."""

    def steps_from(start: int):
        for number, batch in enumerate(batches[start:], start):
            if number == stop:
                raise KeyboardInterrupt
            yield batch

    return steps_from


def flags(**values) -> list[str]:
    """{'num_workers': 2} as ['--num_workers', '2']; True is a bare flag."""
    words = []
    for name, value in values.items():
        words += [f"--{name.rstrip('_')}"] + ([] if value is True else [str(value)])
    return words


def pretrain_flags(parts: Path, out: Path, **changes) -> list[str]:
    """train_pretrain.py on the JSONL of make_parts: 5 steps, saved after each second."""
    values = {
        "data": parts / "data.jsonl", "images": parts / "pictures", "vision": parts / "vision", "llm": parts / "lm",
        "out": out, "steps": 5, "batch_size": 3, "save_interval": 2, "eval_interval": 3, "log_interval": 1,
        "device": "cpu", "dtype": "float32",
    }  # fmt: skip
    return flags(**{**values, **changes})


def sft_flags(start: Path, out: Path, **changes) -> list[str]:
    """train_sft.py on a few scenes of the picture book: 4 steps, saved after each second."""
    values = {
        "from": start, "out": out, "stage": 1, "scenes": 6, "samples": 16, "steps": 4, "batch_size": 3,
        "save_interval": 2, "eval_interval": 100, "log_interval": 1, "device": "cpu", "dtype": "float32",
    }  # fmt: skip
    return flags(**{**values, **changes})


@dataclass(frozen=True)
class Kill:
    """Where a process kills itself with SIGKILL.

    what: the end of a file's name; the nth time that such a file gets its name, with half of it written, 'before' or
    'after'. Or 'loss': the nth time that a loss is computed.
    """

    what: str
    nth: int = 1
    when: str = "before"


def run_main(script: str, argv: list[str], output: Path, kill: Kill | None = None) -> None:
    """script's main(argv) on one thread, in a process of its own; what it prints goes to a file."""
    torch.set_num_threads(1)
    dataset.splits.VALIDATION_ROWS = 8  # of the picture book, to be quick
    with (
        open(output, "w", buffering=1, encoding="utf-8") as file,
        contextlib.redirect_stdout(file),
        contextlib.redirect_stderr(file),
    ):
        if kill:
            _arm(kill)
        __import__(script).main(argv)


def forkserver() -> multiprocessing.context.BaseContext:
    """Starts processes by forking one that has run nothing yet, so it is quick and sound."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch._dynamo", "matplotlib.figure", "train_sft", "train_vision", "engine_parts"])
    return context


def in_process(
    script: str, argv: list[str], output: Path, kill: Kill | None = None, seconds: float | None = None
) -> int:
    """The exit code of run_main in a new process: -9 when it was killed, as it is after so many seconds."""
    process = forkserver().Process(target=run_main, args=(script, argv, output, kill))
    process.start()
    process.join(300 if seconds is None else seconds)
    if process.exitcode is None:
        process.kill()
        process.join()
        if seconds is None:
            raise TimeoutError(f"{script} {argv}: still running after 300 s")
    return process.exitcode


def finished(script: str, argv: list[str], run: Path) -> Path:
    """The run that a command makes in a process of its own, which must end well."""
    output = run.with_name(run.name + ".txt")
    output.parent.mkdir(parents=True, exist_ok=True)
    assert in_process(script, argv, output) == 0, output.read_text()
    return run


def told(run: Path) -> list[dict]:
    """The log without what depends on the clock."""
    entries = read_log(run / "log.jsonl")
    return [{key: entry[key] for key in entry if key not in ("seconds", "tokens_per_s")} for entry in entries]


def _arm(kill: Kill) -> None:
    from model.fast.vlm import FastVLM  # which commands run, unless told not to

    count = 0

    def due(name: str) -> bool:
        nonlocal count
        count += name.endswith(kill.what)
        return name.endswith(kill.what) and count == kill.nth

    replace, loss = os.replace, FastVLM.loss

    def killing_replace(source, target, **options):
        here = due(Path(target).name)
        if here and kill.when == "half":
            os.truncate(source, os.path.getsize(source) // 2)
        if not (here and kill.when in ("half", "before")):
            replace(source, target, **options)
        if here:
            os.kill(os.getpid(), signal.SIGKILL)

    def killing_loss(self, batch):
        if due("loss"):
            os.kill(os.getpid(), signal.SIGKILL)
        return loss(self, batch)

    os.replace, FastVLM.loss = killing_replace, killing_loss
