"""Questions about a scene and their answers; each has exactly one correct answer by the facts."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache
from itertools import combinations

from dataset.picturebook import captions_en as en
from dataset.picturebook import captions_zh as zh
from dataset.picturebook.captions import LANGUAGES
from dataset.picturebook.facts import COLOURS, KINDS, PLACES, Scene, Thing
from dataset.picturebook.telling import NEAR, clear_side, in_sky, relation_form, units
from dataset.picturebook.world import HELD_OUT_PLACES, kind_weights, total

TYPES = ("what", "colour", "count", "where", "order", "action", "exists")
SAMPLINGS = ("random", "popular", "adversarial")
POOL = 8  # most common absent kinds to draw popular and adversarial questions from

# Kinds that are arguably in the picture although no thing of the scene: an old man is a man, the street's buildings
# are houses, a park bench is a chair. No question asks whether these are there.
ARGUABLE_KINDS = {"elder": ("man", "woman"), "dancer": ("man", "woman"), "astronaut": ("man", "woman")}
ARGUABLE_PLACES = {"street": ("house",), "park": ("chair",), "stage": ("lamp",), "space": ("moon",)}


# language -> name, of which the first word is the question's type -> question, answer. {the} thing is named without a
# number, which would answer another question.
TEMPLATES: dict[str, dict[str, tuple[str, str]]] = {
    "zh": {
        "what": ("图里画了什么？", "图里有{things}。"),
        "what side": ("画面{side}有什么？", "画面{side}有{things}。"),
        "what on": ("{other}上有{who}？", "{other}上有{phrase}。"),
        "what in": ("{other}上有{who}？", "{other}上有{phrase}。"),
        "what riding": ("{the}骑着什么？", "{the}骑着{another}。"),
        "what holding": ("{the}拿着什么？", "{the}拿着{another}。"),
        "colour": ("{the}是什么颜色的？", "{the}是{colour}的。"),
        "colour clothes": ("{the}穿着什么颜色的衣服？", "{the}穿着{colour}衣服。"),
        "count": ("图里有几{measure}{the}？", "图里有{number}{the}。"),
        "where place": ("这是在哪里？", "这是在{place}。"),
        "where sky": ("{the}在哪里？", "{the}在{sky}。"),
        "where side": ("{the}在哪里？", "{the}在画面的{side}。"),
        "order": ("{the}在{other}的左边还是右边？", "{the}在{other}的{side}。"),
        "action": ("{the}在做什么？", "{the}{doing}。"),
        "exists yes": ("图里有{kind}吗？", "有，图里有{phrase}。"),
        "exists no": ("图里有{kind}吗？", "没有，图里没有{kind}。"),
    },
    "en": {
        "what": ("What is in the picture?", "The picture shows: {things}."),
        "what side": ("What is {side}?", "{side} there {be} {things}."),
        "what on": ("{who} is on {other}?", "{phrase} is on {other}."),
        "what in": ("{who} is in {other}?", "{phrase} is in {other}."),
        "what riding": ("What is {the} riding?", "{the} is riding {another}."),
        "what holding": ("What is {the} holding?", "{the} is holding {another}."),
        "colour": ("What colour {be} {the}?", "{the} {be} {colour}."),
        "colour clothes": ("What colour {be} {the} wearing?", "{the} {be} wearing {colour}."),
        "count": ("How many {plural} are there?", "There {be} {number} {noun}."),
        "where place": ("Where is this?", "This is {place}."),
        "where sky": ("Where {be} {the}?", "{the} {be} {sky}."),
        "where side": ("Where {be} {the}?", "{the} {be} {side}."),
        "order": ("{be} {the} to the left or to the right of {other}?", "{the} {be} to the {side} of {other}."),
        "action": ("What {be} {the} doing?", "{the} {be} {doing}."),
        "exists yes": ("Is there {article} {kind}?", "Yes, there {be} {phrase}."),
        "exists no": ("Is there {article} {kind}?", "No, there is no {kind}."),
        "exists unique yes": ("Is the {kind} there?", "Yes, the {kind} is in the picture."),
        "exists unique no": ("Is the {kind} there?", "No, the {kind} is not in the picture."),
    },
}
WHO = {"zh": ("谁", "什么"), "en": ("who", "what")}  # of persons, of others


@dataclass(frozen=True)
class Question:
    text: str
    answer: str  # a short sentence
    type: str  # one of TYPES


def questions(scene: Scene, rng: random.Random, language: str) -> list[Question]:
    """All questions of every type, in random order, as many with yes as with no. language: zh | en."""
    if language not in LANGUAGES:
        raise ValueError(f"unknown language {language!r}; there are {' and '.join(LANGUAGES)}")
    asked = _what(scene, language) + _colour(scene, language)
    asked += [_ask(language, "count", thing) for thing in scene.things if not in_sky(thing)]
    asked += _where(scene, language) + _order(scene, rng, language)
    doing = LANGUAGES[language].doing
    asked += [_ask(language, "action", unit[0], doing=doing(scene, unit)) for unit in units(scene) if unit[0].action]
    asked += _exists(scene, rng, language)
    rng.shuffle(asked)
    return asked


def pope_questions(scene: Scene, sampling: str, rng: random.Random, language: str = "zh") -> list[tuple[str, bool]]:
    """(question, whether yes is correct) as in POPE (Li 2023): each present kind, and as many absent ones.

    sampling of the absent kinds: random (any), popular (most common in the world), adversarial (most common at the
    scene's place).
    """
    if sampling not in SAMPLINGS:
        raise ValueError(f"unknown sampling {sampling!r}; there are {', '.join(SAMPLINGS)}")
    present = [thing.kind for thing in scene.things]
    absent = pick_absent(scene, sampling, len(present), rng)
    asked = [(_ask_exists(kind, language).text, kind in present) for kind in (*present, *absent)]
    rng.shuffle(asked)
    return asked


def pick_absent(scene: Scene, sampling: str, count: int, rng: random.Random) -> list[str]:
    """`count` kinds that are certainly absent, drawn by `sampling`."""
    kinds = absent_kinds(scene)
    if sampling != "random":
        here = kind_weights(scene.place) if sampling == "adversarial" else {}
        everywhere = popularity()
        kinds.sort(key=lambda kind: (here.get(kind, 0.0), everywhere[kind]), reverse=True)
        kinds = kinds[: max(POOL, count)]
    return rng.sample(kinds, count)


def mixed_absent(scene: Scene, count: int, rng: random.Random) -> list[str]:
    """`count` kinds that are certainly absent, each by a random sampling, so of varying difficulty."""
    absent: list[str] = []
    while len(absent) < count:
        kind = pick_absent(scene, rng.choice(SAMPLINGS), 1, rng)[0]
        if kind not in absent:
            absent.append(kind)
    return absent


def absent_kinds(scene: Scene) -> list[str]:
    """Absent kinds, without arguable ones and those held out for this place.

    A pair held out of training must not be denied in training either.
    """
    out = {*ARGUABLE_PLACES.get(scene.place, ())}
    for thing in scene.things:
        out.update((thing.kind, *ARGUABLE_KINDS.get(thing.kind, ())))
    return [kind for kind in KINDS if kind not in out and (kind, scene.place) not in HELD_OUT_PLACES]


@cache
def popularity() -> dict[str, float]:
    """The prior of each kind over all places (sums to 1)."""
    shares = dict.fromkeys(KINDS, 0.0)
    for place in PLACES:
        weights = kind_weights(place)
        for kind, weight in weights.items():
            shares[kind] += weight / total(weights.values()) / len(PLACES)
    return shares


def _ask(language: str, name: str, thing: Thing | None = None, **words: str) -> Question:
    """The question of that name in TEMPLATES, about a thing if it is about one."""
    if thing:
        words |= _words(thing, language)
    text, answer = (en.capital(template.format(**words)) for template in TEMPLATES[language][name])
    return Question(text, answer, name.split()[0])


def _words(thing: Thing, language: str) -> dict[str, str]:
    """What templates say of a thing."""
    told = {"the": _the(thing, language), "phrase": LANGUAGES[language].noun_phrase(thing)}
    if language == "zh":
        return told | {"measure": KINDS[thing.kind].measure, "number": zh.counted(thing)}
    noun, plural = en.noun(thing), KINDS[thing.kind].en_plural
    return told | {"be": en.be(thing), "noun": noun, "plural": plural, "number": en.NUMBERS[thing.count]}


def _the(thing: Thing, language: str) -> str:
    return zh.noun(thing) if language == "zh" else f"the {en.noun(thing)}"


def _what(scene: Scene, language: str) -> list[Question]:
    """What is in the picture, on each unambiguous side, and in the relation."""
    things, texts = list(scene.things), LANGUAGES[language]
    asked = [_ask(language, "what", things=texts.inventory(things))]
    for side, told in texts.SIDES.items():
        there = [thing for thing in things if thing.side == side]
        if there and not any(map(in_sky, there)) and all(map(clear_side, things)):
            asked.append(_ask(language, "what side", there[0], side=told, things=texts.listing(there)))
    if scene.relation:  # what the subject rides or holds, or who is on the object
        subject, thing = things[scene.relation.subject], things[scene.relation.object]
        name = "in" if relation_form(scene, subject) == "in" else scene.relation.name
        who = WHO[language][0 if KINDS[subject.kind].group == "person" else 1]
        other, another = _the(thing, language), texts.noun_phrase(thing)
        asked.append(_ask(language, f"what {name}", subject, who=who, other=other, another=another))
    return asked


def _colour(scene: Scene, language: str) -> list[Question]:
    asked = []
    for thing in scene.things:
        if thing.colour:
            worn, colour = KINDS[thing.kind].group == "person", COLOURS[thing.colour]
            told = thing.colour if language == "en" else colour.zh_short if worn else colour.zh
            asked.append(_ask(language, "colour clothes" if worn else "colour", thing, colour=told))
    return asked


def _where(scene: Scene, language: str) -> list[Question]:
    """The place, and where in the picture each thing is."""
    texts = LANGUAGES[language]
    asked = [_ask(language, "where place", place=texts.place(scene))]
    for thing in scene.things:
        if in_sky(thing):
            asked.append(_ask(language, "where sky", thing, sky=texts.sky_word(scene)))
        elif clear_side(thing):
            asked.append(_ask(language, "where side", thing, side=texts.SIDES[thing.side]))
    return asked


def _order(scene: Scene, rng: random.Random, language: str) -> list[Question]:
    """On which side of another a thing is, for up to two clearly separate pairs below the sky."""
    lower = [thing for thing in scene.things if not in_sky(thing)]
    pairs = [pair for pair in combinations(lower, 2) if abs(pair[0].x - pair[1].x) >= NEAR]
    asked = []
    for pair in rng.sample(pairs, min(2, len(pairs))):
        one, other = rng.sample(pair, 2)
        side = "left" if one.x < other.x else "right"
        told = zh.SIDES[side] if language == "zh" else side
        asked.append(_ask(language, "order", one, other=_the(other, language), side=told))
    return asked


def _exists(scene: Scene, rng: random.Random, language: str) -> list[Question]:
    """Two questions answered yes (one if there is one thing) and as many answered no, of varying difficulty."""
    present = rng.sample(list(scene.things), min(2, len(scene.things)))
    asked = [_ask_exists(thing.kind, language, thing) for thing in present]
    return asked + [_ask_exists(kind, language) for kind in mixed_absent(scene, len(present), rng)]


def _ask_exists(kind: str, language: str, thing: Thing | None = None) -> Question:
    """Whether a kind is there: yes if its thing is given. The noun is close to where the answer begins."""
    unique = " unique" if language == "en" and kind in en.UNIQUE else ""
    name = KINDS[kind].zh if language == "zh" else KINDS[kind].en
    return _ask(language, f"exists{unique} {'yes' if thing else 'no'}", thing, kind=name, article=en.article(name))
