"""The English of captions.py."""

from __future__ import annotations

import random

from dataset.picturebook.facts import KINDS, PLACES, Scene, Thing
from dataset.picturebook.telling import acting_and_still, in_sky, is_aloft, relation_form, split_sky

PROMPTS = {
    "phrase": ("Say in one phrase what is in the picture.", "Name what you see in a few words."),
    "sentence": ("Describe this picture in one sentence.", "Briefly describe this picture."),
    "paragraph": ("Describe the content of this picture.", "Describe this picture in a short paragraph."),
    "long": ("Please describe this picture in detail.", "Give a detailed description of this picture."),
}

NUMBERS = {1: "one", 2: "two", 3: "three"}
SIDES = {"left": "on the left", "middle": "in the middle", "right": "on the right"}
RELATIONS = {
    "riding": "riding {}", "in": "sitting in {}", "holding": "holding {}", "on": "on {}", "sleeping": "sleeping on {}",
    "sitting": "sitting on {}", "reading": "sitting on {}, reading a book",
}  # fmt: skip
UNIQUE = ("sun", "moon")  # named with "the"
SPACE, AND = " ", ", and "  # between sentences, and between clauses

# What the background always shows. No kind's noun and no other place's word may occur here.
BACKGROUNDS = {
    "street": ("A row of buildings stands in the background", "A road with painted lines runs past the buildings",
        "A neat pavement follows the road"),
    "sea": ("Wide open water fills the background", "Soft sand covers the ground close to us",
        "The water stretches far away"),
    "grassland": ("Rolling hills rise in the background", "The ground is covered with grass",
        "The grass reaches all the way to the hills"),
    "space": ("The background is dark and full of stars", "The ground is bare and rough",
        "Countless stars shine in the dark"),
    "waterfall": ("Tall cliffs rise in the background", "The water pours down from the cliffs",
        "It falls into a pool below"),
    "stage": ("Thick curtains hang in the background", "A beam of light shines down from above",
        "The floor is made of wooden boards"),
    "garden": ("A trimmed hedge and a fence are in the background", "A path runs past the hedge",
        "The fence closes the place off"),
    "park": ("There is a bench in the background", "The ground is a smooth lawn", "A path crosses the lawn"),
    "room": ("A picture in a frame hangs on the wall in the background", "There is a window in the wall",
        "The floor is clean"),
    "mountains": ("High peaks rise in the background", "The peaks are covered with snow",
        "A wide valley lies below the peaks"),
}  # fmt: skip
SHORT_OPENINGS = ("This is a scene {}.", "The picture shows a scene {}.", "Here we see a scene {}.")
OPENINGS = (  # place, list of things
    "This picture shows a scene {0}: {1}.",
    "The scene is set {0}, and this is what we can see: {1}.",
    "Here is a scene {0}: {1}.",
)
MOODS = (
    "The whole picture feels warm and natural",
    "The mood of the scene is light and cheerful",
    "The whole picture is simple and clear, and pleasant to look at",
    "It is a lively scene that is nice to look at",
)


def capital(text: str) -> str:
    return text[0].upper() + text[1:]


def full_stop(text: str) -> str:
    return f"{capital(text)}."


def place(scene: Scene) -> str:
    return PLACES[scene.place].en


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


def join(phrases: list[str], last: str = " and ") -> str:
    """A, B and C"""
    return last.join(p for p in (", ".join(phrases[:-1]), phrases[-1]) if p)


def listing(things: list[Thing]) -> str:
    return join([noun_phrase(thing) for thing in things])


def inventory(things: list[Thing]) -> str:
    """A, B, C after a colon: no "and" before the last, which would require knowing at A how many are to come."""
    return ", ".join(noun_phrase(thing) for thing in things)


def be(thing: Thing) -> str:
    return "is" if thing.count == 1 else "are"


def doing(scene: Scene, unit: tuple[Thing, ...]) -> str:
    """What follows "is": an action, of a pair the relation. What hovers without an action floats, a kite flies."""
    thing = unit[0]
    if len(unit) == 2:
        return RELATIONS[relation_form(scene, thing)].format(noun_phrase(unit[1]))
    if thing.action is None:
        return "flying" if thing.kind == "kite" else "floating"
    return "reading a book" if thing.action == "reading" else thing.action


def sky_word(scene: Scene) -> str:
    return "in the distance" if scene.place == "space" else "in the sky"


def in_order(row: list[Thing]) -> str:
    return f"from left to right: {', '.join(definite(thing) for thing in row)}"


def phrase(scene: Scene, rng: random.Random) -> str:
    """The things at the place: a brown dog by the sea."""
    where = place(scene)
    lower, sky = split_sky(scene)
    if not lower:
        return f"{listing(sky)} {where}"
    above = f"{listing(sky)} {sky_word(scene)}" if sky else ""
    if rng.random() < 0.5:
        return f"{listing(lower)} {where}" + (f", with {above}" if sky else "")
    return f"{where}, {listing(lower)}" + (f", and {above}" if sky else "")


def sentence(scene: Scene, rng: random.Random) -> str:
    """What the things do, what else there is, and what is in the sky."""
    where = place(scene)
    lower, sky = split_sky(scene)
    acting, still = acting_and_still(scene)
    above = f", with {listing(sky)} {sky_word(scene)}" if sky else ""
    if not lower:
        seen = f"we can see {listing(sky)}"
        return rng.choice((f"{capital(where)}, {seen}.", f"{capital(seen)} {where}."))
    if not acting:
        there = f"there {be(still[0])} {listing(still)}"
        we_see = f"{capital(where)}, we can see {listing(still)}"
        opening = rng.choice((f"{capital(there)} {where}", f"{capital(where)}, {there}", we_see))
        return f"{opening}{above}."
    told = join([f"{noun_phrase(unit[0])} {be(unit[0])} {doing(scene, unit)}" for unit in acting], AND)
    first = rng.choice((f"{capital(where)}, {told}", f"The picture shows a scene {where}: {told}"))
    if not still:
        return f"{first}{above}."
    return f"{capital(where)}, {told}{above}. There {be(still[0])} also {listing(still)}."


def placed(scene: Scene, unit: tuple[Thing, ...], known: bool, rng: random.Random) -> str:
    """A clause that locates a unit; known: another on its side has been mentioned."""
    thing, side, what = unit[0], SIDES[unit[0].side], noun_phrase(unit[0])
    also = " also" if known else ""
    if in_sky(thing):
        return f"{sky_word(scene)} we can see {what}"
    if len(unit) == 1 and not is_aloft(thing) and not thing.action:
        return f"{side} there {be(thing)}{also} {what}"
    in_air = " in the air" if is_aloft(thing) else ""
    return f"{side}, {what} {be(thing)}{also} {doing(scene, unit)}{in_air}"


def detail(scene: Scene, unit: tuple[Thing, ...], rng: random.Random) -> str:
    """A clause on a thing already mentioned: where it is, what it does; what it rides or holds is introduced here."""
    thing, side = unit[0], SIDES[unit[0].side]
    what = f"{definite(thing)} {be(thing)}"
    if len(unit) == 2:
        return f"{what} {side}, {doing(scene, unit)}"
    if in_sky(thing):
        return f"{what} {sky_word(scene)}"
    if is_aloft(thing):
        return f"{what} {doing(scene, unit)} in the air {side}"
    if thing.action:
        return rng.choice((f"{what} {doing(scene, unit)} {side}", f"{side}, {what} {doing(scene, unit)}"))
    return f"{what} " + rng.choice((side, f"{side} of the picture"))
