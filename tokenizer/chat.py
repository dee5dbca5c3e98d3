"""Renders a conversation to token ids with the chat template of the tokenizer's folder (tokenizer/template.py).

Markers are inserted as ids and text is encoded as plain text: nothing a user types can become a marker or an image.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from tokenizer.tokenizer import Tokenizer

Piece = str | int | None  # a text, a marker's id, an image


@dataclass(frozen=True)
class Segment:
    """A span of a conversation that is supervised as a whole, or not at all."""

    ids: list[int]  # empty for an image: the caller inserts the image tokens
    supervised: bool
    image: bool = False


def render(tokenizer: Tokenizer, turns: Sequence[Any], for_generation: bool = False) -> list[Segment]:
    r"""The segments of a conversation; their ids, concatenated, are what the template gives.

    turns: objects with .role ("system", "user" or "assistant") and .parts: a str is text, else an image.
    The content and end marker of each answer are supervised, not the line break after it. For generation the
    last turn must be the user's: the result then ends with the opening of an answer.
    ValueError for no turns, an unknown role, or a system turn that is not the first, which templates would
    silently drop or refuse.

    An answer is encoded separately from the line break before it, as in generation. Tools that encode both in
    one go get other ids if an answer starts with white space that the vocabulary merges with "\n". Our
    vocabulary has no such merge, and Llama 3's template strips such white space.
    """
    _check(turns, for_generation)
    pieces = [(supervised, piece) for supervised, some in _spans(tokenizer, turns, for_generation) for piece in some]
    segments: list[Segment] = []
    for (supervised, image), run in groupby(pieces, key=lambda one: (one[0], one[1] is None)):
        if image:
            segments += [Segment([], supervised=False, image=True) for _ in run]
            continue
        ids: list[int] = []
        for kind, same in groupby((piece for _, piece in run), key=type):
            some: list = list(same)
            ids += tokenizer.encode("".join(some)) if kind is str else some
        if ids:
            segments.append(Segment(ids, supervised))
    return segments


def _spans(tokenizer: Tokenizer, turns: Sequence[Any], for_generation: bool) -> Iterator[tuple[bool, list[Piece]]]:
    """What the template writes, span by span: whether it is supervised, and its pieces."""
    template = tokenizer.template

    def markers(name: str) -> list[Piece]:
        return [tokenizer.special(name)] if name else []

    def opening(role: str) -> list[Piece]:
        return [*markers(template.start), role, *markers(template.after_role), template.gap]

    end = markers(template.end)
    yield False, markers(template.begin)
    if turns[0].role != "system" and template.default_system is not None:
        yield False, [*opening("system"), template.system_prefix + template.default_system, *end, template.after_end]
    for index, turn in enumerate(turns):
        content = [part if isinstance(part, str) else None for part in turn.parts]
        if template.trims:
            content = _trimmed(content)
        if turn.role == "assistant":
            yield False, [] if template.opens_answers else opening("assistant")
            yield True, [*content, *end]
            yield False, [template.after_end]
            continue
        prefix = template.system_prefix if turn.role == "system" else ""
        yield False, [*opening(turn.role), prefix, *content, *end, template.after_end]
        asks = template.opens_answers or (for_generation and index == len(turns) - 1)
        if turn.role == "user" and asks:
            yield False, opening("assistant")


def _trimmed(parts: Sequence[str | None]) -> list[str | None]:
    """The parts with white space stripped from both ends of the whole content."""
    kept = list(parts)
    for end, strip in ((0, str.lstrip), (-1, str.rstrip)):
        while kept and isinstance(part := kept[end], str):
            kept[end] = strip(part)
            if kept[end]:
                break
            del kept[end]
    return kept


def _check(turns: Sequence[Any], for_generation: bool) -> None:
    if not turns:
        raise ValueError("The conversation has no turns; expected at least one: give a user turn.")
    for index, turn in enumerate(turns):
        if turn.role not in ("system", "user", "assistant"):
            raise ValueError(
                f"Turn {index} has the role {turn.role!r}; expected 'system', 'user' or 'assistant': rename it."
            )
        if turn.role == "system" and index > 0:
            raise ValueError(
                f"Turn {index} is a system turn; only the first turn may be one: move it there, or make it a user turn."
            )
    if for_generation and turns[-1].role != "user":
        raise ValueError(
            f"The last turn is the {turns[-1].role}'s; an answer is generated to a user turn: end with one."
        )
