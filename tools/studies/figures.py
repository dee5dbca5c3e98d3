"""The plots of a study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from scoring.hallucination import MENTIONS
from tools.studies.results import Value

Values = Mapping[str, Mapping[str, Value]]  # arm -> metric -> value


def draw(file: Path, values: Values, metrics: Sequence[str], title: str) -> None:
    """A panel for each metric, arms one below another with their intervals; last, hallucination along a caption."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    shown = [name for name in metrics if any(name in of_arm for of_arm in values.values())]
    along = any("false_at/1" in of_arm for of_arm in values.values())
    count = len(shown) + along
    rows, columns = -(-count // 3), min(count, 3)
    size = 4.6 * columns, rows * (1 + 0.32 * len(values))
    figure, axes = pyplot.subplots(rows, columns, figsize=size, squeeze=False)
    panels = iter(axes.flat)
    colours = {arm: f"C{number}" for number, arm in enumerate(values)}
    for name in shown:
        axis = next(panels)
        for place, (arm, of_arm) in enumerate(values.items()):
            value = of_arm.get(name)
            if value is None or value.value is None or value.ci95 is None:
                continue
            low, high = value.ci95
            error = [[max(value.value - low, 0)], [max(high - value.value, 0)]]
            axis.errorbar(value.value, place, xerr=error, fmt="o", color=colours[arm], capsize=3)
        axis.set_yticks(range(len(values)), values if axis.get_subplotspec().is_first_col() else [""] * len(values))
        axis.invert_yaxis()
        axis.set_title(name, fontsize=10)
        axis.grid(axis="x", alpha=0.3)
    if along:
        axis = next(panels)
        for arm, of_arm in values.items():
            points = [(k, of_arm[f"false_at/{k}"].value) for k in range(1, MENTIONS + 1) if f"false_at/{k}" in of_arm]
            points = [(k, value) for k, value in points if value is not None]
            if points:
                axis.plot(*zip(*points, strict=True), marker="o", markersize=3, color=colours[arm], label=arm)
        axis.set_title("absent, by number of the mention", fontsize=10)
        axis.set_xlabel("mention")
        if axis.lines:
            axis.legend(fontsize=7)
    for axis in panels:
        axis.set_axis_off()
    figure.suptitle(title, fontsize=11)
    figure.tight_layout()
    figure.savefig(file, dpi=110)
    pyplot.close(figure)
