"""Pack a language model for shipping, its matrices in 8 bits: python -m tools.pack_language RUN OUT

RUN is a finished run of train_lm.py. OUT gets its weights at a quarter of their size, its tokenizer and its log, and is
a language model for --llm as RUN was.
"""

from __future__ import annotations

if __name__ == "__main__":
    from engine.start import begin

    begin()

import shutil
import sys
from pathlib import Path

from engine.checkpoint import Run
from engine.command import guarded
from engine.console import Parser
from model.checkpoints import load_vlm, save_vlm
from tokenizer.tokenizer import load_tokenizer


def main(argv: list[str] | None = None) -> None:
    parser = Parser(__doc__.split("\n")[0])
    parser.add_argument("run", type=Path, help="a finished run of train_lm.py")
    parser.add_argument("out", type=Path, help="the folder to write")
    args = parser.parse_args(argv)
    steps = Run(args.run).summary()["steps"]
    save_vlm(args.out, load_vlm(args.run), int8=True)
    load_tokenizer(args.run).save(args.out)
    shutil.copyfile(args.run / "log.jsonl", args.out / "log.jsonl")
    size = sum(file.stat().st_size for file in args.out.iterdir())
    print(f"{args.out}: {size / 1e6:.1f} MB, {steps} steps of training")


if __name__ == "__main__":
    sys.exit(guarded(main))
