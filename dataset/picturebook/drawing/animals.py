"""The animals, drawn in the pen's frame: feet (or lowest point) on y = 0, about 1 high, facing right.

A coat is one flat colour with one thin line around it (`solid`), the legs farther away a shade darker.
"""

from __future__ import annotations

import random

from dataset.picturebook.drawing.animals_small import DARK, bird, butterfly, cat, eye, legs, mark, rabbit
from dataset.picturebook.drawing.pen import RGB, Pen, arc, blob, cut, edge, limb, shade, solid


def dog(pen: Pen, coat: RGB, action: str, rng: random.Random) -> None:
    """Floppy ears, a long muzzle with a black nose, a tail held high."""
    dark = mark(coat, 0.24)
    head = rng.uniform(0.95, 1.06)
    wag = rng.uniform(-0.05, 0.05)
    pen = pen.place(-0.07, 0.0)
    if action == "sleeping":
        solid(pen, [limb([(-0.42, 0.09), (-0.54, 0.14), (-0.58, 0.28 + wag)], 0.09)], coat)
        paws = [limb([(-0.32, 0.06), (-0.06, 0.06)], 0.12), limb([(0.10, 0.065), (0.62, 0.065)], 0.12)]
        solid(pen, [blob(-0.08, 0.25, 0.36, 0.23), blob(-0.26, 0.21, 0.22, 0.20), *paws], coat)
        pen.line(arc(-0.28, 0.17, 0.18, 0.18, -10, 110), 0.025, edge(coat))
        dog_head(pen.place(0.30, 0.32, head, turn=-12), coat, dark, asleep=True)
        return
    if action == "sitting":
        solid(pen, [limb([(-0.30, 0.09), (-0.52, 0.14), (-0.58, 0.30 + wag)], 0.09)], coat)
        solid(pen, [limb([(0.20, 0.40), (0.22, 0.06)], 0.13)], shade(coat, -0.15))
        paws = [limb([(-0.2, 0.06), (0.04, 0.06)], 0.12), limb([(0.12, 0.40), (0.12, 0.07)], 0.13)]
        solid(pen, [blob(-0.16, 0.20, 0.24, 0.20), limb([(-0.10, 0.24), (0.10, 0.52)], 0.36), *paws], coat)
        dog_head(pen.place(0.14, 0.74, head, rng.uniform(-6, 10)), coat, dark)
        return
    running = action == "running"
    lift = 0.08 if running else 0.0
    tops = [(-0.30, 0.36 + lift), (0.26, 0.36 + lift)]
    solid(pen, [limb([(-0.42, 0.52 + lift), (-0.56, 0.64 + lift), (-0.60, 0.80 + lift + wag)], 0.09)], coat)
    far = [(-0.46, 0.10), (0.42, 0.20)] if running else [(-0.25, 0.0), (0.18, 0.0)]
    near = [(-0.58, 0.12), (0.60, 0.08)] if running else [(-0.37, 0.0), (0.31, 0.0)]
    legs(pen, shade(coat, -0.18), far, tops, 0.125)
    solid(pen, [limb([(-0.30, 0.44 + lift), (0.22, 0.46 + lift)], 0.33)]
          + [limb([top, (x, y + 0.065)], 0.13) for top, (x, y) in zip(tops, near, strict=True)]
          + [limb([(0.24, 0.50 + lift), (0.36, 0.68 + lift)], 0.24)], coat)  # fmt: skip
    dog_head(pen.place(0.38, 0.74 + lift * 0.5, head, rng.uniform(-6, 8)), coat, dark)


def dog_head(pen: Pen, coat: RGB, dark: RGB, asleep: bool = False) -> None:
    """A head around (0, 0)."""
    solid(pen, [blob(0.0, 0.0, 0.21, 0.20), limb([(0.10, -0.06), (0.27, -0.07)], 0.16)], coat)
    pen.oval(0.345, -0.03, 0.055, 0.05, DARK)
    pen.line([(0.18, -0.125), (0.30, -0.115)], 0.022, edge(coat))
    eye(pen, 0.10, 0.055, 0.04, asleep, coat)
    solid(pen, [blob(-0.12, -0.06, 0.095, 0.20, -14)], dark)


