"""Scenes sampled from a world with a prior: what is common, what co-occurs, and what is held out of training.

Kinds and colours are long-tailed and correlate with places, so a model can guess plausibly without looking. A share
FREE of the training scenes ignores this prior, so that looking pays more than guessing. The pairs in HELD_OUT_* occur
only in the compositional split, which tests compositional generalisation.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from functools import reduce
from operator import add

from dataset.picturebook.facts import COLOURS, KINDS, PLACES, Box, Kind, Relation, Scene, Thing, shared_area

SPLITS = ("train", "free", "val", "test", "compositional")

# The prior of kinds at a place (LIKELY); every other possible kind there has weight ODD.
ODD = 0.3
# The share of training scenes that ignore the prior: every possible kind and every colour is equally likely.
FREE = 0.4
LIKELY: dict[str, dict[str, float]] = {
    "street": {"car": 6, "bus": 4, "bicycle": 3, "man": 2.5, "woman": 2, "tree": 1.5, "umbrella": 1, "house": 1.5},
    "sea": {"boat": 5, "umbrella": 4, "woman": 2, "dog": 2, "child": 2, "ball": 2, "bird": 2, "sun": 2},
    "grassland": {"horse": 4, "sheep": 4, "panda": 2.5, "rabbit": 2, "kite": 2, "elephant": 2, "tree": 1.5, "cloud": 1},
    "space": {"astronaut": 6, "rocket": 6, "moon": 3, "sun": 1.5, "plane": 0.5, "panda": 0.4, "cat": 0.4, "dog": 0.4},
    "waterfall": {"rainbow": 6, "bird": 3, "tree": 2.5, "man": 2, "woman": 2, "butterfly": 3, "elephant": 2},
    "stage": {"dancer": 6, "child": 1.5, "man": 1.5, "chair": 2, "balloon": 2, "lamp": 1.5, "flower": 1},
    "garden": {"flower": 6, "butterfly": 4, "rabbit": 2.5, "elder": 1.5, "chair": 1.5, "bicycle": 1.2, "woman": 1.2},
    "park": {"elder": 3, "child": 3, "balloon": 2, "bicycle": 2, "tree": 2, "ball": 2, "kite": 1.5, "bird": 1.5},
    "room": {"chair": 4, "table": 4, "lamp": 4, "cat": 3.5, "elder": 2, "dog": 1.5, "ball": 1, "man": 1, "woman": 1},
    "mountains": {"cloud": 3, "plane": 3, "house": 3, "horse": 2, "sheep": 2, "tree": 2, "sun": 2, "moon": 2, "man": 1},
}  # fmt: skip
IMPOSSIBLE = {
    "space": ("rainbow", "cloud", "tree"),
    "stage": ("sun", "moon", "rainbow", "cloud", "plane"),
    "room": ("sun", "moon", "rainbow", "cloud", "plane", "house", "rocket"),
}
TOGETHER = (("sun", "moon"), ("rainbow", "moon"))  # never both in one scene

HELD_OUT_COLOURS = (
    ("car", "green"), ("bus", "white"), ("dog", "black"), ("cat", "brown"), ("horse", "white"), ("man", "red"),
    ("woman", "purple"), ("child", "yellow"), ("umbrella", "blue"), ("balloon", "green"), ("boat", "yellow"),
    ("flower", "white"), ("ball", "purple"), ("chair", "red"), ("butterfly", "pink"), ("house", "yellow"),
)  # fmt: skip
HELD_OUT_PLACES = (
    ("dog", "park"), ("panda", "waterfall"), ("bicycle", "sea"), ("woman", "stage"), ("horse", "street"),
    ("cat", "garden"), ("balloon", "room"), ("child", "mountains"), ("kite", "sea"), ("car", "grassland"),
    ("rabbit", "room"), ("elephant", "street"), ("boat", "waterfall"), ("umbrella", "mountains"),
)  # fmt: skip

ORDER = ("person", "animal", "vehicle", "object", "plant", "sky")  # in which things are placed
RIDDEN = ("bicycle", "horse", "boat")
HELD = ("umbrella", "balloon", "kite")
SITTERS = ("man", "woman", "child", "elder")
PERCHES = {"chair": ("elder", "cat", "child", "woman", "man"), "table": ("cat", "lamp")}
# relation -> its object -> its subjects
RELATED: dict[str, Mapping[str, tuple[str, ...]]] = {
    "riding": dict.fromkeys(RIDDEN, SITTERS), "holding": dict.fromkeys(HELD, SITTERS), "on": PERCHES,
}  # fmt: skip
THINGS = (0.2, 0.4, 0.3, 0.1)  # probabilities of one, two, three and four things in a scene
DENSE = (0.12, 0.28, 0.35, 0.25)  # the same in training: lists of two can be told without learning what comes next
SIZES = {"small": 0.82, "medium": 1.0, "large": 1.18}


def make_scene(split: str, index: int) -> Scene:
    """The scene with that index in a split; the same on every machine. Raises ValueError for an unknown split.

    `free` has training scenes that ignore the prior altogether, to learn appearance from.
    """
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}; there are {', '.join(SPLITS)}")
    rng = random.Random(f"picture book {split} {index}")
    forced = rng.choice(HELD_OUT_COLOURS + HELD_OUT_PLACES) if split == "compositional" else None
    free = split == "free" or (split == "train" and rng.random() < FREE)
    while True:  # until the things fit
        place = forced[1] if forced in HELD_OUT_PLACES else rng.choice(list(PLACES))
        if forced and forced[0] in IMPOSSIBLE.get(place, ()):
            continue
        number = rng.choices((1, 2, 3, 4), weights=DENSE if split == "train" else THINGS)[0]
        kinds = _pick_kinds(rng, kind_weights(place, free), forced[:1] if forced else (), number)
        relation = _pick_relation(rng, kinds)
        things = [_pick_thing(rng, KINDS[kind], place, free) for kind in kinds]
        if forced in HELD_OUT_COLOURS:
            things[kinds.index(forced[0])]["colour"] = forced[1]
        if relation:
            _join(rng, things, relation)
        if _lay_out(rng, place, things, relation):
            placed = tuple(Thing(**thing) for thing in things)
            return in_reading_order(Scene(rng.getrandbits(31), place, placed, relation))


def kind_weights(place: str, free: bool = False) -> dict[str, float]:
    """The prior of kinds at a place, unnormalised, without held-out pairs; uniform if `free`."""
    return {
        name: 1.0 if free else LIKELY[place].get(name, ODD)
        for name in KINDS
        if name not in IMPOSSIBLE.get(place, ()) and (name, place) not in HELD_OUT_PLACES
    }


def colour_weights(kind: Kind, free: bool = False) -> dict[str, float]:
    """The prior of a kind's colours, unnormalised: each 0.7 times the one before, without held-out pairs.

    If `free`, uniform over all colours.
    """
    weights = dict.fromkeys(COLOURS, 1.0) if free else {c: 0.7**rank for rank, c in enumerate(kind.colours)}
    return {colour: weight for colour, weight in weights.items() if (kind.name, colour) not in HELD_OUT_COLOURS}


def _pick(rng: random.Random, weights: dict[str, float]) -> str:
    return rng.choices(list(weights), weights=list(weights.values()))[0]


def in_reading_order(scene: Scene) -> Scene:
    """The scene with its things in reading order: first those in the air, then those on the ground, each from left to
    right by tenths of the picture's width, the higher first; in a relation, the subject before the object.

    Image tokens come row by row under a causal mask. In this order a thing mostly follows its predecessor in the
    picture too, so that its token can know whom it follows.
    """
    things, relation = scene.things, scene.relation
    subject, thing = (relation.subject, relation.object) if relation else (-1, -1)
    low = [KINDS[one.kind].where == "ground" or i in (subject, thing) for i, one in enumerate(things)]
    order = sorted(range(len(things)), key=lambda i: (low[i], things[i].column, things[i].y, i == thing))
    relation = relation and Relation(relation.name, order.index(subject), order.index(thing))
    return Scene(scene.seed, scene.place, tuple(things[i] for i in order), relation)


def _pick_kinds(rng: random.Random, weights: dict[str, float], first: tuple[str, ...], wanted: int) -> list[str]:
    kinds = list(first)
    if rng.random() < 0.22:  # a pair that can be related, so that relations are not rare
        objects = [kind for kind in (*RIDDEN, *HELD, *PERCHES) if weights.get(kind, 0) > ODD or rng.random() < 0.15]
        if objects:
            kinds += [kind for kind in (rng.choice(objects), rng.choice(SITTERS)) if kind in weights]
    while len(set(kinds)) < wanted:
        kinds.append(_pick(rng, weights))
    kinds = list(dict.fromkeys(kinds))[: max(wanted, len(set(kinds[:2])))]
    for one, other in TOGETHER:
        if one in kinds and other in kinds:
            kinds.remove(other)
    return sorted(kinds, key=lambda kind: (ORDER.index(KINDS[kind].group), list(KINDS).index(kind)))


def _pick_relation(rng: random.Random, kinds: list[str]) -> Relation | None:
    options = [
        Relation(name, i, j)
        for i, subject in enumerate(kinds)
        for j, thing in enumerate(kinds)
        for name in RELATED
        if subject in RELATED[name].get(thing, ())
    ]
    return rng.choice(options) if options and rng.random() < 0.75 else None


def _pick_thing(rng: random.Random, kind: Kind, place: str, free: bool) -> dict:
    many = kind.where != "sky" and kind.name not in ("house", "elephant", "rocket")
    weights = {action: 0.7**rank for rank, action in enumerate(kind.actions)}
    if kind.name == "astronaut" and place != "space":
        weights.pop("floating")
    return {
        "kind": kind.name,
        "colour": _pick(rng, colour_weights(kind, free)) if kind.colours else None,
        "count": rng.choices((1, 2, 3), weights=(0.74, 0.16, 0.10))[0] if many else 1,
        "action": _pick(rng, weights) if weights else None,
        "size": rng.choices(tuple(SIZES), weights=(0.2, 0.6, 0.2))[0],
        "flip": rng.random() < 0.5,
    }


def _join(rng: random.Random, things: list[dict], relation: Relation) -> None:
    """Make subject and object fit each other: one of each, facing the same way, in a pose that can be drawn."""
    subject, thing = things[relation.subject], things[relation.object]
    for one in (subject, thing):
        one["count"], one["size"] = 1, "medium"
    subject["flip"] = thing["flip"]
    if relation.name == "holding":
        subject["action"] = "waving"
    elif subject["kind"] in SITTERS:
        reads = relation.name == "on" and rng.random() < 0.4
        subject["action"] = "reading" if reads else "sitting"
    elif subject["kind"] == "cat":
        subject["action"] = rng.choice(("sitting", "sleeping"))


def _lay_out(rng: random.Random, place: str, things: list[dict], relation: Relation | None) -> bool:
    """Give each thing x, y and height so that all are inside and none hides another; False if that fails."""
    for thing in things:
        thing["height"] = KINDS[thing["kind"]].height * SIZES[thing["size"]]
    subject = relation.subject if relation else -1  # is placed with the object
    ground = [i for i, t in enumerate(things) if KINDS[t["kind"]].where == "ground" and i != subject]
    if relation and relation.object not in ground:  # a held balloon goes where its holder goes
        ground.append(relation.object)
    rng.shuffle(ground)
    if not _lay_out_ground(rng, place, things, ground, relation):
        return False
    aloft = [i for i in range(len(things)) if i not in ground and i != subject]
    for i in aloft:
        _lift(rng, place, things[i])
    boxes = {i: Thing(**things[i]).box for i in (*aloft, *ground)}
    if relation:  # one box for a rider and its mount, or a holder and what it holds
        things[subject].update(x=things[relation.object]["x"], y=things[relation.object]["y"])
        left, top, right, bottom = boxes[relation.object]
        aside, height = 0.1 if relation.name == "holding" else 0.0, things[subject]["height"]
        boxes[relation.object] = left - aside, max(top - 0.75 * height, 0.0), right + aside, bottom
    return not any(i != j and _overlap(boxes[i], boxes[j]) > 0.15 for i in aloft for j in boxes)


def total(values: Iterable[float]) -> float:
    """Their sum from left to right. Python's own compensates for rounding since 3.12, so a scene would be another."""
    return reduce(add, values, 0.0)


