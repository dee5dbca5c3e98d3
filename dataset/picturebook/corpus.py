"""A corpus to train a tokenizer on: python -m dataset.picturebook.corpus --scenes 2000 --out out/corpus.txt

One text per line, its words joined by U+001F, so that a tokenizer does not merge across words: captions of all lengths,
prompts, questions and answers in both languages about scenes of the training split. The same on every machine.
"""

from __future__ import annotations

import argparse
import random
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from dataset.picturebook.captions import LANGUAGES, caption
from dataset.picturebook.captions_en import NUMBERS as NUMBERS_EN
from dataset.picturebook.captions_zh import NUMBERS, SIDES
from dataset.picturebook.facts import ACTIONS_ZH, COLOURS, KINDS, PLACES
from dataset.picturebook.questions import questions
from dataset.picturebook.telling import LENGTHS
from dataset.picturebook.world import make_scene

SEPARATOR = "\x1f"
QUESTIONS = 4  # per scene and language
REPEATS = 3  # of each single word: one that no caption uses must occur more than once to become a token
TEMPLATE = ("system", "user", "assistant", "You are a helpful assistant")
LONGEST = 4  # Chinese characters of a word that is kept whole; longer ones are split
MORE_ZH = (
    "穿", "衣服", "衣服的", "正在", "也在", "画面", "图里", "天上", "远处", "空中", "还有", "可以看到",
    "太空中", "背景里", "长椅旁", "没有", "什么", "颜色", "骑着", "拿着", "坐在", "放在", "看起来", "位于",
    "高高", "温馨", "自然",
)  # fmt: skip


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


def words(text: str) -> list[str]:
    """Split a text into known words and what lies between them; joined, the pieces are the text again.

    The longest known word wins. English words and numbers are pieces with the space before them, punctuation marks are
    pieces of their own.
    """
    return _pattern().findall(text)


@cache
def lexicon() -> frozenset[str]:
    """All known Chinese words of at most LONGEST characters."""
    found = {*MORE_ZH, *ACTIONS_ZH.values(), *SIDES.values()}
    for kind in KINDS.values():
        found.update((kind.zh, *kind.zh_synonyms))
        found.update(number + kind.measure for number in (*NUMBERS.values(), "几"))
    for colour in COLOURS.values():
        found.update((colour.zh, colour.zh_short))
    for place in PLACES.values():
        found.update(place.zh_words)  # without 上 or 里, as other texts use them too
    return frozenset(word for word in found if len(word) <= LONGEST)


@cache
def lexicon_en() -> frozenset[str]:
    """All English words of the tables, as single words."""
    found = {*ACTIONS_ZH, *COLOURS, *NUMBERS_EN.values()}
    for kind in KINDS.values():
        found.update((kind.en, kind.en_plural, *kind.en_synonyms))
    for place in PLACES.values():
        found.update((place.en, *place.en_words))
    return frozenset(word for phrase in found for word in phrase.split())


@cache
def _pattern() -> re.Pattern[str]:
    known = "|".join(re.escape(word) for word in sorted(lexicon(), key=len, reverse=True))
    latin = r" ?[A-Za-z0-9']+"
    rest = rf"(?:(?!{known})[^\W A-Za-z0-9_])+"  # letters of other scripts up to the next known word
    return re.compile(rf"{known}|{latin}|{rest}| ?[^\w\s]|\s|.", re.DOTALL)


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
