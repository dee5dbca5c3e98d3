"""An HTML page of pictures, captions with what is not there marked, facts and scores; one file, nothing to fetch."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from dataset.picturebook.facts import COLOURS, KINDS, PLACES, Scene
from scoring.mentions import Mention, Said, read_caption
from scoring.report import score_table, write_atomically

STYLE = """
:root{color-scheme:light dark}
body{font:16px/1.6 system-ui,"PingFang SC","Microsoft YaHei","Noto Sans CJK SC",sans-serif;max-width:1080px;
margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem} pre{overflow-x:auto;font-size:13px;line-height:1.5}
article{display:flex;gap:1.25rem;padding:1rem 0;border-top:1px solid #8884}
article img{width:224px;height:224px;object-fit:contain;flex:none;border-radius:6px;background:#8882}
article h2{font-size:1rem;margin:0 0 .25rem;font-weight:600} p{margin:.25rem 0}
.facts,.id{color:#777;font-size:14px}
mark{border-radius:3px;padding:0 2px;color:inherit}
mark.right{background:#3a35} mark.detail{background:#da05} mark.wrong{background:#e336;text-decoration:line-through}
@media(max-width:600px){article{flex-direction:column}}
"""
LEGEND = (
    '<p class="facts"><mark class="right">there</mark> &nbsp; <mark class="detail">there, with a wrong colour or '
    'number</mark> &nbsp; <mark class="wrong">not there</mark></p>'
)


@dataclass(frozen=True)
class Shown:
    """One picture of the page with what was said of it; `scene` where the facts are known."""

    picture: Image.Image
    text: str
    title: str = ""
    scene: Scene | None = None
    reference: str | None = None
    note: str = ""  # a caution, shown below the text


def write_page(
    path: Path | str,
    shown: Iterable[Shown],
    title: str = "Captions",
    scores: dict[str, dict[str, object]] | None = None,
    command: str | None = None,
) -> None:
    """Write the page atomically. scores: title -> metrics, as for report.score_table."""
    parts = [f"<h1>{html.escape(title)}</h1>"]
    if command:
        parts.append(f"<p><code>{html.escape(command)}</code></p>")
    if scores:
        parts.append(f"<pre>{html.escape(score_table(scores))}</pre>")
    entries = list(shown)
    if any(entry.scene is not None for entry in entries):
        parts.append(LEGEND)
    parts += map(_entry, entries)
    page = (
        '<!doctype html>\n<html lang="zh-CN"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{STYLE}</style></head>\n<body>\n" + "\n".join(parts)
    )
    write_atomically(Path(path), (page + "\n</body></html>\n").encode("utf-8", "replace"))


def _entry(entry: Shown) -> str:
    text = marked(entry.text, entry.scene) if entry.scene is not None else html.escape(entry.text)
    lines = [f"<h2>{html.escape(entry.title)}</h2>"] if entry.title else []
    lines.append(f"<p>{text or '<i>(nothing said)</i>'}</p>")
    if entry.note:
        lines.append(f'<p class="facts">⚠ {html.escape(entry.note)}</p>')
    if entry.reference is not None:
        lines.append(f'<p class="facts">reference: {html.escape(entry.reference)}</p>')
    if entry.scene is not None:
        lines.append(f'<p class="facts">facts: {html.escape(facts_line(entry.scene))}</p>')
    alt = html.escape(entry.title or "picture", quote=True)
    return f'<article><img alt="{alt}" src="{_data_uri(entry.picture)}"><div>{"".join(lines)}</div></article>'


def marked(text: str, scene: Scene) -> str:
    """The text as HTML, each mention marked right, detail (wrong colour or number) or wrong (not there)."""
    said = read_caption(text)
    out, position = [], 0
    for mention in said.mentions:
        out.append(html.escape(text[position : mention.start]))
        word = html.escape(text[mention.start : mention.end])
        out.append(f'<mark class="{_verdict(mention, said, scene)}">{word}</mark>')
        position = mention.end
    return "".join(out) + html.escape(text[position:])


def _verdict(mention: Mention, said: Said, scene: Scene) -> str:
    thing = next((thing for thing in scene.things if thing.kind == mention.kind), None)
    if thing is None:
        return "wrong"
    colour_is_wrong = mention.colour is not None and thing.colour not in (None, mention.colour)
    count_is_wrong = mention.count is not None and mention.count not in (0, thing.count)
    return "detail" if colour_is_wrong or count_is_wrong else "right"


def facts_line(scene: Scene) -> str:
    """The facts on one line: 海边 · 小狗×2 棕色 · 太阳×1."""
    told = [PLACES[scene.place].zh]
    for thing in scene.things:
        kind = KINDS[thing.kind]
        colour = f"{COLOURS[thing.colour].zh}" if thing.colour else ""
        told.append(f"{kind.zh}×{thing.count}{' ' + colour if colour else ''}")
    return " · ".join(told)


def _data_uri(picture: Image.Image, size: int = 336) -> str:
    small = picture.convert("RGB")
    small.thumbnail((size, size))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def shown_scenes(pictures: Sequence[Image.Image], texts: Sequence[str], scenes: Sequence[Scene]) -> list[Shown]:
    """Entries for pictures with known facts, numbered from 1."""
    return [
        Shown(picture, text, f"#{i + 1}", scene)
        for i, (picture, text, scene) in enumerate(zip(pictures, texts, scenes, strict=True))
    ]