def panda(pen: Pen, colour: RGB | None, action: str, rng: random.Random) -> None:
    """Black limbs, ears and eye patches on white."""
    white, black = (250, 250, 246), (46, 44, 50)
    line = (120, 120, 124)
    tilt = rng.uniform(-9, 9)
    if action == "walking":
        legs(pen, shade(black, 0.15), [(-0.20, 0.0), (0.10, 0.0)], [(-0.24, 0.28), (0.18, 0.30)], 0.19)
        solid(pen, [blob(-0.10, 0.42, 0.42, 0.29)], white, line)
        solid(pen, [limb([(0.16, 0.58), (0.19, 0.12)], 0.20), limb([(-0.38, 0.34), (-0.40, 0.10)], 0.21)], black)
        panda_head(pen.place(0.33, 0.64, 0.92, tilt), white, black, line)
        return
    solid(pen, [blob(0.0, 0.33, 0.34, 0.33)], white, line)
    solid(pen, [cut([*arc(0.0, 0.33, 0.34, 0.31, 15, 80), *arc(0.0, 0.33, 0.34, 0.31, 100, 165)])], black)
    for s in (-1, 1):
        solid(pen, [limb([(s * 0.22, 0.14), (s * 0.36, 0.10)], 0.20)], black)
        pen.oval(s * 0.40, 0.11, 0.055, 0.075, (110, 100, 104))
    panda_head(pen.place(0.0, 0.73, turn=tilt), white, black, line)
    if action == "eating":
        pen.line([(0.14, 0.30), (0.42, 0.98)], 0.055, (104, 158, 62))
        for x, y, turn in ((0.36, 0.80, 10), (0.46, 0.92, -20), (0.35, 0.95, 70), (0.24, 0.6, 150)):
            pen.oval(x + 0.07, y, 0.11, 0.04, (70, 136, 58), turn)
        solid(pen, [limb([(0.26, 0.46), (0.20, 0.46)], 0.17), limb([(-0.28, 0.46), (0.10, 0.38)], 0.17)], black)
    else:
        for s in (-1, 1):
            solid(pen, [limb([(s * 0.28, 0.48), (s * (0.17 + rng.uniform(0, 0.04)), 0.28)], 0.17)], black)


def panda_head(pen: Pen, white: RGB, black: RGB, line: RGB) -> None:
    """A head around (0, 0)."""
    for s in (-1, 1):
        solid(pen, [blob(s * 0.23, 0.19, 0.105)], black)
    solid(pen, [blob(0.0, 0.0, 0.31, 0.265)], white, line)
    for s in (-1, 1):
        pen.oval(0.02 + s * 0.13, 0.005, 0.075, 0.10, black, turn=-25 * s)
        pen.oval(0.02 + s * 0.12, 0.02, 0.024, fill=white)
    pen.oval(0.02, -0.10, 0.055, 0.04, black)
    pen.line(arc(0.02, -0.12, 0.06, 0.05, 200, 340), 0.02, black)


def horse(pen: Pen, coat: RGB, action: str, rng: random.Random) -> None:
    """Long legs, an arched neck with a mane, a long face and a long tail."""
    mane = mark(coat, 0.5)
    hoof, far = (70, 60, 58), shade(coat, -0.18)
    running, sway = action == "running", rng.uniform(-0.04, 0.04)
    back = [((-0.30, 0.5), (-0.20, 0.28), (-0.24, 0.05)), ((-0.36, 0.5), (-0.40, 0.26), (-0.38, 0.05))]
    front = [((0.18, 0.48), (0.16, 0.26), (0.14, 0.05)), ((0.24, 0.48), (0.27, 0.26), (0.27, 0.05))]
    if running:
        back = [((-0.30, 0.5), (-0.36, 0.30), (-0.56, 0.22)), ((-0.34, 0.5), (-0.50, 0.32), (-0.66, 0.10))]
        front = [((0.18, 0.48), (0.44, 0.38), (0.38, 0.18)), ((0.24, 0.5), (0.46, 0.34), (0.62, 0.18))]
    tail = [(-0.60, 0.62), (-0.70, 0.46 + sway)] if running else [(-0.54, 0.50), (-0.55 + sway, 0.24)]
    solid(pen, [limb([(-0.42, 0.62), *tail], 0.10)], mane)
    for leg in (back[0], front[0]):
        solid(pen, [limb(list(leg), 0.085)], far)
        pen.oval(leg[-1][0], leg[-1][1] - 0.01, 0.055, 0.045, hoof)
    eating = action == "eating"
    crest, poll = ((0.25, 0.60), (0.52, 0.36)) if eating else ((0.24, 0.60), (0.40, rng.uniform(0.83, 0.88)))
    if running:
        poll = (0.48, 0.80)
    turn = -78 if eating else rng.uniform(-44, -34)
    solid(pen, [limb([(-0.28, 0.56), (0.18, 0.56)], 0.28), limb([crest, poll], 0.19), limb([(0.16, 0.55), crest], 0.26)]
          + [limb(list(leg), 0.09) for leg in (back[1], front[1])]
          + [limb([(-0.33, 0.52), back[1][1]], 0.13), limb([(0.22, 0.50), front[1][1]], 0.11)], coat)  # fmt: skip
    for leg in (back[1], front[1]):
        pen.oval(leg[-1][0], leg[-1][1] - 0.01, 0.06, 0.045, hoof)
    head = pen.place(*poll, turn=turn)
    solid(head, [cut([(-0.06, 0.06), (-0.03, 0.20), (0.05, 0.08)])], coat)
    solid(head, [blob(0.0, 0.0, 0.115, 0.105), limb([(0.02, -0.005), (0.23, -0.02)], 0.135)], coat)
    head.oval(0.27, 0.0, 0.022, 0.018, edge(coat))
    eye(head, 0.05, 0.035, 0.028, False, coat)
    horse_mane(pen, crest, poll, mane)
    head.shape([(-0.04, 0.03), (-0.03, 0.14), (0.12, 0.06)], mane)


