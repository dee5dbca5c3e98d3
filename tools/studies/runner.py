"""Runs the arms of a study: each arm and seed is a row, made by commands that are resumed where they were stopped."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from tqdm import tqdm

from engine.checkpoint import Run, RunError
from model.checkpoints import read_json, read_tensors, write_json
from scoring.metrics import summarise
from tools.studies.arms import Study
from tools.studies.results import read_scores

ROOT = Path(__file__).resolve().parents[2]
PICTURES = 300  # of the test split, by default
ROW = "row.json"  # in the folder of an arm and seed
PROJECTOR = re.compile(r"projector\.")
DIGITS = 5  # of a metric in a row


class ArmError(RunError):
    """A command of an arm that ended with an error."""


@dataclass(frozen=True)
class Plan:
    """What all rows of a study have in common. extra: flags for every training command, as --english 1."""

    name: str
    study: Study
    folder: Path
    n: int = PICTURES  # to score
    extra: tuple[str, ...] = ()
    plugin: tuple[str, ...] = ()  # for the commands that have a projector
    recipe: tuple[str, ...] = ()  # for all commands
    quick: bool = False

    def path(self, arm: str, seed: int) -> Path:
        return self.folder / f"{re.sub(r'[^a-z0-9]+', '-', arm.lower()).strip('-')}-{seed}"

    @property
    def data(self) -> Path:
        """What the study's own data commands make."""
        return self.folder / "data"

    def typed(self, *flags: str) -> str:
        """The command of the study, or with flags of a part of it, as one would type it."""
        size = ("--quick",) if self.quick else ("--n", str(self.n)) if self.n != PICTURES else ()
        return self.told(["ablate.py", self.name, *flags, *size, *self.recipe, *self.plugin, *self.extra])

    def told(self, words: Iterable[str]) -> str:
        """A command as one would type it, the study in its usual folder, a plugin of one's own in the current one."""
        usual = f"out/ablate/{self.name}{'-quick' if self.quick else ''}"
        names = {word: os.path.relpath(word, ROOT) if Path(word).is_relative_to(ROOT) else Path(word).name
                 for word in self.plugin[1:]}  # fmt: skip
        return shlex.join(["python", *(names.get(word, word.replace(str(self.folder), usual)) for word in words)])


def steps_of(plan: Plan, commands: Iterable[str], folder: Path, seed: int, shared: Path | None) -> list[list[str]]:
    """The commands as lists of words, each with --out, and with what {seed}, {shared}, {before}, {data} and {n} stand
    for."""
    made, before = [], shared
    for number, command in enumerate(commands, 1):
        out = folder.parent / "runs" / f"{folder.name}-{number}"  # beside the others, with which it shares a cache
        words = filled(command, seed=seed, shared=shared, before=before, data=plan.data, n=plan.n)
        plugin = () if words[0] == "train_lm.py" else plan.plugin
        made.append([*words, *plan.recipe, *plan.extra, *plugin, "--out", str(out)])
        before = out
    return made


def filled(command: str, **values: object) -> list[str]:
    """The words of a command, each with the values that it names in it."""
    return [word.format(**values) for word in shlex.split(command)]


def make(commands: list[list[str]], log: Path, threads: int) -> None:
    """Run the commands in turn, what they say kept in `log`; ArmError, with its last lines, where one fails."""
    log.parent.mkdir(parents=True, exist_ok=True)
    for words in commands:
        with log.open("a", encoding="utf-8") as file:
            file.write(f"\n$ python {shlex.join(words)}\n")
            file.flush()
            code = called(words, file, threads)
        if code:
            last = "\n".join(log.read_text("utf-8", "replace").splitlines()[-8:])
            raise ArmError(f"python {shlex.join(words)} ended with {code}; {log} has what it said:\n{last}")


