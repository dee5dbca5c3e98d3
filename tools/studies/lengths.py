"""Scores a run as eval_vlm.py does, and once more with every caption made as long as any other.

Who says less errs less. Captions of one length in tokens, cut off there and not allowed to end before, compare what a
model says about a picture when it has to go on.
"""

from __future__ import annotations

if __name__ == "__main__":
    from engine.start import begin

    begin()

import argparse
import sys
from pathlib import Path

import eval_vlm
from dataset.bad_rows import BadRows
from engine.command import guarded
from model.checkpoints import read_json, write_json
from scoring.answer_file import read_answers, write_answers
from scoring.metrics import SampleScores, summarise, with_prefix
from tools.studies.results import caption_scores

TOKENS = 64
FORCED = ("statement_accuracy", "false_per_100_tokens", "absent_per_100_tokens", "chair_i", "recall", "amber_cog")


def main(argv: list[str] | None = None) -> None:
    """python -m tools.studies.lengths --answers FILE --scores FILE ...    the other flags are those of eval_vlm.py

    The answers and scores get, beside those of eval_vlm.py, forced_<metric> of captions of TOKENS tokens each.
    """
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--answers", required=True, type=Path)
    parser.add_argument("--scores", required=True, type=Path)
    argv = sys.argv[1:] if argv is None else argv
    args, rest = parser.parse_known_args(argv)
    eval_vlm.main(argv)
    file = args.answers.with_name("forced.jsonl")
    length = ("--min_new_tokens", str(TOKENS), "--max_new_tokens", str(TOKENS))
    eval_vlm.main([*rest, *length, "--questions", "0", "--no-blank", "--scores", "", "--answers", str(file)])
    rows, forced = (read_answers(one, BadRows(0.0)) for one in (args.answers, file))
    samples: list[SampleScores] = []
    for row, other in zip(rows[: len(forced)], forced, strict=True):  # captions come first, questions after them
        scores = caption_scores(other)
        samples.append(with_prefix("forced_", {name: scores[name] for name in FORCED if name in scores}))
        row["scores"] |= samples[-1]
    write_answers(args.answers, rows)
    found = read_json(args.scores)
    write_json(args.scores, {**found, "metrics": found["metrics"] | summarise(samples)})


if __name__ == "__main__":
    sys.exit(guarded(main))
