"""Plants, objects and the sky: one function per kind, each drawing one individual in a frame of height 1."""

from __future__ import annotations

import random
from itertools import pairwise

from dataset.picturebook.drawing.pen import RGB, Pen, arc, edge, shade
from dataset.picturebook.drawing.vehicles import GLASS, outlined

STEM = (64, 136, 62)
RAINBOW = ((226, 74, 66), (244, 150, 58), (250, 220, 84), (96, 184, 96), (72, 140, 220), (128, 84, 190))


def tree(pen: Pen, leaves: RGB, action: str | None, rng: random.Random) -> None:
    """A leafy tree with a round, tall or wide crown."""
    bark = shade((112, 76, 48), rng.uniform(-0.1, 0.1))
    pen.shape([(-0.075, 0.45), (-0.06, 0.1), (-0.12, 0.0), (0.12, 0.0), (0.06, 0.1), (0.075, 0.45)], bark)
    pen.line([(0.0, 0.3), (0.16, 0.5)], 0.04, bark)
    pen.line([(0.0, 0.28), (-0.15, 0.47)], 0.04, bark)
    blobs = rng.choice((
        ((-0.18, 0.54, 0.17), (0.18, 0.55, 0.17), (0.0, 0.50, 0.17), (-0.13, 0.74, 0.19), (0.13, 0.74, 0.19),
         (0.0, 0.82, 0.17)),
        ((-0.17, 0.52, 0.15), (0.16, 0.52, 0.16), (0.0, 0.62, 0.25), (-0.07, 0.78, 0.18), (0.08, 0.82, 0.17)),
        ((-0.2, 0.6, 0.16), (0.21, 0.6, 0.15), (0.02, 0.54, 0.17), (-0.1, 0.78, 0.17), (0.12, 0.77, 0.19),
         (0.0, 0.84, 0.15)),
    ))  # fmt: skip
    for left, up, share, grow, tone in ((0, 0, 1, 0.012, -0.38), (0, 0, 1, -0.008, -0.14), (0.03, 0.035, 0.72, 0, 0)):
        for x, y, r in blobs:
            pen.oval(x - left, y + up, r * share + grow, fill=shade(leaves, tone))
    for _ in range(7):
        x, y, r = rng.choice(blobs)
        pen.oval(x + rng.uniform(-0.1, 0.05), y + rng.uniform(-0.05, 0.1), 0.035, fill=shade(leaves, 0.22))


def flower(pen: Pen, petals: RGB, action: str | None, rng: random.Random) -> None:
    """A daisy-like flower or a tulip on its stem, with two leaves."""
    pen.line([(0.0, 0.0), (0.015, 0.3), (0.0, 0.6)], 0.055, STEM)
    for side in (-1, 1):
        leaf = [(0.0, 0.06), (side * 0.14, 0.14), (side * 0.27, 0.36), (side * 0.09, 0.27)]
        outlined(pen, leaf, (82, 160, 76), (44, 108, 52), 0.02)
    if rng.random() < 0.3:  # the cup of a tulip
        points = [(0.23, 0.97), (0.1, 0.84), (0.0, 1.0), (-0.1, 0.84), (-0.23, 0.97)]
        outlined(pen, arc(0, 0.68, 0.2, 0.17, 180, 360) + points, petals, width=0.025)
        pen.shape([*arc(0, 0.68, 0.1, 0.14, 180, 360), (0.0, 0.96)], shade(petals, 0.22))
        return
    number, start = rng.choice((6, 7, 8)), rng.uniform(0, 60)
    turns = [start + 360 * i / number for i in range(number)]
    centres = [arc(0, 0.71, 0.17, 0.17, turn, turn + 1)[0] for turn in turns]
    line, lit = edge(petals), shade(petals, 0.3)
    for rx, ry, ink in ((0.12 + 0.022, 0.078 + 0.022, line), (0.12, 0.078, petals), (0.06, 0.03, lit)):
        for turn, (x, y) in zip(turns, centres, strict=True):
            pen.oval(x, y, rx, ry, ink, turn)
    yellow = petals[0] > 200 and petals[1] > 120 and petals[2] < 120
    pen.oval(0, 0.71, 0.095, fill=(110, 70, 40) if yellow else (196, 140, 30))
    pen.oval(0, 0.71, 0.075, fill=(140, 92, 52) if yellow else (252, 208, 70))


