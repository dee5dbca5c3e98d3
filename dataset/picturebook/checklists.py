"""Checklists: a few attributes of a scene, each listed for thing after thing, the value right after the referring noun.

    颜色：兔子黑色，皮球红色。有无：男人有，椅子没有。位置：兔子左边，皮球右边。

A caption mentions a thing and says more of it many words later; a checklist wants one attribute right after the noun.
This is multi-query associative recall (arXiv 2312.04927), which a language model learns early if the value comes right
after the key, and late if it is buried in sentences.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from dataset.picturebook import captions_en as en
from dataset.picturebook import captions_zh as zh
from dataset.picturebook.facts import ACTIONS_ZH, COLOURS, KINDS, Scene, Thing
from dataset.picturebook.questions import mixed_absent
from dataset.picturebook.telling import in_sky
from dataset.picturebook.words import column

SWEEPS = 4  # per checklist
PROMPTS = {
    "zh": ("请逐项列出。", "请按项目逐一列出图里的内容。"),
    "en": ("List it item by item.", "Please go through it item by item."),
}
TITLES = {
    "colour": ("颜色", "Colours"),
    "number": ("数量", "Numbers"),
    "side": ("位置", "Places"),
    "column": ("横向", "Across"),
    "action": ("动作", "Actions"),
    "presence": ("有无", "Present"),
    "sides": ("各边", "Sides"),
    "things": ("全部", "All"),
}


def checklist(scene: Scene, rng: random.Random, language: str) -> str:
    """SWEEPS sweeps over the scene's things; deterministic in the state of `rng`.

    Things come in reading order, so that the next one is predictable; only presence is asked in random order. With
    random order everywhere, a model never learns to skip what it has named: it says one thing twice.
    """
    chinese = language == "zh"
    told = []
    for name in rng.sample(list(TITLES), len(TITLES)):
        entries = ENTRIES[name](scene, rng, chinese)
        if entries:
            told.append(_sweep(TITLES[name][0 if chinese else 1], entries, chinese))
        if len(told) == SWEEPS:
            break
    return "".join(told) if chinese else " ".join(told)


def _sweep(title: str, entries: list[str], chinese: bool) -> str:
    return f"{title}：{'，'.join(entries)}。" if chinese else f"{title}: {', '.join(entries)}."


def _of_each(value: Callable[[Thing, bool], str | None]) -> Callable[[Scene, random.Random, bool], list[str]]:
    """A sweep of one attribute over the things that have it."""

    def entries(scene: Scene, rng: random.Random, chinese: bool) -> list[str]:
        told = []
        for thing in scene.things:
            said = value(thing, chinese)
            if said:
                told.append(KINDS[thing.kind].zh + said if chinese else f"{en.noun(thing)} {said}")
        return told

    return entries


def _colour(thing: Thing, chinese: bool) -> str | None:
    return thing.colour and (COLOURS[thing.colour].zh if chinese else thing.colour)


def _number(thing: Thing, chinese: bool) -> str:
    return zh.counted(thing) if chinese else en.NUMBERS[thing.count]


def _side(thing: Thing, chinese: bool) -> str:
    return zh.SIDES[thing.side] if chinese else thing.side


def _column(thing: Thing, chinese: bool) -> str:
    return column(thing)


def _action(thing: Thing, chinese: bool) -> str | None:
    return thing.action and (ACTIONS_ZH[thing.action] if chinese else thing.action)


def _presence(scene: Scene, rng: random.Random, chinese: bool) -> list[str]:
    """The kinds that are present and as many that are absent, of varying difficulty."""
    absent = mixed_absent(scene, len(scene.things), rng)
    asked = [(thing.kind, True) for thing in scene.things] + [(kind, False) for kind in absent]
    rng.shuffle(asked)
    if chinese:
        return [KINDS[kind].zh + ("有" if there else "没有") for kind, there in asked]
    return [f"{KINDS[kind].en} {'yes' if there else 'no'}" for kind, there in asked]


def _sides(scene: Scene, rng: random.Random, chinese: bool) -> list[str]:
    """The things on each side: from position to noun."""
    told = []
    for side in zh.SIDES:
        there = [thing for thing in scene.things if thing.side == side and not in_sky(thing)]
        if chinese:
            told.append(zh.SIDES[side] + ("和".join(KINDS[thing.kind].zh for thing in there) or "没有"))
        else:
            told.append(f"{side} {' and '.join(en.noun(thing) for thing in there) or 'nothing'}")
    return told


def _things(scene: Scene, rng: random.Random, chinese: bool) -> list[str]:
    """All things."""
    return [KINDS[thing.kind].zh if chinese else en.noun(thing) for thing in scene.things]


ENTRIES: dict[str, Callable[[Scene, random.Random, bool], list[str]]] = {
    "colour": _of_each(_colour), "number": _of_each(_number), "side": _of_each(_side), "column": _of_each(_column),
    "action": _of_each(_action), "presence": _presence, "sides": _sides, "things": _things,
}  # fmt: skip
