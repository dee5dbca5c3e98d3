"""Things in the distant sky: one function per kind, the lowest point at (0, 0), height 1."""

from __future__ import annotations

import random

from dataset.picturebook.drawing.pen import RGB, Pen, arc
from dataset.picturebook.drawing.vehicles import outlined

RAINBOW = ((226, 74, 66), (244, 150, 58), (250, 220, 84), (96, 184, 96), (72, 140, 220), (128, 84, 190))


def sun(pen: Pen, colour: RGB | None, action: str | None, rng: random.Random) -> None:
    """A yellow disc with rays."""
    rays = rng.choice((10, 12))
    start = rng.uniform(0, 30)
    for i in range(rays):
        angle = start + 360 * i / rays
        tip = arc(0, 0.5, 0.5, 0.5, angle, angle + 1)[0]
        left = arc(0, 0.5, 0.3, 0.3, angle - 9, angle - 8)[0]
        right = arc(0, 0.5, 0.3, 0.3, angle + 9, angle + 10)[0]
        pen.shape([left, tip, right], (248, 168, 40))
    pen.oval(0, 0.5, 0.345, fill=(240, 150, 36))
    pen.oval(0, 0.5, 0.315, fill=(255, 214, 64))
    pen.oval(-0.07, 0.57, 0.17, fill=(255, 230, 120))


def moon(pen: Pen, colour: RGB | None, action: str | None, rng: random.Random) -> None:
    """A crescent, its horns to the right."""
    outer = arc(0.0, 0.5, 0.48, 0.5, 56, 304)
    inner = arc(0.22, 0.5, 0.40, 0.414, 277, 83)
    outlined(pen, outer + inner, (255, 240, 170), (206, 168, 84), 0.035)
    for x, y, r in ((-0.3, 0.62, 0.05), (-0.27, 0.36, 0.06), (-0.37, 0.48, 0.035)):
        pen.oval(x, y, r, fill=(238, 214, 132))


def rainbow(pen: Pen, colour: RGB | None, action: str | None, rng: random.Random) -> None:
    """Six bands in half a circle, twice as wide as high."""
    width = rng.uniform(0.06, 0.075)
    for i, band in enumerate(RAINBOW):
        outer, inner = 1.0 - i * width, 1.0 - (i + 1) * width
        pen.shape(arc(0, 0, outer, outer, 0, 180) + arc(0, 0, inner, inner, 180, 0), band)


def cloud(pen: Pen, colour: RGB | None, action: str | None, rng: random.Random) -> None:
    """A heap of white puffs on a flat base."""
    lean = rng.choice((-1, 1))
    puffs = [
        (-0.62, 0.32, 0.32), (-0.22, 0.5 + rng.uniform(-0.04, 0.04), 0.4), (0.18, 0.58, 0.42), (0.48, 0.4, 0.36),
        (0.76, 0.25, 0.24),
    ]  # fmt: skip
    for grow, down, ink in ((0.05, 0.0, (150, 168, 196)), (0.0, 0.0, (214, 224, 238)), (-0.05, 0.06, (255, 255, 255))):
        for x, y, r in puffs:
            pen.oval(lean * x, y + down, r + grow, r + grow if r < 0.4 else r, fill=ink)
        pen.box(-0.78, -0.0 + down, 0.82, 0.3, ink)
        pen.oval(-0.8, 0.16 + down / 2, 0.18 + grow, 0.16, fill=ink)
        pen.oval(0.84, 0.16 + down / 2, 0.16 + grow, 0.16, fill=ink)


SKY = {"sun": sun, "moon": moon, "rainbow": rainbow, "cloud": cloud}
