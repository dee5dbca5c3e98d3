"""People, one function per kind: `draw(pen, colour of the clothes, action, rng)`, facing right.

All share one skeleton (figure.py); what makes a kind recognisable is put on it: a dress, a beard, a tutu, a helmet.
Clothes carry the colour, so they are drawn large.
"""

from __future__ import annotations

import math
import random
from dataclasses import replace

from dataset.picturebook.drawing.figure import (
    HAIRS,
    SKINS,
    TROUSERS,
    Build,
    draw_arm,
    draw_face,
    draw_limbs,
    finish,
    skeleton,
)
from dataset.picturebook.drawing.pen import RGB, Pen, arc, blob, cut, edge, limb, shade, solid


def muted(rng: random.Random, **changes: float) -> Build:
    """A build with random skin, hair and trousers."""
    light = rng.randrange(len(SKINS))
    hair = rng.choice(HAIRS if light < 2 else HAIRS[:3])  # dark hair with dark skin, so that it shows
    return replace(Build(), skin=SKINS[light], hair=hair, trousers=rng.choice(TROUSERS), **changes)


def man(pen: Pen, cloth: RGB, action: str, rng: random.Random) -> None:
    """Short hair, broad coat or pullover, trousers."""
    frame = skeleton(pen, muted(rng, half=0.125, arm=0.095, leg=0.105), action, rng)
    build, up = frame.build, frame.upper
    draw_limbs(pen, frame, cloth, build.trousers)
    hem = rng.uniform(-0.12, -0.06) if not frame.seated else -0.03
    shoulders = [(-0.145, 0.22), (-0.11, 0.30), (0.0, 0.325), (0.11, 0.30), (0.145, 0.22)]
    solid(up, [cut([(-0.135, hem), *shoulders, (0.135, hem)])], cloth)
    up.line([(0.01, 0.27), (0.015, hem + 0.02)], 0.014, edge(cloth))
    r, y = build.head, build.face
    up.oval(-0.01, y + r * 0.10, r, r * 0.95, build.hair)
    draw_face(frame)
    top = rng.choice((25, 40))
    up.shape([*arc(0.0, y + r * 0.05, r * 0.98, r, top, 195), (-r * 0.45, y + r * 0.25)], build.hair)
    finish(frame, cloth, rng)


def woman(pen: Pen, cloth: RGB, action: str, rng: random.Random) -> None:
    """Long hair and a wide dress down to the knees."""
    frame = skeleton(pen, muted(rng, half=0.09, arm=0.07, leg=0.09, head=0.112), action, rng)
    build, up = frame.build, frame.upper
    r, y = build.head, build.face
    low = rng.uniform(0.18, 0.26)
    ends = [(-r * 1.45, low), (-r * 0.2, low - 0.02), (r * 0.95, low + 0.06)]
    up.shape([*arc(-0.02, y, r * 1.18, r * 1.14, 0, 180), *ends], build.hair)
    draw_limbs(pen, frame, cloth, build.skin, bare=True)
    bodice = [(-0.055, 0.06), (-0.095, 0.285), (0.0, 0.315), (0.095, 0.285), (0.055, 0.06)]
    if frame.seated:
        skirt = [(-0.055, 0.06), (-0.15, -0.06), (0.10, -0.16), (0.27, -0.10), (0.26, 0.04), (0.06, 0.08)]
    else:
        flare = 0.035 if action in ("running", "walking") else 0.0
        skirt = [(-0.055, 0.08), (-0.20 - flare, -0.225 + flare), (0.0, -0.25), (0.20, -0.225), (0.055, 0.08)]
    solid(up, [cut(bodice), cut(skirt)], cloth)
    up.line([(-0.055, 0.07), (0.055, 0.07)], 0.02, edge(cloth))
    up.oval(0.0, 0.315, 0.035, 0.05, build.skin)
    draw_face(frame)
    fringe = [(-r * 0.62, y + r * 0.05), (r * rng.choice((0.1, -0.2)), y + r * 0.62)]
    up.shape([*arc(-0.005, y + r * 0.05, r * 1.08, r * 1.08, 10, 190), *fringe], build.hair)
    finish(frame, cloth, rng)


