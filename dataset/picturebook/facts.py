"""The picture book's vocabulary (kinds, colours, places), and the scene graph facts of one picture.

Everything else (drawing, captions, questions, scoring) reads these tables; a kind's words are defined nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    name: str  # the key, in English
    group: str  # person | animal | vehicle | plant | object | sky
    zh: str  # the referring noun in captions
    measure: str  # its measure word
    en: str
    en_plural: str
    colours: tuple[str, ...]  # most common first; () if the kind always looks the same
    height: float  # of one individual at medium size, as a fraction of the picture's height
    aspect: float  # width over height of one individual
    where: str  # ground | air (anywhere above the ground) | sky (far away, always one)
    actions: tuple[str, ...] = ()  # most common first; () if it has none
    zh_synonyms: tuple[str, ...] = ()  # other words that count as a mention
    en_synonyms: tuple[str, ...] = ()


CLOTHES = ("red", "blue", "white", "green", "yellow", "purple", "black", "pink", "orange")
FUR = ("brown", "white", "black", "gray", "orange", "yellow")
PAINT = ("red", "blue", "white", "yellow", "green", "black", "orange")
TOY = ("red", "blue", "yellow", "green", "pink", "purple", "orange")

_KINDS = (
    Kind("man", "person", "男人", "个", "man", "men", CLOTHES, 0.50, 0.42, "ground",
         ("standing", "walking", "running", "waving", "sitting", "reading"), ("男子", "男士", "先生"),
         ("gentleman", "guy")),
    Kind("woman", "person", "女人", "个", "woman", "women", CLOTHES[::-1], 0.48, 0.42, "ground",
         ("standing", "walking", "waving", "running", "sitting", "reading"), ("女子", "女士", "美女"), ("lady",)),
    Kind("child", "person", "孩子", "个", "child", "children", TOY, 0.36, 0.45, "ground",
         ("standing", "running", "waving", "walking", "sitting", "reading"),
         ("小孩", "儿童", "小朋友"), ("kid", "kids")),
    Kind("elder", "person", "老人", "位", "old man", "old men",
         ("gray", "blue", "brown", "green", "red", "black", "purple"), 0.46, 0.45, "ground",
         ("sitting", "reading", "standing", "walking"), ("老爷爷", "老头"), ("elderly man", "elder")),
    Kind("astronaut", "person", "宇航员", "名", "astronaut", "astronauts", (), 0.46, 0.55, "ground",
         ("floating", "waving", "walking"), ("航天员",), ("spaceman",)),
    Kind("dancer", "person", "舞者", "位", "dancer", "dancers",
         ("red", "purple", "white", "blue", "pink", "yellow", "green"), 0.50, 0.60, "ground", ("dancing", "jumping"),
         ("舞蹈演员",), ("ballerina",)),
    Kind("dog", "animal", "小狗", "只", "dog", "dogs", FUR, 0.30, 1.25, "ground",
         ("standing", "running", "sitting", "sleeping"), ("狗", "狗狗"), ("puppy", "puppies")),
    Kind("cat", "animal", "猫咪", "只", "cat", "cats", FUR[::-1], 0.30, 1.10, "ground",
         ("sitting", "walking", "sleeping"), ("猫", "小猫"), ("kitten", "kittens")),
    Kind("panda", "animal", "熊猫", "只", "panda", "pandas", (), 0.32, 1.0, "ground", ("sitting", "eating", "walking"),
         ("大熊猫",), ()),
    Kind("bird", "animal", "小鸟", "只", "bird", "birds", ("blue", "brown", "red", "white", "yellow", "green", "black"),
         0.19, 1.35, "air", ("flying",), ("鸟", "鸟儿"), ()),
    Kind("horse", "animal", "马", "匹", "horse", "horses", ("brown", "black", "white", "gray"), 0.40, 1.15, "ground",
         ("standing", "running", "eating"), ("马儿", "骏马"), ("pony",)),
    Kind("sheep", "animal", "绵羊", "只", "sheep", "sheep", ("white", "black", "gray", "brown"), 0.30, 1.25, "ground",
         ("standing", "eating"), ("羊",), ("lamb",)),
    Kind("elephant", "animal", "大象", "头", "elephant", "elephants", (), 0.44, 1.25, "ground", ("standing", "walking"),
         ("象",), ()),
    Kind("rabbit", "animal", "兔子", "只", "rabbit", "rabbits", ("white", "gray", "brown", "black", "yellow"), 0.29,
         0.85, "ground", ("sitting", "jumping"), ("小兔子", "小兔"), ("bunny", "bunnies")),
    Kind("butterfly", "animal", "蝴蝶", "只", "butterfly", "butterflies",
         ("yellow", "blue", "orange", "purple", "pink", "red", "green"), 0.18, 1.15, "air", ("flying",), (), ()),
    Kind("car", "vehicle", "汽车", "辆", "car", "cars", PAINT, 0.25, 2.0, "ground", (), ("轿车", "小汽车"), ()),
    Kind("bus", "vehicle", "公交车", "辆", "bus", "buses", ("yellow", "red", "blue", "green", "white", "orange"), 0.36,
         1.8, "ground", (), ("巴士", "公共汽车"), ()),
    Kind("bicycle", "vehicle", "自行车", "辆", "bicycle", "bicycles",
         ("red", "black", "blue", "yellow", "pink", "green", "white"), 0.30, 1.5, "ground", (), ("单车",),
         ("bike", "bikes")),
    Kind("boat", "vehicle", "小船", "艘", "boat", "boats",
         ("white", "red", "blue", "yellow", "brown", "green", "orange"), 0.34, 1.1, "ground", (), ("船", "帆船"),
         ("sailboat", "sailboats")),
    Kind("rocket", "vehicle", "火箭", "枚", "rocket", "rockets", ("white", "red", "blue", "gray", "yellow", "green"),
         0.46, 0.5, "ground", (), (), ()),
    Kind("plane", "vehicle", "飞机", "架", "plane", "planes", ("white", "blue", "red", "yellow", "green", "orange"),
         0.22, 2.0, "air", ("flying",), (), ("airplane", "airplanes", "aircraft")),
    Kind("tree", "plant", "大树", "棵", "tree", "trees", ("green", "orange", "pink", "yellow"), 0.55, 0.72, "ground",
         (), ("树", "树木"), ()),
    Kind("flower", "plant", "鲜花", "朵", "flower", "flowers",
         ("red", "yellow", "pink", "purple", "white", "orange", "blue"), 0.28, 0.6, "ground", (), ("花朵", "花儿"),
         ("blossom", "blossoms")),
    Kind("chair", "object", "椅子", "把", "chair", "chairs", ("brown", "red", "blue", "white", "green", "yellow"), 0.32,
         0.7, "ground", (), (), ()),
    Kind("table", "object", "桌子", "张", "table", "tables", ("brown", "white", "blue", "red", "green", "gray"), 0.26,
         1.5, "ground", (), (), ("desk",)),
    Kind("umbrella", "object", "雨伞", "把", "umbrella", "umbrellas",
         ("red", "yellow", "blue", "purple", "green", "pink", "orange"), 0.40, 0.95, "ground", (),
         ("伞", "遮阳伞"), ("parasol",)),
    Kind("ball", "object", "皮球", "个", "ball", "balls",
         ("red", "blue", "yellow", "orange", "purple", "green", "pink"), 0.19, 1.0, "ground", (), ("球",), ()),
    Kind("balloon", "object", "气球", "个", "balloon", "balloons", TOY, 0.30, 0.5, "air", (), (), ()),
    Kind("kite", "object", "风筝", "只", "kite", "kites", ("red", "yellow", "green", "blue", "purple", "orange"), 0.26,
         0.75, "air", (), (), ()),
    Kind("lamp", "object", "台灯", "盏", "lamp", "lamps", ("yellow", "white", "blue", "pink", "red", "green"), 0.30,
         0.6, "ground", (), ("灯",), ()),
    Kind("house", "object", "房子", "座", "house", "houses", ("red", "white", "blue", "yellow", "brown", "pink"), 0.46,
         1.0, "ground", (), ("小屋", "房屋"), ("cottage",)),
    Kind("sun", "sky", "太阳", "个", "sun", "suns", (), 0.20, 1.0, "sky"),
    Kind("moon", "sky", "月亮", "个", "moon", "moons", (), 0.20, 0.9, "sky"),
    Kind("rainbow", "sky", "彩虹", "道", "rainbow", "rainbows", (), 0.32, 2.0, "sky"),
    Kind("cloud", "sky", "白云", "朵", "cloud", "clouds", (), 0.15, 2.0, "sky", (), ("云", "云朵"), ()),
)
KINDS: dict[str, Kind] = {kind.name: kind for kind in _KINDS}


@dataclass(frozen=True)
class Colour:
    name: str
    zh: str  # as in 红色
    zh_short: str  # as in 穿红衣服的
    rgb: tuple[int, int, int]


COLOURS: dict[str, Colour] = {
    colour.name: colour
    for colour in (
        Colour("red", "红色", "红", (214, 48, 44)),
        Colour("orange", "橙色", "橙", (242, 140, 40)),
        Colour("yellow", "黄色", "黄", (248, 212, 56)),
        Colour("green", "绿色", "绿", (62, 158, 72)),
        Colour("blue", "蓝色", "蓝", (48, 104, 204)),
        Colour("purple", "紫色", "紫", (138, 68, 180)),
        Colour("pink", "粉色", "粉", (246, 150, 184)),
        Colour("brown", "棕色", "棕", (136, 88, 52)),
        Colour("black", "黑色", "黑", (44, 44, 50)),
        Colour("white", "白色", "白", (248, 248, 246)),
        Colour("gray", "灰色", "灰", (142, 146, 152)),
    )
}


@dataclass(frozen=True)
class Place:
    name: str
    zh: str  # as in 在…: 海边, 街道上
    en: str  # with its preposition: "by the sea"
    horizon: float  # where the ground begins, as a fraction from the top
    zh_words: tuple[str, ...]  # any of these in a caption names the place
    en_words: tuple[str, ...]


PLACES: dict[str, Place] = {
    place.name: place
    for place in (
        Place("street", "街道上", "on the street", 0.55, ("街道", "街上", "街头", "城市"), ("street", "city")),
        Place("sea", "海边", "by the sea", 0.50, ("海边", "海滩", "沙滩", "大海"), ("sea", "beach", "seaside")),
        Place("grassland", "草地上", "on the grassland", 0.50, ("草地", "草原"), ("grassland", "meadow")),
        Place("space", "太空中", "in space", 0.72, ("太空", "宇宙"), ("space",)),
        Place("waterfall", "瀑布前", "in front of a waterfall", 0.68, ("瀑布",), ("waterfall",)),
        Place("stage", "舞台上", "on a stage", 0.66, ("舞台",), ("stage",)),
        Place("garden", "花园里", "in a garden", 0.50, ("花园",), ("garden",)),
        Place("park", "公园长椅旁", "by a park bench", 0.52, ("公园",), ("park",)),
        Place("room", "房间里", "in a room", 0.66, ("房间", "屋里", "室内"), ("room", "indoors")),
        Place("mountains", "群山前", "in front of the mountains", 0.60, ("群山", "山里", "山脚"), ("mountains",)),
    )
}

ACTIONS_ZH = {
    "standing": "站着", "walking": "散步", "running": "奔跑", "waving": "挥手", "sitting": "坐着", "reading": "看书",
    "floating": "漂浮", "dancing": "跳舞", "jumping": "跳跃", "sleeping": "睡觉", "eating": "吃东西", "flying": "飞翔",
}  # fmt: skip


SIDE_LINES = (0.38, 0.62)  # where the middle begins and ends, as fractions of the picture's width
COLUMNS = 10  # positions from left to right in words and checklists, finer than sides
Box = tuple[float, float, float, float]  # left, top, right, bottom


@dataclass(frozen=True)
class Thing:
    """A node of the scene graph: `count` individuals of one kind side by side, all alike."""

    kind: str
    colour: str | None  # None if the kind always looks the same
    count: int  # 1 to 3
    action: str | None
    size: str  # small | medium | large
    x: float  # centre of the group, 0 (left) to 1 (right)
    y: float  # where it stands (its feet, its lowest point), 0 (top) to 1 (bottom)
    height: float  # of one individual, as a fraction of the picture's height
    flip: bool  # faces left

    @property
    def side(self) -> str:
        """left | middle | right"""
        begin, end = SIDE_LINES
        return "left" if self.x < begin else "right" if self.x > end else "middle"

    @property
    def column(self) -> int:
        """The tenth of the picture's width in which the centre lies, 0 (left) to 9."""
        return min(int(self.x * COLUMNS), COLUMNS - 1)

    @property
    def box(self) -> Box:
        """The box of the whole group, roughly; related things are drawn off their position."""
        half = KINDS[self.kind].aspect * self.height * self.count / 2
        return self.x - half, self.y - self.height, self.x + half, self.y


def shared_area(one: Box, other: Box) -> float:
    """The area of the intersection of two boxes."""
    wide = min(one[2], other[2]) - max(one[0], other[0])
    tall = min(one[3], other[3]) - max(one[1], other[1])
    return max(wide, 0.0) * max(tall, 0.0)


@dataclass(frozen=True)
class Relation:
    """An edge of the scene graph: things[subject] is `name` things[object]; the two are drawn together."""

    name: str  # riding | on | holding
    subject: int
    object: int


@dataclass(frozen=True)
class Scene:
    """The facts of one picture, its ground truth; things in reading order (world.in_reading_order)."""

    seed: int  # determines what is drawn but is no fact (cloud shapes, shades, jitter)
    place: str
    things: tuple[Thing, ...]  # 1 to 4, each of a different kind
    relation: Relation | None = None
