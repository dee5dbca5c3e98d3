from __future__ import annotations

import math

import pytest

from scoring.cider import cider

REFERENCES = ["a red dog runs on the grass", "two blue cats sleep in a room", "一只棕色的小狗在草地上"]


def test_an_answer_equal_to_its_reference_has_ten_and_one_that_shares_nothing_none():
    assert cider(REFERENCES, REFERENCES) == pytest.approx([10.0] * 3)
    assert cider(["x y z", "", "海"], REFERENCES) == [0.0] * 3


def test_case_and_punctuation_do_not_count():
    assert cider(["A red dog, runs on the grass!", "", ""], REFERENCES)[0] == pytest.approx(10.0)


def test_a_short_answer_has_no_longer_n_grams():
    """Of two tokens there are n-grams of 1 and 2: half of the four lengths."""
    assert cider(["red dog", "blue cat"], ["red dog", "blue cat"]) == pytest.approx([5.0, 5.0])


def test_by_hand():
    """All weights are log 2. "red cat" shares one of two words: cosine 1/2 of one length in four."""
    assert cider(["red cat", "blue cat"], ["red dog", "blue cat"])[0] == pytest.approx(1.25)
    # Words: min(2, 1) twice over (2 sqrt 2)(sqrt 2); bigrams: 1 over sqrt(2² + 1²); two bigrams too many.
    expected = 10 * math.exp(-(2**2) / 72) * (2 / 4 + 1 / math.sqrt(5)) / 4
    assert cider(["red dog red dog", ""], ["red dog", "blue cat"])[0] == pytest.approx(expected)


def test_what_every_reference_holds_weighs_nothing():
    found = cider(["a dog", "a bird"], ["a cat", "a bird"])
    assert found[0] == 0.0 and found[1] > 0
    assert cider(["a cat"], ["a cat"]) == [0.0]


def test_a_longer_answer_pays_for_its_length():
    short, long = cider([REFERENCES[0], REFERENCES[0] + " and nothing else is here at all"], [REFERENCES[0]] * 2)
    assert short == long == 0.0  # held by all
    exact, padded = (
        cider([answer, ""], REFERENCES[:2])[0] for answer in (REFERENCES[0], REFERENCES[0] + " and then much more")
    )
    assert padded < 0.8 * exact
