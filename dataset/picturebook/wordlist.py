"""Pre-tokenisation by the picture book's vocabulary, so that a tokenizer does not merge across words."""

from __future__ import annotations

import re
from functools import cache

from dataset.picturebook.captions_en import NUMBERS as NUMBERS_EN
from dataset.picturebook.captions_zh import NUMBERS, SIDES
from dataset.picturebook.facts import ACTIONS_ZH, COLOURS, KINDS, PLACES

LONGEST = 4  # Chinese characters of a word that is kept whole; longer ones are split
MORE_ZH = (
    "穿", "衣服", "衣服的", "正在", "也在", "画面", "图里", "天上", "远处", "空中", "还有", "可以看到",
    "太空中", "背景里", "长椅旁", "没有", "什么", "颜色", "骑着", "拿着", "坐在", "放在", "看起来", "位于",
    "高高", "温馨", "自然",
)  # fmt: skip


def words(text: str) -> list[str]:
    """Split a text into known words and what lies between them; joined, the pieces are the text again.

    The longest known word wins. English words and numbers are pieces with the space before them, punctuation marks are
    pieces of their own.
    """
    return _pattern().findall(text)


@cache
def lexicon() -> frozenset[str]:
    """All known Chinese words of at most LONGEST characters."""
    found = {*MORE_ZH, *ACTIONS_ZH.values(), *SIDES.values()}
    for kind in KINDS.values():
        found.update((kind.zh, *kind.zh_synonyms))
        found.update(number + kind.measure for number in (*NUMBERS.values(), "几"))
    for colour in COLOURS.values():
        found.update((colour.zh, colour.zh_short))
    for place in PLACES.values():
        found.update(place.zh_words)  # without 上 or 里, as other texts use them too
    return frozenset(word for word in found if len(word) <= LONGEST)


@cache
def lexicon_en() -> frozenset[str]:
    """All English words of the tables, as single words."""
    found = {*ACTIONS_ZH, *COLOURS, *NUMBERS_EN.values()}
    for kind in KINDS.values():
        found.update((kind.en, kind.en_plural, *kind.en_synonyms))
    for place in PLACES.values():
        found.update((place.en, *place.en_words))
    return frozenset(word for phrase in found for word in phrase.split())


@cache
def _pattern() -> re.Pattern[str]:
    known = "|".join(re.escape(word) for word in sorted(lexicon(), key=len, reverse=True))
    latin = r" ?[A-Za-z0-9']+"
    rest = rf"(?:(?!{known})[^\W A-Za-z0-9_])+"  # letters of other scripts up to the next known word
    return re.compile(rf"{known}|{latin}|{rest}| ?[^\w\s]|\s|.", re.DOTALL)
