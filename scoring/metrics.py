"""Every metric is a ratio of two counts: computed per sample in pure functions, summed over samples, then divided.

A sample's scores are {metric: (numerator, denominator)}. Summing before dividing makes every metric a micro-average:
each mention, thing or caption weighs the same, whichever sample it is in. A metric whose denominators sum to 0 is
undefined and reported as None.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from dataset.picturebook.facts import Scene
from dataset.picturebook.telling import NEAR, clear_side
from scoring import answers, coco, vqa
from scoring.claims import Said
from scoring.contradictions import contradictions
from scoring.mentions import read_caption
from scoring.statements import TYPES, Statement, is_related, judge

Value = TypeVar("Value")
Ratio = tuple[float, float]
SampleScores = dict[str, Ratio]


def object_scores(said: Said, scene: Scene) -> SampleScores:
    """Object hallucination (CHAIR, Rohrbach 2018), and precision, recall and F1 of objects.

    chair_i: hallucinated mentions / all mentions; a kind named twice is two mentions.
    chair_s: captions with a hallucinated mention / all captions.
    precision, recall, f1: on the set of kinds of each caption, so naming a kind twice changes nothing.
    unscored_share: captions that mention no known object / all; chair_i and precision are undefined for them.
    """
    true = {thing.kind for thing in scene.things}
    named = set(said.kinds)
    wrong = sum(mention.kind not in true for mention in said.mentions)
    hits = len(named & true)
    return {
        "chair_i": (wrong, len(said.mentions)),
        "chair_s": (float(wrong > 0), 1),
        "precision": (hits, len(named)),
        "recall": (hits, len(true)),
        "f1": (2 * hits, len(named) + len(true)),
        "unscored_share": (float(not said.mentions), 1),
    }


def detail_scores(said: Said, scene: Scene) -> SampleScores:
    """Attribute binding (colours and counts), and the place.

    colour_binding: things given their true colour / mentioned things that have a colour. Omitting the colour is as
    wrong as a wrong one, and of several colours only the first counts: neither silence nor guessing pays.
    count_accuracy: kinds given their true number / true kinds mentioned. A noun without a number (小狗, "the dog")
    means one; an indefinite number (几只, "some dogs", "dogs") is wrong. count_accuracy_many: the same for things of
    two or more, where always saying "one" earns nothing.
    place_accuracy: captions that name the true place and no other / all captions.
    """
    named = set(said.kinds)
    found = [thing for thing in scene.things if thing.kind in named]
    coloured = [thing for thing in found if thing.colour is not None]
    right_colour = sum(said.colour(thing.kind) == thing.colour for thing in coloured)
    right = {thing.kind: said.count(thing.kind) == thing.count for thing in found}
    many = [thing for thing in found if thing.count > 1]
    return {
        "colour_binding": (right_colour, len(coloured)),
        "count_accuracy": (sum(right.values()), len(found)),
        "count_accuracy_many": (sum(right[thing.kind] for thing in many), len(many)),
        "place_accuracy": (float(said.places == (scene.place,)), 1),
    }


def position_scores(said: Said, scene: Scene) -> SampleScores:
    """Accuracy of stated positions; what a caption does not state costs nothing here.

    side_accuracy: correct sides / stated sides of things that are present and clearly left, in the middle or right.
    order_accuracy: correct orders / stated orders. One with an absent kind, or of a kind and itself, is wrong; one of
    two things too close to each other to tell is skipped.
    relation_accuracy: correct relations / stated relations, as 男人骑着马; sitting in a boat counts as riding it.
    """
    things = {thing.kind: thing for thing in scene.things}
    sides = [(things[kind].side == side) for kind, side in said.sides if kind in things and clear_side(things[kind])]
    orders = []
    for left, right in said.orders:
        apart = things[right].x - things[left].x if left in things and right in things else 0.0
        if left == right or left not in things or right not in things or abs(apart) >= NEAR:
            orders.append(apart > 0)
    related = sum(is_related(scene, *relation) for relation in said.relations)
    return {
        "side_accuracy": (sum(sides), len(sides)),
        "order_accuracy": (sum(orders), len(orders)),
        "relation_accuracy": (related, len(said.relations)),
    }


def text_scores(text: str, stopped: bool | None = None, tokens: int | None = None) -> SampleScores:
    """mean_length (Chinese characters plus other words), loop_share, and if given stopped_share and mean_tokens.

    An empty answer has length 0 and does not loop.
    """
    scores: SampleScores = {"mean_length": (len(answers.words(text)), 1), "loop_share": (float(answers.loops(text)), 1)}
    if stopped is not None:
        scores["stopped_share"] = (float(stopped), 1)
    if tokens is not None:
        scores["mean_tokens"] = (tokens, 1)
    return scores


def statement_scores(statements: Sequence[Statement], contradicts: bool) -> SampleScores:
    """Faithfulness by statement, as a reader would judge a caption (see scoring/statements.py).

    statement_accuracy: true statements / statements that the facts decide; statement_accuracy/<type>: the same by type.
    caption_true_share: captions with at least one such statement, no false one, and no contradiction / all captions; no
    reader calls "a bird and a bird" true of one bird.
    contradiction_share: captions that contradict themselves / all captions (see scoring/contradictions.py).
    """
    decided = [one for one in statements if one.verdict is not None]
    true = sum(bool(one.verdict) for one in decided)
    scores: SampleScores = {
        "statement_accuracy": (true, len(decided)),
        "caption_true_share": (float(bool(decided) and true == len(decided) and not contradicts), 1),
        "contradiction_share": (float(contradicts), 1),
    }
    for name in TYPES:
        verdicts = [bool(one.verdict) for one in decided if one.type == name]
        scores[f"statement_accuracy/{name}"] = (sum(verdicts), len(verdicts))
    return scores


def caption_scores(text: str, scene: Scene) -> SampleScores:
    """All scores of one caption against the facts of its scene."""
    said = read_caption(text)
    classic = object_scores(said, scene) | detail_scores(said, scene) | position_scores(said, scene)
    return statement_scores(judge(text, scene), bool(contradictions(text))) | classic


def reference_scores(answer: str, references: Sequence[str], label: str | None = None) -> SampleScores:
    """exact: equals a reference; contains: contains the label or, without one, a reference; both normalised.

    With a label, the latter is also counted under contains/<label>.
    """
    held = float(answers.contains(answer, [label] if label else references))
    scores: SampleScores = {"exact": (float(answers.exact(answer, references)), 1), "contains": (held, 1)}
    if label:
        scores[f"contains/{label}"] = (held, 1)
    return scores


def pope_scores(answer: str, truth: bool, *samplings: str) -> SampleScores:
    """POPE (Li 2023) on one yes/no question: accuracy, F1 of "yes", yes rate, share of unparsable answers.

    Harnesses disagree on unclear answers. LLaVA's script takes anything but "no" for yes; lmms-eval compares the whole
    lower-cased answer; VLMEvalKit has a third class. This follows VLMEvalKit: an unparsable answer is wrong for
    accuracy and is not a yes (a false negative for F1 if yes was correct). The yes rate is over all questions.
    `samplings` (of random, popular, adversarial) add the same scores under pope_<name>/<sampling>; a question in
    several counts as often in the overall scores.
    """
    said = answers.yes_or_no(answer)
    scores: SampleScores = {
        "pope_accuracy": (float(said is truth), 1),
        "pope_f1": (2.0 * (said is True and truth), float(said is True) + float(truth)),
        "pope_yes_rate": (float(said is True), 1),
        "pope_unparsable": (float(said is None), 1),
    }
    each = {f"{name}/{sampling}": ratio for sampling in samplings for name, ratio in scores.items()}
    times = max(1, len(samplings))
    return {name: (times * numerator, times * denominator) for name, (numerator, denominator) in scores.items()} | each


def vqa_scores(answer: str, reference: str, question: str, kind: str, turn: int = 1) -> SampleScores:
    """vqa_accuracy: the answer means the same as the reference; vqa_exact: it equals the reference, both normalised.

    vqa_accuracy/<type> is the same by question type, vqa_accuracy/turn<n> by turn of the conversation; questions after
    the first count in their turn's score alone. With one reference, the VQA score min(1, matches / 3) over
    leave-one-out sets is plain exact match, which is vqa_exact; vqa_accuracy also accepts 红色 for 小狗是红色的 (see
    scoring/vqa.py).
    """
    right = (float(vqa.same_answer(answer, reference, question, kind)), 1)
    if turn > 1:
        return {f"vqa_accuracy/turn{turn}": right}
    exact = (float(answers.exact(answer, [reference])), 1)
    return {"vqa_accuracy": right, f"vqa_accuracy/{kind}": right, "vqa_accuracy/turn1": right, "vqa_exact": exact}


def totals(samples: Sequence[SampleScores]) -> dict[str, float | None]:
    """Each metric over all samples: sum of numerators / sum of denominators; a sample without it counts 0 and 0.

    BLEU is made of the sums of its parts (see coco.bleu).
    """
    names, counts = _table(samples)
    return {name: _number(row[0]) for name, row in _ratios(names, counts.sum(0)[np.newaxis]).items()}


def summarise(samples: Sequence[SampleScores], seed: int = 0, resamples: int = 1000) -> dict[str, object]:
    """`totals`, and for each metric a "<name>_ci95" pair: its 95% bootstrap confidence interval (percentiles).

    A resample draws len(samples) samples with replacement; all metrics share the draws. Resamples where a metric is
    undefined are left out of its interval; with none left it is None.
    """
    names, counts = _table(samples)
    result: dict[str, object] = dict(totals(samples))
    for name, drawn in _ratios(names, _resampled(counts, seed, resamples)).items():
        result[f"{name}_ci95"] = interval(drawn)
    return result


@dataclass(frozen=True)
class Difference:
    """A metric of two sets of answers to the same questions; None where it is undefined."""

    first: float | None
    second: float | None
    gain: float | None  # second - first
    ci95: list[float] | None  # of the gain
    p: float | None


def differences(
    first: Sequence[SampleScores], second: Sequence[SampleScores], seed: int = 0, resamples: int = 1000
) -> dict[str, Difference]:
    """Each metric that both have, compared by the paired bootstrap: a resample draws the same rows of both.

    p is two-sided: twice the share of resamples in which the gain does not have its sign, at least 2 / (resamples + 1).
    ValueError where the numbers of samples differ.
    """
    if len(first) != len(second):
        raise ValueError(f"{len(first)} and {len(second)} samples to compare; expected pairs")
    (names, counts), (other_names, other_counts) = _table(first), _table(second)
    both = np.concatenate([counts, other_counts], axis=1)
    sums = np.concatenate([both.sum(0)[np.newaxis], _resampled(both, seed, resamples)])
    width = counts.shape[1]
    ones, others = _ratios(names, sums[:, :width]), _ratios(other_names, sums[:, width:])
    found = {}
    for name in [name for name in ones if name in others]:
        gains = others[name] - ones[name]
        gain, drawn = _number(gains[0]), gains[1:][~np.isnan(gains[1:])]
        p = p_value(drawn) if len(drawn) and gain is not None else None
        ci95 = interval(drawn) if gain is not None else None
        found[name] = Difference(_number(ones[name][0]), _number(others[name][0]), gain, ci95, p)
    return found


def with_prefix(prefix: str, metrics: Mapping[str, Value]) -> dict[str, Value]:
    """The same metrics under prefix + name, e.g. "blank_" for a blanked image."""
    return {prefix + name: value for name, value in metrics.items()}


def _table(samples: Sequence[SampleScores]) -> tuple[list[str], np.ndarray]:
    """Metric names in order of first appearance, and their counts (samples, 2 * metrics)."""
    if not samples:
        raise ValueError("no samples to score; expected at least one answer")
    names = list(dict.fromkeys(name for sample in samples for name in sample))
    rows = [[count for name in names for count in sample.get(name, (0, 0))] for sample in samples]
    return names, np.array(rows, dtype=np.float64)


def _resampled(counts: np.ndarray, seed: int, resamples: int) -> np.ndarray:
    """Sums (resamples, columns) of as many rows of counts (samples, columns), drawn with replacement."""
    generator = np.random.default_rng(seed)
    chances = np.full(len(counts), 1 / len(counts))
    chunk = max(1, 8_000_000 // len(counts))  # weights of at most 64 MB at a time
    drawn = []
    for start in range(0, resamples, chunk):
        weights = generator.multinomial(len(counts), chances, size=min(chunk, resamples - start))
        drawn.append(weights.astype(np.float64) @ counts)
    return np.concatenate(drawn)


def _ratios(names: Sequence[str], sums: np.ndarray) -> dict[str, np.ndarray]:
    """Each metric (R,) for each row of sums (R, 2 * metrics), BLEU included; NaN where it is undefined."""
    tops, bottoms = sums[:, ::2].T, sums[:, 1::2].T
    values = np.divide(tops, bottoms, out=np.full_like(tops, np.nan), where=bottoms > 0)
    ratios = dict(zip(names, values, strict=True))
    return ratios | coco.bleu(ratios)


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def p_value(gains: np.ndarray) -> float:
    """Two-sided, of the gain in each resample (R,): twice the share of them that does not have its sign."""
    beyond = min((gains <= 0).sum(), (gains >= 0).sum())
    return min(1.0, 2 * (float(beyond) + 1) / (len(gains) + 1))


def interval(drawn: np.ndarray) -> list[float] | None:
    """The 2.5 and 97.5 percentiles of what is defined."""
    defined = drawn[~np.isnan(drawn)]
    return [float(p) for p in np.percentile(defined, (2.5, 97.5))] if len(defined) else None
