"""English captions: known words, what is denied, and what modifies what. Rules in scoring/mentions.py."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

from scoring import lexicon as lex
from scoring.claims import Mention, Token
from scoring.lexicon import any_of

CLAUSE = re.compile(r"[.;:!?\n]|,? but ", re.I)
WORD = re.compile(r"[a-z0-9][a-z0-9'’-]*|,", re.I)
NEGATIONS = {*lex.NEGATIONS_EN, "can't", "cannot"}
# Words that may stand between a negation and the noun it denies.
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


def _words_before(text: str, token: Token) -> list[str]:
    """The words (and commas) of the clause before the noun, in lower case, the nearest first."""
    clause = CLAUSE.split(text[: token.start])[-1]
    return [word.lower().replace("’", "'") for word in reversed(WORD.findall(clause))]


def is_negated(text: str, token: Token) -> bool:
    """True where a negation comes before the word with nothing but its list and modifiers between."""
    known = {part for word in lex.kinds_en() for part in word.split()}
    for word in _words_before(text, token):
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
        colours, count = _modifiers(_words_before(text, token))
        if count is None and token.plural:
            count = 0
        if not colours:
            colours = _colours_after(text, token.end)
        colour = colours[0] if len(set(colours)) == 1 else None
        mentions.append(Mention(token.kind, token.start, token.end, colour, count))
    return mentions


def _modifiers(words: list[str]) -> tuple[list[str], int | None]:
    """The colours and the number in the noun phrase that ends with `words` (nearest first)."""
    colours: list[str] = []
    for index, word in enumerate(words):
        before = words[index + 1] if index + 1 < len(words) else ""
        phrase = " ".join(reversed(words[index : index + 3]))  # "a couple of"
        if word.isdecimal():
            return colours, int(word)
        if phrase in lex.NUMBERS_EN or word in lex.NUMBERS_EN:
            return colours, lex.NUMBERS_EN.get(phrase, lex.NUMBERS_EN.get(word))
        colour = _colour_word(word)
        if colour:
            colours.append(colour)
        elif word in ("and", ",") and colours and _colour_word(before):
            continue  # brown and white dog
        elif not (_is_adjective(word) or (word == "," and _is_adjective(before))):
            break
    return colours, None


def _colour_word(word: str) -> str | None:
    """The colour of "red", "red-coloured" or "dark-red"."""
    stem = re.sub("-colou?red$", "", word)
    return lex.colours_en().get(re.sub("^(?:dark|light|pale|bright|deep)-", "", stem))


def _is_adjective(word: str) -> bool:
    return word in lex.ADJECTIVES_EN or word in ("dark", "light", "pale", "deep")


def _colours_after(text: str, end: int) -> list[str]:
    """The colour that is said right after the noun, if one is."""
    for pattern in (_patterns().wearing, _patterns().predicate):
        match = pattern.match(text, end)
        if match:
            return [lex.colours_en()[match[match.lastgroup].lower()]]  # the group colour, or bare
    return []
