"""Caption metrics with several references: values by hand, and those of COCO's own tools."""

from __future__ import annotations

import math
import random
import shutil
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from scoring.cider import Cider
from scoring.coco import CaptionScorer, bleu, bleu_parts, longest_common, rouge_l, tokens
from scoring.metrics import summarise, totals

FLICKR = Path(__file__).resolve().parents[3] / "shared" / "data" / "flickr8k"


@pytest.mark.parametrize(
    "text, expected",
    [
        ("A dog's ball isn't red, it's HERS.", "a dog 's ball is n't red it 's hers"),
        ("The dogs' toy; a cat 's too!", "the dogs toy a cat 's too"),
        ("They'll cannot, I'm gonna: we’ve", "they 'll can not i 'm gon na we 've"),
        ("A three-year-old's t-shirt (blue) -- 2,000 m", "a three-year-old 's t-shirt -lrb- blue -rrb- 2,000 m"),
        ("Mr. Smith at 5 p.m. in the U.S. and St. Louis", "mr. smith at 5 p.m. in the u.s. and st. louis"),
        ("black & white 50% of \"x\" ... don't", "black & white 50 % of x do n't"),
        ("两只小狗，在草地上。T恤", "两 只 小 狗 在 草 地 上 t 恤"),
        (" \n。", ""),
    ],
)
def test_tokens_are_those_of_the_coco_tools(text, expected):
    assert tokens(text) == expected.split()


def score(text: str, *references: str) -> dict:
    return totals([bleu_parts(tokens(text), [tokens(one) for one in references])])


def test_bleu_by_hand():
    """Three of four words are in a reference, "red dog" and "dog ran" of three pairs, one of two triples, no four."""
    found = score("a red dog ran", "the red dog ran off", "a cat")
    assert [found[f"bleu_precision_{n}"] for n in (1, 2, 3, 4)] == [1, 2 / 3, 1 / 2, 0]
    short = math.exp(1 - 5 / 4)  # the closest reference has five tokens
    expected = [short, short * math.sqrt(2 / 3), short * (1 / 3) ** (1 / 3), 0]
    assert [found[f"bleu_{n}"] for n in (1, 2, 3, 4)] == pytest.approx(expected)


def test_an_n_gram_counts_as_often_as_the_reference_that_has_it_most():
    assert score("dog dog dog", "dog dog cat", "dog ran off")["bleu_precision_1"] == pytest.approx(2 / 3)


def test_of_two_references_equally_close_the_shorter_one_counts():
    assert score("a b c", "a b", "a b c d")["bleu_length"] == pytest.approx(3 / 2)


def test_bleu_of_a_corpus_is_of_sums_not_a_mean():
    parts = [bleu_parts(["a", "b"], [["a", "b"]]), bleu_parts(["a", "x", "x", "x"], [["a", "b", "c", "d"]])]
    assert totals(parts)["bleu_1"] == pytest.approx(3 / 6)
    assert summarise(parts)["bleu_1_ci95"] == pytest.approx([1 / 4, 1])  # two samples: one of them twice


def test_answers_that_say_nothing_score_nothing():
    found = score("。", "a red dog")
    assert [found[f"bleu_{n}"] for n in (1, 4)] == [0, 0] and rouge_l([], [["a"]]) == 0
    assert bleu({"exact": np.ones(1)}) == {}


def test_rouge_takes_the_best_precision_and_the_best_recall():
    """a b c against "a x b c" (recall 3/4, precision 1) and "b" (recall 1, precision 1/3)."""
    assert rouge_l(["a", "b", "c"], [["a", "x", "b", "c"], ["b"]]) == pytest.approx(1.0)
    assert rouge_l(["a", "b"], [["b", "x", "a", "c"]]) == pytest.approx(2.44 * 0.5 * 0.25 / (0.25 + 1.44 * 0.5))


def test_the_longest_common_subsequence_is_that_of_the_textbook():
    def textbook(one, other):
        rows = [[0] * (len(other) + 1) for _ in range(len(one) + 1)]
        for i, a in enumerate(one):
            for j, b in enumerate(other):
                rows[i + 1][j + 1] = rows[i][j] + 1 if a == b else max(rows[i][j + 1], rows[i + 1][j])
        return rows[-1][-1]

    rng = random.Random(0)
    for _ in range(200):
        one, other = (rng.choices("abcd", k=rng.randrange(90)) for _ in range(2))
        assert longest_common(one, other) == textbook(one, other)


