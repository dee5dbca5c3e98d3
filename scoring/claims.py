"""The types that a read caption is made of."""

from __future__ import annotations

from dataclasses import dataclass

# As often as each is said, in reading order.
Sides = tuple[tuple[str, str], ...]  # (kind, left | middle | right)
Orders = tuple[tuple[str, str], ...]  # (kind, kind): the first is said to be left of the second
Relations = tuple[tuple[str, str, str], ...]  # (kind, riding | holding | on, kind)
Span = tuple[int, int]  # text[start:end]


@dataclass(frozen=True)
class Mention:
    """One noun in the text, at text[start:end]."""

    kind: str
    start: int
    end: int
    colour: str | None = None
    count: int | None = None  # None: no number is given; 0: several, how many is not said
    colour_at: Span | None = None  # where the colour's word stands
    count_at: Span | None = None  # where the number's words stand; None too where a bare plural says several
    definite: bool = False  # speaks of something known: "the dog", 两只小狗都, a bare 小狗

    @property
    def at(self) -> Span:
        return self.start, self.end


@dataclass(frozen=True)
class Said:
    """All that one caption claims. `mentions` in reading order, a kind as often as it is named."""

    mentions: tuple[Mention, ...]
    places: tuple[str, ...]  # in order of first naming, each once
    sides: Sides = ()
    orders: Orders = ()
    relations: Relations = ()

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds mentioned, each once, in order of first mention."""
        return tuple(dict.fromkeys(mention.kind for mention in self.mentions))

    def colour(self, kind: str) -> str | None:
        """The first colour given to `kind`: naming one colour after another earns nothing."""
        return next((m.colour for m in self.mentions if m.kind == kind and m.colour), None)

    def count(self, kind: str) -> int | None:
        """The first number given to `kind`; 0 if only left open; None if nothing is said of its number."""
        counts = [m.count for m in self.mentions if m.kind == kind and m.count is not None]
        return next((count for count in counts if count), 0 if counts else None)


@dataclass(frozen=True)
class Told:
    """Something said of one mention, at text[at[0]:at[1]]."""

    name: str  # side | order | height | relation | action | size
    value: str  # left | middle | right; which side of the other; sky | air | distance; riding | holding | on; ...
    mention: Mention
    at: Span
    other: Mention | None = None  # of an order or a relation


@dataclass(frozen=True)
class Token:
    """A known word at text[start:end]: of a kind, of a place, or (both None) a trap."""

    start: int
    end: int
    kind: str | None = None
    place: str | None = None
    plural: bool = False
