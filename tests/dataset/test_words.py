"""Word pictures: each cell says what lies in it, and nothing else."""

from __future__ import annotations

import dataclasses
import random

import pytest
import torch

from dataset.picturebook.captions import LANGUAGES
from dataset.picturebook.captions_zh import NUMBERS, SIDES
from dataset.picturebook.facts import ACTIONS_ZH, COLOURS, COLUMNS, KINDS, PLACES, Relation, Scene, Thing
from dataset.picturebook.words import (
    GRID,
    RELATIONS_ZH,
    cell_owners,
    languages_of,
    mistaken,
    place_word,
    thing_words,
    word_loader,
    word_picture,
)
from dataset.picturebook.world import make_scene
from engine.build import BAND
from model.projector import band_order
from tokenizer.tokenizer import default_folder, load_tokenizer

SCENES = [make_scene("train", i) for i in range(600)]


class Middle(random.Random):
    """No chance at all: every draw is in the middle, so nothing jitters."""

    def random(self) -> float:
        return 0.5


def words_of(scene: Scene, rng: random.Random) -> list[tuple[str, ...]]:
    return list(word_picture(scene, rng))


def said(scene: Scene, rng: random.Random) -> set[str]:
    return {word for cell in word_picture(scene, rng) for word in cell}


def dog(**facts) -> Thing:
    plain = {"count": 1, "action": "sitting", "size": "medium", "x": 0.5, "y": 0.9, "height": 0.26, "flip": False}
    return Thing("dog", "brown", **{**plain, **facts})


@pytest.mark.parametrize("languages", [("zh",), ("en",), ("zh", "en")])
def test_every_things_words_are_in_at_least_one_cell(languages):
    for scene in SCENES:
        found = {word for cell in word_picture(scene, Middle(), languages) for word in cell}
        for thing in scene.things:
            for language in languages:
                assert set(thing_words(thing, language)) <= found
        if scene.relation and "zh" in languages:
            assert RELATIONS_ZH[scene.relation.name] in found
        if scene.relation and "en" in languages:
            assert f" {scene.relation.name}" in found


def test_a_picture_in_two_languages_says_what_it_says_in_each():
    for scene in SCENES[:100]:
        both = word_picture(scene, random.Random(1), LANGUAGES)
        zh, en = (word_picture(scene, random.Random(1), (language,)) for language in LANGUAGES)
        for said_in_both, *alone in zip(both, zh, en, strict=True):
            assert set(said_in_both) == set().union(*alone)


def test_words_stand_there_in_the_languages_of_the_texts():
    assert [languages_of(share) for share in (0, 0.3, 1)] == [("zh",), ("zh", "en"), ("en",)]


def test_things_share_a_cell_only_where_one_of_them_has_no_other():
    shared = 0
    for scene in SCENES:
        owners = cell_owners(scene, random.Random(scene.seed))
        for i, own in enumerate(owners):
            assert own
            for other in owners[:i]:
                both = set(own) & set(other)
                shared += bool(both)
                assert not both or len(own) == 1 or len(other) == 1
    assert shared < 0.05 * len(SCENES)


def test_places_jitter_but_the_words_do_not():
    scenes = [scene for scene in SCENES if len(scene.things) > 1]
    moved = [word_picture(s, random.Random(1)) != word_picture(s, random.Random(2)) for s in scenes]
    assert 0.2 < sum(moved) / len(scenes) < 1
    assert all(said(s, random.Random(1)) - {PLACES[s.place].zh_words[0]} == said(s, random.Random(2))
               - {PLACES[s.place].zh_words[0]} for s in scenes)  # fmt: skip


def test_a_word_that_belongs_to_nothing_in_the_scene_is_in_no_cell():
    for scene in SCENES:
        allowed = {word for thing in scene.things for word in thing_words(thing)}
        allowed |= {PLACES[scene.place].zh_words[0]}
        allowed |= {RELATIONS_ZH[scene.relation.name]} if scene.relation else set()
        assert said(scene, random.Random(scene.seed)) <= allowed


def test_every_cell_says_something_and_only_once():
    for scene in SCENES:
        cells = words_of(scene, random.Random(scene.seed))
        assert len(cells) == GRID * GRID
        assert all(cells) and all(len(set(cell)) == len(cell) for cell in cells)


def test_a_cell_in_which_nothing_lies_says_the_place():
    cells = words_of(Scene(1, "sea", (dog(x=0.125, y=0.25, height=0.2),)), Middle())
    assert "小狗" in cells[0]
    assert cells[1:] == [("海边",)] * 15


@pytest.mark.parametrize(
    "x, y, cell", [(0.125, 0.23, 0), (0.875, 0.23, 3), (0.125, 0.98, 12), (0.875, 0.98, 15), (0.375, 0.73, 9)]
)
def test_a_small_thing_lies_in_the_cell_where_it_is(x, y, cell):
    cells = words_of(Scene(1, "park", (dog(x=x, y=y, height=0.18),)), Middle())
    assert [i for i, words in enumerate(cells) if "小狗" in words] == [cell]