def chair(pen: Pen, paint: RGB, action: str | None, rng: random.Random) -> None:
    """A chair seen from a little above."""
    dark = shade(paint, -0.25)
    line = edge(paint)
    for x in (-0.22, 0.24):
        outlined(pen, [(x - 0.035, 0.1), (x + 0.035, 0.1), (x + 0.035, 0.4), (x - 0.035, 0.4)], dark, line, 0.015)
    if rng.random() < 0.5:
        outlined(pen, [(-0.3, 0.4), (-0.32, 0.94), (-0.27, 1.0), (0.19, 1.0), (0.24, 0.94), (0.22, 0.4)], paint, line)
        pen.shape([(-0.24, 0.46), (-0.25, 0.92), (0.17, 0.92), (0.16, 0.46)], shade(paint, 0.14))
    else:
        for x in (-0.28, -0.14, 0.02, 0.18):
            outlined(pen, [(x - 0.03, 0.4), (x - 0.03, 0.9), (x + 0.035, 0.9), (x + 0.035, 0.4)], paint, line, 0.015)
        outlined(pen, [(-0.33, 0.84), (-0.31, 1.0), (0.22, 1.0), (0.25, 0.84)], paint, line)
    outlined(pen, [(-0.32, 0.34), (-0.26, 0.46), (0.29, 0.46), (0.35, 0.34)], shade(paint, 0.16), line)
    outlined(pen, [(-0.33, 0.27), (-0.33, 0.35), (0.35, 0.35), (0.35, 0.27)], paint, line)
    for x in (-0.29, 0.3):
        outlined(pen, [(x - 0.045, 0.0), (x + 0.045, 0.0), (x + 0.05, 0.28), (x - 0.05, 0.28)], paint, line, 0.018)


def table(pen: Pen, paint: RGB, action: str | None, rng: random.Random) -> None:
    """A table with four legs, seen from a little above."""
    line, dark = edge(paint), shade(paint, -0.28)
    for x in (-0.5, 0.5):
        outlined(pen, [(x - 0.04, 0.2), (x + 0.04, 0.2), (x + 0.04, 0.75), (x - 0.04, 0.75)], dark, line, 0.018)
    outlined(pen, [(-0.62, 0.56), (0.62, 0.56), (0.62, 0.74), (-0.62, 0.74)], shade(paint, -0.14), line, 0.02)
    if rng.random() < 0.5:
        outlined(pen, [(-0.2, 0.59), (0.2, 0.59), (0.2, 0.71), (-0.2, 0.71)], paint, line, 0.015)
        pen.oval(0, 0.65, 0.03, fill=line)
    for x in (-0.62, 0.62):
        outlined(pen, [(x - 0.055, 0.0), (x + 0.055, 0.0), (x + 0.06, 0.74), (x - 0.06, 0.74)], paint, line, 0.02)
    outlined(pen, [(-0.74, 0.82), (-0.62, 1.0), (0.62, 1.0), (0.74, 0.82)], shade(paint, 0.2), line, 0.025)
    outlined(pen, [(-0.75, 0.73), (-0.75, 0.83), (0.75, 0.83), (0.75, 0.73)], paint, line, 0.025)


