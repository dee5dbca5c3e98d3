"""A talk about one picture with one or two models: streamed answers, their speed, the words they consist of."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch

from dataset.bad_rows import BadRow
from dataset.picturebook.facts import Scene
from dataset.record import IMAGE, Ask, Picture, Turn
from engine.arguments import UsageError
from engine.attribution import blanked
from engine.finite import NotFiniteError
from engine.inference import Answer, Decoding, answer
from engine.looker import Looker, Watched
from tokenizer.tokenizer import TextStream, Tokenizer

EVERY = 0.05  # seconds between two states of an answer that is being made
CJK = "\u2e80"  # from here on a script without spaces
COMPUTING = threading.Lock()  # one answer or map at a time, so that a figure of speed is that of an idle machine


class Left(Exception):
    """Nobody waits for the answer any more."""


@dataclass(frozen=True)
class Word:
    """A word of an answer: text[start:end], which the token ids[first:last] say (with the space before it)."""

    start: int
    end: int
    first: int
    last: int


@dataclass
class Said:
    """One answer, whole or so far."""

    ask: Ask
    ids: list[int] = field(default_factory=list)
    text: str = ""
    waited: float = 0.0  # seconds for the answers of others
    first: float | None = None  # seconds from then to the first token, the picture's encoding included
    seconds: float = 0.0  # from then to the last token so far
    done: bool = False
    cut: bool = False  # by the limit of tokens
    stopped: bool = False  # by the visitor
    error: str = ""

    @property
    def rate(self) -> float | None:
        """Tokens a second after the first token; None for fewer than two."""
        if self.first is None or len(self.ids) < 2 or self.seconds <= self.first:
            return None
        return (len(self.ids) - 1) / (self.seconds - self.first)


@dataclass
class Side:
    """One of the models in a talk, with its own turns."""

    run: str
    turns: tuple[Turn, ...] = ()  # questions that were answered, and the answers
    said: list[Said] = field(default_factory=list)  # those that failed too
    loaded: Mapping[str, torch.Tensor] | None = None  # features or pixels of the picture
    note: str = ""  # a warning about the picture


@dataclass
class Talk:
    """What one visitor has asked about one picture."""

    picture: Picture | None = None
    scene: Scene | None = None  # its facts, where they are known
    name: str = ""
    sides: list[Side] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)


def reply(looker: Looker, side: Side, picture: Picture, prompt: str, decoding: Decoding) -> Iterator[Said]:
    """Ask one side and give its answer as it grows. Text cannot forge an image marker. What goes wrong is the answer's
    error; a question that failed, or whose answer nobody waited for, is no part of the turns."""
    turns = (*side.turns, Turn("user", (prompt,) if side.turns else (IMAGE, "\n" + prompt)))
    said = Said(Ask(turns, (picture,), side.run))
    side.said.append(said)

    def load() -> Mapping[str, torch.Tensor]:
        if side.loaded is None:
            watched = Watched(looker)
            side.loaded = watched.load([picture])
            side.note = watched.seen.get(picture, (0.0, ""))[1]
        return side.loaded

    made = yield from _Work(looker, said, load, replace(decoding, seed=decoding.seed + len(side.turns) // 2)).run()
    if made is not None:
        side.turns = (*turns, Turn("assistant", (made.text,)))


def blanked_reply(looker: Looker, ask: Ask, decoding: Decoding) -> Iterator[Said]:
    """The answer to an ask with its picture blanked, as it grows."""
    device = next(looker.trained.model.parameters()).device
    yield from _Work(looker, Said(ask), lambda: {"pixels": blanked(looker.trained).to(device)}, decoding).run()


class _Work:
    """An answer that is made in a thread of its own, which ends soon after nobody takes what it makes."""

    def __init__(self, looker: Looker, said: Said, load: Callable[[], Mapping[str, torch.Tensor]], decoding: Decoding):
        self.looker, self.said, self.load, self.decoding = looker, said, load, decoding
        self.tokens: queue.Queue[tuple[int, float] | None] = queue.Queue()
        self.left = threading.Event()
        self.made: Answer | BaseException | None = None
        self.began = 0.0

    def run(self) -> Generator[Said, None, Answer | None]:
        """The answer as it grows; returns it as inference makes it, None where it failed."""
        said, stream = self.said, TextStream(self.looker.trained.tokenizer)
        began = time.perf_counter()
        threading.Thread(target=self._run, daemon=True).start()
        try:
            yield said
            while (first := self.tokens.get()) is not None:
                for token, seconds in self._all(first):
                    said.ids.append(token)
                    said.text += stream.push(token)
                    said.first = seconds if said.first is None else said.first
                    said.seconds = seconds
                said.waited = self.began - began
                yield said
                time.sleep(EVERY)
        finally:
            self.left.set()
        said.text += stream.finish()
        said.done = True
        if isinstance(self.made, (BadRow, UsageError, NotFiniteError)):
            said.error = str(self.made)
        elif isinstance(self.made, BaseException):
            raise self.made
        said.cut = isinstance(self.made, Answer) and not self.made.stopped
        yield said
        return self.made if isinstance(self.made, Answer) else None

    def _all(self, first: tuple[int, float]) -> list[tuple[int, float]]:
        """What has been made by now; the end, if it is among it, is left for the next time."""
        found = [first]
        while not self.tokens.empty():
            item = self.tokens.get()
            if item is None:
                self.tokens.put(None)
                break
            found.append(item)
        return found

    def _run(self) -> None:
        model, tokenizer = self.looker.trained.model, self.looker.trained.tokenizer
        try:
            with COMPUTING:
                self.began = time.perf_counter()
                if not self.left.is_set():
                    loaded = self.load()
                    asks = [self.said.ask]
                    (self.made,) = answer(model, tokenizer, asks, lambda _: loaded, self.decoding, stream=self._take)
        except Left:
            pass
        except BaseException as error:  # raised where the answer is awaited
            self.made = error
        finally:
            self.tokens.put(None)

    def _take(self, row: int, token: int) -> None:
        if self.left.is_set() or self.said.stopped:
            raise Left
        self.tokens.put((token, time.perf_counter() - self.began))


def words_of(tokenizer: Tokenizer, ids: Sequence[int]) -> list[Word]:
    """The words of an answer in order: letters and digits that stand together; else what one or more tokens complete,
    in Chinese one to three characters."""
    stream = TextStream(tokenizer)
    words: list[Word] = []
    place = first = 0
    before = ""
    pieces = [stream.push(token) for token in ids]
    pieces[-1:] = [pieces[-1] + stream.finish()] if pieces else []
    for number, piece in enumerate(pieces):
        if not piece:
            continue
        text = piece.strip()
        start = place + len(piece) - len(piece.lstrip())
        if text and words and _joins(before, piece):
            words[-1] = Word(words[-1].start, start + len(text), words[-1].first, number + 1)
        elif text:
            words.append(Word(start, start + len(text), first, number + 1))
        place, first, before = place + len(piece), number + 1, piece
    return words


def _joins(before: str, piece: str) -> bool:
    """Whether a piece goes on with the word that the one before it ends with."""
    return all(edge.isalnum() and edge < CJK for edge in (before[-1:], piece[:1]))
