"""A contact sheet of many scenes on one page: `python -m dataset.picturebook.contact --n 100 --out sheet.png`."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from PIL import Image

from dataset.picturebook.drawing.picture import draw
from dataset.picturebook.world import SPLITS, make_scene

GAP = 4  # pixels between two pictures


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=100, help="number of scenes")
    parser.add_argument("--out", type=Path, required=True, help="output file")
    parser.add_argument("--split", choices=SPLITS, default="train")
    parser.add_argument("--first", type=int, default=0, help="index of the first scene")
    parser.add_argument("--size", type=int, default=128, help="side of a picture in pixels")
    parser.add_argument("--columns", type=int, default=10)
    args = parser.parse_args(argv)
    if args.n < 1:
        parser.error(f"--n is {args.n}; expected 1 or more")
    step = args.size + GAP
    page = Image.new("RGB", (args.columns * step + GAP, math.ceil(args.n / args.columns) * step + GAP), "white")
    for i in range(args.n):
        picture = draw(make_scene(args.split, args.first + i), args.size)
        page.paste(picture, (GAP + i % args.columns * step, GAP + i // args.columns * step))
    page.save(args.out)


if __name__ == "__main__":
    main()
