"""Logging: a progress bar, log.jsonl, a plot of the losses."""

from __future__ import annotations

import contextlib
import json
import os
import time
from itertools import accumulate
from pathlib import Path
from typing import Any

from tqdm import tqdm

from dataset.atomic import replacing
from engine.checkpoint import Run


class Log(contextlib.AbstractContextManager["Log"]):
    """Writes each entry to log.jsonl, the progress bar and, if asked, wandb. Close it, or use `with`."""

    def __init__(self, run: Run, steps: int, start: int, seconds: float = 0.0, board: Any = None, quiet: bool = False):
        """start: the step that the run resumes from, after so many seconds; later entries of its log are dropped.
        board: of engine/board.py, if any. quiet: write nothing, as on all ranks but the main process."""
        self.path = Path(os.devnull) if quiet else run.log_file
        self.started = time.perf_counter() - seconds
        self.board = board
        _drop_after(self.path, start)
        self.file = open(self.path, "a", encoding="utf-8")  # noqa: SIM115  (closed by close())
        self.bar = tqdm(total=steps, initial=start, desc=run.path.name, unit="step", dynamic_ncols=True, disable=quiet)

    def __exit__(self, *error) -> None:
        self.close()

    def write(self, step: int, **values) -> None:
        """Log one entry; `step` counts finished optimizer steps."""
        entry = {"step": step, **values, "seconds": round(time.perf_counter() - self.started, 2)}
        try:
            self.file.write(json.dumps(entry) + "\n")
            self.file.flush()
        except OSError as error:
            advice = "make it writable or free some space and repeat the command, which resumes the last checkpoint"
            raise OSError(f"{self.path}: step {step} could not be logged ({error}); {advice}") from error
        if self.board:
            self.board.log(values, step=step)

    def advance(self, **shown) -> None:
        """Advance the progress bar by a step and show the values."""
        if shown:
            self.bar.set_postfix(shown, refresh=False)
        self.bar.update()

    def say(self, text: str) -> None:
        if not self.bar.disable:
            self.bar.write(text)

    def close(self) -> None:
        self.bar.close()
        with contextlib.suppress(OSError):  # write() has reported it
            self.file.close()


def _drop_after(path: Path, step: int) -> None:
    """Remove the entries after `step`, which is repeated, and a last line that was cut off by a kill."""
    if path.is_file():
        kept = [entry for entry in read_log(path) if entry["step"] <= step and step > 0]
        with replacing(path) as file:
            file.writelines(json.dumps(entry).encode() + b"\n" for entry in kept)


def read_log(path: Path) -> list[dict]:
    """The entries of a log.jsonl; a torn last line is left out."""
    entries = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            entries.append(json.loads(line))
        except ValueError:
            break
    return entries


def draw_curve(log_file: Path, picture: Path) -> None:
    """Plot a log's losses as a PNG: training (thin: each entry, thick: smoothed) and validation."""
    from matplotlib.figure import Figure

    entries = read_log(log_file)
    train = [(e["step"], e["loss"]) for e in entries if "loss" in e]
    valid = [(e["step"], e["val_loss"]) for e in entries if "val_loss" in e]
    if not train:
        return
    steps, losses = zip(*train, strict=True)
    smoothed = list(accumulate(losses, lambda smooth, loss: 0.85 * smooth + 0.15 * loss))
    figure = Figure(figsize=(7, 4), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    axes.plot(steps, losses, color="tab:blue", alpha=0.3, linewidth=1)
    axes.plot(steps, smoothed, color="tab:blue", label="training (smoothed)")
    if valid:
        axes.plot(*zip(*valid, strict=True), "o-", color="tab:orange", markersize=4, label="validation")
    top = max([*smoothed, *(loss for _, loss in valid)])
    axes.set_ylim(0, max(smoothed[min(3, len(smoothed) - 1)], 0.5 * top) * 1.1 or 1)
    axes.set(xlabel="step", ylabel="loss per supervised token", title=log_file.parent.name)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(picture)
