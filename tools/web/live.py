"""The curves of a run that is training, from its log.jsonl: loss, validation, learning rate, tokens a second."""

from __future__ import annotations

import html
import io
import time
from pathlib import Path

from engine.checkpoint import Run
from engine.log import read_log

CURVES = (  # title, fields
    ("loss per supervised token", ("loss", "val_loss")),
    ("learning rate", ("lr",)),
    ("tokens a second", ("tokens_per_s",)),
    ("gradient norm", ("grad_norm",)),
)
NAMES = {"loss": "training", "val_loss": "validation"}
COLOURS = ("#2f7ed8", "#e07b1a")
INK = "#888888"  # of axes and text, readable on light and dark
MOST = 600  # points of a curve


def state(run: Run) -> tuple[float, int]:
    """Changes whenever the log does; (0, 0) while there is none."""
    try:
        found = run.log_file.stat()
    except FileNotFoundError:
        return 0.0, 0
    return found.st_mtime, found.st_size


def head_html(run: Run) -> str:
    """Where the run is by now, and how old the last entry of its log is."""
    entries, name = _entries(run), html.escape(str(run.path))
    if not entries:
        return f'<p class="live"><b>{name}</b>: nothing is logged yet</p>'
    told = [f"step {entries[-1]['step']:,}", f"{entries[-1].get('seconds', 0) / 60:.1f} minutes of training"]
    for field in ("loss", "val_loss"):
        value = next((entry[field] for entry in reversed(entries) if field in entry), None)
        if value is not None:
            told.append(f"{NAMES[field]} loss {value:.3f}")
    told.append("finished" if run.is_finished() else f"last entry {_ago(time.time() - state(run)[0])} ago")
    return f'<p class="live"><b>{name}</b>: {" · ".join(told)}</p>'


def curves_html(run: Run) -> str:
    """The curves of the log as SVG figures."""
    entries = _entries(run)
    return f'<div class="charts">{"".join(chart(entries, title, fields) for title, fields in CURVES)}</div>'


def _entries(run: Run) -> list[dict]:
    return read_log(run.log_file) if run.log_file.is_file() else []


def _ago(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} minutes" if seconds < 7200 else (
        f"{seconds / 3600:.0f} hours")  # fmt: skip


def chart(entries: list[dict], title: str, fields: tuple[str, ...]) -> str:
    """A chart of some fields of the log by step as an SVG figure; empty where the log has none of them."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    curves = {field: [(entry["step"], entry[field]) for entry in entries if field in entry] for field in fields}
    curves = {field: _thinned(points) for field, points in curves.items() if points}
    if not curves:
        return ""
    with rc_context({"svg.fonttype": "none", "font.family": "sans-serif", "font.size": 9}):
        figure = Figure(figsize=(5, 2.6), layout="constrained")
        axes = figure.add_subplot()
        for (field, points), colour in zip(curves.items(), COLOURS, strict=False):
            style = "o-" if len(points) < 40 else "-"
            axes.plot(*zip(*points, strict=True), style, color=colour, markersize=3, linewidth=1.3,
                      label=NAMES.get(field, field))  # fmt: skip
        axes.set_title(title, color=INK, fontsize=10)
        axes.set_xlabel("step", color=INK)
        axes.tick_params(colors=INK)
        for spine in axes.spines.values():
            spine.set_color(INK)
        axes.grid(alpha=0.25, color=INK)
        if len(curves) > 1:
            axes.legend(frameon=False, labelcolor=INK)
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True)
    svg = file.getvalue()
    return f'<figure aria-label="{html.escape(title, quote=True)}">{svg[svg.index("<svg") :]}</figure>'


def _thinned(points: list) -> list:
    """At most about MOST of the points, evenly spaced, the last among them."""
    step = -(-len(points) // MOST)
    return points[::step] if (len(points) - 1) % step == 0 else [*points[::step], points[-1]]


def opened(folder: Path) -> Run:
    """The run in a folder; RunError unless one was begun there."""
    run = Run(folder)
    run.record()
    return run
