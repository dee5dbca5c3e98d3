"""Metrics against values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from dataset.picturebook.facts import Scene, Thing
from scoring import answers, metrics
from scoring.mentions import read_caption


def thing(kind: str, colour: str | None = None, count: int = 1) -> Thing:
    return Thing(kind, colour, count, None, "medium", 0.5, 0.8, 0.3, False)


SCENE = Scene(0, "sea", (thing("dog", "brown", 2), thing("woman", "red"), thing("sun")))


def score(text: str) -> dict:
    return metrics.caption_scores(text, SCENE)


def test_a_true_caption_has_every_point():
    scores = score("海边有两只棕色的小狗和一位穿红衣服的女人，天上有一个太阳。")
    by_type = {name: scores.pop(name) for name in list(scores) if name.startswith("statement_accuracy/")}
    assert {name.rpartition("/")[2]: ratio for name, ratio in by_type.items() if ratio[1]} == {
        "thing": (3, 3), "colour": (2, 2), "number": (3, 3), "height": (1, 1), "place": (1, 1),
    }  # fmt: skip
    assert scores == {
        "statement_accuracy": (10, 10), "caption_true_share": (1, 1), "contradiction_share": (0, 1),
        "chair_i": (0, 3), "chair_s": (0, 1), "precision": (3, 3), "recall": (3, 3), "f1": (6, 6),
        "unscored_share": (0, 1), "colour_binding": (2, 2), "count_accuracy": (3, 3), "count_accuracy_many": (1, 1),
        "place_accuracy": (1, 1), "side_accuracy": (0, 0), "order_accuracy": (0, 0),
            "relation_accuracy": (0, 0),
    }  # fmt: skip


def test_mentions_count_for_chair_and_kinds_for_f1():
    scores = score("一只小狗，还有一只小狗，一只猫，又一只猫，一辆汽车")
    assert scores["chair_i"] == (3, 5)
    assert scores["chair_s"] == (1, 1)
    assert (scores["precision"], scores["recall"], scores["f1"]) == ((1, 3), (1, 3), (2, 6))


def test_silence_on_colour_is_as_wrong_as_a_wrong_colour():
    assert score("小狗和女人")["colour_binding"] == (0, 2)
    assert score("黑色的小狗和女人")["colour_binding"] == (0, 2)
    assert score("黑色的小狗，棕色的小狗")["colour_binding"] == (0, 1)
    assert score("棕色的小狗，黑色的小狗")["colour_binding"] == (1, 1)
    assert score("棕色的猫")["colour_binding"] == (0, 0)  # not there: CHAIR's business
    assert score("红色的太阳")["colour_binding"] == (0, 0)  # always looks the same


def test_a_noun_without_a_number_says_one():
    scores = score("小狗和女人")
    assert (scores["count_accuracy"], scores["count_accuracy_many"]) == ((1, 2), (0, 1))
    assert score("some dogs and a woman")["count_accuracy"] == (1, 2)
    assert score("two dogs")["count_accuracy_many"] == (1, 1)


def test_the_place_must_be_the_only_one_named():
    assert score("海边有小狗")["place_accuracy"] == (1, 1)
    assert score("海边和花园里有小狗")["place_accuracy"] == (0, 1)
    assert score("小狗")["place_accuracy"] == (0, 1)


def test_a_caption_without_objects_is_unscored_not_faultless():
    scores = score("很美的画面")
    assert (scores["chair_i"], scores["precision"], scores["unscored_share"]) == ((0, 0), (0, 0), (1, 1))
    assert scores["f1"] == (0, 3)
    summary = metrics.summarise([scores])
    assert summary["chair_i"] is None and summary["chair_i_ci95"] is None
    assert summary["unscored_share"] == 1.0 and summary["chair_s"] == 0.0


def test_counts_are_summed_before_they_are_divided():
    samples = [{"a": (1, 1)}, {"a": (0, 3), "b": (1, 2)}]
    assert metrics.totals(samples) == {"a": 0.25, "b": 0.5}


def test_no_samples_is_an_error():
    with pytest.raises(ValueError, match="no samples"):
        metrics.summarise([])


def test_the_interval_is_that_of_an_explicit_bootstrap():
    rng = np.random.default_rng(5)
    samples = [{"x": (float(rng.integers(0, 3)), 2.0 + float(rng.integers(0, 3)))} for _ in range(80)]
    low, high = metrics.summarise(samples, seed=1, resamples=4000)["x_ci95"]
    table = np.array([sample["x"] for sample in samples])
    draws = table[rng.integers(0, 80, size=(4000, 80))].sum(1)
    expected = np.percentile(draws[:, 0] / draws[:, 1], (2.5, 97.5))
    assert abs(low - expected[0]) < 0.01 and abs(high - expected[1]) < 0.01
    assert low < metrics.totals(samples)["x"] < high


def test_the_interval_of_a_share_is_near_the_normal_one():
    samples = [{"x": (float(i < 300), 1)} for i in range(1000)]
    low, high = metrics.summarise(samples)["x_ci95"]
    half = 1.96 * (0.3 * 0.7 / 1000) ** 0.5
    assert abs(low - (0.3 - half)) < 0.004 and abs(high - (0.3 + half)) < 0.004


def test_the_interval_depends_on_the_seed_alone():
    samples = [{"x": (float(i % 3), 2)} for i in range(50)]
    assert metrics.summarise(samples, seed=3) == metrics.summarise(samples, seed=3)
    assert metrics.summarise(samples, seed=3) != metrics.summarise(samples, seed=4)


def test_length_counts_characters_of_chinese_and_words_of_english():
    assert len(answers.words("一只小狗，在海边。")) == 7
    assert len(answers.words("A dog's life, on the well-known sea!")) == 7
    assert len(answers.words("两只 dogs 2")) == 4
    assert len(answers.words(" ，。!? ")) == 0
    scores = metrics.text_scores("小狗", stopped=False, tokens=7)
    assert scores == {"mean_length": (2, 1), "loop_share": (0, 1), "stopped_share": (0, 1), "mean_tokens": (7, 1)}
    assert set(metrics.text_scores("")) == {"mean_length", "loop_share"}


@pytest.mark.parametrize(
    "text",
    ["一只狗，一只狗，一只狗，一只狗。", "开头之后小狗小狗小狗小狗", "a dog a dog a dog a dog", "，。，。，。，。",
     "the dog and the dog and the dog and the dog and", "小狗在跑。猫在睡。小狗在跑。鸟在飞。小狗在跑。",
     "A dog runs. A cat. A dog runs! Yes. a dog runs", "哈哈哈哈哈哈哈哈", "一只棕色的小狗和一位女人在海边散步" * 4],
)  # fmt: skip
def test_stuck_texts_loop(text):
    assert answers.loops(text)


@pytest.mark.parametrize(
    "text",
    ["", "狗", "一只狗，一只狗，一只狗。", "a dog a dog a dog", "哈哈哈", "一只小狗、两只小猫、三只小鸟和一匹马",
     "小狗在跑。小狗在跑。",
     "街道上有一辆红色的汽车、一辆蓝色的公交车和一辆黄色的自行车。", "The red car, the blue car and the green car."],
)  # fmt: skip
def test_ordinary_texts_do_not_loop(text):
    assert not answers.loops(text)


def test_exact_ignores_case_punctuation_articles_and_spaces():
    assert answers.exact(" The Cat! ", ["a cat"])
    assert answers.exact("这是一只 猫。", ["这是一只猫"])
    assert answers.exact("ＣＡＴ", ["dog", "cat"])
    assert not answers.exact("cats", ["cat"])
    assert not answers.exact("", ["cat"])


def test_contains_takes_whole_english_words_and_any_chinese():
    assert answers.contains("It is a cat.", ["cat"])
    assert not answers.contains("It is a catfish.", ["cat"])
    assert answers.contains("照片里是一只猫。", ["猫"])
    assert not answers.contains("照片里是一只狗。", ["猫"])
    assert not answers.contains("anything", [""])


def test_a_label_decides_contains_and_is_counted_apart():
    scores = metrics.reference_scores("一只猫。", ["照片里是一只猫。"], label="猫")
    assert scores == {"exact": (0, 1), "contains": (1, 1), "contains/猫": (1, 1)}
    assert metrics.reference_scores("一只猫。", ["一只猫"]) == {"exact": (1, 1), "contains": (1, 1)}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Yes.", True), ("yes, there is a dog", True), ("No", False), ("No, there is a cat.", False),
        ("是的", True), ("有。", True), ("没有", False), ("不是", False), ("没有，图里只有猫。", False), ("对", True),
        ("有没有？有一只狗", True), ("图中没有狗", False), ("图中有一只狗", True), ("There is a dog.", True),
        ("There isn't a dog.", False), ("There is no dog", False), ("否", False), ("没错", True), ("**Yes**", True),
        ("", None), ("banana", None), ("I don't know", None), ("不知道", None), ("无法确定", None), ("Nobody", None),
    ],
)  # fmt: skip
def test_yes_and_no_are_read_in_both_languages(text, expected):
    assert answers.yes_or_no(text) is expected


def test_pope_by_hand():
    replies = [("yes", True), ("no", True), ("yes", False), ("no", False), ("maybe a dog", True), ("hm", False)]
    result = metrics.totals([metrics.pope_scores(text, truth, "popular") for text, truth in replies])
    assert result["pope_accuracy"] == 2 / 6
    assert result["pope_f1"] == pytest.approx(2 * 1 / (2 * 1 + 1 + 2))  # one hit, one false yes, two missed
    assert result["pope_yes_rate"] == 2 / 6
    assert result["pope_unparsable"] == 2 / 6
    assert result["pope_accuracy/popular"] == 2 / 6
    both = metrics.pope_scores("yes", True, "random", "popular")
    assert both["pope_accuracy"] == (2, 2) and both["pope_accuracy/random"] == both["pope_accuracy/popular"] == (1, 1)


def test_prefix_goes_before_intervals_too():
    assert metrics.with_prefix("blank_", {"f1": 0.5, "f1_ci95": [0.4, 0.6]}) == {
        "blank_f1": 0.5, "blank_f1_ci95": [0.4, 0.6],
    }  # fmt: skip


def test_a_clause_of_another_thing_earns_no_colour():
    assert read_caption("小狗旁边是红色的汽车").colour("dog") is None


def test_a_paired_difference_is_that_of_the_same_rows():
    """A is right in rows 0 to 59, B in 20 to 89 of 100: 20 lost and 30 gained, so a normal interval is known."""
    first = [{"exact": (float(i < 60), 1), "only": (1, 1)} for i in range(100)]
    second = [{"exact": (float(20 <= i < 90), 1), "other": (1, 1)} for i in range(100)]
    found = metrics.differences(first, second)
    assert list(found) == ["exact"]
    one = found["exact"]
    assert (one.first, one.second, one.gain) == (0.6, 0.7, pytest.approx(0.1))
    spread = 1.96 * ((0.5 - 0.1**2) / 100) ** 0.5
    assert one.ci95 == pytest.approx([0.1 - spread, 0.1 + spread], abs=0.03)
    assert one.p == pytest.approx(0.157, abs=0.05)  # two-sided, of 0.1 / (spread / 1.96)
    back = metrics.differences(second, first)["exact"]
    assert back.gain == -one.gain and back.p == pytest.approx(one.p, abs=0.05)


def test_a_difference_that_is_always_there_has_the_least_p_and_none_at_all_the_most():
    right, wrong = [{"exact": (1, 1)}] * 9, [{"exact": (0, 1)}] * 9
    assert metrics.differences(wrong, right)["exact"].p == pytest.approx(2 / 1001)
    assert metrics.differences(right, right)["exact"] == metrics.Difference(1.0, 1.0, 0.0, [0.0, 0.0], 1.0)
    unknown = metrics.differences(right, [{"exact": (0, 0)}] * 9)["exact"]
    assert (unknown.second, unknown.gain, unknown.ci95, unknown.p) == (None, None, None, None)
    with pytest.raises(ValueError, match="9 and 8 samples to compare; expected pairs"):
        metrics.differences(right, right[:8])
