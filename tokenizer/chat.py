r"""A conversation as token ids, by MiniMind2's chat template.

    <|im_start|>system\nYou are a helpful assistant<|im_end|>\n        (or the conversation's own system turn)
    <|im_start|>user\nWHAT IS ASKED<|im_end|>\n<|im_start|>assistant\n     for each user turn
    THE ANSWER<|im_end|>\n                                                 for each assistant turn

Markers are placed as ids and text is encoded as text: what a user types cannot become a marker or an image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tokenizer.tokenizer import Tokenizer

DEFAULT_SYSTEM = "You are a helpful assistant"


@dataclass(frozen=True)
class Segment:
    """A stretch of a conversation that is learned from as a whole, or not at all."""

    ids: list[int]  # empty for an image: the caller puts the image's tokens here
    supervised: bool
    image: bool = False


def render(tokenizer: Tokenizer, turns: Sequence[Any], for_generation: bool = False) -> list[Segment]:
    r"""The segments of a conversation; their ids in order are what the template gives.

    turns: objects with .role ("system", "user" or "assistant") and .parts: a str is text, else an image.
    Supervised are an answer's content and its <|im_end|>, not the line break after it. For generation the
    last turn must be the user's: the result then ends after "<|im_start|>assistant\n".
    Raises ValueError for no turns, an unknown role, and a system turn that is not the first, which the
    template would silently drop.

    An answer is encoded apart from the "assistant\n" before it, as generation meets it. A tool that encodes
    both in one go gets other ids where an answer starts with white space that the vocabulary merges with
    "\n". Our vocabulary has no such merge.
    """
    _check(turns, for_generation)
    writer = _Writer(tokenizer)
    if turns[0].role != "system":
        writer.opening("system", (DEFAULT_SYSTEM,))
        writer.closing()
    for turn in turns:
        if turn.role == "assistant":
            writer.flush()
            writer.parts(turn.parts, supervised=True)
            writer.marker(tokenizer.end_id)
            writer.flush(supervised=True)
            writer.text("\n")
        else:
            writer.opening(turn.role, turn.parts)
            writer.closing()
        if turn.role == "user":
            writer.opening("assistant", ())
    writer.flush()
    return writer.segments


class _Writer:
    """Collects text until a marker, an image or a segment's end, then encodes it in one piece."""

    def __init__(self, tokenizer: Tokenizer):
        self.tokenizer = tokenizer
        self.segments: list[Segment] = []
        self._ids: list[int] = []
        self._text = ""

    def text(self, text: str) -> None:
        self._text += text

    def marker(self, token: int) -> None:
        self._encode()
        self._ids.append(token)

    def parts(self, parts: Sequence[Any], supervised: bool = False) -> None:
        for part in parts:
            if isinstance(part, str):
                self.text(part)
            else:
                self.flush(supervised)
                self.segments.append(Segment(ids=[], supervised=False, image=True))

    def opening(self, role: str, parts: Sequence[Any]) -> None:
        self.marker(self.tokenizer.start_id)
        self.text(role + "\n")
        self.parts(parts)

    def closing(self) -> None:
        self.marker(self.tokenizer.end_id)
        self.text("\n")

    def flush(self, supervised: bool = False) -> None:
        """Ends the segment under way, if it holds anything."""
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
