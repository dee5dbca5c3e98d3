"""A chat about one picture in the terminal."""

from __future__ import annotations

import io
import sys
from dataclasses import replace
from pathlib import Path

from dataset.bad_rows import BadRow
from dataset.pictures import open_picture
from dataset.record import IMAGE, Ask, Turn
from engine.inference import answer
from engine.looker import Looker, Watched
from tokenizer.tokenizer import TextStream


def chat(looker: Looker, file: Path) -> None:
    """Chat about one picture until an empty line, the end of input or Ctrl-C, which leaves with status 130.

    Typed text cannot forge an image marker; bytes that are not UTF-8 become U+FFFD, and what does not fit is left out.
    """
    open_picture(file)
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")
    watched = Watched(looker)
    loaded = watched.load([file])
    if file in watched.seen and watched.seen[file][1]:
        print(watched.seen[file][1])
    model, tokenizer = looker.trained.model, looker.trained.tokenizer
    turns: list[Turn] = []
    print("Ask about the picture; an empty line ends.")
    while True:
        try:
            text = input("you: ").strip()
        except EOFError:
            text = ""
            print()
        if not text:
            return
        turns.append(Turn("user", (text,) if turns else (IMAGE, "\n" + text)))
        stream = TextStream(tokenizer)
        show = lambda row, token, stream=stream: print(stream.push(token), end="", flush=True)  # noqa: E731
        decoding = replace(looker.decoding, seed=looker.decoding.seed + len(turns))
        print("🤖️: ", end="", flush=True)
        try:
            asks = [Ask(tuple(turns), (file,), str(file))]
            (made,) = answer(model, tokenizer, asks, lambda _: loaded, decoding, stream=show)
        except BadRow as error:
            print(f"({error}; the question is left out: ask a shorter one, or start again)")
            turns.pop()
            continue
        assert made is not None  # as no bad rows are collected
        print(stream.finish())
        turns.append(Turn("assistant", (made.text,)))
