"""The vehicles: one function per kind, each drawing one individual, facing right, in a frame of height 1."""

from __future__ import annotations

import random

from dataset.picturebook.drawing.pen import RGB, Pen, Point, arc, edge, shade

GLASS = (190, 222, 238)
TYRE = (46, 46, 52)
RIM = (196, 200, 206)
STEEL = (150, 154, 162)


def outlined(pen: Pen, points: list[Point], fill: RGB, line: RGB | None = None, width: float = 0.025) -> None:
    """A filled polygon with a thin outline."""
    pen.shape(points, fill)
    pen.outline(points, width, line or edge(fill))


def ring(pen: Pen, x: float, y: float, radius: float, width: float, fill: RGB) -> None:
    """A ring; radius is that of its outer rim."""
    px, py = pen.pixel((x, y))
    r = radius * pen.unit
    pen.draw.ellipse((px - r, py - r, px + r, py + r), outline=fill, width=max(1, round(width * pen.unit)))


def wheel(pen: Pen, x: float, y: float, radius: float) -> None:
    """A car's wheel."""
    for share, ink in ((1, TYRE), (0.58, RIM), (0.22, (110, 112, 120))):
        pen.oval(x, y, radius * share, fill=ink)


def car(pen: Pen, paint: RGB, action: str | None, rng: random.Random) -> None:
    """A small saloon or hatchback from the side."""
    back = rng.choice((-0.44, -0.66))  # a saloon's boot, or a hatchback
    body = [
        (-0.94, 0.17), (-0.98, 0.34), (-0.95, 0.60), (back - 0.18, 0.66), (back + 0.06, 0.95), (back + 0.18, 1.0),
        (0.20, 1.0), (0.32, 0.95), (0.56, 0.65), (0.88, 0.58), (0.97, 0.46), (0.98, 0.22), (0.94, 0.17),
    ]  # fmt: skip
    outlined(pen, body, paint, width=0.035)
    pen.shape([(-0.95, 0.19), (0.96, 0.19), (0.97, 0.30), (-0.97, 0.30)], shade(paint, -0.2))
    pen.line([(-0.9, 0.56), (0.86, 0.52)], 0.03, shade(paint, 0.35))
    middle = (back + 0.32) / 2
    pen.shape([(back, 0.66), (back + 0.16, 0.91), (middle - 0.04, 0.91), (middle - 0.04, 0.66)], GLASS)
    pen.shape([(middle + 0.04, 0.66), (middle + 0.04, 0.91), (0.22, 0.91), (0.42, 0.66)], GLASS)
    pen.line([(middle, 0.25), (middle, 0.62)], 0.02, edge(paint))
    pen.box(middle - 0.2, 0.52, middle - 0.08, 0.56, edge(paint))
    for x in (-0.56, 0.58):
        pen.oval(x, 0.22, 0.25, fill=shade(paint, -0.5) if sum(paint) > 200 else (20, 20, 24))
        wheel(pen, x, 0.2, 0.2)
    pen.oval(0.9, 0.46, 0.07, 0.055, fill=(255, 240, 160))
    pen.box(-0.97, 0.44, -0.88, 0.54, (170, 30, 34) if sum(paint) > 320 else (230, 60, 60))


def bus(pen: Pen, paint: RGB, action: str | None, rng: random.Random) -> None:
    """A city bus from the side, its door near the front."""
    pale = (250, 250, 246) if sum(paint) < 700 else (150, 160, 176)
    body = [
        (-0.88, 0.12), (-0.9, 0.2), (-0.9, 0.9), (-0.84, 0.98), (-0.76, 1.0), (0.76, 1.0), (0.85, 0.96), (0.89, 0.86),
        (0.9, 0.2), (0.87, 0.12),
    ]  # fmt: skip
    outlined(pen, body, paint, width=0.028)
    pen.shape([(-0.88, 0.13), (0.88, 0.13), (0.89, 0.24), (-0.89, 0.24)], shade(paint, -0.22))
    pen.box(-0.89, 0.40, 0.89, 0.455, pale)
    pen.box(-0.8, 0.93, 0.74, 0.965, shade(paint, 0.3))
    windows = rng.choice((4, 5))
    width = 1.26 / windows
    for i in range(windows):
        left = -0.82 + i * width
        pen.box(left, 0.54, left + width - 0.05, 0.86, GLASS)
        pen.shape([(left + 0.03, 0.54), (left + 0.11, 0.86), (left + 0.17, 0.86), (left + 0.09, 0.54)], (222, 240, 248))
    pen.box(0.47, 0.17, 0.68, 0.86, edge(paint))
    pen.box(0.49, 0.2, 0.565, 0.84, GLASS)
    pen.box(0.585, 0.2, 0.66, 0.84, GLASS)
    pen.shape([(0.74, 0.5), (0.74, 0.88), (0.85, 0.88), (0.88, 0.5)], GLASS)
    for x in (-0.52, 0.28):
        wheel(pen, x, 0.14, 0.14)
    pen.oval(0.86, 0.3, 0.04, fill=(255, 246, 190))