def horse_mane(pen: Pen, crest: tuple[float, float], poll: tuple[float, float], mane: RGB) -> None:
    """A ragged mane along the upper side of the neck, from the crest to the poll."""
    (x0, y0), (x1, y1) = crest, poll
    length = ((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5
    ux, uy = (x1 - x0) / length, (y1 - y0) / length
    row = ((-0.06, 0.10), (0.02, 0.155), (length * 0.5, 0.15), (length + 0.05, 0.12), (length + 0.08, 0.04))
    teeth = ((0.8, 0.0), (0.72, 0.06), (0.5, -0.01), (0.42, 0.06), (0.15, -0.01))
    under = [(length * along, out) for along, out in teeth]
    solid(pen, [cut([(x0 + ux * a - uy * b, y0 + uy * a + ux * b) for a, b in (*row, *under)])], mane)


def sheep(pen: Pen, wool: RGB, action: str, rng: random.Random) -> None:
    """A cloud of wool on thin dark legs, a dark face with ears that stick out."""
    face = (96, 84, 82) if edge(wool) < wool else (206, 186, 166)
    legs(pen, shade(face, -0.2), [(-0.26, 0.0), (0.16, 0.0)], [(-0.26, 0.3), (0.16, 0.3)], 0.085)
    legs(pen, face, [(-0.36, 0.0), (0.26, 0.0)], [(-0.34, 0.3), (0.24, 0.3)], 0.09)
    curls = [blob(-0.05, 0.52, 0.40, 0.25)]
    for i in range(11):
        x, y = arc(-0.05, 0.52, 0.42, 0.25, 0, 360)[i * 24 // 11]
        curls.append(blob(x, y, 0.13 + rng.uniform(-0.012, 0.012)))
    solid(pen, curls, wool, width=0.02)
    for x, y in ((-0.28, 0.62), (-0.04, 0.66), (-0.16, 0.44), (0.10, 0.48), (-0.36, 0.42)):
        pen.line(arc(x, y, 0.075, 0.06, 190, 350), 0.022, shade(wool, -0.2) if edge(wool) < wool else shade(wool, 0.3))
    head = pen.place(0.50, 0.30, turn=-38) if action == "eating" else pen.place(0.46, 0.70)
    solid(head, [limb([(-0.10, 0.02), (-0.20, -0.03)], 0.09)], face)
    solid(head, [blob(0.04, -0.04, 0.135, 0.19, 20)], face)
    solid(head, [blob(-0.04, 0.13, 0.12, 0.085), blob(0.06, 0.14, 0.08, 0.07)], wool)
    head.oval(0.075, 0.015, 0.04, fill=(250, 250, 246))
    head.oval(0.085, 0.01, 0.022, fill=DARK)


def elephant(pen: Pen, colour: RGB | None, action: str, rng: random.Random) -> None:
    """A huge body on pillars, a trunk to the ground, a great ear, a tusk."""
    hide = rng.choice(((138, 146, 160), (128, 138, 152), (146, 150, 160)))
    stride = 0.10 if action == "walking" else 0.0
    pen = pen.place(-0.07, 0.0)
    legs(pen, shade(hide, -0.2), [(-0.22 - stride, 0.0), (0.12 + stride, 0.0)], [(-0.22, 0.35), (0.12, 0.35)], 0.18)
    solid(pen, [limb([(-0.50, 0.62), (-0.58, 0.40), (-0.56, 0.32)], 0.035)], shade(hide, -0.25))
    belly = cut([(-0.5, 0.55), (-0.48, 0.3), (0.28, 0.3), (0.3, 0.55)])
    if action == "walking":  # with its trunk raised in greeting
        root = [(0.50, 0.66), (0.62, 0.58), (0.72, 0.70)]
        tip = [(0.72, 0.70), (0.74, 0.84), (0.70 + rng.uniform(-0.03, 0.03), 0.96)]
    else:
        root = [(0.48, 0.64), (0.58, 0.46)]
        tip = [(0.58, 0.46), (0.60, 0.22), (0.66 + rng.uniform(-0.02, 0.04), 0.10)]
    solid(pen, [blob(-0.12, 0.60, 0.44, 0.32), belly, blob(0.32, 0.70, 0.25, 0.26)]
          + [limb([(x, 0.35), (x + step, 0.10)], 0.20) for x, step in ((-0.40, stride), (0.24, -stride * 0.4))]
          + [limb(root, 0.15 if stride else 0.17), limb(tip, 0.12)], hide)  # fmt: skip
    pen.line([(0.44, 0.50), (0.53, 0.44), (0.60, 0.46)], 0.05, (252, 248, 234))
    solid(pen, [blob(0.14, 0.67, 0.20, 0.27, 8)], shade(hide, -0.14), shade(hide, -0.42))
    eye(pen, 0.42, 0.76, 0.032, False, hide)


ANIMALS = {
    "dog": dog, "cat": cat, "panda": panda, "bird": bird, "horse": horse, "sheep": sheep, "elephant": elephant,
    "rabbit": rabbit, "butterfly": butterfly,
}  # fmt: skip
