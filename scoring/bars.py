"""Scores for HTML pages: bars with intervals, and what of an answer's own scores is an error to filter by."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TypeGuard

from dataset.htmlpage import escape
from dataset.picturebook.questions import SAMPLINGS
from scoring.metrics import SampleScores
from scoring.report import cell, columns_of, table_names
from scoring.statements import TYPES

# Metrics of which a high value is bad.
WORST_HIGH = ("chair_i", "chair_s", "contradiction_share", "loop_share", "unscored_share", "pope_unparsable",
              "distance from training pictures", "false_per_100_tokens", "absent_per_100_tokens", "false_first",
              "false_at", "later_less_earlier", "chair_first", "chair_to_half", "amber_hal", "amber_cog")  # fmt: skip
# What a page shows first; the rest is folded.
LEADING = ("statement_accuracy", "caption_true_share", "contradiction_share", "chair_i", "chair_s", "f1",
           *(f"pope_accuracy/{sampling}" for sampling in SAMPLINGS), "vqa_accuracy", "exact", "contains", "cider",
           "bleu_4", "cider_d", "rouge_l", "meteor", "mean_length", "stopped_share", "loop_share")  # fmt: skip
BEST_HIGH = re.compile(
    r"(bleu|cider|rouge|meteor|exact|contains).*|.*(accuracy|accuracy_many|_exact|f1|_true_share)"
    r"|precision|recall|colour_binding|stopped_share|cover_first|reached_half|amber_cover"
)
SORTED = ("chair_i", "statement_accuracy", "f1", "recall", "colour_binding", "cider_d", "rouge_l", "contains", "exact",
          "vqa_accuracy", "pope_accuracy", "mean_length")  # fmt: skip
ANY = "any error"
FAR = 0.1  # an answer whose CIDEr-D is less has next to nothing in common with its references


def score_bars(columns: Mapping[str, Mapping[str, object]]) -> str:
    """An HTML table of the scores of report.score_table: each with its interval, as a number and as a bar.

    The LEADING ones come first, the others are folded. A bar's full length is 1, or the row's highest value where that
    is more. An arrow says whether up or down is better.
    """
    columns = columns_of(columns)
    names = table_names(columns)
    leading = [name for name in names if name in LEADING] or names
    others = [name for name in names if name not in leading]
    more = f"<details><summary>{len(others)} more scores</summary>{_table(columns, others)}</details>" if others else ""
    return _table(columns, leading) + more


def _table(columns: Mapping[str, Mapping[str, object]], names: Sequence[str]) -> str:
    rows = ["<tr><th>metric</th>" + "".join(f"<th>{escape(title)}</th>" for title in columns) + "</tr>"]
    for name in names:
        cells = "".join(f"<td>{score_cell(metrics, name, _top(columns, name))}</td>" for metrics in columns.values())
        label = escape(name).replace("/", "/<wbr>").replace("_", "_<wbr>")
        rows.append(f"<tr><td>{label}{arrow(name)}</td>{cells}</tr>")
    return f'<div class="wide"><table class="scores two">{"".join(rows)}</table></div>'


def score_cell(metrics: Mapping[str, object], name: str, top: float = 1.0) -> str:
    """A score with its interval, and a bar of which `top` is the full length."""
    text = escape(cell(metrics, name))
    value, interval = metrics.get(name), metrics.get(f"{name}_ci95")
    if not _is_number(value) or isinstance(value, int) or value < 0 or name.startswith("gain_") or top <= 0:
        return text
    ends = ""
    if isinstance(interval, Sequence) and len(interval) == 2 and all(map(_is_number, interval)):
        low, high = (100 * min(max(end / top, 0.0), 1.0) for end in interval)
        ends = f'<b style="left:{low:.1f}%;width:{high - low:.1f}%"></b>'
    return f'{text}<span class="bar"><i style="width:{100 * min(value / top, 1.0):.1f}%"></i>{ends}</span>'


def arrow(name: str) -> str:
    """better() as HTML."""
    way = better(name)
    return way and f' <span class="faint" title="{"lower" if way == "↓" else "higher"} is better">{way}</span>'


def better(name: str) -> str:
    """Which way of a metric is better: ↑, ↓, or nothing where neither is."""
    plain = name.removeprefix("blank_").removeprefix("question_").removeprefix("forced_").split("/")[0]
    return "↓" if plain in WORST_HIGH else "↑" if BEST_HIGH.fullmatch(plain) else ""


def gain_signs(name: str, ci95: Sequence[float]) -> tuple[str, str]:
    """Of a difference with this interval: the CSS class good or bad, and a triangle; "" where the interval holds 0."""
    low, high = ci95
    if low <= 0 <= high:
        return "", ""
    css = {"": "", "↑": ("good", "bad")[low < 0], "↓": ("bad", "good")[low < 0]}[better(name)]
    return css, "▼ " if low < 0 else "▲ "


def _top(columns: Mapping[str, Mapping[str, object]], name: str) -> float:
    found: list[float] = [1.0]
    for metrics in columns.values():
        for value in (metrics.get(name), *(metrics.get(f"{name}_ci95") or ())):  # type: ignore[misc]
            found += [float(value)] if _is_number(value) else []
    return max(found)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def error_tags(scores: SampleScores) -> tuple[str, ...]:
    """What is wrong with an answer by its own scores, ANY first: kinds of false statements, wrong answers, its form."""

    def missed(name: str) -> bool:
        top, bottom = scores.get(name, (0, 0))
        return top < bottom

    tags = [f"false: {kind}" for kind in TYPES if missed(f"statement_accuracy/{kind}")]
    tags += ["contradicts itself"] if scores.get("contradiction_share", (0, 1))[0] else []
    tags += ["names what no human named"] if "cider_d" in scores and scores.get("chair_i", (0, 1))[0] else []
    tags += ["POPE wrong"] if missed("pope_accuracy") else []
    parts = [name for name in scores if name.startswith(("vqa_accuracy/", "contains/")) and missed(name)
             and name != "vqa_accuracy/turn1"]  # fmt: skip
    tags += [f"wrong: {name.split('/', 1)[1]}" for name in parts]
    if "cider_d" in scores:
        tags += [f"CIDEr-D below {FAR}"] if scores["cider_d"][0] < FAR * scores["cider_d"][1] else []
    elif not parts and missed("contains"):
        tags.append("reference not contained")
    for prefix in ("", "question_"):
        tags += ["loops"] if scores.get(f"{prefix}loop_share", (0, 1))[0] else []
        tags += ["cut off"] if missed(f"{prefix}stopped_share") else []
    return (ANY, *dict.fromkeys(tags)) if tags else ()


def sort_values(scores: SampleScores) -> dict[str, float]:
    """The scores of one answer that a list can be sorted by, where they are defined."""
    return {name: scores[name][0] / scores[name][1] for name in SORTED if scores.get(name, (0, 0))[1]}