def called(words: list[str], log: TextIO, threads: int) -> int:
    """The exit status of a command, in a process of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)} if threads else dict(os.environ)
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), environment.get("PYTHONPATH"))))  # for -m
    command = [sys.executable, *(words if words[0] == "-m" else (str(ROOT / words[0]), *words[1:]))]
    return subprocess.call(command, stdout=log, stderr=log, env=environment)


def make_data(plan: Plan, threads: int) -> None:
    """What all rows of the study read, once."""
    commands = [filled(command, data=plan.data) for command in plan.study.data]
    file, told = plan.data / "made.json", {"commands": [plan.told(words) for words in commands]}
    if commands and not (file.is_file() and read_json(file) == told):
        make(commands, plan.data / "log.txt", threads)
        write_json(file, told)


def make_shared(plan: Plan, seed: int, threads: int) -> Path | None:
    """What all arms of a seed start from, the last of its runs; None if the study needs nothing."""
    if not plan.study.shared:
        return None
    folder = plan.path("shared", seed)
    commands = steps_of(plan, plan.study.shared, folder, seed, None)
    make([words for words in commands if not Run(Path(words[-1])).is_finished()], folder / "log.txt", threads)
    return Path(commands[-1][-1])


def run_row(plan: Plan, arm: str, seed: int, threads: int = 0) -> dict:
    """Train and score one arm from one seed: what it took, and its metrics. A finished row is not made again."""
    folder = plan.path(arm, seed)
    make_data(plan, threads)
    shared = make_shared(plan, seed, threads)
    training = steps_of(plan, plan.study.arms[arm], folder, seed, shared)
    weights = Path(training[-1][-1]) if training else shared
    if weights is None:
        raise ArmError(f"{arm}: no run to score; give the arm a command, or the study a shared one")
    answers, scores = folder / "answers.jsonl", folder / "scores.json"
    scored = [*filled(plan.study.scored, n=plan.n, data=plan.data), *plan.recipe, *plan.plugin,
              "--weights", str(weights), "--answers", str(answers), "--scores", str(scores)]  # fmt: skip
    file, told = folder / ROW, [plan.told(words) for words in (*training, scored)]
    row = read_json(file) if file.is_file() else {}
    if row.get("commands") == told:
        return row
    missing = [words for words in training if not Run(Path(words[-1])).is_finished()]
    make([*missing, scored], folder / "log.txt", threads)
    summaries, found = [Run(Path(words[-1])).summary() for words in training], read_json(scores)
    row = {
        "study": plan.name, "arm": arm, "seed": seed, "n": found.get("n", plan.n),
        "steps": sum(one["steps"] for one in summaries), "tokens": sum(one["tokens"] for one in summaries),
        "supervised": sum(supervised(Path(words[-1])) for words in training),
        "projector": projector_weights(weights),
        "seconds": round(sum(one["seconds"] for one in summaries), 1),
        "command": plan.typed("--arm", arm, "--seed", str(seed)), "commands": told,
        "answers": answers.relative_to(plan.folder).as_posix(),
        "metrics": rounded(summarise(read_scores(answers)) | found["metrics"]),
        **{key: rounded(found[key]) for key in ("scalars", "curve") if key in found},
    }  # fmt: skip
    write_json(file, row)
    return row


def rounded(value: Any) -> Any:
    """Metrics and their intervals in DIGITS digits after the point."""
    if isinstance(value, dict):
        return {name: rounded(one) for name, one in value.items()}
    if isinstance(value, list):
        return [rounded(one) for one in value]
    return round(value, DIGITS) if isinstance(value, float) else value


def projector_weights(run: Path) -> int:
    """How many the projector of a run has."""
    return sum(tensor.numel() for tensor in read_tensors(run / "model.safetensors", PROJECTOR.match).values())


def supervised(run: Path) -> int:
    """About how many supervised tokens a run was trained on: its data's share of them, times the tokens it saw."""
    _, tokens, labelled = Run(run).facts()["samples, tokens, supervised"]
    return round(Run(run).summary()["tokens"] * labelled / tokens)


def run_study(plan: Plan, arms: Iterable[str], seeds: Iterable[int], jobs: int, threads: int) -> list[dict]:
    """The rows of these arms and seeds, `jobs` at a time, with a progress bar; the first ArmError stops the rest."""
    todo = [(arm, seed) for seed in seeds for arm in arms]
    make_data(plan, threads)
    rows: dict[tuple[str, int], dict] = {}
    pool = ThreadPoolExecutor(jobs) if jobs > 1 else None
    try:
        shared, own = partial(make_shared, plan, threads=threads), list(dict.fromkeys(seed for _, seed in todo))
        if plan.recipe:
            shared(own[0])  # alone, as it makes the recipe's encoder and language model where they are not there
        for _ in (pool.map if pool else map)(shared, own):
            pass  # before the arms, as several of a seed would make it at once
        with tqdm(total=len(todo), unit="arm", desc=plan.name) as bar:
            for key, row in made(plan, todo, threads, pool):
                rows[key] = row
                bar.set_postfix_str("{}, seed {}".format(*key))
                bar.update()
    finally:
        if pool:
            pool.shutdown(wait=False, cancel_futures=True)
    return [rows[key] for key in todo]


def made(
    plan: Plan, todo: list[tuple[str, int]], threads: int, pool: ThreadPoolExecutor | None
) -> Iterator[tuple[tuple[str, int], dict]]:
    """(arm, seed) and their row, as each is done; without a pool one after another."""
    if pool is None:
        yield from ((key, run_row(plan, *key, threads)) for key in todo)
        return
    waiting = {pool.submit(run_row, plan, *key, threads): key for key in todo}
    for done in as_completed(waiting):
        yield waiting[done], done.result()


def quick(plan: Plan) -> Plan:
    """The plan with a few steps, samples and scenes, for a look at whether it runs."""

    def shorter(command: str) -> str:
        command = re.sub(r"--steps \d+", "--steps 8", re.sub(r"--samples \d+", "--samples 64", command))
        command = re.sub(r"--snapshots \S+", "--snapshots 1", command)
        cells = " --cell_steps 2" if "train_pretrain" in command and "--cell_steps" not in command else ""
        return f"{command} --scenes 64{cells}"

    arms = {arm: tuple(map(shorter, commands)) for arm, commands in plan.study.arms.items()}
    data = tuple(re.sub(r"--(brands|most) \d+", r"--\1 9", command) for command in plan.study.data)
    study = replace(plan.study, arms=arms, shared=tuple(map(shorter, plan.study.shared)), data=data)
    return replace(plan, study=study, n=8, quick=True)
