"""Runs that are killed, out of disk, or find files changed: each must end as an unbroken one, or say why not."""

from __future__ import annotations

import hashlib
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from engine.lock import locked
from tools.torture import seeds

ROOT = Path(__file__).resolve().parents[2]
QUICK = ["--device", "cpu", "--dtype", "float32", "--batch_size", "4", "--steps", "6", "--save_interval", "2",
         "--eval_interval", "3", "--log_interval", "1", "--val_data", "VAL"]  # fmt: skip
PATIENCE = 300.0  # seconds that a tiny run may take
# what is trained -> script, flags; the words in capitals are replaced
VARIANTS: dict[str, tuple[str, list[str]]] = {
    "vision": ("train_vision", ["--data", "PICTURES", "--images", "IMAGES", "--image_size", "32", "--patch_size", "8",
                                "--hidden_size", "64", "--layers", "1"]),
    "lm": ("train_lm", ["--data", "TEXTS", "--llm", "LM", "--num_workers", "2"]),
    "pretrain": ("train_pretrain", ["--num_workers", "0"]),
    "pretrain, workers and accumulation": ("train_pretrain", ["--num_workers", "2", "--accumulation_steps", "2"]),
    "pretrain, pixels": ("train_pretrain", ["--cache_gb", "0", "--num_workers", "2", "--token_budget", "200"]),
    "pretrain, LoRA": ("train_pretrain", ["--train", "projector,lora", "--lora_rank", "2"]),
    "pretrain, best kept": ("train_pretrain", ["--keep", "best"]),
    "pretrain, two ranks": ("train_pretrain", ["--num_workers", "0"]),
    "sft": ("train_sft", ["--stage", "2", "--from", "START"]),
}  # fmt: skip


@dataclass(frozen=True)
class Attempt:
    """status: of the process, negative for a signal; said: what it printed."""

    status: int
    said: str

    @property
    def in_words(self) -> bool:
        """Whether it failed as a user should see it."""
        return self.status == 1 and "error: " in self.said and "Traceback" not in self.said


