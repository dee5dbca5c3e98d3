"""Actions and sizes that a caption attributes to things, in Chinese and English.

An action word may stand anywhere and is attached to one noun: to the noun that it modifies (正在奔跑的小狗, "a running
dog"), to the one that it introduces (左边站着一个女人, "on the left sits a panda"), else to the last noun before it in
its sentence that is not merely held, ridden or a landmark (小狗在左边，正在奔跑; "the man is on the chair, reading a
book"). A negated action (没有奔跑, "is not running") does not count.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from scoring.claims import Mention, Told
from scoring.sentences import CLAUSE_END, describes, following, subject

ACTIONS_ZH = {
    "standing": "站立|站着?", "walking": "散步|走路|走着|行走|走", "running": "奔跑|跑步|跑",
    "waving": "[挥招]着?手", "sitting": "坐着?", "reading": "看着?书|读着?书|阅读",
    "floating": "漂浮|飘浮|悬浮|飘|漂(?!亮)",
    "dancing": "跳着?舞|起舞", "jumping": "跳跃|蹦跳|跳(?!着?舞)", "sleeping": "睡觉|睡着|熟睡|睡",
    "eating": "吃东西|吃着东西|吃草|吃(?!惊|力)", "flying": "飞翔|飞行|飞舞|飞(?!快)",
}  # fmt: skip
ACTIONS_EN = {
    "standing": "stand(?:s|ing)?", "walking": "walk(?:s|ing)?", "running": "run(?:s|ning)?", "waving": "wav(?:es?|ing)",
    "sitting": "sit(?:s|ting)?|seated", "reading": "read(?:s|ing)?(?: an? (?:book|newspaper))?",
    "floating": "float(?:s|ing)?", "dancing": "danc(?:es?|ing)", "jumping": "jump(?:s|ing)?|leap(?:s|ing)",
    "sleeping": "sleep(?:s|ing)?|asleep", "eating": "eat(?:s|ing)?", "flying": "fl(?:y|ies|ying)",
}  # fmt: skip
ACTION = re.compile(
    "|".join(
        [f"(?P<{name}_zh>{words})" for name, words in ACTIONS_ZH.items()]
        + [rf"(?P<{name}_en>\b(?:{words})\b)" for name, words in ACTIONS_EN.items()]
    ),
    re.I,
)
DENIED = re.compile(r"(?:没有?|不|并未|未|别)(?:在|是在|再)?$|(?:\bnot|n't|n’t|\bnever|\bwithout)(?: \w+)? $", re.I)
DESCRIBING_ZH = re.compile(r"[着了]?的")
BRINGING_ZH = re.compile(r"[着了有]{0,2}")
LOCATIVE_ZH = re.compile(r"们?的?(?:[上里中下]|旁边?|前面?|后面|左边|右边)")
BRINGING_EN = re.compile(r" (?:an?|the|one|two|three|some) ", re.I)
DETERMINED = re.compile(r"\b(?:an?|the|one|two|three|some)(?: [a-z]+)? $", re.I)

_LOOKS_ZH = "看(?:起来|上去)?[很非十比相]?[常分较当]?"
_LOOKS_EN = r"\b(?:looks?|is|are) (?:quite |very |rather |really )?"
SIZE = re.compile(
    rf"(?P<large>{_LOOKS_ZH}(?:巨?大|高大)|{_LOOKS_EN}(?:large|big|huge)\b)"
    rf"|(?P<small>{_LOOKS_ZH}小|{_LOOKS_EN}(?:small|tiny|little)\b)",
    re.I,
)


def read_actions(text: str, plain: str, mentions: Sequence[Mention], objects: set[int]) -> Iterator[Told]:
    """Each action stated of a noun.

    plain: the text with its nouns masked, so that 飞机 does not fly. objects: starts of nouns that are only held,
    ridden, sat on, or landmarks.
    """
    for found in ACTION.finditer(plain):
        if DENIED.search(text, max(0, found.start() - 24), found.start()):
            continue
        behind = following(text, mentions, found.end())
        between = text[found.end() : behind.start] if behind else ""
        if behind and behind.kind == "kite" and found[0].lower() == "flying" and BRINGING_EN.match(between):
            continue  # a person who flies a kite does not fly
        before = subject(text, mentions, found.start(), end=CLAUSE_END)
        name, _, language = str(found.lastgroup).rpartition("_")
        belongs = _to_next_zh if language == "zh" else _to_next_en
        if behind and belongs(text, found, between, before):
            yield Told("action", name, behind, found.span())
        elif actor := subject(text, mentions, found.start(), objects):
            yield Told("action", name, actor, found.span())


def read_sizes(text: str, plain: str, mentions: Sequence[Mention], objects: set[int]) -> Iterator[Told]:
    """Each statement that a thing looks large or small (看起来很大, "looks quite large"); adjectives are ignored."""
    for found in SIZE.finditer(plain):
        mention = subject(text, mentions, found.start(), objects)
        if mention and not DENIED.search(text, max(0, found.start() - 24), found.start()):
            yield Told("size", str(found.lastgroup), mention, found.span())


def _to_next_zh(text: str, found: re.Match, between: str, before: Mention | None) -> bool:
    """True if the action is that of the noun behind it: 正在奔跑的小狗, or 左边站着一个女人."""
    describing = DESCRIBING_ZH.match(between)
    if describing and describes(between[describing.end() :]):
        return True
    brings = (before is None or LOCATIVE_ZH.match(text, before.end)) and BRINGING_ZH.match(between)
    return bool(brings and describes(between[brings.end() :]))


def _to_next_en(text: str, found: re.Match, between: str, before: Mention | None) -> bool:
    """True if the action is that of the noun behind it: "a running dog", or "on the left sits a panda"."""
    if describes(between) and DETERMINED.search(text, 0, found.start()):
        return True
    brings = before is None and BRINGING_EN.match(between)
    return bool(brings and describes(between[brings.end() :]))
