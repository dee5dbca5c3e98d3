"""A run's folder: settings, weights, training state, log, and the mark that says it is finished.

config.json            what was asked for and what the model is; written first
training_state.safetensors   weights that train and the optimizer's moments after a step; replaced as a whole
model.safetensors      the finished weights, everything but the encoder
tokenizer.json, tokenizer_config.json
log.jsonl              a line per log interval and per validation
loss.png, samples.json
finished.json          the summary; a run without it is not finished
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

FORMAT = 1
STATE = "training_state.safetensors"
MODEL = "model.safetensors"


class RunError(ValueError):
    """A run's folder that cannot be used as asked; the text says what was found, what was expected, what to do."""


@dataclass(frozen=True)
class Run:
    """The folder of one training run."""

    path: Path

    @property
    def state_file(self) -> Path:
        return self.path / STATE

    @property
    def model_file(self) -> Path:
        return self.path / MODEL

    @property
    def log_file(self) -> Path:
        return self.path / "log.jsonl"

    def is_finished(self) -> bool:
        return (self.path / "finished.json").is_file()

    def summary(self) -> dict:
        return read_json(self.path / "finished.json")

    def config(self) -> dict:
        """What open_run wrote; RunError where the folder is not a run of this version."""
        file = self.path / "config.json"
        if not file.is_file():
            raise RunError(f"{self.path}: no config.json, so this is no run's folder; give a folder under out/")
        config = read_json(file)
        if config.get("format") != FORMAT:
            raise RunError(f"{file}: format {config.get('format')!r}, expected {FORMAT}; it is another version's run")
        return config


def open_run(path: str | Path, settings: dict, facts: dict) -> Run:
    """The run in that folder, made or gone on with; RunError where the folder holds a run of other settings.

    settings decide the outcome (the stage's fields); facts describe what they led to (sizes, fingerprints).
    Both are kept in config.json and must be the same when the run goes on.
    """
    run = Run(Path(path))
    wanted = {"format": FORMAT, "settings": settings, **facts}
    if (run.path / "config.json").is_file():
        found = run.config()
        differ = differences(found, json.loads(json.dumps(wanted)))
        if differ:
            raise RunError(
                f"{run.path} holds a run with other settings ({'; '.join(differ[:6])}). "
                "Repeat that run's command to go on with it, choose another --out, or delete the folder."
            )
    else:
        run.path.mkdir(parents=True, exist_ok=True)
        write_json(run.path / "config.json", wanted)
    for partial in run.path.glob("*.partial"):
        partial.unlink()
    return run


def differences(found: dict, wanted: dict, prefix: str = "") -> list[str]:
    """Every leaf in which two nested dicts differ, as 'name: found -> wanted'."""
    out = []
    for key in [*found, *(key for key in wanted if key not in found)]:
        one, other = found.get(key), wanted.get(key)
        if isinstance(one, dict) and isinstance(other, dict):
            out += differences(one, other, f"{prefix}{key}.")
        elif one != other:
            out.append(f"{prefix}{key}: {one!r} -> {other!r}")
    return [line.removeprefix("settings.") for line in out]


def finish(run: Run, tensors: dict[str, Tensor], summary: dict) -> None:
    """Write the finished weights, then the mark; a kill between the two leaves the run unfinished."""
    write_tensors(run.model_file, tensors, {"format": str(FORMAT)})
    write_json(run.path / "finished.json", summary)


def save_state(run: Run, step: int, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Keep what is needed to go on after `step` steps; the state before stays until this one is whole."""
    tensors = {}
    names = {id(p): name for name, p in model.named_parameters()}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            name = names[id(parameter)]
            tensors[f"weight.{name}"] = parameter.detach()
            for key, value in optimizer.state.get(parameter, {}).items():
                tensors[f"{key}.{name}"] = value.detach()
    write_tensors(run.state_file, tensors, {"step": str(step)})


def load_state(run: Run, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Put back what save_state kept and return its step; 0 where nothing was kept."""
    if not run.state_file.is_file():
        return 0
    try:
        with safe_open(run.state_file, "pt") as file:
            step = int(file.metadata()["step"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, KeyError, TypeError) as error:
        raise RunError(f"{run.state_file}: not a training state ({error}); delete it to start this run anew") from error
    parameters = dict(model.named_parameters())
    trained = {name.partition(".")[2] for name in tensors if name.startswith("weight.")}
    expected = {name for name, p in parameters.items() if p.requires_grad}
    if trained != expected:
        odd = sorted(trained ^ expected)
        raise RunError(f"{run.state_file}: trains {len(trained)} weights, this run {len(expected)}; e.g. {odd[0]}")
    with torch.no_grad():
        for name in expected:
            parameters[name].copy_(tensors.pop(f"weight.{name}"))
    fused = optimizer.defaults.get("fused")
    for entry, value in tensors.items():
        key, _, name = entry.partition(".")
        parameter = parameters[name]
        on_device = fused or value.dim()  # an unfused optimizer keeps its step counter on the CPU
        optimizer.state[parameter][key] = value.to(parameter.device) if on_device else value
    return step


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """A safetensors file that is there whole or not at all; OSError (no space) leaves the file before untouched."""
    partial = path.with_name(path.name + ".partial")
    try:
        save_file({name: tensor.contiguous().cpu() for name, tensor in tensors.items()}, partial, metadata)
        with open(partial, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    except (OSError, SafetensorError) as error:
        partial.unlink(missing_ok=True)
        kept = "the file before it is still there, whole" if path.exists() else "nothing was kept"
        advice = "free some space and repeat the command"
        raise OSError(f"{path}: could not be written ({error}); {kept}; {advice}") from error


def read_json(path: Path) -> dict:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RunError(f"{path}: not JSON ({error}); delete the folder and run again") from error


def write_json(path: Path, value: dict | list) -> None:
    """JSON that is there whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    with open(partial, "w", encoding="utf-8") as file:
        file.write(json.dumps(value, ensure_ascii=False, indent=1) + "\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)