def child(pen: Pen, cloth: RGB, action: str, rng: random.Random) -> None:
    """A big head under a cap, a small body, short legs."""
    frame = skeleton(pen, muted(rng, hip=0.27, shoulder=0.31, half=0.13, head=0.195, arm=0.10, leg=0.115), action, rng)
    build, up = frame.build, frame.upper
    draw_limbs(pen, frame, cloth, build.trousers)
    solid(up, [cut([(-0.17, -0.06), (-0.135, 0.30), (0.0, 0.34), (0.135, 0.30), (0.17, -0.06)])], cloth)
    r, y = build.head, build.face
    up.oval(-0.01, y, r, r, build.hair)
    draw_face(frame)
    peak = [(r * 0.5, y + r * 0.38), (r * 1.35, y + r * 0.24), (r * 1.3, y + r * 0.42), (r * 0.7, y + r * 0.62)]
    solid(up, [cut([*arc(0.0, y + r * 0.25, r * 1.02, r * 0.82, 5, 175)]), cut(peak)], cloth)
    if action == "waving":
        draw_arm(frame, 0, shade(cloth, -0.15))
    finish(frame, cloth, rng)


def elder(pen: Pen, cloth: RGB, action: str, rng: random.Random) -> None:
    """Bald on top, white beard, glasses, a long coat, and a stick when on his feet."""
    gray = rng.choice(((226, 226, 224), (204, 206, 208), (238, 236, 228)))
    build = replace(muted(rng, half=0.12, arm=0.095, leg=0.105, head=0.122), hair=gray)
    frame = skeleton(pen, build, action, rng)
    up, r, y = frame.upper, build.head, build.face
    if not frame.seated and action != "waving":
        frame = replace(frame, arms=([frame.arms[0][0], (0.19, 0.12), (0.25, 0.07)], frame.arms[1]))
        up.line([(0.26, 0.09), (0.275, -frame.hip[1] + 0.01)], 0.032, (104, 66, 40))
        up.line(arc(0.225, 0.09, 0.035, 0.045, 0, 180), 0.032, (104, 66, 40))
    draw_limbs(pen, frame, cloth, build.trousers)
    coat = [(-0.15, 0.20), (-0.11, 0.29), (0.0, 0.32), (0.11, 0.29), (0.14, 0.20)]
    hem = [(0.17, -0.03), (-0.16, -0.05)] if frame.seated else [(0.155, -0.19), (-0.16, -0.19)]
    solid(up, [cut([*coat, *hem])], cloth)
    up.line([(0.03, 0.2), (0.035, hem[0][1] + 0.02)], 0.014, edge(cloth))
    for x in (-0.95, 0.95):
        up.oval(x * r, y - r * 0.05, r * 0.34, r * 0.42, gray)
    up.oval(0.0, y, r * 0.95, r, build.skin)
    draw_face(frame, smile=False)
    lip = [(-0.85, -0.1), (-0.3, -0.42), (0.2, -0.3), (0.7, -0.42), (0.98, -0.1)]
    chin = [(0.75, -1.0), (0.2, rng.uniform(-1.75, -1.45)), (-0.5, -1.05)]
    solid(up, [cut([(px * r, y + py * r) for px, py in lip + chin])], gray, shade(gray, -0.2))
    for x in (-0.10, 0.62):
        up.oval(x * r, y + r * 0.02, r * 0.34, fill=(66, 56, 56))
        up.oval(x * r, y + r * 0.02, r * 0.25, fill=(226, 236, 242))
        up.oval((x + 0.06) * r, y, r * 0.12, fill=(40, 32, 36))
    finish(frame, cloth, rng)