def bicycle(pen: Pen, paint: RGB, action: str | None, rng: random.Random) -> None:
    """A town bicycle; its handlebar is at (0.26, 1)."""
    back, front, crank, head = (-0.41, 0.33), (0.43, 0.33), (-0.03, 0.32), (0.27, 0.82)
    for x, y in (back, front):
        for dx, dy in ((0.3, 0.0), (0.21, 0.21), (0.0, 0.3), (-0.21, 0.21)):
            pen.line([(x - dx, y - dy), (x + dx, y + dy)], 0.012, (190, 194, 200))
        ring(pen, x, y, 0.33, 0.055, TYRE)
        pen.oval(x, y, 0.04, fill=STEEL)
    seat = (-0.15, 0.78)
    dark = edge(paint)
    frame = [[back, crank, seat, back], [crank, head], [seat, head], [front, head, (0.25, 0.94)], [seat, (-0.18, 0.88)]]
    for width, ink in ((0.115, dark), (0.085, paint)):
        for part in frame:
            pen.line(part, width, ink)
    pen.line(arc(*front, 0.37, 0.37, 20, 120), 0.05, paint)
    pen.line(arc(*back, 0.37, 0.37, 60, 165), 0.05, paint)
    pen.line([(0.25, 0.93), (0.28, 0.97), (0.16, 0.98)], 0.055, (60, 60, 66))
    pen.line([(-0.3, 0.9), (-0.09, 0.89)], 0.085, (70, 48, 40))
    pen.oval(*crank, 0.075, fill=(90, 92, 98))
    pen.line([crank, (0.05, 0.2)], 0.04, (90, 92, 98))
    pen.line([(0.0, 0.19), (0.1, 0.19)], 0.04, TYRE)
    if rng.random() < 0.5:
        outlined(pen, [(0.36, 0.72), (0.62, 0.72), (0.67, 0.92), (0.34, 0.92)], (206, 164, 108), width=0.02)


def boat(pen: Pen, paint: RGB, action: str | None, rng: random.Random) -> None:
    """A small sailing boat."""
    sail = (252, 250, 240) if sum(paint) < 690 else (244, 246, 248)
    lean = rng.uniform(-0.01, 0.02)
    pen.line([(0.04, 0.2), (0.04 + lean, 1.0)], 0.035, (120, 84, 56))
    outlined(pen, [(0.08, 0.31), (0.46, 0.33), (0.28, 0.62), (0.08 + lean, 0.95)], sail, (150, 152, 160), 0.015)
    pen.shape([(0.09, 0.45), (0.4, 0.46), (0.32, 0.57), (0.09, 0.57)], paint if sum(paint) < 690 else (206, 210, 218))
    outlined(pen, [(0.0, 0.34), (-0.36, 0.34), (0.0 + lean, 0.84)], shade(paint, 0.12), width=0.015)
    pen.shape([(0.05 + lean, 0.94), (-0.12, 0.975), (0.05 + lean, 1.0)], paint)
    boat_hull(pen, paint)


