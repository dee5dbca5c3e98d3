"""A run's folder: settings, weights, training state, log, and the file that marks it as finished.

run.json               the settings, and fingerprints of what else the run depends on; written first
training_state.safetensors   trainable weights and the optimizer's moments after a step; replaced atomically
previous_state.safetensors   the one before, until the run is finished
config.json, model.safetensors   the finished model without a frozen encoder, adapters merged
lora.safetensors       the adapters alone, if there are any
familiar.safetensors   statistics of the training images' features (engine/familiar.py), if there are enough
tokenizer.json, tokenizer_config.json
best-N.safetensors     with --keep best: the trainable weights after step N, the best so far
epochK/                with --snapshots: the run as after epoch K; epochK.safetensors until it has trained
log.jsonl              a line per log interval and per validation
samples.json, samples/   answers to validation records of the finished model, and their pictures
loss.png, bad_rows.json
lock                   held by the process that trains there
finished.json          the summary; a run without it is not finished
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.optim import Optimizer

from engine import distributed
from engine.arguments import ADDED, TrainArguments
from model.checkpoints.files import (
    WeightsError,
    discard,
    read_json,
    read_metadata,
    read_tensors,
    save_safetensors,
    write_json,
)

FORMAT = 1
# the types of what is read of a run.json
RECORD: dict[str, Any] = {
    "settings": {"data": str, "stage": int, "english": (int, float)},
    "facts": {"tokenizer": str, "vision": {"folder": str, "fingerprint": str, "feature_layer": int}},
}


class RunError(ValueError):
    """A run's folder that cannot be used as asked; the text says what was found, what was expected, what to do."""


class Run:
    """The folder of one training run."""

    def __init__(self, path: Path):
        self.path = path
        self.state_file = path / "training_state.safetensors"
        self.previous_file = path / "previous_state.safetensors"
        self.log_file = path / "log.jsonl"

    def best_file(self, step: int) -> Path:
        return self.path / f"best-{step}.safetensors"

    def is_finished(self) -> bool:
        """Whether the summary is there and whole."""
        try:
            self.summary()
        except WeightsError:
            return False
        return True

    def summary(self) -> dict:
        return read_json(self.path / "finished.json")

    def record(self) -> dict:
        """The content of run.json; RunError unless the folder is a run of this version."""
        file = self.path / "run.json"
        if not file.is_file():
            raise RunError(f"{self.path}: no run.json, so this is no run's folder; give a folder under out/")
        record = read_json(file)
        if record.get("format") != FORMAT:
            raise RunError(f"{file}: format {record.get('format')!r}, expected {FORMAT}; it is another version's run")
        if wrong := _misshapen(record, RECORD):
            raise RunError(f"{file}: {wrong}; the file was changed since the training, so train the run again")
        return record

    def facts(self) -> dict:
        """What the run depends on beside its settings."""
        return self.record().get("facts", {})


