"""The smaller animals, and what the coats and eyes of all have in common; in the pen's frame, as the larger ones."""

from __future__ import annotations

import random

from dataset.picturebook.drawing.pen import RGB, Pen, arc, blob, cut, edge, limb, shade, solid

DARK = (40, 34, 38)


def eye(pen: Pen, x: float, y: float, r: float, asleep: bool, coat: RGB) -> None:
    """A dark eye, with a light rim where the coat is dark; a closed lid when asleep."""
    dark = edge(coat) > coat
    if asleep:
        pen.line(arc(x, y, r * 1.3, r, 180, 360), r * 0.7, (220, 216, 208) if dark else DARK)
        return
    if dark:
        pen.oval(x, y, r * 1.35, fill=(244, 226, 150))
    pen.oval(x, y, r, r * 1.1, DARK)
    pen.oval(x + r * 0.3, y + r * 0.4, r * 0.35, fill=(255, 255, 255))


def mark(colour: RGB, amount: float = 0.25) -> RGB:
    """A second tone of a coat for ears, manes and spots: darker, or lighter if the coat is dark already."""
    return shade(colour, amount) if edge(colour) > colour else shade(colour, -amount)


def legs(pen: Pen, colour: RGB, feet: list[tuple[float, float]], tops: list[tuple[float, float]], width: float) -> None:
    """Straight legs from the tops to the feet."""
    for (x0, y0), (x1, y1) in zip(tops, feet, strict=True):
        solid(pen, [limb([(x0, y0), (x1, y1 + width / 2)], width)], colour)


def cat(pen: Pen, coat: RGB, action: str, rng: random.Random) -> None:
    """Pointed ears, whiskers, a long curling tail."""
    curl, tilt = rng.uniform(-0.05, 0.05), rng.uniform(-8, 8)
    if action == "sleeping":
        solid(pen, [blob(-0.05, 0.25, 0.48, 0.25)], coat)
        cat_head(pen.place(0.32, 0.27, 0.92), coat, asleep=True)
        solid(pen, [limb([(-0.50, 0.22), (-0.46, 0.09), (-0.2, 0.05), (0.16 + curl, 0.06)], 0.11)], shade(coat, -0.1))
        return
    if action == "walking":
        tail = [(-0.40, 0.50), (-0.54, 0.60), (-0.56, 0.78), (-0.44 + curl, 0.94)]
        solid(pen, [limb(tail, 0.09)], coat)
        for top, foot in (((-0.26, 0.34), (-0.18, 0.05)), ((0.2, 0.34), (0.12, 0.05))):
            solid(pen, [limb([top, foot], 0.11)], shade(coat, -0.18))
        solid(pen, [limb([(-0.28, 0.43), (0.22, 0.43)], 0.29), limb([(-0.34, 0.38), (-0.42, 0.06)], 0.115),
                    limb([(0.26, 0.38), (0.34, 0.06)], 0.115)], coat)  # fmt: skip
        stripes(pen, coat, ((-0.22, 0.52), (-0.08, 0.53), (0.06, 0.52)))
        cat_head(pen.place(0.36, 0.68, turn=tilt), coat)
        return
    tail = [(-0.20, 0.07), (-0.44, 0.09), (-0.54, 0.24), (-0.46 + curl, 0.40), (-0.52, 0.50)]
    solid(pen, [limb(tail, 0.10)], coat)
    chest = cut([(-0.27, 0.28), (-0.12, 0.62), (0.18, 0.62), (0.23, 0.05), (-0.1, 0.05)])
    solid(pen, [blob(-0.04, 0.23, 0.27, 0.23), chest, limb([(0.06, 0.06), (0.20, 0.06)], 0.12)], coat)
    pen.line([(0.10, 0.34), (0.10, 0.06)], 0.022, edge(coat))
    stripes(pen, coat, ((-0.24, 0.30), (-0.20, 0.42)))
    cat_head(pen.place(0.06, 0.70, turn=tilt), coat)


def stripes(pen: Pen, coat: RGB, spots: tuple[tuple[float, float], ...]) -> None:
    """Short tabby stripes."""
    tone = shade(coat, 0.2 if edge(coat) > coat else -0.2)
    for x, y in spots:
        pen.line([(x, y + 0.04), (x + 0.02, y - 0.06)], 0.035, tone)


def cat_head(pen: Pen, coat: RGB, asleep: bool = False) -> None:
    """A head around (0, 0)."""
    ears = [cut([(s * 0.23 + 0.01, 0.02), (s * 0.21 + 0.01, 0.30), (s * 0.03 + 0.01, 0.16)]) for s in (-1, 1)]
    solid(pen, [*ears, blob(0.01, 0.0, 0.245, 0.20)], coat)
    for s in (-1, 1):
        pen.shape([(s * 0.19 + 0.01, 0.13), (s * 0.185 + 0.01, 0.24), (s * 0.10 + 0.01, 0.17)], (236, 160, 160))
        eye(pen, 0.03 + s * 0.105, 0.02, 0.04, asleep, coat)
        for dy in (-0.03, 0.03):
            pen.line([(0.03 + s * 0.13, -0.07), (0.03 + s * 0.30, -0.08 + dy)], 0.012, edge(coat))
    pen.oval(0.03, -0.06, 0.032, 0.025, (226, 120, 130))


