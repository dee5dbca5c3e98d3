"""A training run on Weights & Biases: its log, its samples with their pictures, its summary, and how it ended."""

from __future__ import annotations

import contextlib
import signal
import uuid
from collections.abc import Iterator
from typing import Any

from dataset.bad_rows import BadRow
from dataset.pictures import open_picture
from engine.checkpoint import Run, RunError
from engine.inference import Samples

THUMBNAIL = (336, 336)  # pixels


@contextlib.contextmanager
def wandb_run(run: Run, project: str, settings: dict) -> Iterator[Any | None]:
    """A wandb run, resumed under its id when the training run is; None where `project` is empty.

    At its end it is told "finished", or what stopped or failed the training, with the exit status of the command.
    RunError where wandb cannot be used.
    """
    if not project:
        yield None
        return
    board = _start(run, project, settings)
    try:
        yield board
    except BaseException as error:
        stopped = isinstance(error, KeyboardInterrupt)
        board.summary["end"] = f"{'stopped' if stopped else 'failed'}: {error}"
        board.finish(exit_code=128 + getattr(error, "number", signal.SIGINT) if stopped else 1)
        raise
    board.summary["end"] = "finished"
    board.finish(exit_code=0)


def _start(run: Run, project: str, settings: dict) -> Any:
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


def log_samples(board: Any, samples: Samples, step: int) -> None:
    """A table of the samples (inference.write_samples), each with its first picture."""
    import wandb

    columns = ["prompt", "reference", "answer"]
    table = wandb.Table(columns=["picture", *columns])
    for sample, pictures in samples:
        shown = None
        with contextlib.suppress(BadRow):
            for picture in pictures[:1]:
                opened = open_picture(picture)
                opened.thumbnail(THUMBNAIL)
                shown = wandb.Image(opened)
        table.add_data(shown, *(sample[name] for name in columns))
    board.log({"samples": table}, step=step)
