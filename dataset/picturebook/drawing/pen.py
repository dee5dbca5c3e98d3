"""A pen that draws in a local frame, so that a drawing is written once for every position, size and direction."""

from __future__ import annotations

import math
from collections.abc import Callable

from PIL import Image, ImageDraw

RGB = tuple[int, int, int]
Point = tuple[float, float]


class Pen:
    """Draws on `image` in a frame whose origin is where a thing stands.

    x grows to the right (to the left when flipped), y grows UP, and 1 is the thing's height: the crown of a
    man's head is (0, 1). `place(...)` gives a pen for a part (a wheel, a head) in the same terms.
    """

    def __init__(self, image: Image.Image, x: float, y: float, unit: float, flip: bool = False, turn: float = 0.0):
        """x, y: the origin in pixels. unit: pixels for 1. turn: degrees counter-clockwise, about the origin."""
        self.image = image
        self.draw = ImageDraw.Draw(image)
        self.x, self.y, self.unit, self.flip, self.turn = x, y, unit, flip, turn
        angle = math.radians(turn)
        self.cos, self.sin = math.cos(angle), math.sin(angle)

    def pixel(self, point: Point) -> Point:
        """Where a point of this frame lies in the image, in pixels."""
        x, y = point
        x, y = x * self.cos - y * self.sin, x * self.sin + y * self.cos
        return self.x + (-x if self.flip else x) * self.unit, self.y - y * self.unit

    def place(self, x: float, y: float, scale: float = 1.0, turn: float = 0.0) -> Pen:
        """A pen whose origin is (x, y) of this frame and whose 1 is `scale` of this one's."""
        px, py = self.pixel((x, y))
        return Pen(self.image, px, py, self.unit * scale, self.flip, self.turn + turn)

    def shape(self, points: list[Point], fill: RGB) -> None:
        """A filled polygon."""
        self.draw.polygon([self.pixel(point) for point in points], fill=fill)

    def outline(self, points: list[Point], width: float, fill: RGB) -> None:
        """The outline of a polygon; width in units of this frame."""
        pixels = [self.pixel(point) for point in [*points, points[0]]]
        self.draw.line(pixels, fill=fill, width=max(1, round(width * self.unit)))

    def line(self, points: list[Point], width: float, fill: RGB) -> None:
        """A line through the points with round ends and joints; width in units of this frame."""
        pixels = [self.pixel(point) for point in points]
        thick = max(1, round(width * self.unit))
        self.draw.line(pixels, fill=fill, width=thick, joint="curve")
        radius = thick / 2
        if radius > 1:
            for x, y in (pixels[0], pixels[-1]):
                self.draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)

    def oval(self, x: float, y: float, rx: float, ry: float | None = None, fill: RGB = (0, 0, 0), turn: float = 0.0):
        """A filled ellipse around (x, y), turned by `turn` degrees; a circle when ry is left out."""
        ry = rx if ry is None else ry
        if turn == 0.0 and self.turn == 0.0:
            px, py = self.pixel((x, y))
            a, b = max(rx * self.unit, 0.5), max(ry * self.unit, 0.5)
            self.draw.ellipse((px - a, py - b, px + a, py + b), fill=fill)
            return
        self.shape(arc(x, y, rx, ry, 0, 360, turn), fill)

    def box(self, left: float, bottom: float, right: float, top: float, fill: RGB) -> None:
        """A filled rectangle."""
        self.shape([(left, bottom), (right, bottom), (right, top), (left, top)], fill)


def arc(x: float, y: float, rx: float, ry: float, start: float, end: float, turn: float = 0.0) -> list[Point]:
    """Points along an ellipse from `start` to `end` degrees (counter-clockwise, 0 to the right)."""
    steps = max(4, round(abs(end - start) / 10))
    cos, sin = math.cos(math.radians(turn)), math.sin(math.radians(turn))
    points = []
    for i in range(steps + 1):
        angle = math.radians(start + (end - start) * i / steps)
        px, py = rx * math.cos(angle), ry * math.sin(angle)
        points.append((x + px * cos - py * sin, y + px * sin + py * cos))
    return points


def mix(one: RGB, other: RGB, share: float) -> RGB:
    """Blend `share` of the other colour into the one."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(one, other, strict=True))
    return red, green, blue


def shade(colour: RGB, amount: float) -> RGB:
    """The colour made darker (amount < 0, to black at -1) or lighter (amount > 0, to white at 1)."""
    return mix(colour, (255, 255, 255) if amount > 0 else (0, 0, 0), abs(amount))


Part = Callable[[Pen, RGB, float], None]  # draws itself in a colour, made larger all round by a length


def limb(points: list[Point], width: float) -> Part:
    """A thick line with round ends, as a part of `solid`."""
    return lambda pen, fill, grow: pen.line(points, width + 2 * grow, fill)


def blob(x: float, y: float, rx: float, ry: float | None = None, turn: float = 0.0) -> Part:
    """An ellipse, as a part of `solid`."""
    return lambda pen, fill, grow: pen.oval(x, y, rx + grow, (rx if ry is None else ry) + grow, fill, turn)


def cut(points: list[Point]) -> Part:
    """A polygon, as a part of `solid`."""

    def draw(pen: Pen, fill: RGB, grow: float) -> None:
        pen.shape(points, fill)
        if grow:
            pen.outline(points, 2 * grow, fill)

    return draw


def edge(colour: RGB) -> RGB:
    """An outline colour that contrasts with any background: darker, or lighter if the colour is dark already."""
    light = (3 * colour[0] + 6 * colour[1] + colour[2]) / 10
    return shade(colour, 0.42) if light < 70 else shade(colour, -0.38)


def solid(pen: Pen, parts: list[Part], fill: RGB, line: RGB | None = None, width: float = 0.014) -> None:
    """The union of the parts in one colour, with a thin outline around the whole."""
    line = edge(fill) if line is None else line
    thick = max(width, 1.2 / pen.unit)
    for grow, colour in ((thick, line), (0.0, fill)):
        for part in parts:
            part(pen, colour, grow)
