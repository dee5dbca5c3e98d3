"""Logging: a progress bar, log.jsonl, and the curves redrawn while a run trains."""

from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path
from typing import Any

from tqdm import tqdm

from dataset.atomic import replacing
from engine.checkpoint import Run

REDRAWN = 60.0  # seconds between two drawings of the curves, at least
SHARE = 0.01  # of the time that may be spent on them


class Log(contextlib.AbstractContextManager["Log"]):
    """Writes each entry to log.jsonl, the progress bar and, if asked, wandb. Close it, or use `with`."""

    def __init__(self, run: Run, steps: int, start: int, seconds: float = 0.0, board: Any = None, quiet: bool = False):
        """start: the step that the run resumes from, after so many seconds; later entries of its log are dropped.
        board: of engine/board.py, if any. quiet: write nothing, as on all ranks but the main process."""
        self.path = Path(os.devnull) if quiet else run.log_file
        self.started = time.perf_counter() - seconds
        self.board = board
        self.curve = None if quiet else run.path / "loss.png"
        self._redraw_at = time.perf_counter() + REDRAWN
        self._drawn = True  # all that has been written
        _drop_after(self.path, start)
        self.file = open(self.path, "a", encoding="utf-8")  # noqa: SIM115  (closed by close())
        self.bar = tqdm(total=steps, initial=start, desc=run.path.name, unit="step", dynamic_ncols=True, disable=quiet)

    def __exit__(self, *error) -> None:
        self.close()

    def write(self, step: int, **values) -> None:
        """Log one entry; `step` counts finished optimizer steps."""
        self._drawn = False
        entry = {"step": step, **values, "seconds": round(time.perf_counter() - self.started, 2)}
        try:
            self.file.write(json.dumps(entry) + "\n")
            self.file.flush()
        except OSError as error:
            advice = "make it writable or free some space and repeat the command, which resumes the last checkpoint"
            raise OSError(f"{self.path}: step {step} could not be logged ({error}); {advice}") from error
        if self.board:
            self.board.log(values, step=step)
        if time.perf_counter() > self._redraw_at:
            self.draw()

    def draw(self) -> None:
        """Draw the curves if something was written since; says so where that fails, which does not end the training."""
        if self.curve is None or self._drawn:
            return
        from engine.curves import draw_curve  # with matplotlib, which takes a second

        began = time.perf_counter()
        try:
            draw_curve(self.path, self.curve)
            self._drawn = True
        except (ImportError, OSError) as error:
            self.say(f"{self.curve} cannot be drawn: {error}")
        took = time.perf_counter() - began
        self._redraw_at = time.perf_counter() + max(REDRAWN, took / SHARE)

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
