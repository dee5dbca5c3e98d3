"""The built places, and the painters of all ten: plainer than the things before them, without anything of a kind."""

from __future__ import annotations

import math
import random
from itertools import pairwise

from dataset.picturebook.drawing.backdrop import SKIES, Canvas, scattered, sky, tufts, vary
from dataset.picturebook.drawing.pen import RGB, mix, shade
from dataset.picturebook.drawing.places_nature import grassland, mountains, sea, space, waterfall


def street(canvas: Canvas, horizon: float, rng: random.Random) -> None:
    """A row of flat-roofed city blocks, a pavement, and a road with markings."""
    low = sky(canvas, horizon, rng)
    x = -0.02
    while x < 1.0:  # distant towers
        wide = rng.uniform(0.07, 0.13)
        top = rng.uniform(0.13, 0.28)
        canvas.box(x, top, x + wide, horizon, mix((132, 146, 164), low, 0.45))
        x += wide + rng.uniform(0.0, 0.06)
    x, wall = rng.uniform(-0.12, -0.02), None
    walls = [(176, 152, 138), (158, 164, 166), (186, 174, 150), (150, 140, 146), (164, 146, 130), (140, 152, 162)]
    while x < 1.0:
        wide, top = rng.choice((0.18, 0.22, 0.26)), rng.uniform(0.22, 0.38)
        wall = rng.choice([w for w in walls if w != wall])
        block(canvas, x, top, x + wide, horizon, vary(wall, rng, 8), rng)
        x += wide + 0.004
    canvas.box(0, horizon, 1, horizon + 0.075, vary((190, 186, 178), rng, 6))
    for i in range(9):
        canvas.line([(0.02 + i * 0.125, horizon), (-0.01 + i * 0.125, horizon + 0.07)], 0.004, (168, 164, 158))
    canvas.box(0, horizon + 0.075, 1, horizon + 0.09, (146, 144, 140))
    canvas.fade(horizon + 0.09, 1.0, (112, 114, 120), (98, 100, 106))
    canvas.box(0, horizon + 0.105, 1, horizon + 0.113, (206, 204, 196))
    start = rng.uniform(-0.2, 0.0)
    for i in range(5):
        left = start + i * 0.27
        dash = [(left + 0.015, 0.815), (left + 0.145, 0.815), (left + 0.135, 0.835), (left, 0.835)]
        canvas.shape(dash, (216, 214, 204))


def block(canvas: Canvas, left: float, top: float, right: float, bottom: float, wall: RGB, rng: random.Random) -> None:
    """One city block: a grid of windows, a ledge, shops on the ground floor."""
    canvas.box(left, top, right, bottom, wall)
    canvas.box(left - 0.004, top, right + 0.004, top + 0.014, shade(wall, -0.22))
    canvas.box(right - 0.012, top + 0.014, right, bottom, shade(wall, -0.12))
    glass = mix(vary((112, 134, 154), rng, 10), wall, 0.2)
    lit = mix((236, 214, 150), wall, 0.3)
    columns = round((right - left) / 0.055)
    wide = (right - left - 0.02) / columns
    y = top + 0.035
    while y < bottom - 0.1:
        for i in range(columns):
            x = left + 0.014 + i * wide
            canvas.box(x, y, x + wide * 0.6, y + 0.032, lit if rng.random() < 0.12 else glass)
        y += 0.056
    canvas.box(left, bottom - 0.07, right - 0.012, bottom - 0.058, vary((136, 104, 96), rng, 16))
    canvas.box(left + 0.015, bottom - 0.05, right - 0.028, bottom, mix((96, 112, 126), wall, 0.15))
    canvas.box((left + right) / 2 - 0.004, bottom - 0.05, (left + right) / 2 + 0.004, bottom, wall)


