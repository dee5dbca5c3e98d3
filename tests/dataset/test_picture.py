"""The picture book's drawings: the same everywhere, complete, and inside the picture."""

from __future__ import annotations

import dataclasses
import random

import numpy as np
import pytest
from PIL import Image

from dataset.picturebook.contact import main as contact_main
from dataset.picturebook.drawing.pen import Pen
from dataset.picturebook.drawing.picture import DRAWINGS, blank, draw
from dataset.picturebook.drawing.places import PAINTERS
from dataset.picturebook.facts import COLOURS, KINDS, PLACES, Relation, Scene, Thing
from dataset.picturebook.sft_scenes import main as sft_main
from dataset.picturebook.sft_scenes import sft_scenes
from dataset.picturebook.world import HELD_OUT_COLOURS, HELD_OUT_PLACES, RIDDEN, SIZES, make_scene


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image, dtype=np.int16)


def changed(one: Image.Image, other: Image.Image) -> int:
    """How many pixels differ visibly."""
    return int((np.abs(pixels(one) - pixels(other)).max(axis=2) > 12).sum())


def one_thing(kind_name: str, place: str, colour: str | None = None, seed: int = 5) -> Scene:
    kind = KINDS[kind_name]
    colour = colour or (kind.colours[0] if kind.colours else None)
    action = kind.actions[0] if kind.actions else None
    y = 0.9 if kind.where == "ground" else 0.55
    return Scene(seed, place, (Thing(kind_name, colour, 1, action, "medium", 0.5, y, kind.height, False),))


def without(scene: Scene, gone: tuple[int, ...]) -> Scene:
    """The scene less some things; both or neither of a related pair."""
    kept = [i for i in range(len(scene.things)) if i not in gone]
    relation = scene.relation
    if relation:
        both = relation.subject in kept
        relation = Relation(relation.name, *map(kept.index, (relation.subject, relation.object))) if both else None
    return dataclasses.replace(scene, things=tuple(scene.things[i] for i in kept), relation=relation)


def test_every_kind_and_place_has_a_drawing():
    assert set(DRAWINGS) == set(KINDS)
    assert set(PAINTERS) == set(PLACES)


def test_the_same_scene_gives_the_same_picture_whatever_the_global_randomness():
    scenes = [make_scene("val", i) for i in range(8)]
    random.seed(1)
    first = [pixels(draw(scene)) for scene in scenes]
    random.seed(2)
    second = [pixels(draw(scene)) for scene in reversed(scenes)][::-1]
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_another_seed_gives_another_picture_of_the_same_facts():
    scene = make_scene("val", 3)
    assert changed(draw(scene), draw(dataclasses.replace(scene, seed=scene.seed + 1))) > 500


@pytest.mark.parametrize("size", [64, 224, 448])
def test_a_scene_looks_the_same_at_every_size(size):
    for i in range(10):
        scene = make_scene("val", i)
        small, large = draw(scene, 128), draw(scene, size)
        assert (small.mode, small.size, large.size) == ("RGB", (128, 128), (size, size))
        common = min(64, size)
        box = Image.Resampling.BOX
        difference = np.abs(pixels(small.resize((common, common), box)) - pixels(large.resize((common, common), box)))
        assert difference.mean() < (5.0 if size < 128 else 3.0)


def test_every_kind_shows_in_every_place():
    for place in PLACES:
        empty = draw(Scene(5, place, ()))
        for kind in KINDS.values():
            box = kind.height * kind.height * kind.aspect * 128 * 128
            assert changed(draw(one_thing(kind.name, place)), empty) > 0.2 * box, (kind.name, place)


def test_every_colour_of_a_kind_is_told_from_the_others():
    for kind in KINDS.values():
        pictures = [draw(one_thing(kind.name, "park", colour)) for colour in kind.colours]
        for i, one in enumerate(pictures):
            for other in pictures[i + 1 :]:
                assert changed(one, other) > 40, kind.name


def test_a_thing_is_painted_in_its_colour():
    for kind in KINDS.values():
        for colour in kind.colours:
            image = Image.new("RGB", (200, 200), (1, 254, 1))
            Pen(image, 100, 190, 100)
            action = kind.actions[0] if kind.actions else None
            unit = min(170, 170 / kind.aspect)
            DRAWINGS[kind.name](Pen(image, 100, 185, unit), COLOURS[colour].rgb, action, random.Random(1))
            found = pixels(image).reshape(-1, 3)
            found = found[(found != (1, 254, 1)).any(axis=1)]
            near = np.abs(found - np.array(COLOURS[colour].rgb)).max(axis=1) < 60
            assert near.mean() > 0.12, (kind.name, colour, near.mean())


