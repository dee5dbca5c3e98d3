"""Where a caption says that things are: at which side of the picture, left or right of one another, on or in the hands
of one another.

A side belongs to the noun right before it (小狗在画面的左边, "the dog is on the left") or, where it opens a clause, to
the first noun behind it (左边有一只小狗, "on the left, a dog"). What is said of one noun by way of another
(小狗在小猫的左边, "to the left of the cat") is an order of two kinds, and no side. A relation is read from two nouns
of one sentence with no third between, by its verb (男人骑着马, "the man is riding a horse").
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise

from scoring.claims import Mention, Orders, Relations, Sides

SIDE_ZH = r"(?P<side>[左右](?=[边侧面方])|中(?=[间央]))[边侧面方间央]"
WITHIN_ZH = r"(?:画面|图片|图像|照片|图)?的?"
AFTER_ZH = re.compile(rf"们?(?:[都也正还])*(?:[飘挂站坐停]?在|位于|处于){WITHIN_ZH}{SIDE_ZH}")
BEFORE_ZH = re.compile(rf"(?:^|(?<=[，。；！？、,.;!?\n]))\s*在?{WITHIN_ZH}{SIDE_ZH}")
OF_ANOTHER_ZH = re.compile(r"们?(?:[都也正还])*(?:[站坐停]?在|位于)")
ANOTHERS_SIDE_ZH = re.compile(r"们?的(?P<side>[左右])[边侧面方]")
END_ZH = re.compile(r"[，。；！？,.;!?\n]")

SIDE_EN = r"(?:on|in|at|to) the (?P<side>left|middle|cent(?:er|re)|right)\b"
PICTURE_EN = "(?:picture|image|photo|scene)"
AFTER_EN = re.compile(rf"{SIDE_EN}(?!(?: side)? of (?:an? |the (?!{PICTURE_EN})))", re.I)
BEFORE_EN = re.compile(
    rf"(?:^|(?<=[.;,!?\n]))\s*(?:and )?{SIDE_EN}(?: side)?(?: of the {PICTURE_EN})?"
    r"(?:,| (?:there|is|are|we|you)\b)",
    re.I,
)
OF_ANOTHER_EN = re.compile(
    r"[^.;,!?\n]*?(?:to|on) the (?P<side>left|right)(?: side)? of (?:the|an?|one|two|three|some)(?: [\w-]+){0,2} ", re.I
)
END_EN = re.compile(r"[.;!?\n]")

# What somebody does with a thing, between two nouns. "On" wants 上 behind the second one.
RIDING = re.compile(r"骑|\b(?:riding|rides?)\b", re.I)
HOLDING = re.compile(r"拿|举着|握|抱着|捧|\b(?:holding|holds?)\b", re.I)
ON_ZH = re.compile(r"在[^，。；！？,.;!?\n]{0,12}$")
ON_EN = re.compile(r"\b(?:on|in) (?:the|an?|one|two|three)(?: [\w-]+){0,2} $", re.I)
SENTENCE_END = re.compile(r"[。！？；.!?;\n]")

SIDES = {"左": "left", "中": "middle", "右": "right", "left": "left", "right": "right"}


def read_positions(text: str, mentions: Sequence[Mention]) -> tuple[Sides, Orders, Relations]:
    """All that the text says of where its mentions, given in reading order, are."""
    said = list(_orders(text, mentions))
    others = {id(other) for _, other, _ in said}
    orders = tuple((one.kind, other.kind) if side == "left" else (other.kind, one.kind) for one, other, side in said)
    return tuple(_sides(text, mentions, others)), orders, tuple(_relations(text, mentions))


def _relations(text: str, mentions: Sequence[Mention]) -> Iterator[tuple[str, str, str]]:
    for one, other in pairwise(mentions):
        between = text[one.end : other.start]
        if SENTENCE_END.search(between):
            continue
        if RIDING.search(between):
            yield one.kind, "riding", other.kind
        elif HOLDING.search(between):
            yield one.kind, "holding", other.kind
        elif ON_EN.search(between) or (ON_ZH.search(between) and text.startswith("上", other.end)):
            yield one.kind, "on", other.kind


def _orders(text: str, mentions: Sequence[Mention]) -> Iterator[tuple[Mention, Mention, str]]:
    """(noun, the other noun, side of the other that the first is on)."""
    for one, other in pairwise(mentions):
        between = text[one.end : other.start]
        after = ANOTHERS_SIDE_ZH.match(text, other.end)
        if after and OF_ANOTHER_ZH.fullmatch(between):
            yield one, other, SIDES[after["side"]]
        said = OF_ANOTHER_EN.fullmatch(between)
        if said:
            yield one, other, said["side"].lower()


def _sides(text: str, mentions: Sequence[Mention], others: set[int]) -> Iterator[tuple[str, str]]:
    """(kind, side); others: id() of the mentions by way of which something is said of another, which have none."""
    for number, mention in enumerate(mentions):
        if id(mention) in others:
            continue
        previous = mentions[number - 1].end if number else 0
        following = mentions[number + 1].start if number + 1 < len(mentions) else len(text)
        found = (
            AFTER_ZH.match(text, mention.end, following)
            or _opening(BEFORE_ZH, END_ZH, text, previous, mention.start)
            or _opening(BEFORE_EN, END_EN, text, previous, mention.start)
            or _later(text, mention.end, following)
        )
        if found:
            yield mention.kind, SIDES.get(found["side"].lower(), "middle")


def _opening(before: re.Pattern, end: re.Pattern, text: str, start: int, stop: int) -> re.Match | None:
    """A side that opens the clause of the noun at `stop`, with no other noun between."""
    *_, found = (None, *before.finditer(text, start, stop))
    return found if found and not end.search(text, found.end(), stop) else None


def _later(text: str, start: int, stop: int) -> re.Match | None:
    """An English side behind the noun that ends at `start`, in its own sentence, that does not open the next clause."""
    end = END_EN.search(text, start, stop)
    stop = end.start() if end else stop
    found = AFTER_EN.search(text, start, stop)
    opens_next = found and any(match.end() >= found.end() for match in BEFORE_EN.finditer(text, start, stop))
    return None if opens_next else found
