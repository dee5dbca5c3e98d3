"""Captions of a scene in four lengths and two languages; every statement about a thing is grounded in the facts.

What the languages share is here; the sentences of each are in captions_zh and captions_en, under the same names.
"""

from __future__ import annotations

import random
from types import ModuleType

from dataset.picturebook import captions_en, captions_zh
from dataset.picturebook.facts import Scene
from dataset.picturebook.telling import LENGTHS, in_a_row, units

LANGUAGES = {"zh": captions_zh, "en": captions_en}


def caption(scene: Scene, length: str, rng: random.Random, language: str = "zh") -> str:
    """A caption of that length; deterministic in the state of `rng`. Raises ValueError for an unknown length.

    length: phrase | sentence | paragraph | long. language: zh | en.
    """
    if length not in LENGTHS:
        raise ValueError(f"unknown length {length!r}; there are {', '.join(LENGTHS)}")
    texts = LANGUAGES[language]
    if length == "phrase":
        return texts.phrase(scene, rng)
    if length == "sentence":
        return texts.sentence(scene, rng)
    opening, *told = (_paragraph if length == "paragraph" else _long)(scene, texts, rng)
    return texts.SPACE.join([opening, *map(texts.full_stop, told)])


def _paragraph(scene: Scene, texts: ModuleType, rng: random.Random) -> list[str]:
    """The place, then where each thing is; after the opening without full stops."""
    opening = rng.choice(texts.SHORT_OPENINGS).format(texts.place(scene))
    parts = units(scene)
    sides = [unit[0].side for unit in parts]
    told = [texts.placed(scene, unit, sides[i] in sides[:i], rng) for i, unit in enumerate(parts)]
    if len(told) == 1:
        told.append(rng.choice(texts.BACKGROUNDS[scene.place][:2]))
    if len(told) > 3:
        told[2:] = [texts.AND.join(told[2:])]
    return [opening, *told]


def _long(scene: Scene, texts: ModuleType, rng: random.Random) -> list[str]:
    """A list of the things, what there is to say of each, their order, the background, the mood; stops as above."""
    parts = units(scene)
    told = [rng.choice(texts.OPENINGS).format(texts.place(scene), texts.inventory([unit[0] for unit in parts]))]
    told += [texts.detail(scene, unit, rng) for unit in parts]
    row = in_a_row(scene)
    if row and len(parts) < 4:
        told.append(texts.in_order(row))
    told += texts.BACKGROUNDS[scene.place][: {1: 3, 2: 2}.get(len(parts), 1)]
    return [*told, rng.choice(texts.MOODS)]
