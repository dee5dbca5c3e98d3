"""Parses English captions: known words, negation, modifiers. Rules in scoring/mentions.py."""

from __future__ import annotations

import re

from scoring import lexicon as lex
from scoring.claims import Mention, Span, Token
from scoring.lexicon import any_of

CLAUSE = re.compile(r"[.;:!?\n]|,? but ", re.I)
ANY_WORD = re.compile(r"[a-z0-9][a-z0-9'’-]*|,", re.I)
NEGATIONS = {*lex.NEGATIONS_EN, "can't", "cannot"}
DEFINITE = {"the", "this", "that", "these", "those", "both", "his", "her", "its", "their"}
# Words that may stand between a negation and the noun it negates.
FILLERS = {"a", "an", "any", "the", "other", "one", "single", "of", "or", "nor", "and", "there", "is", "are", "be",
              "see", "seen", "visible", "in", "on", "by", "at", ","}  # fmt: skip
NOUN_PARTS = {part for word in lex.KIND_WORDS_EN for part in word.split()}

_COLOURS, _NOUNS = any_of(lex.COLOURS_EN), any_of((*lex.KIND_WORDS_EN, *lex.PLACE_WORDS_EN))
_ADJECTIVES, _SHADE = f"(?:{any_of(lex.ADJECTIVES_EN)}\\s+)*", "(?:(?:dark|light|pale|bright|deep)[ -])?"
_WHO, _WEAR = "(?:,?\\s+(?:who|that|which))?", "(?:\\s+(?:dressed|clad))?\\s+(?:in|wearing|wears?)"
_PLAIN = f"(?!\\s+{_ADJECTIVES}{_NOUNS}\\b|\\s+and\\s+{_COLOURS}\\b)"

WORD = re.compile(f"(?<![\\w-]){_NOUNS}(?![\\w-])", re.I)  # a kind, a place or a trap
# After the noun: in red, who wears a red coat; is brown, that is brown.
WEARING = re.compile(
    f"{_WHO}(?:\\s+(?:is|are|was|were))?(?:\\s+\\w+ing)?(?:(?:{_WEAR}|\\s+with)(?:\\s+(?:an?|the|his|her|their))?"
    f"\\s+{_ADJECTIVES}{_SHADE}(?P<colour>{_COLOURS})\\s+{any_of(lex.GARMENTS_EN)}\\b"
    f"|{_WEAR}\\s+{_SHADE}(?P<bare>{_COLOURS})\\b{_PLAIN})",
    re.I,
)
PREDICATE = re.compile(
    f"{_WHO}\\s+(?:is|are|was|were|looks?)\\s+(?:all\\s+|both\\s+)?{_SHADE}(?P<colour>{_COLOURS})\\b{_PLAIN}", re.I
)


def tokens(text: str) -> list[Token]:
    found = [(match.span(), match[0].lower()) for match in WORD.finditer(text)]
    return [
        Token(*span, *lex.KIND_WORDS_EN.get(word, (None, False)), lex.PLACE_WORDS_EN.get(word)) for span, word in found
    ]


def _words_before(text: str, token: Token) -> list[tuple[str, Span]]:
    """The words (and commas) of the clause before the noun, in lower case, with their spans; the nearest first."""
    begin = max((match.end() for match in CLAUSE.finditer(text, 0, token.start)), default=0)
    found = list(ANY_WORD.finditer(text, begin, token.start))
    return [(match[0].lower().replace("’", "'"), match.span()) for match in reversed(found)]


def is_negated(text: str, token: Token) -> bool:
    """True if a negation precedes the word with nothing but its list and modifiers between."""
    for word, _ in _words_before(text, token):
        if word in NEGATIONS:
            return True
        if word not in FILLERS and word not in NOUN_PARTS and _colour_word(word) is None and not _is_adjective(word):
            return False
    return False


def read(text: str, tokens: list[Token]) -> list[Mention]:
    mentions = []
    for token in tokens:
        if token.kind is None:
            continue
        colours, count, count_at, definite = _modifiers(_words_before(text, token))
        colours = colours or _colours_after(text, token.end)
        colour, colour_at = colours[0] if len({name for name, _ in colours}) == 1 else (None, None)
        if count is None and token.plural:
            count = 0
        mentions.append(Mention(token.kind, token.start, token.end, colour, count, colour_at, count_at, definite))
    return mentions


def lists(between: str) -> bool:
    """True if the text between two nouns only continues a list: ", a brown ", " in red and two "."""
    if not re.match(r"\s*,|.*\band\b", between, re.I | re.S) or CLAUSE.search(between):
        return False
    words = [match[0].lower() for match in ANY_WORD.finditer(between)]
    known = {"in", "and", ",", "the", "of", "also", "wearing", *lex.NUMBERS_EN, *lex.GARMENTS_EN}
    return all(word in known or word.isdecimal() or _colour_word(word) or _is_adjective(word) for word in words)


def describes(between: str) -> bool:
    """True if the text may stand between an article and its noun: colours and adjectives, or nothing."""
    words = re.split(r"[\s,]+", between.lower().strip(" ,"))
    return all(not word or _colour_word(word) or _is_adjective(word) for word in words)


def _modifiers(words: list[tuple[str, Span]]) -> tuple[list[tuple[str, Span]], int | None, Span | None, bool]:
    """Colours, number and its span, and definiteness, of the noun phrase that ends with `words` (nearest first)."""
    colours: list[tuple[str, Span]] = []
    plain = [word for word, _ in words]
    for index, (word, span) in enumerate(words):
        before = plain[index + 1] if index + 1 < len(words) else ""
        phrase = " ".join(reversed(plain[index : index + 3]))  # "a couple of"
        if word.isdecimal() or phrase in lex.NUMBERS_EN or word in lex.NUMBERS_EN:
            length = len(phrase.split()) if phrase in lex.NUMBERS_EN else 1
            number = int(word) if word.isdecimal() else lex.NUMBERS_EN.get(phrase, lex.NUMBERS_EN.get(word))
            earlier = plain[index + length] if index + length < len(words) else ""
            at = words[index + length - 1][1][0], span[1]
            return colours, number, at, earlier in DEFINITE
        colour = _colour_word(word)
        if colour:
            colours.append((colour, span))
        elif word in ("and", ",") and colours and _colour_word(before):
            continue  # brown and white dog
        elif not (_is_adjective(word) or (word == "," and _is_adjective(before))):
            return colours, None, None, word in DEFINITE
    return colours, None, None, False


def _colour_word(word: str) -> str | None:
    """The colour of "red", "red-coloured" or "dark-red"."""
    stem = re.sub("-colou?red$", "", word)
    return lex.COLOURS_EN.get(re.sub("^(?:dark|light|pale|bright|deep)-", "", stem))


def _is_adjective(word: str) -> bool:
    return word in lex.ADJECTIVES_EN or word in ("dark", "light", "pale", "deep")


def _colours_after(text: str, end: int) -> list[tuple[str, Span]]:
    """The colour stated right after the noun, if there is one."""
    for pattern in (WEARING, PREDICATE):
        match = pattern.match(text, end)
        if match:
            name = str(match.lastgroup)  # colour, or bare
            return [(lex.COLOURS_EN[match[name].lower()], match.span(name))]
    return []
