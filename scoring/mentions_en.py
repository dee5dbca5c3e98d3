"""Parses English captions: known words, negation, modifiers. Rules in scoring/mentions.py."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

from scoring import lexicon as lex
from scoring.claims import Mention, Span, Token
from scoring.lexicon import any_of

CLAUSE = re.compile(r"[.;:!?\n]|,? but ", re.I)
WORD = re.compile(r"[a-z0-9][a-z0-9'’-]*|,", re.I)
NEGATIONS = {*lex.NEGATIONS_EN, "can't", "cannot"}
DEFINITE = {"the", "this", "that", "these", "those", "both", "his", "her", "its", "their"}
# Words that may stand between a negation and the noun it negates.
FILLERS = {"a", "an", "any", "the", "other", "one", "single", "of", "or", "nor", "and", "there", "is", "are", "be",
              "see", "seen", "visible", "in", "on", "by", "at", ","}  # fmt: skip


@dataclass(frozen=True)
class _Patterns:
    word: re.Pattern  # a kind, a place or a trap
    wearing: re.Pattern  # in red, who wears a red coat; after the noun
    predicate: re.Pattern  # is brown, that is brown; after the noun


@cache
def _patterns() -> _Patterns:
    colour, adjective = f"(?P<colour>{any_of(lex.colours_en())})", f"(?:{any_of(lex.ADJECTIVES_EN)}\\s+)*"
    shade = "(?:(?:dark|light|pale|bright|deep)[ -])?"
    noun = f"{adjective}{any_of((*lex.kinds_en(), *lex.places_en()))}\\b"
    who, verb = "(?:,?\\s+(?:who|that|which))?", "(?:\\s+(?:is|are|was|were))?"
    wear = "(?:\\s+(?:dressed|clad))?\\s+(?:in|wearing|wears?)"
    article = "(?:\\s+(?:an?|the|his|her|their))?"
    garment = f"\\s+{any_of(lex.GARMENTS_EN)}\\b"
    bare = f"(?P<bare>{any_of(lex.colours_en())})"
    plain = f"(?!\\s+{noun}|\\s+and\\s+{any_of(lex.colours_en())}\\b)"
    return _Patterns(
        word=re.compile(f"(?<![\\w-]){any_of((*lex.kinds_en(), *lex.places_en()))}(?![\\w-])", re.I),
        wearing=re.compile(
            f"{who}{verb}(?:\\s+\\w+ing)?(?:(?:{wear}|\\s+with){article}\\s+{adjective}{shade}{colour}{garment}"
            f"|{wear}\\s+{shade}{bare}\\b{plain})",
            re.I,
        ),
        predicate=re.compile(
            f"{who}\\s+(?:is|are|was|were|looks?)\\s+(?:all\\s+|both\\s+)?{shade}{colour}\\b{plain}", re.I
        ),
    )


def tokens(text: str) -> list[Token]:
    kinds, places = lex.kinds_en(), lex.places_en()
    tokens = []
    for match in _patterns().word.finditer(text):
        word = match[0].lower()
        kind, plural = kinds.get(word, (None, False))
        tokens.append(Token(match.start(), match.end(), kind, None if word in kinds else places[word], plural))
    return tokens


@dataclass(frozen=True)
class _Modifiers:
    """The modifiers before the noun of a noun phrase."""

    colours: tuple[tuple[str, Span], ...]
    count: int | None
    count_at: Span | None
    definite: bool


def _words_before(text: str, token: Token) -> list[tuple[str, Span]]:
    """The words (and commas) of the clause before the noun, in lower case, with their spans; the nearest first."""
    begin = max((match.end() for match in CLAUSE.finditer(text, 0, token.start)), default=0)
    found = [(match[0].lower().replace("’", "'"), match.span()) for match in WORD.finditer(text, begin, token.start)]
    return found[::-1]


def is_negated(text: str, token: Token) -> bool:
    """True if a negation precedes the word with nothing but its list and modifiers between."""
    known = {part for word in lex.kinds_en() for part in word.split()}
    for word, _ in _words_before(text, token):
        if word in NEGATIONS:
            return True
        if word not in FILLERS and word not in known and _colour_word(word) is None and not _is_adjective(word):
            return False
    return False


def read(text: str, tokens: list[Token]) -> list[Mention]:
    mentions = []
    for token in tokens:
        if token.kind is None:
            continue
        said = _modifiers(_words_before(text, token))
        colours = said.colours or _colours_after(text, token.end)
        colour, colour_at = colours[0] if len({name for name, _ in colours}) == 1 else (None, None)
        count = 0 if said.count is None and token.plural else said.count
        mentions.append(
            Mention(token.kind, token.start, token.end, colour, count, colour_at, said.count_at, said.definite)
        )
    return mentions


def lists(between: str) -> bool:
    """True if the text between two nouns only continues a list: ", a brown ", " in red and two "."""
    if not re.match(r"\s*,|.*\band\b", between, re.I | re.S) or CLAUSE.search(between):
        return False
    words = [match[0].lower() for match in WORD.finditer(between)]
    known = {"in", "and", ",", "the", "of", "also", "wearing", *lex.NUMBERS_EN, *lex.GARMENTS_EN}
    return all(word in known or word.isdecimal() or _colour_word(word) or _is_adjective(word) for word in words)


def describes(between: str) -> bool:
    """True if the text may stand between an article and its noun: colours and adjectives, or nothing."""
    words = re.split(r"[\s,]+", between.lower().strip(" ,"))
    return all(not word or _colour_word(word) or _is_adjective(word) for word in words)


def _modifiers(words: list[tuple[str, Span]]) -> _Modifiers:
    """The modifiers in the noun phrase that ends with `words` (nearest first)."""
    colours: list[tuple[str, Span]] = []
    plain = [word for word, _ in words]
    for index, (word, span) in enumerate(words):
        before = plain[index + 1] if index + 1 < len(words) else ""
        phrase = " ".join(reversed(plain[index : index + 3]))  # "a couple of"
        if word.isdecimal() or phrase in lex.NUMBERS_EN or word in lex.NUMBERS_EN:
            length = 3 if phrase in lex.NUMBERS_EN and " " in phrase else 1
            number = int(word) if word.isdecimal() else lex.NUMBERS_EN.get(phrase, lex.NUMBERS_EN.get(word))
            earlier = plain[index + length] if index + length < len(words) else ""
            at = words[index + length - 1][1][0], span[1]
            return _Modifiers(tuple(colours), number, at, earlier in DEFINITE)
        colour = _colour_word(word)
        if colour:
            colours.append((colour, span))
        elif word in ("and", ",") and colours and _colour_word(before):
            continue  # brown and white dog
        elif not (_is_adjective(word) or (word == "," and _is_adjective(before))):
            return _Modifiers(tuple(colours), None, None, word in DEFINITE)
    return _Modifiers(tuple(colours), None, None, False)


def _colour_word(word: str) -> str | None:
    """The colour of "red", "red-coloured" or "dark-red"."""
    stem = re.sub("-colou?red$", "", word)
    return lex.colours_en().get(re.sub("^(?:dark|light|pale|bright|deep)-", "", stem))


def _is_adjective(word: str) -> bool:
    return word in lex.ADJECTIVES_EN or word in ("dark", "light", "pale", "deep")


def _colours_after(text: str, end: int) -> tuple[tuple[str, Span], ...]:
    """The colour stated right after the noun, if there is one."""
    for pattern in (_patterns().wearing, _patterns().predicate):
        match = pattern.match(text, end)
        if match:
            name = str(match.lastgroup)  # colour, or bare
            return ((lex.colours_en()[match[name].lower()], match.span(name)),)
    return ()
