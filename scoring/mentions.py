"""Parses the claims of a caption: the objects mentioned, the colour, number and side of each, the places named.

The rules, in Chinese and English, are the same for every caption:

- At each position the longest known word wins, so 熊猫 is no 猫 and "balloon" no "ball"; a longer word that is no
  object (马路, "bus stop") is a trap and counts for nothing; place words are places, never objects.
- A negated object (没有小狗, "no dogs") is not mentioned. Nor is a pronoun ("he", 它): only nouns count.
- A colour binds to an object only if it modifies that noun (棕色的小狗, 穿红衣服的女人, "a woman in red") or is its
  predicate in the same clause (小狗是棕色的, "the dog is brown"). Two colours on one noun (黑白相间, "brown and white")
  bind none.
- Sides, orders and relations: see scoring/positions.py.
- A number binds to the noun that it counts. 0 is an indefinite number: 几只, "some", a bare plural.
"""

from __future__ import annotations

from scoring import mentions_en, mentions_zh
from scoring.claims import Mention, Said, Token
from scoring.positions import read_positions


def read_caption(text: str) -> Said:
    """The claims of `text`, whose Chinese and English parts are parsed by their own rules."""
    mentions, places = read_nouns(text)
    named = tuple(dict.fromkeys(token.place for token in places if token.place))
    return Said(mentions, named, *read_positions(text, mentions))


def read_nouns(text: str) -> tuple[tuple[Mention, ...], tuple[Token, ...]]:
    """The objects that `text` mentions and the words that name its place, each in reading order."""
    mentions: list[Mention] = []
    places: list[Token] = []
    for language in (mentions_zh, mentions_en):
        tokens = [token for token in language.tokens(text) if not language.is_negated(text, token)]
        places += [token for token in tokens if token.place]
        mentions += language.read(text, tokens)
    return tuple(sorted(mentions, key=lambda m: m.start)), tuple(sorted(places, key=lambda token: token.start))


def masked(text: str) -> str:
    """The text with all known kinds and places blanked out, so that 飞机 is not flying and 白云 not white."""
    for language in (mentions_zh, mentions_en):
        for token in language.tokens(text):
            text = text[: token.start] + " " * (token.end - token.start) + text[token.end :]
    return text
