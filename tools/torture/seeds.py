"""Small valid files of every kind that Glimpse reads, from which hostile ones are made."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import torch
from PIL import Image

from dataset.preprocess import PreprocessSpec
from model.checkpoints import save_vision, save_vlm
from model.checkpoints.files import save_pickle
from model.config import LMConfig, VisionConfig, VLMConfig
from model.vision import VisionTransformer
from model.vlm import VLM
from tokenizer.tokenizer import default_folder, load_tokenizer

COLOURS = {"红色": (214, 48, 44), "green": (62, 158, 72), "蓝色": (48, 104, 204)}
ROWS = 8


def picture(kind: str = "PNG", number: int = 0, side: int = 24, **options) -> bytes:
    """The bytes of a small picture with an edge in it."""
    image = Image.new("RGB", (side, side), list(COLOURS.values())[number % 3])
    image.paste((number * 29 % 256, 200, 90), (2, 3, side // 2, side - 4))
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def turns(number: int) -> list[dict]:
    colour = list(COLOURS)[number % 3]
    return [
        {"role": "user", "content": "<image>\n这是什么颜色？"},
        {"role": "assistant", "content": f"{colour}。It is {colour}."},
    ]


def write_data(folder: Path) -> dict[str, Path]:
    """A file of every format, and the pictures that they name: kind -> the file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    (folder / "images").mkdir(parents=True)
    for i in range(ROWS):
        (folder / "images" / f"{i}.png").write_bytes(picture(number=i))
    lines = [{"image": f"{i}.png", "conversations": turns(i), "label": "x", "score": i / 3} for i in range(ROWS)]
    texts = {
        "jsonl": "\n".join(json.dumps(line, ensure_ascii=i % 2 == 0) for i, line in enumerate(lines)) + "\n",
        "llava.json": json.dumps([
            {"id": str(i), "image": f"{i}.png", "conversations": [
                {"from": "human", "value": "<image>\nWhat colour?"}, {"from": "gpt", "value": "Green, I think."}]}
            for i in range(ROWS)]),
        "alpaca.json": json.dumps([{"instruction": "Say it.", "input": str(i), "output": "It."} for i in range(ROWS)]),
        "factory.json": json.dumps([{"messages": turns(i), "images": [f"{i}.png"]} for i in range(ROWS)]),
        "dataset_info.json": json.dumps({"mine": {
            "file_name": "factory.json", "formatting": "sharegpt",
            "columns": {"messages": "messages", "images": "images"},
            "tags": {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"}}}),
        "captions.token": "".join(f"{i}.png#{k}\t一个东西。{k}\n" for i in range(ROWS) for k in range(3)),
        "captions.csv": "image,caption,split\n" + "".join(f'{i}.png,"A thing, {i}.",train\n' for i in range(ROWS)),
        "coco.json": json.dumps({
            "images": [{"id": i, "file_name": f"{i}.png"} for i in range(ROWS)],
            "annotations": [{"image_id": i % ROWS, "caption": f"Thing {i}."} for i in range(2 * ROWS)]}),
        "karpathy.json": json.dumps({"images": [
            {"filename": f"{i}.png", "split": "train", "sentences": [{"raw": "A thing."}, {"raw": "It."}]}
            for i in range(ROWS)]}),
    }  # fmt: skip
    files = {}
    for kind, text in texts.items():
        files[kind] = folder / (f"data.{kind}" if kind == "jsonl" else kind)
        files[kind].write_text(text, encoding="utf-8")
    files["parquet"] = folder / "data.parquet"
    rows = [
        {"conversations": json.dumps(turns(i)), "image_bytes": [picture(number=i)], "label": "x"} for i in range(ROWS)
    ]
    pq.write_table(pa.Table.from_pylist(rows), files["parquet"])
    files["tar"] = folder / "data.tar"
    with tarfile.open(files["tar"], "w") as tar:
        for i in range(ROWS):
            for name, content in ((f"{i:03}.png", picture(number=i)), (f"{i:03}.txt", "一个东西。".encode())):
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return files


def pictures() -> dict[str, bytes]:
    """A picture of every format that a data set may hold."""
    made = {kind.lower(): picture(kind) for kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP")}
    return made | {"progressive.jpeg": picture("JPEG", progressive=True), "palette.png": _palette()}


def _palette() -> bytes:
    file = io.BytesIO()
    Image.new("P", (20, 20)).save(file, "PNG", transparency=0)
    return file.getvalue()


def write_models(folder: Path) -> None:
    """A tiny language model (lm), its state dict as a .pth (pickled) and an encoder (vision)."""
    torch.manual_seed(0)
    tokenizer = load_tokenizer(default_folder())
    lm = LMConfig(32, 1, 2, 1, 48, tokenizer.vocab_size, max_position_embeddings=512)
    model = VLM(VLMConfig(lm))
    save_vlm(folder / "lm", model)
    tokenizer.save(folder / "lm")
    vision = VisionConfig(64, 128, 1, 2, 32, 8, hidden_act="gelu", class_token=False, pre_norm=False, stem="conv")
    save_vision(folder / "vision", VisionTransformer(vision), PreprocessSpec.square(32).to_settings())
    (folder / "pickled").mkdir()
    save_pickle(
        folder / "pickled" / "lm_32.pth", {f"{k.removeprefix('llm.')}": v for k, v in model.state_dict().items()}
    )
    tokenizer.save(folder / "pickled")
