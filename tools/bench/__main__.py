"""Speed and peak memory of training and generation on this machine, and how close they come to its matmul peak.

python -m tools.bench --reference --json out/bench.json     --quick: a first result, meant to take three minutes

Each workload runs in a process of its own, with its own peak memory; those of a group are measured in turn
(A B C A B C ...), so that drift of the machine's speed affects all alike. Figures are medians over the repeats.

--peer COMMAND measures another program alongside. It is run as `COMMAND WORK FOLDER` once per repeat, in turn with the
others, and the last line that it prints must be JSON: {"value": samples or tokens per second, "peak_mib": ...}, or
null for a workload that it does not do. FOLDER holds pretrain.jsonl and sft.jsonl, MiniMind-V's format, and images/.
"""

from __future__ import annotations

if __name__ == "__main__":
    from engine.start import begin

    begin()

import argparse
import json
import os
import platform
import re
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch

from engine.command import guarded
from engine.console import Parser
from engine.device import pick_device
from model.checkpoints import write_json
from model.fast import kernels
from tools.bench.children import BrokenWork, Child
from tools.bench.data import QUICK, QUICK_CUTS, Sizes
from tools.bench.table import table
from tools.bench.works import Job, groups, measure_peak, prepare_folder


@dataclass
class Measured:
    """All measurements of one workload: the results of the repeats, or why there are none."""

    results: list[dict] = field(default_factory=list)
    peak_mib: float | None = None
    error: str = ""

    def all(self, name: str) -> list[float]:
        """This figure of every repeat."""
        return [result[name] for result in self.results if name in result]


def measure_group(works: dict, job: Job, repeats: int, peer: str) -> dict[str, Measured]:
    """Start the workloads' processes, measure them in turn `repeats` times, and end them."""
    peers = {f"peer_{name}": name for name in works if peer and not name.startswith(("reference", "data"))}
    made = {name: Measured() for name in (*works, *peers)}
    children = {name: Child(name, work, job) for name, work in works.items()}
    turns = {name: child.measure for name, child in children.items()}
    turns |= {title: partial(ask_peer, peer, name, job.folder) for title, name in peers.items()}
    try:
        for name, child in children.items():
            attempt(name, made[name], child.receive)
        for name, measure in [*turns.items()] * repeats:
            attempt(name, made[name], measure)
        for name, child in children.items():
            attempt(name, made[name], child.stop)
    finally:
        for child in children.values():
            child.kill()
    return made


def attempt(name: str, work: Measured, action: Callable[[], dict | None]) -> None:
    """Keep and print what action() measured, or the reason why it failed; nothing once the workload has failed."""
    if work.error:
        return
    try:
        result = action() or {}
    except BrokenWork as error:
        work.error = str(error)
        print(f"  {work.error}", file=sys.stderr)
        return
    work.peak_mib = work.peak_mib or result.get("peak_mib")
    if "value" in result:
        work.results.append(result)
        print(f"  {name:<20}{result['value']:>10.2f}", flush=True)


def ask_peer(command: str, work: str, folder: Path) -> dict | None:
    """The measurement that the peer reports; BrokenWork if it cannot be read."""
    done = subprocess.run([*shlex.split(command), work, str(folder)], capture_output=True, text=True)
    try:
        result = json.loads(done.stdout.strip().splitlines()[-1])
        return result and {**result, "value": float(result["value"])}
    except (IndexError, ValueError, KeyError, TypeError) as error:
        said = (done.stderr or done.stdout).strip()[-500:]
        raise BrokenWork(f"{command} {work}: no JSON with a value in its last line; it printed: {said}") from error


def summary(work: str, made: dict[str, Measured], peak: float) -> dict:
    """The JSON entry of one workload; None for what was not measured."""
    mine, other = made[work], made.get(f"reference_{work.split('_')[0]}", Measured())
    values, theirs = mine.all("value"), other.all("value")
    ratios = [a / b for a, b in zip(values, theirs, strict=False)]  # of the repeats that both have: one may have failed
    unit = {"generate": "tokens/s", "data": "images/s"}.get(work.split("_")[0], "samples/s")
    found = {
        "value": middle(values), "unit": unit, "reference": middle(theirs), "ratio": middle(ratios),
        "peak_mib": mine.peak_mib, "reference_peak_mib": other.peak_mib,
        "peak_share": middle([flops / peak for flops in mine.all("flops_per_s")]),
        "spread": {"value": ends(values), "reference": ends(theirs), "ratio": ends(ratios)},
    }  # fmt: skip
    for name in ("tokens_per_s", "first_token_ms"):
        for prefix, one in (("", mine), ("reference_", other)):
            if one.all(name):
                found[prefix + name] = middle(one.all(name))
    if peer := made.get(f"peer_{work}"):
        found["peer"] = {"value": middle(peer.all("value")), "peak_mib": peer.peak_mib}
    return found | ({"error": mine.error} if mine.error else {})


