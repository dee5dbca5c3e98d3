"""Parses Chinese captions: known words, negation, modifiers. Rules in scoring/mentions.py."""

from __future__ import annotations

import re

from scoring import lexicon as lex
from scoring.claims import Mention, Span, Token
from scoring.lexicon import any_of

CLAUSE = re.compile(r"[，。；！？：、,.;!?:\n]")
DENIED_UP_TO = re.compile(r"[，。；！？：,.;!?:\n]")  # a negated list continues after 、
LISTED = re.compile(r"们?(?:[、，,]|[、，]?(?:还有|以及|和|与|及))")
# Words that may stand between a negation and the noun it negates.
FILLERS = ("任何", "其他", "别的", "看到", "看见", "出现", "发现", "和", "或者", "或", "与", "、", "在", "有", "的")

_SHADE, _COLOUR, _ADJECTIVE = "[深浅淡亮暗]?", any_of(lex.COLOURS_ZH), any_of(lex.ADJECTIVES_ZH)
_NUMBER, _MEASURE = f"(?:{any_of(lex.NUMBERS_ZH)}|[0-9]+)", any_of((*lex.MEASURES_ZH, *lex.VAGUE_MEASURES_ZH))
_WEAR = "(?:身穿|身着|穿着|穿了|穿|披着)"
_CLOTHES = f"(?:一?[件条身套])?{_SHADE}(?P<colour>{_COLOUR})的?[一-鿿]{{0,2}}?{any_of(lex.GARMENTS_ZH)}"

WORD = re.compile(any_of((*lex.KIND_WORDS_ZH, *lex.PLACE_WORDS_ZH)))
NUMBER = re.compile(f"(?<!第)(?P<number>{_NUMBER})(?P<measure>{_MEASURE})")  # 两只
MODIFIER = re.compile(  # one of those that may stand between number and noun
    f"{_WEAR}?{_CLOTHES.replace('?P<colour>', '?:')}的?|{_SHADE}{_COLOUR}的?|{_ADJECTIVE}|的"
)
FILLER = re.compile(  # one of those that may stand between negation and noun
    f"{any_of((*lex.KIND_WORDS_ZH, *lex.COLOURS_ZH, *lex.ADJECTIVES_ZH, *FILLERS))}|{_NUMBER}|{_MEASURE}"
)
NEGATION = re.compile(any_of((*lex.NEGATIONS_ZH, "不在")))
# Before the noun, searched in the text that ends there: 棕色的, 穿红衣服的.
COLOUR = re.compile(f"{_SHADE}(?P<colour>{_COLOUR})的?(?:{_ADJECTIVE}的?)*$")
CLOTHES_BEFORE = re.compile(f"{_WEAR}?{_CLOTHES}的?(?:{_ADJECTIVE}的?)*$")
NOT_ITS_OWN = re.compile(f"{_COLOUR}(?:和|与|、)?$|不是$|非$")  # before a colour: one of two (黑白), or denied
# After it: 穿着红衣服, 是棕色的, 都 (两只小狗都).
CLOTHES_AFTER = re.compile(f"们?(?:都|正|也)?{_WEAR}{_CLOTHES}")
PREDICATE = re.compile(
    "们?(?:的(?:颜色|毛色|毛|身体|衣服|花瓣))?(?:都|也|全)?"
    f"(?:是|为|呈){_SHADE}(?P<colour>{_COLOUR})的?(?=$|[，。；！？、,.;!?\\s])"
)
ALL_OF_THEM = re.compile("们?都")


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
    return [
        Token(*match.span(), lex.KIND_WORDS_ZH.get(match[0]), place=lex.PLACE_WORDS_ZH.get(match[0]))
        for match in WORD.finditer(text)
    ]


def is_negated(text: str, token: Token) -> bool:
    """True if a negation precedes the word with nothing but its list and modifiers between."""
    before = DENIED_UP_TO.split(text[: token.start])[-1]
    return any(_only(FILLER, before[match.end() :]) for match in NEGATION.finditer(before))


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
        definite = count is None or ALL_OF_THEM.match(text, token.end) is not None
        mentions.append(Mention(token.kind, token.start, token.end, colour, count, colour_at, count_at, definite))
    return mentions


def lists(between: str) -> bool:
    """True if the text between two nouns only continues a list: 、一只棕色的, 和两位穿红衣服的."""
    begun = LISTED.match(between)
    return begun is not None and describes(between[begun.end() :])


def describes(between: str) -> bool:
    """True if the text may precede a noun in its phrase: number, colours, clothes, adjectives, or nothing."""
    counted = NUMBER.match(between)
    return _only(MODIFIER, between[counted.end() :] if counted else between)


def _count(text: str, token: Token, used: set[int]) -> tuple[int, Span] | None:
    """The number that counts this noun: before its modifiers, or before a relative clause that ends in 的."""
    begin = max((match.end() for match in CLAUSE.finditer(text, 0, token.start)), default=0)
    for match in reversed(list(NUMBER.finditer(text, begin, token.start))):
        between = text[match.end() : token.start]
        if match.start() in used:
            continue
        tail = between.rpartition("的")[2] if "的" in between else between
        if _only(MODIFIER, between) or _only(MODIFIER, tail):
            used.add(match.start())
            if match["measure"] in lex.VAGUE_MEASURES_ZH:
                return 0, match.span()
            number = match["number"]
            return int(number) if number.isdecimal() else lex.NUMBERS_ZH[number], match.span()
    return None


def _colour(text: str, last_end: int, token: Token, next_start: int) -> tuple[str, Span] | None:
    """The colour stated since the last known word, or right after the noun."""
    before, after = CLAUSE.split(text[last_end : token.start])[-1], text[token.end : next_start]
    begin = token.start - len(before)
    match = CLOTHES_BEFORE.search(before)
    if not match:
        match = COLOUR.search(before)
        if match and NOT_ITS_OWN.search(before[: match.start("colour")]):
            return None
    if not match:
        begin = token.end
        match = PREDICATE.match(after) or CLOTHES_AFTER.match(after)
    if not match:
        return None
    start, end = match.span("colour")
    return lex.COLOURS_ZH[match["colour"]], (begin + start, begin + end)