class Violence:
    """Tiny runs of every training command, and what an unbroken one ends with."""

    def __init__(self, work: Path, seed: int):
        self.work, self.seed = work, seed
        files = seeds.write_data(work / "data")
        seeds.write_models(work)
        self.words = {
            "PICTURES": files["jsonl"], "TEXTS": files["alpaca.json"], "IMAGES": work / "data" / "images",
            "VAL": files["jsonl"], "LM": work / "lm", "START": work / "start",
        }  # fmt: skip
        self._unbroken: dict[str, tuple[str, float]] = {}
        if (first := self.attempt("pretrain", work / "start")).status:
            raise RuntimeError(f"the run that SFT starts from failed: {first.said}")

    def argv(self, variant: str, out: Path) -> list[str]:
        script, flags = VARIANTS[variant]
        if script == "train_pretrain":
            flags = [
                *flags,
                "--data",
                "PICTURES",
                "--images",
                "IMAGES",
                "--llm",
                "LM",
                "--vision",
                str(self.work / "vision"),
            ]
        if script == "train_sft":
            flags = [*flags, "--data", "PICTURES", "--images", "IMAGES"]
        val = {**self.words, "VAL": self.words["TEXTS"]} if script == "train_lm" else self.words
        words = [str(val.get(word, word)) for word in [*flags, *QUICK, "--out", str(out)]]
        ranks = (
            ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"] if "two ranks" in variant else []
        )
        return [sys.executable, *ranks, str(ROOT / f"{script}.py"), *words]

    def attempt(self, variant: str, out: Path, kill_after: float | None = None, largest_file: int = 0) -> Attempt:
        """Run it to its end, or kill it and all its children after so many seconds. largest_file: as on a full disk."""
        limit = (
            partial(resource.setrlimit, resource.RLIMIT_FSIZE, (largest_file, largest_file)) if largest_file else None
        )
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "TQDM_DISABLE": "1"}
        with (self.work / "said.txt").open("wb") as said:
            process = subprocess.Popen(
                self.argv(variant, out),
                stdout=said,
                stderr=said,
                env=environment,
                preexec_fn=limit,
                start_new_session=True,
            )
            try:
                process.wait(PATIENCE if kill_after is None else kill_after)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        return Attempt(process.returncode, (self.work / "said.txt").read_text("utf-8", "replace"))

    def unbroken(self, variant: str) -> tuple[str, float]:
        """(digest of what an uninterrupted run ends with, its seconds)."""
        if variant not in self._unbroken:
            began = time.monotonic()
            attempt = self.attempt(variant, self.work / "unbroken")
            if attempt.status:
                raise RuntimeError(f"{variant}: a run that nobody touched failed: {attempt.said[-1500:]}")
            self._unbroken[variant] = digest(self.work / "unbroken"), time.monotonic() - began
            shutil.rmtree(self.work / "unbroken")
        return self._unbroken[variant]

    def fresh(self) -> Path:
        out = self.work / "run"
        shutil.rmtree(out, ignore_errors=True)
        shutil.rmtree(self.work / "cache", ignore_errors=True)
        return out

    def kill(self, number: int) -> tuple[str, str]:
        """Kill number `number`: (what was killed and when, '' or what went wrong)."""
        rng = random.Random(f"{self.seed} kill {number}")
        variant = list(VARIANTS)[number % len(VARIANTS)]
        wanted, seconds = self.unbroken(variant)
        out, moments = self.fresh(), sorted(rng.uniform(0, seconds) for _ in range(rng.choice((1, 1, 2, 3))))
        for moment in moments:
            self.attempt(variant, out, kill_after=moment)
        what = f"{variant}, killed after {', '.join(f'{moment:.1f}' for moment in moments)} s"
        return what, self._ends_well(variant, out, wanted)

    def _ends_well(self, variant: str, out: Path, wanted: str) -> str:
        end = self.attempt(variant, out)
        if end.status:
            return f"status {end.status}: {end.said[-1500:]}"
        return "" if digest(out) == wanted else "other weights than those of an unbroken run"

    def faults(self) -> list[tuple[str, Callable[[], str]]]:
        """(what happens to a run, a function that does it and returns '' or what went wrong)."""
        kept = ("run.json", "training_state.safetensors", "log.jsonl", "bad_rows.json")
        flips = [
            (f"a flipped bit in {name}", partial(self._flip, name, place))
            for name in kept
            for place in (0.02, 0.5, 0.97)
        ]
        full = [(f"no file beyond {size:,} bytes", partial(self._full, size)) for size in (0, 1_000, 60_000, 300_000)]
        return [*flips, *full, ("a folder in use", self._in_use), ("other pictures", self._other_pictures),
                ("a picture deleted", self._deleted)]  # fmt: skip

    def _broken_off(self, variant: str = "pretrain") -> Path:
        """A run that was killed after its first checkpoint."""
        out = self.fresh()
        argv = self.argv(variant, out)
        with open(os.devnull, "wb") as nowhere:
            process = subprocess.Popen(argv, stdout=nowhere, stderr=nowhere, env={**os.environ, "OMP_NUM_THREADS": "1"})
            while process.poll() is None and not (out / "training_state.safetensors").exists():
                time.sleep(0.002)
            process.kill()
            process.wait()
        (out / "finished.json").unlink(missing_ok=True)
        return out

    def _flip(self, name: str, place: float) -> str:
        wanted, _ = self.unbroken("pretrain")
        out = self._broken_off()
        content = bytearray((out / name).read_bytes())
        content[int(place * len(content))] ^= 4
        (out / name).write_bytes(content)
        end = self.attempt("pretrain", out)
        if end.in_words:
            return ""
        return (
            "" if not end.status and digest(out) == wanted else f"status {end.status}, other weights: {end.said[-800:]}"
        )

    def _full(self, size: int) -> str:
        wanted, _ = self.unbroken("pretrain")
        out = self.fresh()
        first = self.attempt("pretrain", out, largest_file=size or 1)
        if first.status and not first.in_words:
            return f"status {first.status}: {first.said[-800:]}"
        return self._ends_well("pretrain", out, wanted)

    def _in_use(self) -> str:
        out = self.fresh()
        with locked(out):
            end = self.attempt("pretrain", out)
        return "" if end.in_words and "is in use by process" in end.said else f"status {end.status}: {end.said[-800:]}"

    def _other_pictures(self) -> str:
        out, images = self._broken_off(), self.words["IMAGES"]
        one, other = images / "0.png", images / "1.png"
        contents = one.read_bytes(), other.read_bytes()
        try:
            one.write_bytes(contents[1])
            other.write_bytes(contents[0])
            end = self.attempt("pretrain", out)
        finally:
            one.write_bytes(contents[0])
            other.write_bytes(contents[1])
        return "" if end.in_words and "facts.data" in end.said else f"status {end.status}: {end.said[-800:]}"

    def _deleted(self) -> str:
        out, gone = self.fresh(), self.words["IMAGES"] / "3.png"
        content = gone.read_bytes()
        gone.unlink()
        try:
            end = self.attempt("pretrain", out)
        finally:
            gone.write_bytes(content)
        return "" if end.in_words and "3.png" in end.said else f"status {end.status}: {end.said[-800:]}"


def digest(run: Path) -> str:
    """Of the weights that a finished run ends with."""
    files = sorted([*run.glob("model.safetensors"), *run.glob("lora.safetensors")])
    return (
        hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
        if (run / "finished.json").is_file()
        else ""
    )
