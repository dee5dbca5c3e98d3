"""Things that captions of photographs name, and which of them no human named."""

from __future__ import annotations

import pytest

from dataset.record import IMAGE, Record, Turn
from scoring.controls import controls
from scoring.hallucination import photo_hallucination
from scoring.photo_things import FILE, mentions, named, photo_scores, things
from scoring.tasks import ReferenceTask

SNOW = ["a man walks his dog in the snow", "a person and a dog outside", "a dog walks beside a boy"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A man and his dogs .", ["man", "dog"]),
        ("Two skateboarders", ["person", "skateboard"]),
        ("The dog's ball, the other dog", ["dog", "ball"]),
        ("一只狗在草地上奔跑。", ["dog", "grass"]),
        ("马路上的斑马线", ["street"]),  # no horse
        ("一个人在玩花样滑板", ["person", "skateboard"]),  # no flower, nor a board
        ("牛仔裤", ["pants"]),  # no cow
        ("nothing at all", []),
        ("", []),
    ],
)
def test_what_a_caption_names(text, expected):
    assert named(text) == expected


def test_mentions_have_the_span_of_their_word():
    text = "Dogs run; 一只狗"
    assert [(thing, text[start:end]) for thing, start, end in mentions(text)] == [("dog", "Dogs"), ("dog", "狗")]


def test_a_thing_is_absent_if_nobody_named_it_or_something_wider_or_narrower():
    scores = photo_scores("a boy, a woman and a cat on a beach", SNOW)
    # "person" is wider than woman; nobody named a cat or a beach
    assert scores["chair_i"] == (2, 4) and scores["chair_s"] == (1, 1)
    assert photo_scores("a woman", ["a man"])["chair_i"] == (1, 1)
    assert photo_scores("an animal", ["a dog"])["chair_i"] == photo_scores("a dog", ["an animal"])["chair_i"] == (0, 1)


def test_a_caption_ought_to_name_what_two_people_named():
    # two or more name a dog; person, man, boy and snow have one each
    assert photo_scores("a dog", SNOW)["recall"] == (1, 1)
    assert photo_scores("an animal in the snow", SNOW)["recall"] == (1, 1)
    assert photo_scores("a cat", SNOW)["recall"] == (0, 1)
    assert photo_scores("a cat", ["a dog"])["recall"] == (0, 1)  # of one reference all that it names


def test_a_reference_itself_is_never_absent_from_its_references():
    assert all(photo_scores(text, SNOW)["chair_i"][0] == 0 for text in SNOW)


def test_by_mention():
    scores = photo_hallucination("a boy, a cat, a dog", SNOW, tokens=20)
    assert [scores[f"false_at/{k}"] for k in range(1, 5)] == [(0, 1), (1, 1), (0, 1), (0, 0)]
    assert scores["chair_first/2"] == (1, 2) and scores["cover_first/2"] == (0, 1) and scores["cover_first/3"] == (1, 1)
    assert scores["absent_per_100_tokens"] == (100, 20)


def test_the_list_is_sound():
    known = things()
    lines = FILE.read_text("utf-8").splitlines()
    assert len({line.split("\t")[0] for line in lines}) == len(lines)  # each thing once
    assert all(line.count("\t") == 3 for line in lines)
    assert all(thing in known.related[other] for thing, others in known.related.items() for other in others)
    assert known.related["boy"] == {"boy", "child", "man", "person"} and "woman" not in known.related["man"]


def test_controls_count_absent_things_of_one_human_too():
    turns = (Turn("user", (IMAGE,)), Turn("assistant", ("",)))
    captions = [("a dog", "a dog runs"), ("a cat", "a dog")]
    task = ReferenceTask(tuple(Record(str(i), (b"",), turns, references=some) for i, some in enumerate(captions)))
    found = controls(task, ["a dog", "a cat"])
    assert found["human_chair_i"] == 0.5  # of a cat against a dog
    assert found["swapped_chair_i"] == 0.5  # a cat for the first, a dog for the second
