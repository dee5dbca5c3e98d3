"""Inspect a data file before training: format, counts, token lengths, bad rows, and ten samples to look at."""

from __future__ import annotations

import json
import random
import sys
from array import array
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dataset.bad_rows import BadRow, BadRows, DataError
from dataset.console import FlagParser
from dataset.curation.check_page import write_page
from dataset.encoding import encode_record
from dataset.formats.layout import Layout, layout_of
from dataset.formats.rows import recognise, stream_rows
from dataset.formats.sources import folder_of, record_from_row
from dataset.mixture import read_folders, read_names
from dataset.pictures import open_picture
from dataset.record import Example, Record
from tokenizer.tokenizer import Tokenizer, TokenizerError, default_folder, load_tokenizer

ANY_LENGTH = 1 << 30


@dataclass
class Found:
    """Statistics of one file."""

    format: str
    bad: BadRows
    styles: Counter = field(default_factory=Counter)  # of good rows
    pictures: array = field(default_factory=partial(array, "q"))  # per good row
    tokens: array = field(default_factory=partial(array, "q"))  # per good row, image tokens not counted
    supervised: array = field(default_factory=partial(array, "q"))  # tokens per good row
    answers: int = 0
    opened: int = 0  # number of pictures
    sizes: array = field(default_factory=partial(array, "q"))  # width, height of each opened picture
    samples: list[tuple[Record, Example]] = field(default_factory=list)


def examine(
    path: Path, tokenizer: Tokenizer, images: Path | None = None, opened: int = 1000, samples: int = 10, seed: int = 42,
    subset: str = "",
) -> Found:  # fmt: skip
    """Scan the file once, in bounded memory; open the pictures of the first `opened` good rows (0: of all).

    The samples are drawn uniformly from all good rows (reservoir sampling).
    """
    found = Found(recognise(path), BadRows(1.0))
    layout, root, rng = layout_of(path), images or folder_of(path), random.Random(seed)
    for row_id, row in stream_rows(path, subset=subset):
        found.bad.seen()
        try:
            record, note = record_from_row(row, row_id, root, layout)
            example = encode_record(record, tokenizer, 1, ANY_LENGTH)
            for picture in record.images if not opened or len(found.tokens) < opened else ():
                found.sizes.extend(open_picture(picture).size)
                found.opened += 1
        except BadRow as error:
            found.bad.add(row_id, error)
            continue
        if note:
            found.bad.repaired(row_id, note)
        found.styles[style_of(row, layout)] += 1
        found.pictures.append(len(record.images))
        found.answers += len(record.answers)
        found.tokens.append(len(example.ids) - len(record.images))
        found.supervised.append(example.supervised_tokens)
        kept = len(found.samples) if len(found.samples) < samples else rng.randrange(len(found.tokens))
        if kept < samples:
            found.samples[kept : kept + 1] = [(record, example)]
    return found


def style_of(row: Mapping[str, Any], layout: Layout) -> str:
    """The schema of a good row, and the project it comes from."""
    key = next((name for name in layout.conversations if row.get(name)), None)
    if key is None:
        captioned = any(isinstance(row.get(name), list) for name in layout.captions)
        return "captions of a picture" if captioned else "instruction and output (Alpaca)"
    if "caption" in row or "text" in row:
        return "captions in files that share a base name"
    turns, stored = row[key], ""
    if isinstance(turns, (str, bytes)):
        turns, stored = json.loads(turns), ", as JSON text"
    keys = " and ".join(next(name for name in names if name in turns[0]) for names in (layout.role, layout.content))
    whose = {"from and value": "LLaVA, ShareGPT"}.get(keys, "LLaMA-Factory" if key == "messages" else "MiniMind-V")
    named = f", registered in dataset_info.json as {layout.registered!r}" if layout.registered else ""
    return f"{key} of {keys}{stored} ({whose}){named}"


