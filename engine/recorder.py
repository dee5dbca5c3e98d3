"""What happens between the steps of a training run: log, checkpoints, validation, early stopping."""

from __future__ import annotations

import contextlib
import math
import signal
import time
from dataclasses import dataclass, field
from typing import Any

from torch.optim import Optimizer

from engine import distributed
from engine.arguments import TrainArguments
from engine.checkpoint import Run, drop_best, load_best, load_state, save_best, save_state
from engine.device import DTYPES, autocast
from engine.finite import ADVICE, NotFiniteError, first_not_finite, part_of
from engine.log import Log
from engine.signals import Interrupted, Postponed
from model.captioner import Captioner
from model.vlm import VLM

Trainee = VLM | Captioner  # or any module with such a loss()
SAVE_SECONDS = 120.0  # a checkpoint is due after so long, if not earlier by its interval


@dataclass
class Progress:
    """What a run has done so far; part of the checkpoint, so that a resumed run reports the same."""

    tokens: int = 0  # real tokens trained on
    seconds: float = 0.0  # spent on these steps
    losses: list[float] = field(default_factory=list)  # since the last log entry
    loss: float = math.nan  # mean over the last log interval
    val_loss: float | None = None
    best_loss: float | None = None  # the lowest validation loss, that of step best_step
    best_step: int = 0
    worse: int = 0  # validations since then
    stopped: int = 0  # the step at which early stopping ended the run; 0: it did not

    def take_loss(self) -> float:
        """The mean loss since the last log entry, which now begins anew."""
        self.loss, self.losses = sum(self.losses) / len(self.losses), []
        return self.loss


@dataclass(frozen=True)
class Summary:
    steps: int
    loss: float  # mean over the last log interval
    val_loss: float | None  # of the weights that are kept
    seconds: float  # of all attempts together
    tokens: int  # real tokens trained on
    kept_step: int  # the step whose weights the model ends with


