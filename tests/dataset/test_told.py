"""Texts out of several captions of a picture: their length, order and prompt."""

from __future__ import annotations

from collections import Counter
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

from dataset.bad_rows import BadRow, BadRows, DataError
from dataset.batching import Examples
from dataset.curriculum import curriculum
from dataset.encoding import encode_record
from dataset.record import IMAGE, Record, Turn
from dataset.told import PROMPTS, TOLD, Told, told
from tokenizer.tokenizer import default_folder, load_tokenizer

WORDS = ("one", "two", "three", "four", "five")


def record(i: int, count: int = 5, words=WORDS) -> Record:
    captions = tuple(f"picture {i} {word} ." for word in words[:count])
    return Record(str(i), (b"",), (Turn("user", (IMAGE, "\nwhat?")), Turn("assistant", captions[:1])),
                  references=captions if count > 1 else ())  # fmt: skip


RECORDS = [record(i) for i in range(40)]


def test_captions_become_sentences():
    assert told(["A dog .", "a pet runs", "it runs."]) == "A dog. a pet runs. it runs."
    assert told(["一只狗。", "狗在跑"]) == "一只狗。狗在跑。"


@pytest.mark.parametrize(("part", "count"), [("short", 1), ("middle", 2), ("long", 4)])
def test_a_part_tells_so_many_different_captions_of_the_picture(part, count):
    for i, one in enumerate(Told(RECORDS, part, 40, seed=1)):
        sentences = one.turns[-1].text.split(". ")
        assert len(set(sentences)) == count and all(f"picture {one.id} " in sentence for sentence in sentences), i
        assert one.turns[0].parts == (IMAGE, f"\n{PROMPTS[count][0]}") and not one.references


def test_every_picture_is_seen_before_one_is_seen_again():
    ids = [one.id for one in Told(RECORDS, "final", 100, seed=1)]
    assert sorted(ids[:40]) == sorted(ids[40:80]) == sorted(one.id for one in RECORDS) and ids[:40] != ids[40:80]
    assert ids[:60] == [one.id for one in Told(RECORDS, "final", 60, seed=1)]  # a longer one begins alike


def test_a_mixture_has_its_shares_and_all_holds_as_much_text_of_each_length():
    counts = Counter(one.turns[0].text for one in Told(RECORDS, "final", 2000, seed=1))
    for count, share in TOLD["final"].items():
        assert counts[f"<image>\n{PROMPTS[count][0]}"] / 2000 == pytest.approx(share, abs=0.04)
    amounts = [count * share for count, share in TOLD["all"].items()]
    assert max(amounts) < 1.05 * min(amounts)


def test_chinese_captions_are_asked_for_in_chinese():
    words = ("狗", "猫", "马")
    assert {one.turns[0].text for one in Told([record(0, 3, words)] * 3, "long", 3, 1)} == {"<image>\n" + PROMPTS[4][1]}


def test_a_picture_with_one_caption_is_a_bad_row():
    with pytest.raises(BadRow, match="not several captions"):
        Told([record(0, 1)], "short", 1, 1)[0]


def test_a_curriculum_of_captions_has_steps_of_equal_tokens_and_counts_bad_rows():
    encode = partial(encode_record, tokenizer=load_tokenizer(default_folder()), image_tokens=16, max_seq_len=512)
    args = SimpleNamespace(curriculum="short,middle,long,final", steps=8, supervised_tokens=400, seed=1)
    parts = curriculum(args, encode, [*RECORDS, record(40, 1)])
    bad = BadRows(0.1)
    examples = Examples(parts, encode, bad)
    assert bad.bad > 0
    tokens = [examples.supervised[batch].sum() for batch in parts.plan(examples, 1, 0)]
    assert len(tokens) == 8 and np.ptp(np.reshape(tokens, (4, 2)).mean(1)) < 100
    with pytest.raises(DataError, match="'half'"):
        curriculum(SimpleNamespace(**{**vars(args), "curriculum": "half,long"}), encode, RECORDS)
    with pytest.raises(DataError, match="no row of --data"):
        curriculum(args, encode, [record(0, 1)])