def stage(canvas: Canvas, horizon: float, rng: random.Random) -> None:
    """Red curtains, a dark backdrop, a beam of light and wooden boards."""
    back = rng.choice(((62, 50, 84), (48, 58, 92), (72, 50, 66)))
    canvas.fade(0.0, horizon, shade(back, -0.2), shade(back, 0.12))
    boards = vary((176, 134, 96), rng, 8)
    canvas.fade(horizon, 1.0, shade(boards, -0.22), boards)
    for i in range(13):
        x = (i - 6) / 6
        canvas.line([(0.5 + x * 0.6, horizon), (0.5 + x * 0.95, 1.0)], 0.004, shade(boards, -0.3))
    x = rng.uniform(0.4, 0.6)
    beam = mix(back, (255, 240, 200), 0.22)
    lamp_x = x + rng.choice((-1, 1)) * rng.uniform(0.05, 0.15)
    for lens, spread, glow in ((0.03, 0.27, 0.0), (0.02, 0.18, 0.14)):
        cone = [(lamp_x - lens, 0.08), (lamp_x + lens, 0.08), (x + spread, horizon), (x - spread, horizon)]
        canvas.shape(cone, mix(beam, (255, 240, 200), glow))
    canvas.oval(x, 0.83, 0.36, 0.13, mix(boards, (255, 240, 200), 0.25))
    canvas.oval(x, 0.83, 0.29, 0.1, mix(boards, (255, 240, 200), 0.5))
    canvas.box(0, horizon, 1, horizon + 0.012, shade(boards, -0.4))
    cloth = vary((158, 48, 52), rng, 8)
    for side in (-1, 1):
        for i in range(5):
            outer = 0.5 + side * (0.5 - i * 0.038)
            tone = shade(cloth, -0.24 if i % 2 else 0.04)
            inner = outer - side * 0.05
            low = horizon + 0.05
            canvas.shape([(outer, 0), (inner, 0), (inner + side * 0.008 * i, low), (outer, low)], tone)
    for i in range(8):
        canvas.oval(0.0625 + i * 0.125, 0.075, 0.075, 0.06, shade(cloth, -0.28))
        canvas.oval(0.0625 + i * 0.125, 0.06, 0.072, 0.06, shade(cloth, 0.0 if i % 2 else -0.1))
    canvas.box(0, 0, 1, 0.06, shade(cloth, -0.14))
    canvas.box(0, 0.056, 1, 0.066, (206, 170, 96))


def garden(canvas: Canvas, horizon: float, rng: random.Random) -> None:
    """A clipped hedge, a white picket fence, lawn and a path of flagstones."""
    sky(canvas, horizon, rng)
    hedge = vary((78, 116, 74), rng, 8)
    top = rng.uniform(0.25, 0.31)
    canvas.box(0, top + 0.015, 1, horizon, hedge)
    for i in range(18):
        canvas.oval(i / 17, top + 0.022, 0.04, 0.02, hedge)
    for x, y in scattered(90, top + 0.01, horizon, rng):
        canvas.oval(x, y, 0.01, 0.008, shade(hedge, rng.choice((-0.16, 0.13))))
    lawn = vary((144, 176, 108), rng, 8)
    canvas.fade(horizon, 1.0, shade(lawn, -0.08), lawn)
    white = vary((232, 232, 224), rng, 5)
    for y in (0.425, 0.485):
        canvas.box(0, y, 1, y + 0.016, shade(white, -0.12))
    start = rng.uniform(-0.04, 0.0)
    for i in range(19):
        x = start + i * 0.057
        low = horizon + 0.025
        canvas.shape([(x, low), (x, 0.395), (x + 0.016, 0.37), (x + 0.032, 0.395), (x + 0.032, low)], white)
        canvas.line([(x + 0.031, 0.395), (x + 0.031, horizon + 0.025)], 0.004, shade(white, -0.25))
    bend = rng.uniform(-0.25, 0.25)
    stone = vary((196, 188, 172), rng, 6)
    for i in range(7):
        t = i / 6
        x = 0.5 + bend * (1 - t) ** 2 + (0.03 if i % 2 else -0.03)
        canvas.oval(x, horizon + 0.06 + 0.4 * t**1.4, 0.045 + 0.05 * t, 0.014 + 0.02 * t, shade(stone, -0.2))
        canvas.oval(x, horizon + 0.055 + 0.4 * t**1.4, 0.043 + 0.05 * t, 0.013 + 0.018 * t, stone)
    tufts(canvas, horizon + 0.05, 34, shade(lawn, -0.13), rng)


def park(canvas: Canvas, horizon: float, rng: random.Random) -> None:
    """A lawn with a winding path, low bushes in the distance, and a bench."""
    low = sky(canvas, horizon, rng)
    bush, lawn = vary((112, 146, 104), rng, 8), vary((156, 188, 116), rng, 8)
    for tone, lift in ((mix(bush, low, 0.4), 0.05), (mix(bush, low, 0.1), 0.0)):
        for i in range(9):
            x = i / 8 + rng.uniform(-0.03, 0.03)
            canvas.oval(x, horizon - lift, rng.uniform(0.07, 0.1), rng.uniform(0.05, 0.09), tone)
    canvas.fade(horizon, 1.0, shade(lawn, -0.1), lawn)
    path = vary((214, 200, 170), rng, 6)
    side = rng.choice((-1, 1))
    far, near = 0.5 - side * rng.uniform(0.1, 0.3), 0.5 - side * rng.uniform(0.0, 0.2)
    left, right = [], []
    for i in range(13):
        t = i / 12
        x = far + (near - far) * t + side * 0.16 * math.sin(math.radians(200 * t))
        y, half = horizon + (1 - horizon) * t, 0.018 + 0.17 * t**1.6
        left.append((x - half, y))
        right.append((x + half, y))
    canvas.shape(left + right[::-1], path)
    tufts(canvas, horizon + 0.03, 30, shade(lawn, -0.13), rng)
    bench(canvas, 0.5 + side * rng.uniform(0.22, 0.3), 0.65, vary((150, 108, 74), rng, 8))


