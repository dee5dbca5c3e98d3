"""Checklists: a few attributes of a scene, each listed for thing after thing, the value right after the referring noun.

    颜色：兔子黑色，皮球红色。有无：男人有，椅子没有。位置：兔子左边，皮球右边。

A caption mentions a thing and says more of it many words later; a checklist wants one attribute right after the noun.
This is multi-query associative recall (arXiv 2312.04927), which a language model learns early if the value comes right
after the key, and late if it is buried in sentences.
"""

from __future__ import annotations

import random

from dataset.picturebook import captions_en as en
from dataset.picturebook import captions_zh as zh
from dataset.picturebook.facts import ACTIONS_ZH, COLOURS, KINDS, Scene, Thing
from dataset.picturebook.questions import mixed_absent
from dataset.picturebook.telling import in_sky

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
        entries = _entries(name, scene, rng, chinese)
        if entries:
            title = TITLES[name][0 if chinese else 1]
            told.append(f"{title}：{'，'.join(entries)}。" if chinese else f"{title}: {', '.join(entries)}.")
        if len(told) == SWEEPS:
            break
    return "".join(told) if chinese else " ".join(told)


def _entries(name: str, scene: Scene, rng: random.Random, chinese: bool) -> list[str]:
    """The entries of a sweep; of the attribute of that name unless it is one of the last three of TITLES."""
    if name == "presence":
        return _presence(scene, rng, chinese)
    if name == "sides":
        return _sides(scene, chinese)
    nouns = [zh.noun(thing) if chinese else en.noun(thing) for thing in scene.things]
    if name == "things":
        return nouns
    values = [_value(name, thing, chinese) for thing in scene.things]
    space = "" if chinese else " "
    return [f"{noun}{space}{value}" for noun, value in zip(nouns, values, strict=True) if value]


def _value(name: str, thing: Thing, chinese: bool) -> str | None:
    """colour | number | side | column | action of a thing in one word; None if it has none."""
    if name == "number":
        return zh.counted(thing) if chinese else en.NUMBERS[thing.count]
    value = getattr(thing, name)
    if name == "colour" and chinese:
        return value and COLOURS[value].zh
    words = {"side": zh.SIDES, "action": ACTIONS_ZH}.get(name, {}) if chinese else {}
    return value if value is None else words.get(value, str(value))


def _presence(scene: Scene, rng: random.Random, chinese: bool) -> list[str]:
    """The kinds that are present and as many that are absent, of varying difficulty."""
    absent = mixed_absent(scene, len(scene.things), rng)
    asked = [(thing.kind, True) for thing in scene.things] + [(kind, False) for kind in absent]
    rng.shuffle(asked)
    if chinese:
        return [KINDS[kind].zh + ("有" if there else "没有") for kind, there in asked]
    return [f"{KINDS[kind].en} {'yes' if there else 'no'}" for kind, there in asked]


def _sides(scene: Scene, chinese: bool) -> list[str]:
    """The things on each side: from position to noun."""
    told = []
    for side in zh.SIDES:
        there = [thing for thing in scene.things if thing.side == side and not in_sky(thing)]
        if chinese:
            told.append(zh.SIDES[side] + ("和".join(map(zh.noun, there)) or "没有"))
        else:
            told.append(f"{side} {' and '.join(map(en.noun, there)) or 'nothing'}")
    return told
