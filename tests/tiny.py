"""Tiny models and data sets for the tests of the commands: seconds to train, and written by the test itself."""

from __future__ import annotations

import io
import json
from pathlib import Path

import torch
from PIL import Image

from dataset.preprocess import PreprocessSpec
from model.checkpoints import save_vision, save_vlm
from model.config import LMConfig, VisionConfig, VLMConfig
from model.vision import VisionTransformer
from model.vlm import VLM
from tokenizer.tokenizer import default_folder, load_tokenizer

COLOURS = {"红色": (214, 48, 44), "绿色": (62, 158, 72), "蓝色": (48, 104, 204)}
QUICK = ["--device", "cpu", "--dtype", "float32", "--num_workers", "0", "--warmup_ratio", "0.1"]


def write_encoder(folder: Path, seed: int = 0, width: int = 64, size: int = 32, patch: int = 8) -> Path:
    """A folder with a random encoder of (size / patch)² features."""
    torch.manual_seed(seed)
    config = VisionConfig(
        hidden_size=width, intermediate_size=2 * width, num_hidden_layers=1, num_attention_heads=2, image_size=size,
        patch_size=patch, hidden_act="gelu", class_token=False, pre_norm=False, stem="conv",
    )  # fmt: skip
    save_vision(folder, VisionTransformer(config), PreprocessSpec.square(size).to_settings())
    return folder


def write_language(folder: Path, seed: int = 0, vocab_size: int = 0, with_tokenizer: bool = True) -> Path:
    """A folder with a random language model of the repo's tokenizer."""
    torch.manual_seed(seed)
    tokenizer = load_tokenizer(default_folder())
    config = LMConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, intermediate_size=48,
        vocab_size=vocab_size or tokenizer.vocab_size, max_position_embeddings=1024,
    )  # fmt: skip
    save_vlm(folder, VLM(VLMConfig(config)))
    if with_tokenizer:
        tokenizer.save(folder)
    return folder


def png(colour: tuple[int, int, int] = (200, 60, 40), size: tuple[int, int] = (12, 12)) -> bytes:
    """A picture of one colour."""
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, "PNG")
    return file.getvalue()


def conversation(answer: str, question: str = "<image>\n这是什么颜色？") -> list[dict]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def write_jsonl(folder: Path, count: int = 60, extra: tuple = (), name: str = "data.jsonl") -> Path:
    """MiniMind-V JSONL: `count` pictures of one colour in folder/images, asked what colour they are.

    extra: further lines, as raw text or as rows; they come first.
    """
    (folder / "images").mkdir(parents=True, exist_ok=True)
    lines = [line if isinstance(line, str) else json.dumps(line, ensure_ascii=False) for line in extra]
    for i in range(count):
        name_of, rgb = list(COLOURS.items())[i % 3]
        (folder / "images" / f"{i}.png").write_bytes(png(tuple(min(255, c + i % 7) for c in rgb)))
        row = {"conversations": conversation(f"{name_of}。它是{name_of}的。"), "image": f"{i}.png", "label": name_of}
        lines.append(json.dumps(row, ensure_ascii=False))
    path = folder / name
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def write_parquet(path: Path, count: int = 60, extra: tuple = ()) -> Path:
    """MiniMind-V parquet of the same rows: conversations as JSON text, the pictures' bytes beside it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = list(extra)
    for i in range(count):
        name, rgb = list(COLOURS.items())[i % 3]
        rows.append({"conversations": json.dumps(conversation(f"{name}。它是{name}的。"), ensure_ascii=False),
                     "image_bytes": [png(tuple(min(255, c + i % 7) for c in rgb))], "label": name})  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def files_in(folder: Path) -> set[str]:
    """Every file under a folder, to see that nothing was written."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
