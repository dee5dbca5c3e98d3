"""A corpus to train a tokenizer on: python -m dataset.picturebook.corpus --scenes 2000 --out out/corpus.txt

One text per line, its words joined by U+001F: captions of all lengths, prompts, questions and answers in both languages
about scenes of the training split. The same on every machine.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator
from pathlib import Path

from dataset.picturebook.captions import LANGUAGES, caption
from dataset.picturebook.questions import questions
from dataset.picturebook.telling import LENGTHS
from dataset.picturebook.wordlist import lexicon, lexicon_en, words
from dataset.picturebook.world import make_scene

SEPARATOR = "\x1f"
QUESTIONS = 4  # per scene and language
REPEATS = 3  # of each single word: one that no caption uses must occur more than once to become a token
TEMPLATE = ("system", "user", "assistant", "You are a helpful assistant")


def texts(scenes: int) -> Iterator[str]:
    """The words themselves and the chat template's, then the texts of `scenes` training scenes."""
    for _ in range(REPEATS):
        yield from TEMPLATE
        yield from sorted(lexicon())
        for word in sorted(lexicon_en()):
            yield from (word, " " + word, word.capitalize())
    for index in range(scenes):
        scene = make_scene("train", index)
        rng = random.Random(f"corpus {index}")
        for language in LANGUAGES:
            for length in LENGTHS:
                yield rng.choice(LANGUAGES[language].PROMPTS[length])
                yield caption(scene, length, rng, language)
            for question in questions(scene, rng, language)[:QUESTIONS]:
                yield question.text
                yield question.answer


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--scenes", type=int, default=2000, help="training scenes (default: %(default)s)")
    parser.add_argument("--out", type=Path, required=True, help="output file")
    args = parser.parse_args(argv)
    if args.scenes < 1:
        parser.error(f"--scenes is {args.scenes}; expected 1 or more")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    lines = 0
    with args.out.open("w", encoding="utf-8", newline="\n") as file:
        for text in texts(args.scenes):
            file.write(SEPARATOR.join(words(text)) + "\n")
            lines += 1
    print(f"{args.out}: {lines} texts about {args.scenes} scenes")


if __name__ == "__main__":
    main()
