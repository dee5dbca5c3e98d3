"""Draws a scene: the place, then its things from back to front, related things together."""

from __future__ import annotations

import random

from PIL import Image

from dataset.picturebook.drawing.animals import ANIMALS
from dataset.picturebook.drawing.pen import Pen
from dataset.picturebook.drawing.people import HAND, PEOPLE, SEAT_HEIGHT, SEATED
from dataset.picturebook.drawing.places import paint
from dataset.picturebook.drawing.sky import SKY
from dataset.picturebook.drawing.things import SEAT, TABLETOP, THINGS
from dataset.picturebook.drawing.vehicles import DECK, SADDLE, VEHICLES, boat_hull
from dataset.picturebook.facts import COLOURS, KINDS, Scene, Thing

DRAWINGS = {**PEOPLE, **ANIMALS, **VEHICLES, **THINGS, **SKY}
HORSE_BACK = (-0.05, 0.66)
GRIP = {"umbrella": 0.16, "balloon": 0.2, "kite": 0.0}  # height of the grip above the lowest point of the thing
NO_SHADOW = ("boat",)


def draw(scene: Scene, size: int = 128) -> Image.Image:
    """Draw the scene as an RGB picture of size x size pixels; the same facts give the same picture everywhere."""
    big = Image.new("RGB", (2 * size, 2 * size))
    paint(big, scene.place, random.Random(f"{scene.seed} place"))
    joined = {scene.relation.subject, scene.relation.object} if scene.relation else set()
    alone = [i for i in range(len(scene.things)) if i not in joined]
    spots = [(scene.things[i].y, i) for i in alone]
    if scene.relation:
        spots.append((scene.things[scene.relation.object].y, -1))
    for _, i in sorted(spots, key=lambda spot: (depth(scene, spot[1]), *spot)):
        if i < 0:
            draw_related(big, scene)
        else:
            draw_group(big, scene, i)
    return big.reduce(2)


def blank(size: int) -> Image.Image:
    """A uniform mid-gray picture: the input of a model that may not look."""
    return Image.new("RGB", (size, size), (128, 128, 128))


def depth(scene: Scene, i: int) -> int:
    """The layer: 0 for the sky, 1 for the ground and for related things, 2 for flying things.

    Flying things are small and come last, so that nothing covers them.
    """
    return 1 if i < 0 else ("sky", "ground", "air").index(KINDS[scene.things[i].kind].where)


def draw_group(image: Image.Image, scene: Scene, i: int) -> None:
    """Draw all individuals of a thing side by side, similar but not identical."""
    thing = scene.things[i]
    kind = KINDS[thing.kind]
    rng = random.Random(f"{scene.seed} {thing.kind} places")
    step = kind.aspect * thing.height
    for n in range(thing.count):
        x, y, height = thing.x + (n - (thing.count - 1) / 2) * step, thing.y, thing.height
        if thing.count > 1:
            height *= rng.uniform(0.9, 1.0)
            y += rng.uniform(-0.1, 0.1) * height if kind.where == "air" else rng.uniform(-0.012, 0.004)
        y = min(max(y, height + 0.01), 0.99)
        x = within(x, reach(thing, kind.aspect / 2))
        draw_one(image, scene, thing, n, x, y, height)


def reach(thing: Thing, half: float) -> float:
    """How far a thing extends sideways; a seated person's legs and book go beyond the usual half width."""
    return max(half, 0.38 if thing.action == "reading" else 0.3 if thing.action == "sitting" else 0.0) * thing.height


def within(x: float, side: float) -> float:
    """x shifted so that `side` on both sides of it is inside the picture."""
    return min(max(x, side), 1 - side)


def draw_one(image: Image.Image, scene: Scene, thing: Thing, n: int, x: float, y: float, height: float,
             action: str | None = None, shadow: bool = True, turn: float = 0.0) -> Pen:  # fmt: skip
    """Draw one individual with its lowest point at (x, y), fractions of the picture; returns the pen that drew it."""
    size = image.width
    if shadow and thing.kind == "boat":
        water(image, x, y, height)
    elif shadow and KINDS[thing.kind].where == "ground" and thing.action != "floating":
        draw_shadow(image, x, y, KINDS[thing.kind].aspect * height)
    pen = Pen(image, x * size, y * size, height * size, thing.flip, turn)
    colour = COLOURS[thing.colour].rgb if thing.colour else None
    DRAWINGS[thing.kind](pen, colour, action or thing.action, individual(scene, thing, n))
    return pen


