"""The eight test pictures: `python -m dataset.picturebook.sft_scenes` draws them into sft_images/.

They recreate the subjects of the reference project's eight test photographs, as far as the picture book's world allows.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from dataset.picturebook.drawing.picture import draw
from dataset.picturebook.facts import KINDS, Relation, Scene, Thing
from dataset.picturebook.world import SIZES


def thing(kind: str, x: float, y: float, colour: str | None = None, action: str | None = None, count: int = 1,
          size: str = "medium", flip: bool = False, shrink: float = 1.0) -> Thing:  # fmt: skip
    """A thing with the height of its kind and size, times `shrink` in a crowded picture."""
    height = KINDS[kind].height * SIZES[size] * shrink
    return Thing(kind, colour, count, action, size, x, y, height, flip)


def sft_scenes() -> dict[str, Scene]:
    """The eight scenes by file name, without extension."""
    return {
        "城市车水马龙-city-traffic": Scene(11, "street", (
            thing("car", 0.29, 0.90, "red", count=2, size="small", shrink=0.74),
            thing("bus", 0.78, 0.76, "yellow", shrink=0.68, flip=True),
        )),
        "太空宇航员-Astronaut-Space": Scene(12, "space", (
            thing("astronaut", 0.32, 0.84, action="floating", size="large"),
            thing("rocket", 0.72, 0.90, "white", size="large"),
            thing("moon", 0.49, 0.26),
        )),
        "小狗美女海边-Dog-Woman-Sea": Scene(13, "sea", (
            thing("woman", 0.22, 0.86, "pink", "standing"),
            thing("dog", 0.48, 0.90, "brown", "sitting", flip=True),
            thing("umbrella", 0.78, 0.82, "red"),
        )),
        "彩虹瀑布-Rainbow-Falls": Scene(14, "waterfall", (
            thing("bird", 0.14, 0.60, "blue", "flying"),
            thing("tree", 0.82, 0.93, "green", size="small"),
            thing("rainbow", 0.47, 0.42),
        )),
        "椅子老人看书-Chair-Elderly-Reading": Scene(15, "room", (
            thing("elder", 0.38, 0.92, "gray", "reading"),
            thing("chair", 0.38, 0.92, "brown"),
            thing("lamp", 0.76, 0.88, "yellow"),
        ), Relation("on", 0, 1)),
        "熊猫草地-Panda-Grassland": Scene(16, "grassland", (
            thing("panda", 0.45, 0.88, action="eating", size="large"),
            thing("butterfly", 0.78, 0.44, "yellow", "flying"),
        )),
        "自行车鲜花-Bicycle-Flowers": Scene(17, "garden", (
            thing("bicycle", 0.30, 0.86, "red"),
            thing("flower", 0.74, 0.92, "yellow", count=3),
        )),
        "舞蹈-dance": Scene(18, "stage", (
            thing("dancer", 0.50, 0.90, "red", "dancing", size="large"),
        )),
    }  # fmt: skip


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[2] / "sft_images", help="output folder")
    parser.add_argument("--size", type=int, default=512, help="side of a picture in pixels")
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    for name, scene in sft_scenes().items():
        draw(scene, args.size).save(args.out / f"{name}.jpg", quality=90, optimize=True)
        print(args.out / f"{name}.jpg")


if __name__ == "__main__":
    main()
