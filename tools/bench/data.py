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

QUESTIONS = ("描述一下这张图片。", "图片里有什么？", "请详细描述这张图片的内容，包括人物、动物和背景。", "这是在哪里？")
SCENES = 4  # distinct photographs, of which all pictures are shifted copies
GRAIN = 9.0  # standard deviation per pixel, out of 255
CAPTION_SPREAD, ANSWER_SPREAD = 0.35, 0.45  # standard deviation of the log length


@dataclass(frozen=True)
class Sizes:
    """The sizes of the workloads; the defaults are MiniMind-V's of April 2025."""

    lm: LMConfig = LMConfig()
    vision: VisionConfig = VisionConfig(768, 3072, 12, 12, 224, 16)  # CLIP ViT-B/16
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


def make_folder(folder: Path, sizes: Sizes, seed: int) -> None:
    """Writes images/, pretrain.jsonl and sft.jsonl (MiniMind-V's format), and random models in vision/ and lm/."""
    tokenizer = load_tokenizer(default_folder())
    rng = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True)
    scenes = [photograph(sizes.picture, rng) for _ in range(SCENES)]
    for number in range(sizes.rows):
        shifted = np.roll(scenes[number % SCENES], 7 * number, axis=(0, 1))
        Image.fromarray(shifted).save(folder / "images" / f"{number}.jpg", quality=85)
    lengths = {"pretrain": (sizes.caption_tokens, CAPTION_SPREAD), "sft": (sizes.answer_tokens, ANSWER_SPREAD)}
    for what, (mean, spread) in lengths.items():
        answers = texts(tokenizer, sizes.rows, mean, spread, rng)
        with open(folder / f"{what}.jsonl", "w", encoding="utf-8") as file:
            for number, answer in enumerate(answers):
                question = "<image>\n" + random.Random(number).choice(QUESTIONS)
                turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
                row = {"conversations": turns, "image": f"{number}.jpg"}
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
    torch.manual_seed(seed)
    save_vision(folder / "vision", VisionTransformer(sizes.vision), clip_preprocess(sizes.vision.image_size))
    vlm = VLM(VLMConfig(sizes.lm))
    with torch.no_grad():  # it never ends an answer: the end token's logit is 0, and some other one is higher
        vlm.llm.model.embed_tokens.weight[tokenizer.end_id] = 0
    save_vlm(folder / "lm", vlm)
    tokenizer.save(folder / "lm")


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
    for length in rng.lognormal(math.log(mean) - spread**2 / 2, spread, count).clip(4, 4 * mean):
        text, tokens = "", 0.0
        while tokens < length:
            pick = int(rng.integers(len(clauses)))
            if text and tokens + costs[pick] / 2 > length:
                break
            text, tokens = text + clauses[pick], tokens + costs[pick]
        made.append(text[:-1] + "。")
    return made