def rabbit(pen: Pen, coat: RGB, action: str, rng: random.Random) -> None:
    """Two long ears, a round body, a puff of a tail."""
    if action == "jumping":
        solid(pen, [limb([(-0.22, 0.32), (-0.46, 0.12)], 0.13)], shade(coat, -0.1))
        solid(pen, [blob(-0.40, 0.44, 0.085)], shade(coat, 0.5))
        paws = [limb([(0.10, 0.38), (0.38, 0.20)], 0.10), limb([(-0.14, 0.28), (-0.34, 0.06)], 0.13)]
        solid(pen, [blob(-0.10, 0.40, 0.32, 0.20, 18), *paws], coat)
        rabbit_head(pen.place(0.24, 0.58, 0.85, turn=14), coat, rng)
        return
    solid(pen, [blob(-0.32, 0.17, 0.10)], shade(coat, 0.5))
    paws = [limb([(-0.10, 0.06), (0.14, 0.06)], 0.12), limb([(0.14, 0.28), (0.18, 0.06), (0.24, 0.06)], 0.10)]
    solid(pen, [blob(-0.04, 0.25, 0.28, 0.25), *paws], coat)
    pen.line(arc(-0.08, 0.16, 0.17, 0.14, 20, 130), 0.022, edge(coat))
    rabbit_head(pen.place(0.12, 0.53, turn=rng.uniform(-6, 6)), coat, rng)


def rabbit_head(pen: Pen, coat: RGB, rng: random.Random) -> None:
    """A head around (0, 0), the ears above."""
    for x, turn in ((-0.02, 4.0), (-0.11, 20.0)):
        turn += rng.uniform(-5, 5)
        ear = pen.place(x, 0.12, turn=turn)
        solid(ear, [blob(0.0, 0.17, 0.07, 0.20)], coat)
        ear.oval(0.0, 0.17, 0.032, 0.14, (240, 172, 178))
    solid(pen, [blob(0.0, 0.0, 0.20, 0.175), blob(0.08, -0.05, 0.13, 0.11)], coat)
    eye(pen, 0.07, 0.04, 0.038, False, coat)
    pen.oval(0.195, -0.02, 0.03, 0.026, (226, 120, 140))
    pen.oval(0.03, -0.07, 0.045, 0.03, (244, 178, 180))


def bird(pen: Pen, coat: RGB, action: str, rng: random.Random) -> None:
    """In flight: a round head with a beak, a fan of a tail, one wing up and one behind."""
    dark = shade(coat, -0.22)
    lift = rng.uniform(-0.08, 0.06)
    solid(pen, [cut([(-0.02, 0.46), (0.02, 0.78), (0.14, 0.96 + lift), (0.25, 0.76), (0.27, 0.46)])], dark)
    solid(pen, [cut([(-0.24, 0.44), (-0.66, 0.56), (-0.60, 0.40), (-0.68, 0.28), (-0.24, 0.26)])], dark)
    solid(pen, [cut([(0.58, 0.52), (0.76, 0.43), (0.57, 0.36)])], (244, 162, 40))
    solid(pen, [blob(0.02, 0.36, 0.38, 0.21, 8), blob(0.42, 0.47, 0.20)], coat)
    pen.oval(0.06, 0.24, 0.25, 0.085, shade(coat, 0.45), turn=8)
    front = [(-0.04, 0.33), (0.18, 0.44), (0.10, 0.68), (-0.08, 0.88), (-0.34, 0.97 + lift)]
    feathers = [(-0.29, 0.85), (-0.40, 0.80), (-0.31, 0.70), (-0.37, 0.62), (-0.25, 0.56), (-0.24, 0.42)]
    solid(pen, [cut(front + feathers)], coat)
    eye(pen, 0.48, 0.51, 0.045, False, coat)


def butterfly(pen: Pen, coat: RGB, action: str, rng: random.Random) -> None:
    """Four spotted wings spread around a thin dark body with feelers."""
    spot = shade(coat, 0.55) if rng.random() < 0.5 else shade(coat, -0.3)
    body = pen.place(0.0, 0.0, turn=rng.uniform(-10, 10))
    close = rng.uniform(0.85, 1.0)
    for s in (-1, 1):
        upper = blob(s * 0.30 * close, 0.66, 0.29 * close, 0.25, s * 32)
        lower = blob(s * 0.23 * close, 0.26, 0.22 * close, 0.22)
        solid(body, [upper, lower], coat, shade(coat, -0.55), 0.035)
        body.oval(s * 0.36 * close, 0.72, 0.09, fill=spot)
        body.oval(s * 0.25 * close, 0.24, 0.07, fill=spot)
        body.line([(0.0, 0.78), (s * 0.08, 0.92), (s * 0.16, 0.98)], 0.03, DARK)
    body.line([(0.0, 0.20), (0.0, 0.72)], 0.09, DARK)
    body.oval(0.0, 0.77, 0.075, fill=DARK)
