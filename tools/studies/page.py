"""The page of a study: question, budgets, plots, all scores with the paired test, and a gallery of answers."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dataset.bad_rows import BadRows
from dataset.htmlpage import entry_list, escape, inline, write_html
from scoring.answer_file import read_answers
from scoring.bars import arrow, gain_signs, score_cell
from scoring.page import LEGEND
from tools.compare import scene_of
from tools.studies import gallery
from tools.studies.figures import Values, svg
from tools.studies.results import RESAMPLES, Value, budget, gain_of
from tools.studies.runner import Plan

NARROW = 700  # pixels of the window up to which the plots stand in one column
STYLE = """
.plots img{width:100%;height:auto} .study-table{table-layout:fixed}
.study-table small{display:block;font-size:12px;line-height:1.4} .study-table th:first-child{width:7rem}
.study-table th:first-child,.study-table td:first-child{position:sticky;left:0;background:var(--back);z-index:1}
"""


def write_study(
    plan: Plan, rows: Sequence[Mapping[str, Any]], values: Values, reference: str, curves: Path | None = None
) -> None:
    """Write FOLDER/STUDY.html, which needs no other file. rows: those compared; values: of compare(); curves: a PNG."""
    metrics, seed = plan.study.metrics, min(row["seed"] for row in rows)
    answers = {row["arm"]: read_answers(plan.folder / row["answers"], BadRows(0.0)) for row in rows
               if row["seed"] == seed}  # fmt: skip
    held = dict.fromkeys(name for of_arm in values.values() for name in of_arm)
    pictures = len({row["picture"] for row in next(iter(answers.values()))})
    title = f"{plan.name}: {plan.study.question}"
    first = f"the first {gallery.PICTURES} of {pictures:,}" if pictures > gallery.PICTURES else f"all {pictures:,}"
    parts = [
        f"<h1>{escape(title)}</h1>",
        f"<p><code>{escape(command_of(rows[0]))}</code></p>",
        "<h2>Arms</h2>", budgets(rows, values, reference),
        "<h2>Results</h2>", plots(values, metrics, reference, title), image_of(curves) if curves else "",
        f'<p class="faint">95% intervals and p values are of {RESAMPLES:,} resamples that draw seeds and, '
        "independently, pictures, the same for both arms that are compared. With few seeds the intervals are too "
        f"narrow. Dots are filled and triangles stand where an arm differs from “{escape(reference)}”, p &lt; "
        "0.05.</p>" if len(values) > 1 else "",
        scores_table(values, [name for name in metrics if name in held], reference),
        further(values, [name for name in held if name not in metrics], reference),
        "<h2>Answers</h2>",
        f'<p class="faint">Test pictures: {first}. Answers of seed {seed}; arms that say the same stand together.</p>',
        LEGEND if any(map(scene_of, (row["picture"] for row in next(iter(answers.values()))))) else "",
        *entry_list(gallery.gallery(answers, data_of(plan)), gallery.worst_high(list(answers))),
    ]  # fmt: skip
    write_html(plan.folder / f"{plan.name}.html", title, parts, style=STYLE + gallery.STYLE)


def command_of(row: Mapping[str, Any]) -> str:
    """The command of the whole study, of that of one row."""
    return row["command"].replace(" " + shlex.join(["--arm", row["arm"], "--seed", str(row["seed"])]), "")


def data_of(plan: Plan) -> str:
    """The data file that the arms are scored on; "" for drawn scenes."""
    words = plan.study.scored.split()
    return words[words.index("--data") + 1] if "--data" in words else ""


def budgets(rows: Sequence[Mapping[str, Any]], values: Values, reference: str) -> str:
    """What each arm was given, and the commands that made its first row."""
    given = {arm: budget(rows, arm) for arm in values}
    heads = ("arm", *next(iter(given.values())))
    lines = ["<tr>" + "".join(f"<th>{head}</th>" for head in heads) + "</tr>"]
    commands = []
    for arm, cells in given.items():
        own = [row for row in rows if row["arm"] == arm]
        whole = "".join(f"<td>{cell}</td>" for cell in (named(arm, reference), *cells.values()))
        lines.append(f"<tr>{whole}</tr>")
        told = "\n".join([f"# {own[0]['command']}", *own[0]["commands"]])
        commands.append(f"<h3>{escape(arm)}</h3><pre>{escape(told)}</pre>")
    note = '<p class="faint">Tokens, those of them that are supervised, and minutes are means over the seeds.</p>'
    more = f"<details><summary>the commands of each arm, of its first seed</summary>{''.join(commands)}</details>"
    return f'<div class="wide"><table>{"".join(lines)}</table></div>{note}{more}'


def named(arm: str, reference: str) -> str:
    return escape(arm) + (' <span class="faint">(reference)</span>' if arm == reference else "")


def plots(values: Values, metrics: Sequence[str], reference: str, title: str) -> str:
    """The plots inline, in one column on a narrow window and in three on others."""
    narrow, wide = (
        inline("image/svg+xml", svg(values, metrics, reference, columns).encode())
        for columns in (1, 3)
    )
    return (
        f'<picture class="plots"><source media="(max-width:{NARROW}px)" srcset="{narrow}">'
        f'<img alt="{escape(f"plots of {title}; the table below has the same numbers")}" src="{wide}"></picture>'
    )


def image_of(curves: Path) -> str:
    """A plot of the trainings inline."""
    source = inline("image/png", curves.read_bytes())
    return f'<p class="plots"><img alt="what the trainings did" src="{source}"></p>'


def further(values: Values, names: Sequence[str], reference: str) -> str:
    """A table of more scores, folded; "" without names."""
    table = scores_table(values, names, reference)
    return f"<details><summary>{len(names)} more scores</summary>{table}</details>" if names else ""


def scores_table(values: Values, names: Sequence[str], reference: str) -> str:
    """Scores with bars, arms in columns; below each the difference from the reference with its interval and p."""
    heads = "".join(f"<th>{named(arm, reference)}</th>" for arm in values)
    lines = [f"<tr><th>metric</th>{heads}</tr>"]
    for name in names:
        ends = [end for of_arm in values.values() for one in [of_arm.get(name)] if one is not None
                for end in (one.value, *(one.ci95 or ())) if end is not None]  # fmt: skip
        top = max([1.0, *ends])
        label = escape(name).replace("/", "/<wbr>").replace("_", "_<wbr>")
        cells = "".join(f"<td>{value_cell(name, of_arm.get(name), top)}</td>" for of_arm in values.values())
        lines.append(f"<tr><td>{label}{arrow(name)}</td>{cells}</tr>")
    width = 7 + 7.5 * len(values)  # rem; arms get equal columns, in which bars can be compared
    style = f'class="scores study-table" style="min-width:{width}rem"'
    return f'<div class="wide"><table {style}>{"".join(lines)}</table></div>'


def value_cell(name: str, one: Value | None, top: float) -> str:
    if one is None or one.value is None:
        return "-"
    bar = score_cell({name: one.value, f"{name}_ci95": one.ci95}, name, top)
    if one.gain_ci95 is None:
        return bar
    css, sign = gain_signs(name, one.gain_ci95)
    return f'{bar}<small class="{css or "faint"}">{sign}{escape(gain_of(one))}</small>'
