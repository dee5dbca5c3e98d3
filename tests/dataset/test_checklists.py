"""Checklists: every entry is true by the facts, and names as many things that are not there as are."""

from __future__ import annotations

import random
import re

import pytest

from dataset.picturebook import captions_en as en
from dataset.picturebook import captions_zh as zh
from dataset.picturebook.checklists import SWEEPS, TITLES, checklist
from dataset.picturebook.facts import ACTIONS_ZH, COLOURS, KINDS
from dataset.picturebook.world import HELD_OUT_PLACES, make_scene

SCENES = [make_scene("train", i) for i in range(400)]
NOUNS_ZH = {kind.zh: kind.name for kind in KINDS.values()}
NOUNS_EN = {word: kind.name for kind in KINDS.values() for word in (kind.en, kind.en_plural)}


def sweeps(scene, language: str, seed: int = 0) -> dict[str, list[str]]:
    """name -> entries of one checklist."""
    text = checklist(scene, random.Random(seed), language)
    marks, comma = ("：", "，") if language == "zh" else (": ", ", ")
    names = {titles[0 if language == "zh" else 1]: name for name, titles in TITLES.items()}
    parts = re.split(r"。|\.(?: |$)", text)[:-1]
    return {names[title]: entries.split(comma) for title, entries in (part.split(marks) for part in parts)}


def split(entry: str, nouns: dict[str, str]) -> tuple[str, str]:
    """(kind, what is said of it)"""
    noun = max((noun for noun in nouns if entry.startswith(noun)), key=len)
    return nouns[noun], entry[len(noun) :].strip()


@pytest.mark.parametrize("language", ["zh", "en"])
def test_every_entry_of_a_thing_is_true(language):
    nouns = NOUNS_ZH if language == "zh" else NOUNS_EN
    seen = set()
    for number, scene in enumerate(SCENES):
        things = {thing.kind: thing for thing in scene.things}
        for name, entries in sweeps(scene, language, number).items():
            seen.add(name)
            if name == "things":
                assert [split(entry, nouns) for entry in entries] == [(thing.kind, "") for thing in scene.things]
            if name in ("sides", "presence", "things"):
                continue
            for kind, value in (split(entry, nouns) for entry in entries):
                thing = things[kind]
                chinese = language == "zh"
                right = {
                    "colour": thing.colour and (COLOURS[thing.colour].zh if chinese else thing.colour),
                    "number": zh.counted(thing) if chinese else en.NUMBERS[thing.count],
                    "side": zh.SIDES[thing.side] if chinese else thing.side,
                    "column": str(thing.column),
                    "action": thing.action and (ACTIONS_ZH[thing.action] if chinese else thing.action),
                }
                assert value == right[name]
    assert seen == set(TITLES)


@pytest.mark.parametrize("language", ["zh", "en"])
def test_as_many_things_are_absent_as_present_and_no_held_out_pair_is_denied(language):
    nouns, yes, no = (NOUNS_ZH, "有", "没有") if language == "zh" else (NOUNS_EN, "yes", "no")
    for number, scene in enumerate(SCENES):
        entries = sweeps(scene, language, number).get("presence", [])
        said = dict(split(entry, nouns) for entry in entries)
        there = {thing.kind for thing in scene.things}
        assert not entries or {kind for kind, value in said.items() if value == yes} == there
        absent = [kind for kind, value in said.items() if value == no]
        assert len(absent) == (len(there) if entries else 0) and not there & set(absent)
        assert not any((kind, scene.place) in HELD_OUT_PLACES for kind in absent)


def test_each_side_names_what_lies_there():
    for number, scene in enumerate(SCENES):
        for entry in sweeps(scene, "zh", number).get("sides", []):
            side = next(side for side, word in zh.SIDES.items() if entry.startswith(word))
            named = entry[2:].split("和") if entry[2:] != "没有" else []
            there = [KINDS[t.kind].zh for t in scene.things if t.side == side and KINDS[t.kind].where != "sky"]
            assert named == there


@pytest.mark.parametrize("language", ["zh", "en"])
def test_a_checklist_has_so_many_sweeps_of_different_names_and_repeats_for_a_seed(language):
    for scene in SCENES[:50]:
        assert len(sweeps(scene, language)) == SWEEPS
        assert checklist(scene, random.Random(3), language) == checklist(scene, random.Random(3), language)
