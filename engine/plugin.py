"""Plugins: a Python file of the user's own that registers projectors (model/registry.py), named by --plugin."""

from __future__ import annotations

import importlib.util
import sys
import traceback
from pathlib import Path

import torch

from dataset.atomic import replacing
from engine import distributed
from engine.arguments import TrainArguments, UsageError
from engine.checkpoint import RunError
from model.registry import MODULES
from model.vlm import VLM

COPY = "plugin.py"  # in a run's folder: the file that it was trained with


def load_plugin(file: str) -> None:
    """Run the file, if one is named. UsageError where it is missing, fails, or registers nothing."""
    if not file:
        return
    if not Path(file).is_file():
        raise UsageError(f"--plugin {file}: no such file; expected a Python file that registers a projector")
    name = f"plugin_{Path(file).stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise UsageError(f"--plugin {file}: not a Python file; expected one that ends in .py")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    before = dict(MODULES)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        at = [frame.lineno for frame in frames if Path(frame.filename).resolve() == Path(file).resolve()]
        line = error.lineno if isinstance(error, SyntaxError) else at[-1] if at else 0
        raise UsageError(f"--plugin {file}, line {line}: {type(error).__name__}: {error}; correct it there") from error
    if before == dict(MODULES):
        raise UsageError(f"--plugin {file}: registers nothing; put @register_projector(NAME) above a class in it")


def check_projector(model: VLM) -> None:
    """UsageError unless a projector of the user's own makes the number and width of tokens that it promises."""
    config = model.config.projector
    if config is None or config.kind not in MODULES or model.config.vision is None or model.projector is None:
        return
    given = (1, model.config.vision.num_features, config.in_features)
    with torch.no_grad():
        made = tuple(model.projector(torch.zeros(given)).shape)
    expected = (1, model.image_tokens, config.out_features)
    if made != expected:
        raise UsageError(
            f"--projector {config.kind}: makes {made} of features {given}, expected {expected}; let its tokens_out(N) "
            "say how many tokens it makes of N features, and its last layer give config.out_features"
        )


def keep_plugin(args: TrainArguments) -> None:
    """Copy --plugin's file into the run's folder. RunError where the run was begun with another one."""
    if not args.plugin or args.dry_run:
        return
    file, run = args.plugin, Path(args.out)
    copy = run / COPY
    if _differs(file, run):
        raise RunError(
            f"{run} was begun with another {file}, kept as {copy}; go on with --plugin {copy}, choose another --out, "
            "or delete the folder"
        )
    if distributed.is_main() and Path(file).resolve() != copy.resolve():
        run.mkdir(parents=True, exist_ok=True)
        with replacing(copy) as new:
            new.write(Path(file).read_bytes())


def note_change(file: str, run: Path) -> None:
    """Say so where a run was trained with another file than the one in use."""
    if file and _differs(file, run):
        print(f"note: {file} is not the file that {run} was trained with; that one is kept as {run / COPY}")


def _differs(file: str, run: Path) -> bool:
    """Whether a run that has begun keeps another file."""
    begun = (run / "run.json").is_file() and (run / COPY).is_file()
    return begun and Path(file).read_bytes() != (run / COPY).read_bytes()
