"""The lexicon to parse captions with: colours, numbers, negations, and traps that only look like a kind.

The names of kinds and places themselves come from `dataset.picturebook.facts`; here are the words around them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from dataset.picturebook.facts import COLOURS, KINDS, PLACES

# Longer words that contain the name of a kind or place -> the kind they mean, or None if it is no known object.
TRAPS_ZH: dict[str, str | None] = {
    **dict.fromkeys((
        "马路", "马上", "斑马", "斑马线", "河马", "海马", "马戏", "马戏团", "马拉松", "马桶", "马尾", "罗马", "木马",
        "马力", "马虎", "景象", "现象", "印象", "对象", "气象", "想象", "形象", "迹象", "象征", "抽象", "海象", "象棋",
        "万象", "象牙", "好象", "地球", "星球", "月球", "全球", "球场", "球鞋", "球衣", "球员", "球迷", "雪球", "眼球",
        "球门", "红绿灯", "路灯", "街灯", "车灯", "灯光", "灯塔", "灯笼", "灯火", "舞台灯", "吊灯", "灯泡", "飞船",
        "宇宙飞船", "船员", "船长", "船桨", "航天飞机", "飞机场", "太空服", "宇航服", "太空船", "太空站", "太空舱",
        "太阳镜", "太阳能", "太阳花", "太阳系", "太阳帽", "降落伞", "伞兵", "热狗", "狗窝", "狗熊", "猫头鹰", "羊毛",
        "山羊", "羚羊", "鸵鸟", "鸟巢", "鸟窝", "鸟语花香", "树林", "树荫", "树叶", "树枝", "树干", "树丛", "云雾",
        "云端", "孩子气", "汽车站", "公交车站", "自行车道", "花朵般",
    )),
    "热气球": "balloon", "太空人": "astronaut", "太阳伞": "umbrella", "云彩": "cloud",
}  # fmt: skip
TRAPS_EN: dict[str, str | None] = {
    **dict.fromkeys((
        "street lamp", "street lamps", "lamp post", "lamp posts", "street light", "street lights", "car park",
        "bus stop", "bus station", "flower pot", "flower pots", "flower bed", "flower beds", "tree trunk",
        "tree trunks", "tree branch", "sun hat", "sun glasses", "dog house", "bird house", "bird bath", "table tennis",
        "table cloth", "sea lion", "hot dog", "hot dogs", "sea horse", "space suit", "space ship", "space station",
        "red panda", "polar bear", "snow man", "snowman", "guinea pig",
    )),
    "beach ball": "ball", "beach balls": "ball", "beach umbrella": "umbrella", "beach umbrellas": "umbrella",
    "sun umbrella": "umbrella", "beach chair": "chair", "beach chairs": "chair", "garden chair": "chair",
    "city bus": "bus", "city buses": "bus", "hot air balloon": "balloon", "hot air balloons": "balloon",
}  # fmt: skip

MORE_COLOURS_ZH = {
    "粉红": "pink", "粉": "pink", "褐": "brown", "咖啡": "brown", "橘": "orange", "橘黄": "orange", "橙黄": "orange",
    "橘红": "orange", "橙红": "orange", "大红": "red", "鲜红": "red", "火红": "red", "金黄": "yellow", "翠绿": "green",
    "碧绿": "green", "天蓝": "blue", "雪白": "white", "洁白": "white", "乌黑": "black", "漆黑": "black",
}  # fmt: skip
MORE_COLOURS_EN = {"grey": "gray", "violet": "purple", "golden": "yellow", "scarlet": "red"}
_COLOURS_ZH = {**{colour.zh_short: colour.name for colour in COLOURS.values()}, **MORE_COLOURS_ZH}
COLOURS_ZH = {**_COLOURS_ZH, **{word + "色": colour for word, colour in _COLOURS_ZH.items()}}
COLOURS_EN = {**{name: name for name in COLOURS}, **MORE_COLOURS_EN}

NUMBERS_ZH = {"一": 1, "二": 2, "两": 2, "俩": 2, "双": 2, "三": 3, "四": 4, "五": 5, "六": 6, "七": 7, "八": 8,
              "九": 9, "十": 10, "几": 0, "数": 0, "多": 0, "许多": 0, "很多": 0, "好几": 0, "好多": 0}  # fmt: skip
NUMBERS_EN = {"a": 1, "an": 1, "one": 1, "single": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6,
              "seven": 7, "eight": 8, "nine": 9, "ten": 10, "a couple of": 2, "a pair of": 2, "a single": 1,
              "some": 0, "several": 0, "many": 0, "a few": 0, "a group of": 0, "a lot of": 0, "lots of": 0}  # fmt: skip
MEASURES_ZH = {*(kind.measure for kind in KINDS.values()), *"个位名只头条辆台艘架棵株朵把张盏座栋间道轮枚匹"}
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


# Chinese word -> kind, or None for a trap.
KIND_WORDS_ZH: dict[str, str | None] = {
    **{word: kind.name for kind in KINDS.values() for word in (kind.zh, *kind.zh_synonyms)},
    **TRAPS_ZH,
}
# English word -> (kind or None for a trap, whether the word is only a plural). A synonym may be the plural of another
# one (kid, kids); the kinds' own names come last, so that "sheep" counts as a singular.
KIND_WORDS_EN: dict[str, tuple[str | None, bool]] = {
    **{plural_en(word): (kind.name, True) for kind in KINDS.values() for word in kind.en_synonyms},
    **{
        word: (kind.name, word in map(plural_en, (kind.en, *kind.en_synonyms)))
        for kind in KINDS.values()
        for word in kind.en_synonyms
    },
    **{kind.en_plural: (kind.name, True) for kind in KINDS.values()},
    **{kind.en: (kind.name, False) for kind in KINDS.values()},
    **{word: (kind, word.endswith("s")) for word, kind in TRAPS_EN.items()},
}
PLACE_WORDS_ZH = {word: place.name for place in PLACES.values() for word in place.zh_words}
PLACE_WORDS_EN = {
    **{word: place.name for place in PLACES.values() for word in place.en_words},
    "flower garden": "garden",
    "city park": "park",
}