def boat_hull(pen: Pen, paint: RGB) -> None:
    """The boat's hull alone, to be drawn over the legs of whoever stands in it."""
    keel = [(-0.5, 0.29), (-0.42, 0.1), (-0.33, 0.02), (0.36, 0.02), (0.46, 0.12), (0.56, 0.32)]
    outlined(pen, [*keel, (0.3, 0.27), (-0.2, 0.26)], paint, width=0.025)
    pen.shape([(-0.42, 0.1), (-0.33, 0.02), (0.36, 0.02), (0.45, 0.1)], shade(paint, -0.3))
    stripe = (250, 250, 246) if sum(paint) < 690 else (120, 132, 152)
    pen.shape([(-0.47, 0.215), (-0.455, 0.18), (0.485, 0.18), (0.505, 0.215)], stripe)


def rocket(pen: Pen, paint: RGB, action: str | None, rng: random.Random) -> None:
    """A rocket on its three fins, sometimes with its engine lit."""
    trim = (206, 66, 58) if abs(paint[0] - paint[2]) < 40 else shade(paint, 0.55)
    if sum(paint) > 690:
        trim = (176, 182, 194)
    if rng.random() < 0.6:
        pen.shape([(-0.1, 0.2), (-0.07, 0.06), (0.0, 0.0), (0.07, 0.06), (0.1, 0.2)], (246, 150, 50))
        pen.shape([(-0.055, 0.2), (0.0, 0.06), (0.055, 0.2)], (255, 232, 130))
    fin = shade(paint, -0.28)
    for side in (-1, 1):
        outline = [(side * 0.12, 0.46), (side * 0.25, 0.22), (side * 0.25, 0.03), (side * 0.12, 0.2)]
        outlined(pen, outline, fin, width=0.015)
    body = arc(0, 0.46, 0.16, 0.54, -28, 208)
    outlined(pen, body, paint, width=0.018)
    pen.shape([*arc(0, 0.46, 0.16, 0.54, -28, 40), (0.07, 0.6), (0.08, 0.3)], shade(paint, -0.13))
    nose = arc(0, 0.46, 0.16, 0.54, 55, 125)
    outlined(pen, nose, trim, width=0.012)
    pen.oval(0, 0.6, 0.085, fill=edge(paint))
    pen.oval(0, 0.6, 0.062, fill=(150, 206, 236))
    pen.oval(-0.02, 0.62, 0.022, fill=(230, 246, 252))
    pen.box(-0.13, 0.3, 0.13, 0.335, trim)
    outlined(pen, [(-0.03, 0.4), (0.03, 0.4), (0.03, 0.08), (-0.03, 0.08)], fin, width=0.012)


def plane(pen: Pen, paint: RGB, action: str | None, rng: random.Random) -> None:
    """An airliner from the side, climbing a little."""
    dark = shade(paint, -0.2)
    outlined(pen, [(-0.1, 0.56), (-0.42, 0.86), (-0.28, 0.88), (0.22, 0.58)], shade(paint, -0.3), width=0.02)
    outlined(pen, [(-0.92, 1.0), (-0.74, 1.0), (-0.44, 0.6), (-0.84, 0.56)], dark, width=0.025)
    body = [
        (-0.99, 0.62), (-0.6, 0.36), (-0.3, 0.3), (0.6, 0.28), (0.84, 0.32), (0.98, 0.42), (0.96, 0.5), (0.8, 0.64),
        (0.6, 0.68), (-0.4, 0.68),
    ]  # fmt: skip
    outlined(pen, body, paint, width=0.03)
    pen.shape([(-0.62, 0.375), (-0.3, 0.31), (0.6, 0.29), (0.84, 0.33), (0.95, 0.41), (0.0, 0.40)], dark)
    for i in range(7):
        pen.oval(-0.42 + i * 0.15, 0.55, 0.042, 0.05, fill=(96, 140, 180))
    pen.shape([(0.68, 0.53), (0.9, 0.53), (0.8, 0.63), (0.7, 0.64)], (96, 140, 180))
    outlined(pen, [(0.18, 0.42), (-0.18, 0.42), (-0.56, 0.0), (-0.38, 0.0)], shade(dark, 0.08), width=0.025)
    outlined(pen, [(-0.7, 0.58), (-0.98, 0.42), (-0.86, 0.42), (-0.5, 0.56)], dark, width=0.02)
    outlined(pen, arc(0.06, 0.2, 0.14, 0.07, 0, 360), shade(dark, 0.05), width=0.02)


VEHICLES = {"car": car, "bus": bus, "bicycle": bicycle, "boat": boat, "rocket": rocket, "plane": plane}
