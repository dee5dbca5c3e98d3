"""English captions of a scene in four lengths; every statement about a thing is grounded in the facts."""

from __future__ import annotations

import random

from dataset.picturebook.facts import KINDS, PLACES, Scene, Thing
from dataset.picturebook.telling import in_a_row, in_sky, is_aloft, split_sky, units

PROMPTS_EN = {
    "phrase": ("Say in one phrase what is in the picture.", "Name what you see in a few words."),
    "sentence": ("Describe this picture in one sentence.", "Briefly describe this picture."),
    "paragraph": ("Describe the content of this picture.", "Describe this picture in a short paragraph."),
    "long": ("Please describe this picture in detail.", "Give a detailed description of this picture."),
}

NUMBERS = {1: "one", 2: "two", 3: "three"}
SIDES = {"left": "on the left", "middle": "in the middle", "right": "on the right"}
UNIQUE = ("sun", "moon")  # named with "the"

# What the background always shows. No kind's noun and no other place's word may occur here.
BACKGROUNDS = {
    "street": (
        "A row of buildings stands in the background.",
        "A road with painted lines runs past the buildings.",
        "A neat pavement follows the road.",
    ),
    "sea": (
        "Wide open water fills the background.",
        "Soft sand covers the ground close to us.",
        "The water stretches far away.",
    ),
    "grassland": (
        "Rolling hills rise in the background.",
        "The ground is covered with grass.",
        "The grass reaches all the way to the hills.",
    ),
    "space": (
        "The background is dark and full of stars.",
        "The ground is bare and rough.",
        "Countless stars shine in the dark.",
    ),
    "waterfall": (
        "Tall cliffs rise in the background.",
        "The water pours down from the cliffs.",
        "It falls into a pool below.",
    ),
    "stage": (
        "Thick curtains hang in the background.",
        "A beam of light shines down from above.",
        "The floor is made of wooden boards.",
    ),
    "garden": (
        "A trimmed hedge and a fence are in the background.",
        "A path runs past the hedge.",
        "The fence closes the place off.",
    ),
    "park": (
        "There is a bench in the background.",
        "The ground is a smooth lawn.",
        "A path crosses the lawn.",
    ),
    "room": (
        "A picture in a frame hangs on the wall in the background.",
        "There is a window in the wall.",
        "The floor is clean.",
    ),
    "mountains": (
        "High peaks rise in the background.",
        "The peaks are covered with snow.",
        "A wide valley lies below the peaks.",
    ),
}
OPENINGS = (  # place, list of things
    "This picture shows a scene {0}: {1}.",
    "The scene is set {0}, and this is what we can see: {1}.",
    "Here is a scene {0}: {1}.",
)
MOODS = (
    "The whole picture feels warm and natural.",
    "The mood of the scene is light and cheerful.",
    "The whole picture is simple and clear, and pleasant to look at.",
    "It is a lively scene that is nice to look at.",
)


def caption(scene: Scene, length: str, rng: random.Random) -> str:
    """A caption of that length (phrase, sentence, paragraph, long); deterministic in the state of `rng`."""
    writers = {"phrase": _phrase, "sentence": _sentence, "paragraph": _paragraph, "long": _long}
    if length not in writers:
        raise ValueError(f"unknown length {length!r}; there are {', '.join(writers)}")
    return writers[length](scene, rng)


def capital(text: str) -> str:
    return text[0].upper() + text[1:]


def article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"


def noun(thing: Thing) -> str:
    kind = KINDS[thing.kind]
    return kind.en if thing.count == 1 else kind.en_plural


def noun_phrase(thing: Thing) -> str:
    """a brown dog, two women in red, the sun"""
    if thing.kind in UNIQUE:
        return f"the {noun(thing)}"
    person = KINDS[thing.kind].group == "person"
    words = noun(thing) if person or not thing.colour else f"{thing.colour} {noun(thing)}"
    words = f"{article(words) if thing.count == 1 else NUMBERS[thing.count]} {words}"
    return f"{words} in {thing.colour}" if person and thing.colour else words


def definite(thing: Thing) -> str:
    """the dog, the two dogs"""
    return f"the {noun(thing)}" if thing.count == 1 else f"the {NUMBERS[thing.count]} {noun(thing)}"


def join(phrases: list[str]) -> str:
    """A, B and C"""
    return " and ".join(p for p in (", ".join(phrases[:-1]), phrases[-1]) if p)


def listing(things: list[Thing]) -> str:
    return join([noun_phrase(thing) for thing in things])


def inventory(things: list[Thing]) -> str:
    """A, B, C after a colon: no "and" before the last, which would require knowing at A how many are to come."""
    return ", ".join(noun_phrase(thing) for thing in things)


def be(thing: Thing) -> str:
    return "is" if thing.count == 1 else "are"


def doing(thing: Thing) -> str:
    """The action; for a thing in the air without one: a kite flies, a balloon floats."""
    if thing.action is None:
        return "flying" if thing.kind == "kite" else "floating"
    return "reading a book" if thing.action == "reading" else thing.action


def related_verb(scene: Scene, thing: str, subject: Thing) -> str:
    """What follows "is": riding a brown horse, holding the umbrella."""
    assert scene.relation
    name, kind = scene.relation.name, scene.things[scene.relation.object].kind
    if name == "riding":
        return f"sitting in {thing}" if kind == "boat" else f"riding {thing}"
    if name == "holding":
        return f"holding {thing}"
    if KINDS[subject.kind].group not in ("person", "animal"):
        return f"on {thing}"
    if subject.action == "reading":
        return f"sitting on {thing}, reading a book"
    return f"{subject.action} on {thing}"


