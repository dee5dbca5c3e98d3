"""The types of a parsed caption."""

from __future__ import annotations

from dataclasses import dataclass

# In reading order, with repeats.
Sides = tuple[tuple[str, str], ...]  # (kind, left | middle | right)
Orders = tuple[tuple[str, str], ...]  # (kind, kind): the first is left of the second
Relations = tuple[tuple[str, str, str], ...]  # (kind, riding | holding | on, kind)
Span = tuple[int, int]  # text[start:end]


@dataclass(frozen=True)
class Mention:
    """One referring noun, at text[start:end]."""

    kind: str
    start: int
    end: int
    colour: str | None = None
    count: int | None = None  # None: no number is given; 0: several, without a number
    colour_at: Span | None = None  # where the colour word is
    count_at: Span | None = None  # where the number is; None also if a bare plural says several
    definite: bool = False  # refers to something known: "the dog", 两只小狗都, a bare 小狗

    @property
    def at(self) -> Span:
        return self.start, self.end


@dataclass(frozen=True)
class Said:
    """All claims of one caption. `mentions` in reading order, with repeats."""

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

    def count(self, kind: str) -> int:
        """The first number given to `kind`; 0 if only indefinite; 1 without any, as a bare noun means one."""
        counts = [m.count for m in self.mentions if m.kind == kind and m.count is not None]
        return next((count for count in counts if count), 0 if counts else 1)


@dataclass(frozen=True)
class Told:
    """One claim about a mention, at text[at[0]:at[1]]."""

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
    plural: bool = False
    place: str | None = None
