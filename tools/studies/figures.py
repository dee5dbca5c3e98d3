"""The plots of a study: each metric by arm, and hallucination along a caption."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scoring.bars import better
from scoring.hallucination import MENTIONS
from tools.studies.results import Value

Values = Mapping[str, Mapping[str, Value]]  # arm -> metric -> value
WIDTH = 3.9  # inches of a panel
NARROW = 2.7  # of one that stands alone in its row
# In an SVG these two stand for colours that it takes from the reader's light or dark mode.
INK, PAPER = "#1c1d2f", "#fefdfa"
MODES = (
    "<style>svg{--ink:#1c1d20;--paper:#fff}"
    "@media(prefers-color-scheme:dark){svg{--ink:#e6e6e8;--paper:#16171a}}</style>"
)


def draw(file: Path, values: Values, metrics: Sequence[str], reference: str, title: str) -> None:
    """Write the plots as a PNG."""
    figure = _figure(values, metrics, reference, 3, title)
    figure.savefig(file, dpi=110)


def svg(values: Values, metrics: Sequence[str], reference: str, columns: int) -> str:
    """The plots as an SVG of so many columns, in dark ink or, where the reader prefers a dark page, in light."""
    import matplotlib

    colours = dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK)
    buffer = io.StringIO()
    with matplotlib.rc_context({**colours, "svg.hashsalt": "study"}):
        _figure(values, metrics, reference, columns).savefig(
            buffer, format="svg", transparent=True, metadata={"Date": None}
        )
    text = buffer.getvalue()
    start = text.index(">", text.index("<svg ")) + 1
    return (text[:start] + MODES + text[start:]).replace(INK, "var(--ink)").replace(PAPER, "var(--paper)")


def _figure(values: Values, metrics: Sequence[str], reference: str, columns: int, title: str = "") -> Any:
    """A panel for each metric, the arms below one another with their intervals; last, false mentions along a caption.

    A dot is filled where the arm differs from the reference with p < 0.05; a dashed line and a band are the reference's
    value and interval.
    """
    from matplotlib.figure import Figure

    shown = [name for name in metrics if any(name in of_arm for of_arm in values.values())]
    along = any("false_at/1" in of_arm for of_arm in values.values())
    columns = max(1, min(columns, len(shown)))
    rows = -(-len(shown) // columns)
    names = max(map(len, values)) * 0.075  # inches that the names of the arms take
    width = names + columns * (NARROW if columns == 1 else WIDTH)
    across = max(1, int(width / (names + 0.6)))  # names in a row of the legend
    heights = [rows * (0.62 + 0.24 * len(values)), along * (3.0 + 0.2 * -(-len(values) // across))]
    figure = Figure(figsize=(width, sum(heights) + 0.4 * bool(title)), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.1)
    upper, lower = figure.subfigures(2, 1, height_ratios=heights) if along else (figure.subfigures(), None)
    grid = upper.add_gridspec(rows, columns)
    colours = {arm: INK if arm == reference else f"C{number}" for number, arm in enumerate(values)}
    for number, name in enumerate(shown):
        axis = upper.add_subplot(grid[number // columns, number % columns])
        _forest(axis, name, values, reference, colours)
        labels = [f"{arm} (reference)" if arm == reference and len(values) > 1 else arm for arm in values]
        axis.set_yticks(range(len(values)), labels if number % columns == 0 else [""] * len(values), fontsize=9)
    if lower is not None:
        _mentions(lower.add_subplot(), values, colours)
        lower.legend(fontsize=9, frameon=False, ncol=across, loc="outside lower center")
    if title:
        figure.suptitle(title, fontsize=12)
    return figure


def _forest(axis: Any, name: str, values: Values, reference: str, colours: Mapping[str, str]) -> None:
    """One metric: a line for each arm, the reference's value and interval behind all."""
    base = values[reference].get(name)
    if base is not None and base.value is not None and len(values) > 1:
        axis.axvline(base.value, color=INK, linewidth=1, linestyle=(0, (4, 3)), alpha=0.6, zorder=1)
        if base.ci95:
            axis.axvspan(*base.ci95, color=INK, alpha=0.07, linewidth=0, zorder=0)
    for place, (arm, of_arm) in enumerate(values.items()):
        value = of_arm.get(name)
        if value is None or value.value is None:
            continue
        low, high = value.ci95 or (value.value, value.value)
        axis.plot([low, high], [place, place], color=colours[arm], linewidth=2, solid_capstyle="round", zorder=2)
        differs = arm == reference or (value.p is not None and value.p < 0.05)
        axis.plot(value.value, place, "o", color=colours[arm], markerfacecolor=None if differs else PAPER, markersize=7,
                  markeredgewidth=1.6, zorder=3)  # fmt: skip
    axis.set_ylim(len(values) - 0.4, -0.6)
    axis.set_title(f"{name} {better(name)}".strip(), fontsize=10, loc="left")
    axis.margins(x=0.08)
    axis.locator_params(axis="x", nbins=3 if axis.get_gridspec().ncols == 1 else 5)  # on a phone more run together
    _plain(axis, "x")


def _mentions(axis: Any, values: Values, colours: Mapping[str, str]) -> None:
    """The share of hallucinated mentions among the first, second and so on; arms beside one another with intervals."""
    for number, (arm, of_arm) in enumerate(values.items()):
        shift = 0.7 * ((number + 0.5) / len(values) - 0.5)
        points = [(k, of_arm[f"false_at/{k}"]) for k in range(1, MENTIONS + 1) if f"false_at/{k}" in of_arm]
        points = [(k, value) for k, value in points if value.value is not None]
        for k, value in points:
            axis.plot([k + shift] * 2, value.ci95 or [value.value] * 2, color=colours[arm], linewidth=1.6, alpha=0.55)
        axis.plot([k + shift for k, _ in points], [value.value for _, value in points], marker="o", markersize=4,
                  clip_on=False, linewidth=0.9, color=colours[arm], label=arm)  # fmt: skip
    axis.set_title("absent, by number of the mention ↓", fontsize=10, loc="left")
    axis.set_xlabel("mention", fontsize=9)
    axis.set_xticks(range(1, MENTIONS + 1))
    axis.set_xlim(0.5, MENTIONS + 0.5)
    axis.set_ylim(bottom=0)
    for k in range(1, MENTIONS):
        axis.axvline(k + 0.5, color=INK, alpha=0.1, linewidth=0.8)
    _plain(axis, "y")


def _plain(axis: Any, along: str) -> None:
    axis.grid(axis=along, color=INK, alpha=0.12, linewidth=0.8)
    axis.set_axisbelow(True)
    axis.tick_params(labelsize=9, length=0)
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)
    axis.spines["bottom"].set_alpha(0.4)
