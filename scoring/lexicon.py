"""The lexicon to parse captions with: colours, numbers, negations, and traps that only look like a kind.

The names of kinds and places themselves come from `dataset.picturebook.facts`; here are the words around them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache

from dataset.picturebook.facts import COLOURS, KINDS, PLACES

# Longer words that contain the name of a kind or place -> the kind they mean, or None if it is no known object.
TRAPS_ZH: dict[str, str | None] = {
    "马路": None, "马上": None, "斑马": None, "斑马线": None, "河马": None, "海马": None, "马戏": None, "马戏团": None,
    "马拉松": None, "马桶": None, "马尾": None, "罗马": None, "木马": None, "马力": None, "马虎": None,
    "景象": None, "现象": None, "印象": None, "对象": None, "气象": None, "想象": None, "形象": None, "迹象": None,
    "象征": None, "抽象": None, "海象": None, "象棋": None, "万象": None, "象牙": None, "好象": None,
    "地球": None, "星球": None, "月球": None, "全球": None, "球场": None, "球鞋": None, "球衣": None, "球员": None,
    "球迷": None, "雪球": None, "眼球": None, "球门": None, "热气球": "balloon",
    "红绿灯": None, "路灯": None, "街灯": None, "车灯": None, "灯光": None, "灯塔": None, "灯笼": None, "灯火": None,
    "舞台灯": None, "吊灯": None, "灯泡": None,
    "飞船": None, "宇宙飞船": None, "船员": None, "船长": None, "船桨": None, "航天飞机": None, "飞机场": None,
    "太空服": None, "宇航服": None, "太空人": "astronaut", "太空船": None, "太空站": None, "太空舱": None,
    "太阳伞": "umbrella", "太阳镜": None, "太阳能": None, "太阳花": None, "太阳系": None, "太阳帽": None,
    "降落伞": None, "伞兵": None, "热狗": None, "狗窝": None, "狗熊": None, "猫头鹰": None, "羊毛": None, "山羊": None,
    "羚羊": None, "鸵鸟": None, "鸟巢": None, "鸟窝": None, "鸟语花香": None, "树林": None, "树荫": None, "树叶": None,
    "树枝": None, "树干": None, "树丛": None, "云雾": None, "云端": None, "云彩": "cloud", "孩子气": None,
    "汽车站": None, "公交车站": None, "自行车道": None, "花朵般": None,
}  # fmt: skip
TRAPS_EN: dict[str, str | None] = {
    "street lamp": None, "street lamps": None, "lamp post": None, "lamp posts": None, "street light": None,
    "street lights": None, "car park": None, "bus stop": None, "bus station": None, "flower pot": None,
    "flower pots": None, "flower bed": None, "flower beds": None, "tree trunk": None,
    "tree trunks": None, "tree branch": None, "sun hat": None, "sun glasses": None, "dog house": None,
    "bird house": None, "bird bath": None, "table tennis": None, "table cloth": None, "sea lion": None, "hot dog": None,
    "hot dogs": None, "sea horse": None, "space suit": None, "space ship": None, "space station": None,
    "beach ball": "ball", "beach balls": "ball", "beach umbrella": "umbrella", "beach umbrellas": "umbrella",
    "sun umbrella": "umbrella", "beach chair": "chair", "beach chairs": "chair", "garden chair": "chair",
    "city bus": "bus", "city buses": "bus", "hot air balloon": "balloon", "hot air balloons": "balloon",
    "red panda": None, "polar bear": None, "snow man": None, "snowman": None, "guinea pig": None,
}  # fmt: skip

MORE_COLOURS_ZH = {
    "粉红": "pink", "粉": "pink", "褐": "brown", "咖啡": "brown", "橘": "orange", "橘黄": "orange", "橙黄": "orange",
    "橘红": "orange", "橙红": "orange", "大红": "red", "鲜红": "red", "火红": "red", "金黄": "yellow", "翠绿": "green",
    "碧绿": "green", "天蓝": "blue", "雪白": "white", "洁白": "white", "乌黑": "black", "漆黑": "black",
}  # fmt: skip
MORE_COLOURS_EN = {"grey": "gray", "violet": "purple", "golden": "yellow", "scarlet": "red"}

NUMBERS_ZH = {"一": 1, "二": 2, "两": 2, "俩": 2, "双": 2, "三": 3, "四": 4, "五": 5, "六": 6, "七": 7, "八": 8,
              "九": 9, "十": 10, "几": 0, "数": 0, "多": 0, "许多": 0, "很多": 0, "好几": 0, "好多": 0}  # fmt: skip
NUMBERS_EN = {"a": 1, "an": 1, "one": 1, "single": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6,
              "seven": 7, "eight": 8, "nine": 9, "ten": 10, "a couple of": 2, "a pair of": 2, "a single": 1,
              "some": 0, "several": 0, "many": 0, "a few": 0, "a group of": 0, "a lot of": 0, "lots of": 0}  # fmt: skip
# Measure words that count things, beyond those of the kinds.
MEASURES_ZH = ("个", "位", "名", "只", "头", "条", "辆", "台", "艘", "架", "棵", "株", "朵", "把", "张", "盏", "座",
               "栋", "间", "道", "轮", "枚", "匹")  # fmt: skip
VAGUE_MEASURES_ZH = ("群", "片", "束", "团", "种", "些")  # 一群小鸟 means more than one

ADJECTIVES_ZH = ("可爱", "漂亮", "美丽", "巨大", "年轻", "快乐", "活泼", "大", "小", "高", "老", "新")
ADJECTIVES_EN = ("small", "little", "tiny", "big", "large", "huge", "medium", "medium-sized", "tall", "young", "old",
                 "cute", "pretty", "beautiful", "lovely", "happy", "bright", "shiny", "toy", "furry", "lone",
                 "other", "standing", "walking", "running", "waving", "sitting", "reading", "floating", "dancing",
                 "jumping", "sleeping", "eating", "flying")  # fmt: skip
GARMENTS_ZH = ("衣服", "上衣", "外衣", "毛衣", "大衣", "衣裳", "衣", "裙子", "长裙", "舞裙", "连衣裙", "裙", "裤子",
               "裤", "服装", "舞衣", "衬衫", "衬衣", "外套", "夹克", "袍子", "长袍", "装")  # fmt: skip
GARMENTS_EN = ("clothes", "clothing", "dress", "dresses", "shirt", "shirts", "coat", "coats", "jacket", "jackets",
               "sweater", "sweaters", "suit", "suits", "outfit", "outfits", "skirt", "skirts", "tutu", "top", "robe",
               "costume", "costumes")  # fmt: skip
NEGATIONS_ZH = ("没有", "没", "不是", "并非", "看不到", "看不见", "不见", "毫无", "无")
NEGATIONS_EN = ("no", "not", "without", "nor", "neither", "never", "isn't", "aren't", "don't", "doesn't", "lacks")


def any_of(words: Iterable[str]) -> str:
    """A regular expression for any of `words`, the longest first."""
    return "(?:" + "|".join(re.escape(word) for word in sorted(set(words), key=len, reverse=True)) + ")"


def plural_en(word: str) -> str:
    """The regular English plural (and -man to -men)."""
    if word.endswith("man"):
        return word[:-3] + "men"
    if word.endswith("y") and word[-2] not in "aeiou":
        return word[:-1] + "ies"
    return word + ("es" if word.endswith(("s", "sh", "ch", "x")) else "s")


@cache
def kinds_zh() -> dict[str, str | None]:
    """Chinese word -> kind, or None for a trap."""
    words: dict[str, str | None] = {w: k.name for k in KINDS.values() for w in (k.zh, *k.zh_synonyms)}
    return {**words, **TRAPS_ZH}


@cache
def kinds_en() -> dict[str, tuple[str | None, bool]]:
    """English word -> (kind or None for a trap, whether the word is only a plural)."""
    words: dict[str, tuple[str | None, bool]] = {}
    for kind in KINDS.values():
        for synonym in kind.en_synonyms:
            words[plural_en(synonym)] = (kind.name, True)
    for kind in KINDS.values():
        singles = {kind.en, *kind.en_synonyms}
        for synonym in kind.en_synonyms:  # a listed synonym may itself be the plural of another one
            plural = any(synonym == plural_en(single) for single in singles)
            words[synonym] = (kind.name, plural)
        words[kind.en_plural] = (kind.name, True)
        words[kind.en] = (kind.name, False)  # last, so that "sheep" counts as a singular
    return {**words, **{word: (kind, word.endswith("s")) for word, kind in TRAPS_EN.items()}}


@cache
def places_zh() -> dict[str, str]:
    return {word: place.name for place in PLACES.values() for word in place.zh_words}


@cache
def places_en() -> dict[str, str]:
    words = {word: place.name for place in PLACES.values() for word in place.en_words}
    return {**words, "flower garden": "garden", "city park": "park"}


@cache
def colours_zh() -> dict[str, str]:
    """Chinese colour word, with and without 色 -> colour."""
    short = {**{c.zh_short: c.name for c in COLOURS.values()}, **MORE_COLOURS_ZH}
    long = {word + "色": colour for word, colour in short.items()}
    return {**short, **long, **{colour.zh: colour.name for colour in COLOURS.values()}}


@cache
def colours_en() -> dict[str, str]:
    return {**{name: name for name in COLOURS}, **MORE_COLOURS_EN}


@cache
def measures_zh() -> tuple[str, ...]:
    return tuple(dict.fromkeys((*(kind.measure for kind in KINDS.values()), *MEASURES_ZH)))
