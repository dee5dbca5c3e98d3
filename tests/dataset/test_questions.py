"""Questions have one right answer, and it is the given one."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from dataset.picturebook import captions_en, captions_zh
from dataset.picturebook.facts import ACTIONS_ZH, COLOURS, KINDS, PLACES, Relation, Scene, Thing
from dataset.picturebook.questions import (
    ARGUABLE_PLACES,
    SAMPLINGS,
    TYPES,
    absent_kinds,
    pick_absent,
    pope_questions,
    popularity,
    questions,
)
from dataset.picturebook.telling import NEAR
from dataset.picturebook.world import HELD_OUT_PLACES, LIKELY, make_scene
from scoring.mentions import read_caption

SCENES = [make_scene(split, i) for split in ("train", "compositional") for i in range(200)]


def asked(scene: Scene, language: str) -> dict[str, list[tuple[str, str]]]:
    """type -> (question, answer)"""
    found: dict[str, list[tuple[str, str]]] = {name: [] for name in TYPES}
    for question in questions(scene, random.Random(0), language):
        found[question.type].append((question.text, question.answer))
    return found


def test_no_question_has_two_answers():
    types = Counter()
    for language in ("zh", "en"):
        for scene in SCENES:
            told = questions(scene, random.Random(0), language)
            assert len({question.text for question in told}) == len(told)
            types.update(question.type for question in told)
    assert set(types) == set(TYPES)


def test_answers_agree_with_the_facts():
    for scene in SCENES:
        found = asked(scene, "zh")
        for thing in scene.things:
            kind = KINDS[thing.kind]
            count = (f"图里有几{kind.measure}{kind.zh}？", f"图里有{captions_zh.counted(thing)}{kind.zh}。")
            assert (count in found["count"]) == (kind.where != "sky")
            colours = [a for q, a in found["colour"] if q.startswith(kind.zh)]
            assert len(colours) == (thing.colour is not None)
            assert all(COLOURS[thing.colour].zh_short in answer for answer in colours)
            for question, answer in found["where"]:
                if question == f"{kind.zh}在哪里？" and kind.where != "sky":
                    assert answer == f"{kind.zh}在画面的{captions_zh.SIDES[thing.side]}。"
            for question, answer in found["action"]:
                if question == f"{kind.zh}在做什么？" and scene.relation is None:
                    assert ACTIONS_ZH[thing.action] in answer
        assert ("这是在哪里？", f"这是在{PLACES[scene.place].zh}。") in found["where"]


def test_english_answers_agree_in_number():
    dogs = Thing("dog", "brown", 2, "running", "medium", 0.2, 0.9, 0.26, False)
    man = Thing("man", "blue", 1, "reading", "medium", 0.8, 0.9, 0.5, False)
    found = asked(Scene(1, "sea", (man, dogs)), "en")
    assert ("What colour are the dogs?", "The dogs are brown.") in found["colour"]
    assert ("What colour is the man wearing?", "The man is wearing blue.") in found["colour"]
    assert ("How many dogs are there?", "There are two dogs.") in found["count"]
    assert ("How many men are there?", "There is one man.") in found["count"]
    assert ("What are the dogs doing?", "The dogs are running.") in found["action"]
    assert ("What is the man doing?", "The man is reading a book.") in found["action"]
    assert ("What is on the left?", "On the left there are two brown dogs.") in found["what"]
    assert ("Where is this?", "This is by the sea.") in found["where"]


def test_relations_are_asked_about_and_answered():
    child = Thing("child", "red", 1, "sitting", "medium", 0.5, 0.9, 0.36, False)
    horse = Thing("horse", "brown", 1, "running", "medium", 0.5, 0.9, 0.4, False)
    scene = Scene(1, "grassland", (child, horse), Relation("riding", 0, 1))
    zh, en = asked(scene, "zh"), asked(scene, "en")
    assert ("孩子骑着什么？", "孩子骑着一匹棕色的马。") in zh["what"]
    assert zh["action"] == [("孩子在做什么？", "孩子骑着一匹棕色的马。")]
    assert ("What is the child riding?", "The child is riding a brown horse.") in en["what"]


@pytest.mark.parametrize("language", ["zh", "en"])
def test_orders_are_asked_of_things_that_are_clearly_apart_and_either_side_is_as_often_right(language):
    found = []
    for number, scene in enumerate(SCENES):
        things = {thing.kind: thing for thing in scene.things}
        for question in questions(scene, random.Random(number), language):
            if question.type == "order":
                ((left, right),) = read_caption(question.answer).orders
                assert things[right].x - things[left].x >= NEAR
                found.append("左边。" in question.answer or "the left" in question.answer)
    assert len(found) > 100 and 0.4 < sum(found) / len(found) < 0.6


@pytest.mark.parametrize("language", ["zh", "en"])
def test_yes_and_no_are_balanced_and_right(language):
    yes_words = ("有", "Yes")
    answers = Counter()
    for i, scene in enumerate(SCENES):
        name = {k.zh if language == "zh" else k.en: k.name for k in KINDS.values()}
        for question in questions(scene, random.Random(i), language):
            if question.type != "exists":
                continue
            noun = max((n for n in name if n in question.text), key=len)
            yes = question.answer.startswith(yes_words)
            assert yes == (name[noun] in {thing.kind for thing in scene.things}), question
            answers[yes] += 1
    assert answers[True] == answers[False] > 0


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_pope_asks_each_present_kind_and_as_many_absent_ones(sampling):
    for i, scene in enumerate(SCENES):
        told = pope_questions(scene, sampling, random.Random(i))
        present = {f"图里有{KINDS[thing.kind].zh}吗？" for thing in scene.things}
        assert {text for text, answer in told if answer} == present
        assert sum(answer for _, answer in told) * 2 == len(told) == len({text for text, _ in told})
        assert told == pope_questions(scene, sampling, random.Random(i))


def test_absent_kinds_are_beyond_doubt_and_never_held_out():
    for scene in SCENES:
        absent = set(absent_kinds(scene))
        assert not absent & {thing.kind for thing in scene.things}
        assert not absent & set(ARGUABLE_PLACES.get(scene.place, ()))
        assert not any((kind, scene.place) in HELD_OUT_PLACES for kind in absent)
        if any(thing.kind == "elder" for thing in scene.things):
            assert "man" not in absent


def test_samplings_differ_as_their_names_say():
    def mean(sampling: str, value) -> float:
        rng = random.Random(0)
        drawn = [(s.place, kind) for s in SCENES for kind in pick_absent(s, sampling, 2, rng)]
        return sum(value(place, kind) for place, kind in drawn) / len(drawn)

    def common(place: str, kind: str) -> float:
        return popularity()[kind]

    def at_home(place: str, kind: str) -> float:
        return LIKELY[place].get(kind, 0.0)

    assert mean("popular", common) > 1.2 * mean("random", common)
    assert mean("adversarial", at_home) > 2 * mean("popular", at_home)
    assert abs(sum(popularity().values()) - 1) < 1e-9


def test_what_is_not_known_is_refused():
    with pytest.raises(ValueError, match="zh and en"):
        questions(SCENES[0], random.Random(0), "fr")
    with pytest.raises(ValueError, match="random, popular, adversarial"):
        pope_questions(SCENES[0], "rare", random.Random(0))


def test_english_pope_questions_are_english():
    told = pope_questions(SCENES[0], "random", random.Random(0), "en")
    assert all(text.startswith("Is ") and text.endswith("?") for text, _ in told)
    assert captions_en.article("astronaut") == "an"
