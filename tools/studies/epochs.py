"""Scores a training on named pictures by epoch: its snapshots and its end, on its own data and on a test."""

from __future__ import annotations

if __name__ == "__main__":
    from engine.start import begin

    begin()

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from dataset.bad_rows import BadRows
from dataset.batching import PictureLoader, pixel_loader
from dataset.formats.sources import read_records
from dataset.record import Record
from engine.build import load_trained
from engine.checkpoint import Run
from engine.command import guarded
from engine.device import pick_device, pick_dtype, prepare
from engine.inference import Answer, Decoding
from engine.looker import Looker, answer_all, remembering
from model.checkpoints import read_json, write_json
from scoring.answer_file import answer_rows, write_answers
from scoring.answers import contains
from scoring.metrics import SampleScores, summarise
from scoring.tasks import ReferenceTask, reference_task
from tools.studies.curves import epoch_steps

TIERS = {"common": 20, "middle": 5, "rare": 1}  # training pictures of a name, at least
SEEN = 5  # of the names of which accuracy_seen counts the pictures


def tier(count: int) -> str:
    """How common a name is that has so many training pictures in all, whether a run has seen them or not."""
    return next((name for name, least in TIERS.items() if count >= least), "rare")


def naming_scores(right: bool, count: int, absent: bool) -> SampleScores:
    """accuracy: the answer contains the name; the same by tier, of names of SEEN pictures or more, and of those that
    are absent from the run's own training data."""
    names = ["accuracy", f"accuracy/{tier(count)}"]
    names += ["accuracy_seen"] if count >= SEEN else []
    names += ["accuracy/absent"] if absent else []
    return {name: (float(right), 1) for name in names}


def points_of_run(run: Run) -> list[tuple[float, Path]]:
    """(epoch, folder) of each snapshot of a run, in order, and of the run itself."""
    kept = [(float(read_json(folder / "finished.json")["epoch"]), folder) for folder in run.path.glob("epoch*/")]
    return [*sorted(kept), (round(run.summary()["steps"] / epoch_steps(run), 2), run.path)]


def main(argv: list[str] | None = None) -> None:
    """python -m tools.studies.epochs --weights RUN --data TEST --counts TRAIN --answers FILE --scores FILE

    Answers to the test rows after the last epoch, each with its scores, and `best_accuracy` of the epoch that is best
    on the test; in the scores `curve`, the accuracies after each epoch that was kept, and `scalars`: accuracy on --n of
    the training rows, the gap to the test, the best epoch, and what was lost since.
    """
    parser = argparse.ArgumentParser(description=main.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("weights", "data", "counts", "answers", "scores"):
        parser.add_argument(f"--{name}", required=True, type=Path)
    parser.add_argument("--n", type=int, default=500, help="training rows to score (default: 500)")
    parser.add_argument("--max_new_tokens", type=int, default=48)
    args = parser.parse_args(argv)
    run = Run(args.weights)
    own = records_of(Path(run.record()["settings"]["data"]))
    counts = Counter(record.label for record in records_of(args.counts))
    held = {record.label for record in own}
    test, train = reference_task(records_of(args.data)), reference_task(own, args.n)
    device = pick_device("auto")
    prepare(device)
    dtype = pick_dtype("auto", device)
    decoding = Decoding(args.max_new_tokens, 64, dtype=dtype)
    loads: dict[str, PictureLoader] = {}  # by encoder: where it was frozen, pictures are encoded once
    curve, scored, made = [], [], []
    for epoch, folder in points_of_run(run):
        trained = load_trained(folder, device=device, dtype=dtype)
        looker = Looker(trained, decoding, pixel_loader(trained.encoder.spec))
        load = loads.setdefault(trained.encoder.fingerprint, remembering(looker))
        looker = replace(looker, load=load)
        made = answer_all(looker, test, title=f"epoch {epoch:g}, test")
        learned = answer_all(looker, train, title=f"epoch {epoch:g}, train")
        scored.append([naming_scores(right, counts[record.label], record.label not in held)
                       for right, record in zip(named(test, made), test.records, strict=True)])  # fmt: skip
        totals = summarise(scored[-1], resamples=1)
        curve.append({"epoch": epoch, "train": share(named(train, learned)), "test": totals["accuracy"],
                      **{name: totals.get(f"accuracy/{name}") or 0.0 for name in TIERS}})  # fmt: skip
        print("  ".join(f"{name} {value:.3f}" for name, value in curve[-1].items()))
    best = max(range(len(curve)), key=lambda k: (curve[k]["test"], -k))
    samples = [score | {"best_accuracy": top["accuracy"]} for score, top in zip(scored[-1], scored[best], strict=True)]
    texts, stopped, tokens = zip(*((one.text, one.stopped, one.tokens) for one in made), strict=True)
    write_answers(args.answers, answer_rows(test, texts, stopped, tokens, samples))
    last = curve[-1]
    scalars = {"train_accuracy": last["train"], "gap": last["train"] - last["test"], "best_epoch": curve[best]["epoch"],
               "lost_since_best": curve[best]["test"] - last["test"]}  # fmt: skip
    write_json(args.scores, {"n": len(made), "metrics": summarise(samples), "scalars": scalars, "curve": curve})


def records_of(file: Path) -> list[Record]:
    return list(read_records(file, bad=BadRows(0.0)))


def named(task: ReferenceTask, answers: Sequence[Answer]) -> list[bool]:
    """Whether each answer contains its record's label."""
    return [contains(one.text, [record.label or ""]) for one, record in zip(answers, task.records, strict=True)]


def share(right: Sequence[bool]) -> float:
    return float(np.mean(right))


if __name__ == "__main__":
    sys.exit(guarded(main))