def test_cider_d_pays_for_repetition_and_length_and_cider_does_not():
    """All IDF weights are log 2. "red dog" twice has weights 2, 2 against 1, 1 and two bigrams more."""
    ((clipped, plain), _) = Cider([[["red", "dog"]], [["blue", "cat"]]]).scores([["red", "dog"] * 2, []])
    pairs = math.sqrt(5)  # red dog twice, dog red once
    assert plain == pytest.approx(10 * (1 + 2 / pairs) / 4)
    assert clipped == pytest.approx(10 * math.exp(-4 / 72) * (2 / 4 + 1 / pairs) / 4)


def test_cider_is_the_mean_over_references_and_weighs_by_pictures():
    """"dog" is in one of two pictures' references, however often; one of the two references is matched."""
    both = Cider([[["dog"], ["dog", "dog"]], [["cat"]]]).scores([["dog"], ["cat"]])
    assert both[1] == pytest.approx((2.5, 2.5)) and both[0][1] == pytest.approx((2.5 + 2.5) / 2)
    with pytest.raises(ValueError, match="1 answers for 2 pictures"):
        CaptionScorer([["a"], ["b"]]).samples(["a"])


def agrees_with_coco(texts: list[str], references: list[list[str]]) -> None:
    bleu_of = pytest.importorskip("pycocoevalcap.bleu.bleu").Bleu
    cider_of = pytest.importorskip("pycocoevalcap.cider.cider").Cider
    rouge_of = pytest.importorskip("pycocoevalcap.rouge.rouge").Rouge
    wanted = {i: [" ".join(tokens(one)) for one in several] for i, several in enumerate(references)}
    said = {i: [" ".join(tokens(text))] for i, text in enumerate(texts)}
    found = totals(CaptionScorer(references).samples(texts))
    scores, _ = bleu_of(4).compute_score(wanted, said, verbose=0)
    expected = [*scores, cider_of().compute_score(wanted, said)[0], rouge_of().compute_score(wanted, said)[0]]
    assert [found[name] for name in ("bleu_1", "bleu_2", "bleu_3", "bleu_4", "cider_d", "rouge_l")] == pytest.approx(
        expected, abs=1e-3
    )


@pytest.mark.parametrize("longest", [2, 6, 30])
def test_scores_are_those_of_pycocoevalcap(longest):
    rng = random.Random(longest)

    def caption() -> str:
        return " ".join(rng.choices(["a", "red", "dog", "cat", "on", "grass", "runs", "狗"], k=rng.randint(1, longest)))

    references = [[caption() for _ in range(rng.randint(1, 5))] for _ in range(60)]
    agrees_with_coco([caption() for _ in references], references)


@pytest.mark.parametrize("language", ["zh", "en"])
def test_scores_of_flickr8k_are_those_of_pycocoevalcap(language):
    """One human against the other four."""
    if not (FLICKR / f"val.{language}.txt").is_file():
        pytest.skip("no Flickr8k captions on this machine")
    captions = defaultdict(list)
    for line in (FLICKR / f"val.{language}.txt").read_text("utf-8").splitlines():
        name, text = line.split("\t", 1)
        captions[name.partition("#")[0]].append(text)
    agrees_with_coco([first for first, *_ in captions.values()], [rest for _, *rest in captions.values()])


@pytest.mark.slow
def test_meteor_is_that_of_pycocoevalcap_where_it_and_java_are():
    pytest.importorskip("pycocoevalcap")
    if shutil.which("java") is None:
        pytest.skip("no java on this machine")
    scorer = CaptionScorer([["a red dog runs"], ["two cats sleep here"]])
    assert scorer.meteor(["a red dog runs", "two cats sleep here"]) == pytest.approx(1.0)
    assert scorer.meteor(["nothing", "of this kind"]) == pytest.approx(0.0, abs=0.05)


def test_meteor_is_left_out_where_java_is_missing(monkeypatch):
    scorer = CaptionScorer([["a dog"]])
    monkeypatch.setattr("scoring.coco.shutil.which", lambda name: None)
    assert scorer.meteor(["a dog"]) is None
