"""Line counts: of the spine, of all that a training step runs through, and of the whole product."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SPINE = (
    "model/config.py", "model/layers.py", "model/cache.py", "model/language.py", "model/vision.py",
    "model/projector.py", "model/vlm.py", "engine/loop.py", "train_lm.py", "train_pretrain.py", "train_sft.py",
)  # fmt: skip
# What one has to read to follow train_pretrain.py from a flag to a weight update; the rest of PATH can be taken on
# trust: drawing, captions, the chat template, file formats, the feature cache, memory plan and log.
READING = (
    "train_pretrain.py", "engine/arguments.py", "engine/build.py", "engine/trainer.py", "engine/dataloader.py",
    "engine/freeze.py", "engine/loop.py", "engine/recorder.py", "engine/optimizer.py", "dataset/splits.py",
    "dataset/record.py", "dataset/encoding.py", "dataset/batching.py", "model/vlm.py", "model/projector.py",
    "model/vision.py", "model/language.py", "model/layers.py", "model/config.py",
)  # fmt: skip
# The modules that run between `python train_pretrain.py` and the first change of a weight: picture book, shipped
# encoder, language model already trained, plain model (--fast off). tests/test_architecture.py traces it.
# A file counts in full even if only one short function of it is called.
PATH = (
    "train_pretrain.py",
    "engine/command.py", "engine/arguments.py", "engine/trainer.py", "engine/build.py", "engine/device.py",
    "engine/distributed.py", "engine/cells.py", "engine/dataloader.py", "engine/freeze.py", "engine/memory.py",
    "engine/checkpoint.py", "engine/log.py", "engine/optimizer.py", "engine/recorder.py", "engine/loop.py",
    "model/config.py", "model/layers.py", "model/language.py", "model/vision.py", "model/projector.py", "model/vlm.py",
    "model/lora.py", "model/init.py",
    "model/checkpoints/files.py", "model/checkpoints/load.py", "model/checkpoints/own.py",
    "model/checkpoints/vision_families.py",
    "tokenizer/tokenizer.py", "tokenizer/template.py", "tokenizer/chat.py",
    "dataset/splits.py", "dataset/mixture.py", "dataset/record.py", "dataset/bad_rows.py", "dataset/encoding.py",
    "dataset/batching.py", "dataset/pictures.py", "dataset/preprocess.py", "dataset/features.py",
    "dataset/picturebook/book.py", "dataset/picturebook/world.py", "dataset/picturebook/facts.py",
    "dataset/picturebook/captions_zh.py", "dataset/picturebook/checklists.py", "dataset/picturebook/questions.py",
    "dataset/picturebook/telling.py", "dataset/picturebook/words.py",
    "dataset/picturebook/drawing/picture.py", "dataset/picturebook/drawing/pen.py",
    "dataset/picturebook/drawing/backdrop.py", "dataset/picturebook/drawing/sky.py",
    "dataset/picturebook/drawing/places.py", "dataset/picturebook/drawing/places_built.py",
    "dataset/picturebook/drawing/places_nature.py", "dataset/picturebook/drawing/figure.py",
    "dataset/picturebook/drawing/people.py", "dataset/picturebook/drawing/animals.py",
    "dataset/picturebook/drawing/animals_small.py", "dataset/picturebook/drawing/things.py",
    "dataset/picturebook/drawing/vehicles.py",
)  # fmt: skip


def count(name: str) -> int:
    """The lines of a file of the repo, including blank lines and docstrings."""
    return len((ROOT / name).read_text("utf-8").splitlines())


def total(names: Iterable[str]) -> int:
    return sum(map(count, names))


def product() -> list[str]:
    """Every .py and .c of the repo outside tests/, by name: the scripts, .ci and the packages."""
    packages = [file.parent for file in ROOT.glob("*/__init__.py")]
    found = [*ROOT.glob("*.py"), *(ROOT / ".ci").rglob("*.py")]
    found += [path for folder in packages for kind in ("*.py", "*.c") for path in folder.rglob(kind)]
    return sorted(path.relative_to(ROOT).as_posix() for path in found)


def fast() -> list[str]:
    """What --fast on, the default, runs instead of the plain forward passes."""
    return [name for name in product() if name.startswith("model/fast/")]


def by_folder(names: Iterable[str]) -> dict[str, list[str]]:
    """The files of each folder, in their own order; "" is the root."""
    folders: dict[str, list[str]] = {}
    for name in names:
        folders.setdefault(name.rpartition("/")[0], []).append(name)
    return folders


def report() -> str:
    """The four figures, each with its parts."""
    lines = [f"{total(SPINE):>7,}  the spine: {len(SPINE)} files"]
    lines += [f"{count(name):>9,}  {name}" for name in SPINE]
    title = f"to follow train_pretrain.py from a flag to a weight update: {len(READING)} files"
    lines.append(f"{total(READING):>7,}  {title}")
    lines += [f"{count(name):>9,}  {name}" for name in READING]
    lines.append(f"{total(PATH):>7,}  all that runs in between: {len(PATH)} files")
    for folder, names in by_folder(PATH).items():
        lines.append(f"{total(names):>9,}  {folder + '/' if folder else 'the script'}")
        lines += [f"{count(name):>11,}  {name}" for name in names]
    lines.append(f"{total(fast()):>9,}  more with model/fast/, which computes the same; --fast off goes without it")
    lines.append(f"{total(product()):>7,}  all product code (.py and .c outside tests/): {len(product())} files")
    for top in dict.fromkeys(name.rpartition("/")[0].partition("/")[0] for name in product()):
        inside = [name for name in product() if name.rpartition("/")[0].partition("/")[0] == top]
        lines.append(f"{total(inside):>9,}  {top + '/' if top else 'the scripts'}")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> None:
    """python -m tools.lines    the lines of the spine, of what train_pretrain.py runs through, of all product code"""
    argparse.ArgumentParser(
        description=main.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    ).parse_args(argv)
    print(report())


if __name__ == "__main__":
    main()
