"""The curves of a training run: losses smoothed without lag, learning rate and throughput, as a picture."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TypeGuard

from dataset.atomic import replacing
from engine.log import read_log

WINDOW = 20  # a smoothed value is the mean of about so much of a curve: one part in WINDOW
WIDEST = 25  # entries on each side of it, at most
DECADES = 30  # a loss that spans such a factor is plotted on a logarithmic axis
LARGEST = 1e300
LOSSES = ("loss", "val_loss")
Points = list[tuple[int, float]]  # step, value


def points_of(entries: Sequence[dict], name: str) -> Points:
    """What a log's entries say of one value, by step; what is no finite number is left out."""
    return [(e["step"], e[name]) for e in entries if is_number(e.get(name)) and is_number(e.get("step"))]


def smooth(values: Sequence[float]) -> list[float]:
    """Centred moving means of as many values: they lag behind nothing, and a straight line stays as it is.

    The window grows with the number of values and shrinks towards both ends, so that a short curve is hardly changed.
    """
    sums = [0.0]
    for value in values:
        sums.append(sums[-1] + value)
    half = min(WIDEST, len(values) // (2 * WINDOW) + (len(values) >= WINDOW // 2))
    out = []
    for i in range(len(values)):
        side = min(half, i, len(values) - 1 - i)
        out.append((sums[i + side + 1] - sums[i - side]) / (2 * side + 1) if side else values[i])
    return out


def draw_curve(log_file: Path, picture: Path, kept_step: int | None = None) -> None:
    """Plot a log as a PNG, replaced atomically: the loss in training (thin: each entry, thick: smoothed) and in
    validation, the learning rate, tokens a second. Nothing is drawn without a training loss.

    kept_step: the step whose weights the run ends with, which is marked where it is not the last.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter

    entries = read_log(log_file)
    train, valid = (points_of(entries, name) for name in LOSSES)
    if not train:
        return
    below = {"learning rate": points_of(entries, "lr"), "tokens/s": points_of(entries, "tokens_per_s")}
    below = {label: points for label, points in below.items() if points}
    figure = Figure(figsize=(7, 4 + 1.25 * len(below)), dpi=110, layout="constrained")
    heights = [3.2, *(1 for _ in below)]
    axes, *more = figure.subplots(len(heights), sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    steps, losses = zip(*train, strict=True)
    smoothed = smooth(losses)
    marker = "o" if len(train) < 3 else ""
    axes.plot(steps, losses, marker=marker, markersize=3, color="tab:blue", alpha=0.3, linewidth=1)
    label = "training" if smoothed == list(losses) else "training (smoothed)"
    axes.plot(steps, smoothed, color="tab:blue", label=label)
    if valid:
        axes.plot(*zip(*valid, strict=True), "o-", color="tab:orange", markersize=4, label="validation")
    if kept_step is not None and kept_step < steps[-1]:
        axes.axvline(kept_step, color="tab:green", linewidth=1, linestyle="--", label=f"kept: step {kept_step}")
    _scale(axes, smoothed, [loss for _, loss in valid])
    axes.set(ylabel="loss per supervised token", title=log_file.parent.name)
    axes.legend()
    for axis, (label, points) in zip(more, below.items(), strict=True):
        axis.plot(*zip(*points, strict=True), color="tab:gray", linewidth=1.2, marker=marker, markersize=3)
        axis.set_ylim(bottom=0)
        axis.set(ylabel=label)
        axis.yaxis.set_major_formatter(EngFormatter(sep="") if label == "tokens/s" else "{x:g}")
    for axis in (axes, *more):
        axis.grid(alpha=0.3)
    (axes, *more)[-1].set(xlabel="step")
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png")
    with replacing(picture) as file:
        file.write(drawn.getvalue())


def _scale(axes, smoothed: Sequence[float], valid: Sequence[float]) -> None:
    """Limits that show how a loss goes down and not how far up it began: the first tenth may leave the picture."""
    later = [*smoothed[len(smoothed) // 10 :], *valid]
    low, high = min(later), max(later)
    if low > 0 and high > DECADES * low:
        axes.set_yscale("log")
        axes.set_ylim(low / 1.2, min(high, 1e6 * low) * 1.2)
    else:
        axes.set_ylim(0, 1.1 * high or 1)


def is_number(value: object) -> TypeGuard[float]:
    """Whether it is a finite number that a float can hold."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < LARGEST
