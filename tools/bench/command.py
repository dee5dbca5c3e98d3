"""Speed and peak memory of training and generation on this machine, and how close they come to its matmul peak.

python -m tools.bench --reference --json out/bench.json     --quick: a first result, meant to take three minutes

Each workload runs in a process of its own, with its own peak memory; those of a group are measured in turn
(A B C A B C ...), so that drift of the machine's speed affects all alike. Figures are medians over the repeats.

--peer COMMAND measures another program alongside. It is run as `COMMAND WORK FOLDER` once per repeat, in turn with the
others, and the last line that it prints must be JSON: {"value": samples or tokens per second, "peak_mib": ...}, or
null for a workload that it does not do. FOLDER holds pretrain.jsonl and sft.jsonl, MiniMind-V's format, and images/.
"""

from __future__ import annotations

import argparse
import json
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch

from engine.device import pick_device
from model.fast import kernels
from tools.bench.children import BrokenWork, Child, cores
from tools.bench.data import QUICK, QUICK_CUTS, Folder, Sizes
from tools.bench.table import table
from tools.bench.works import (
    Job,
    Training,
    generate_glimpse,
    generate_reference,
    load_data,
    measure_peak,
    prepare_folder,
    train_glimpse,
    train_reference,
)


@dataclass
class Measured:
    """All measurements of one workload: the results of the repeats, or why there are none."""

    results: list[dict] = field(default_factory=list)
    peak_mib: float | None = None
    error: str = ""


def groups(sizes: Sizes) -> list[dict]:
    """Workloads that are measured in turn, by name; those called 'reference...' only with --reference."""
    pretrain, sft = Training("pretrain"), Training("sft")
    cached, sft_cached = Training("pretrain", cached=True), Training("sft", cached=True)
    return [
        {"data_pixels": partial(load_data, pretrain), "data_cached": partial(load_data, cached)},
        {
            "pretrain_cached": partial(train_glimpse, cached), "pretrain_pixels": partial(train_glimpse, pretrain),
            "reference_pretrain": partial(train_reference, pretrain),
        },
        {
            "sft": partial(train_glimpse, sft_cached), "sft_pixels": partial(train_glimpse, sft),
            "reference_sft": partial(train_reference, sft),
        },
        {
            "generate_b1": partial(generate_glimpse, 1), "generate_b16": partial(generate_glimpse, sizes.batched),
            "reference_generate": generate_reference,
        },
    ]  # fmt: skip


def reference_of(work: str) -> str:
    return f"reference_{work.split('_')[0]}"


def measure_group(works: dict, job: Job, repeats: int, peer: str) -> dict[str, Measured]:
    """Start the workloads' processes, measure them in turn `repeats` times, and end them."""
    made = {name: Measured() for name in works}
    logs = job.folder.path / "logs"
    children = {name: Child(name, work, job, logs / f"{name}.txt") for name, work in works.items()}
    peers = {f"peer_{name}": name for name in works if peer and not name.startswith(("reference", "data"))}
    try:
        for name in children:
            attempt(made[name], children[name].ready)
        for _ in range(repeats):
            for name, child in children.items():
                show(name, attempt(made[name], child.measure))
            for title, name in peers.items():
                mine = made.setdefault(title, Measured())
                show(title, attempt(mine, partial(ask_peer, peer, name, job.folder.path)))
        for name, child in children.items():
            made[name].peak_mib = attempt(made[name], child.stop, keep=False)
    finally:
        for child in children.values():
            child.kill()
    for mine in made.values():
        mine.peak_mib = mine.peak_mib or next((r["peak_mib"] for r in mine.results if "peak_mib" in r), None)
    return made


def attempt(measured: Measured, action, keep: bool = True):
    """What action() returns, kept among the results if it measured something; None once the workload has failed."""
    if measured.error:
        return None
    try:
        result = action()
    except BrokenWork as error:
        measured.error = str(error)
        print(f"  {measured.error}", file=sys.stderr)
        return None
    if keep and result:
        measured.results.append(result)
    return result


