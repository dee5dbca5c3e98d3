"""Self-contradictions of a caption, whatever the picture shows.

A caption contradicts itself if it
- puts a thing left or right of itself, or says that it rides, holds or is on itself;
- gives one kind two sides, two colours or two numbers ("some" is compatible with any but one);
- names a kind twice in the list of its first sentence;
- says that A is left of B and elsewhere that B is left of A, or gives them sides that imply it;
- opens with nothing but a list of things (as long captions do) and later mentions one that is not in the list as if it
  were known ("the cat", 猫咪在…), in a sentence that does not mark it as added (还有, "also").
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from scoring.sentences import SENTENCE_END
from scoring.statements import Statement, read_statements

SINGLE = ("side", "colour", "number")  # attributes of which a kind has one value
RANK = {"left": 0, "middle": 1, "right": 2}
ADDS = re.compile(r"还|另外|此外|也有|\b(?:also|another|besides|too|as well|in addition)\b", re.I)


def contradictions(text: str) -> tuple[str, ...]:
    """One line per contradiction, in English; () if the caption is consistent."""
    said = read_statements(text)
    of_itself = [f"{one.about}: {one.value} {'of ' if one.type == 'order' else ''}itself"
                 for one in said if one.other == one.about]  # fmt: skip
    return tuple(dict.fromkeys([*of_itself, *_two_of_one(said), *_orders(said), *_unlisted(text, said)]))


def _two_of_one(said: Sequence[Statement]) -> Iterator[str]:
    for kind in dict.fromkeys(one.about for one in said):
        for name in SINGLE:
            values = list(dict.fromkeys(one.value for one in said if one.type == name and one.about == kind))
            if name == "number" and 1 not in values:
                values = [value for value in values if value != 0]
            if len(values) > 1:
                yield f"{kind}: {' and '.join('several' if value == 0 else str(value) for value in values)}"


def _orders(said: Sequence[Statement]) -> Iterator[str]:
    sides = {one.about: RANK[str(one.value)] for one in reversed(said) if one.type == "side"}
    pairs = [
        (one.about, str(one.other)) if one.value == "left" else (str(one.other), one.about)
        for one in said
        if one.type == "order" and one.about != one.other
    ]
    for left, right in pairs:
        crossed = left in sides and right in sides and sides[left] > sides[right]
        if crossed or (right, left) in pairs:
            yield f"{left} and {right}: each left of the other"


def _unlisted(text: str, said: Sequence[Statement]) -> Iterator[str]:
    end = SENTENCE_END.search(text)
    if not end:
        return
    first = [one for one in said if one.start < end.start()]
    listed = [one.about for one in first if one.type == "thing" and one.anew]
    for kind in dict.fromkeys(kind for kind in listed if listed.count(kind) > 1):
        yield f"{kind}: listed twice"
    if not listed or any(one.type in ("side", "height", "order", "relation", "action") for one in first):
        return
    known = set(listed)
    for one in said:
        if one.type != "thing" or one.about in known:
            continue
        if one.value == "a":
            known.add(one.about)
        else:
            *_, begin = (0, *(match.end() for match in SENTENCE_END.finditer(text, 0, one.start)))
            if not ADDS.search(text, begin, one.start):
                yield f"{one.about}: not in the list that the caption opens with"
