"""The index of runs as a page: a table, curves, scores, the same pictures after each stage, each run's own section."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from PIL import Image

from dataset.bad_rows import BadRow
from dataset.htmlpage import escape, picture_element, write_html
from dataset.picturebook.facts import Scene
from engine.curves import is_number
from scoring.bars import LEADING, arrow, score_cell
from scoring.page import answer_lines, english_facts, preview
from scoring.pagelinks import INDEX_HEAD, href, run_of
from tools.compare import scene_of
from tools.report import curves
from tools.report.runs import Found, FoundRun, Scores

PICTURES = 8  # that are shown after each stage
LONGEST = 28  # characters of a setting in the table
SIGNS = {"finished": "✓", "unfinished": "…", "broken": "✗"}
STYLE = """
.stages{width:100%}
.stages td{overflow-wrap:anywhere} .stages td:first-child{width:7.5rem} .stages p{margin:0}
#runs th:first-child,#runs td:first-child{position:sticky;left:0;background:var(--back)}
#runs td,.files td{white-space:nowrap} .files{width:auto} section{border-top:1px solid var(--line);padding:.4rem 0}
section img{max-width:100%;height:auto}
"""


def write_index(page: Path, root: Path, found: Found) -> None:
    """Write the page atomically."""
    title = f"Runs in {root}"
    states = Counter(run.state for run in found.runs)
    told = ", ".join(f"{count} {state}" for state, count in states.most_common())
    empty = f' Empty folders: {escape(", ".join(found.empty))}.' if found.empty else ""
    when = time.strftime("%Y-%m-%d %H:%M")
    links = {"runs": "Runs", "scores": "Scores", "samples": "Samples", "single": "Each run"}
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="faint">{len(found.runs)} runs: {told}. As of {when}; python -m tools.report renews it.{empty}</p>',
        "<nav>" + "".join(f'<a href="#{name}">{text}</a>' for name, text in links.items()) + "</nav>",
        *runs_table(found.runs),
        *curves.curves_of(found.runs),
        *scores_table(page, found),
        *samples_of(found.runs),
        '<h2 id="single">Each run</h2>',
        *(section(page, run, found.pages) for run in found.runs),
    ]
    write_html(page, title, parts, INDEX_HEAD, STYLE + curves.STYLE)


def runs_table(runs: Sequence[FoundRun]) -> list[str]:
    """The runs, how far they came, and the settings in which they differ."""
    keys = differing(runs)
    heads = ["run", "state", "steps", "loss", "validation", "minutes", *keys]
    rows = ["<tr>" + "".join(f"<th>{escape(head)}</th>" for head in heads) + "</tr>"]
    for run in runs:
        loss = _number(run.summary.get("loss"), run.last("loss"))
        valid = _number(run.summary.get("val_loss"), run.last("val_loss"))
        minutes = _number(run.summary.get("seconds"), run.last("seconds"))
        cells = [
            f'<a href="#{run.anchor}">{escape(run.name)}</a>',
            f'<span class="{"bad" if run.state == "broken" else ""}">{SIGNS[run.state]} {run.state}</span>',
            f"{run.step:,}", *(_shown(value) for value in (loss, valid)),
            "" if minutes is None else f"{minutes / 60:.1f}",
            *(_short(run.settings[key]) if key in run.settings else "" for key in keys),
        ]  # fmt: skip
        rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    note = f"Of the settings, the {len(keys)} that differ." if keys else "All readable runs have the same settings."
    return ['<h2 id="runs-title">Runs</h2>', f'<p class="faint">{note}</p>',
            f'<div class="wide" id="runs"><table>{"".join(rows)}</table></div>']  # fmt: skip


def differing(runs: Sequence[FoundRun]) -> list[str]:
    """The settings that have not the same value in all runs that can be read, in the order of a run.json."""
    known = [run.settings for run in runs if run.settings]
    keys = dict.fromkeys(key for settings in known for key in settings)
    return [key for key in keys if len({repr(settings.get(key)) for settings in known}) > 1]


def scores_table(page: Path, found: Found) -> list[str]:
    """All files of scores, those of the same metrics in one table: those that lead a page of scores are its columns."""
    groups: dict[tuple[str, ...], list[Scores]] = {}
    for one in found.scores:
        groups.setdefault(tuple(name for name in LEADING if name in one.metrics), []).append(one)
    tables = [_scores_table(page, names, scores) for names, scores in groups.items() if names]
    return ['<h2 id="scores">Scores</h2>', *tables] if tables else []


def _scores_table(page: Path, names: Sequence[str], scores: Sequence[Scores]) -> str:
    tops = {name: max([1.0, *(value for one in scores if is_number(value := one.metrics[name]))]) for name in names}
    heads = "".join(f"<th>{escape(name).replace('_', '_<wbr>').replace('/', '/<wbr>')}{arrow(name)}</th>"
                    for name in names)  # fmt: skip
    rows = [f"<tr><th>file</th>{heads}</tr>"]
    for one in scores:
        cells = "".join(f"<td>{score_cell(one.metrics, name, tops[name])}</td>" for name in names)
        link = f'<a href="{href(one.path, page)}">{escape(one.name)}</a>'
        rows.append(f'<tr><td>{link}<p class="faint">{_short(one.run)}, n {one.count:,}</p></td>{cells}</tr>')
    return f'<div class="wide"><table class="scores files">{"".join(rows)}</table></div>'


def samples_of(runs: Sequence[FoundRun]) -> list[str]:
    """The pictures that most runs were asked about, with the answers of all runs."""
    counted = Counter(sample["id"] for run in runs for sample in {s["id"]: s for s in run.samples}.values())
    if not counted:
        return []
    parts = ['<h2 id="samples">The same pictures after each stage</h2>',
             '<p class="faint">Validation records that a run answers when it is finished. A language model is given '
             "the picture in words.</p>"]  # fmt: skip
    for name, _ in sorted(counted.items(), key=lambda item: -item[1])[:PICTURES]:
        scene, picture, rows = scene_of(name), None, []
        for run in runs:
            for sample in (one for one in run.samples if one["id"] == name):
                picture = picture or sample_picture(run, sample)
                rows.append(_sample_row(run, sample, scene))
        picture = picture or (preview(scene) if scene else None)
        facts = f'<p class="faint">facts: {escape(english_facts(scene))}</p>' if scene else ""
        table = f'<div class="wide"><table class="stages">{"".join(rows)}</table></div>'
        body = f"<div><h3>{escape(name)}</h3>{facts}{table}</div>"
        parts.append(f"<article>{picture_element(picture, name)}{body}</article>")
    return parts


def _sample_row(run: FoundRun, sample: dict[str, str], scene: Scene | None) -> str:
    asked = escape(sample["prompt"].replace("<image>", "").strip())
    answer = "".join(answer_lines(sample["answer"], scene))
    return (
        f'<tr><td><a href="#{run.anchor}">{escape(run.name)}</a></td><td><p class="faint">{asked}</p>{answer}'
        f'<p class="faint">reference: {escape(sample["reference"])}</p></td></tr>'
    )


def sample_picture(run: FoundRun, sample: dict[str, str]) -> Image.Image | None:
    """The picture that the run has kept of a sample, in its own folder; None where there is none to read."""
    file = run.path / str(sample.get("picture", ""))
    if not file.is_file() or not file.resolve().is_relative_to(run.path.resolve()):
        return None
    with contextlib.suppress(BadRow):
        return preview(file)
    return None


def section(page: Path, run: FoundRun, pages: Iterable[Path]) -> str:
    """A run's own part: why it is broken, its pages, its curve, all its settings."""
    links = [f'<a href="{href(file, page)}">{escape(file.stem)}</a>' for file in pages
             if run_of(file) == run.path.resolve()]  # fmt: skip
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(run.changed)) if run.changed else ""
    lines = [f"<h3>{SIGNS[run.state]} {escape(run.name)}</h3>",
             f'<p class="faint">{run.state}, step {run.step:,}, last written {when}</p>']  # fmt: skip
    lines += [f'<p class="bad">✗ {escape(run.problem)}</p>'] if run.problem else []
    lines += [f"<nav>pages: {''.join(links)}</nav>"] if links else []
    inner = []
    if (run.path / "loss.png").is_file():
        name = escape(f"curves of {run.name}")
        inner.append(f'<img loading="lazy" alt="{name}" src="{href(run.path / "loss.png", page)}">')
    if run.settings:
        rows = "".join(f"<tr><td>{escape(key)}</td><td>{escape(value)}</td></tr>"
                       for key, value in run.settings.items())  # fmt: skip
        inner.append(f"<table>{rows}</table>")
    lines += [f"<details><summary>curves and settings</summary>{''.join(inner)}</details>"] if inner else []
    return f'<section id="{run.anchor}">{"".join(lines)}</section>'


def _short(value: object) -> str:
    """A value for HTML, the end of a long one with all of it in a tooltip."""
    text = str(value)
    if len(text) <= LONGEST:
        return escape(text)
    return f'<span title="{escape(text)}">…{escape(text[1 - LONGEST :])}</span>'


def _number(*values: object) -> float | None:
    return next((value for value in values if is_number(value)), None)


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