def _misshapen(value: dict, shape: dict[str, Any]) -> str:
    """Which value is of another type than in `shape`, where a key may be absent; "" if none is."""
    for key, wanted in shape.items():
        kind = dict if isinstance(wanted, dict) else wanted
        if key in value and not isinstance(value[key], kind):
            return f"{key}: found {value[key]!r:.80}, expected {getattr(kind, '__name__', 'a number')}"
        if kind is dict and (wrong := _misshapen(value.get(key, {}), wanted)):
            return wrong
    return ""


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder, made if it is missing; RunError, naming the holder, if another process does.

    The operating system releases the lock of a process that ends, however it ends. Where the file system cannot lock,
    nothing is locked.
    """
    try:
        import fcntl
    except ImportError:  # Windows, where nothing is locked
        yield
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise RunError(f"{folder}: no run can be kept there ({error}); choose another --out") from error
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(f"{folder} is in use by {_holder(file)}; wait for it, or choose another --out") from None
        except OSError:  # a network file system without locks
            pass
        holder = {"host": socket.gethostname(), "process": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
        os.ftruncate(file, 0)
        os.pwrite(file, json.dumps(holder).encode(), 0)
        yield
    finally:
        os.close(file)


def _holder(file: int) -> str:
    try:
        return "process {process} on {host}, since {since}".format(**json.loads(os.pread(file, 1000, 0)))
    except (ValueError, KeyError, TypeError):
        return "another process"


def is_finished(path: Path, settings: dict) -> bool:
    """Whether the folder holds a finished run with these settings; RunError for one with others."""
    if not (path / "run.json").is_file():
        return False
    check_same(Run(path), {"settings": settings})
    return Run(path).is_finished()


def open_run(path: str | Path, settings: dict, facts: dict, arithmetic: dict | None = None) -> Run:
    """The run in that folder, created or resumed; RunError where the folder holds a run of other settings.

    settings: the arguments that decide the outcome; facts: what else does (fingerprints). Both must be the same when
    the run is resumed. arithmetic (device.arithmetic) may differ, with a warning that the weights will, too.
    """
    run = Run(Path(path))
    wanted = {"format": FORMAT, "settings": settings, "facts": facts}
    if (run.path / "run.json").is_file():
        check_same(run, wanted)
        begun = run.record().get("arithmetic")
        differ = differences(begun, arithmetic) if begun and arithmetic else []
        if differ and not run.is_finished():
            print(
                f"{run.path} was begun under other arithmetic ({'; '.join(differ)}): it is resumed, but rounding "
                "differs from here on, so it will not end with the weights of an uninterrupted run"
            )
    else:
        try:
            run.path.mkdir(parents=True, exist_ok=True)
            write_json(run.path / "run.json", wanted | ({"arithmetic": arithmetic} if arithmetic else {}))
        except OSError as error:
            raise RunError(f"{run.path}: no run can be kept there ({error}); choose another --out") from error
    for torn in [*run.path.glob("*.tmp"), *run.path.glob("*.partial")]:  # left by a killed process
        discard(torn)
    return run


def check_same(run: Run, wanted: dict) -> None:
    """Raise RunError, naming the differences, unless the run was made with what is wanted."""
    found = {key: value for key, value in run.record().items() if key in wanted}
    if isinstance(found.get("settings"), dict):
        defaults = {key: getattr(TrainArguments(), key) for key in ADDED if key in wanted["settings"]}
        found["settings"] = {**defaults, **found["settings"]}
    if isinstance(found.get("facts"), dict) and "data" in wanted["facts"]:  # not in older runs
        found["facts"] = {"data": wanted["facts"]["data"], **found["facts"]}
    differ = differences(found, json.loads(json.dumps(wanted)))
    if differ:
        raise RunError(
            f"{run.path} holds a run with other settings ({'; '.join(differ[:6])}). "
            "Repeat that run's command to resume it, choose another --out, or delete the folder."
        )


def differences(found: dict, wanted: dict, prefix: str = "") -> list[str]:
    """Every leaf in which two nested dicts differ, as 'name: found -> wanted'."""
    out = []
    for key in found | wanted:
        one, other = found.get(key), wanted.get(key)
        if isinstance(one, dict) and isinstance(other, dict):
            out += differences(one, other, f"{prefix}{key}.")
        elif one != other:
            out.append(f"{prefix}{key}: {one!r} -> {other!r}".removeprefix("settings."))
    return out


def save_state(
    run: Run, step: int, model: torch.nn.Module, optimizer: Optimizer, progress: dict | None = None
) -> None:
    """Save what is needed to resume after `step` steps; the previous state stays until this one is complete.

    progress: JSON values that load_state returns. All ranks call this, the main process writes.
    """
    names = {p: name for name, p in model.named_parameters()}
    trained = [p for group in optimizer.param_groups for p in group["params"]]
    entries = ((key, p, value) for p in trained for key, value in (("weight", p), *optimizer.state.get(p, {}).items()))
    tensors = distributed.gather((f"{key}.{names[p]}", value) for key, p, value in entries)
    if not distributed.is_main():
        return
    kept = "the state before is still there, whole" if run.state_file.exists() else "nothing was kept before"
    new = run.path / "next_state.safetensors"
    try:
        save_safetensors(new, tensors, {"step": str(step), "progress": json.dumps(progress or {})})
        if run.state_file.exists():
            os.replace(run.state_file, run.previous_file)
        os.replace(new, run.state_file)
    except OSError as error:
        advice = "free some space and repeat the command, which resumes from there"
        raise OSError(f"{run.state_file}: step {step} could not be saved ({error}); {kept}; {advice}") from error


def load_state(run: Run, model: torch.nn.Module, optimizer: Optimizer) -> tuple[int, dict]:
    """Load what save_state wrote and return its step and progress; (0, {}) if nothing was saved.

    If the last state is damaged, the one before is loaded, and a line says so; RunError if that is damaged too.
    """
    damaged = ""
    for file in (run.state_file, run.previous_file):
        try:
            if file.is_file():
                metadata, tensors = read_metadata(file), read_tensors(file)
                step, progress = int(metadata["step"]), json.loads(metadata.get("progress", "{}"))
                break
        except (ValueError, KeyError, TypeError) as error:
            damaged = f"{file}: not a training state ({error})"
            if file == run.state_file:
                print(f"{damaged}; trying the one before")
    else:
        if damaged:
            raise RunError(f"{damaged}, nor is there one before; delete {run.path} to start this run anew")
        return 0, {}
    weights = {name: tensors.pop(name) for name in list(tensors) if name.startswith("weight.")}
    load_weights(model, {name.removeprefix("weight."): weight for name, weight in weights.items()}, file)
    fused = optimizer.defaults.get("fused")
    for entry, value in tensors.items():
        key, _, name = entry.partition(".")
        parameter = model.get_parameter(name)
        on_device = fused or value.dim()  # an unfused optimizer keeps its step counter on the CPU
        value = value.to(parameter.device) if on_device else value
        optimizer.state[parameter][key] = distributed.shard_like(value, parameter) if value.dim() else value
    return step, progress


def load_weights(model: torch.nn.Module, weights: dict[str, torch.Tensor], file: Path) -> None:
    """Load the weights that train; RunError unless `weights`, from the file, are exactly these."""
    wanted = {name: p for name, p in model.named_parameters() if p.requires_grad}
    odd = sorted(weights.keys() ^ wanted.keys())
    if odd:
        raise RunError(f"{file}: trains {len(weights)} weights, this run {len(wanted)}; e.g. {odd[0]}; change --out")
    with torch.no_grad():
        for name, parameter in wanted.items():
            parameter.copy_(distributed.shard_like(weights[name], parameter))


def save_weights(file: Path, model: torch.nn.Module) -> None:
    """Save the weights that train, for load_weights(). All ranks call this, the main process writes."""
    tensors = distributed.gather((name, p) for name, p in model.named_parameters() if p.requires_grad)
    if distributed.is_main():
        save_safetensors(file, tensors)


def save_best(run: Run, step: int, model: torch.nn.Module) -> None:
    """Save the trainable weights as the best so far; older ones stay until drop_best(). All ranks call this."""
    save_weights(run.best_file(step), model)


def load_best(run: Run, step: int, model: torch.nn.Module) -> None:
    """Load what save_best wrote after `step` steps."""
    load_weights(model, read_tensors(run.best_file(step)), run.best_file(step))


def drop_best(run: Run, but: int = 0) -> None:
    """Remove the best weights of all steps but one, once the training state refers to that one."""
    for file in run.path.glob("best-*.safetensors") if distributed.is_main() else ():
        if file != run.best_file(but):
            file.unlink()
