"""What a caption claims: the objects it mentions, the colour, number and side it gives each, the places it names.

Reading is by rule, in Chinese and English, the same for every caption:

- Of all known words at one spot the longest counts, so 熊猫 is no 猫 and "balloon" no "ball"; a longer word that is no
  object (马路, "bus stop") is known as a trap and counts for nothing; place words are places, never objects.
- A negated object (没有小狗, "no dogs") is not mentioned. Nor is a person's "he" or 它: only nouns count.
- A colour belongs to an object only where it modifies that noun (棕色的小狗, 穿红衣服的女人, "a woman in red") or is
  said of it in its own clause (小狗是棕色的, "the dog is brown"). Two colours on one noun (黑白相间, "brown and
  white") bind none.
- Sides, orders and relations are read as scoring/positions.py and scoring/relations.py say.
- A number belongs to an object where it counts that noun. 0 stands for a number left open: 几只, "some", a bare plural.
"""

from __future__ import annotations

from scoring import mentions_en, mentions_zh
from scoring.claims import Mention, Said, Token
from scoring.positions import read_positions

__all__ = ["Mention", "Said", "masked", "read_caption", "read_nouns"]


def read_caption(text: str) -> Said:
    """The claims of `text`, whose Chinese and English parts are each read by their own rules."""
    mentions, places = read_nouns(text)
    named = tuple(dict.fromkeys(token.place for token in places if token.place))
    return Said(mentions, named, *read_positions(text, mentions))


def read_nouns(text: str) -> tuple[tuple[Mention, ...], tuple[Token, ...]]:
    """The things that `text` mentions and the words that name its place, each in reading order."""
    mentions: list[Mention] = []
    places: list[Token] = []
    for language in (mentions_zh, mentions_en):
        tokens = [token for token in language.tokens(text) if not language.is_negated(text, token)]
        places += [token for token in tokens if token.place]
        mentions += language.read(text, tokens)
    return tuple(sorted(mentions, key=lambda m: m.start)), tuple(sorted(places, key=lambda token: token.start))


def masked(text: str) -> str:
    """The text with all known kinds and places blanked out, so that 飞机 is no flying and 白云 no white."""
    for language in (mentions_zh, mentions_en):
        for token in language.tokens(text):
            text = text[: token.start] + " " * (token.end - token.start) + text[token.end :]
    return text
