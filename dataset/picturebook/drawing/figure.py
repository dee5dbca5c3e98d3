"""The skeleton that all people share, and what is drawn on it: limbs, face, book.

The feet are at (0, 0), the crown at (0, 1). Trunk, arms and head are drawn in a frame of their own, whose origin is the
hip, so that they lean and sit down together.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from dataset.picturebook.drawing.pen import RGB, Pen, Point, arc, cut, limb, shade, solid

SEAT_HEIGHT = 0.20  # how high above the origin a person is seated, in "sitting" and "reading"
HAND = (0.33, 0.86)  # where the raised hand is in "waving": whatever a person holds goes there
SEATED = {"sitting": "seated", "reading": "seated reading"}  # the same pose with no stool below: for chairs, horses

SKINS = ((250, 214, 184), (238, 188, 148), (214, 158, 116), (168, 112, 76), (122, 80, 58))
HAIRS = ((36, 34, 40), (52, 38, 34), (66, 42, 32), (126, 84, 48), (150, 78, 42), (206, 164, 92))
TROUSERS = ((72, 78, 98), (112, 102, 88), (92, 84, 78), (84, 98, 112), (150, 138, 116))
SHOE, PAGE, STOOL = (64, 52, 50), (252, 248, 232), (176, 160, 138)


@dataclass(frozen=True)
class Build:
    """Proportions and dull colours of one person; lengths in units of its height, heights above the hip."""

    hip: float = 0.42
    shoulder: float = 0.285
    half: float = 0.105  # from the spine to a shoulder
    head: float = 0.118  # radius
    arm: float = 0.085  # thickness
    leg: float = 0.10
    skin: RGB = SKINS[0]
    hair: RGB = HAIRS[0]
    trousers: RGB = TROUSERS[0]

    @property
    def face(self) -> float:
        """The head's centre, above the hip."""
        return 0.985 - self.hip - self.head


@dataclass(frozen=True)
class Pose:
    """Where feet, knees and hands are. Legs from the hip's height down (as fractions of it), arms from the shoulder."""

    legs: tuple[tuple[Point, Point], tuple[Point, Point]]  # (knee, foot) of the far, the near leg
    arms: tuple[tuple[Point, Point], tuple[Point, Point]]  # (elbow, hand) from the shoulder, of the far, the near arm
    lean: float = 0.0  # degrees backwards
    lift: float = 0.0  # how high above the ground


STAND = (((-0.05, 0.5), (-0.06, 0.05)), ((0.06, 0.5), (0.06, 0.05)))
SIT = (((0.20, 1.00), (0.21, 0.14)), ((0.22, 0.92), (0.27, 0.10)))
HANG = ((0.05, -0.13), (0.045, -0.25)), ((-0.05, -0.13), (-0.045, -0.25))
POSES = {
    "standing": Pose(STAND, HANG),
    "walking": Pose((((-0.07, 0.5), (-0.17, 0.10)), ((0.09, 0.52), (0.15, 0.05))),
                    (((0.07, -0.11), (0.14, -0.20)), ((-0.09, -0.11), (-0.15, -0.21))), lean=-2),
    "running": Pose((((-0.10, 0.52), (-0.30, 0.38)), ((0.19, 0.78), (0.24, 0.22))),
                    (((0.12, -0.10), (0.21, 0.02)), ((-0.14, -0.06), (-0.17, -0.18))), lean=-12, lift=0.02),
    "waving": Pose(STAND, HANG),
    "sitting": Pose(SIT, (((0.05, -0.12), (0.15, -0.20)), ((0.02, -0.14), (0.14, -0.22)))),
    "reading": Pose(SIT, (((0.04, -0.15), (0.18, -0.12)), ((0.02, -0.16), (0.15, -0.14)))),
    "floating": Pose((((-0.12, 0.58), (-0.20, 0.26)), ((0.13, 0.64), (0.17, 0.22))),
                     (((0.13, 0.02), (0.24, 0.12)), ((-0.13, -0.02), (-0.24, 0.05))), lift=0.09),
    "dancing": Pose((((0.16, 0.72), (0.34, 0.62)), ((0.0, 0.5), (0.0, 0.04))),
                    (((0.14, 0.10), (0.08, 0.27)), ((-0.14, 0.10), (-0.08, 0.27)))),
    "jumping": Pose((((-0.18, 0.80), (-0.38, 0.62)), ((0.18, 0.84), (0.38, 0.66))),
                    (((0.15, 0.06), (0.27, 0.14)), ((-0.15, 0.06), (-0.27, 0.14))), lift=0.06),
}  # fmt: skip


@dataclass(frozen=True)
class Frame:
    """A posed skeleton: the points to draw clothes on. Legs are in the pen's frame, the rest in `upper`'s."""

    upper: Pen  # its origin is the hip
    build: Build
    hip: Point
    legs: tuple[list[Point], ...]  # the far, the near one
    arms: tuple[list[Point], ...]
    seated: bool
    reading: bool


