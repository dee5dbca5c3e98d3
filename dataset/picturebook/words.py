"""Word pictures: what lies in each cell of a scene, said in words, for language training without pixels.

A language model that is later to read a projector's output must have learned to read its context. So it is
trained on scenes whose picture tokens are replaced by words: slot m of a 4x4 raster holds the words of what lies
in cell m, and the model's input there is the sum of their embeddings. The words are Chinese whatever the language
of the answer, as a picture has no language.
"""

from __future__ import annotations

import random

from dataset.picturebook.facts import ACTIONS_ZH, COLOURS, KINDS, PLACES, Scene, Thing

GRID = 4  # cells along a side: 16 slots, as many as the default projector makes of a picture
COUNTS_ZH = {1: "一", 2: "两", 3: "三"}
RELATIONS_ZH = {"riding": "骑", "on": "上", "holding": "拿"}
SIDES_ZH = {"left": "左边", "middle": "中间", "right": "右边"}
SIZES_ZH = {"small": "小", "large": "大"}


def word_picture(scene: Scene, rng: random.Random) -> tuple[tuple[str, ...], ...]:
    """The words of each of the GRID x GRID cells, row by row; places jitter and now and then a word is missing.

    A cell's words are those of the things that lie in it, else of the place. What a thing does not say by its
    words (which of two things is red, when they share a cell) is as uncertain here as in a real picture's features.
    """
    cells: list[list[str]] = [[] for _ in range(GRID * GRID)]
    for i, thing in enumerate(scene.things):
        words = thing_words(thing)
        if scene.relation and i == scene.relation.subject:
            words.append(RELATIONS_ZH[scene.relation.name])
        for cell in _cells_of(thing, rng):
            cells[cell] += [word for word in words if rng.random() > 0.04]
    background = PLACES[scene.place].zh_words[0]
    return tuple(tuple(dict.fromkeys(cell)) if cell else (background,) for cell in cells)


def thing_words(thing: Thing) -> list[str]:
    """Kind, side, colour, number, action and size, as single words."""
    words = [KINDS[thing.kind].zh, SIDES_ZH[thing.side]]
    if thing.colour:
        words.append(COLOURS[thing.colour].zh)
    if thing.count > 1:
        words.append(COUNTS_ZH[thing.count])
    if thing.action:
        words.append(ACTIONS_ZH[thing.action])
    if thing.size in SIZES_ZH:
        words.append(SIZES_ZH[thing.size])
    return words


def _cells_of(thing: Thing, rng: random.Random) -> list[int]:
    """Cells of which the thing covers a third or more, and in any case the one it covers most."""
    half = KINDS[thing.kind].aspect * thing.height * thing.count / 2
    x, y = thing.x + rng.uniform(-0.04, 0.04), thing.y + rng.uniform(-0.04, 0.04)
    covered = {}
    for row in range(GRID):
        for column in range(GRID):
            wide = min(x + half, (column + 1) / GRID) - max(x - half, column / GRID)
            tall = min(y, (row + 1) / GRID) - max(y - thing.height, row / GRID)
            covered[row * GRID + column] = max(wide, 0.0) * max(tall, 0.0) * GRID * GRID
    most = max(covered, key=covered.__getitem__)
    return [cell for cell, share in covered.items() if share >= 0.33 or cell == most]