def test_a_wide_group_lies_in_all_the_cells_that_it_covers():
    cells = words_of(Scene(1, "park", (dog(count=3, height=0.25, y=1.0),)), Middle())
    assert [i for i, words in enumerate(cells) if "小狗" in words] == [12, 13, 14, 15]


def test_something_much_smaller_than_a_cell_is_still_in_one():
    cells = words_of(Scene(1, "park", (dog(height=0.02),)), Middle())
    assert sum("小狗" in words for words in cells) == 1


def test_the_words_of_a_thing_are_its_facts():
    assert thing_words(dog()) == ["小狗", "中间", "5", "棕色", "坐着"]
    two = dog(count=2, action="running")
    assert thing_words(two) == ["小狗", "中间", "5", "棕色", "两", "奔跑"]
    panda = Thing("panda", None, 3, "eating", "small", 0.5, 0.9, 0.25, False)
    assert thing_words(panda) == ["熊猫", "中间", "5", "三", "吃东西"]
    assert thing_words(two, "en") == ["5", " dog", " dogs", " middle", " brown", " two", " running"]
    elder = Thing("elder", "gray", 1, "sitting", "medium", 0.2, 0.9, 0.46, False)
    assert thing_words(elder, "en", "on") == ["2", " old man", " old men", " left", " gray", " sitting", " on"]
    assert [thing_words(dog(x=x))[1] for x in (0.2, 0.9)] == ["左边", "右边"]
    assert [dog(x=x).column for x in (0.0, 0.09, 0.1, 0.45, 1.0)] == [0, 0, 1, 4, 9]


def test_the_relation_is_told_by_its_subject():
    elder = Thing("elder", "gray", 1, "sitting", "medium", 0.2, 0.9, 0.46, False)
    chair = Thing("chair", "red", 1, None, "medium", 0.8, 0.9, 0.32, False)
    scene = Scene(1, "room", (elder, chair), Relation("on", 0, 1))
    for words in words_of(scene, Middle()):
        assert (RELATIONS_ZH["on"] in words) == ("老人" in words)


def test_the_same_randomness_gives_the_same_words():
    for scene in SCENES[:50]:
        assert word_picture(scene, random.Random(5)) == word_picture(scene, random.Random(5))


def test_every_word_is_a_token_or_a_few_and_no_two_words_have_the_same():
    """Their embeddings are summed in a cell, so a word must not be a long string of byte tokens."""
    tokenizer = load_tokenizer(default_folder())
    words = {kind.zh for kind in KINDS.values()} | {colour.zh for colour in COLOURS.values()}
    words |= {place_word(place, language) for place in PLACES for language in LANGUAGES} | set(ACTIONS_ZH.values())
    words |= {*NUMBERS.values(), *RELATIONS_ZH.values()} | {str(n) for n in range(COLUMNS)}
    english = {word for kind in KINDS.values() for word in (kind.en, kind.en_plural)}
    words |= {f" {word}" for word in (*english, *COLOURS, *ACTIONS_ZH, *RELATIONS_ZH, *SIDES)}
    ids = {word: tuple(tokenizer.encode(word)) for word in words}
    assert max(map(len, ids.values())) <= 3
    assert len({frozenset(tokens) for tokens in ids.values()}) == len(words)


def test_cells_come_in_bands_as_the_default_projectors_tokens_do():
    """Slot 1 is the cell below slot 0, not the one to its right; the lower half follows the upper one."""
    scenes, tokenizer = [make_scene("test", i) for i in range(8)], load_tokenizer(default_folder())
    by_rows, in_bands = (word_loader(tokenizer, band=band)(scenes)["words"] for band in (1, 2))
    assert torch.equal(in_bands, by_rows[:, band_order(GRID * GRID, 2)])
    assert band_order(16, 2)[:5] == [0, 4, 1, 5, 2] and band_order(16, 2)[8:11] == [8, 12, 9]
    assert torch.equal(word_loader(tokenizer, band=BAND)(scenes)["words"], in_bands)
    assert torch.equal(word_loader(tokenizer)(scenes)["words"], in_bands)


def test_a_thing_in_doubt_has_the_words_of_two_that_differ_in_kind_colour_or_number():
    plain, doubted, kinds = 0, 0, set()
    for index in range(60):
        scene = make_scene("train", index)
        sure = word_picture(scene, random.Random(index), doubt=0.0)
        assert sure == word_picture(scene, random.Random(index))
        told = word_picture(scene, random.Random(index), doubt=0.5)
        words = {word for cell in told for word in cell}
        for thing in scene.things:
            assert set(thing_words(thing)) - {*RELATIONS_ZH.values()} <= words  # the right reading is always there
        for thing in scene.things:
            other = mistaken(thing, random.Random(index))
            (changed,) = (f.name for f in dataclasses.fields(thing) if getattr(thing, f.name) != getattr(other, f.name))
            kinds.add(changed)
            assert KINDS[other.kind].group == KINDS[thing.kind].group and other.count in (1, 2, 3)
        more = sum(map(len, told)) > sum(map(len, sure))
        plain, doubted = plain + (not more), doubted + more
    assert kinds == {"kind", "colour", "count"} and plain and doubted
