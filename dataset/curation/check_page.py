"""A self-contained HTML page of samples as a model sees them: pictures, text, supervised tokens."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path

from PIL import Image

from dataset.atomic import encoded, replacing
from dataset.bad_rows import BadImage
from dataset.pictures import open_picture
from dataset.record import IGNORE, Example, Picture, Record
from tokenizer.tokenizer import Tokenizer

STYLE = """
:root{color-scheme:light dark;--soft:#8883;--faint:#777;--learn:#2e9e5b}
@media(prefers-color-scheme:dark){:root{--faint:#999;--learn:#46c57c}}
*{box-sizing:border-box}
body{font:16px/1.65 system-ui,"PingFang SC","Microsoft YaHei","Noto Sans CJK SC","WenQuanYi Micro Hei",sans-serif;
max-width:960px;margin:2.5rem auto;padding:0 1.25rem}
h1{font-size:1.4rem;margin:0 0 .75rem}
pre{background:#8881;border-radius:8px;padding:.9rem 1.1rem;overflow-x:auto;font-size:13px;line-height:1.55}
.legend{color:var(--faint);font-size:14px;margin:1.25rem 0}
article{display:grid;grid-template-columns:216px 1fr;gap:1.5rem;padding:1.5rem 0;border-top:1px solid var(--soft)}
article.plain{grid-template-columns:1fr}
.pictures{display:flex;flex-direction:column;gap:.5rem}
.pictures img{width:216px;max-height:216px;object-fit:contain;border-radius:8px;background:#8882}
.id{color:var(--faint);font-size:13px;margin:0 0 .5rem;display:flex;justify-content:space-between;gap:1rem}
.text{white-space:pre-wrap;overflow-wrap:anywhere;margin:0}
mark{color:inherit;background:color-mix(in srgb,var(--learn) 22%,transparent);border-radius:4px;padding:1px 2px;
box-decoration-break:clone;-webkit-box-decoration-break:clone}
.sign{font:11px/1.4 ui-monospace,Menlo,Consolas,monospace;color:var(--faint)}
.role{color:var(--faint);font-size:13px;font-weight:600}
.sign.picture{background:#5b7fd633;color:inherit;border-radius:4px;padding:1px 5px}
@media(max-width:640px){article{grid-template-columns:1fr}}
"""
LEGEND = (
    '<p class="legend"><mark>supervised</mark> &nbsp;·&nbsp; <span class="sign picture">picture</span> '
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
    write_html(path, "What is in the data", STYLE, parts)


def write_html(path: Path, title: str, style: str, parts: Iterable[str], root: str = "<html>") -> None:
    """Write one page atomically: the parts below each other, with a title and CSS. root: the opening tag."""
    page = (
        f'<!doctype html>\n{root}<head><meta charset="utf-8"><meta name="viewport" content="width=device-width,'
        f'initial-scale=1"><title>{html.escape(title)}</title><style>{style}</style></head>\n<body>\n'
        + "\n".join(parts) + "\n</body></html>\n"
    )  # fmt: skip
    with replacing(path) as file:
        file.write(encoded(page))


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
    return f'<img alt="" src="{data_uri(image, size, 85)}">'


def data_uri(image: Image.Image, size: int, quality: int) -> str:
    """The image as inline data: a JPEG of at most `size` pixels a side."""
    small = image.convert("RGB")
    small.thumbnail((size, size))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=quality)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
