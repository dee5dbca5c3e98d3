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
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.checkpoint import locked
from model.checkpoints.files import write_json
from tools.torture import seeds

ROOT = Path(__file__).resolve().parents[2]
QUICK = ["--device", "cpu", "--dtype", "float32", "--batch_size", "4", "--steps", "6", "--save_interval", "2",
         "--eval_interval", "3", "--log_interval", "1", "--val_data", "VAL"]  # fmt: skip
PATIENCE = 300.0  # seconds that a tiny run may take
PICTURES = ["--data", "PICTURES", "--images", "IMAGES"]
PRETRAIN = [*PICTURES, "--llm", "LM", "--vision", "VISION"]
# what is trained -> script, flags; the words in capitals are replaced
VARIANTS: dict[str, tuple[str, list[str]]] = {
    "vision": ("train_vision", [*PICTURES, "--image_size", "32", "--patch_size", "8", "--hidden_size", "64",
                                "--layers", "1"]),
    "lm": ("train_lm", ["--data", "TEXTS", "--llm", "LM", "--num_workers", "2"]),
    "pretrain": ("train_pretrain", PRETRAIN),
    "pretrain, workers and accumulation": ("train_pretrain", [*PRETRAIN, "--num_workers", "2",
                                                              "--accumulation_steps", "2"]),
    "pretrain, pixels": ("train_pretrain", [*PRETRAIN, "--cache_gb", "0", "--num_workers", "2",
                                            "--token_budget", "200"]),
    "pretrain, LoRA": ("train_pretrain", [*PRETRAIN, "--train", "projector,lora", "--lora_rank", "2"]),
    "pretrain, best kept": ("train_pretrain", [*PRETRAIN, "--keep", "best"]),
    "pretrain, two ranks": ("train_pretrain", PRETRAIN),
    "sft": ("train_sft", [*PICTURES, "--stage", "2", "--from", "START"]),
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
            "VAL": files["jsonl"], "LM": work / "lm", "VISION": work / "vision", "START": work / "start",
        }  # fmt: skip
        self._unbroken: dict[str, tuple[str, float]] = {}
        if (first := self.attempt("pretrain", work / "start")).status:
            raise RuntimeError(f"the run that SFT starts from failed: {first.said}")

    def argv(self, variant: str, out: Path) -> list[str]:
        """The command of a variant that trains into `out`."""
        script, flags = VARIANTS[variant]
        words = dict(self.words)
        if script == "train_lm":
            words["VAL"] = words["TEXTS"]
        flags = [str(words.get(flag, flag)) for flag in [*flags, *QUICK, "--out", str(out)]]
        ranks = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
        return [sys.executable, *(ranks if "two ranks" in variant else []), str(ROOT / f"{script}.py"), *flags]

    def attempt(self, variant: str, out: Path, kill_after: float | None = None, largest_file: int = 0) -> Attempt:
        """Run it to its end, or kill it and its children after so many seconds.

        largest_file: bytes beyond which no file can grow, as on a full disk (0: no limit).
        """

        def limited() -> None:
            if largest_file:
                resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))

        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "TQDM_DISABLE": "1"}
        process = subprocess.Popen(
            self.argv(variant, out), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment,
            preexec_fn=limited, start_new_session=True,
        )  # fmt: skip
        try:
            said, _ = process.communicate(timeout=PATIENCE if kill_after is None else kill_after)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            said, _ = process.communicate(timeout=PATIENCE)  # ends when all its children have, too
        return Attempt(process.returncode, said.decode("utf-8", "replace"))

    def unbroken(self, variant: str) -> tuple[str, float]:
        """(digest of the weights that an uninterrupted run ends with, its seconds)."""
        if variant not in self._unbroken:
            out, began = self.fresh(), time.monotonic()
            attempt = self.attempt(variant, out)
            if attempt.status:
                raise RuntimeError(f"{variant}: a run that nobody touched failed: {attempt.said[-1500:]}")
            self._unbroken[variant] = digest(out), time.monotonic() - began
        return self._unbroken[variant]

    def fresh(self) -> Path:
        """A folder for a run, with nothing left of the one before."""
        out = self.work / "run"
        shutil.rmtree(out, ignore_errors=True)
        return out

    def kill(self, number: int) -> tuple[str, str, int]:
        """Kill a run up to three times, then let it end: (what was done, '' or what went wrong, number of kills)."""
        rng = random.Random(f"{self.seed} kill {number}")
        variant = list(VARIANTS)[number % len(VARIANTS)]
        wanted, seconds = self.unbroken(variant)
        out, moments = self.fresh(), [rng.uniform(0, seconds) for _ in range(rng.choice((1, 1, 2, 3)))]
        killed = [moment for moment in moments if self.attempt(variant, out, kill_after=moment).status < 0]
        what = f"{variant}, killed after {', '.join(f'{moment:.1f}' for moment in killed)} s"
        return what, self._ends_well(self.attempt(variant, out), out, wanted), len(killed)

    def _ends_well(self, end: Attempt, out: Path, wanted: str) -> str:
        if end.status:
            return f"status {end.status}: {end.said[-1500:]}"
        return "" if digest(out) == wanted else "other weights than those of an unbroken run"

    def _refused(self, end: Attempt, *words: str) -> str:
        """'' if it was refused in a sentence that has these words."""
        fine = end.in_words and all(word in end.said for word in words)
        return "" if fine else f"status {end.status}, not refused: {end.said[-800:]}"

    def faults(self) -> Iterator[tuple[str, str]]:
        """(what happened to a run, '' or what went wrong) for one fault after the other."""
        whole = self._broken_off()
        for file in sorted(file for file in whole.rglob("*") if file.is_file()):
            name = str(file.relative_to(whole))
            for place in (0.02, 0.5, 0.97):
                yield f"a flipped bit in {name} at {place}", self._flip(name, place)
        for size in (1, 1_000, 60_000, 300_000):
            yield f"no file beyond {size:,} bytes", self._full(size)
        yield "a folder in use", self._in_use()
        yield "a file where the folder should be", self._no_folder()
        yield "other pictures", self._other_pictures()
        yield "a picture deleted", self._deleted()

    def _broken_off(self) -> Path:
        """A run that was killed after its second checkpoint, so that there is one before the last."""
        out = self.fresh()
        before = out / "previous_state.safetensors"
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(
            self.argv("pretrain", out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment
        )
        while process.poll() is None and not before.exists():
            time.sleep(0.002)
        process.kill()
        process.wait()
        (out / "finished.json").unlink(missing_ok=True)
        return out

    def _flip(self, name: str, place: float) -> str:
        wanted, _ = self.unbroken("pretrain")
        out = self._broken_off()
        if not (out / name).is_file():  # killed at another moment than the run that the names are from
            return ""
        content = bytearray((out / name).read_bytes())
        if content:
            content[int(place * len(content))] ^= 4
        (out / name).write_bytes(content)
        end = self.attempt("pretrain", out)
        return "" if end.in_words else self._ends_well(end, out, wanted)

    def _full(self, size: int) -> str:
        wanted, _ = self.unbroken("pretrain")
        out = self.fresh()
        first = self.attempt("pretrain", out, largest_file=size)
        if first.status and not first.in_words:
            return f"status {first.status}: {first.said[-800:]}"
        return self._ends_well(self.attempt("pretrain", out), out, wanted)

    def _in_use(self) -> str:
        out = self.fresh()
        with locked(out):
            return self._refused(self.attempt("pretrain", out), f"in use by process {os.getpid()}")

    def _no_folder(self) -> str:
        out = self.fresh()
        out.write_text("not a folder")
        try:
            return self._refused(self.attempt("pretrain", out), str(out))
        finally:
            out.unlink()

    def _other_pictures(self) -> str:
        out = self._broken_off()
        one, other = (self.words["IMAGES"] / name for name in ("0.png", "1.png"))
        contents = one.read_bytes(), other.read_bytes()
        one.write_bytes(contents[1])
        other.write_bytes(contents[0])
        try:
            return self._refused(self.attempt("pretrain", out), "data")
        finally:
            one.write_bytes(contents[0])
            other.write_bytes(contents[1])

    def _deleted(self) -> str:
        out, gone = self.fresh(), self.words["IMAGES"] / "3.png"
        content = gone.read_bytes()
        gone.unlink()
        try:
            return self._refused(self.attempt("pretrain", out), "3.png")
        finally:
            gone.write_bytes(content)


def be_violent(work: Path, seed: int, most: int, end: float, report: Path) -> None:
    """A run of each kind killed, then all faults, then more kills: `most` runs, as long as time.monotonic() < end.

    report: the JSON file that says what was tried and what failed.
    """
    work.mkdir()
    violence = Violence(work, seed)
    kills: dict[str, Any] = {"tried": 0, "failed": []}
    faults: dict[str, Any] = {"tried": 0, "failed": []}

    def note(tally: dict[str, Any], what: str, wrong: str, tried: int = 1) -> None:
        tally["tried"] += tried
        if wrong:
            tally["failed"].append(f"{what}: {wrong}")
            print(tally["failed"][-1], flush=True)

    for number in range(most):
        if number == len(VARIANTS):
            for what, wrong in violence.faults():
                note(faults, what, wrong)
                if time.monotonic() > end:
                    break
        if time.monotonic() > end:
            break
        what, wrong, tried = violence.kill(number)
        note(kills, what, wrong, tried)
    write_json(report, {"kills": kills, "faults": faults})


def digest(run: Path) -> str:
    """Of the weights that a finished run ends with; '' if it is not finished."""
    if not (run / "finished.json").is_file():
        return ""
    files = sorted([*run.glob("model.safetensors"), *run.glob("lora.safetensors")])
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
