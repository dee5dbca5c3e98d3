"""Reading captions: kinds, traps, negation, colours, counts and places, by hand and against the caption writers."""

from __future__ import annotations

import dataclasses
import random
import time

import pytest

from dataset.picturebook.captions import caption
from dataset.picturebook.facts import COLOURS, KINDS, PLACES
from dataset.picturebook.world import make_scene
from scoring import lexicon
from scoring.mentions import read_caption


def told(text: str) -> list[tuple]:
    """(kind, colour, count) of each mention in reading order."""
    return [(m.kind, m.colour, m.count) for m in read_caption(text).mentions]


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
def test_every_word_of_every_kind_is_a_mention_of_it_and_of_nothing_else(kind):
    for word in (kind.zh, *kind.zh_synonyms):
        assert [m.kind for m in read_caption(f"图中有一{kind.measure}{word}。").mentions] == [kind.name], word
    for word in (kind.en, kind.en_plural, *kind.en_synonyms):
        assert [m.kind for m in read_caption(f"I see the {word}.").mentions] == [kind.name], word


@pytest.mark.parametrize("place", PLACES.values(), ids=lambda place: place.name)
def test_places_are_named_by_their_words_and_hold_no_object(place):
    for text in (place.zh, place.en, *place.zh_words, *place.en_words):
        said = read_caption(text)
        assert said.places == (place.name,) and not said.mentions, text


@pytest.mark.parametrize(
    "text",
    ["马路上的斑马线", "花园和公园", "红绿灯、路灯和灯光", "宇宙飞船飞过地球", "一只猫头鹰", "热狗", "树林里的树叶",
     "好景象", "猜想象征什么",
     "sunset over a cart", "a carpet, a catfish and a planet", "the bus stop", "a street lamp", "hot dogs",
     "a doghouse", "a tree-lined street", "a horse-drawn cart", "sunny and cloudy", "a human", "by a park bench"],
)  # fmt: skip
def test_a_kinds_name_inside_another_word_is_no_mention(text):
    assert told(text) == []


def test_the_longest_word_wins():
    assert [m.kind for m in read_caption("熊猫和公共汽车，气球，自行车，老人，太阳伞，热气球").mentions] == [
        "panda", "bus", "balloon", "bicycle", "elder", "umbrella", "balloon",
    ]  # fmt: skip
    assert told("an old man, a beach ball and an airplane") == [
        ("elder", None, 1), ("ball", None, 1), ("plane", None, 1),
    ]  # fmt: skip
    assert read_caption("a beach ball").places == ()


def test_positions_point_at_the_words():
    text = "海边有 two dogs 和一只猫咪"
    assert [text[m.start : m.end] for m in read_caption(text).mentions] == ["dogs", "猫咪"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("一只棕色的小狗", [("dog", "brown", 1)]),
        ("一只棕色小狗", [("dog", "brown", 1)]),
        ("小黑狗", [("dog", "black", None)]),
        ("一只可爱的褐色小狗", [("dog", "brown", 1)]),
        ("一位穿红衣服的女人", [("woman", "red", 1)]),
        ("一位身穿红色长裙的女人", [("woman", "red", 1)]),
        ("女人穿着一件粉红色的外套", [("woman", "pink", None)]),
        ("小狗是棕色的。", [("dog", "brown", None)]),
        ("小狗不是棕色的。", [("dog", None, None)]),
        ("不是棕色的小狗", []),
        ("黑白相间的小狗", [("dog", None, None)]),
        ("黑色和白色的小狗", [("dog", None, None)]),
        ("红色的沙滩上有小狗", [("dog", None, None)]),
        ("蓝色的天空下，小狗在跑", [("dog", None, None)]),
        ("红色的气球旁边的小狗", [("balloon", "red", None), ("dog", None, None)]),
        ("小狗和红色的气球", [("dog", None, None), ("balloon", "red", None)]),
        ("小狗戴着红色的项圈", [("dog", None, None)]),
        ("一朵白云和一朵红色的鲜花", [("cloud", None, 1), ("flower", "red", 1)]),
        ("a brown dog", [("dog", "brown", 1)]),
        ("a small dark brown dog", [("dog", "brown", 1)]),
        ("a red-coloured car", [("car", "red", 1)]),
        ("A woman in red walks by.", [("woman", "red", 1)]),
        ("a woman in a red dress", [("woman", "red", 1)]),
        ("a woman who is wearing a long-sleeved coat", [("woman", None, 1)]),
        ("a woman dressed in red", [("woman", "red", 1)]),
        ("The dog is brown.", [("dog", "brown", None)]),
        ("The dog is not brown.", [("dog", None, None)]),
        ("a brown and white dog", [("dog", None, 1)]),
        ("The dog is brown and white.", [("dog", None, None)]),
        ("a woman in red and white", [("woman", None, 1)]),
        ("a dog with a red collar", [("dog", None, 1)]),
        ("a man in a red car", [("man", None, 1), ("car", "red", 1)]),
        ("the sky is blue, the dog runs", [("dog", None, None)]),
        ("a woman in red and two grey cats", [("woman", "red", 1), ("cat", "gray", 2)]),
    ],
)
def test_a_colour_binds_only_to_the_noun_it_modifies(text, expected):
    assert told(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("两只小狗和三匹马", [("dog", None, 2), ("horse", None, 3)]),
        ("3只小鸟", [("bird", None, 3)]),
        ("几只小鸟", [("bird", None, 0)]),
        ("一群小鸟", [("bird", None, 0)]),
        ("一个骑着马的男人", [("horse", None, None), ("man", None, 1)]),
        ("一个男人骑着马", [("man", None, 1), ("horse", None, None)]),
        ("一只在草地上奔跑的小狗", [("dog", None, 1)]),
        ("两个穿红衣服的女人和小狗", [("woman", "red", 2), ("dog", None, None)]),
        ("一张桌子上的小猫", [("table", None, 1), ("cat", None, None)]),
        ("第二只小狗", [("dog", None, None)]),
        ("two old men", [("elder", None, 2)]),
        ("a couple of dogs", [("dog", None, 2)]),
        ("three small red kites", [("kite", "red", 3)]),
        ("some dogs", [("dog", None, 0)]),
        ("dogs", [("dog", None, 0)]),
        ("the dog", [("dog", None, None)]),
        ("two sheep and the sheep", [("sheep", None, 2), ("sheep", None, None)]),
        ("one of two dogs", [("dog", None, 2)]),
    ],
)
def test_a_number_binds_only_to_the_noun_it_counts(text, expected):
    assert told(text) == expected


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("没有小狗", ()),
        ("没有红色的汽车、小船或小狗，有一只猫", ("cat",)),
        ("看不到任何一只小狗", ()),
        ("不是小狗，而是猫咪", ("cat",)),
        ("一只没有戴帽子的小狗", ("dog",)),
        ("没有人的草地上有一只小狗", ("dog",)),
        ("no dogs, cats or birds", ()),
        ("There isn't a brown dog, but there is a cat", ("cat",)),
        ("a man without an umbrella", ("man",)),
        ("not only a dog", ("dog",)),
    ],
)
def test_what_is_denied_is_not_mentioned(text, kinds):
    assert read_caption(text).kinds == kinds