def skeleton(pen: Pen, build: Build, action: str, rng: random.Random) -> Frame:
    """Pose a build for an action, slightly different each time."""
    seated = action in ("sitting", "reading", *SEATED.values())
    if action in ("sitting", "reading"):
        solid(pen, [cut([(-0.17, 0.0), (0.13, 0.0), (0.11, SEAT_HEIGHT), (-0.15, SEAT_HEIGHT)])], STOOL)
    reading = action in ("reading", "seated reading")
    pose = POSES["reading" if reading else "sitting" if seated else action]
    wobble = rng.uniform(-0.015, 0.015)
    hip = (0.0, SEAT_HEIGHT + build.leg * 0.55 if seated else build.hip + pose.lift)
    upper = pen.place(*hip, turn=pose.lean + rng.uniform(-2, 2) * (action != "waving"))
    side, sole = build.leg * 0.52, build.leg * 0.4
    legs = tuple(
        [(x, hip[1])] + [(px + (0 if seated else x * 0.2) + wobble, max(py * hip[1], sole)) for px, py in leg]
        for x, leg in zip((-side, side), pose.legs, strict=True)
    )
    arms = []
    for x, arm in zip((build.half, -build.half), pose.arms, strict=True):
        shoulder = (x * 0.9, build.shoulder - 0.03)
        arms.append([shoulder, *((shoulder[0] + px, shoulder[1] + py + wobble) for px, py in arm)])
    if action == "waving":
        hand = (HAND[0], HAND[1] - hip[1])
        arms[0] = [arms[0][0], (HAND[0] + 0.01, arms[0][0][1] + 0.02 + build.head * 0.2), hand]
    return Frame(upper, build, hip, legs, tuple(arms), seated, reading)


def draw_limbs(pen: Pen, frame: Frame, sleeve: RGB, trousers: RGB, bare: bool = False) -> None:
    """What the body hides in part: the far arm, trousers (or bare legs) and shoes."""
    draw_arm(frame, 0, shade(sleeve, -0.15))
    for leg, tone in zip(frame.legs, (-0.18, 0.0), strict=True):
        solid(pen, [limb(leg, frame.build.leg * (0.68 if bare else 1.0))], shade(trousers, tone))
        foot = leg[-1]
        pen.oval(foot[0] + 0.025, max(foot[1] - 0.015, 0.027), 0.062, 0.034, shade(SHOE, tone))


def draw_arm(frame: Frame, which: int, cloth: RGB) -> None:
    """A sleeve and the hand; which: 0 the far (right) arm, 1 the near one."""
    arm = frame.arms[which]
    frame.upper.oval(*arm[-1], frame.build.arm * 0.56, fill=frame.build.skin)
    (x0, y0), (x1, y1) = arm[-2], arm[-1]
    cuff = (x0 + (x1 - x0) * 0.72, y0 + (y1 - y0) * 0.72)
    solid(frame.upper, [limb([*arm[:-1], cuff], frame.build.arm)], cloth)


def draw_face(frame: Frame, smile: bool = True) -> None:
    """Skin, two eyes, a mouth: looking a little to the right."""
    pen, r, y = frame.upper, frame.build.head, frame.build.face
    pen.oval(0.012, y - r * 0.1, r * 0.88, r * 0.90, frame.build.skin)
    for x in (-0.18, 0.52):
        pen.oval(0.012 + x * r, y - r * 0.02, r * 0.13, r * 0.17, (40, 32, 36))
    if smile:
        pen.line(arc(0.012 + 0.17 * r, y - r * 0.38, r * 0.26, r * 0.20, 200, 340), r * 0.11, (150, 60, 56))


def draw_book(frame: Frame, cover: RGB) -> None:
    """An open book in both hands, in front of the chest."""
    x, y = frame.arms[0][-1]
    pen = frame.upper.place(max(x, 0.22), y + 0.045, 1.2, turn=-8)
    pen.shape([(-0.13, -0.09), (0.0, -0.12), (0.13, -0.09), (0.15, 0.105), (0.0, 0.065), (-0.15, 0.105)], cover)
    for s in (-1, 1):
        pen.shape([(0.0, -0.09), (s * 0.11, -0.062), (s * 0.125, 0.095), (0.0, 0.066)], PAGE)
        pen.line([(s * 0.03, 0.015), (s * 0.095, 0.035)], 0.012, (168, 160, 150))
        pen.line([(s * 0.03, -0.03), (s * 0.09, -0.01)], 0.012, (168, 160, 150))


def finish(frame: Frame, cloth: RGB, rng: random.Random) -> None:
    """The arms, and the book when reading; after the body and the head."""
    draw_arm(frame, 1, cloth)
    if frame.reading:
        draw_book(frame, rng.choice(((120, 72, 60), (70, 92, 92), (96, 84, 110))))
        frame.upper.oval(*frame.arms[1][-1], frame.build.arm * 0.5, fill=frame.build.skin)
