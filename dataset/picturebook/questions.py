"""Questions about a scene and their answers; each has exactly one correct answer by the facts."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache
from itertools import combinations

from dataset.picturebook import captions_en as en
from dataset.picturebook import captions_zh as zh
from dataset.picturebook.facts import COLOURS, KINDS, PLACES, Scene, Thing
from dataset.picturebook.telling import NEAR, clear_side, in_sky, units
from dataset.picturebook.world import HELD_OUT_PLACES, kind_weights

TYPES = ("what", "colour", "count", "where", "order", "action", "exists")
SAMPLINGS = ("random", "popular", "adversarial")
POOL = 8  # most common absent kinds to draw popular and adversarial questions from

# Kinds that are arguably in the picture although no thing of the scene: an old man is a man, the street's buildings
# are houses, a park bench is a chair. No question asks whether these are there.
ARGUABLE_KINDS = {"elder": ("man", "woman"), "dancer": ("man", "woman"), "astronaut": ("man", "woman")}
ARGUABLE_PLACES = {"street": ("house",), "park": ("chair",), "stage": ("lamp",), "space": ("moon",)}


@dataclass(frozen=True)
class Question:
    text: str
    answer: str  # a short sentence
    type: str  # one of TYPES


def questions(scene: Scene, rng: random.Random, language: str) -> list[Question]:
    """All questions of every type, in random order, as many with yes as with no. language: zh | en."""
    if language not in ("zh", "en"):
        raise ValueError(f"unknown language {language!r}; there are zh and en")
    asked = [
        *_what(scene, language),
        *_colour(scene, language),
        *_count(scene, language),
        *_where(scene, language),
        *_order(scene, rng, language),
        *_action(scene, language),
        *_exists(scene, rng, language),
    ]
    rng.shuffle(asked)
    return asked


def pope_questions(
    scene: Scene, sampling: str, rng: random.Random, language: str = "zh"
) -> list[tuple[str, bool]]:
    """(question, whether yes is correct) as in POPE (Li 2023): each present kind, and as many absent ones.

    sampling of the absent kinds: random (any), popular (most common in the world), adversarial (most common at the
    scene's place).
    """
    if sampling not in SAMPLINGS:
        raise ValueError(f"unknown sampling {sampling!r}; there are {', '.join(SAMPLINGS)}")
    present = [thing.kind for thing in scene.things]
    absent = pick_absent(scene, sampling, len(present), rng)
    asked = [(ask_exists(kind, language), True) for kind in present]
    asked += [(ask_exists(kind, language), False) for kind in absent]
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
    out = {thing.kind for thing in scene.things}
    for thing in scene.things:
        out.update(ARGUABLE_KINDS.get(thing.kind, ()))
    out.update(ARGUABLE_PLACES.get(scene.place, ()))
    return [kind for kind in KINDS if kind not in out and (kind, scene.place) not in HELD_OUT_PLACES]


@cache
def popularity() -> dict[str, float]:
    """The prior of each kind over all places (sums to 1)."""
    shares = dict.fromkeys(KINDS, 0.0)
    for place in PLACES:
        weights = kind_weights(place)
        for kind, weight in weights.items():
            shares[kind] += weight / sum(weights.values()) / len(PLACES)
    return shares


def ask_exists(kind: str, language: str = "zh") -> str:
    """图里有小狗吗？ Is there a dog? The noun is close to where the answer begins, in both languages."""
    if language == "zh":
        return f"图里有{KINDS[kind].zh}吗？"
    name = KINDS[kind].en
    return f"Is the {name} there?" if kind in en.UNIQUE else f"Is there {en.article(name)} {name}?"


def _the(thing: Thing) -> str:
    """the dog, the dogs: without a number, which would answer another question."""
    return f"the {en.noun(thing)}"


def _related(scene: Scene) -> set[str]:
    """The kinds in the relation."""
    pair = (scene.relation.subject, scene.relation.object) if scene.relation else ()
    return {scene.things[i].kind for i in pair}


def _what(scene: Scene, language: str) -> list[Question]:
    """What is in the picture, on each unambiguous side, and in the relation."""
    things = list(scene.things)
    if language == "zh":
        asked = [Question("图里画了什么？", f"图里有{zh.listing(things)}。", "what")]
    else:
        asked = [Question("What is in the picture?", f"The picture shows: {en.inventory(things)}.", "what")]
    for side in ("left", "middle", "right"):
        there = [thing for thing in things if thing.side == side]
        if not there or any(in_sky(thing) for thing in there) or not all(map(clear_side, things)):
            continue
        if language == "zh":
            where = f"画面{zh.SIDES[side]}有"
            asked.append(Question(f"{where}什么？", f"{where}{zh.listing(there)}。", "what"))
        else:
            answer = f"{en.capital(en.SIDES[side])} there {en.be(there[0])} {en.listing(there)}."
            asked.append(Question(f"What is {en.SIDES[side]}?", answer, "what"))
    return asked + _what_related(scene, language)


def _what_related(scene: Scene, language: str) -> list[Question]:
    """What the subject rides or holds, or who is on the object."""
    if scene.relation is None:
        return []
    subject, thing = scene.things[scene.relation.subject], scene.things[scene.relation.object]
    name, boat = scene.relation.name, thing.kind == "boat"
    if name == "on" or (name == "riding" and boat):
        person = KINDS[subject.kind].group == "person"
        if language == "zh":
            where, who = f"{KINDS[thing.kind].zh}上有", "谁" if person else "什么"
            return [Question(f"{where}{who}？", f"{where}{zh.noun_phrase(subject)}。", "what")]
        where = f"{'in' if boat else 'on'} {_the(thing)}"
        answer = f"{en.capital(en.noun_phrase(subject))} is {where}."
        return [Question(f"{'Who' if person else 'What'} is {where}?", answer, "what")]
    if language == "zh":
        start = KINDS[subject.kind].zh + ("骑着" if name == "riding" else "拿着")
        return [Question(f"{start}什么？", f"{start}{zh.noun_phrase(thing)}。", "what")]
    answer = f"{en.capital(_the(subject))} is {name} {en.noun_phrase(thing)}."
    return [Question(f"What is {_the(subject)} {name}?", answer, "what")]


def _colour(scene: Scene, language: str) -> list[Question]:
    asked = []
    for thing in scene.things:
        if thing.colour is None:
            continue
        noun, colour = KINDS[thing.kind].zh, COLOURS[thing.colour]
        person = KINDS[thing.kind].group == "person"
        if language == "zh" and person:
            asked.append((f"{noun}穿着什么颜色的衣服？", f"{noun}穿着{colour.zh_short}衣服。"))
        elif language == "zh":
            asked.append((f"{noun}是什么颜色的？", f"{noun}是{colour.zh}的。"))
        else:
            wearing = " wearing" if person else ""
            text = f"What colour {en.be(thing)} {_the(thing)}{wearing}?"
            asked.append((text, f"{en.capital(_the(thing))} {en.be(thing)}{wearing} {thing.colour}."))
    return [Question(text, answer, "colour") for text, answer in asked]


def _count(scene: Scene, language: str) -> list[Question]:
    asked = []
    for thing in scene.things:
        kind = KINDS[thing.kind]
        if in_sky(thing):
            continue
        if language == "zh":
            asked.append((f"图里有几{kind.measure}{kind.zh}？", f"图里有{zh.counted(thing)}{kind.zh}。"))
        else:
            text = f"How many {kind.en_plural} are there?"
            asked.append((text, f"There {en.be(thing)} {en.NUMBERS[thing.count]} {en.noun(thing)}."))
    return [Question(text, answer, "count") for text, answer in asked]


def _where(scene: Scene, language: str) -> list[Question]:
    """The place, and where in the picture each thing is."""
    place = PLACES[scene.place]
    chinese = language == "zh"
    asked = [("这是在哪里？", f"这是在{place.zh}。")]
    if not chinese:
        asked = [("Where is this?", f"This is {place.en}.")]
    for thing in scene.things:
        if not in_sky(thing) and not clear_side(thing):
            continue
        if chinese:
            noun = KINDS[thing.kind].zh
            where = zh.sky_word(scene) if in_sky(thing) else f"画面的{zh.SIDES[thing.side]}"
            asked.append((f"{noun}在哪里？", f"{noun}在{where}。"))
        else:
            where = en.sky_words(scene) if in_sky(thing) else en.SIDES[thing.side]
            text = f"Where {en.be(thing)} {_the(thing)}?"
            asked.append((text, f"{en.capital(_the(thing))} {en.be(thing)} {where}."))
    return [Question(text, answer, "where") for text, answer in asked]


def _order(scene: Scene, rng: random.Random, language: str) -> list[Question]:
    """On which side of another a thing is, for up to two clearly separate pairs below the sky."""
    lower = [thing for thing in scene.things if not in_sky(thing)]
    pairs = [pair for pair in combinations(lower, 2) if abs(pair[0].x - pair[1].x) >= NEAR]
    asked = []
    for pair in rng.sample(pairs, min(2, len(pairs))):
        one, other = rng.sample(pair, 2)
        side = "left" if one.x < other.x else "right"
        if language == "zh":
            start = f"{KINDS[one.kind].zh}在{KINDS[other.kind].zh}的"
            asked.append((f"{start}左边还是右边？", f"{start}{zh.SIDES[side]}。"))
        else:
            be, names = en.be(one), (_the(one), _the(other))
            text = f"{en.capital(be)} {names[0]} to the left or to the right of {names[1]}?"
            asked.append((text, f"{en.capital(names[0])} {be} to the {side} of {names[1]}."))
    return [Question(text, answer, "order") for text, answer in asked]


def _action(scene: Scene, language: str) -> list[Question]:
    """What each acting thing is doing; for a rider or holder, that is riding or holding."""
    related = _related(scene)
    asked = []
    for unit in units(scene):
        thing = unit[0]
        noun = KINDS[thing.kind].zh
        if thing.action is None or (len(unit) == 1 and thing.kind in related):
            continue
        if language == "zh":
            told = noun + zh.doing(thing)
            if len(unit) == 2:
                told = zh.related(scene, noun, zh.noun_phrase(unit[1]), thing)
            asked.append((f"{noun}在做什么？", f"{told}。"))
        else:
            told = en.doing(thing)
            if len(unit) == 2:
                told = en.related_verb(scene, en.noun_phrase(unit[1]), thing)
            start = f"{en.be(thing)} {_the(thing)}"
            asked.append((f"What {start} doing?", f"{en.capital(_the(thing))} {en.be(thing)} {told}."))
    return [Question(text, answer, "action") for text, answer in asked]


def _exists(scene: Scene, rng: random.Random, language: str) -> list[Question]:
    """Two questions answered yes (one if there is one thing) and as many answered no, of varying difficulty."""
    present = rng.sample(list(scene.things), min(2, len(scene.things)))
    asked = [(thing.kind, _yes(thing, language)) for thing in present]
    asked += [(kind, _no(kind, language)) for kind in mixed_absent(scene, len(present), rng)]
    return [Question(ask_exists(kind, language), answer, "exists") for kind, answer in asked]


def _yes(thing: Thing, language: str) -> str:
    if language == "zh":
        return f"有，图里有{zh.noun_phrase(thing)}。"
    if thing.kind in en.UNIQUE:
        return f"Yes, {_the(thing)} is in the picture."
    return f"Yes, there {en.be(thing)} {en.noun_phrase(thing)}."


def _no(kind: str, language: str) -> str:
    if language == "zh":
        return f"没有，图里没有{KINDS[kind].zh}。"
    name = KINDS[kind].en
    return f"No, the {name} is not in the picture." if kind in en.UNIQUE else f"No, there is no {name}."
