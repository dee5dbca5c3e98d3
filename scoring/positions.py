"""Positions that a caption states, and relations: who rides, holds, or is on what.

A side belongs to the noun before it (小狗在画面的左边, "the dog is on the left") or, if it opens a clause, to the first
noun after it and those listed with it (左边有一只小狗和一只猫咪, "on the left, a dog"). A position relative to another
noun (小狗在小猫的左边, 小猫的左边有小狗, "to the left of the cat") is an order of two kinds, not a side; so is each
step of a row (从左到右依次是小狗和小猫, "from left to right"). A height (天上 the sky, 空中 the air, 远处 the distance)
belongs to nouns as a side does.

A relation is parsed from two nouns of one sentence with no third between, by the verb: 男人骑着马, 坐在椅子上, "the man
is riding a horse". In Chinese the subject may come last: 骑着马的男人, 椅子上坐着一个老人. Sitting in a boat counts as
on it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise

from scoring.claims import Mention, Orders, Relations, Sides, Span, Told
from scoring.sentences import SENTENCE_END, describes, following, joined, subject

SIDE_ZH = r"(?P<where>(?P<side>[左右](?=[边侧面方])|中(?=[间央]))[边侧面方间央])"
WITHIN_ZH = r"(?:画面|图片|图像|照片|图)?的?"
AFTER_ZH = re.compile(rf"(?:在|位于|处于){WITHIN_ZH}{SIDE_ZH}")
BEFORE_ZH = re.compile(rf"(?:^|(?<=[，。；！？、,.;!?\n]))\s*在?{WITHIN_ZH}{SIDE_ZH}")
OF_ANOTHER_ZH = re.compile(r"们?(?:[都也正还])*(?:[站坐停]?在|位于)")
ANOTHERS_SIDE_ZH = re.compile(r"们?的(?P<where>(?P<side>[左右])[边侧面方])")
THERE_IS_ZH = re.compile(r"[还也正都]*(?:有|是|(?:[站坐停放飘挂飞躺]|出现)[着了]?|[可能]以?看[到见])")
END_ZH = re.compile(r"[，。；！？,.;!?\n]")

SIDE_EN = r"(?P<where>(?:on|in|at|to) the (?P<side>left|middle|cent(?:er|re)|right))\b"
PICTURE_EN = "(?:picture|image|photo|scene)"
AFTER_EN = re.compile(rf"{SIDE_EN}(?!(?: side)? of (?:an? |the (?!{PICTURE_EN})))", re.I)
BEFORE_EN = re.compile(
    rf"(?:^|(?<=[.;,!?\n]))\s*(?:and )?{SIDE_EN}(?: side)?(?: of the {PICTURE_EN})?"
    r"(?:,| (?:there|is|are|we|you)\b)",
    re.I,
)
DETERMINER_EN = r"(?:the|an?|one|two|three|some)(?: [\w-]+){0,2} "
OF_ANOTHER_EN = re.compile(
    rf"[^.;,!?\n]*?(?P<where>(?:to|on) the (?P<side>left|right))(?: side)? of {DETERMINER_EN}", re.I
)
BESIDE_ANOTHER_EN = re.compile(
    rf"(?:^|(?<=[.;,!?\n]))\s*(?:and )?(?P<where>(?:to|on) the (?P<side>left|right))(?: side)? of {DETERMINER_EN}$",
    re.I,
)
IN_A_ROW = re.compile(r"从(?P<first>[左右])[边往到至向]*[左右]|\bfrom (?P<start>left|right) to (?:left|right)\b", re.I)
END_EN = re.compile(r"[.;!?\n]")

SIDES = {"左": "left", "中": "middle", "右": "right", "left": "left", "right": "right"}

HEIGHT = re.compile(
    r"(?P<sky>天上|[夜天]空[中里]?|\b(?:in|across) the sky\b)|(?P<air>半?空中|\bin the air\b)"
    r"|(?P<distance>远处|远方|\bin the distance\b)",
    re.I,
)
OPENS_EN = re.compile(r"(?:^|[.;,!?\n])\s*(?:and |with )?(?:high )?$", re.I)

RIDING = re.compile(r"骑着?|\b(?:riding|rides?)\b", re.I)
HOLDING = re.compile(r"拿着?|举着|握着?|抱着|捧着?|\b(?:holding|holds?)\b", re.I)
ON_ZH = re.compile(r"在[^，。；！？,.;!?\n]{0,12}$")  # needs 上 after the noun
ON_EN = re.compile(r"\b(?:on|in) (?:the|an?|one|two|three)(?: [\w-]+){0,2} $", re.I)
BEARS = re.compile(r"上面?(?:还|也|正)?(?:坐|站|躺|趴|睡|放|摆|有|是)[着有]?")
OF_ITS_SUBJECT = re.compile(r"(?:上[^，。；！？,.;!?\n的]{0,6})?的")


def read_positions(text: str, mentions: Sequence[Mention]) -> tuple[Sides, Orders, Relations]:
    """All positions that the text states of its mentions, given in reading order."""
    sides, orders, relations = [], [], []
    for told in locate(text, mentions):
        if told.other is None:  # a side
            sides.append((told.mention.kind, told.value))
        elif told.name == "order":
            pair = (told.mention.kind, told.other.kind)
            orders.append(pair if told.value == "left" else pair[::-1])
        else:
            relations.append((told.mention.kind, told.value, told.other.kind))
    return tuple(sides), tuple(orders), tuple(relations)


def locate(text: str, mentions: Sequence[Mention]) -> list[Told]:
    """The sides, orders and relations that the text states of its mentions, given in reading order."""
    orders = list(_orders(text, mentions))
    others = {told.other.start for told in orders if told.other}
    return [*_sides(text, mentions, others), *orders, *_relations(text, mentions)]


def read_heights(text: str, plain: str, mentions: Sequence[Mention], objects: set[int]) -> Iterator[Told]:
    """Each statement that a thing is in the sky, in the air or in the distance.

    plain: the text with its nouns masked (太空中 is no 空中). objects: starts of nouns that these words do not refer
    to.
    """
    for found in HEIGHT.finditer(plain):
        for mention in _risen(text, mentions, objects, found):
            yield Told("height", str(found.lastgroup), mention, found.span())


def _risen(text: str, mentions: Sequence[Mention], objects: set[int], found: re.Match) -> Iterator[Mention]:
    chinese = not found[0].isascii()
    behind = following(text, mentions, found.end(), END_ZH if chinese else SENTENCE_END)
    between = text[found.end() : behind.start] if behind else ""
    there_is = THERE_IS_ZH.match(between)
    if behind and chinese and there_is and describes(between[there_is.end() :]):
        yield from joined(text, mentions, behind)
    elif behind and chinese and between.startswith("的") and describes(between[1:]):
        yield behind
    elif behind and not chinese and OPENS_EN.search(text, 0, found.start()):
        yield from joined(text, mentions, behind)
    else:
        before = subject(text, mentions, found.start(), objects)
        if before:
            yield before


def _orders(text: str, mentions: Sequence[Mention]) -> Iterator[Told]:
    """Each noun located relative to another: which side of the other it is on."""
    for number, (one, other) in enumerate(pairwise(mentions)):
        between = text[one.end : other.start]
        said = ANOTHERS_SIDE_ZH.match(text, other.end)
        starts = OF_ANOTHER_ZH.match(between)
        if said and starts and describes(between[starts.end() :]):
            yield _order(one, other, said)
        said = OF_ANOTHER_EN.fullmatch(text, one.end, other.start)
        if said:
            yield _order(one, other, said)
        said = ANOTHERS_SIDE_ZH.match(text, one.end)
        starts = said and THERE_IS_ZH.match(text, said.end())
        if said and starts and starts.end() <= other.start and describes(text[starts.end() : other.start]):
            yield _order(other, one, said)
        said = BESIDE_ANOTHER_EN.search(text[: one.start], mentions[number - 1].end if number else 0)
        if said and not END_EN.search(between):
            yield _order(other, one, said)
    for row in IN_A_ROW.finditer(text):
        first = following(text, mentions, row.end(), SENTENCE_END)
        for one, other in pairwise(joined(text, mentions, first) if first else ()):
            side = SIDES[(row["first"] or row["start"]).lower()]
            yield Told("order", side, one, (other.start, other.end), other)


def _order(one: Mention, other: Mention, said: re.Match) -> Told:
    return Told("order", SIDES[said["side"].lower()], one, said.span("where"), other)


def _sides(text: str, mentions: Sequence[Mention], others: set[int]) -> Iterator[Told]:
    """others: starts of the nouns that others are located by; they have no side of their own."""
    given: dict[int, re.Match] = {}  # start of a noun -> the side of the list that it is in
    for number, mention in enumerate(mentions):
        if mention.start in others:
            continue
        previous = mentions[number - 1].end if number else 0
        next_start = mentions[number + 1].start if number + 1 < len(mentions) else len(text)
        opening = _opening(text, previous, mention.start)
        if opening:
            given |= {other.start: opening for other in joined(text, mentions, mention)}
        own = _after_zh(text, mention.end, next_start) or _after_en(text, mention.end, next_start)
        found = (own if own and own.start() - mention.end < 4 else None) or given.get(mention.start) or own
        if found:
            yield Told("side", SIDES.get(found["side"].lower(), "middle"), mention, found.span("where"))


def _opening(text: str, start: int, stop: int) -> re.Match | None:
    """A side that opens the clause of the noun at `stop`, with no other noun between."""
    for before, end in ((BEFORE_ZH, END_ZH), (BEFORE_EN, END_EN)):
        *_, found = (None, *before.finditer(text, start, stop))
        if found and not end.search(text, found.end(), stop):
            return found
    return None


def _after_zh(text: str, start: int, stop: int) -> re.Match | None:
    """A Chinese side after the noun that ends at `start`, in its own sentence, that does not open the next clause."""
    end = SENTENCE_END.search(text, start, stop)
    found = AFTER_ZH.search(text, start, end.start() if end else stop)
    opens_next = found and END_ZH.search(text, start, found.start()) and not END_ZH.search(text, found.end(), stop)
    return None if opens_next and stop < len(text) else found


def _after_en(text: str, start: int, stop: int) -> re.Match | None:
    """An English side after the noun that ends at `start`, in its own sentence, that does not open the next clause."""
    end = END_EN.search(text, start, stop)
    stop = end.start() if end else stop
    found = AFTER_EN.search(text, start, stop)
    opens_next = found and any(match.end() >= found.end() for match in BEFORE_EN.finditer(text, start, stop))
    return None if opens_next else found


def _relations(text: str, mentions: Sequence[Mention]) -> Iterator[Told]:
    """Each relation stated; its `other` is what is ridden, held or stood on."""
    for number, thing in enumerate(mentions):
        previous = mentions[number - 1] if number else None
        following = mentions[number + 1] if number + 1 < len(mentions) else None
        start = previous.end if previous else 0
        *_, ended = (None, *SENTENCE_END.finditer(text, start, thing.start))
        if ended:
            previous, start = None, ended.end()
        behind = text[thing.end : following.start] if following else ""
        bears = BEARS.match(behind)
        if following and bears and describes(behind[bears.end() :]):
            yield Told("relation", "on", following, (thing.end, thing.end + 1), thing)
            continue
        found = _verb(text, start, thing)
        if not found:
            continue
        name, at = found
        led = OF_ITS_SUBJECT.match(behind)
        who = following if led and describes(behind[led.end() :]) else previous
        if who:
            yield Told("relation", name, who, at, thing)


def _verb(text: str, start: int, thing: Mention) -> tuple[str, Span] | None:
    """The relation stated by the text before a noun and right after it, and where."""
    for name, pattern in (("riding", RIDING), ("holding", HOLDING)):
        found = pattern.search(text, start, thing.start)
        if found:
            return name, found.span()
    between = text[start : thing.start]
    found = ON_EN.search(between)
    if found:
        return "on", (start + found.start(), start + found.start() + 2)
    if ON_ZH.search(between) and text.startswith("上", thing.end):
        return "on", (thing.end, thing.end + 1)
    return None
