"""Word pictures: the contents of each cell of a scene in words, to train the language model without pixels.

A language model that is to read a projector's output must first have learned to read its context. So it is pretrained
on scenes whose image tokens are replaced by words: slot m of a 4x4 grid holds the words of what is in cell m, and the
input embedding there is the sum of theirs. They are words of the language that the model learns to write, of both if it
learns both: attention heads that look for matches of "dog" find " dog", not 小狗.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import torch

from dataset.batching import PictureLoader
from dataset.picturebook.captions import LANGUAGES
from dataset.picturebook.captions_zh import SIDES as SIDES_ZH
from dataset.picturebook.facts import ACTIONS_ZH, COLOURS, KINDS, PLACES, Box, Scene, Thing, shared_area
from dataset.record import Picture
from tokenizer.tokenizer import Tokenizer

JITTER = 0.04  # of the picture's side
GRID = 4  # cells per side: 16 slots, as many as the default projector has tokens
BAND = 2  # rows of cells that are read together, column by column: things are told from the air down, left to right
RELATIONS_ZH = {"riding": "骑", "on": "上", "holding": "拿"}


def languages_of(english: float) -> tuple[str, ...]:
    """The languages of texts of which this share is English."""
    return tuple(language for language, share in zip(LANGUAGES, (1 - english, english), strict=True) if share)


def word_picture(
    scene: Scene, rng: random.Random, languages: Sequence[str] = ("zh",), doubt: float = 0.0
) -> tuple[tuple[str, ...], ...]:
    """The words of each of the GRID x GRID cells, row by row, in each language; positions are jittered a little.

    A cell has the words of the thing that fills most of it, else of the place. Two things share a cell only if one of
    them has no other. doubt: the share of things that have the words of another kind, colour or number, too.
    """
    cells: list[list[str]] = [[] for _ in range(GRID * GRID)]
    for i, (thing, owned) in enumerate(zip(scene.things, cell_owners(scene, rng), strict=True)):
        relation = scene.relation.name if scene.relation and i == scene.relation.subject else None
        readings = [thing, mistaken(thing, rng)] if doubt and rng.random() < doubt else [thing]
        for cell in owned:
            cells[cell] += [word for language in languages for one in readings
                            for word in thing_words(one, language, relation)]  # fmt: skip
    background = tuple(place_word(scene.place, language) for language in languages)
    return tuple(tuple(dict.fromkeys(cell)) if cell else background for cell in cells)


def mistaken(thing: Thing, rng: random.Random) -> Thing:
    """The thing with another kind of its group, another colour, or two for three of it."""
    group = [kind.name for kind in KINDS.values() if kind.group == KINDS[thing.kind].group]
    others: dict[str, Sequence] = {"kind": group}
    if thing.colour:
        others["colour"] = tuple(COLOURS)
    if thing.count > 1:
        others["count"] = (2, 3)
    name = rng.choice(tuple(others))
    return replace(thing, **{name: rng.choice([value for value in others[name] if value != getattr(thing, name)])})


def thing_words(thing: Thing, language: str = "zh", relation: str | None = None) -> list[str]:
    """Kind, side, column, colour, number, action, and the relation that it is the subject of, as single words.

    English words have a leading space, as in text, and nouns come in singular and plural, as questions use both.
    """
    kind, column = KINDS[thing.kind], str(thing.column)
    number = LANGUAGES[language].NUMBERS[thing.count] if thing.count > 1 else None
    if language == "zh":
        words = [kind.zh, SIDES_ZH[thing.side], column, thing.colour and COLOURS[thing.colour].zh, number,
                 thing.action and ACTIONS_ZH[thing.action], relation and RELATIONS_ZH[relation]]  # fmt: skip
        return [word for word in words if word]
    words = [*dict.fromkeys((kind.en, kind.en_plural)), thing.side, thing.colour, number, thing.action, relation]
    return [column, *(f" {word}" for word in words if word)]


def place_word(place: str, language: str) -> str:
    return PLACES[place].zh_words[0] if language == "zh" else f" {PLACES[place].en_words[0]}"


def cell_owners(scene: Scene, rng: random.Random) -> list[list[int]]:
    """The cells that each thing owns: it fills a third of them or more, and more than any other thing.

    A thing without such a cell gets the one that it fills most, which it shares only with a thing that has no other.
    """
    filled = [_filled(box, rng) for box in boxes(scene)]  # (things, cells)
    owners: list[list[int]] = [[] for _ in filled]
    for cell in range(GRID * GRID):
        most = max(range(len(filled)), key=lambda i: filled[i][cell])
        if filled[most][cell] >= 0.33:
            owners[most].append(cell)
    for own, shares in zip(owners, filled, strict=True):
        if not own:
            best = max(range(GRID * GRID), key=shares.__getitem__)
            for other in owners:
                if best in other and len(other) > 1:
                    other.remove(best)
            own.append(best)
    return owners


def boxes(scene: Scene) -> list[Box]:
    """The box of each thing as drawn, roughly."""
    found = [thing.box for thing in scene.things]
    if scene.relation:
        one, other = scene.relation.subject, scene.relation.object
        subject, thing = scene.things[one], scene.things[other]
        if scene.relation.name == "holding":  # a held thing hangs above the raised hand
            ahead = -1 if subject.flip else 1
            low = max(thing.y - 0.85 * subject.height + 0.05, thing.height)
            found[one] = _moved(found[one], -0.07 * ahead, 0.0)
            found[other] = _moved(found[other], 0.05 * ahead, low - thing.y)
        else:  # a rider or sitter is drawn on top, at three quarters of its height
            left, _, right, _ = found[one]
            bottom = thing.y - 0.5 * thing.height
            found[one] = (left, max(bottom - 0.75 * subject.height, 0.0), right, bottom)
    return found


def _moved(box: Box, right: float, down: float) -> Box:
    return box[0] + right, box[1] + down, box[2] + right, box[3] + down


def _filled(box: Box, rng: random.Random) -> list[float]:
    """The fraction of each cell that the box fills, after jittering it by up to JITTER."""
    box = _moved(box, rng.uniform(-JITTER, JITTER), rng.uniform(-JITTER, JITTER))
    cells = [(x / GRID, y / GRID, (x + 1) / GRID, (y + 1) / GRID) for y in range(GRID) for x in range(GRID)]
    return [shared_area(box, cell) * GRID * GRID for cell in cells]


def word_loader(tokenizer: Tokenizer, english: float = 0.0, band: int = BAND, doubt: float = 0.0) -> PictureLoader:
    """A loader of word pictures: (P, 16, W) token ids of the words in each cell, padded with -1.

    english: share of English among the texts; with 0 the words are Chinese only, with 1 English only, else both.
    band: the cells come in bands of so many rows, each column by column, as the default projector's tokens do. A
    thing's last cell then nearly always comes after those of all things that a caption names before it. doubt: the
    share of things with two readings; the text has the right one, first as a guess and then for the model to repeat.
    """
    languages = languages_of(english)
    order = sorted(range(GRID * GRID), key=lambda i: (i // GRID // band, i % GRID, i))
    ids: dict[str, list[int]] = {}

    def load(pictures: Sequence[Picture]) -> dict[str, torch.Tensor]:
        scenes = []
        for picture in pictures:
            assert isinstance(picture, Scene)
            told = word_picture(picture, random.Random(f"words {picture.seed}"), languages, doubt)
            scenes.append([told[i] for i in order])
        cells = [[[t for word in cell for t in known(word)] for cell in scene] for scene in scenes]
        width = max(len(cell) for scene in cells for cell in scene)
        return {"words": torch.tensor([[c + [-1] * (width - len(c)) for c in scene] for scene in cells])}

    def known(word: str) -> list[int]:
        if word not in ids:
            ids[word] = tokenizer.encode(word)
        return ids[word]

    return load
