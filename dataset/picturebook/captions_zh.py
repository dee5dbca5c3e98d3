"""Chinese captions of a scene in four lengths; every statement about a thing is grounded in the facts."""

from __future__ import annotations

import random

from dataset.picturebook.facts import ACTIONS_ZH, COLOURS, KINDS, PLACES, Scene, Thing
from dataset.picturebook.telling import in_a_row, in_sky, is_aloft, split_sky, units

PROMPTS_ZH = {
    "phrase": ("用一个短语说出图里有什么。", "用几个词概括这张图片。", "图里有什么？请用短语回答。"),
    "sentence": ("用一句话描述这张图片。", "请用一两句话说说这幅图。", "请简单描述这张图片。"),
    "paragraph": ("描述一下这个图像的内容。", "请用一小段话描述这张图片。", "请说说这张图片里的内容。"),
    "long": ("请详细描述这张图片。", "请仔细描述图像中的所有内容。", "请给出这张图片的详细描述。"),
}

NUMBERS = {1: "一", 2: "两", 3: "三"}
SIDES = {"left": "左边", "middle": "中间", "right": "右边"}

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
OPENINGS = (  # place, list of things
    "这幅画描绘了{}的情景，画面里有{}。",
    "图中是{}的一幕，可以看到{}。",
    "这张图片展现了{}的情景，上面画着{}。",
)
MOODS = (
    "整个画面温馨而自然。",
    "整个场景给人轻松愉快的感觉。",
    "整幅画简单清楚，让人心情舒畅。",
    "画面生动有趣，让人看了很舒服。",
)


def caption(scene: Scene, length: str, rng: random.Random) -> str:
    """A caption of that length (phrase, sentence, paragraph, long); deterministic in the state of `rng`."""
    writers = {"phrase": _phrase, "sentence": _sentence, "paragraph": _paragraph, "long": _long}
    if length not in writers:
        raise ValueError(f"unknown length {length!r}; there are {', '.join(writers)}")
    return writers[length](scene, rng)


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


def join(phrases: list[str]) -> str:
    """A、B、C: no 和 before the last, which would require knowing at A how many are to come."""
    return "、".join(phrases)


def related(scene: Scene, subject: str, thing: str, first: Thing) -> str:
    """The relation as a clause between two noun phrases: 一个…孩子骑着一匹…马."""
    return subject + _related_verb(scene, thing, first)


def _related_verb(scene: Scene, thing: str, subject: Thing) -> str:
    assert scene.relation
    name, kind = scene.relation.name, scene.things[scene.relation.object].kind
    if name == "riding":
        return f"坐在{thing}上" if kind == "boat" else f"骑着{thing}"
    if name == "holding":
        return f"拿着{thing}"
    if KINDS[subject.kind].group not in ("person", "animal"):
        return f"放在{thing}上"
    if subject.action == "sleeping":
        return f"在{thing}上睡觉"
    return f"坐在{thing}上" + ("看书" if subject.action == "reading" else "")


def doing(thing: Thing, again: bool = False) -> str:
    """正在奔跑, or 也在奔跑 if another does it too; 站着 and 坐着 are states and take no 正在."""
    if thing.action in ("standing", "sitting"):
        return ("也" if again else "") + ACTIONS_ZH[thing.action]
    assert thing.action
    return ("也在" if again else "正在") + ACTIONS_ZH[thing.action]


def sky_word(scene: Scene) -> str:
    return "远处" if scene.place == "space" else "天上"


def _phrase(scene: Scene, rng: random.Random) -> str:
    place = PLACES[scene.place].zh
    lower, sky = split_sky(scene)
    link = rng.choice(("的", "有"))
    if not lower:
        return f"{place}{link}{listing(sky, short=True)}"
    text = f"{place}{link}{listing(lower, short=True)}"
    if not sky:
        return text
    if link == "有":
        return f"{text}，{sky_word(scene)}有{listing(sky, short=True)}"
    phrases = [noun_phrase(thing, short=True) for thing in (*lower, *sky)]
    phrases[len(lower)] = f"{sky_word(scene)}的{phrases[len(lower)]}"
    return f"{place}的{join(phrases)}"


