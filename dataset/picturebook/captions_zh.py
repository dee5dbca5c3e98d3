"""The Chinese of captions.py."""

from __future__ import annotations

import random

from dataset.picturebook.facts import ACTIONS_ZH, COLOURS, KINDS, PLACES, Scene, Thing
from dataset.picturebook.telling import acting_and_still, in_sky, is_aloft, relation_form, split_sky

PROMPTS = {
    "phrase": ("用一个短语说出图里有什么。", "用几个词概括这张图片。", "图里有什么？请用短语回答。"),
    "sentence": ("用一句话描述这张图片。", "请用一两句话说说这幅图。", "请简单描述这张图片。"),
    "paragraph": ("描述一下这个图像的内容。", "请用一小段话描述这张图片。", "请说说这张图片里的内容。"),
    "long": ("请详细描述这张图片。", "请仔细描述图像中的所有内容。", "请给出这张图片的详细描述。"),
}

NUMBERS = {1: "一", 2: "两", 3: "三"}
SIDES = {"left": "左边", "middle": "中间", "right": "右边"}
RELATIONS = {
    "riding": "骑着{}", "in": "坐在{}上", "holding": "拿着{}", "on": "放在{}上", "sleeping": "在{}上睡觉",
    "sitting": "坐在{}上", "reading": "坐在{}上看书",
}  # fmt: skip
STATES = ("standing", "sitting")  # take no 正在
SPACE, AND = "", "，"  # between sentences, and between clauses

# What the background always shows. No kind's noun and no other place's word may occur here.
BACKGROUNDS = {
    "street": ("背景里是一排高低不同的楼房", "一条画着标线的道路从楼房前面穿过", "路边铺着整齐的人行道"),
    "sea": ("背景里是宽阔的海水", "近处铺满了柔软的细沙", "海水一直延伸到远处"),
    "grassland": ("背景里是连绵起伏的山丘", "地上长满了青草", "青草一直铺到远处的山丘脚下"),
    "space": ("背景里是漆黑的夜空和点点星光", "脚下是凹凸不平的地面", "夜空中布满了大大小小的星星"),
    "waterfall": ("背景里是高高的悬崖", "水流从悬崖上倾泻下来", "水落进下面的水潭里"),
    "stage": ("背景里挂着厚厚的幕布", "一束亮光从上方照下来", "地面上铺着整齐的木板"),
    "garden": ("背景里是修剪整齐的灌木和篱笆", "一条小路从灌木旁边经过", "篱笆把这里围了起来"),
    "park": ("背景里摆着一条长椅", "地上是平整的草坪", "一条小路从草坪上经过"),
    "room": ("背景里是一面墙，墙上挂着一幅画", "墙上有一扇窗户", "地上铺着干净的地板"),
    "mountains": ("背景里是高高的雪峰", "山顶上覆盖着厚厚的积雪", "雪峰下面是开阔的山谷"),
}
SHORT_OPENINGS = ("这是{}的情景。", "画面展现了{}的一幕。", "图中是{}的一个场景。")
OPENINGS = (  # place, list of things
    "这幅画描绘了{}的情景，画面里有{}。",
    "图中是{}的一幕，可以看到{}。",
    "这张图片展现了{}的情景，上面画着{}。",
)
MOODS = (
    "整个画面温馨而自然",
    "整个场景给人轻松愉快的感觉",
    "整幅画简单清楚，让人心情舒畅",
    "画面生动有趣，让人看了很舒服",
)


def full_stop(text: str) -> str:
    return text + "。"


def place(scene: Scene) -> str:
    return PLACES[scene.place].zh


def noun(thing: Thing) -> str:
    return KINDS[thing.kind].zh


def counted(thing: Thing) -> str:
    """一只, 两个: the number with the kind's measure word."""
    return NUMBERS[thing.count] + KINDS[thing.kind].measure


def noun_phrase(thing: Thing, short: bool = False) -> str:
    """一只棕色的小狗, 两个穿红衣服的女人, 一名宇航员; `short` drops 的 where it can: 一只棕色小狗."""
    kind = KINDS[thing.kind]
    if thing.colour is None:
        return counted(thing) + kind.zh
    if kind.group == "person":
        return f"{counted(thing)}穿{COLOURS[thing.colour].zh_short}衣服的{kind.zh}"
    link = "" if short and len(kind.zh) > 1 else "的"
    return f"{counted(thing)}{COLOURS[thing.colour].zh}{link}{kind.zh}"


def listing(things: list[Thing], short: bool = False) -> str:
    return join([noun_phrase(thing, short) for thing in things])


inventory = listing


def join(phrases: list[str]) -> str:
    """A、B、C: no 和 before the last, which would require knowing at A how many are to come."""
    return "、".join(phrases)