def middle(values: list[float]) -> float | None:
    return statistics.median(values) if values else None


def ends(values: list[float]) -> list[float] | None:
    return [min(values), max(values)] if values else None


def bench(sizes: Sizes, device: str, repeats: int, seed: int, reference: bool, works: set[str], peer: str) -> dict:
    """Measure the given workloads, and those of the reference in their groups if it is asked for."""
    made: dict[str, Measured] = {}
    peaks: list[dict] = []
    with tempfile.TemporaryDirectory(prefix="glimpse-bench-", ignore_cleanup_errors=True) as temporary:
        job = Job(Path(temporary), sizes, device, seed)
        run_once("data and weights", prepare_folder, job, measure=False)
        for group in groups(sizes):
            if not works & group.keys():
                continue
            peaks.append(run_once("matmuls", measure_peak, job))
            asked = {name: work for name, work in group.items()
                     if name in works or (reference and name.startswith("reference"))}  # fmt: skip
            made |= measure_group(asked, job, repeats, peer)
    used = max(peak["used"] for peak in peaks)
    found = {name: summary(name, made, used) for name in made if not name.startswith(("reference", "peer"))}
    main_works = ("pretrain_cached", "pretrain_pixels", "sft", "generate_b1", "generate_b16")
    return {
        "device": device_name(pick_device(device)),
        "matmul_bf16_gflops": max(peak["value"] for peak in peaks) / 1e9,
        "works": {name: found.pop(name) for name in main_works if name in found},
        "others": found,
    }


def run_once(name: str, work: Callable, job: Job, measure: bool = True) -> dict:
    """One measurement of a workload on its own."""
    child = Child(name, work, job)
    try:
        child.receive()
        result = child.measure() if measure else {}
        child.stop()
        return result
    finally:
        child.kill()


def device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    known = Path("/proc/cpuinfo")
    models = re.findall(r"^model name\s*:\s*(.*)", known.read_text(), re.MULTILINE) if known.is_file() else []
    name = models[0] if models else platform.processor() or platform.machine()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    name = f"{name}, {cores} cores, {torch.get_num_threads()} threads"
    if device.type == "mps":
        return f"{name} (MPS)"
    return f"{name}, {'with' if kernels.usable(torch.empty(0)) else 'without'} compiled kernels"


def parse(argv: list[str] | None) -> argparse.Namespace:
    names = [name for group in groups(QUICK) for name in group if not name.startswith("reference")]
    parser = Parser(__doc__)
    add = parser.add_argument
    add("--quick", action="store_true", help="a quick first result: " + QUICK_CUTS.partition(": ")[2])
    add("--reference", action="store_true", help="measure a model that computes as MiniMind-V did, and print the ratio")
    add("--json", metavar="FILE", help="write the figures to FILE")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
    add("--repeats", type=int, default=0, metavar="N", help="measurements per workload (default: 5, with --quick 2)")
    add("--works", default="", metavar="A,B", help=f"only these of {', '.join(names)}")
    add("--seed", type=int, default=42, help="of data and weights (default: 42)")
    add("--peer", default="", metavar="COMMAND", help="another program to measure alongside; see above")
    args = parser.parse_args(argv)
    args.works = {name.strip() for name in args.works.split(",") if name.strip()}
    if args.works - set(names):
        parser.error(f"--works {', '.join(sorted(args.works - set(names)))}: expected some of {', '.join(names)}")
    if args.repeats < 0:
        parser.error(f"--repeats {args.repeats}: expected 1 or more")
    args.works = args.works or set(names) - ({"sft_pixels", "data_cached"} if args.quick else set())
    args.repeats = args.repeats or (2 if args.quick else 5)
    return args


def main(argv: list[str] | None = None) -> None:
    args, began = parse(argv), time.perf_counter()
    sizes = QUICK if args.quick else Sizes()
    print(QUICK_CUTS if args.quick else "measuring; nothing else should run on this machine", flush=True)
    found = bench(sizes, args.device, args.repeats, args.seed, args.reference, args.works, args.peer)
    command = shlex.join(["python", "-m", "tools.bench", *(sys.argv[1:] if argv is None else argv)])
    versions = {"python": platform.python_version(), "torch": torch.__version__}
    found |= {"command": command, "seed": args.seed, "repeats": args.repeats, "quick": args.quick, "versions": versions}
    print("\n" + table(found) + f"\n\n{time.perf_counter() - began:.0f} s")
    if args.json:
        Path(args.json).parent.mkdir(parents=True, exist_ok=True)
        write_json(args.json, found)
        print(f"written to {args.json}")


if __name__ == "__main__":
    sys.exit(guarded(main))
