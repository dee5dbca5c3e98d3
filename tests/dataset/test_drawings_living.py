"""People and animals: every action and colour draws, in its frame, the same each time, and reads as its colour."""

from __future__ import annotations

import random

import numpy as np
import pytest
from PIL import Image, ImageOps

from dataset.picturebook.drawing.animals import ANIMALS
from dataset.picturebook.drawing.figure import HAND, SEAT_HEIGHT, SEATED
from dataset.picturebook.drawing.pen import Pen
from dataset.picturebook.drawing.people import PEOPLE
from dataset.picturebook.facts import COLOURS, KINDS
from dataset.picturebook.world import SITTERS

LIVING = {**PEOPLE, **ANIMALS}
UNIT, WIDE, LOW = 80, 320, 240  # pixels for 1, the picture's side, the origin's row
EMPTY = (1, 254, 2)  # a background that nothing is drawn in


def drawn(kind: str, colour: str | None, action: str | None, seed: int = 0, flip: bool = False,
          unit: int = UNIT) -> Image.Image:  # fmt: skip
    image = Image.new("RGB", (WIDE, WIDE), EMPTY)
    pen = Pen(image, (WIDE - 1) / 2, LOW, unit, flip)
    LIVING[kind](pen, COLOURS[colour].rgb if colour else None, action, random.Random(seed))
    return image


def inked(image: Image.Image) -> np.ndarray:
    """(H, W) bool: where something was drawn."""
    return (np.asarray(image) != np.array(EMPTY)).any(axis=-1)


def box(image: Image.Image) -> tuple[float, float, float, float]:
    """left, bottom, right, top of what was drawn, in the pen's frame."""
    rows, columns = np.nonzero(inked(image))
    middle = (WIDE - 1) / 2
    return ((columns.min() - middle) / UNIT, (LOW - rows.max()) / UNIT, (columns.max() - middle) / UNIT,
            (LOW - rows.min()) / UNIT)  # fmt: skip


def every() -> list[tuple[str, str | None, str | None]]:
    return [
        (kind, colour, action)
        for kind in LIVING
        for colour in KINDS[kind].colours or (None,)
        for action in KINDS[kind].actions or (None,)
    ]


def test_every_living_kind_of_the_facts_is_drawn():
    assert {*PEOPLE} == {name for name, kind in KINDS.items() if kind.group == "person"}
    assert {*ANIMALS} == {name for name, kind in KINDS.items() if kind.group == "animal"}


@pytest.mark.parametrize("kind", LIVING)
def test_all_actions_and_colours_stay_near_the_frame(kind):
    for _, colour, action in (one for one in every() if one[0] == kind):
        for seed in range(3):
            left, bottom, right, top = box(drawn(kind, colour, action, seed))
            assert -0.95 < left < -0.1 and 0.1 < right < 0.95, (action, left, right)
            assert -0.06 < bottom < 0.3 and 0.38 < top < 1.2, (action, bottom, top)


@pytest.mark.parametrize("kind", LIVING)
def test_the_same_seed_draws_the_same_and_another_seed_does_not(kind):
    for action in KINDS[kind].actions:
        first, again, other = (drawn(kind, (*KINDS[kind].colours, None)[0], action, seed) for seed in (5, 5, 6))
        assert first.tobytes() == again.tobytes()
        assert first.tobytes() != other.tobytes()


@pytest.mark.parametrize("kind", LIVING)
def test_actions_look_different(kind):
    looks = [inked(drawn(kind, (*KINDS[kind].colours, None)[0], action)) for action in KINDS[kind].actions]
    for i, one in enumerate(looks):
        for other in looks[:i]:
            assert (one ^ other).sum() > 0.05 * one.sum()


@pytest.mark.parametrize("kind", [kind for kind in LIVING if KINDS[kind].colours])
def test_the_colour_covers_more_than_any_other_of_the_palette(kind):
    names = [*COLOURS]
    palette = np.array([COLOURS[name].rgb for name in names], dtype=float)
    for _, colour, action in (one for one in every() if one[0] == kind):
        image = drawn(kind, colour, action, seed=1)
        pixels = np.asarray(image)[inked(image)].astype(float)  # (n, 3)
        exact = (pixels == COLOURS[colour].rgb).all(axis=-1).mean()
        nearest = ((pixels[:, None] - palette) ** 2).sum(-1).argmin(1)
        # legs, hair and outlines fall to the dull names, so only the bright ones compete with a piece of clothing
        share = np.bincount(nearest, minlength=len(names)) / len(nearest)
        bright = [n for n in names if n not in ("black", "brown", "gray", "white", colour)]
        assert exact > 0.17, (colour, action, exact)
        assert share[names.index(colour)] > max(share[names.index(n)] for n in bright), (colour, action)


@pytest.mark.parametrize("kind", LIVING)
def test_a_flipped_pen_draws_the_mirror_image(kind):
    for action in KINDS[kind].actions:
        colour = (*KINDS[kind].colours, None)[0]
        right = inked(drawn(kind, colour, action, unit=180))
        left = inked(ImageOps.mirror(drawn(kind, colour, action, flip=True, unit=180)))
        assert (right ^ left).sum() < 0.1 * right.sum()  # an outline's odd pixel by rounding


@pytest.mark.parametrize("kind", [kind for kind in PEOPLE if "sitting" in KINDS[kind].actions])
def test_a_seated_person_has_the_seat_at_its_height_and_nothing_below_but_legs(kind):
    for action, seated in SEATED.items():
        with_stool, without = (inked(drawn(kind, KINDS[kind].colours[0], pose)) for pose in (action, seated))
        behind = int((WIDE - 1) / 2 - 0.08 * UNIT)
        low = LOW - int(SEAT_HEIGHT * 0.4 * UNIT)
        assert with_stool[low, behind] and not without[low, behind]
        assert without[LOW - int((SEAT_HEIGHT + 0.06) * UNIT), WIDE // 2]


@pytest.mark.parametrize("kind", SITTERS)  # they hold things, too
def test_the_raised_hand_is_where_holders_expect_it(kind):
    image = drawn(kind, KINDS[kind].colours[0], "waving")
    assert inked(image)[round(LOW - HAND[1] * UNIT), round((WIDE - 1) / 2 + HAND[0] * UNIT)]
