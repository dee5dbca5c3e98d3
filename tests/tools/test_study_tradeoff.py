"""Gain and loss of a study's arms, and their comparison at equal gain."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from tools.studies.arms import STUDIES, Tradeoff
from tools.studies.results import Crossed
from tools.studies.tradeoff import at_equal_gain, draw_tradeoff, kept_at, tradeoff_table

TRADEOFF = Tradeoff("truth", "answers", ("low", "high"))


def arm(truth: float, answers: float, spread: float = 0.0) -> dict[str, Crossed]:
    """Of two seeds and 50 pictures, the answers of the second seed better than those of the first by `spread`."""
    pictures = np.ones((2, 50))
    return {"truth": Crossed(truth * pictures, pictures),
            "answers": Crossed((answers + np.array([[-spread / 2], [spread / 2]])) * pictures, pictures)}  # fmt: skip


@pytest.mark.parametrize(("gain", "kept"), [
    (0.0, 0.0), (0.05, -0.1), (0.1, -0.2), (0.15, -0.3), (0.19, -0.38),  # from nothing to the first point and on
    (0.21, np.nan), (-0.01, np.nan),
])  # fmt: skip
def test_full_training_keeps_what_lies_on_the_line_through_its_rates_and_of_two_places_the_first(gain, kept):
    gains, losses = np.array([[0.0, 0.1, 0.2, 0.1]]), np.array([[0.0, -0.2, -0.4, -1.0]])  # the last rate gains less
    assert kept_at(np.array([gain]), gains, losses) == pytest.approx([kept], nan_ok=True)


def test_an_arm_is_compared_with_full_training_that_gains_as_much():
    table = {"before": arm(0.5, 0.9), "low": arm(0.6, 0.9), "high": arm(0.8, 0.5), "lora": arm(0.7, 0.8),
             "far": arm(0.9, 0.9)}  # fmt: skip
    found = at_equal_gain(table, TRADEOFF, "before")
    assert list(found) == ["low", "high", "lora", "far"]
    gain, keeps, more = found["lora"]  # full training keeps 0.7 of answers where it says 0.7 true
    assert (gain, keeps, more.gain) == pytest.approx((0.2, -0.1, 0.1))
    assert more.gain_ci95 == pytest.approx([0.1, 0.1]) and more.p is not None and more.p < 0.05
    assert found["far"][2].gain is None and found["low"][2].gain is None  # gains more than any rate; is a rate
    assert "+0.100 [+0.100, +0.100]" in tradeoff_table(found, TRADEOFF)


def test_the_interval_of_a_difference_is_that_of_seeds_and_pictures_drawn_for_both():
    table = {"before": arm(0.5, 0.9, 0.1), "low": arm(0.6, 0.9, 0.1), "high": arm(0.8, 0.5, 0.1)}
    alike = at_equal_gain(table | {"lora": arm(0.7, 0.8, 0.1)}, TRADEOFF, "before")["lora"][2]
    assert alike.gain_ci95 == pytest.approx([0.1, 0.1])  # a lucky seed is lucky for both
    other = at_equal_gain(table | {"lora": arm(0.7, 0.8, 0.3)}, TRADEOFF, "before")["lora"][2]
    assert other.gain_ci95 == pytest.approx([0.0, 0.2])


def test_arms_without_any_rate_have_a_gain_and_a_loss_alone(tmp_path):
    silent = arm(0.5, 0.9) | {"truth": Crossed(np.zeros((2, 50)), np.zeros((2, 50)))}  # it says nothing to be judged
    found = at_equal_gain({"before": arm(0.5, 0.9), "lora": arm(0.7, 0.8), "silent": silent}, TRADEOFF, "before")
    assert found["lora"][2].gain is None
    assert tradeoff_table(found, TRADEOFF, markdown=True).splitlines()[-1].split() == \
        ["|", "silent", "|", "-", "|", "+0.000", "|", "-", "|"]  # fmt: skip
    draw_tradeoff(tmp_path / "plot.png", found, TRADEOFF, "a title")
    with Image.open(tmp_path / "plot.png") as plot:
        assert len(plot.getcolors(1 << 20)) > 10


def test_the_arms_of_a_tradeoff_are_arms_of_its_study():
    compared = [study for study in STUDIES.values() if study.tradeoff]
    assert compared and all({*study.tradeoff.rates} < {*study.arms} for study in compared)
