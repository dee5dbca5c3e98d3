"""What a fine-tuning gains against what it unlearns, arm by arm, and compared at equal gain.

Arms that train in another way may forget less only because they learn less. So an arm is compared with the arm that
trains everything, at the rate at which that one gains as much: between two rates, on the line between their points.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from scoring.metrics import interval, p_value
from scoring.report import aligned
from tools.studies.arms import Tradeoff
from tools.studies.results import Crossed, Difference, Value, gain_of, resamples

DEFINED = 0.9  # of the resamples, for an interval


def kept_at(gain: np.ndarray, gains: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """What is kept where as much is gained as `gain` (R,), on the line through the points (gains, kept), both
    (R, points): at its first such place, NaN (R,) where no part of it reaches so far."""
    found = np.full(len(gain), np.nan)
    for k in range(gains.shape[1] - 1):
        width = gains[:, k + 1] - gains[:, k]
        part = np.divide(gain - gains[:, k], width, out=np.full(len(gain), np.nan), where=width != 0)
        here = np.isnan(found) & (part >= 0) & (part <= 1)
        found[here] = (kept[:, k] + part * (kept[:, k + 1] - kept[:, k]))[here]
    return found


def at_equal_gain(
    table: Mapping[str, Mapping[str, Crossed]], tradeoff: Tradeoff, reference: str
) -> dict[str, tuple[float, float, Value]]:
    """arm -> its gain, its loss (NaN where undefined), and what it keeps more than full training that gains as much, a
    paired difference.

    Full training's line begins at the reference, nothing gained and nothing lost. No difference (None) where it gains
    as much at no rate, or in too few of the resamples.
    """
    weights = resamples(next(iter(table[reference].values())).tops.shape)

    def of_arm(arm: str, metric: str) -> np.ndarray:  # the difference from the reference: as measured, then resampled
        more = Difference(table[arm][metric], table[reference][metric])
        measured = more.value()
        return np.concatenate([[np.nan if measured is None else measured], more.drawn(weights)])

    rates = [reference, *(arm for arm in tradeoff.rates if arm in table)]
    line = [np.stack([of_arm(arm, metric) for arm in rates], 1) for metric in (tradeoff.gained, tradeoff.kept)]
    found = {}
    for arm in table:
        if arm == reference:
            continue
        gain, keeps = of_arm(arm, tradeoff.gained), of_arm(arm, tradeoff.kept)
        more = keeps - kept_at(gain, *line)
        drawn = more[1:][~np.isnan(more[1:])]
        known = arm not in rates and not np.isnan(more[0]) and len(drawn) >= DEFINED * len(more[1:])
        value = Value(more[0], None, more[0], interval(drawn), p_value(drawn)) if known else Value(None, None)
        found[arm] = float(gain[0]), float(keeps[0]), value
    return found


def tradeoff_table(found: Mapping[str, tuple[float, float, Value]], tradeoff: Tradeoff, markdown: bool = False) -> str:
    """A line for each arm: gain, loss, and what it keeps more than full training at equal gain."""
    head = ["arm", f"{tradeoff.gained} gained", f"change of {tradeoff.kept}", "... less full training's at that gain"]
    signed = lambda number: "-" if np.isnan(number) else f"{number:+.3f}"  # noqa: E731
    return aligned([head, *([arm, signed(gain), signed(keeps), gain_of(value)]
                            for arm, (gain, keeps, value) in found.items())], markdown)  # fmt: skip


def draw_tradeoff(file: Path, found: Mapping[str, tuple[float, float, Value]], tradeoff: Tradeoff, title: str) -> None:
    """Plot each arm by gain and loss; a line joins the rates of full training."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.6), dpi=110, layout="constrained")
    axis = figure.subplots()
    line = [(0.0, 0.0), *(found[arm][:2] for arm in tradeoff.rates if arm in found)]
    axis.plot(*zip(*line, strict=True), color="gray", linewidth=1, linestyle="--", label="full training, by rate")
    for number, (arm, (gain, keeps, _)) in enumerate(found.items()):
        axis.plot(gain, keeps, "o" if arm in tradeoff.rates else "D", color=f"C{number}", markersize=8, label=arm)
    axis.axhline(0, color="gray", linewidth=0.6)
    axis.set_xlabel(f"{tradeoff.gained}, gained")
    axis.set_ylabel(f"{tradeoff.kept}, change")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    axis.set_title(title, fontsize=10)
    figure.savefig(file)
