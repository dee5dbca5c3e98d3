"""Hostile input, kills and faults, deterministic by seed: python -m tools.torture [--minutes N] [--seed S]

Every case must end as if nothing had happened, or be refused in a sentence: no traceback, no hang, no other weights.
On Linux. One core feeds hostile files to the readers of data, pictures, weights, configs, tokenizers and chat, the
other kills and resumes tiny trainings.
"""

from __future__ import annotations

if __name__ == "__main__":
    from engine.start import begin

    begin()

import argparse
import json
import multiprocessing
import shlex
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch

from engine.command import guarded
from engine.console import Parser
from model.checkpoints.files import write_json
from tools.torture.fuzz import Fuzzer
from tools.torture.violence import be_violent


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(__doc__, prog="python -m tools.torture")
    add = parser.add_argument
    add("--minutes", type=float, default=10.0, help="how long (default: 10)")
    add("--seed", type=int, default=0, help="of all cases (default: 0)")
    add("--first", type=int, default=0, help="number of the first hostile case, to repeat one (default: 0)")
    add("--cases", type=int, default=0, help="stop after so many hostile cases (default: when the time is up)")
    add("--kills", type=int, default=sys.maxsize, help="so many runs to kill at most; 0: hostile input only")
    add("--report", metavar="FILE", help="write what was tried and what failed as JSON")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    work = Path(tempfile.mkdtemp(prefix="torture-"))
    end = time.monotonic() + 60 * args.minutes
    ended = work / "violence.json"
    violent = multiprocessing.get_context("spawn").Process(
        target=be_violent, args=(work / "runs", args.seed, args.kills, end, ended)
    )
    if args.kills:
        violent.start()
    found = {"hostile inputs": feed(args, work, end)}
    if args.kills:
        violent.join()
        if violent.exitcode:
            sys.exit(f"error: the kills ended with status {violent.exitcode}; what is left is in {work}")
        found |= json.loads(ended.read_text("utf-8"))
    failed = False
    for what, tally in found.items():
        print(f"{what}: {tally['tried']:,} tried, {tally['tried'] - len(tally['failed']):,} ended well")
        failed |= bool(tally["failed"])
    if args.report:
        command = shlex.join(["python", "-m", "tools.torture", *(sys.argv[1:] if argv is None else argv)])
        write_json(Path(args.report), {"command": command, "seed": args.seed, "minutes": args.minutes} | found)
    if failed:
        sys.exit(f"what failed is in {work}")
    shutil.rmtree(work)


def feed(args: argparse.Namespace, work: Path, end: float) -> dict[str, Any]:
    """Hostile inputs, one after the other, until the time is up."""
    torch.set_num_threads(1)  # a fork has no other threads
    fuzzer, number = Fuzzer(work, args.seed), args.first
    kinds: Counter[str] = Counter()
    failed, slowest, largest = [], 0.0, 0
    while time.monotonic() < end and (not args.cases or number < args.first + args.cases):
        case, folder, ending = fuzzer.run(number)
        kinds[case.kind] += 1
        slowest, largest = max(slowest, ending.seconds), max(largest, ending.memory)
        if ending.verdict == "ok":
            shutil.rmtree(folder)
        else:
            said = ending.said.strip().splitlines()[-1:]
            failed.append(f"{number}, {case.kind}: {ending.verdict} after {ending.seconds:.1f} s: {said}")
            print(failed[-1], flush=True)
        number += 1
    return {"tried": kinds.total(), "failed": failed, "slowest, s": round(slowest, 1), "most memory, MiB": largest,
            "kinds": dict(kinds)}  # fmt: skip


if __name__ == "__main__":
    sys.exit(guarded(main))
