"""The natural places: plainer than the things before them, without anything that is a kind."""

from __future__ import annotations

import math
import random

from dataset.picturebook.drawing.backdrop import Canvas, ridge, scattered, sky, tufts, vary
from dataset.picturebook.drawing.pen import RGB, mix, shade


def sea(canvas: Canvas, horizon: float, rng: random.Random) -> None:
    """Water with waves, foam along the shore, and sand."""
    low = sky(canvas, horizon, rng)
    deep, near = vary((66, 126, 158), rng, 10), vary((122, 182, 188), rng, 10)
    shore = rng.uniform(0.62, 0.68)
    canvas.fade(horizon, 1.0, deep, near, near)
    canvas.box(0, horizon, 1, horizon + 0.006, mix(deep, low, 0.5))
    for _ in range(16):
        y = rng.uniform(horizon + 0.02, shore - 0.03)
        x, wide = rng.random(), rng.uniform(0.03, 0.09) * (0.5 + 3 * (y - horizon))
        canvas.line([(x, y), (x + wide / 2, y - 0.005), (x + wide, y)], 0.005, mix(near, (240, 248, 248), 0.45))
    tilt, phase = rng.uniform(-0.03, 0.03), rng.random() * 360
    edge = []
    for i in range(25):
        wave = math.sin(math.radians(phase + i * 28))
        edge.append((i / 24, shore + tilt * (i / 12 - 1) + 0.008 * wave))
    for down, ink in ((-0.014, (240, 246, 244)), (0.004, (176, 152, 116))):
        canvas.shape([(0, 1), *((x, y + down) for x, y in edge), (1, 1)], ink)
    sand = vary((220, 198, 156), rng, 8)
    canvas.shape([(0, 1), *((x, y + 0.026) for x, y in edge), (1, 1)], sand)
    for x, y in scattered(26, shore + 0.07, 0.99, rng):
        canvas.oval(x, y, 0.006, 0.003, shade(sand, rng.choice((-0.12, 0.25))))


def grassland(canvas: Canvas, horizon: float, rng: random.Random) -> None:
    """Rolling hills and open grass."""
    low = sky(canvas, horizon, rng)
    far, grass = vary((132, 162, 134), rng, 8), vary((132, 172, 96), rng, 10)
    ridge(canvas, horizon, 0.13, 2, mix(far, low, 0.35), rng)
    ridge(canvas, horizon, 0.075, 3, mix(far, grass, 0.5), rng)
    canvas.fade(horizon, 1.0, mix(grass, far, 0.25), grass, shade(grass, -0.12))
    for y in (0.6, 0.75, 0.9):
        x = rng.uniform(0.1, 0.9)
        canvas.oval(x, y, rng.uniform(0.3, 0.5), 0.022, mix(grass, (206, 210, 130), 0.16))
    tufts(canvas, horizon + 0.02, 60, shade(grass, -0.13), rng)
    tufts(canvas, horizon + 0.02, 24, shade(grass, 0.18), rng)


def space(canvas: Canvas, horizon: float, rng: random.Random) -> None:
    """A black sky full of stars over the cratered ground of a planet."""
    top = rng.choice(((14, 16, 38), (20, 14, 40), (10, 22, 40)))
    canvas.fade(0.0, 1.0, top, mix(top, (60, 50, 110), 0.5))
    for x, y in scattered(90, 0, horizon, rng):
        r = rng.choice((0.0025, 0.0025, 0.0035, 0.005))
        canvas.oval(x, y, r, r, rng.choice(((240, 240, 250), (200, 210, 240), (250, 236, 200))))
    for x, y in scattered(4, 0.02, horizon - 0.1, rng):
        canvas.line([(x - 0.014, y), (x + 0.014, y)], 0.003, (230, 234, 250))
        canvas.line([(x, y - 0.014), (x, y + 0.014)], 0.003, (230, 234, 250))
    soil = vary(rng.choice(((132, 122, 128), (150, 112, 96), (116, 122, 140))), rng, 8)
    canvas.oval(0.5, horizon + 0.985, 1.5, 1.0, mix(soil, (210, 220, 250), 0.35))
    canvas.oval(0.5, horizon + 1.0, 1.5, 1.0, soil)
    for x, y in scattered(9, horizon + 0.06, 0.98, rng):
        r = 0.02 + 0.16 * (y - horizon) * rng.uniform(0.4, 1.0)
        canvas.oval(x, y, r, r * 0.34, shade(soil, -0.28))
        canvas.oval(x, y + r * 0.09, r * 0.9, r * 0.25, shade(soil, -0.14))


