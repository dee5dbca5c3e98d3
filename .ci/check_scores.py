"""Fails where the demo's scores fall below what was reached before, and says how far they are from the goal."""

from __future__ import annotations

import json
import operator
import re
import sys
from pathlib import Path

from dataset.picturebook.questions import SAMPLINGS, TYPES
from dataset.picturebook.sft_scenes import sft_scenes
from scoring.statements import judge
from scoring.tasks import TURNS

SIGNS = {">=": operator.ge, "<=": operator.le}
RUNS = Path(sys.argv[1] if len(sys.argv) > 1 else "out")


def scores(name: str) -> dict:
    return json.loads((RUNS / f"{name}.json").read_text(encoding="utf-8"))["metrics"]


def false_sentences() -> list[str]:
    """The sentences about the eight test pictures that hold a false statement."""
    captions = json.loads((RUNS / "sft3/captions_sft_images.json").read_text(encoding="utf-8"))["captions"]
    found = []
    for caption in captions:
        scene, text = sft_scenes()[Path(caption["image"]).stem], caption["text"]
        wrong = [statement.start for statement in judge(text, scene) if statement.verdict is False]
        ends = [match.end() for match in re.finditer(r"[。.!?！？](?:\s|$|(?<=[。！？]))", text)]
        for start, end in zip([0, *ends], [*ends, len(text)], strict=True):
            if any(start <= place < end for place in wrong):
                found.append(f"{scene.place}: {text[start:end].strip()}")
    return found


def checks() -> list[tuple[str, float, str, float, float]]:
    """What is measured, its value, the sign, what was reached before with a margin, the goal."""
    test, first, compositional = scores("scores_test"), scores("scores_sft1"), scores("scores_compositional")
    wrong = false_sentences()
    print("\n".join(f"false: {sentence}" for sentence in wrong))
    rows = [
        ("test statements that are true", test["statement_accuracy"], ">=", 0.97, 0.95),
        ("test captions that are true", test["caption_true_share"], ">=", 0.84, 0.70),
        ("test captions that contradict themselves", test["contradiction_share"], "<=", 0.05, 0.01),
        ("test sides", test["statement_accuracy/side"], ">=", 0.92, 0.92),
        ("test orders", test["statement_accuracy/order"], ">=", 0.92, 0.92),
        ("test relations", test["statement_accuracy/relation"], ">=", 0.90, 0.92),
        ("test F1", test["f1"], ">=", 0.95, 0.95),
        ("test CHAIR-i", test["chair_i"], "<=", 0.03, 0.03),
        ("test colour binding", test["colour_binding"], ">=", 0.95, 0.95),
        ("test numbers above one", test["count_accuracy_many"], ">=", 0.90, 0.90),
        ("test loops", test["loop_share"], "<=", 0.01, 0.01),
        ("test stopped", test["stopped_share"], ">=", 0.98, 0.98),
        ("F1 lost since stage 1", first["f1"] - test["f1"], "<=", 0.03, 0.03),
        ("test F1, image blanked", test["blank_f1"], "<=", 0.45, 0.45),
        ("compositional F1", compositional["f1"], ">=", 0.90, 0.90),
        ("compositional statements that are true", compositional["statement_accuracy"], ">=", 0.88, 0.88),
        ("false sentences about the eight test pictures", len(wrong), "<=", 3, 2),
    ]
    for sampling in SAMPLINGS:
        rows.append((f"POPE, {sampling}", test[f"pope_accuracy/{sampling}"], ">=", 0.92, 0.92))
        away = abs(test[f"pope_yes_rate/{sampling}"] - 0.5)
        rows.append((f"POPE, {sampling}: yes-rate from a half", away, "<=", 0.05, 0.05))
    for kind in TYPES:
        rows.append((f"questions: {kind}", test[f"vqa_accuracy/{kind}"], ">=", 0.86, 0.90))
    for turn in range(2, TURNS + 1):
        lost = test["vqa_accuracy/turn1"] - test[f"vqa_accuracy/turn{turn}"]
        rows.append((f"questions: lost by turn {turn}", lost, "<=", 0.03, 0.03))
    return rows


def main() -> int:
    failed = 0
    rows = checks()
    for name, value, sign, floor, goal in rows:
        good, there = (SIGNS[sign](value, bound) for bound in (floor, goal))
        failed += not good
        aim = "" if there else f", goal {goal}"
        print(f"{name:<46} {value:.3f}  (must be {sign} {floor}{aim}){'' if good else '  NOT REACHED'}")
    print(f"{len(rows) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
