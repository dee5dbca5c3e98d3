"""Logging: a progress bar, log.jsonl, a plot of the losses, wandb."""

from __future__ import annotations

import contextlib
import json
import os
import time
import uuid
from itertools import accumulate
from pathlib import Path

from tqdm import tqdm

from dataset.atomic import replacing
from engine.checkpoint import Run, RunError


class Log(contextlib.AbstractContextManager["Log"]):
    """Writes each entry to log.jsonl, the progress bar and, if asked, wandb. Close it, or use `with`."""

    def __init__(
        self, run: Run, steps: int, start: int, seconds: float = 0.0,
        wandb_project: str = "", settings: dict | None = None, quiet: bool = False,
    ):  # fmt: skip
        """start: the step that the run resumes from, after so many seconds; later entries of its log are dropped.
        quiet: write nothing, as on all ranks but the main process."""
        self.path = Path(os.devnull) if quiet else run.log_file
        self.started = time.perf_counter() - seconds
        self.wandb = _start_wandb(run, wandb_project, settings) if wandb_project and not quiet else None
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
        if self.wandb:
            self.wandb.log(values, step=step)

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
        if self.wandb:
            self.wandb.finish()


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


def _start_wandb(run: Run, project: str, settings: dict | None):
    """A wandb run, resumed under its id when the training run is. RunError where wandb cannot be used."""
    try:
        import wandb
    except ImportError as error:
        raise RunError(f"--use_wandb: {error}; pip install wandb, or leave the flag out") from error
    file = run.path / "wandb_id.txt"
    if not file.is_file() or not file.read_text():
        file.write_text(uuid.uuid4().hex[:8])
    name, run_id = run.path.name, file.read_text()
    try:
        return wandb.init(project=project, name=name, id=run_id, resume="allow", dir=run.path, config=settings)
    except wandb.errors.Error as error:
        raise RunError(f"--use_wandb: {error}; log in, set WANDB_MODE=offline, or leave the flag out") from error


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
