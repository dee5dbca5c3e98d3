"""Whether an answer to a question about a picture is correct: by its meaning, not its wording."""

from __future__ import annotations

import re
from collections.abc import Sequence

from scoring import answers
from scoring import lexicon as lex
from scoring.mentions import masked, read_caption

SIDES = {"left": "左|\\bleft\\b", "middle": "中间|中央|正中|\\b(?:middle|cent(?:er|re))\\b", "right": "右|\\bright\\b",
         "sky": "天上|天空|\\bsky\\b", "distance": "远处|\\bdistance\\b"}  # fmt: skip
ACTIONS = {
    "standing": "站|\\bstand", "walking": "散步|走|\\bwalk", "running": "跑|\\brun", "waving": "挥手|招手|\\bwav",
    "sitting": "坐|\\bs(?:it|at)", "reading": "看书|读书|\\bread", "floating": "漂|飘|\\bfloat",
    "dancing": "跳舞|\\bdanc",
    "jumping": "跳(?!舞)|\\bjump", "sleeping": "睡|\\bsle[ep]", "eating": "吃|\\beat",
    "flying": "飞|\\bfl(?:y|ies|ew)", "riding": "骑|\\brid", "holding": "拿|\\bhold",
}  # fmt: skip
NUMBERS = {**lex.NUMBERS_ZH, **lex.NUMBERS_EN}
COLOURS = {**lex.COLOURS_ZH, **lex.COLOURS_EN}
COLOUR_WORD = re.compile(f"{lex.any_of(lex.COLOURS_ZH)}|\\b{lex.any_of(lex.COLOURS_EN)}\\b", re.I)


def same_answer(answer: str, reference: str, question: str, kind: str) -> bool:
    """True if the answer means the same as the reference, in whatever words.

    kind: the question type, which selects what is compared. exists: yes or no. colour: the colours named. count: the
    number. where: places and sides. order: which is left of which. action: what is done, and the things besides those
    in the question. what: the things besides those in the question. The sets must be equal: one too many is as wrong as
    one too few. For another type, or a reference without such claims, the normalised texts must be equal.
    """
    told = claims(reference, question, kind)
    if not told:
        return answers.exact(answer, [reference])
    return claims(answer, question, kind) == told


def claims(text: str, question: str, kind: str) -> frozenset:
    """The claims of the text that matter for a question type."""
    if kind == "exists":
        return frozenset({answers.yes_or_no(text)} - {None})
    if kind == "colour":
        return frozenset(COLOURS[word.lower()] for word in COLOUR_WORD.findall(masked(text)))
    if kind == "count":
        return frozenset({_number(text)} - {None})
    asked = set(read_caption(question).kinds)
    said = read_caption(text)
    things = frozenset(said.kinds) - asked
    if kind == "what":
        return things
    if kind == "order":
        return frozenset(said.orders) or _order_of(text, read_caption(question).kinds)
    if kind == "where":
        return frozenset(said.places) | _named(text, SIDES)
    if kind == "action":
        return things | _named(text, ACTIONS)
    return frozenset()


def _order_of(text: str, kinds: Sequence[str]) -> frozenset[tuple[str, str]]:
    """The order that a bare side (左边) implies for the first of two kinds asked about: (left one, right one)."""
    sides = _named(text, SIDES) & {"left", "right"}
    if len(kinds) != 2 or len(sides) != 1:
        return frozenset()
    first, second = kinds
    return frozenset({(first, second) if "left" in sides else (second, first)})


def _named(text: str, patterns: dict[str, str]) -> frozenset[str]:
    plain = masked(text)
    return frozenset(name for name, pattern in patterns.items() if re.search(pattern, plain, re.I))


def _number(text: str) -> int | None:
    """The number of the first counted thing, or of a text that is only a number (2, two, 两只)."""
    counts = [mention.count for mention in read_caption(text).mentions if mention.count is not None]
    if counts:
        return counts[0]
    word = answers.normalise(text)
    bare = re.sub(f"{lex.any_of(lex.MEASURES_ZH)}$", "", word)
    for form in (word, bare):
        if form.isdecimal():
            return int(form)
        if form in NUMBERS:
            return NUMBERS[form]
    return None