def umbrella(pen: Pen, cloth: RGB, action: str | None, rng: random.Random) -> None:
    """An open umbrella, its hooked handle at the bottom."""
    pen.line([(0.0, 0.08), (0.0, 0.98)], 0.035, (96, 80, 70))
    pen.line([(0.0, 0.14), *arc(0.05, 0.055, 0.05, 0.04, 180, 350)], 0.045, (120, 78, 46))
    rim = [-0.475, -0.29, -0.1, 0.1, 0.29, 0.475]
    dome = arc(0, 0.52, 0.475, 0.42, 0, 180)
    scallops = []
    for left, right in pairwise(rim):
        scallops += arc((left + right) / 2, 0.5, (right - left) / 2, 0.06, 180, 0)
    outlined(pen, dome + scallops, cloth, width=0.03)
    for low, high in ((1, 2), (3, 4)):
        panel = [(0.0, 0.93), (rim[low] * 1.15, 0.78), (rim[low], 0.52)]
        panel += arc((rim[low] + rim[high]) / 2, 0.5, (rim[high] - rim[low]) / 2, 0.06, 180, 0)
        panel += [(rim[high], 0.52), (rim[high] * 1.15, 0.78)]
        pen.shape(panel, shade(cloth, 0.3))
    pen.line([(0.0, 0.92), (0.0, 1.0)], 0.035, (96, 80, 70))


def ball(pen: Pen, paint: RGB, action: str | None, rng: random.Random) -> None:
    """A beach ball: panels in its colour with narrow white ones between, meeting in a white cap."""
    start = rng.uniform(0, 120)
    px, py = -0.1, 0.62
    pen.oval(0, 0.5, 0.5, fill=edge(paint))
    pen.oval(0, 0.5, 0.465, fill=paint)
    for i in range(3):
        pen.shape([(px, py), *arc(0, 0.5, 0.465, 0.465, start + i * 120, start + i * 120 + 35)], (250, 248, 240))
    shadow = arc(0, 0.5, 0.465, 0.465, 250, 380) + arc(-0.1, 0.58, 0.47, 0.47, 378, 252)
    pen.shape(shadow, shade(paint, -0.22))
    pen.oval(px, py, 0.085, fill=(250, 248, 240))
    pen.oval(-0.2, 0.76, 0.08, 0.05, fill=shade(paint, 0.7), turn=35)


def balloon(pen: Pen, paint: RGB, action: str | None, rng: random.Random) -> None:
    """A round balloon on a string; the string's end is at (0, 0)."""
    sway = rng.uniform(-0.05, 0.05)
    pen.line([(0.0, 0.0), (sway, 0.14), (-sway, 0.28), (0.0, 0.42)], 0.014, (90, 90, 100))
    pen.shape([(-0.045, 0.39), (0.045, 0.39), (0.0, 0.45)], edge(paint))
    drop = [*arc(0, 0.72, 0.245, 0.28, -35, 215), (-0.06, 0.45), (0.06, 0.45)]
    outlined(pen, drop, paint, width=0.02)
    pen.shape([*arc(0, 0.72, 0.235, 0.265, -40, 50), (0.1, 0.72), (0.03, 0.5)], shade(paint, -0.13))
    pen.oval(-0.09, 0.83, 0.055, 0.085, fill=shade(paint, 0.6), turn=-25)


def kite(pen: Pen, cloth: RGB, action: str | None, rng: random.Random) -> None:
    """A diamond kite with a tail of bows; the tail's end is at (0, 0)."""
    sway = rng.choice((-1, 1)) * rng.uniform(0.05, 0.08)
    tail = [(0.0, 0.36), (sway, 0.26), (-sway, 0.14), (0.0, 0.02)]
    pen.line(tail, 0.018, (96, 90, 100))
    for x, y in ((sway, 0.27), (-sway, 0.15), (0.0, 0.03)):
        pen.shape([(x, y), (x - 0.075, y + 0.035), (x - 0.075, y - 0.03)], cloth)
        pen.shape([(x, y), (x + 0.075, y + 0.035), (x + 0.075, y - 0.03)], shade(cloth, -0.2))
    top, bottom, left, right, cross = (0, 1.0), (0, 0.34), (-0.33, 0.73), (0.33, 0.73), (0, 0.73)
    outlined(pen, [top, right, bottom, left], cloth, width=0.028)
    pen.shape([cross, right, bottom], shade(cloth, -0.2))
    pen.shape([cross, left, top], shade(cloth, 0.3))
    pen.line([top, bottom], 0.018, edge(cloth))
    pen.line([left, right], 0.018, edge(cloth))