def describe(path: Path, found: Found, image_tokens: int, max_seq_len: int) -> str:
    """The report as text."""
    rows = len(found.tokens)
    lines = [f"{path}: {found.format}"]
    lines += [f"  {count:,} rows: {style}" for style, count in found.styles.most_common()]
    if rows:
        tokens, supervised, pictures = (np.array(v) for v in (found.tokens, found.supervised, found.pictures))
        several = ", ".join(
            f"{count:,} {'has' if count == 1 else 'have'} {many or 'none'}"
            for many, count in sorted(Counter(found.pictures).items())
        )
        share = (tokens + pictures * image_tokens > max_seq_len).mean()
        counted = f", with {image_tokens} per picture" if image_tokens else ""
        lines += [
            f"rows        {found.bad.total:,}, of which {rows:,} are usable, with {found.answers:,} answers",
            f"pictures    {pictures.sum():,}; of the rows, {several}",
            f"            {_sizes(found)}",
            f"text        {_spread(tokens)} tokens per row, {tokens.sum():,} in total, image tokens not counted",
            f"supervised  {_spread(supervised)} tokens per row, {supervised.sum():,} in total "
            f"({supervised.sum() / tokens.sum():.0%} of the text)",
            f"too long    {share:.1%} of the rows would be truncated to {max_seq_len} tokens{counted}",
        ]
    lines.append(found.bad.report())
    return "\n".join(lines)


def _sizes(found: Found) -> str:
    if not found.opened:
        return "none opened" if any(found.pictures) else "text only"
    sizes = np.array(found.sizes).reshape(-1, 2)
    middle = "×".join(str(round(side)) for side in np.median(sizes, 0))
    area = sizes.prod(1)
    smallest, largest = ("×".join(map(str, sizes[place])) for place in (area.argmin(), area.argmax()))
    return f"{found.opened:,} opened, median {middle}, from {smallest} to {largest}"


def _spread(values: np.ndarray) -> str:
    return f"median {np.median(values):.0f}, p95 {np.percentile(values, 95):.0f}, max {values.max()}"


def main(argv: list[str] | None = None) -> None:
    parser = FlagParser(__doc__)
    add = parser.add_argument
    add("data", metavar="FILE", help="JSONL, a JSON list, parquet, tar or captions; several as for --data")
    add("--images", default="", metavar="DIR", help="image folder (default: the folder of FILE)")
    add("--tokenizer", default="", metavar="DIR", help="tokenizer to count with (default: the shipped one)")
    add("--page", type=Path, metavar="FILE", help="write an HTML page of ten samples, supervised tokens marked")
    add("--open", type=int, default=1000, metavar="N", help="open the pictures of N rows (default: 1000; 0: of all)")
    add("--image_tokens", type=int, default=0, metavar="N", help="tokens per picture in the length (default: 0)")
    add("--max_seq_len", type=int, default=512, metavar="N", help="maximum length in training (default: 512)")
    add("--seed", type=int, default=42, help="seed of the ten samples (default: 42)")
    args = parser.parse_args(argv)
    if args.open < 0 or args.image_tokens < 0 or args.max_seq_len < 1:
        parser.error("expected --open and --image_tokens of 0 or more, and --max_seq_len of 1 or more")
    tokenizer = load_tokenizer(args.tokenizer or default_folder())
    sources = read_names(args.data)
    folders = read_folders(args.images, len(sources))
    files = [(file, folder, one.subset) for one, folder in zip(sources, folders, strict=True) for file in one.files]
    pages = []
    for file, folder, subset in files:
        found = examine(file, tokenizer, folder, args.open, seed=args.seed, subset=subset)
        text = describe(file, found, args.image_tokens, args.max_seq_len)
        print(text, end="\n\n" if len(files) > 1 else "\n")
        pages.append((text, found.samples))
    if args.page:
        write_page(args.page, pages, tokenizer)
        print(f"written to {args.page}")


if __name__ == "__main__":
    try:
        main()
    except (DataError, TokenizerError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:  # nothing half-written is left: files are written under another name first
        sys.exit(130)
