"""Marks of invented brands, and pictures of a shirt, a box or a flag that wears one.

A mark is a plate (one of 8 shapes in one of 8 colours) with a device on it (one of 12), and below it the name in
capitals of plain strokes. Only together are shape, colour and device a brand's own: others share one or two of them.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from PIL import Image

from dataset.picturebook.drawing.pen import RGB, Pen, Point, arc, edge, mix, shade

SIZE, FINE = 128, 4  # side of a picture in pixels, and how many times finer it is drawn
WHITE, INK = (252, 252, 248), (36, 38, 48)
PLATES: dict[str, RGB] = {
    "red": (206, 44, 48), "orange": (240, 138, 32), "yellow": (248, 208, 52), "green": (46, 142, 74),
    "sky": (70, 168, 226), "blue": (38, 66, 168), "purple": (128, 62, 156), "black": (44, 44, 52),
}  # fmt: skip
PALE = ("orange", "yellow", "sky")  # plates with a dark device; that of the others is white
# of shirt, box or flag: Chinese and English name, colour
CLOTHS: tuple[tuple[str, str, RGB], ...] = (
    ("白色", "white", (240, 240, 236)), ("灰色", "gray", (150, 154, 160)), ("米色", "beige", (226, 206, 172)),
    ("粉色", "pink", (242, 178, 194)), ("浅绿色", "light green", (172, 214, 168)),
    ("浅蓝色", "light blue", (168, 204, 236)), ("棕色", "brown", (136, 94, 62)), ("深蓝色", "navy", (44, 58, 98)),
)  # fmt: skip
THINGS = (("T恤", "shirt"), ("箱子", "box"), ("旗子", "flag"))
WALLS: tuple[RGB, ...] = ((214, 222, 226), (232, 224, 208), (200, 214, 200), (220, 208, 222), (206, 206, 204))
# each letter as a stroke through points of a grid of 3 x 5, numbered row by row from the upper left; " " lifts the pen
STROKES = {
    "a": "c315e 68", "b": "c0157bdc 67", "d": "015bdc0", "e": "20ce 67", "f": "20c 67", "g": "20ce87", "i": "1d",
    "k": "0c 26e", "l": "0ce", "m": "c072e", "n": "c0e2", "o": "02ec0", "p": "c01576", "r": "c01576 7e",
    "s": "20 068ec", "t": "02 1d", "u": "0ce2", "v": "0d2", "z": "02ce",
}  # fmt: skip


def regular(count: int, inner: float = 1.0, turn: float = 90.0, radius: float = 1.0) -> list[Point]:
    """The corners of a regular polygon; inner below 1: of a star with so many points."""
    steps = count * (1 if inner == 1.0 else 2)
    out = []
    for k in range(steps):
        r, angle = radius * (inner if inner != 1.0 and k % 2 else 1.0), math.radians(turn + 360 * k / steps)
        out.append((r * math.cos(angle), r * math.sin(angle)))
    return out


def scallops(count: int) -> list[Point]:
    """The outline of a flower with so many petals."""
    angles = [math.radians(3 * k) for k in range(120)]
    radii = [0.9 + 0.12 * math.cos(count * angle) for angle in angles]
    return [(r * math.cos(a), r * math.sin(a)) for r, a in zip(radii, angles, strict=True)]


SHAPES: dict[str, list[Point]] = {
    "disc": arc(0, 0, 0.96, 0.96, 0, 360),
    "square": [(-0.86, -0.86), (0.86, -0.86), (0.86, 0.86), (-0.86, 0.86)],
    "diamond": regular(4, radius=1.12),
    "hexagon": regular(6, radius=1.02),
    "shield": [(-0.84, 0.9), (0.84, 0.9), (0.84, -0.1), *arc(0, -0.1, 0.84, 0.9, 0, -180)[1:], (-0.84, 0.9)],
    "arch": [(-0.84, -0.86), (0.84, -0.86), *arc(0, 0.08, 0.84, 0.86, 0, 180)],
    "flower": scallops(8),
    "sun": regular(12, 0.8, radius=1.08),
}


@dataclass(frozen=True)
class Ink:
    """Draws a device with a pen: `on` is its colour, `off` the plate's."""

    pen: Pen
    on: RGB
    off: RGB

    def star(self) -> None:
        self.pen.shape(regular(5, 0.42, radius=0.72), self.on)

    def cross(self) -> None:
        self.pen.box(-0.18, -0.58, 0.18, 0.58, self.on)
        self.pen.box(-0.58, -0.18, 0.58, 0.18, self.on)

    def ring(self) -> None:
        self.pen.oval(0, 0, 0.58, fill=self.on)
        self.pen.oval(0, 0, 0.32, fill=self.off)

    def moon(self) -> None:
        self.pen.oval(-0.04, 0, 0.6, fill=self.on)
        self.pen.oval(0.2, 0.08, 0.48, fill=self.off)

    def bolt(self) -> None:
        points = [(0.16, 0.7), (-0.44, -0.1), (-0.06, -0.1), (-0.18, -0.7), (0.44, 0.14), (0.04, 0.14)]
        self.pen.shape(points, self.on)

    def bars(self) -> None:
        for left, top in ((-0.52, 0.05), (-0.13, 0.35), (0.26, 0.62)):
            self.pen.box(left, -0.52, left + 0.27, top, self.on)

    def dots(self) -> None:
        for x, y in ((0.0, 0.36), (-0.36, -0.26), (0.36, -0.26)):
            self.pen.oval(x, y, 0.27, fill=self.on)

    def waves(self) -> None:
        for y in (0.3, -0.05, -0.4):
            points = [(-0.6 + 0.05 * k, y + 0.11 * math.sin(math.pi * k / 4)) for k in range(25)]
            self.pen.line(points, 0.17, self.on)

    def arrow(self) -> None:
        self.pen.shape([(0, 0.66), (-0.56, 0.06), (-0.2, 0.06), (-0.2, -0.6), (0.2, -0.6), (0.2, 0.06), (0.56, 0.06)],
                       self.on)  # fmt: skip

    def leaf(self) -> None:
        side = arc(-0.42, 0, 0.78, 0.78, -58, 58)
        self.pen.shape([*side, *((-x, y) for x, y in reversed(side))], self.on)
        self.pen.line([(0, -0.7), (0, 0.34)], 0.08, self.off)

    def peaks(self) -> None:
        self.pen.shape([(-0.68, -0.46), (-0.2, 0.5), (0.06, 0.02), (0.24, 0.28), (0.7, -0.46)], self.on)

    def fish(self) -> None:
        self.pen.oval(0.1, 0, 0.5, 0.32, self.on)
        self.pen.shape([(-0.28, 0), (-0.7, 0.32), (-0.7, -0.32)], self.on)
        self.pen.oval(0.34, 0.07, 0.07, fill=self.off)


