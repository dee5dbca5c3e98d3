"""Line counts: of the spine, of all that a training step runs through, and of the whole product."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def modules(folders: dict[str, str]) -> tuple[str, ...]:
    """The files of the modules named, by folder; "" is the root."""
    return tuple(f"{folder}{name}.py" for folder, names in folders.items() for name in names.split())


SPINE = modules({
    "model/": "config layers cache language vision projector vlm",
    "engine/": "loop",
    "": "train_lm train_pretrain train_sft",
})  # fmt: skip
# What one has to read to follow train_pretrain.py from a flag to a weight update; the rest of PATH can be taken on
# trust: drawing, captions, the chat template, file formats, the feature cache, memory plan and log.
READING = modules({
    "": "train_pretrain",
    "engine/": "arguments parts build trainer dataloader freeze loop recorder optimizer",
    "dataset/": "splits record encoding batching",
    "model/": "vlm projector vision language layers config",
})  # fmt: skip
# The modules that run between `python train_pretrain.py` and the first change of a weight: picture book, shipped
# encoder, language model already trained, plain model (--fast off). tests/test_architecture.py traces it.
# A file counts in full even if only one short function of it is called.
PATH = modules({
    "": "train_pretrain",
    "engine/": "board command arguments console peer_flags recipe plugin parts trainer build device distributed cells "
               "dataloader freeze memory checkpoint signals log optimizer recorder loop",
    "model/": "config checks registry layers language vision projector vlm lora init",
    "model/checkpoints/": "files load own strict vision_families exports llava minimind",
    "tokenizer/": "tokenizer template chat",
    "dataset/": "answers_seen console splits mixture record atomic bad_rows encoding batching pictures preprocess "
                "features",
    "dataset/picturebook/": "book world facts captions captions_zh checklists questions telling words",
    "dataset/picturebook/drawing/": "picture pen backdrop places places_nature figure people animals animals_small "
                                    "things vehicles",
})  # fmt: skip


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


def section(title: str, names: Iterable[str], indent: int = 7) -> list[str]:
    """A line for all of them together, then one for each."""
    names = list(names)
    return [f"{total(names):>{indent},}  {title}", *(f"{count(name):>{indent + 2},}  {name}" for name in names)]


def report() -> str:
    """The four figures, each with its parts."""
    found = product()
    lines = section(f"the spine: {len(SPINE)} files", SPINE)
    lines += section(f"to follow train_pretrain.py from a flag to a weight update: {len(READING)} files", READING)
    lines.append(f"{total(PATH):>7,}  all that runs in between: {len(PATH)} files")
    for folder, names in groupby(PATH, lambda name: name.rpartition("/")[0]):
        lines += section(f"{folder}/" if folder else "the script", names, 9)
    lines.append(f"{total(fast()):>9,}  more with model/fast/, which computes the same; --fast off goes without it")
    lines.append(f"{total(found):>7,}  all product code (.py and .c outside tests/): {len(found)} files")
    tops = {name: name.partition("/")[0] + "/" if "/" in name else "the scripts" for name in found}
    for top in dict.fromkeys(tops.values()):
        lines.append(f"{total(name for name in found if tops[name] == top):>9,}  {top}")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> None:
    """python -m tools.lines    the lines of the spine, of what train_pretrain.py runs through, of all product code"""
    argparse.ArgumentParser(
        description=main.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    ).parse_args(argv)
    print(report())


if __name__ == "__main__":
    main()
