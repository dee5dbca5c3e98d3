"""A self-contained HTML page of pictures, captions with true and false statements marked, facts and scores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice, pairwise
from pathlib import Path

from PIL import Image

from dataset.htmlpage import Entry, entry_list, escape, picture_element, write_html
from dataset.picturebook.captions_zh import SIDES, related, sky_word
from dataset.picturebook.facts import ACTIONS_ZH, COLOURS, KINDS, PLACES, Scene
from dataset.picturebook.telling import clear_side, in_sky, notable_size
from dataset.pictures import open_picture
from dataset.record import Picture
from scoring.bars import WORST_HIGH, score_bars
from scoring.contradictions import contradictions
from scoring.pagelinks import NO_LINKS, link, pages_of, run_head
from scoring.report import draws_chinese
from scoring.statements import Statement, judge

LEGEND = (
    '<p class="faint">Words by their statement: <mark class="right">true</mark> &nbsp; '
    '<mark class="wrong">false</mark> &nbsp; <mark class="open">undecided by the facts</mark> &nbsp; nothing to check. '
    "Hover over one for the facts.</p>"
)
SHOWN = 1000  # entries of a page, at most
PREVIEW = 520  # pixels of the longer side of a picture kept for a page or a contact sheet
VERDICTS = {True: "right", False: "wrong", None: "open"}


@dataclass(frozen=True)
class Question:
    """A question about the picture, and whether the answer is right."""

    text: str
    answer: str
    expected: str
    right: bool


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
    questions: Sequence[Question] = ()  # further ones about the picture
    tags: tuple[str, ...] = ()  # to filter by
    values: Mapping[str, float] = field(default_factory=dict)  # to sort by


def preview(picture: Picture, side: int = PREVIEW) -> Image.Image:
    """The picture opened, a scene drawn, at most `side` pixels a side, so that a page of photographs fits in memory."""
    image = open_picture(picture, side)
    image.thumbnail((side, side))
    return image


def write_page(
    path: Path | str,
    shown: Iterable[Shown],
    title: str = "Captions",
    scores: Mapping[str, Mapping[str, object]] | None = None,
    command: str | None = None,
    text: str = "",
    run: Path | None = None,
    top: Sequence[str] = (),
) -> None:
    """Write the page atomically, the first SHOWN entries in parts that can be filtered and sorted.

    scores: title -> metrics, as for report.score_table, shown as bars; text: a plain one above all; top: more HTML
    there. run: the folder of the run that the page is about, whose pages are linked to each other.
    """
    path = Path(path)
    parts = [NO_LINKS, f"<h1>{escape(title)}</h1>"]
    if command:
        parts.append(f"<p><code>{escape(command)}</code></p>")
    if scores:
        parts.append(score_bars(scores))
    parts += top
    if text:
        parts.append(f"<pre>{escape(text)}</pre>")
    entries, judged, others = [], False, iter(shown)
    for one in islice(others, SHOWN):
        judged = judged or one.scene is not None
        entries.append(_entry(one))
    parts += [LEGEND] if judged else []
    if next(others, None) is not None:
        parts.append(f'<p class="faint">There are more: the first {SHOWN:,} are shown.</p>')
    parts += entry_list(entries, WORST_HIGH)
    write_html(path, title, parts, run_head(path, run))
    if run:
        link(pages_of(run, {path.parent, run}), run)


def _entry(entry: Shown) -> Entry:
    lines = [f"<h3>{escape(entry.title)}</h3>"] if entry.title else []
    if entry.other is None:
        lines += answer_lines(entry.text, entry.scene)
    else:
        lines += answer_lines(entry.text, entry.scene, "A: ") + answer_lines(entry.other, entry.scene, "B: ")
    if entry.note:
        lines.append(f'<p class="faint">⚠ {escape(entry.note)}</p>')
    if entry.reference is not None:
        lines.append(f'<p class="faint">reference: {escape(entry.reference)}</p>')
    if entry.scene is not None:
        lines.append(told_facts(entry.scene, entry.text))
    if entry.values and entry.other is None:
        told = " · ".join(f"{name} {value:.4g}" for name, value in entry.values.items())
        lines.append(f'<p class="faint">{escape(told)}</p>')
    lines += _question_lines(entry.questions)
    inside = f"{picture_element(entry.picture, entry.title or 'picture')}<div>{''.join(lines)}</div>"
    return Entry(inside, entry.tags, entry.values)


def answer_lines(text: str, scene: Scene | None, name: str = "") -> list[str]:
    """An answer's lines: its words, marked where the facts are known; each false statement, and how it contradicts
    itself."""
    if scene is None:
        return [f'<p class="text">{name}{escape(text) or "<i>(empty)</i>"}</p>']
    false = [f"✗ {hint(one, scene)}" for one in judge(text, scene) if one.verdict is False]
    false += [f"✗ contradicts itself: {one}" for one in contradictions(text)]
    items = "".join(f"<li>{escape(line)}</li>" for line in dict.fromkeys(false))
    listed = [f'<ul class="errors bad">{items}</ul>'] if items else []
    return [f'<p class="text">{name}{marked(text, scene) or "<i>(empty)</i>"}</p>', *listed]


def _question_lines(questions: Sequence[Question]) -> list[str]:
    if not questions:
        return []
    wrong, right = ([one for one in questions if one.right is verdict] for verdict in (False, True))
    told = f"{len(right)} of {len(questions)} questions answered right"
    return [
        _listed(wrong, "bad"),
        f'<details><summary class="faint">{told}</summary>{_listed(right, "good")}</details>',
    ]


def _listed(questions: Sequence[Question], css: str) -> str:
    """A question that was asked in several turns stands there once for each answer, with how often."""
    items = [
        f"<li>{'✓' if one.right else '✗'} {escape(one.text)} → {escape(one.answer) or '(empty)'}"
        f"{'' if one.right else f' (expected: {escape(one.expected)})'}{f' ×{times}' if times > 1 else ''}</li>"
        for one, times in Counter(questions).items()
    ]
    return f'<ul class="errors {css}">{"".join(items)}</ul>' if items else ""


def marked(text: str, scene: Scene) -> str:
    """The text as HTML: the words of each statement marked right, wrong or open, with the facts in a tooltip.

    Where statements share words (a bare plural names a thing and says several), wrong takes precedence over right, and
    right over open.
    """
    out = []
    for start, end, verdict, title in judged_parts(text, scene):
        words = escape(text[start:end])
        out.append(f'<mark class="{verdict}" title="{escape(title)}">{words}</mark>' if verdict else words)
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
        return _facts_of_relation(scene)
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


def told_facts(scene: Scene, text: str) -> str:
    """The facts as HTML, in the language of a text."""
    return f'<p class="faint">facts: {escape(facts_line(scene) if draws_chinese(text) else english_facts(scene))}</p>'


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


def english_facts(scene: Scene) -> str:
    """The facts in English: by the sea · 2 dog brown left running · 1 sun in the sky · man riding horse."""
    told = [PLACES[scene.place].en]
    for thing in scene.things:
        side = "in the sky" if in_sky(thing) else thing.side + ("" if clear_side(thing) else "?")
        words = (str(thing.count), KINDS[thing.kind].en, thing.colour, side, thing.action, notable_size(thing))
        told.append(" ".join(word for word in words if word))
    if scene.relation:
        told.append(_facts_of_relation(scene))
    return " · ".join(told)


def _facts_of_relation(scene: Scene) -> str:
    told = scene.relation
    if told is None:
        return "nothing rides, holds or is on another"
    return f"{scene.things[told.subject].kind} {told.name} {scene.things[told.object].kind}"