def show(name: str, result: dict | None) -> None:
    if result:
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
    mine, other = made[work], made.get(reference_of(work), Measured())
    values, theirs = ([r["value"] for r in m.results] for m in (mine, other))
    # a workload that failed has only its first repeats: compare those that both have
    both = min(len(values), len(theirs))
    ratios = [a / b for a, b in zip(values[:both], theirs[:both], strict=True)]
    flops = [r["flops_per_s"] for r in mine.results]
    unit = {"generate": "tokens/s", "data": "images/s"}.get(work.split("_")[0], "samples/s")
    found = {
        "value": middle(values), "unit": unit, "reference": middle(theirs), "ratio": middle(ratios),
        "peak_mib": mine.peak_mib, "reference_peak_mib": other.peak_mib,
        "peak_share": middle([f / peak for f in flops]) if peak else None,
        "spread": {"value": ends(values), "reference": ends(theirs), "ratio": ends(ratios)},
    }  # fmt: skip
    for name in ("tokens_per_s", "first_token_ms"):
        found |= {name: middle([r[name] for r in mine.results])} if mine.results and name in mine.results[0] else {}
        if other.results and name in other.results[0]:
            found[f"reference_{name}"] = middle([r[name] for r in other.results])
    peer = made.get(f"peer_{work}")
    if peer:
        found["peer"] = {"value": middle([r["value"] for r in peer.results]), "peak_mib": peer.peak_mib}
    return {**found, **({"error": mine.error} if mine.error else {})}


def middle(values: list[float]) -> float | None:
    return statistics.median(values) if values else None


def ends(values: list[float]) -> list[float] | None:
    return [min(values), max(values)] if values else None


def bench(sizes: Sizes, device: str, repeats: int, seed: int, reference: bool, works: set[str], peer: str) -> dict:
    """Measure the given workloads (all if none are given)."""
    parts = [
        {
            name: work for name, work in group.items()
            if (name in works or not works) and not name.startswith("reference")
            or reference and name.startswith("reference") and (not works or {w for w in works if w in group})
        }
        for group in groups(sizes)
    ]  # fmt: skip
    made: dict[str, Measured] = {}
    peaks: list[dict] = []
    with tempfile.TemporaryDirectory(prefix="glimpse-bench-", ignore_cleanup_errors=True) as temporary:
        job = Job(Folder(Path(temporary) / "bench"), sizes, device, seed)
        logs = job.folder.path / "logs"
        logs.mkdir(parents=True)
        run_once("data and weights", prepare_folder, job, logs, measure=False)
        for part in filter(None, parts):
            peaks.append(run_once("matmuls", measure_peak, job, logs))
            made |= measure_group(part, job, repeats, peer)
    used = max(peak["used"] for peak in peaks)
    found = {name: summary(name, made, used) for name in made if not name.startswith(("reference", "peer"))}
    main_works = ("pretrain_cached", "pretrain_pixels", "sft", "generate_b1", "generate_b16")
    return {
        "device": device_name(pick_device(device)),
        "matmul_bf16_gflops": max(peak["value"] for peak in peaks) / 1e9,
        "works": {name: found.pop(name) for name in main_works if name in found},
        "others": found,
    }


def run_once(name: str, work, job: Job, logs: Path, measure: bool = True) -> dict:
    """One measurement of a workload on its own."""
    child = Child(name, work, job, logs / f"{name}.txt")
    try:
        child.ready()
        result = child.measure() if measure else {}
        child.stop()
    finally:
        child.kill()
    return result


def device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), name)
    except OSError:
        pass
    name = f"{name}, {cores()} cores, {torch.get_num_threads()} threads"
    if device.type == "mps":
        return f"{name} (MPS)"
    return f"{name}, {'with' if kernels.usable(torch.empty(0)) else 'without'} compiled kernels"


def parse(argv: list[str] | None) -> argparse.Namespace:
    names = [name for group in groups(QUICK) for name in group if not name.startswith("reference")]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
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
    if not args.works and args.quick:
        args.works = set(names) - {"sft_pixels", "data_cached"}
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
        Path(args.json).write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        print(f"written to {args.json}")

