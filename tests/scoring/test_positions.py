"""Sides and orders as captions say them, and as the picture book's own captions say them of their scenes."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from dataset.picturebook.captions import caption
from dataset.picturebook.facts import Relation, Scene, Thing
from dataset.picturebook.world import make_scene
from scoring.mentions import read_caption
from scoring.metrics import position_scores, totals

SIDES = {
    "小狗在画面的左边。": [("dog", "left")],
    "小狗位于画面右边，看起来很小。": [("dog", "right")],
    "两只小狗都在画面的中间跑步": [("dog", "middle")],
    "小鸟在右边的空中飞翔。风筝飘在左边的空中": [("bird", "right"), ("kite", "left")],
    "左边有一只棕色的小狗，右边站着一个女人。": [("dog", "left"), ("woman", "right")],
    "画面中间是一辆汽车": [("car", "middle")],
    "小狗在左侧，小猫在中央": [("dog", "left"), ("cat", "middle")],
    "左边有一个男人骑着一匹马。": [("man", "left")],
    "男人在画面的右边，骑着马。": [("man", "right")],
    "小狗在小猫的左边。": [],
    "画面里有小狗和小猫。": [],
    "没有小狗在左边": [],
    "The dog is on the left.": [("dog", "left")],
    "On the left, a brown dog is running, and on the right, there is a cat.": [("dog", "left"), ("cat", "right")],
    "The dog is in the middle of the picture and the cat is on the right.": [("dog", "middle"), ("cat", "right")],
    "On the left there is a dog, and on the right there are two cats.": [("dog", "left"), ("cat", "right")],
    "A dog is on the right side.": [("dog", "right")],
    "A kite is flying in the air on the left": [("kite", "left")],
    "The dog is to the left of the cat.": [],
    "The dog is on the left side of the cat.": [],
    "There is a dog. On the left, a cat.": [("cat", "left")],
    "左边有一只小狗和两只白色的小猫，右边有汽车": [("dog", "left"), ("cat", "left"), ("car", "right")],
    "小狗正在奔跑，在画面的左边。": [("dog", "left")],
    "小狗正在奔跑，在左边有一只小猫": [("cat", "left")],
    "On the left there are two dogs, a red car and a man in blue.": [
        ("dog", "left"), ("car", "left"), ("man", "left")
    ],
}  # fmt: skip

ORDERS = {
    "从左到右依次是小狗、猫咪和大树。": [("dog", "cat"), ("cat", "tree")],
    "From left to right there are the dog, the two cats and the tree.": [("dog", "cat"), ("cat", "tree")],
    "从右到左是小狗和猫咪。": [("cat", "dog")],
    "小狗在小猫的左边。": [("dog", "cat")],
    "小猫位于小狗的右边": [("dog", "cat")],
    "小狗在小狗的右侧": [("dog", "dog")],
    "小狗在画面的左边，小猫在右边": [],
    "小狗和小猫的左边有汽车": [("car", "cat")],
    "小狗位于两只小猫的右边": [("cat", "dog")],
    "小猫的右边站着一只棕色的小狗。": [("cat", "dog")],
    "To the left of the cat there is a brown dog.": [("dog", "cat")],
    "The dog is to the left of the cat.": [("dog", "cat")],
    "Two dogs are to the right of the brown cat.": [("cat", "dog")],
    "The dog is on the left. The cat is on the right.": [],
}


@pytest.mark.parametrize("text", SIDES)
def test_sides(text):
    assert list(read_caption(text).sides) == SIDES[text]


@pytest.mark.parametrize("text", ORDERS)
def test_orders(text):
    assert list(read_caption(text).orders) == ORDERS[text]


RELATIONS = {
    "一个男人骑着一匹棕色的马。": [("man", "riding", "horse")],
    "男人在画面的右边，骑着马。": [("man", "riding", "horse")],
    "小猫在椅子上睡觉。": [("cat", "on", "chair")],
    "老人坐在一把红色的椅子上看书": [("elder", "on", "chair")],
    "孩子拿着一把雨伞，男人骑着自行车": [("child", "holding", "umbrella"), ("man", "riding", "bicycle")],
    "男人在草地上，马在他的左边": [],
    "老人和一个骑着马的孩子": [("child", "riding", "horse")],
    "椅子上坐着一个老人。": [("elder", "on", "chair")],
    "在椅子上看书的老人": [("elder", "on", "chair")],
    "小狗在小猫的左边。": [],
    "那里有一个男人。马在吃草。": [],
    "The man is riding a brown horse.": [("man", "riding", "horse")],
    "A cat is sleeping on the red chair, and a child is holding an umbrella.": [
        ("cat", "on", "chair"), ("child", "holding", "umbrella")
    ],
    "The dog is on the left of the cat.": [],
    "The man is on the grassland. The horse is brown.": [],
}  # fmt: skip


@pytest.mark.parametrize("text", RELATIONS)
def test_relations(text):
    assert list(read_caption(text).relations) == RELATIONS[text]


def test_a_relation_is_right_with_its_own_subject_verb_and_object():
    things = (thing("man", 0.2), thing("horse", 0.2), thing("umbrella", 0.8))
    riding = Scene(1, "park", things, Relation("riding", 0, 1))
    told = {"男人骑着马。": (1, 1), "马骑着男人。": (0, 1), "男人拿着马。": (0, 1), "男人和马。": (0, 0)}
    for text, expected in told.items():
        assert position_scores(read_caption(text), riding)["relation_accuracy"] == expected, text
        nothing = position_scores(read_caption(text), replace(riding, relation=None))["relation_accuracy"]
        assert nothing == (0, expected[1])


def thing(kind: str, x: float) -> Thing:
    return Thing(kind, None, 1, None, "medium", x, 0.7, 0.2, False)


SCENE = Scene(1, "park", (thing("dog", 0.1), thing("cat", 0.5), thing("car", 0.63), thing("kite", 0.9)))


@pytest.mark.parametrize(("text", "sides", "orders"), [
    ("小狗在画面的左边。小猫在画面的左边。", (1, 2), (0, 0)),
    ("汽车在画面的右边。", (0, 0), (0, 0)),  # too near the line
    ("公交车在画面的右边。", (0, 0), (0, 0)),  # not there, which is CHAIR's
    ("小狗在小猫的左边。小狗在小猫的右边。", (0, 0), (1, 2)),
    ("小猫在汽车的左边。", (0, 0), (0, 0)),  # too near each other
    ("小狗在小狗的左边。公交车在小狗的右边。", (0, 0), (0, 2)),
])  # fmt: skip
def test_scores_by_hand(text, sides, orders):
    scores = position_scores(read_caption(text), SCENE)
    assert (scores["side_accuracy"], scores["order_accuracy"]) == (sides, orders)


@pytest.mark.parametrize("language", ["zh", "en"])
def test_the_books_own_captions_are_right_and_those_of_mirrored_scenes_are_not(language):
    true, mirrored = [], []
    for scene in (make_scene("train", index) for index in range(300)):
        for length in ("paragraph", "long"):
            said = read_caption(caption(scene, length, random.Random(scene.seed), language))
            true.append(position_scores(said, scene))
            other = replace(scene, things=tuple(replace(thing, x=1 - thing.x) for thing in scene.things))
            mirrored.append(position_scores(said, other))
    told = {name: sum(score[name][1] for score in true) for name in true[0]}
    assert told["side_accuracy"] > 600 and told["order_accuracy"] > 100 and told["relation_accuracy"] > 100
    assert totals(true) == {"side_accuracy": 1.0, "order_accuracy": 1.0, "relation_accuracy": 1.0}
    assert totals(mirrored)["side_accuracy"] < 0.45 and totals(mirrored)["order_accuracy"] == 0.0
