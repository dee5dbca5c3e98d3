"""VLMEvalKit with a Glimpse model called "glimpse"; the flags after -- are the kit's own, except --model.

    python -m tools.harness.vlmevalkit --weights out/sft3 -- --data MMBench_DEV_EN POPE --work-dir out/kit

The kit must be installed or on PYTHONPATH; it is not modified.
"""

from __future__ import annotations

if __name__ == "__main__":
    from engine.start import begin

    begin()

import sys
from functools import partial
from pathlib import Path

from engine.arguments import UsageError
from engine.command import guarded
from engine.console import Parser
from tools.harness.answers import Answerer, load_answerer

NAME = "glimpse"


def glimpse_class() -> type:
    """A subclass of the kit's BaseModel; created on demand, since the kit is not one of our requirements."""
    from vlmeval.vlm.base import BaseModel

    class Glimpse(BaseModel):
        """Answers a message: a list of {"type": "text" or "image", "value": the text or the picture's path}."""

        INTERLEAVE = True  # takes texts and pictures in any order and number

        def __init__(self, weights: str, answerer: Answerer | None = None, **parts):
            super().__init__()
            self.answerer = answerer or load_answerer(weights, **parts)

        def generate_inner(self, message: list[dict], dataset: str | None = None) -> str:
            strange = {part["type"] for part in message} - {"text", "image"}
            if strange:
                raise ValueError(f"{dataset}: found parts of type {sorted(strange)}, this model takes text and image")
            question = [part["value"] if part["type"] == "text" else Path(part["value"]) for part in message]
            return self.answerer.answer([question])[0]

    return Glimpse


def main(argv: list[str] | None = None) -> None:
    argv = sys.argv[1:] if argv is None else argv
    ours, theirs = (argv[: argv.index("--")], argv[argv.index("--") + 1 :]) if "--" in argv else (argv, [])
    parser = Parser(__doc__.split("\n")[0])
    parser.add_argument("--weights", required=True, metavar="RUN", help="a run's folder, or a MiniMind2-V .pth")
    for name in ("vision", "tokenizer"):
        parser.add_argument(f"--{name}", default="", metavar="DIR", help=f"the {name} of a .pth")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
    parser.add_argument("--max_new_tokens", type=int, default=256, help="longest answer in tokens (default: 256)")
    args = vars(parser.parse_args(ours))
    run_kit(partial(glimpse_class(), **args), theirs)


def run_kit(make, flags: list[str]) -> None:
    """The kit's own run.py, with `make` as its model called "glimpse"."""
    import runpy

    import vlmeval
    from vlmeval.config import supported_VLM

    supported_VLM[NAME] = make
    package = Path(vlmeval.__file__).resolve().parent
    scripts = [path for path in (package / "run.py", package.parent / "run.py") if path.is_file()]
    if not scripts:
        raise UsageError(f"{package}: no run.py in it or beside it; install VLMEvalKit from its repository")
    sys.argv = [str(scripts[0]), "--model", NAME, *flags]
    runpy.run_path(str(scripts[0]), run_name="__main__")


if __name__ == "__main__":
    sys.exit(guarded(main))
