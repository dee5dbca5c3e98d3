"""Plots of a study over its trainings: accuracy by epoch, and the loss at each step with the ends of the epochs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import ceil
from pathlib import Path
from statistics import fmean
from typing import Any

from engine.checkpoint import Run
from engine.curves import points_of, smooth

Point = Mapping[str, float]
WINDOW = 0.25  # of an epoch, at each of its ends


def epoch_steps(run: Run) -> int:
    """The steps of an epoch, of a run in batches of --batch_size."""
    settings, (samples, *_) = run.record()["settings"], run.facts()["samples, tokens, supervised"]
    return max(ceil(samples / settings["batch_size"]) // settings["accumulation_steps"], 1)


def boundaries(entries: Sequence[dict], epoch: int) -> list[dict[str, float]]:
    """What the loss does at the end of each epoch but the last, of a log with an entry for each step.

    jump: the mean loss over the first quarter of the next epoch less that over the last quarter of this one.
    within: the same mean at this one's end less that at its beginning.
    """
    losses = dict(points_of(entries, "loss"))
    width = max(round(WINDOW * epoch), 1)

    def after(step: int) -> float:
        return fmean(losses[step + k] for k in range(1, width + 1))

    last = max(losses, default=0)
    return [
        {"step": end, "jump": after(end) - after(end - width), "within": after(end - width) - after(end - epoch)}
        for end in range(epoch, last - width + 1, epoch)
    ]


def draw_curves(file: Path, rows: Sequence[Mapping[str, Any]], title: str) -> bool:
    """Plot the curves of the rows, an arm in each column; whether there were any to plot.

    Points by "epoch" are drawn as mean and range over the seeds; points by "step" as the loss of each seed, smoothed,
    within each epoch, with lines where they end.
    """
    arms = {arm: {row["seed"]: row["curve"] for row in rows if row["arm"] == arm and row.get("curve")}
            for arm in dict.fromkeys(row["arm"] for row in rows)}  # fmt: skip
    arms = {arm: curves for arm, curves in arms.items() if curves}
    if not arms:
        return False
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.8 * len(arms), 4.2), dpi=110, layout="constrained")
    axes = figure.subplots(1, len(arms), sharey=True, squeeze=False)[0]
    for axis, (arm, curves) in zip(axes, arms.items(), strict=True):
        by_epoch = "epoch" in next(iter(curves.values()))[0]
        if by_epoch:
            _by_epoch(axis, list(curves.values()))
        else:
            _by_step(axis, curves)
        axis.set_title(arm, fontsize=10)
        axis.set_xlabel("epoch" if by_epoch else "step")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("share named right" if by_epoch else "loss per supervised token")
    axes[0].legend(fontsize=8)
    figure.suptitle(title, fontsize=11)
    figure.savefig(file)
    return True


def _by_epoch(axis, curves: Sequence[Sequence[Point]]) -> None:
    names = [name for name in curves[0][0] if name not in ("epoch", "step")]
    epochs = [point["epoch"] for point in curves[0]]
    for number, name in enumerate(names):
        values = [[curve[k][name] for curve in curves if k < len(curve)] for k in range(len(epochs))]
        axis.plot(epochs, [fmean(some) for some in values], marker="o", markersize=4, color=f"C{number}", label=name,
                  linestyle="--" if name == "train" else "-")  # fmt: skip
        axis.fill_between(epochs, [min(some) for some in values], [max(some) for some in values], color=f"C{number}",
                          alpha=0.15)  # fmt: skip
    axis.set_ylim(-0.02, 1.02)


def _by_step(axis, curves: Mapping[int, Sequence[Point]]) -> None:
    for number, (seed, curve) in enumerate(curves.items()):
        ends = [0, *(k for k, point in enumerate(curve, 1) if point.get("end")), len(curve)]
        steps, losses = [point["step"] for point in curve], [point["loss"] for point in curve]
        axis.plot(steps, losses, linewidth=0.6, alpha=0.35, color=f"C{number}")
        for start, end in pairwise(ends):
            axis.plot(steps[start:end], smooth(losses[start:end]), linewidth=1.3, color=f"C{number}",
                      label="" if start else f"seed {seed}")  # fmt: skip
        for end in () if number else ends[1:-1]:
            axis.axvline(steps[end - 1] + 0.5, color="gray", linewidth=0.8, linestyle=":")