def test_a_drawing_stays_in_its_frame():
    """Nothing is more than a little outside the box that the world keeps free for it."""
    for kind in KINDS.values():
        for action in kind.actions or (None,):
            for seed in range(3):
                image = Image.new("RGB", (400, 400), (1, 254, 1))
                colour = COLOURS[kind.colours[0]].rgb if kind.colours else None
                DRAWINGS[kind.name](Pen(image, 200, 300, 100), colour, action, random.Random(seed))
                rows, columns = np.nonzero((pixels(image) != (1, 254, 1)).any(axis=2))
                assert rows.max() <= 300 + 8 and rows.min() >= 200 - 12, (kind.name, action)
                half = 100 * kind.aspect / 2
                beyond = (np.abs(columns - 200) > 1.3 * half + 4).mean()
                assert beyond < 0.15, (kind.name, action, beyond)


def test_no_thing_is_hidden_by_the_others():
    hidden = total = 0
    for i in range(60):
        scene = make_scene("val", i)
        pair = (scene.relation.subject, scene.relation.object) if scene.relation else ()
        groups = [(j,) for j in range(len(scene.things)) if j not in pair] + ([pair] if pair else [])
        full, empty = draw(scene), draw(Scene(scene.seed, scene.place, ()))
        for group in groups:
            rest = tuple(j for j in range(len(scene.things)) if j not in group)
            alone = changed(draw(without(scene, rest)), empty)
            assert alone > 80, (i, group)
            hidden += changed(full, draw(without(scene, group))) < 0.7 * alone
            total += 1
    assert hidden <= 0.02 * total


def test_related_things_are_both_seen():
    for i in range(400):
        scene = make_scene("val", i)
        if scene.relation is None:
            continue
        full, empty = draw(scene), draw(Scene(scene.seed, scene.place, ()))
        for j in (scene.relation.subject, scene.relation.object):
            colours = KINDS[scene.things[j].kind].colours
            if not colours:
                continue
            other = next(c for c in colours if c != scene.things[j].colour)
            things = list(scene.things)
            things[j] = dataclasses.replace(things[j], colour=other)
            share = changed(full, draw(dataclasses.replace(scene, things=tuple(things)))) / changed(full, empty)
            assert share > 0.02, (i, scene.things[j].kind)


def test_blank_is_flat_gray():
    assert blank(32).getcolors() == [(32 * 32, (128, 128, 128))]


def test_the_test_pictures_are_scenes_that_the_world_can_hold():
    assert len(sft_scenes()) == 8
    for name, scene in sft_scenes().items():
        for thing in scene.things:
            assert (thing.kind, thing.colour) not in HELD_OUT_COLOURS, (name, thing)
            assert (thing.kind, scene.place) not in HELD_OUT_PLACES, (name, thing)
            kind = KINDS[thing.kind]
            assert thing.colour in (kind.colours or (None,)), (name, thing)
            assert thing.action in (kind.actions or (None,)), (name, thing)
            assert thing.height <= kind.height * SIZES[thing.size] + 1e-9, (name, thing)
            half = kind.aspect * thing.height * thing.count / 2
            assert half - 0.03 <= thing.x <= 1.03 - half, (name, thing)
            assert thing.height <= thing.y <= 0.97, (name, thing)
            if kind.where == "ground":
                assert thing.y > PLACES[scene.place].horizon, (name, thing)
        if scene.relation:
            assert scene.relation.name in ("riding", "on", "holding")
            assert scene.relation.name != "riding" or scene.things[scene.relation.object].kind in RIDDEN


def test_commands_write_their_pictures(tmp_path):
    sft_main(["--out", str(tmp_path), "--size", "64"])
    assert len(list(tmp_path.glob("*.jpg"))) == 8
    contact_main(["--n", "4", "--columns", "2", "--size", "32", "--out", str(tmp_path / "sheet.png")])
    assert Image.open(tmp_path / "sheet.png").size == (76, 76)
