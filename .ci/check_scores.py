"""Fails where the demo's scores fall below what was reached before, and says how far they are from the goal."""

from __future__ import annotations

import json
import sys
from pathlib import Path

# the eight test pictures: a caption must hold one word of every group
MAIN_THINGS = {
    "城市车水马龙": (("汽车",), ("公交车",)),
    "太空宇航员": (("宇航员",),),
    "小狗美女海边": (("小狗",), ("女人",)),
    "彩虹瀑布": (("彩虹",), ("瀑布",)),
    "椅子老人看书": (("老人",), ("椅子",)),
    "熊猫草地": (("熊猫",), ("草地",)),
    "自行车鲜花": (("自行车",), ("鲜花",)),
    "舞蹈": (("舞者",),),
}


def scores(name: str) -> dict:
    return json.loads(Path(f"out/{name}.json").read_text(encoding="utf-8"))["metrics"]


def named() -> int:
    """How many of the eight captions name their main things."""
    captions = json.loads(Path("out/sft3/captions_sft_images.json").read_text(encoding="utf-8"))["captions"]
    count = 0
    for caption in captions:
        groups = next(groups for name, groups in MAIN_THINGS.items() if caption["image"].startswith(name))
        count += all(any(word in caption["text"] for word in group) for group in groups)
    return count


def reaches(value: float, sign: str, bound: float) -> bool:
    return value >= bound if sign == ">=" else value <= bound


def main() -> int:
    test, first, compositional = scores("scores_test"), scores("scores_sft1"), scores("scores_compositional")
    # what is measured, its value, the sign, what was reached before with a margin, the goal
    checks = (
        ("test F1", test["f1"], ">=", 0.90, 0.90),
        ("test CHAIR-i", test["chair_i"], "<=", 0.08, 0.08),
        ("test colour binding", test["colour_binding"], ">=", 0.88, 0.80),
        ("test loops", test["loop_share"], "<=", 0.01, 0.01),
        ("test stopped", test["stopped_share"], ">=", 0.98, 0.98),
        ("F1 lost since stage 1", first["f1"] - test["f1"], "<=", 0.03, 0.03),
        ("test F1, image blanked", test["blank_f1"], "<=", 0.45, 0.45),
        ("compositional F1", compositional["f1"], ">=", 0.80, 0.80),
        ("test pictures whose main things are named", named(), ">=", 7, 7),
    )
    failed = 0
    for name, value, sign, floor, goal in checks:
        good, there = (reaches(value, sign, bound) for bound in (floor, goal))
        failed += not good
        aim = "" if there else f", goal {goal}"
        print(f"{name:<44} {value:.3f}  (must be {sign} {floor}{aim}){'' if good else '  NOT REACHED'}")
    print(f"{len(checks) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
