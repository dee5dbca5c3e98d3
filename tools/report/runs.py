"""What lies in a folder of runs: the runs, whatever their state, files of scores, pages. Any file may be damaged."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.checkpoint import Run, RunError
from engine.curves import is_number, points_of, smooth
from engine.log import read_log
from engine.recipe import CHAIN
from model.checkpoints.files import WeightsError, read_json
from scoring.pagelinks import run_of

DEPTH = 5  # folders below the one asked for
LEFT_OUT = ("cache", "wandb", "samples")
TRACES = ("log.jsonl", "config.json", "training_state.safetensors", "finished.json")  # of a run that lost its run.json
LARGEST = 4 << 20  # bytes of a file of scores
POINTS = 400  # of a curve, at most
SAMPLE = ("id", "prompt", "reference", "answer")
Curve = list[tuple[float, float, float, float]]  # step, tokens, seconds, loss


@dataclass
class FoundRun:
    """A run's folder, as far as it can be read."""

    path: Path
    name: str  # relative to the folder asked for
    anchor: str = ""  # of its section on the page
    state: str = "unfinished"  # or finished, broken
    problem: str = ""  # why it is broken
    settings: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    entries: list[dict] = field(default_factory=list)  # of the log
    samples: list[dict[str, str]] = field(default_factory=list)

    @property
    def changed(self) -> float:
        """When its log or summary was last written, in seconds since 1970."""
        times = [file.stat().st_mtime for name in ("finished.json", "log.jsonl", "run.json")
                 if (file := self.path / name).is_file()]  # fmt: skip
        return max(times, default=0.0)

    @property
    def step(self) -> int:
        """How far it came: what its summary says, else its log."""
        steps = [entry["step"] for entry in (*self.entries, {"step": self.summary.get("steps")})
                 if isinstance(entry.get("step"), int)]  # fmt: skip
        return max(steps, default=0)

    def last(self, name: str) -> float | None:
        """The last value of that name in the log."""
        points = points_of(self.entries, name)
        return points[-1][1] if points else None

    def curve(self, name: str) -> Curve:
        """A loss by step, tokens and seconds, POINTS at most; that of training smoothed."""
        curve: Curve = []
        tokens = seconds = 0.0
        for entry in self.entries:
            tokens, seconds = (
                float(points[0][1]) if (points := points_of([entry], axis)) else before
                for axis, before in (("tokens", tokens), ("seconds", seconds))
            )
            curve += [(float(step), tokens, seconds, float(value)) for step, value in points_of([entry], name)]
        if name == "loss":
            smoothed = smooth([point[3] for point in curve])
            curve = [(*point[:3], value) for point, value in zip(curve, smoothed, strict=True)]
        stride = max(1, math.ceil(len(curve) / POINTS))
        return [*curve[:-1:stride], curve[-1]] if curve else []


@dataclass(frozen=True)
class Scores:
    """A file of scores as eval_vlm.py --scores writes it."""

    path: Path
    name: str  # relative to the folder asked for
    run: str  # the path of the run that was scored
    count: int
    metrics: dict[str, Any]


@dataclass
class Found:
    runs: list[FoundRun] = field(default_factory=list)  # in_order
    scores: list[Scores] = field(default_factory=list)
    pages: list[Path] = field(default_factory=list)  # about a run
    empty: list[str] = field(default_factory=list)  # folders with nothing in them


def find(root: Path) -> Found:
    """All that lies in a folder and DEPTH folders below; caches and what wandb keeps are passed over."""
    found = Found()
    for folder in _folders(root):
        name = folder.relative_to(root).as_posix()
        try:
            inside = sorted(folder.iterdir())
            files = {file.name: file for file in inside if file.is_file()}
        except OSError as error:  # it may not be read
            found.runs.append(FoundRun(folder, name, state="broken", problem=f"{error}"))
            continue
        if "run.json" in files or len([trace for trace in TRACES if trace in files]) > 1:
            found.runs.append(read_run(folder, root.resolve().name if name == "." else name))
        if not inside:
            found.empty.append(name)
        found.scores += [one for file in files.values() if file.suffix == ".json" and (one := read_scores(file, root))]
        found.pages += [file.resolve() for file in files.values() if file.suffix == ".html" and run_of(file)]
    found.runs = in_order(found.runs)
    found.scores.sort(key=lambda one: natural(one.name))
    for number, run in enumerate(found.runs):
        run.anchor = f"run-{number}"
    return found


def in_order(runs: list[FoundRun]) -> list[FoundRun]:
    """The runs of a folder together, the earliest folder first; in it the stages as they follow on each other, then
    runs of other names, the earliest first."""
    begun: dict[Path, float] = {}
    for run in runs:
        begun[run.path.parent] = min(run.changed, begun.get(run.path.parent, math.inf))

    def place(run: FoundRun) -> tuple:
        stage = CHAIN.index(run.path.name) if run.path.name in CHAIN else len(CHAIN)
        return begun[run.path.parent], str(run.path.parent), stage, run.changed, natural(run.name)

    return sorted(runs, key=place)


def natural(name: str) -> list[tuple[int, str]]:
    """A key to sort names by that puts run2 before run10."""
    return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"(\d+)", name)]


def _folders(root: Path) -> Iterator[Path]:
    for path, names, _ in os.walk(root):
        folder = Path(path)
        deep = len(folder.relative_to(root).parts) >= DEPTH
        names[:] = [] if deep else sorted(n for n in names if n not in LEFT_OUT and not n.startswith("."))
        yield folder


def read_run(folder: Path, name: str) -> FoundRun:
    """The run in a folder; one that cannot be read as a run is broken, and says why."""
    run = FoundRun(folder, name)
    try:
        run.entries = [entry for entry in read_log(folder / "log.jsonl") if isinstance(entry, dict)]
        run.samples = read_samples(folder / "samples.json")
    except FileNotFoundError:
        pass
    except (OSError, RecursionError, ValueError, WeightsError) as error:
        run.problem = f"{error}"
    try:
        run.settings = Run(folder).record().get("settings", {})
        if (folder / "finished.json").is_file():
            run.summary, run.state = read_json(folder / "finished.json"), "finished"
    except (OSError, RunError, WeightsError) as error:
        run.problem = f"{error}"
    if run.problem:
        run.state = "broken"
    return run


def read_samples(file: Path) -> list[dict[str, str]]:
    """The samples of a run; those that are none are left out."""
    held = read_json(file).get("samples", []) if file.is_file() else []
    rows = [row for row in held if isinstance(row, dict)] if isinstance(held, list) else []
    return [row for row in rows if all(isinstance(row.get(key), str) for key in SAMPLE)]


def read_scores(file: Path, root: Path) -> Scores | None:
    """The scores in a JSON file, without what is no score; None for any other file."""
    try:
        if file.stat().st_size > LARGEST:
            return None
        held = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(held, dict) or not isinstance(held.get("metrics"), dict):
        return None
    metrics = {str(name): value for name, value in held["metrics"].items() if _is_score(value)}
    count = held.get("n")
    name = file.relative_to(root).as_posix()
    return Scores(file, name, str(held.get("checkpoint", "")), count if isinstance(count, int) else 0, metrics)


def _is_score(value: Any) -> bool:
    """A number, None, or an interval of two numbers."""
    if isinstance(value, list):
        return len(value) == 2 and all(map(is_number, value))
    return value is None or is_number(value)
