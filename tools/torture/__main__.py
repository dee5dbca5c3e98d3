"""Hostile input and violent ends, deterministic by seed: python -m tools.torture [--minutes N] [--seed S]"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import torch

from engine.command import guarded
from tools.torture.fuzz import Fuzzer


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.torture", description=__doc__, allow_abbrev=False)
    parser.add_argument("--minutes", type=float, default=10.0, help="how long (default: 10)")
    parser.add_argument("--seed", type=int, default=0, help="of all cases (default: 0)")
    parser.add_argument("--first", type=int, default=0, help="number of the first case (default: 0)")
    parser.add_argument("--cases", type=int, default=0, help="stop after so many (default: when the time is up)")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)  # a fork has no other threads
    work = Path(tempfile.mkdtemp(prefix="torture-"))
    fuzzer, verdicts = Fuzzer(work, args.seed), Counter()
    end, number = time.monotonic() + 60 * args.minutes, args.first
    while time.monotonic() < end and (not args.cases or number < args.first + args.cases):
        case, folder, ending = fuzzer.run(number)
        verdicts[ending.verdict == "ok"] += 1
        if ending.verdict == "ok":
            shutil.rmtree(folder)
        else:
            last = [line for line in ending.said.strip().splitlines() if line.strip()][-1:]
            print(f"{number}: {case.kind}: {ending.verdict} after {ending.seconds:.1f} s: {last}", flush=True)
        number += 1
    print(f"hostile inputs: {verdicts.total():,} tried, {verdicts[True]:,} handled; what failed is in {work}")
    if verdicts[False]:
        sys.exit(1)
    shutil.rmtree(work)


if __name__ == "__main__":
    sys.exit(guarded(main))