def bench(canvas: Canvas, x: float, y: float, wood: RGB) -> None:
    """A slatted park bench; x its middle, y its feet."""
    iron = (78, 82, 86)
    for side in (-0.13, 0.13):
        canvas.box(x + side - 0.009, y - 0.15, x + side + 0.009, y - 0.05, iron)
        canvas.box(x + side - 0.009, y - 0.06, x + side + 0.009, y, iron)
    for i in range(3):
        canvas.box(x - 0.17, y - 0.155 + i * 0.03, x + 0.17, y - 0.133 + i * 0.03, shade(wood, 0.1))
    canvas.box(x - 0.18, y - 0.062, x + 0.18, y - 0.042, shade(wood, 0.22))
    canvas.box(x - 0.18, y - 0.042, x + 0.18, y - 0.03, shade(wood, -0.2))


def room(canvas: Canvas, horizon: float, rng: random.Random) -> None:
    """A papered wall with a window and a picture, skirting, and a wooden floor."""
    wall = vary(rng.choice(((218, 206, 186), (200, 212, 208), (214, 204, 212), (222, 214, 190))), rng, 6)
    canvas.fade(0.0, horizon, shade(wall, -0.04), wall)
    for i in range(13):
        canvas.box(i / 12.5, 0, i / 12.5 + 0.03, horizon, shade(wall, -0.035))
    floor = vary((178, 142, 106), rng, 8)
    canvas.fade(horizon, 1.0, shade(floor, -0.14), floor)
    for y in (0.72, 0.79, 0.88):
        canvas.line([(0, y), (1, y)], 0.004, shade(floor, -0.18))
    for row, (y, low) in enumerate(pairwise((horizon, 0.72, 0.79, 0.88, 1.0))):
        for i in range(4):
            x = 0.12 + i * 0.27 + 0.1 * (row % 2)
            canvas.line([(x, y), (0.5 + (x - 0.5) * 1.04, low)], 0.004, shade(floor, -0.18))
    canvas.box(0, horizon - 0.03, 1, horizon, (240, 236, 226))
    canvas.box(0, horizon - 0.004, 1, horizon + 0.003, shade(floor, -0.35))
    side = rng.choice((-1, 1))
    window(canvas, 0.5 + side * rng.uniform(0.16, 0.26), rng)
    picture(canvas, 0.5 - side * rng.uniform(0.2, 0.3), rng)


def window(canvas: Canvas, x: float, rng: random.Random) -> None:
    """A window with four panes between curtains."""
    canvas.box(x - 0.145, 0.1, x + 0.145, 0.45, (244, 242, 234))
    top, low = rng.choice(SKIES[:4])
    for left in (x - 0.125, x + 0.008):
        for up, down in ((0.12, 0.265), (0.281, 0.43)):
            canvas.box(left, up, left + 0.117, down, mix(top, low, 0.3 if up < 0.2 else 0.8))
    canvas.box(x - 0.17, 0.445, x + 0.17, 0.465, (228, 224, 214))
    cloth = vary(rng.choice(((176, 132, 124), (132, 154, 168), (160, 164, 128))), rng, 6)
    for side in (-1, 1):
        a, b = x + side * 0.19, x + side * 0.09
        canvas.shape([(a, 0.085), (b, 0.085), (b + side * 0.035, 0.3), (b + side * 0.03, 0.48), (a, 0.48)], cloth)
        canvas.line([(a - side * 0.03, 0.09), (a - side * 0.022, 0.48)], 0.008, shade(cloth, -0.15))
    canvas.box(x - 0.215, 0.07, x + 0.215, 0.088, (142, 108, 80))


def picture(canvas: Canvas, x: float, rng: random.Random) -> None:
    """A framed painting of nothing in particular."""
    y = rng.uniform(0.18, 0.24)
    canvas.box(x - 0.1, y, x + 0.1, y + 0.16, (146, 110, 74))
    canvas.box(x - 0.085, y + 0.015, x + 0.085, y + 0.145, (226, 220, 204))
    tone = vary((150, 166, 168), rng, 14)
    left, right, low = x - 0.085, x + 0.085, y + 0.145
    canvas.shape([(left, low), (left, y + 0.09), (x - 0.02, y + 0.06), (right, y + 0.1), (right, low)], tone)
    canvas.shape([(left, low), (x + 0.02, y + 0.115), (right, y + 0.125), (right, low)], shade(tone, -0.2))


PAINTERS = {
    "street": street, "sea": sea, "grassland": grassland, "space": space, "waterfall": waterfall, "stage": stage,
    "garden": garden, "park": park, "room": room, "mountains": mountains,
}  # fmt: skip
