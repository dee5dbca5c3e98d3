"""Draws a scene: the place, then its things from back to front, related things together."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

from PIL import Image

from dataset.picturebook.drawing.animals import ANIMALS
from dataset.picturebook.drawing.backdrop import Canvas
from dataset.picturebook.drawing.figure import HAND, SEAT_HEIGHT, SEATED
from dataset.picturebook.drawing.pen import RGB, Pen, shade
from dataset.picturebook.drawing.people import PEOPLE
from dataset.picturebook.drawing.places import PAINTERS
from dataset.picturebook.drawing.things import THINGS
from dataset.picturebook.drawing.vehicles import VEHICLES, boat_hull
from dataset.picturebook.facts import COLOURS, KINDS, PLACES, Scene, Thing

DRAWINGS: dict[str, Callable[..., None]] = {**PEOPLE, **ANIMALS, **VEHICLES, **THINGS}
# Where another thing's lowest point (of a seated person, the seat) is when it is on this one, in this one's frame.
SPOTS = {"bicycle": (-0.18, 0.92), "horse": (-0.05, 0.66), "boat": (-0.3, 0.05), "chair": (0.09, 0.37),
         "table": (0.0, 0.9)}  # fmt: skip
GRIP = {"umbrella": 0.16, "balloon": 0.2}  # height of the grip above the lowest point of the thing


def draw(scene: Scene, size: int = 128) -> Image.Image:
    """Draw the scene as an RGB picture of size x size pixels; the same facts give the same picture everywhere."""
    big = Image.new("RGB", (2 * size, 2 * size))
    PAINTERS[scene.place](Canvas(big), PLACES[scene.place].horizon, random.Random(f"{scene.seed} place"))
    joined = {scene.relation.subject, scene.relation.object} if scene.relation else set()
    # Layers, each from back to front: the sky, the ground with related things, then what flies, as it is small and
    # nothing may cover it.
    layers = [("sky", "ground", "air").index(KINDS[thing.kind].where) for thing in scene.things]
    turns = [(layers[i], thing.y, i) for i, thing in enumerate(scene.things) if i not in joined]
    if scene.relation:
        turns.append((1, scene.things[scene.relation.object].y, -1))
    for _, _, i in sorted(turns):
        if i < 0:
            draw_related(big, scene)
        else:
            draw_group(big, scene, i)
    return big.reduce(2)


def blank(size: int) -> Image.Image:
    """A uniform mid-gray picture: the input of a model that may not look."""
    return Image.new("RGB", (size, size), (128, 128, 128))


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
        x, y = within(x, reach(thing, kind.aspect / 2)), min(max(y, height + 0.01), 0.99)
        draw_one(image, scene, replace(thing, x=x, y=y, height=height), n)


def reach(thing: Thing, half: float) -> float:
    """How far a thing extends sideways; a seated person's legs and book go beyond the usual half width."""
    return max(half, 0.38 if thing.action == "reading" else 0.3 if thing.action == "sitting" else 0.0) * thing.height


def within(x: float, side: float) -> float:
    """x shifted so that `side` on both sides of it is inside the picture."""
    return min(max(x, side), 1 - side)


def draw_one(
    image: Image.Image, scene: Scene, thing: Thing, n: int = 0, shadow: bool = True, turn: float = 0
) -> tuple[Pen, RGB | None]:
    """Draw the n-th individual of a thing at the thing's x, y and height; returns the pen and the colour used."""
    size = image.width
    if shadow and thing.kind == "boat":
        water(image, thing)
    elif shadow and KINDS[thing.kind].where == "ground" and thing.action != "floating":
        draw_shadow(image, thing)
    pen = Pen(image, thing.x * size, thing.y * size, thing.height * size, thing.flip, turn)
    rng = random.Random(f"{scene.seed} {thing.kind} {n}")
    colour = COLOURS[thing.colour].rgb if thing.colour else None
    if colour and thing.kind in (*VEHICLES, *THINGS):  # a little lighter or darker from one to the next
        colour = shade(colour, rng.uniform(-0.05, 0.05))
    DRAWINGS[thing.kind](pen, colour, thing.action, rng)
    return pen, colour


def draw_shadow(image: Image.Image, thing: Thing) -> None:
    """A soft shadow on the ground below an individual."""
    size, width = image.width, KINDS[thing.kind].aspect * thing.height
    wide, tall = max(4, round(width * 1.1 * size)), max(3, round(width * 0.26 * size))
    mask = Image.radial_gradient("L").reduce(8).point(lambda v: max(0, 110 - v)).resize((wide, tall))
    image.paste((26, 28, 44), (round(thing.x * size - wide / 2), round(thing.y * size - tall * 0.55)), mask)


def water(image: Image.Image, boat: Thing) -> None:
    """A patch of water for a boat to lie in."""
    pen = Pen(image, boat.x * image.width, boat.y * image.width, boat.height * image.width)
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
    pen, colour = draw_one(image, scene, replace(thing, x=x))
    x, y = pen.pixel(SPOTS[thing.kind])
    x, y, height, action = x / image.width, y / image.width, subject.height, subject.action
    if subject.kind in PEOPLE:
        if thing.kind == "boat":
            height *= 0.85
        else:
            y += SEAT_HEIGHT * height
        action = SEATED.get(str(action), action)
    draw_one(image, scene, replace(subject, x=x, y=y, height=height, action=action), shadow=False)
    if thing.kind == "boat" and colour:  # its hull hides the legs of whoever stands in it
        boat_hull(pen, colour)


def draw_holding(image: Image.Image, scene: Scene, subject: Thing, thing: Thing) -> None:
    """A person with something in the raised hand."""
    kite, ahead = thing.kind == "kite", -1 if subject.flip else 1
    subject = replace(subject, x=thing.x - ahead * (0.1 if kite else 0.07), y=thing.y)
    hand_x, hand_y = subject.x + ahead * HAND[0] * subject.height, subject.y - HAND[1] * subject.height
    x = hand_x + ahead * 0.08 if kite else hand_x
    y = max(hand_y + (-0.03 if kite else GRIP[thing.kind] * thing.height), thing.height + 0.015)
    if kite:
        string = [(hand_x, -hand_y), (x, -(y - thing.height * 0.6))]
        Pen(image, 0, 0, image.width).line(string, 0.005, (70, 66, 76))
    draw_one(image, scene, replace(thing, x=x, y=y), shadow=False, turn=-14 if kite else 0)
    draw_one(image, scene, subject)