def waterfall(canvas: Canvas, horizon: float, rng: random.Random) -> None:
    """A white fall between cliffs, a pool, and a mossy bank in front."""
    low = sky(canvas, 0.4, rng)
    rock = vary((126, 122, 116), rng, 10)
    middle, half = rng.uniform(0.36, 0.64), rng.uniform(0.13, 0.18)
    lip = rng.uniform(0.15, 0.21)
    brink = [(0, lip - 0.02), (middle - 0.2, lip - 0.01), (middle + 0.2, lip - 0.01), (1, lip - 0.03)]
    canvas.shape([(0, 0.7), *brink, (1, 0.7)], mix(rock, low, 0.2))
    for side in (-1, 1):
        cliff(canvas, middle + side * half, side, lip, rock, rng)
    left, right = middle - half, middle + half
    water = vary((206, 226, 236), rng, 6)
    canvas.shape([(left + 0.02, lip), (right - 0.02, lip), (right + 0.01, 0.64), (left - 0.01, 0.64)], water)
    for i in range(16):
        x = left + 0.03 + (right - left - 0.06) * (i + rng.uniform(0.1, 0.9)) / 16
        start = rng.uniform(lip, 0.4)
        ink = rng.choice(((246, 250, 252), (168, 200, 222), (150, 188, 214)))
        canvas.line([(x, start), (x + (x - middle) * 0.06, rng.uniform(start + 0.08, 0.62))], 0.009, ink)
    pool = vary((96, 156, 172), rng, 8)
    canvas.fade(0.6, 0.8, mix(pool, water, 0.3), pool)
    for x in range(9):
        canvas.oval(left + (right - left) * x / 8, 0.615 + rng.uniform(-0.01, 0.01), 0.045, 0.026, (236, 244, 246))
    for x, y in scattered(10, 0.65, 0.74, rng):
        canvas.line([(x, y), (x + rng.uniform(0.04, 0.12), y)], 0.006, mix(pool, (240, 250, 250), 0.4))
    moss = vary((118, 142, 92), rng, 8)
    bank = [(0, 0.75), (0.2, 0.765), (0.45, 0.745), (0.75, 0.77), (1, 0.745)]
    canvas.shape([(0, 1), *bank, (1, 1)], shade(moss, -0.25))
    canvas.shape([(0, 1), *((x, y + 0.02) for x, y in bank), (1, 1)], moss)
    tufts(canvas, 0.79, 30, shade(moss, -0.13), rng)
    for x, y in scattered(5, 0.82, 0.98, rng):
        canvas.oval(x, y, 0.025, 0.012, shade(rock, -0.1))
        canvas.oval(x - 0.004, y - 0.004, 0.017, 0.007, shade(rock, 0.2))


def cliff(canvas: Canvas, inner: float, side: int, lip: float, rock: RGB, rng: random.Random) -> None:
    """The rocks on one side of the fall: three steps of stone with moss on top."""
    outer = -0.05 if side < 0 else 1.05
    tops = sorted(rng.uniform(0.06, 0.3) for _ in range(3))
    for step in range(3):
        x = inner + (outer - inner) * step / 3.4
        top = lip - 0.05 - 0.02 * step + tops[step] * (0.1 if step == 0 else 0.3)
        tone = shade(rock, (-0.05, 0.04, -0.14)[step])
        edge = [(x + side * 0.012, top + 0.02), (x + side * 0.04, top), (outer, top - 0.015)]
        canvas.shape([(x, 0.66), *edge, (outer, 0.66)], tone)
        moss = [(x + side * 0.04, top - 0.008), (outer, top - 0.025), (outer, top + 0.012)]
        canvas.shape([(x + side * 0.005, top + 0.03), *moss], (124, 148, 98))
        for _ in range(4):
            y = rng.uniform(top + 0.08, 0.58)
            start = x + side * rng.uniform(0.02, 0.08)
            canvas.line([(start, y), (start + side * 0.05, y + rng.uniform(-0.02, 0.02))], 0.007, shade(tone, -0.18))


def mountains(canvas: Canvas, horizon: float, rng: random.Random) -> None:
    """Two ranges of snowy peaks over a green valley."""
    low = sky(canvas, horizon, rng)
    stone = vary((120, 130, 150), rng, 8)
    for tone, base, high, number in ((mix(stone, low, 0.45), horizon, 0.36, 4), (stone, horizon, 0.46, 3)):
        start = rng.uniform(-0.1, 0.1)
        for i in rng.sample(range(number + 1), number + 1):
            x = start + i / number
            peak(canvas, x, base, high * rng.uniform(0.72, 1.0), 0.75 / number, tone, rng)
    valley = vary((142, 168, 116), rng, 8)
    ridge(canvas, horizon, 0.06, 3, mix(valley, stone, 0.4), rng)
    canvas.fade(horizon, 1.0, mix(valley, stone, 0.15), valley, shade(valley, -0.06))
    for x, y in scattered(7, horizon + 0.06, 0.98, rng):
        r = 0.012 + 0.04 * (y - horizon)
        canvas.oval(x, y, r, r * 0.5, (138, 138, 136))
        canvas.oval(x - r * 0.15, y - r * 0.15, r * 0.7, r * 0.3, (172, 172, 168))
    tufts(canvas, horizon + 0.04, 34, shade(valley, -0.13), rng)


def peak(canvas: Canvas, x: float, base: float, high: float, half: float, tone: RGB, rng: random.Random) -> None:
    """One mountain: a lit side, a shaded side, and snow with a ragged edge."""
    top, lean = base - high, rng.uniform(-0.03, 0.03)
    canvas.shape([(x - half, base), (x, top), (x + half, base)], shade(tone, 0.08))
    canvas.shape([(x, top), (x + half, base), (x + lean, base), (x + 0.02, top + high * 0.5)], shade(tone, -0.12))
    cut = 0.36
    left, right = x - half * cut, x + half * cut
    line = top + high * cut
    snow = [(x, top), (right, line), (x + half * 0.2, line - high * 0.07), (x + half * 0.08, line + high * 0.06),
            (x - half * 0.1, line - high * 0.06), (x - half * 0.2, line + high * 0.02), (left, line)]  # fmt: skip
    canvas.shape(snow, (240, 243, 248))
    shaded = [(x, top), (right, line), (x + half * 0.2, line - high * 0.07), (x + half * 0.05, line - high * 0.02)]
    canvas.shape(shaded, (206, 216, 230))
