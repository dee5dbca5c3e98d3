"""The ten places: backgrounds plainer than the things before them, without anything that is itself a kind."""

from __future__ import annotations

import random

from PIL import Image

from dataset.picturebook.drawing.backdrop import Canvas
from dataset.picturebook.drawing.places_built import garden, park, room, stage, street
from dataset.picturebook.drawing.places_nature import grassland, mountains, sea, space, waterfall
from dataset.picturebook.facts import PLACES

PAINTERS = {
    "street": street, "sea": sea, "grassland": grassland, "space": space, "waterfall": waterfall, "stage": stage,
    "garden": garden, "park": park, "room": room, "mountains": mountains,
}  # fmt: skip


def paint(image: Image.Image, place: str, rng: random.Random) -> None:
    """Fill a square RGB image with a background; the ground begins at the place's horizon."""
    canvas = Canvas(image)
    PAINTERS[place](canvas, PLACES[place].horizon, rng)