def test_the_first_colour_and_number_of_a_kind_count():
    said = read_caption("小狗旁边有两只棕色的小狗、三只黑色的小狗")
    assert said.kinds == ("dog",) and len(said.mentions) == 3
    assert (said.colour("dog"), said.count("dog")) == ("brown", 2)
    assert read_caption("some dogs").count("dog") == 0
    assert read_caption("Dogs run. There are two dogs.").count("dog") == 2
    assert read_caption("小狗").count("dog") == 1 and read_caption("小狗").colour("cat") is None


@pytest.mark.parametrize(("number", "count"), [("a single", 1), ("a few", 0), ("lots of", 0), ("a couple of", 2)])
def test_a_number_of_more_than_one_word_may_open_a_caption(number, count):
    (dogs,) = read_caption(f"{number} brown dogs").mentions
    assert (dogs.count, dogs.count_at, dogs.colour) == (count, (0, len(number)), "brown")


def test_nothing_is_read_from_an_empty_or_foreign_text():
    for text in ("", "。", "12345", "Ünïcödé ﷺ 🐶", "\n\n"):
        assert read_caption(text).mentions == () and read_caption(text).places == ()


@pytest.mark.parametrize("unit", ["小", "红", "红的", "没有小", "一只", "没一个", "big ", "no ", "red and ", "a red "])
def test_a_stuck_text_is_read_in_no_time(unit):
    started = time.perf_counter()
    long = unit * 400
    for text in (long + "吃小狗", long + "eats dogs", long + "小狗" + long, f"没{long}x狗"):
        read_caption(text)
    assert time.perf_counter() - started < 5


def test_traps_contain_a_name_or_stand_for_a_kind():
    names = {word for kind in KINDS.values() for word in (kind.zh, *kind.zh_synonyms)}
    names |= {word for place in PLACES.values() for word in place.zh_words}
    for trap in lexicon.TRAPS_ZH:
        assert trap not in names, trap
    assert {kind for kind in (*lexicon.TRAPS_ZH.values(), *lexicon.TRAPS_EN.values()) if kind} <= set(KINDS)
    assert set(lexicon.COLOURS_ZH.values()) == set(lexicon.COLOURS_EN.values()) == set(COLOURS)


@pytest.mark.parametrize("length", ["phrase", "sentence", "paragraph", "long"])
@pytest.mark.parametrize("language", ["zh", "en"])
def test_a_true_caption_claims_the_facts_of_its_scene(language, length):
    for index in range(150):
        scene = make_scene("test" if index % 3 else "compositional", index)
        text = caption(scene, length, random.Random(index), language)
        said = read_caption(text)
        assert set(said.kinds) == {thing.kind for thing in scene.things}, text
        assert said.places == (scene.place,), text
        for thing in scene.things:
            assert said.colour(thing.kind) == thing.colour, (text, thing)
            assert said.count(thing.kind) == thing.count, (text, thing)


@pytest.mark.parametrize("language", ["zh", "en"])
def test_a_caption_of_changed_facts_claims_the_changed_facts(language):
    for index in range(60):
        scene = make_scene("val", index)
        i, thing = next(((i, t) for i, t in enumerate(scene.things) if KINDS[t.kind].where != "sky"), (0, None))
        if thing is None:
            continue
        colours = [None] if thing.colour is None else list(COLOURS)
        changed = dataclasses.replace(thing, count=thing.count % 3 + 1, colour=colours[index % len(colours)])
        scene = dataclasses.replace(scene, things=(*scene.things[:i], changed, *scene.things[i + 1 :]))
        text = caption(scene, "sentence", random.Random(index), language)
        said = read_caption(text)
        assert (said.colour(thing.kind), said.count(thing.kind)) == (changed.colour, changed.count), text