def related(scene: Scene, subject: str, thing: str, first: Thing) -> str:
    """The relation as a clause between two noun phrases: 一个…孩子骑着一匹…马."""
    return subject + RELATIONS[relation_form(scene, first)].format(thing)


def doing(scene: Scene, unit: tuple[Thing, ...], again: bool = False) -> str:
    """What follows the noun: 正在奔跑, or 也在奔跑 if another does it too; of a pair the relation, 骑着一匹棕色的马."""
    if len(unit) == 2:
        return related(scene, "", noun_phrase(unit[1]), unit[0])
    action = unit[0].action
    assert action
    if action in STATES:
        return ("也" if again else "") + ACTIONS_ZH[action]
    return ("也在" if again else "正在") + ACTIONS_ZH[action]


def sky_word(scene: Scene) -> str:
    return "远处" if scene.place == "space" else "天上"


def in_order(row: list[Thing]) -> str:
    return f"从左到右依次是{join([noun(thing) for thing in row])}"


def phrase(scene: Scene, rng: random.Random) -> str:
    """The things at the place: 海边的一只小狗."""
    lower, sky = split_sky(scene)
    link = rng.choice(("的", "有"))
    start = place(scene) + link
    if not (lower and sky):
        return start + listing(lower or sky, short=True)
    if link == "有":
        return f"{start}{listing(lower, short=True)}，{sky_word(scene)}有{listing(sky, short=True)}"
    return f"{start}{listing(lower, short=True)}、{sky_word(scene)}的{listing(sky, short=True)}"


def sentence(scene: Scene, rng: random.Random) -> str:
    """What the things do, what else there is, and what is in the sky."""
    where = place(scene)
    lower, sky = split_sky(scene)
    acting, still = acting_and_still(scene)
    clauses, actions = [], []
    for unit in acting:
        clauses.append(noun_phrase(unit[0]) + doing(scene, unit, again=unit[0].action in actions))
        if len(unit) == 1:
            actions.append(unit[0].action)
    above = f"，{sky_word(scene)}有{listing(sky)}" if sky else ""
    told = "，".join(clauses)
    if not lower:
        return rng.choice((f"图中是{where}的情景{above}。", f"在{where}，可以看到{listing(sky)}。"))
    if not clauses:
        opening = rng.choice((f"{where}有", f"图中的{where}有", f"在{where}，可以看到"))
        return f"{opening}{listing(still)}{above}。"
    if not still:
        return rng.choice((f"在{where}，", f"图中是{where}的情景，")) + f"{told}{above}。"
    return rng.choice(
        (
            f"在{where}，{told}，还有{listing(still)}{above}。",
            f"在{where}，{told}。这里还有{listing(still)}{above}。",
            f"{where}有{listing(still)}，{told}{above}。",
        )
    )


def placed(scene: Scene, unit: tuple[Thing, ...], known: bool, rng: random.Random) -> str:
    """A clause that locates a unit; known: another on its side has been mentioned."""
    thing, side = unit[0], SIDES[unit[0].side]
    what = noun_phrase(thing)
    again = "还" if known else ""
    if len(unit) == 2:
        return f"{side}{again}有{what}{doing(scene, unit)}"
    if in_sky(thing):
        return sky_word(scene) + ("飘着" if thing.kind == "cloud" else "挂着") + what
    if is_aloft(thing):
        return f"{side}的空中{again}" + (f"有{what}{doing(scene, unit)}" if thing.action else f"飘着{what}")
    if thing.action in STATES:
        return f"{side}{again}{ACTIONS_ZH[thing.action]}{what}"
    if thing.action:
        return f"{side}{again}有{what}{doing(scene, unit)}"
    return f"{side}还有{what}" if again else side + rng.choice(("有", "是")) + what


def detail(scene: Scene, unit: tuple[Thing, ...], rng: random.Random) -> str:
    """A clause on a thing already mentioned: where it is, what it does; what it rides or holds is introduced here."""
    thing, side = unit[0], SIDES[unit[0].side]
    what = noun(thing) if thing.count == 1 else f"{counted(thing)}{noun(thing)}都"
    if len(unit) == 2:
        return f"{what}在画面的{side}，{doing(scene, unit)}"
    if in_sky(thing):
        return f"{what}{'飘' if thing.kind == 'cloud' else '挂'}在{sky_word(scene)}"
    if is_aloft(thing):
        return f"{what}在{side}的空中飞翔" if thing.action else f"{what}飘在{side}的空中"
    if thing.action in STATES:
        return f"{what}在画面的{side}{ACTIONS_ZH[thing.action]}"
    if thing.action:
        acting = rng.choice((f"在画面的{side}{ACTIONS_ZH[thing.action]}", f"在{side}，{doing(scene, unit)}"))
        return what + acting
    return what + rng.choice((f"在画面的{side}", f"位于画面{side}"))
