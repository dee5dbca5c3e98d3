"""What a training run keeps of itself between its steps: losses, speed, checkpoints, validations, the best step."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

from engine import distributed
from engine.arguments import Plan
from engine.checkpoint import Run, drop_best, load_best, load_state, save_best, save_state
from engine.log import Log
from engine.optimizer import Optimizer
from model.captioner import Captioner
from model.vlm import VLM

Trainee = VLM | Captioner  # or any module with such a loss()


class NotFiniteError(RuntimeError):
    """A loss or gradient that is no number; the text names the step and the last good checkpoint."""


@dataclass
class Progress:
    """What a run has done so far; part of the checkpoint, so that a resumed run tells the same."""

    tokens: int = 0  # real tokens trained on
    seconds: float = 0.0  # spent on the steps that count
    losses: list[float] = field(default_factory=list)  # since the last entry of the log
    loss: float = math.nan  # mean over the last log interval
    val_loss: float | None = None
    best_loss: float | None = None  # the lowest validation loss, and the step after which it was found
    best_step: int = 0
    worse: int = 0  # validations since then
    stopped: int = 0  # the step after which patience ended; 0: it did not


@dataclass(frozen=True)
class Summary:
    steps: int
    loss: float  # mean over the last log interval
    val_loss: float | None  # of the weights that are kept
    seconds: float  # in every process that worked on the run
    tokens: int  # real tokens trained on
    kept_step: int  # the step whose weights the model has in the end


class Recorder:
    """Resumes a run from its last checkpoint, and saves, logs and stops it as the plan says.

    `start` is the number of steps that the checkpoint holds.
    """

    def __init__(self, run: Run, plan: Plan, model: Trainee, optimizer: Optimizer, log_options: dict):
        self.run, self.plan, self.model, self.optimizer = run, plan, model, optimizer
        self.start, before = load_state(run, model, optimizer)
        self.progress = Progress(**before)
        self._saved = self.start
        self._began = time.perf_counter() - self.progress.seconds
        self._clock, self._counted = time.perf_counter(), self.progress.tokens
        quiet = not distributed.is_main()
        self.log = Log(run, plan.steps, self.start, self.progress.seconds, **log_options, quiet=quiet)
        if self.start:
            self.log.say(f"resuming after step {self.start} of {plan.steps}")

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *error) -> None:
        self.log.close()

    @property
    def last(self) -> int:
        """The number of steps after which the run ends."""
        return self.progress.stopped or self.plan.steps

    def check(self, done: int, loss: float, norm: float) -> None:
        """NotFiniteError where the loss or gradient norm of a step is no number."""
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise self._not_finite(f"step {done}: loss {loss}, gradient norm {norm}")

    def save_if_due(self, step: int) -> None:
        """A checkpoint after `step` steps, made once the loss of these weights is known to be finite."""
        if self._saved < step and step % self.plan.save_interval == 0:
            self._save(step)

    def step(self, done: int, loss: float, norm: float, rate: float, micro_batches: list) -> None:
        """Count and log a step that has been taken."""
        progress = self.progress
        tokens, trained_on = distributed.all_reduce_sum(sum(b.tokens for b in micro_batches), len(micro_batches))
        progress.tokens += int(tokens)
        progress.losses += [loss] if trained_on else []
        shown = {}
        if progress.losses and self._is_due(done, self.plan.log_interval):
            now, progress.loss = time.perf_counter(), sum(progress.losses) / len(progress.losses)
            speed = round((progress.tokens - self._counted) / (now - self._clock))
            self._clock, self._counted, progress.losses = now, progress.tokens, []
            shown = {"loss": f"{progress.loss:.3f}", "tok_s": speed}
            entry = {"loss": progress.loss, "lr": rate, "grad_norm": norm, "tokens_per_s": speed}
            self.log.write(done, **entry, tokens=progress.tokens)
        self.log.advance(**shown)
        progress.seconds = time.perf_counter() - self._began

    def validates(self, done: int) -> bool:
        """Whether a validation is due after so many steps."""
        return self._is_due(done, self.plan.eval_interval)

    def validation(self, done: int, loss: float) -> None:
        """Log a validation loss; keep the weights if it is the lowest so far, stop the run where patience ends."""
        progress, plan = self.progress, self.plan
        progress.val_loss = loss
        if not math.isfinite(loss):
            raise self._not_finite(f"step {done}: validation loss {loss}")
        self.log.write(done, val_loss=loss)
        self.log.say(f"step {done}: loss {progress.loss:.4f}, validation {loss:.4f}")
        if progress.best_loss is not None and loss >= progress.best_loss:
            progress.worse += 1
        else:
            progress.best_loss, progress.best_step, progress.worse = loss, done, 0
            if plan.keep_best:
                save_best(self.run, done, self.model)
        if plan.patience and progress.worse >= plan.patience and done < plan.steps:
            self._stop(done)
        progress.seconds = time.perf_counter() - self._began

    def finish(self) -> Summary:
        """The last checkpoint; with keep_best the model gets the weights of the best step back."""
        progress, end = self.progress, self.last
        if self.start < end:
            self._save(end)
        if not self.plan.keep_best:
            return Summary(end, progress.loss, progress.val_loss, progress.seconds, progress.tokens, end)
        distributed.barrier()  # the file is the main process's
        load_best(self.run, progress.best_step, self.model)
        kept = progress.best_step, progress.best_loss
        return Summary(end, progress.loss, kept[1], progress.seconds, progress.tokens, kept[0])

    def _save(self, step: int) -> None:
        save_state(self.run, step, self.model, self.optimizer, vars(self.progress))
        drop_best(self.run, self.progress.best_step)
        self._saved = step

    def _is_due(self, done: int, interval: int) -> bool:
        return done % interval == 0 or done == self.plan.steps

    def _stop(self, done: int) -> None:
        """Let this step be the last; losses that are not in the log yet are written."""
        progress = self.progress
        progress.stopped = done
        if progress.losses:
            progress.loss, progress.losses = sum(progress.losses) / len(progress.losses), []
            self.log.write(done, loss=progress.loss)
        self.log.say(f"stopped after step {done}: no validation loss below that of step {progress.best_step} since")

    def _not_finite(self, found: str) -> NotFiniteError:
        saved, file = self._saved, self.run.state_file
        kept = f"the state after step {saved} is good and is kept in {file}" if saved else "nothing was saved yet"
        return NotFiniteError(f"{found}; {kept}. Try a lower --learning_rate or --dtype float32, with another --out.")
