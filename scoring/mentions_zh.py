"""Parses Chinese captions: known words, negation, modifiers. Rules in scoring/mentions.py."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

from scoring import lexicon as lex
from scoring.claims import Mention, Span, Token
from scoring.lexicon import any_of

CLAUSE = re.compile(r"[，。；！？：、,.;!?:\n]")
DENIED_UP_TO = re.compile(r"[，。；！？：,.;!?:\n]")  # a negated list continues after 、
LISTED = re.compile(r"们?(?:[、，,]|[、，]?(?:还有|以及|和|与|及))")
# Words that may stand between a negation and the noun it negates.
FILLERS = ("任何", "其他", "别的", "看到", "看见", "出现", "发现", "和", "或者", "或", "与", "、", "在", "有", "的")


@dataclass(frozen=True)
class _Patterns:
    word: re.Pattern  # a kind, a place or a trap
    number: re.Pattern  # 两只
    modifier: re.Pattern  # one of those that may stand between number and noun
    filler: re.Pattern  # one of those that may stand between negation and noun
    negation: re.Pattern
    colour: re.Pattern  # 棕色的, before the noun
    clothes_before: re.Pattern  # 穿红衣服的, before the noun
    clothes_after: re.Pattern  # 穿着红衣服, after it
    predicate: re.Pattern  # 是棕色的, after it
    all_of_them: re.Pattern  # 都, after it: 两只小狗都


@cache
def _patterns() -> _Patterns:
    """All Chinese patterns, compiled at first use. Those ending in $ are searched in the text before a noun."""
    shade, adjective, colour = "[深浅淡亮暗]?", f"(?:{any_of(lex.ADJECTIVES_ZH)}的?)*", any_of(lex.colours_zh())
    number = f"(?:{any_of(lex.NUMBERS_ZH)}|[0-9]+)"
    measure = any_of((*lex.measures_zh(), *lex.VAGUE_MEASURES_ZH))
    piece = "(?:一?[件条身套])?"
    clothes = f"{piece}{shade}(?P<colour>{colour})的?[一-鿿]{{0,2}}?{any_of(lex.GARMENTS_ZH)}"
    bare_clothes = clothes.replace("?P<colour>", "?:")
    wear = "(?:身穿|身着|穿着|穿了|穿|披着)"
    listed = any_of((*lex.kinds_zh(), *lex.colours_zh(), *lex.ADJECTIVES_ZH, *FILLERS))
    return _Patterns(
        word=re.compile(any_of((*lex.kinds_zh(), *lex.places_zh()))),
        number=re.compile(f"(?<!第)(?P<number>{number})(?P<measure>{measure})"),
        modifier=re.compile(f"{wear}?{bare_clothes}的?|{shade}{colour}的?|{any_of(lex.ADJECTIVES_ZH)}|的"),
        filler=re.compile(f"{listed}|{number}|{measure}"),
        negation=re.compile(any_of((*lex.NEGATIONS_ZH, "不在"))),
        colour=re.compile(f"{shade}(?P<colour>{colour})的?{adjective}$"),
        clothes_before=re.compile(f"{wear}?{clothes}的?{adjective}$"),
        clothes_after=re.compile(f"们?(?:都|正|也)?{wear}{clothes}"),
        predicate=re.compile(f"们?(?:的(?:颜色|毛色|毛|身体|衣服|花瓣))?(?:都|也|全)?(?:是|为|呈){shade}(?P<colour>{colour})的?"
                             "(?=$|[，。；！？、,.;!?\\s])"),
        all_of_them=re.compile("们?都"),
    )  # fmt: skip


def _only(pattern: re.Pattern, text: str) -> bool:
    """True if the text is nothing but matches of the pattern, taken greedily, so in linear time."""
    position = 0
    while position < len(text):
        match = pattern.match(text, position)
        if not match:
            return False
        position = match.end()
    return True


def tokens(text: str) -> list[Token]:
    kinds, places = lex.kinds_zh(), lex.places_zh()
    return [
        Token(match.start(), match.end(), kinds.get(match[0]), None if match[0] in kinds else places[match[0]])
        for match in _patterns().word.finditer(text)
    ]


def is_negated(text: str, token: Token) -> bool:
    """True if a negation precedes the word with nothing but its list and modifiers between."""
    before, patterns = DENIED_UP_TO.split(text[: token.start])[-1], _patterns()
    return any(_only(patterns.filler, before[match.end() :]) for match in patterns.negation.finditer(before))


def read(text: str, tokens: list[Token]) -> list[Mention]:
    mentions: list[Mention] = []
    used: set[int] = set()  # where numbers stand that count an earlier noun
    for index, token in enumerate(tokens):
        count, count_at = _count(text, token, used) or (None, None)
        if token.kind is None:
            continue
        last_end = tokens[index - 1].end if index else 0
        next_start = tokens[index + 1].start if index + 1 < len(tokens) else len(text)
        colour, colour_at = _colour(text, last_end, token, next_start) or (None, None)
        definite = count is None or _patterns().all_of_them.match(text, token.end) is not None
        mentions.append(Mention(token.kind, token.start, token.end, colour, count, colour_at, count_at, definite))
    return mentions


def lists(between: str) -> bool:
    """True if the text between two nouns only continues a list: 、一只棕色的, 和两位穿红衣服的."""
    begun = LISTED.match(between)
    return begun is not None and describes(between[begun.end() :])


def describes(between: str) -> bool:
    """True if the text may precede a noun in its phrase: number, colours, clothes, adjectives, or nothing."""
    counted = _patterns().number.match(between)
    return _only(_patterns().modifier, between[counted.end() :] if counted else between)


def _count(text: str, token: Token, used: set[int]) -> tuple[int, Span] | None:
    """The number that counts this noun: before its modifiers, or before a relative clause that ends in 的."""
    begin = max((match.end() for match in CLAUSE.finditer(text, 0, token.start)), default=0)
    for match in reversed(list(_patterns().number.finditer(text, begin, token.start))):
        between = text[match.end() : token.start]
        if match.start() in used:
            continue
        tail = between.rpartition("的")[2] if "的" in between else between
        if _only(_patterns().modifier, between) or _only(_patterns().modifier, tail):
            used.add(match.start())
            if match["measure"] in lex.VAGUE_MEASURES_ZH:
                return 0, match.span()
            number = match["number"]
            return int(number) if number.isdecimal() else lex.NUMBERS_ZH[number], match.span()
    return None


def _colour(text: str, last_end: int, token: Token, next_start: int) -> tuple[str, Span] | None:
    """The colour stated since the last known word, or right after the noun."""
    before, after = CLAUSE.split(text[last_end : token.start])[-1], text[token.end : next_start]
    patterns, colours = _patterns(), lex.colours_zh()
    begin = token.start - len(before)
    match = patterns.clothes_before.search(before)
    if not match:
        match = patterns.colour.search(before)
        if match:
            mixed = re.search(f"{any_of(colours)}(?:和|与|、)?$", before[: match.start("colour")])
            if mixed or re.search("不是$|非$", before[: match.start("colour")]):
                return None
    if not match:
        begin = token.end
        match = patterns.predicate.match(after) or patterns.clothes_after.match(after)
    if not match:
        return None
    start, end = match.span("colour")
    return colours[match["colour"]], (begin + start, begin + end)