def astronaut(pen: Pen, colour: RGB | None, action: str, rng: random.Random) -> None:
    """A thick white suit, a round helmet with a dark visor, a backpack."""
    suit, dark = (238, 240, 244), (120, 128, 142)
    build = replace(Build(), hip=0.34, shoulder=0.30, half=0.135, head=0.185, arm=0.135, leg=0.15, skin=dark)
    turn = rng.uniform(-14, 14) if action == "floating" else 0.0
    pen = pen.place(0.0, 0.0, turn=turn)
    frame = skeleton(pen, build, action, rng)
    up, r, y = frame.upper, build.head, build.face
    solid(up, [cut([(-0.27, 0.0), (-0.27, 0.34), (-0.05, 0.34), (-0.05, 0.0)])], (164, 170, 180), (92, 98, 110))
    draw_arm(frame, 0, shade(suit, -0.10))
    for leg, tone in zip(frame.legs, (-0.12, 0.0), strict=True):
        solid(pen, [limb(leg, build.leg)], shade(suit, tone), dark)
        pen.oval(leg[-1][0] + 0.02, max(leg[-1][1], 0.04), 0.09, 0.05, dark)
    chest = [(-0.16, -0.06), (-0.16, 0.27), (-0.08, 0.34), (0.08, 0.34), (0.16, 0.27), (0.16, -0.06)]
    solid(up, [cut(chest)], suit, dark)
    up.box(-0.07, 0.07, 0.09, 0.18, (96, 106, 124))
    for x, light in ((-0.035, (222, 70, 60)), (0.02, (250, 206, 70)), (0.065, (90, 180, 110))):
        up.oval(x, 0.125, 0.022, fill=light)
    draw_arm(frame, 1, suit)
    solid(up, [blob(0.0, y, r)], suit, dark)
    up.oval(r * 0.16, y - r * 0.04, r * 0.76, r * 0.64, (214, 170, 74))
    up.oval(r * 0.18, y - r * 0.04, r * 0.68, r * 0.56, (34, 44, 78))
    up.oval(r * 0.42, y + r * 0.2, r * 0.17, r * 0.11, (196, 220, 246), turn=-30)


def dancer(pen: Pen, cloth: RGB, action: str, rng: random.Random) -> None:
    """A bun, arms up, a wide tutu, pale tights and one leg in the air."""
    build = muted(rng, half=0.075, arm=0.058, leg=0.075, head=0.095, hip=0.50, shoulder=0.25)
    pen = pen.place(0.0, 0.0, 0.88)  # room for the arms above the head
    frame = skeleton(pen, build, action, rng)
    up, r, y = frame.upper, build.head, build.face
    up.oval(-r * 0.35, y + r * 1.15, r * 0.48, fill=build.hair)
    tights = (244, 222, 214)
    for leg, tone in zip(frame.legs, (-0.10, 0.0), strict=True):
        solid(pen, [limb(leg, build.leg)], shade(tights, tone))
        (x0, y0), (x1, y1) = leg[-2], leg[-1]
        length = math.hypot(x1 - x0, y1 - y0) or 1.0
        toe = (x1 + (x1 - x0) / length * 0.05, max(0.02, y1 + (y1 - y0) / length * 0.05))
        pen.line([leg[-1], toe], build.leg * 0.8, shade(cloth, -0.2))
    for arm in frame.arms:
        up.line(arm, build.arm * 1.1, shade(build.skin, -0.06))
    frill = [
        (0.31 * math.cos(a) * s, -0.03 + 0.13 * math.sin(a) * s)
        for a, s in ((math.radians(15 * i), 1.0 if i % 2 else 0.86) for i in range(24))
    ]
    bodice = [(-0.05, 0.0), (-0.085, 0.22), (-0.03, 0.20), (0.03, 0.20), (0.085, 0.22), (0.05, 0.0)]
    solid(up, [cut(frill), cut(bodice)], cloth)
    up.line(arc(0.0, 0.0, 0.2, 0.075, 200, 340), 0.014, edge(cloth))
    up.oval(0.0, 0.225, 0.032, 0.05, build.skin)
    up.oval(-0.005, y + r * 0.12, r, r, build.hair)
    draw_face(frame)
    up.shape([*arc(0.0, y + r * 0.08, r, r, 15, 190), (-r * 0.5, y + r * 0.3), (r * 0.3, y + r * 0.62)], build.hair)


PEOPLE = {"man": man, "woman": woman, "child": child, "elder": elder, "astronaut": astronaut, "dancer": dancer}
