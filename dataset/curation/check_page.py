"""A self-contained HTML page of samples as a model sees them: pictures, text, supervised tokens."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

from dataset.bad_rows import BadImage
from dataset.htmlpage import picture_element, write_html
from dataset.pictures import open_picture
from dataset.record import IGNORE, Example, Picture, Record
from tokenizer.tokenizer import Tokenizer

STYLE = """
.id{display:flex;justify-content:space-between;gap:1rem} .text{margin:0} mark{background:#2e9e5b33}
.pictures img{height:auto;max-height:216px} .role{color:var(--faint);font-size:13px;font-weight:600}
.sign.picture{background:#5b7fd633;color:inherit;border-radius:4px;padding:1px 5px}
"""
LEGEND = (
    '<p class="faint"><mark>supervised</mark> &nbsp;·&nbsp; <span class="sign picture">picture</span> '
    'image tokens &nbsp;·&nbsp; <span class="sign">&lt;|sign|&gt;</span> special tokens of the chat template</p>'
)
Sample = tuple[Record, Example]


def write_page(path: Path, files: Sequence[tuple[str, Sequence[Sample]]], tokenizer: Tokenizer) -> None:
    """Write the page atomically, with the report and the samples of each file.

    The examples must have been encoded with one token per picture.
    """
    parts = []
    for report, samples in files:
        title, _, rest = report.partition("\n")
        parts += [f"<h1>{html.escape(title)}</h1>", f"<pre>{html.escape(rest)}</pre>"]
        parts += [LEGEND] if samples else []
        parts += [_article(record, example, tokenizer) for record, example in samples]
    write_html(path, "What is in the data", parts, style=STYLE)


def _article(record: Record, example: Example, tokenizer: Tokenizer) -> str:
    tokens = f"{len(example.ids) - len(record.images)} tokens, {example.supervised_tokens} supervised"
    label = f" · {html.escape(record.label)}" if record.label else ""
    head = f'<p class="id"><span>{html.escape(record.id)}{label}</span><span>{tokens}</span></p>'
    body = f'<div>{head}<p class="text">{"".join(_spans(example, tokenizer))}</p></div>'
    if not record.images:
        return f'<article class="plain">{body}</article>'
    return f'<article><div class="pictures">{"".join(map(_picture, record.images))}</div>{body}</article>'


def _spans(example: Example, tokenizer: Tokenizer) -> Iterator[str]:
    """The example's text as HTML, by runs of tokens of one kind."""
    signs = {tokenizer.start_id, tokenizer.end_id}

    def kind(place: int) -> tuple[bool, str]:
        if example.image_mask[place]:
            return False, f"picture {place}"
        return bool(example.labels[place] != IGNORE), "sign" if int(example.ids[place]) in signs else "text"

    opened = False  # whether a turn's role comes next
    for (learned, what), run in groupby(range(len(example.ids)), kind):
        ids = [int(example.ids[place]) for place in run]
        text = html.escape(tokenizer.decode(ids, skip_special=False))
        if what.startswith("picture"):
            text = '<span class="sign picture">picture</span>'
        elif what == "sign":
            text = f'<span class="sign">{text}</span>'
        elif opened:
            role, line_end, rest = text.partition("\n")
            text = f'<span class="role">{role}</span>{line_end}{rest}'
        opened = ids[-1] == tokenizer.start_id
        yield f"<mark>{text}</mark>" if learned else text


def _picture(picture: Picture, size: int = 432) -> str:
    """The picture as an img element with inline data, or the error if it cannot be read."""
    try:
        image = open_picture(picture, size)
    except BadImage as error:
        return f'<p class="id">{html.escape(str(error))}</p>'
    return picture_element(image, size=size)