def _sentence(scene: Scene, rng: random.Random) -> str:
    place = PLACES[scene.place].zh
    lower, sky = split_sky(scene)
    clauses, still, actions = [], [], []
    for unit in units(scene):
        if len(unit) == 2:
            clauses.append(related(scene, noun_phrase(unit[0]), noun_phrase(unit[1]), unit[0]))
        elif unit[0].action:
            clauses.append(noun_phrase(unit[0]) + doing(unit[0], again=unit[0].action in actions))
            actions.append(unit[0].action)
        elif not in_sky(unit[0]):
            still.append(unit[0])
    above = f"，{sky_word(scene)}有{listing(sky)}" if sky else ""
    acting = "，".join(clauses)
    if not lower:
        return rng.choice((f"图中是{place}的情景{above}。", f"在{place}，可以看到{listing(sky)}。"))
    if not clauses:
        opening = rng.choice((f"{place}有", f"图中的{place}有", f"在{place}，可以看到"))
        return f"{opening}{listing(still)}{above}。"
    if not still:
        return rng.choice((f"在{place}，", f"图中是{place}的情景，")) + f"{acting}{above}。"
    return rng.choice(
        (
            f"在{place}，{acting}，还有{listing(still)}{above}。",
            f"在{place}，{acting}。这里还有{listing(still)}{above}。",
            f"{place}有{listing(still)}，{acting}{above}。",
        )
    )


def _paragraph(scene: Scene, rng: random.Random) -> str:
    place = PLACES[scene.place].zh
    opening = rng.choice((f"这是{place}的情景。", f"画面展现了{place}的一幕。", f"图中是{place}的一个场景。"))
    told: list[str] = []
    sides: set[str] = set()
    for unit in units(scene):
        told.append(_placed(scene, unit, sides, rng))
        sides.add(unit[0].side)
    if len(told) == 1:
        told.append(rng.choice(BACKGROUNDS[scene.place][:2]))
    if len(told) > 3:
        told[2:] = ["，".join(told[2:])]
    return opening + "".join(f"{text}。" for text in told)


def _placed(scene: Scene, unit: tuple[Thing, ...], sides: set[str], rng: random.Random) -> str:
    """A clause that locates a unit; `sides` are those already mentioned."""
    thing, side = unit[0], SIDES[unit[0].side]
    what = noun_phrase(thing)
    again = "还" if thing.side in sides else ""
    if len(unit) == 2:
        return f"{side}{again}有{related(scene, what, noun_phrase(unit[1]), thing)}"
    if in_sky(thing):
        return sky_word(scene) + ("飘着" if thing.kind == "cloud" else "挂着") + what
    if is_aloft(thing):
        return f"{side}的空中{again}" + (f"有{what}{doing(thing)}" if thing.action else f"飘着{what}")
    if thing.action in ("standing", "sitting"):
        return f"{side}{again}{ACTIONS_ZH[thing.action]}{what}"
    if thing.action:
        return f"{side}{again}有{what}{doing(thing)}"
    return f"{side}还有{what}" if again else side + rng.choice(("有", "是")) + what


def _long(scene: Scene, rng: random.Random) -> str:
    place = PLACES[scene.place].zh
    parts = units(scene)
    told = [rng.choice(OPENINGS).format(place, listing([unit[0] for unit in parts]))]
    told += [f"{_detail(scene, unit, rng)}。" for unit in parts]
    row = in_a_row(scene)
    if row and len(parts) < 4:
        told.append(f"从左到右依次是{join([KINDS[thing.kind].zh for thing in row])}。")
    told += [f"{text}。" for text in BACKGROUNDS[scene.place][: {1: 3, 2: 2}.get(len(parts), 1)]]
    return "".join(told) + rng.choice(MOODS)


def _detail(scene: Scene, unit: tuple[Thing, ...], rng: random.Random) -> str:
    """A clause on a thing already mentioned: where it is, what it does; what it rides or holds is introduced here."""
    thing, side = unit[0], SIDES[unit[0].side]
    noun = KINDS[thing.kind].zh
    what = noun if thing.count == 1 else f"{counted(thing)}{noun}都"
    if len(unit) == 2:
        return f"{what}在画面的{side}，{_related_verb(scene, noun_phrase(unit[1]), thing)}"
    if in_sky(thing):
        return f"{what}{'飘' if thing.kind == 'cloud' else '挂'}在{sky_word(scene)}"
    if is_aloft(thing):
        return f"{what}在{side}的空中飞翔" if thing.action else f"{what}飘在{side}的空中"
    if thing.action in ("standing", "sitting"):
        return f"{what}在画面的{side}{ACTIONS_ZH[thing.action]}"
    if thing.action:
        acting = rng.choice((f"在画面的{side}{ACTIONS_ZH[thing.action]}", f"在{side}，{doing(thing)}"))
        return what + acting
    return what + rng.choice((f"在画面的{side}", f"位于画面{side}"))
