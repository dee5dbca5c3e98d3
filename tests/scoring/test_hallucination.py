"""Where a caption hallucinates, counted by hand."""

from __future__ import annotations

import pytest

from dataset.picturebook.facts import KINDS
from dataset.picturebook.questions import popularity
from dataset.picturebook.world import make_scene
from scoring.hallucination import TIERS, hallucination_scores, tier_of, usual_kinds


@pytest.fixture(scope="module")
def scene():
    """By the sea with a woman and a dog, or the like: two kinds, none of them a cat or a car."""
    for index in range(500):
        scene = make_scene("test", index)
        kinds = {thing.kind for thing in scene.things}
        if scene.place == "sea" and len(kinds) == 2 and kinds <= {"woman", "dog", "child", "bird", "boat"}:
            return scene
    raise AssertionError("no such scene")


def said(scene, *kinds: str) -> str:
    return "In the picture there is " + ". There is ".join(f"a {KINDS[kind].en}" for kind in kinds) + "."


def test_mentions_are_counted_one_by_one(scene):
    one, two = (thing.kind for thing in scene.things)
    scores = hallucination_scores(said(scene, one, "cat", two, "car"), scene, tokens=50)
    assert [scores[f"false_at/{k}"] for k in range(1, 6)] == [(0, 1), (1, 1), (0, 1), (1, 1), (0, 0)]
    assert scores["chair_first/2"] == (1, 2) and scores["chair_first/8"] == (2, 4)
    assert scores["chair_to_half"] == (0, 1) and scores["reached_half"] == (1, 1)
    assert hallucination_scores(said(scene, "cat", one, two), scene, 9)["chair_to_half"] == (1, 2)
    assert hallucination_scores(said(scene, "cat", "car"), scene, 9)["chair_to_half"] == (2, 2)  # never gets there
    assert hallucination_scores(said(scene, "cat"), scene, 9)["reached_half"] == (0, 1)
    assert scores["later_less_earlier"] == (0, 1)
    assert hallucination_scores(said(scene, one, "cat", "car"), scene, 9)["later_less_earlier"] == (1, 1)
    assert hallucination_scores(said(scene, "cat", "car", one, two), scene, 9)["later_less_earlier"] == (-1, 1)
    assert hallucination_scores(said(scene, "cat", one, one, two), scene, 9)["later_less_earlier"] == (-0.5, 1)
    assert hallucination_scores(said(scene, "cat"), scene, 9)["later_less_earlier"] == (0, 0)
    assert scores["cover_first/1"] == (1, 2) and scores["cover_first/3"] == (2, 2)
    assert scores["false_per_100_tokens"] == (200, 50)
    assert scores["false_first/3"][0] <= scores["false_first/6"][0]


def test_ambers_scores(scene):
    one, two = (thing.kind for thing in scene.things)
    usual = next(kind for kind in sorted(usual_kinds("sea")) if kind not in (one, two))
    assert "elephant" not in usual_kinds("sea")
    scores = hallucination_scores(said(scene, one, usual, "elephant"), scene, tokens=10)
    assert scores["amber_cover"] == (1, 2) and scores["amber_hal"] == (1, 1) and scores["amber_cog"] == (1, 3)
    assert hallucination_scores(said(scene, one, two), scene, 10)["amber_hal"] == (0, 1)


def test_an_empty_answer_mentions_nothing(scene):
    scores = hallucination_scores("", scene, tokens=1)
    assert scores["amber_cover"] == (0, 2) and scores["false_at/1"] == (0, 0) and scores["chair_first/1"] == (0, 0)


def test_tiers_divide_the_kinds_by_how_common_they_are():
    assert sum(popularity().values()) == pytest.approx(1)
    by_tier = {tier: [popularity()[kind] for kind in KINDS if tier_of(kind) == tier] for tier in TIERS}
    assert min(by_tier["common"]) >= max(by_tier["middle"]) and min(by_tier["middle"]) >= max(by_tier["rare"])
    assert all(len(kinds) >= len(KINDS) // 3 for kinds in by_tier.values())