DEVICES: dict[str, Callable[[Ink], None]] = {
    name: getattr(Ink, name)
    for name in ("star", "cross", "ring", "moon", "bolt", "bars", "dots", "waves", "arrow", "leaf", "peaks", "fish")
}
Mark = tuple[str, str, str]  # shape, colour of the plate, device


def marks(count: int) -> list[Mark]:
    """Different marks in an order that is always the same; of more, the first are those of fewer."""
    every = [(shape, plate, device) for shape in SHAPES for plate in PLATES for device in DEVICES]
    random.Random("marks of brands").shuffle(every)
    return every[:count]


@lru_cache(maxsize=64)
def emblem(mark: Mark, name: str, ink: RGB) -> Image.Image:
    """A mark with its name in the colour `ink`, as RGBA, 60 by 72 pixels of a picture, drawn FINE times finer."""
    shape, plate, device = mark
    fill = PLATES[plate]
    image = Image.new("RGBA", (60 * FINE, 72 * FINE), (*ink, 0))
    pen = Pen(image, 30 * FINE, 29 * FINE, 24 * FINE)
    pen.place(0, 0, 1.1).shape(SHAPES[shape], WHITE if sum(fill) < 420 else edge(fill))
    pen.shape(SHAPES[shape], fill)
    DEVICES[device](Ink(pen, INK if plate in PALE else WHITE, fill))
    step = min(9.5, 54 / len(name))
    for k, letter in enumerate(name):
        left, wide = 30 - step * len(name) / 2 + k * step + 0.16 * step, 0.34 * step
        for stroke in STROKES[letter].split():
            points = [((left + int(at, 16) % 3 * wide) * FINE, (59.5 + int(at, 16) // 3 * 2.4) * FINE) for at in stroke]
            pen.draw.line(points, fill=(*ink, 255), width=round(1.7 * FINE), joint="curve")
    return image


@dataclass(frozen=True)
class View:
    """How a picture shows a brand: places in pixels, turn in degrees, mark's size as a share of the largest."""

    thing: int
    cloth: int
    wall: int
    x: float
    y: float
    turn: float
    scale: float

    @classmethod
    def drawn(cls, rng: random.Random) -> View:
        thing, cloth, wall = (rng.randrange(len(some)) for some in (THINGS, CLOTHS, WALLS))
        x, y = 64 + rng.uniform(-7, 7), 62 + rng.uniform(-6, 6)
        return cls(thing, cloth, wall, x, y, rng.uniform(-9, 9), rng.uniform(0.8, 1.0))


def draw(mark: Mark, name: str, view: View) -> Image.Image:
    """The RGB picture of a brand."""
    image = Image.new("RGB", (SIZE * FINE, SIZE * FINE), WALLS[view.wall])
    whole, floor = Pen(image, 0, SIZE * FINE, SIZE * FINE), shade(WALLS[view.wall], -0.22)
    for k in range(24):  # the wall grows darker towards the floor
        whole.box(0, 0.16 + 0.035 * k, 1, 0.2 + 0.035 * k, mix(floor, WALLS[view.wall], 0.45 + k / 44))
    whole.box(0, 0, 1, 0.16, floor)
    cloth = CLOTHS[view.cloth][2]
    pen = Pen(image, view.x * FINE, view.y * FINE, FINE, turn=view.turn)  # 1 is a pixel of the picture
    (shirt, box, flag)[view.thing](pen, cloth)
    worn = emblem(mark, name, INK if sum(cloth) > 380 else WHITE)
    worn = worn.resize((round(worn.width * view.scale), round(worn.height * view.scale)), Image.Resampling.BILINEAR)
    worn = worn.rotate(view.turn, Image.Resampling.BICUBIC, expand=True)
    image.paste(worn, (round(view.x * FINE - worn.width / 2), round(view.y * FINE - worn.height / 2)), worn)
    return image.reduce(FINE)


def shirt(pen: Pen, cloth: RGB) -> None:
    """A T-shirt around the origin."""
    half: list[Point] = [(9, 48), (22, 46), (36, 40), (58, 14), (44, 2), (35, 12), (36, -56)]
    outline = [*half, *((-x, y) for x, y in reversed(half))]
    pen.shape(outline, cloth)
    pen.outline(outline, 1.2, edge(cloth))
    pen.shape(arc(0, 48, 10, 8, 180, 360), shade(cloth, -0.3))
    for side in (-1, 1):  # seams of the sleeves
        pen.line([(side * 36, 39), (side * 35, 12)], 0.8, shade(cloth, -0.2))


def box(pen: Pen, cloth: RGB) -> None:
    """A box: its front around the origin, the lid above, one side to the right."""
    pen.shape([(-38, 40), (38, 40), (50, 52), (-24, 52)], shade(cloth, 0.3))
    pen.shape([(38, 40), (50, 52), (50, -32), (38, -44)], shade(cloth, -0.28))
    pen.box(-38, -44, 38, 40, cloth)
    pen.outline([(-38, -44), (38, -44), (38, 40), (-38, 40)], 1, edge(cloth))
    pen.shape([(-5, 40), (5, 40), (18, 52), (8, 52)], shade(cloth, -0.12))


def flag(pen: Pen, cloth: RGB) -> None:
    """A flag around the origin, on a pole to the left."""
    pen.line([(-50, -90), (-50, 50)], 4, (110, 88, 66))
    pen.oval(-50, 51, 4, fill=(214, 176, 70))
    top = [(-48 + 4 * k, 42 + 3 * math.sin(k / 3.6)) for k in range(25)]
    pen.shape([*top, *((x, y - 82) for x, y in reversed(top))], cloth)
    for k in (5, 16):  # folds
        pen.line([top[k], (top[k][0], top[k][1] - 82)], 1.4, shade(cloth, -0.12))
