"""Renders a conversation to token ids with the chat template of the tokenizer's folder (tokenizer/template.py).

Markers are inserted as ids and text is encoded as plain text: nothing a user types can become a marker or an image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tokenizer.template import DEFAULT_SYSTEM
from tokenizer.tokenizer import Tokenizer

__all__ = ["DEFAULT_SYSTEM", "Segment", "render"]


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
    template = tokenizer.template
    writer = _Writer(tokenizer)
    writer.marker(template.begin)
    if turns[0].role != "system" and template.default_system is not None:
        writer.turn("system", (template.system_prefix, template.default_system))
    for index, turn in enumerate(turns):
        parts = _trimmed(turn.parts) if template.trims else turn.parts
        if turn.role == "assistant":
            if not template.opens_answers:
                writer.opening("assistant")
            writer.answer(parts)
        elif turn.role == "system":
            writer.turn("system", (template.system_prefix, *parts))
        else:
            writer.turn("user", parts)
            if template.opens_answers or (for_generation and index == len(turns) - 1):
                writer.opening("assistant")
    writer.flush()
    return writer.segments


def _trimmed(parts: Sequence[Any]) -> list[Any]:
    """The parts with white space stripped from both ends of the whole content."""
    kept = list(parts)
    for end, strip in ((0, str.lstrip), (-1, str.rstrip)):
        while kept and isinstance(kept[end], str):
            kept[end] = strip(kept[end])
            if kept[end]:
                break
            del kept[end]
    return kept


class _Writer:
    """Collects text up to the next marker, image or end of a segment, then encodes it in one piece."""

    def __init__(self, tokenizer: Tokenizer):
        self.tokenizer = tokenizer
        self.template = tokenizer.template
        self.segments: list[Segment] = []
        self._ids: list[int] = []
        self._text = ""

    def text(self, text: str) -> None:
        self._text += text

    def marker(self, name: str) -> None:
        """Inserts a special token; nothing if the name is empty."""
        if name:
            self._encode()
            self._ids.append(self.tokenizer.special(name))

    def parts(self, parts: Sequence[Any], supervised: bool = False) -> None:
        for part in parts:
            if isinstance(part, str):
                self.text(part)
            else:
                self.flush(supervised)
                self.segments.append(Segment(ids=[], supervised=False, image=True))

    def opening(self, role: str) -> None:
        self.marker(self.template.start)
        self.text(role)
        self.marker(self.template.after_role)
        self.text(self.template.gap)

    def turn(self, role: str, parts: Sequence[Any]) -> None:
        self.opening(role)
        self.parts(parts)
        self.marker(self.template.end)
        self.text(self.template.after_end)

    def answer(self, parts: Sequence[Any]) -> None:
        self.flush()
        self.parts(parts, supervised=True)
        self.marker(self.template.end)
        self.flush(supervised=True)
        self.text(self.template.after_end)

    def flush(self, supervised: bool = False) -> None:
        """Ends the current segment, if it holds anything."""
        self._encode()
        if self._ids:
            self.segments.append(Segment(self._ids, supervised))
            self._ids = []

    def _encode(self) -> None:
        if self._text:
            self._ids += self.tokenizer.encode(self._text)
            self._text = ""


def _check(turns: Sequence[Any], for_generation: bool) -> None:
    if not turns:
        raise ValueError("The conversation has no turns; expected at least one: give a user turn.")
    for index, turn in enumerate(turns):
        if turn.role not in ("system", "user", "assistant"):
            raise ValueError(
                f"Turn {index} has the role {turn.role!r}; "
                f"expected 'system', 'user' or 'assistant': rename it."
            )
        if turn.role == "system" and index > 0:
            raise ValueError(
                f"Turn {index} is a system turn; only the first turn may be one: "
                f"move it there, or make it a user turn."
            )
    if for_generation and turns[-1].role != "user":
        raise ValueError(
            f"The last turn is the {turns[-1].role}'s; an answer is generated to a user turn: end with one."
        )
