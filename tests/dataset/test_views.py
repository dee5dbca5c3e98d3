"""Views of records: subsets, text only, and answers truncated to whole sentences."""

from __future__ import annotations

import random
from functools import partial

import numpy as np
import pytest

from dataset.record import IMAGE, Record, Turn, without_pictures
from dataset.views import Changed, Subset, change_answers, cut_to_sentences, split_off


def record(i: int = 0, answer: str = "好。", parts: tuple = (IMAGE, "\n这是什么？")) -> Record:
    return Record(f"r:{i}", (b"png",), (Turn("user", parts), Turn("assistant", (answer,))), label="猫")


RECORDS = [record(i) for i in range(40)]


class Watched(list):
    """A list that remembers what was looked at."""

    def __init__(self, items):
        super().__init__(items)
        self.seen: list[int] = []

    def __getitem__(self, i):
        self.seen.append(i)
        return super().__getitem__(i)


def up_to(count: int):
    return lambda text: len(text) <= count


def cut_answers(record: Record, most: int) -> Record:
    return change_answers(record, partial(cut_to_sentences, fits=up_to(most)))


def test_a_subset_has_those_rows_in_that_order():
    some = Subset(RECORDS, np.array([7, 3, 7]))
    assert len(some) == 3 and [r.id for r in some] == ["r:7", "r:3", "r:7"]


def test_changed_records_are_changed_when_they_are_asked_for_and_the_originals_stay():
    rows = Watched(RECORDS)
    view = Changed(rows, lambda r: record(99, r.id))
    assert len(view) == 40 and not rows.seen
    assert view[5].turns[1].text == "r:5" and rows.seen == [5]
    assert RECORDS[5].id == "r:5"


@pytest.mark.parametrize("count", [0, 1, 13, 40])
def test_what_is_split_off_and_the_rest_are_all_records_each_once(count):
    rest, part = split_off(RECORDS, count, seed=3)
    assert len(part) == count
    assert sorted(r.id for r in [*rest, *part]) == sorted(r.id for r in RECORDS)


def test_the_split_follows_from_the_seed_and_is_not_the_files_start():
    parts = [{r.id for r in split_off(RECORDS, 10, seed)[1]} for seed in (1, 1, 2)]
    assert parts[0] == parts[1] != parts[2]
    assert parts[0] != {f"r:{i}" for i in range(10)} and parts[0] != {f"r:{i}" for i in range(30, 40)}


@pytest.mark.parametrize(
    "parts, expected",
    [
        ((IMAGE, "\n这是什么？"), "这是什么？"),
        (("这是什么？\n", IMAGE), "这是什么？"),
        (("看 ", IMAGE, " 和 ", IMAGE), "看  和"),
        ((IMAGE,), ""),
        (("  没有图\n",), "  没有图\n"),
    ],
)
def test_a_record_without_its_pictures_keeps_its_text(parts, expected):
    plain = without_pictures(record(parts=parts))
    assert plain.images == () and sum(turn.image_count for turn in plain.turns) == 0
    assert plain.turns[0] == Turn("user", (expected,)) and plain.turns[1].text == "好。"
    assert (plain.id, plain.label) == ("r:0", "猫")


@pytest.mark.parametrize(
    "text, most, expected",
    [
        ("一只猫。一只狗。一匹马。", 8, "一只猫。一只狗。"),
        ("一只猫。一只狗。一匹马。", 7, "一只猫。"),
        ("一只猫。一只狗。一匹马。", 12, "一只猫。一只狗。一匹马。"),
        ("一只很大的猫。一只狗。", 3, "一只很大的猫。"),  # one sentence stays
        ("没有句号的一段很长的话", 3, "没有句号的一段很长的话"),
        ("一只猫。还没说完", 99, "一只猫。还没说完"),
        ("一只猫。还没说完", 7, "一只猫。"),
        ("它说：“走吧。”然后走了。", 9, "它说：“走吧。”"),
        ("真的吗？！是的。", 5, "真的吗？！"),
        ("真的吗？！是的。", 4, "真的吗？！"),
        ("A dog. It is 3.5 m long. It runs.", 26, "A dog. It is 3.5 m long."),
        ("A dog. It is 3.5 m long.", 15, "A dog."),
        ('He said "go." Then he went.', 20, 'He said "go."'),
        ("Yes! No.", 5, "Yes!"),
        ("", 0, ""),
    ],
)
def test_a_text_is_cut_at_the_last_sentence_that_fits(text, most, expected):
    assert cut_to_sentences(text, up_to(most)) == expected
    cut = cut_answers(record(answer=text), most)
    assert cut.turns[1].text == expected


def test_a_cut_text_is_a_start_of_it_that_fits_or_is_its_first_sentence():
    rng = random.Random(1)
    for _ in range(300):
        text = "".join(rng.choice("猫狗a 。。！.\n”") for _ in range(rng.randrange(1, 40))).strip()
        most = rng.randrange(1, 30)
        cut = cut_to_sentences(text, up_to(most))
        assert text.startswith(cut)
        if len(cut) > most:  # then it is the first sentence, which no start that ends one is shorter than
            assert cut == cut_to_sentences(text, lambda _: False)


def test_answers_that_fit_and_questions_are_left_as_they_are():
    long_question = (IMAGE, "\n" + "看图。" * 20)
    original = record(answer="一只猫。一只狗。", parts=long_question)
    assert cut_answers(original, 8) == original


def test_every_answer_of_a_conversation_is_cut():
    first = (Turn("user", ("a",)), Turn("assistant", ("一。二。",)))
    turns = (*first, Turn("user", ("b。b。",)), Turn("assistant", ("三。四。",)))
    cut = cut_answers(Record("r", (), turns), 2)
    assert [turn.text for turn in cut.turns] == ["a", "一。", "b。b。", "三。"]
