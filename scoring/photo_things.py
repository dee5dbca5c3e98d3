"""What a caption of a photograph names that nobody saw who described it: CHAIR with human captions as the ground truth.

photo_things.tsv lists what is looked for, in English and Chinese, with the wider things that each is one of. A thing
that a caption names is absent if no reference names it, something wider (a person for a man) or something narrower.
People leave things out, so this overstates what is invented; one human against the others shows by how much.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from scoring.metrics import SampleScores

FILE = Path(__file__).with_name("photo_things.tsv")
WORD = re.compile(r"[a-z]+(?:-[a-z]+)*", re.I)
SALIENT = 2  # references that have to name a thing before a caption ought to


@dataclass(frozen=True)
class Things:
    """english, chinese: word -> the things it names; a Chinese word that only holds another names none."""

    english: dict[str, tuple[str, ...]]
    chinese: dict[str, tuple[str, ...]]
    related: dict[str, frozenset[str]]  # thing -> itself, what is wider and what is narrower
    pattern: re.Pattern[str]  # the longest Chinese word


@cache
def things() -> Things:
    """What photo_things.tsv lists."""
    english: dict[str, tuple[str, ...]] = {}
    chinese: dict[str, tuple[str, ...]] = {}
    wider: dict[str, list[str]] = {}
    with FILE.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            thing = row["thing"]
            for word in row["english"].split():
                for form in (word, f"{word}s", f"{word}es"):
                    english[form] = (*english.get(form, ()), thing)
            for word in row["chinese"].split():
                chinese[word] = (*chinese.get(word, ()), thing) if thing else ()
            if thing:
                wider[thing] = row["wider"].split()
    above = {thing: _above(thing, wider) for thing in wider}
    related = {thing: above[thing] | {other for other in wider if thing in above[other]} for thing in wider}
    pattern = re.compile("|".join(sorted(map(re.escape, chinese), key=len, reverse=True)))
    return Things(english, chinese, related, pattern)


def _above(thing: str, wider: dict[str, list[str]]) -> frozenset[str]:
    return frozenset({thing}).union(*(_above(one, wider) for one in wider[thing]))


def mentions(text: str) -> list[tuple[str, int, int]]:
    """(thing, start, end) of each word that names one, English words first."""
    known = things()
    english = ((known.english.get(match[0].lower(), ()), match) for match in WORD.finditer(text))
    chinese = ((known.chinese[match[0]], match) for match in known.pattern.finditer(text))
    return [(thing, *match.span()) for found, match in (*english, *chinese) for thing in found]


def named(text: str) -> list[str]:
    """The things that a caption names, each once, in order: "A man and his dog" -> ["man", "dog"]."""
    return list(dict.fromkeys(thing for thing, *_ in mentions(text)))


def photo_scores(text: str, references: Sequence[str]) -> SampleScores:
    """Scores of a caption by what the picture's references name (see the module's docstring):

    chair_i: absent things / things named. chair_s: captions with an absent thing / captions.
    recall: things that SALIENT references or more name and the caption does too, or something wider or narrower / such
    things. unscored_share: captions that name nothing known / captions.
    """
    found, absent, salient = judged(text, references)
    return {
        "chair_i": (sum(absent), len(found)),
        "chair_s": (float(any(absent)), 1),
        "recall": (covered(found, salient), len(salient)),
        "unscored_share": (float(not found), 1),
    }


def judged(text: str, references: Sequence[str]) -> tuple[list[str], list[bool], list[str]]:
    """The things that a caption names, whether each is absent, and the things that it ought to name."""
    found = named(text)
    seen = Counter(thing for reference in references for thing in named(reference))
    absent = [not covered([thing], seen) for thing in found]
    return found, absent, [thing for thing, count in seen.items() if count >= min(SALIENT, len(references))]


def covered(found: Collection[str], wanted: Iterable[str]) -> int:
    """How many of the wanted things are among those found, or something wider or narrower is."""
    related = things().related
    return sum(not related[thing].isdisjoint(found) for thing in wanted)