def lamp(pen: Pen, cloth: RGB, action: str | None, rng: random.Random) -> None:
    """A table lamp with a wide shade, lit."""
    metal = rng.choice(((120, 92, 66), (88, 92, 104)))
    outlined(pen, arc(0, 0.055, 0.2, 0.055, 0, 360), metal, width=0.02)
    pen.line([(0.0, 0.08), (0.0, 0.55)], 0.055, metal)
    if rng.random() < 0.5:
        outlined(pen, arc(0, 0.24, 0.1, 0.14, 0, 360), shade(metal, 0.15), width=0.02)
    outlined(pen, [(-0.3, 0.5), (-0.17, 1.0), (0.17, 1.0), (0.3, 0.5)], cloth, width=0.028)
    pen.shape([(-0.12, 0.53), (-0.07, 0.97), (0.03, 0.97), (0.06, 0.53)], shade(cloth, 0.35))
    pen.shape([(0.19, 0.53), (0.11, 0.97), (0.155, 0.97), (0.27, 0.53)], shade(cloth, -0.12))
    outlined(pen, arc(0, 0.5, 0.3, 0.055, 0, 360), (255, 246, 196), edge(cloth), 0.018)


def house(pen: Pen, paint: RGB, action: str | None, rng: random.Random) -> None:
    """A cottage with a pitched roof, a door, two windows and a chimney."""
    white = sum(paint) > 690
    roof = shade(paint, -0.22) if not white else (206, 208, 214)
    line = edge(paint) if not white else (128, 130, 140)
    side = rng.choice((-1, 1))
    chimney = [(side * 0.2, 0.7), (side * 0.2, 0.97), (side * 0.31, 0.97), (side * 0.31, 0.65)]
    outlined(pen, chimney, (150, 116, 100), width=0.015)
    outlined(pen, [(-0.42, 0.0), (0.42, 0.0), (0.42, 0.56), (-0.42, 0.56)], shade(paint, 0.16), line, 0.018)
    outlined(pen, [(-0.5, 0.5), (-0.04, 0.98), (0.04, 0.98), (0.5, 0.5)], roof, line, 0.022)
    pen.line([(-0.42, 0.545), (0.42, 0.545)], 0.02, shade(roof, 0.25))
    pen.line([(-0.31, 0.66), (0.31, 0.66)], 0.014, line)
    pen.line([(-0.19, 0.79), (0.19, 0.79)], 0.014, line)
    door = -side * 0.2
    frame = [(door - 0.085, 0.0), (door - 0.085, 0.32), (door + 0.085, 0.32), (door + 0.085, 0.0)]
    outlined(pen, frame, (120, 78, 50), width=0.015)
    pen.oval(door + 0.05, 0.15, 0.016, fill=(244, 210, 110))
    window = side * 0.18
    pen.box(window - 0.14, 0.16, window + 0.14, 0.4, (250, 250, 246) if not white else (120, 126, 140))
    pen.box(window - 0.12, 0.18, window - 0.012, 0.38, GLASS)
    pen.box(window + 0.012, 0.18, window + 0.12, 0.38, GLASS)
    pen.box(-0.44, 0.0, 0.44, 0.03, shade(line, 0.2))


def sun(pen: Pen, colour: RGB | None, action: str | None, rng: random.Random) -> None:
    """A yellow disc with rays."""
    rays = rng.choice((10, 12))
    start = rng.uniform(0, 30)
    for i in range(rays):
        angle = start + 360 * i / rays
        ray = [arc(0, 0.5, r, r, turn, turn)[0] for r, turn in ((0.3, angle - 9), (0.5, angle), (0.3, angle + 9))]
        pen.shape(ray, (248, 168, 40))
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


THINGS = {
    "tree": tree, "flower": flower, "chair": chair, "table": table, "umbrella": umbrella, "ball": ball,
    "balloon": balloon, "kite": kite, "lamp": lamp, "house": house, "sun": sun, "moon": moon, "rainbow": rainbow,
    "cloud": cloud,
}  # fmt: skip
