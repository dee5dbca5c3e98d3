"""Small parts that the tests of the training engine are put together from: folders, data, commands, batches."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import signal
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from dataset.batching import collate
from dataset.preprocess import PreprocessSpec
from dataset.record import IGNORE, Batch, Example
from engine.loop import Plan
from model.config import LMConfig, ProjectorConfig, VisionConfig, VLMConfig
from model.vision import VisionTransformer
from model.vlm import VLM
from model.weights import save_vision, save_vlm
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


def small_plan(**changes) -> Plan:
    values = {
        "steps": 6, "learning_rate": 1e-2, "min_lr_ratio": 0.1, "warmup": 2, "weight_decay": 0.05, "grad_clip": 1.0,
        "save_interval": 2, "eval_interval": 3, "log_interval": 1, "dtype": torch.float32,
    }  # fmt: skip
    return Plan(**{**values, **changes})


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


def weights_hash(run: Path) -> str:
    return hashlib.sha256((run / "model.safetensors").read_bytes()).hexdigest()


def run_main(script: str, argv: list[str], kill: tuple[str, int, str] | None = None) -> None:
    """script's main(argv) on one thread. kill (what, nth, when): this process kills itself with SIGKILL there.

    what: a file, when it is given its name for the nth time (when: 'half' written, 'before' or 'after'), or
    'loss', the nth time that a loss is computed. Meant for a process of its own.
    """
    torch.set_num_threads(1)
    if kill:
        _arm(*kill)
    __import__(script).main(argv)


def _arm(what: str, nth: int, when: str) -> None:
    count = 0

    def due(name: str) -> bool:
        nonlocal count
        count += name == what
        return name == what and count == nth

    replace, loss = os.replace, VLM.loss

    @functools.wraps(replace)
    def killing_replace(source, target, **options):
        here = due(Path(target).name)
        if here and when == "half":
            os.truncate(source, os.path.getsize(source) // 2)
        if not (here and when in ("half", "before")):
            replace(source, target, **options)
        if here:
            os.kill(os.getpid(), signal.SIGKILL)

    def killing_loss(self, batch):
        if due("loss"):
            os.kill(os.getpid(), signal.SIGKILL)
        return loss(self, batch)

    os.replace, VLM.loss = killing_replace, killing_loss