class Recorder(contextlib.AbstractContextManager["Recorder"]):
    """Resumes a run from its last checkpoint, taken after step `start`; saves, logs and stops it as the plan says."""

    def __init__(self, run: Run, plan: TrainArguments, model: Trainee, optimizer: Optimizer, board: Any = None):
        self.run, self.plan, self.model, self.optimizer = run, plan, model, optimizer
        self.start, before = load_state(run, model, optimizer)
        self.progress = Progress(**before)
        self._saved, self._saved_at = self.start, time.perf_counter()
        self._late = self._stopping = False  # a checkpoint is due by time; a signal asks to stop: in any of the ranks
        self._signals = Postponed()
        self._began = time.perf_counter() - self.progress.seconds
        self._clock = self._stepped = time.perf_counter()
        self._counted = self.progress.tokens
        self.log = Log(run, plan.steps, self.start, self.progress.seconds, board, quiet=not distributed.is_main())
        if self.start:
            self.log.say(f"resuming after step {self.start} of {plan.steps}")

    def __enter__(self) -> Recorder:
        self._signals.__enter__()
        return self

    def __exit__(self, *error) -> None:
        self._signals.__exit__(*error)
        if error != (None, None, None):
            self.log.draw()  # the trainer draws the curves of a finished run
        self.log.close()
        if self._signals.noted and error == (None, None, None):  # during the last step
            raise self._interrupted(self.last)

    @property
    def last(self) -> int:
        """The step at which the run ends."""
        return self.progress.stopped or self.plan.steps

    def check(self, step: int, loss: float, norm: float, micro_batches: list) -> None:
        """Raise NotFiniteError unless the loss and gradient norm after `step` steps are finite; else save a checkpoint
        if one is due, so that weights are saved only once their loss is known to be finite. Then heed signals."""
        if not (math.isfinite(loss) and math.isfinite(norm)):
            name = "" if math.isfinite(loss) else self._first_not_finite(micro_batches)
            raise self._not_finite(f"step {step + 1}: loss {loss}, gradient norm {norm}", name, changed=step > 0)
        if self._saved < step and (step % self.plan.save_interval == 0 or self._late or self._stopping):
            self._save(step)
        if self._stopping:
            raise self._interrupted(step)

    def step(self, done: int, loss: float, norm: float, rate: float, micro_batches: list) -> None:
        """Count and log a finished step."""
        progress = self.progress
        late = distributed.is_main() and time.perf_counter() - self._saved_at > SAVE_SECONDS
        tokens, trained_on, late_ranks, stopping = distributed.all_reduce_sum(
            sum(b.tokens for b in micro_batches), len(micro_batches), late, self._signals.noted
        )
        self._late, self._stopping = late_ranks > 0, stopping > 0
        progress.tokens += int(tokens)
        progress.losses += [loss] if trained_on else []
        shown = {}
        if progress.losses and self.is_due(done, self.plan.log_interval):
            now, loss = time.perf_counter(), progress.take_loss()
            speed = round((progress.tokens - self._counted) / (now - self._clock))
            shown = {"loss": f"{loss:.3f}", "tok_s": speed}
            self.log.write(done, loss=loss, lr=rate, grad_norm=norm, tokens_per_s=speed, tokens=progress.tokens)
            self._clock, self._counted = time.perf_counter(), progress.tokens
        self.log.advance(**shown)
        self._stepped = time.perf_counter()
        progress.seconds = self._stepped - self._began

    def validation(self, done: int, loss: float) -> None:
        """Log a validation loss; save the weights if it is the lowest so far, stop the run if patience is exhausted."""
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
            if plan.keep == "best":
                save_best(self.run, done, self.model)
        if plan.patience and progress.worse >= plan.patience and done < plan.steps:
            progress.stopped = done
            if progress.losses:  # since the last entry
                self.log.write(done, loss=progress.take_loss())
            self.log.say(f"stopped after step {done}: no validation loss below that of step {progress.best_step} since")
        self._clock += time.perf_counter() - self._stepped  # so that tokens per second are those of training
        progress.seconds = time.perf_counter() - self._began

    def finish(self) -> Summary:
        """Save the last checkpoint; with keep_best, load the weights of the best step into the model."""
        progress, end = self.progress, self.last
        if self.start < end:
            self._save(end)
        kept, val_loss = end, progress.val_loss
        if self.plan.keep == "best":
            distributed.barrier()  # the main process writes the file
            kept, val_loss = progress.best_step, progress.best_loss
            load_best(self.run, kept, self.model)
        if distributed.is_main():
            self.run.previous_file.unlink(missing_ok=True)
        return Summary(end, progress.loss, val_loss, progress.seconds, progress.tokens, kept)

    def _save(self, step: int) -> None:
        began = time.perf_counter()
        save_state(self.run, step, self.model, self.optimizer, vars(self.progress))
        drop_best(self.run, self.progress.best_step)
        self._saved, self._saved_at = step, time.perf_counter()
        self._clock += self._saved_at - began

    def is_due(self, done: int, interval: int) -> bool:
        """Whether something done every `interval` steps, and at the last one, is due after step `done`."""
        return done % interval == 0 or done == self.plan.steps

    def _interrupted(self, step: int) -> Interrupted:
        kept = f"stopped after step {step} of {self.plan.steps}, which is kept in {self.run.state_file}"
        return Interrupted(f"{kept}; repeat the command to resume from there", self._signals.noted or signal.SIGTERM)

    def _first_not_finite(self, micro_batches: list) -> str:
        def again() -> None:
            for batch in distributed.in_lockstep(self.model, micro_batches):
                with autocast(batch.ids.device, DTYPES[self.plan.dtype]):
                    self.model.loss(batch)

        return first_not_finite(self.model, again)

    def _not_finite(self, found: str, name: str = "", changed: bool = True) -> NotFiniteError:
        """name: of the first module whose output is not finite. changed: whether a step was taken before."""
        if name and (not changed or (name.startswith("vision") and not getattr(self.model, "trains_vision", True))):
            return NotFiniteError(
                f"{found}: the output of the {part_of(name)} is not finite ({name}), and training has not changed "
                f"what it is computed from, so the learning rate is not at fault; {ADVICE}"
            )
        saved, file = self._saved, self.run.state_file
        kept = f"the state after step {saved} is good and is kept in {file}" if saved else "nothing was saved yet"
        return NotFiniteError(f"{found}; {kept}. Try a lower --learning_rate or --dtype float32, with another --out.")
