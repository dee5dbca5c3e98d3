"""Relations that a caption states: who rides, holds, or is on what.

Parsed from two nouns of one sentence with no third between, by the verb: 男人骑着马, 坐在椅子上, "the man is riding a
horse". In Chinese the subject may come last: 骑着马的男人, 椅子上坐着一个老人. Sitting in a boat counts as on it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from scoring.claims import Mention, Told
from scoring.sentences import SENTENCE_END, describes

RIDING = re.compile(r"骑着?|\b(?:riding|rides?)\b", re.I)
HOLDING = re.compile(r"拿着?|举着|握着?|抱着|捧着?|\b(?:holding|holds?)\b", re.I)
ON_ZH = re.compile(r"在[^，。；！？,.;!?\n]{0,12}$")  # needs 上 after the noun
ON_EN = re.compile(r"\b(?:on|in) (?:the|an?|one|two|three)(?: [\w-]+){0,2} $", re.I)
BEARS = re.compile(r"上面?(?:还|也|正)?(?:坐|站|躺|趴|睡|放|摆|有|是)[着有]?")
OF_ITS_SUBJECT = re.compile(r"(?:上[^，。；！？,.;!?\n的]{0,6})?的")


def read_relations(text: str, mentions: Sequence[Mention]) -> Iterator[Told]:
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


def _verb(text: str, start: int, thing: Mention) -> tuple[str, tuple[int, int]] | None:
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
