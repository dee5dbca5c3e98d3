"""Scores a run as eval_vlm.py does, and says what its loss did where one epoch ends and the next begins."""

from __future__ import annotations

if __name__ == "__main__":
    from engine.start import begin

    begin()

import argparse
import sys
from pathlib import Path
from statistics import fmean

import eval_vlm
from engine.checkpoint import Run
from engine.command import guarded
from engine.log import read_log
from model.checkpoints import read_json, write_json
from tools.studies.curves import boundaries, epoch_steps


def main(argv: list[str] | None = None) -> None:
    """python -m tools.studies.order --weights RUN --scores FILE ...    the other flags are those of eval_vlm.py

    The scores get, beside eval_vlm.py's metrics, `scalars`: the mean jump of the loss at the end of an epoch, its mean
    change within one, and the last losses; and `curve`: the loss after each step. The run logs each step.
    """
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--scores", required=True, type=Path)
    argv = sys.argv[1:] if argv is None else argv
    args, _ = parser.parse_known_args(argv)
    eval_vlm.main(argv)
    run = Run(Path(args.weights))
    entries, epoch, summary = read_log(run.log_file), epoch_steps(run), run.summary()
    found = boundaries(entries, epoch)
    scalars = {"jump": fmean(one["jump"] for one in found), "within": fmean(one["within"] for one in found),
               "loss": summary["loss"], "val_loss": summary["val_loss"]}  # fmt: skip
    ends = {one["step"] for one in found}
    curve = [{"step": entry["step"], "loss": round(entry["loss"], 4), **({"end": 1} if entry["step"] in ends else {})}
             for entry in entries if "loss" in entry]  # fmt: skip
    write_json(args.scores, {**read_json(args.scores), "scalars": scalars, "curve": curve})


if __name__ == "__main__":
    sys.exit(guarded(main))