def individual(scene: Scene, thing: Thing, n: int) -> random.Random:
    """The random generator of the n-th individual of a thing."""
    return random.Random(f"{scene.seed} {thing.kind} {n}")


def draw_shadow(image: Image.Image, x: float, y: float, width: float) -> None:
    """A soft shadow on the ground, centred at x, y."""
    size = image.width
    wide, tall = max(4, round(width * 1.1 * size)), max(3, round(width * 0.26 * size))
    mask = Image.radial_gradient("L").reduce(8).point(lambda v: max(0, 110 - v)).resize((wide, tall))
    image.paste((26, 28, 44), (round(x * size - wide / 2), round(y * size - tall * 0.55)), mask)


def water(image: Image.Image, x: float, y: float, height: float) -> None:
    """A patch of water for a boat to lie in."""
    pen = Pen(image, x * image.width, y * image.width, height * image.width)
    pen.oval(0, 0.035, 0.66, 0.085, (206, 228, 234))
    pen.oval(0, 0.03, 0.63, 0.07, (96, 160, 190))
    for left, up in ((-0.5, 0.0), (-0.1, -0.025), (0.3, 0.0)):
        pen.line([(left, up), (left + 0.18, up)], 0.015, (190, 220, 230))


def draw_related(image: Image.Image, scene: Scene) -> None:
    """Draw the two things of the scene's relation together."""
    assert scene.relation
    subject, thing = scene.things[scene.relation.subject], scene.things[scene.relation.object]
    if scene.relation.name == "holding":
        draw_holding(image, scene, subject, thing)
        return
    x = within(thing.x, max(reach(subject, 0.2), KINDS[thing.kind].aspect / 2 * thing.height))
    pen = draw_one(image, scene, thing, 0, x, thing.y, thing.height)
    spot = {"bicycle": SADDLE, "horse": HORSE_BACK, "boat": DECK, "chair": SEAT, "table": TABLETOP}[thing.kind]
    x, y = pen.pixel(spot)
    x, y, height = x / image.width, y / image.width, subject.height
    action = subject.action
    if subject.kind in PEOPLE:
        if thing.kind == "boat":
            height *= 0.85
        else:
            y += SEAT_HEIGHT * height
        action = SEATED.get(action or "", action)
    draw_one(image, scene, subject, 0, x, y, height, action, shadow=False)
    if thing.kind == "boat":
        colour = COLOURS[thing.colour].rgb if thing.colour else None
        boat_hull(pen, colour, individual(scene, thing, 0))


def draw_holding(image: Image.Image, scene: Scene, subject: Thing, thing: Thing) -> None:
    """A person with something in the raised hand."""
    ahead = -1 if subject.flip else 1
    shift = 0.1 if thing.kind == "kite" else 0.07
    pen = Pen(image, 0, 0, 1)
    x, y = thing.x - ahead * shift, thing.y
    hand_x, hand_y = x + ahead * HAND[0] * subject.height, y - HAND[1] * subject.height
    low = hand_y + GRIP[thing.kind] * thing.height
    if thing.kind == "kite":
        kite_x, low = hand_x + ahead * 0.08, max(hand_y - 0.03, thing.height + 0.015)
        pen = Pen(image, 0, 0, image.width)
        pen.line([(hand_x, -hand_y), (kite_x, -(low - thing.height * 0.6))], 0.005, (70, 66, 76))
        draw_one(image, scene, thing, 0, kite_x, low, thing.height, shadow=False, turn=-14)
        draw_one(image, scene, subject, 0, x, y, subject.height)
        return
    low = max(low, thing.height + 0.015)
    draw_one(image, scene, thing, 0, hand_x, low, thing.height, shadow=False)
    draw_one(image, scene, subject, 0, x, y, subject.height)
