"""Tools to paint places: a canvas in fractions of the picture, skies, hills and grass."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator

from PIL import Image, ImageDraw

from dataset.picturebook.drawing.pen import RGB, Point

SKIES = (  # top, horizon: day, day, haze, morning, evening, dusk
    ((136, 184, 222), (214, 230, 236)),
    ((150, 192, 214), (226, 232, 226)),
    ((176, 190, 202), (222, 224, 220)),
    ((170, 190, 214), (246, 220, 196)),
    ((150, 150, 190), (240, 196, 168)),
    ((98, 112, 158), (196, 176, 188)),
)


class Canvas:
    """Draws in fractions of the picture: x from left to right, y from top to bottom, both 0 to 1."""

    def __init__(self, image: Image.Image):
        self.image, self.size = image, image.width
        self.draw = ImageDraw.Draw(image)

    def fade(self, top: float, bottom: float, *colours: RGB) -> None:
        """A vertical gradient over the whole width."""
        first, last = round(top * self.size), round(bottom * self.size)
        column = Image.new("RGB", (1, len(colours)))
        column.putdata(colours)
        column = column.resize((1, last - first), Image.Resampling.BILINEAR)
        self.image.paste(column.resize((self.size, last - first), Image.Resampling.NEAREST), (0, first))

    def box(self, left: float, top: float, right: float, bottom: float, fill: RGB) -> None:
        s = self.size
        if right * s - 1 >= left * s and bottom * s - 1 >= top * s:
            self.draw.rectangle((left * s, top * s, right * s - 1, bottom * s - 1), fill=fill)

    def shape(self, points: list[Point], fill: RGB) -> None:
        s = self.size
        self.draw.polygon([(x * s, y * s) for x, y in points], fill=fill)

    def line(self, points: list[Point], width: float, fill: RGB) -> None:
        s = self.size
        self.draw.line([(x * s, y * s) for x, y in points], fill=fill, width=max(1, round(width * s)))

    def oval(self, x: float, y: float, rx: float, ry: float, fill: RGB) -> None:
        s = self.size
        self.draw.ellipse(((x - rx) * s, (y - ry) * s, (x + rx) * s, (y + ry) * s), fill=fill)


def vary(colour: RGB, rng: random.Random, by: int = 10) -> RGB:
    """The colour with each channel jittered a little."""
    red, green, blue = (max(0, min(255, c + rng.randint(-by, by))) for c in colour)
    return red, green, blue


def sky(canvas: Canvas, horizon: float, rng: random.Random) -> RGB:
    """Paint the sky; returns its colour just above the horizon, for distant things."""
    top, low = rng.choices(SKIES, weights=(5, 4, 2, 2, 2, 1.5))[0]
    top, low = vary(top, rng, 6), vary(low, rng, 6)
    canvas.fade(0.0, horizon + 0.02, top, low)
    return low


def ridge(canvas: Canvas, base: float, height: float, bumps: int, fill: RGB, rng: random.Random) -> None:
    """A soft line of hills, filled down to 0.02 below its base."""
    points, x = [(-0.05, base + 0.02)], -0.05
    step = 1.1 / (bumps * 10)
    start = rng.random()
    for i in range(bumps * 10 + 1):
        wave = 0.5 - 0.5 * math.cos(math.radians((i / 10 + start) * 360))
        points.append((x + i * step, base - height * (0.35 + 0.65 * wave)))
    canvas.shape([*points, (1.06, base + 0.02)], fill)


def scattered(number: int, top: float, bottom: float, rng: random.Random) -> Iterator[Point]:
    """Random points across the whole width between two heights, each drawn when it is asked for."""
    for _ in range(number):
        yield rng.random(), rng.uniform(top, bottom)


def tufts(canvas: Canvas, top: float, number: int, ink: RGB, rng: random.Random) -> None:
    """Blades of grass, in threes."""
    for x, y in scattered(number, top + 0.02, 0.99, rng):
        size = 0.012 + 0.03 * (y - top)
        for lean, tall in ((-0.7, 0.8), (0.1, 1.0), (0.7, 0.7)):
            canvas.line([(x + lean * 0.003, y), (x + lean * size, y - tall * size)], 0.004, ink)
