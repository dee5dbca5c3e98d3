"""The statements of a caption that the facts can verify, and their verdicts.

A statement counts each time it is made. Its types are:

- thing: a referring noun. The first mention of a kind states that it is present, and so does one that introduces
  another ("a dog", 一只小狗, after an earlier dog). A later reference to a present thing ("the dog", 两只小狗都, a bare
  小狗) is no new statement; but every mention of an absent thing is false.
- colour, number: bound to a noun by the rules of scoring/mentions.py. 一个 and "a" mean one. "Some", 几只 or a bare
  plural is false of one thing and open for more; 一片, 一束 are always open.
- side (left, middle, right) and height (in the sky, in the air, in the distance): of a noun.
- order (left or right of another), relation (riding, holding, on), action (running), size (looks large).
- place: each word for a place, and each known sentence about a place's background.

A verdict is None, not scored, where the facts leave it open: a centre too close to the line between two sides, an order
of two things nearer than NEAR, the colour of a kind that always looks the same, what a kite does in the air, whether a
bird is in the sky. Attributes of an absent thing are open too: its noun is false already. An order or relation of a
thing to itself is false in any picture.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache

from dataset.picturebook import captions_en, captions_zh
from dataset.picturebook.facts import KINDS, SIDE_LINES, Scene, Thing
from dataset.picturebook.telling import EDGE, LARGE, NEAR, SMALL, notable_size
from scoring.actions import read_actions, read_sizes
from scoring.claims import Mention
from scoring.lexicon import VAGUE_MEASURES_ZH
from scoring.mentions import masked, read_nouns
from scoring.positions import locate, read_heights

TYPES = ("thing", "colour", "number", "side", "height", "order", "relation", "action", "size", "place")
LINES = dict(zip((("left", "middle"), ("middle", "right")), SIDE_LINES, strict=True))  # sides -> the line between
# Actions that imply others: whoever reads is drawn seated, whoever waves stands.
IMPLIED = {("reading", "sitting"), ("waving", "standing")}
# Actions that are open given the true one.
ARGUABLE = {("eating", "standing"), ("eating", "sitting"), ("flying", "floating"), ("floating", "flying")}


@dataclass(frozen=True)
class Statement:
    """One statement at text[start:end] and its verdict; None: open, or not judged yet."""

    type: str  # one of TYPES
    start: int
    end: int
    about: str  # a kind; for a place statement the place
    value: str | int | None = None  # stated value: a colour, a number (0: several), a side, ...; for a thing a | the
    other: str | None = None  # the second kind of an order or a relation
    anew: bool = False  # for a thing: states that it is present (see above)
    verdict: bool | None = None


def judge(text: str, scene: Scene) -> tuple[Statement, ...]:
    """The statements of a Chinese or English caption with their verdicts, in reading order."""
    things = {thing.kind: thing for thing in scene.things}
    judged = (replace(one, verdict=_verdict(one, things, scene)) for one in read_statements(text))
    return tuple(one for one in judged if one.type != "thing" or one.anew or not one.verdict)


def read_statements(text: str) -> tuple[Statement, ...]:
    """The statements of the text in reading order, without verdicts; a thing at every mention."""
    backgrounds, text = _without_backgrounds(text)
    mentions, places = read_nouns(text)
    plain = masked(text)
    located = locate(text, mentions)
    objects = {told.other.start for told in located if told.other}
    found = [*backgrounds, *(Statement("place", word.start, word.end, str(word.place)) for word in places)]
    named: set[str] = set()
    for mention in mentions:
        found += _of_noun(mention, mention.kind not in named, text)
        named.add(mention.kind)
    for told in (
        *located,
        *read_heights(text, plain, mentions, objects),
        *read_actions(text, plain, mentions, objects),
        *read_sizes(text, plain, mentions, objects),
    ):
        other = told.other.kind if told.other else None
        found.append(Statement(told.name, *told.at, told.mention.kind, told.value, other))
    return tuple(sorted(found, key=lambda one: (one.start, one.end)))


def _of_noun(mention: Mention, first: bool, text: str) -> Iterator[Statement]:
    article = "the" if mention.definite else "a"
    yield Statement("thing", *mention.at, mention.kind, article, anew=first or not mention.definite)
    if mention.colour_at:
        yield Statement("colour", *mention.colour_at, mention.kind, mention.colour)
    if mention.count_at and text[mention.count_at[1] - 1] not in VAGUE_MEASURES_ZH[1:-1]:
        yield Statement("number", *mention.count_at, mention.kind, mention.count)
    elif mention.count == 0 and not mention.count_at:
        yield Statement("number", *mention.at, mention.kind, 0)


@cache
def _known_sentences() -> tuple[tuple[str, tuple[str, ...]], ...]:
    """(sentence, the places it is a background of; () for a mood), the longest first."""
    known: dict[str, tuple[str, ...]] = {}
    for texts in (captions_zh, captions_en):
        known |= {mood.rstrip("。."): () for mood in texts.MOODS}
        for place, sentences in texts.BACKGROUNDS.items():
            for sentence in sentences:
                sentence = sentence.rstrip("。.")
                known[sentence] = (*known.get(sentence, ()), place)
    return tuple(sorted(known.items(), key=lambda item: -len(item[0])))


def _without_backgrounds(text: str) -> tuple[list[Statement], str]:
    """Place statements of known background sentences, and the text with these and moods masked."""
    found = []
    for sentence, places in _known_sentences():
        start = text.find(sentence)
        while start >= 0:
            end = start + len(sentence)
            if places:
                found.append(Statement("place", start, end, " ".join(places), "background"))
            text = text[:start] + " " * len(sentence) + text[end:]
            start = text.find(sentence, end)
    return found, text


def _verdict(one: Statement, things: dict[str, Thing], scene: Scene) -> bool | None:
    if one.type == "place":
        return scene.place in one.about.split()
    if one.other == one.about:
        return False
    thing = things.get(one.about)
    if one.type == "thing":
        return thing is not None
    if thing is None or (one.other is not None and one.other not in things):
        return None
    if one.type == "colour":
        return None if thing.colour is None else thing.colour == one.value
    if one.type == "number":
        return thing.count == one.value if one.value else None if thing.count > 1 else False
    if one.type == "side":
        near = any(abs(thing.x - line) < EDGE and one.value in pair for pair, line in LINES.items())
        return None if near else thing.side == one.value
    if one.type == "height":
        return _height(thing, str(one.value))
    if one.type == "size":
        return _size(thing, str(one.value))
    if one.type == "action":
        return _action(thing, str(one.value), scene)
    if one.type == "order":
        apart = things[str(one.other)].x - thing.x
        return None if abs(apart) < NEAR else (apart > 0) == (one.value == "left")
    return is_related(scene, one.about, str(one.value), str(one.other))


def is_related(scene: Scene, subject: str, name: str, other: str) -> bool:
    """True if the facts say that one kind rides, holds or is on another; a rider is on what it rides."""
    true = scene.relation
    if true is None or (subject, other) != (scene.things[true.subject].kind, scene.things[true.object].kind):
        return False
    return name == true.name or (name == "on" and true.name == "riding")


def _height(thing: Thing, height: str) -> bool | None:
    where = KINDS[thing.kind].where
    if height == "air":
        return None if thing.action in ("floating", "jumping") else where != "ground"
    return None if where == "air" else where == "sky"


def _size(thing: Thing, size: str) -> bool | None:
    if notable_size(thing) == size:
        return True
    share = thing.height / KINDS[thing.kind].height
    looks = share >= LARGE if size == "large" else share <= SMALL
    return None if looks or thing.size == size else False


def _action(thing: Thing, action: str, scene: Scene) -> bool | None:
    """Open for things in the air or on the water without an action, and for the raised arm of a holder."""
    kind = KINDS[thing.kind]
    relation = scene.relation
    if relation and relation.name == "holding" and scene.things[relation.subject] is thing and action == "waving":
        return None
    if thing.action is None:
        drifts = action in ("floating", "flying") and (kind.where != "ground" or kind.name == "boat")
        return None if drifts or action == "standing" else False
    if action == thing.action or (thing.action, action) in IMPLIED:
        return True
    return None if (thing.action, action) in ARGUABLE else False
