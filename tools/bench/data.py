"""The benchmark's inputs, the same each time: sizes, photographs, conversations and random weights in a folder."""

from __future__ import annotations

import json
import math
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from dataset.picturebook.book import PictureBook
from model.checkpoints import clip_preprocess, save_vision, save_vlm
from model.config import LMConfig, VisionConfig, VLMConfig
from model.vision import VisionTransformer
from model.vlm import VLM
from tokenizer.tokenizer import Tokenizer, default_folder, load_tokenizer

CLIP_B16 = VisionConfig(768, 3072, 12, 12, 224, 16)
QUESTIONS = ("描述一下这张图片。", "图片里有什么？", "请详细描述这张图片的内容，包括人物、动物和背景。", "这是在哪里？")
SCENES = 4  # distinct photographs, of which all pictures are shifted copies
GRAIN = 9.0  # standard deviation per pixel, out of 255
CAPTION_SPREAD, ANSWER_SPREAD = 0.35, 0.45  # standard deviation of the log length


@dataclass(frozen=True)
class Sizes:
    """The sizes of the workloads; the defaults are MiniMind-V's of April 2025."""

    lm: LMConfig = LMConfig()
    vision: VisionConfig = CLIP_B16
    picture: tuple[int, int] = (640, 480)  # pixels of a photograph, as in COCO
    rows: int = 128  # conversations of each kind, each with a photograph
    caption_tokens: int = 30
    answer_tokens: int = 160
    pretrain_batch: int = 16
    sft_batch: int = 4
    pretrain_pad: int = 640  # what the reference pads to; nothing is longer on either side
    sft_pad: int = 1536
    new_tokens: int = 128
    batched: int = 16  # answers generated at once
    matmul_tokens: int = 4096  # rows of the matmuls that measure the machine's peak
    warmup: int = 2  # steps that are not measured
    seconds: float = 12.0  # a measurement takes at least this long, in whole steps


QUICK = Sizes(rows=16, pretrain_batch=4, sft_batch=2, new_tokens=48, warmup=1, seconds=2.5)
QUICK_CUTS = (
    "--quick: 16 conversations, batches of 4 and 2 instead of 16 and 4, answers of 48 tokens instead of 128, and "
    "measurements of 2.5 s instead of 12; the ratios are rougher, and those of memory too small"
)


@dataclass(frozen=True)
class Folder:
    """The paths that the workloads read and write."""

    path: Path

    def data(self, what: str) -> Path:
        """The conversations of 'pretrain' or 'sft', as MiniMind-V's JSONL."""
        return self.path / f"{what}.jsonl"

    @property
    def images(self) -> Path:
        return self.path / "images"

    @property
    def vision(self) -> Path:
        return self.path / "vision"

    @property
    def lm(self) -> Path:
        return self.path / "lm"

    def out(self, name: str) -> Path:
        """A run's folder. All have the same parent, which holds the feature cache."""
        return self.path / "out" / name


def make_folder(path: Path, sizes: Sizes, seed: int) -> Folder:
    """Photographs, conversations, a random encoder and a random language model."""
    folder = Folder(path)
    tokenizer = load_tokenizer(default_folder())
    rng = np.random.default_rng(seed)
    folder.images.mkdir(parents=True)
    scenes = [photograph(sizes.picture, rng) for _ in range(SCENES)]
    for number in range(sizes.rows):
        shifted = np.roll(scenes[number % SCENES], 7 * number, axis=(0, 1))
        Image.fromarray(shifted).save(folder.images / f"{number}.jpg", quality=85)
    lengths = {"pretrain": (sizes.caption_tokens, CAPTION_SPREAD), "sft": (sizes.answer_tokens, ANSWER_SPREAD)}
    for what, (mean, spread) in lengths.items():
        answers = texts(tokenizer, sizes.rows, mean, spread, rng)
        rows = [conversation(f"{number}.jpg", answer, number) for number, answer in enumerate(answers)]
        folder.data(what).write_text("\n".join(rows) + "\n", encoding="utf-8")
    torch.manual_seed(seed)
    save_vision(folder.vision, VisionTransformer(sizes.vision), clip_preprocess(sizes.vision.image_size))
    save_vlm(folder.lm, endless(VLM(VLMConfig(sizes.lm)), tokenizer))
    tokenizer.save(folder.lm)
    return folder


def endless(vlm: VLM, tokenizer: Tokenizer) -> VLM:
    """The same model, made never to end an answer: the end token's logit is 0, and some other one is higher."""
    with torch.no_grad():
        vlm.llm.model.embed_tokens.weight[tokenizer.end_id] = 0
    return vlm


def photograph(size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """(height, width, 3) uint8: noise with roughly a photograph's spectrum, fainter at finer scales, plus grain."""
    width, height = size
    picture = rng.normal(128, GRAIN, (height, width, 3))
    for octave in range(int(math.log2(min(size)))):
        cells = rng.normal(0, 60 / 1.6**octave, (3, 2**octave + 1, 2 ** (octave + 1) + 1)).astype(np.float32)
        for channel, values in enumerate(cells):
            picture[:, :, channel] += np.asarray(Image.fromarray(values).resize(size, Image.Resampling.BICUBIC))
    return picture.clip(0, 255).astype(np.uint8)


def texts(tokenizer: Tokenizer, count: int, mean: float, spread: float, rng: np.random.Generator) -> list[str]:
    """Descriptions of about `mean` tokens, with log-normal lengths, made of whole clauses from the picture book."""
    book = PictureBook("train", 64, 64, {"long": 1.0})
    clauses = [part + "，" for record in book for part in record.turns[-1].text.replace("。", "，").split("，") if part]
    costs = [len(tokenizer.encode(clause)) for clause in clauses]
    made = []
    wanted = rng.lognormal(math.log(mean) - spread**2 / 2, spread, count).clip(4, 4 * mean)
    for length in wanted:
        text, tokens = "", 0.0
        while tokens < length:
            pick = int(rng.integers(len(clauses)))
            tokens += costs[pick]
            if text and tokens - costs[pick] / 2 > length:
                break
            text += clauses[pick]
        made.append(text[:-1] + "。")
    return made


def conversation(image: str, answer: str, number: int) -> str:
    """A line of JSON; the question is one of four, chosen by the number."""
    question = random.Random(number).choice(QUESTIONS)
    turns = [{"role": "user", "content": f"<image>\n{question}"}, {"role": "assistant", "content": answer}]
    return json.dumps({"conversations": turns, "image": image}, ensure_ascii=False)
