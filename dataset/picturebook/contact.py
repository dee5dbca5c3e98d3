"""A contact sheet of many scenes on one page: `python -m dataset.picturebook.contact --n 100 --out sheet.png`."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from PIL import Image

from dataset.picturebook.drawing.picture import draw
from dataset.picturebook.world import SPLITS, make_scene


def sheet(pictures: list[Image.Image], columns: int, gap: int = 4) -> Image.Image:
    """Pictures of one size, row by row on a white page. Raises ValueError if there are none."""
    if not pictures:
        raise ValueError("found no pictures for the sheet; expected at least one")
    size = pictures[0].width + gap
    page = Image.new("RGB", (columns * size + gap, math.ceil(len(pictures) / columns) * size + gap), "white")
    for i, picture in enumerate(pictures):
        page.paste(picture, (gap + i % columns * size, gap + i // columns * size))
    return page


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=100, help="number of scenes")
    parser.add_argument("--out", type=Path, required=True, help="output file")
    parser.add_argument("--split", choices=SPLITS, default="train")
    parser.add_argument("--first", type=int, default=0, help="index of the first scene")
    parser.add_argument("--size", type=int, default=128, help="side of a picture in pixels")
    parser.add_argument("--columns", type=int, default=10)
    args = parser.parse_args(argv)
    scenes = [make_scene(args.split, i) for i in range(args.first, args.first + args.n)]
    sheet([draw(scene, args.size) for scene in scenes], args.columns).save(args.out)


if __name__ == "__main__":
    main()