def _lay_out_ground(rng, place: str, things: list[dict], ground: list[int], relation: Relation | None) -> bool:
    def width(i: int) -> float:
        wide = KINDS[things[i]["kind"]].aspect * things[i]["height"] * things[i]["count"]
        if relation and i == relation.object:
            wide = max(wide, 0.26) + (0.2 if relation.name == "holding" else 0.0)
        return wide

    room = 0.96
    while total(map(width, ground)) > room * 1.5:  # too crowded to shrink: reduce the count of the widest
        widest = max(ground, key=lambda i: (things[i]["count"] > 1, width(i)))
        if things[widest]["count"] == 1:
            return False
        things[widest]["count"] -= 1
    shrink = min(1.0, room / max(total(map(width, ground)), 1e-6))
    for i in {*ground, relation.subject} if relation else ground:
        things[i]["height"] *= shrink
    spare = max(0.0, 1.0 - total(map(width, ground)))
    cuts = [rng.random() + 0.1 for _ in range(len(ground) + 1)]
    x, horizon = 0.0, PLACES[place].horizon
    for i, cut in zip(ground, cuts[:-1], strict=True):  # the last cut is the space left on the right
        x += spare * cut / total(cuts)
        things[i]["x"] = round(x + width(i) / 2, 4)
        x += width(i)
        low, tall = horizon + 0.3 * (1 - horizon), things[i]["height"]
        if relation and i == relation.object:
            low, tall = max(low, 0.55), tall + things[relation.subject]["height"] * 0.7
        things[i]["y"] = max(round(rng.uniform(low, 0.96), 4), min(0.97, round(tall + 0.02, 4)))
    return True


def _lift(rng: random.Random, place: str, thing: dict) -> None:
    """Place a thing that flies or is in the sky above the ground."""
    kind = KINDS[thing["kind"]]
    thing["height"] = min(thing["height"], 0.98 / (kind.aspect * thing["count"]))
    half = kind.aspect * thing["height"] * thing["count"] / 2
    highest = thing["height"] + 0.03
    lowest = max(highest + 0.02, PLACES[place].horizon * (0.75 if kind.where == "sky" else 0.95))
    thing["x"] = round(rng.uniform(half + 0.01, 0.99 - half), 4)
    thing["y"] = round(rng.uniform(highest, min(lowest, 0.6)), 4)


def _overlap(one: Box, other: Box) -> float:
    """The intersection as a fraction of the smaller box."""
    return shared_area(one, other) / min((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
