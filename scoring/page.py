"""A self-contained HTML page of pictures, captions with true and false statements marked, facts and scores."""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from PIL import Image

from dataset.curation.check_page import data_uri, write_html
from dataset.picturebook.captions_zh import SIDES, related, sky_word
from dataset.picturebook.facts import ACTIONS_ZH, COLOURS, KINDS, PLACES, Scene
from dataset.picturebook.telling import clear_side, in_sky, notable_size
from dataset.pictures import open_picture
from dataset.record import Picture
from scoring.contradictions import contradictions
from scoring.report import score_table
from scoring.statements import Statement, judge

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
mark.right{background:#3a35} mark.wrong{background:#e336;text-decoration:line-through} mark.open{background:#8883}
.itself{color:#c33;font-size:14px}
@media(max-width:600px){article{flex-direction:column}}
"""
LEGEND = (
    '<p class="facts">Words by their statement: <mark class="right">true</mark> &nbsp; '
    '<mark class="wrong">false</mark> &nbsp; <mark class="open">undecided by the facts</mark> &nbsp; nothing to check. '
    "Hover over one for the facts.</p>"
)
PREVIEW = 520  # pixels of the longer side of a picture kept for a page or a contact sheet
VERDICTS = {True: "right", False: "wrong", None: "open"}


@dataclass(frozen=True)
class Shown:
    """One picture of the page with its caption; `scene` if the facts are known."""

    picture: Image.Image | None  # None where there is none to show
    text: str
    title: str = ""
    scene: Scene | None = None
    reference: str | None = None
    note: str = ""  # a warning, shown below the text
    other: str | None = None  # a second answer below the first; the two are called A and B


def preview(picture: Picture, side: int = PREVIEW) -> Image.Image:
    """The picture opened, a scene drawn, at most `side` pixels a side, so that a page of photographs fits in memory."""
    image = open_picture(picture, side)
    image.thumbnail((side, side))
    return image


def write_page(
    path: Path | str,
    shown: Iterable[Shown],
    title: str = "Captions",
    scores: dict[str, dict[str, object]] | None = None,
    command: str | None = None,
    text: str = "",
) -> None:
    """Write the page atomically. scores: title -> metrics, as for report.score_table; text: a plain one above all."""
    parts = [f"<h1>{html.escape(title)}</h1>"]
    if command:
        parts.append(f"<p><code>{html.escape(command)}</code></p>")
    if scores:
        parts.append(f"<pre>{html.escape(score_table(scores))}</pre>")
    if text:
        parts.append(f"<pre>{html.escape(text)}</pre>")
    entries = list(shown)
    if any(entry.scene is not None for entry in entries):
        parts.append(LEGEND)
    parts += map(_entry, entries)
    write_html(Path(path), title, STYLE, parts, '<html lang="zh-CN">')


def _entry(entry: Shown) -> str:
    lines = [f"<h2>{html.escape(entry.title)}</h2>"] if entry.title else []
    if entry.other is None:
        lines += _answer(entry.text, entry.scene)
    else:
        lines += _answer(entry.text, entry.scene, "A: ") + _answer(entry.other, entry.scene, "B: ")
    if entry.note:
        lines.append(f'<p class="facts">⚠ {html.escape(entry.note)}</p>')
    if entry.reference is not None:
        lines.append(f'<p class="facts">reference: {html.escape(entry.reference)}</p>')
    if entry.scene is not None:
        lines.append(f'<p class="facts">facts: {html.escape(facts_line(entry.scene))}</p>')
    alt = html.escape(entry.title or "picture", quote=True)
    picture = f'<img alt="{alt}" src="{data_uri(entry.picture, 336, 82)}">' if entry.picture is not None else ""
    return f"<article>{picture}<div>{''.join(lines)}</div></article>"


def _answer(text: str, scene: Scene | None, name: str = "") -> list[str]:
    """An answer's lines: its words, marked where the facts are known, and how it contradicts itself."""
    words = marked(text, scene) if scene is not None else html.escape(text)
    found = contradictions(text) if scene is not None else []
    return [
        f"<p>{name}{words or '<i>(empty)</i>'}</p>",
        *(f'<p class="itself">contradicts itself: {html.escape(one)}</p>' for one in found),
    ]


def marked(text: str, scene: Scene) -> str:
    """The text as HTML: the words of each statement marked right, wrong or open, with the facts in a tooltip.

    Where statements share words (a bare plural names a thing and says several), wrong takes precedence over right, and
    right over open.
    """
    out = []
    for start, end, verdict, title in judged_parts(text, scene):
        words = html.escape(text[start:end])
        shown = html.escape(title, quote=True)
        out.append(f'<mark class="{verdict}" title="{shown}">{words}</mark>' if verdict else words)
    return "".join(out)


def judged_parts(text: str, scene: Scene) -> Iterator[tuple[int, int, str, str]]:
    """The text from start to end in parts: (start, end, right | wrong | open or "" without a statement, the facts)."""
    statements = judge(text, scene)
    edges = sorted({0, len(text), *(edge for one in statements for edge in (one.start, one.end))})
    for start, end in pairwise(edges):
        here = [one for one in statements if one.start <= start and end <= one.end]
        verdict = next((v for v in (False, True, None) if any(one.verdict is v for one in here)), None)
        yield start, end, VERDICTS[verdict] if here else "", "; ".join(hint(one, scene) for one in here)


def hint(one: Statement, scene: Scene) -> str:
    """What is stated and what the facts say: "side of dog: left; facts: right (centre at 0.71)"."""
    value = "several" if one.value == 0 else one.value
    other = f" {'of ' if one.type == 'order' else ''}{one.other}" if one.other else ""
    said = {"thing": one.about, "place": "place"}.get(one.type, f"{one.type} of {one.about}: {value}{other}")
    return f"{said} ({VERDICTS[one.verdict]}); facts: {_facts(one, scene)}"


def _facts(one: Statement, scene: Scene) -> str:
    if one.type == "place":
        return PLACES[scene.place].en
    things = {thing.kind: thing for thing in scene.things}
    missing = [kind for kind in (one.about, one.other) if kind is not None and kind not in things]
    if missing:
        return f"no {' and no '.join(dict.fromkeys(missing))}"
    thing = things[one.about]
    if one.type == "relation":
        told = scene.relation
        if told is None:
            return "nothing rides, holds or is on another"
        return f"{scene.things[told.subject].kind} {told.name} {scene.things[told.object].kind}"
    if one.type == "order":
        return ", ".join(f"{kind} at {things[kind].x:.2f}" for kind in dict.fromkeys((one.about, str(one.other))))
    return {
        "thing": "there",
        "colour": thing.colour or "always looks the same",
        "number": str(thing.count),
        "side": f"{thing.side} (centre at {thing.x:.2f})",
        "height": {"sky": "in the sky", "air": "above the ground", "ground": "on the ground"}[KINDS[thing.kind].where],
        "action": thing.action or "none",
        "size": f"{thing.size}, {thing.height / KINDS[thing.kind].height:.2f} of its usual height",
    }[one.type]


def facts_line(scene: Scene) -> str:
    """The facts on one line: 海边 · 小狗×2 棕色 左边 奔跑 · 太阳×1 天上 · 男人骑着马."""
    told = [PLACES[scene.place].zh]
    for thing in scene.things:
        words = [
            f"{KINDS[thing.kind].zh}×{thing.count}",
            COLOURS[thing.colour].zh if thing.colour else "",
            sky_word(scene) if in_sky(thing) else SIDES[thing.side] + ("" if clear_side(thing) else "?"),
            ACTIONS_ZH[thing.action] if thing.action else "",
            {"large": "大", "small": "小", None: ""}[notable_size(thing)],
        ]
        told.append(" ".join(word for word in words if word))
    if scene.relation:
        subject, thing = scene.things[scene.relation.subject], scene.things[scene.relation.object]
        told.append(related(scene, KINDS[subject.kind].zh, KINDS[thing.kind].zh, subject))
    return " · ".join(told)