def sky_words(scene: Scene) -> str:
    return "in the distance" if scene.place == "space" else "in the sky"


def _phrase(scene: Scene, rng: random.Random) -> str:
    place = PLACES[scene.place].en
    lower, sky = split_sky(scene)
    if not lower:
        return f"{listing(sky)} {place}"
    above = f"{listing(sky)} {sky_words(scene)}" if sky else ""
    if rng.random() < 0.5:
        return f"{listing(lower)} {place}" + (f", with {above}" if sky else "")
    return f"{place}, {listing(lower)}" + (f", and {above}" if sky else "")


def _sentence(scene: Scene, rng: random.Random) -> str:
    place = PLACES[scene.place].en
    lower, sky = split_sky(scene)
    clauses, still = [], []
    for unit in units(scene):
        if len(unit) == 2:
            verb = related_verb(scene, noun_phrase(unit[1]), unit[0])
            clauses.append(f"{noun_phrase(unit[0])} {be(unit[0])} {verb}")
        elif unit[0].action:
            clauses.append(f"{noun_phrase(unit[0])} {be(unit[0])} {doing(unit[0])}")
        elif not in_sky(unit[0]):
            still.append(unit[0])
    above = f", with {listing(sky)} {sky_words(scene)}" if sky else ""
    if not lower:
        seen = f"we can see {listing(sky)}"
        return rng.choice((f"{capital(place)}, {seen}.", f"{capital(seen)} {place}."))
    if not clauses:
        there = f"there {be(still[0])} {listing(still)}"
        we_see = f"{capital(place)}, we can see {listing(still)}"
        opening = rng.choice((f"{capital(there)} {place}", f"{capital(place)}, {there}", we_see))
        return f"{opening}{above}."
    acting = join_clauses(clauses)
    first = rng.choice((f"{capital(place)}, {acting}", f"The picture shows a scene {place}: {acting}"))
    if not still:
        return f"{first}{above}."
    return f"{capital(place)}, {acting}{above}. There {be(still[0])} also {listing(still)}."


def join_clauses(clauses: list[str]) -> str:
    """A; A, and B; A, B, and C"""
    return clauses[0] if len(clauses) == 1 else ", ".join(clauses[:-1]) + ", and " + clauses[-1]


def _paragraph(scene: Scene, rng: random.Random) -> str:
    place = PLACES[scene.place].en
    opening = rng.choice(("This is", "The picture shows", "Here we see")) + f" a scene {place}."
    told: list[str] = []
    sides: set[str] = set()
    for unit in units(scene):
        told.append(_placed(scene, unit, sides))
        sides.add(unit[0].side)
    if len(told) > 3:
        told[2:] = [", and ".join(told[2:])]
    told = [f"{capital(text)}." for text in told]
    if len(told) == 1:
        told.append(rng.choice(BACKGROUNDS[scene.place][:2]))
    return " ".join([opening, *told])


def _placed(scene: Scene, unit: tuple[Thing, ...], sides: set[str]) -> str:
    """A clause that locates a unit; `sides` are those already mentioned."""
    thing, side, what = unit[0], SIDES[unit[0].side], noun_phrase(unit[0])
    also = " also" if thing.side in sides else ""
    if len(unit) == 2:
        return f"{side}, {what} {be(thing)}{also} {related_verb(scene, noun_phrase(unit[1]), thing)}"
    if in_sky(thing):
        return f"{sky_words(scene)} we can see {what}"
    if is_aloft(thing):
        return f"{side}, {what} {be(thing)}{also} {doing(thing)} in the air"
    if thing.action:
        return f"{side}, {what} {be(thing)}{also} {doing(thing)}"
    return f"{side} there {be(thing)}{also} {what}"


def _long(scene: Scene, rng: random.Random) -> str:
    parts = units(scene)
    told = [rng.choice(OPENINGS).format(PLACES[scene.place].en, inventory([unit[0] for unit in parts]))]
    told += [capital(_detail(scene, unit, rng)) + "." for unit in parts]
    row = in_a_row(scene)
    if row and len(parts) < 4:
        told.append(f"From left to right: {', '.join(definite(thing) for thing in row)}.")
    told += BACKGROUNDS[scene.place][: {1: 3, 2: 2}.get(len(parts), 1)]
    return " ".join([*told, rng.choice(MOODS)])


def _detail(scene: Scene, unit: tuple[Thing, ...], rng: random.Random) -> str:
    """A clause on a thing already mentioned: where it is, what it does; what it rides or holds is introduced here."""
    thing, side = unit[0], SIDES[unit[0].side]
    what = f"{definite(thing)} {be(thing)}"
    if len(unit) == 2:
        return f"{what} {side}, {related_verb(scene, noun_phrase(unit[1]), thing)}"
    if in_sky(thing):
        return f"{what} {sky_words(scene)}"
    if is_aloft(thing):
        return f"{what} {doing(thing)} in the air {side}"
    if thing.action:
        return rng.choice((f"{what} {doing(thing)} {side}", f"{side}, {what} {doing(thing)}"))
    return f"{what} " + rng.choice((side, f"{side} of the picture"))
