"""Which noun a word refers to: the nouns of its sentence and clause, in Chinese and English."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from scoring import mentions_en, mentions_zh
from scoring.claims import Mention

SENTENCE_END = re.compile(r"[。！？；.!?;\n]")
CLAUSE_END = re.compile(r"[，。！？；：,.!?;:\n]")


def lists(between: str) -> bool:
    """True if the text between two nouns only continues a list."""
    return mentions_zh.lists(between) or mentions_en.lists(between)


def describes(between: str) -> bool:
    """True if the text before a noun only describes it (colours, adjectives, a Chinese number), or is empty."""
    return mentions_zh.describes(between) or mentions_en.describes(between)


def subject(
    text: str, mentions: Sequence[Mention], position: int, objects: Iterable[int] = (), end: re.Pattern = SENTENCE_END
) -> Mention | None:
    """The last noun before a position in its sentence (or, with `end`, its clause) that starts at none of `objects`."""
    mention = next((one for one in reversed(mentions) if one.end <= position and one.start not in objects), None)
    return None if mention is None or end.search(text, mention.end, position) else mention


def following(text: str, mentions: Sequence[Mention], position: int, end: re.Pattern = CLAUSE_END) -> Mention | None:
    """The first noun after a position, in the same clause (or, with `end`, in the same sentence)."""
    mention = next((mention for mention in mentions if mention.start >= position), None)
    return None if mention is None or end.search(text, position, mention.start) else mention


def joined(text: str, mentions: Sequence[Mention], first: Mention) -> Iterator[Mention]:
    """The noun and those listed with it: of 一只小狗和两只猫咪 both."""
    yield first
    last = first
    for mention in mentions:
        if mention.start >= last.end:
            if not lists(text[last.end : mention.start]):
                return
            last = mention
            yield mention
