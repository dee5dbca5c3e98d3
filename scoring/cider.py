"""CIDEr (Vedantam et al. 2015, arXiv 1411.5726): TF-IDF weighted n-gram similarity of an answer to its references."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from scoring.answers import words

LONGEST = 4  # maximum n of an n-gram
SIGMA = 6.0  # of the Gaussian penalty on the difference in length, in bigrams
Tokens = Sequence[str]
Gram = tuple[str, ...]


def cider(answers: Sequence[str], references: Sequence[str]) -> list[float]:
    """CIDEr-D of each answer against its one reference, 0 to 10: 2.5 per n-gram length.

    n-grams of 1 to 4 tokens (Chinese characters or other words, lower-cased, no punctuation) have IDF weights from
    these references, so scores are comparable only between models on the same rows, and a single row has none.
    """
    scorer = Cider([[_lower(text)] for text in references])
    return [clipped for clipped, _ in scorer.scores([_lower(text) for text in answers])]


def _lower(text: str) -> list[str]:
    return [word.lower() for word in words(text)]


@dataclass(frozen=True)
class _Vector:
    """The TF-IDF weights of a text's n-grams and their norm, for each n; the number of its bigrams."""

    weights: list[dict[Gram, float]]
    norms: list[float]
    bigrams: int


class Cider:
    """CIDEr-D and CIDEr of answers, with IDF weights from the references: for each picture, those of several texts.

    CIDEr-D, which COCO's caption evaluation prints as CIDEr, clips counts to the reference's and has a Gaussian penalty
    on the difference in length. CIDEr is the cosine alone, without the stemming of the paper.
    """

    def __init__(self, references: Sequence[Sequence[Tokens]]):
        counted = [[_grams(tokens) for tokens in texts] for texts in references]
        holding = Counter(gram for texts in counted for gram in {gram for grams in texts for gram in grams})
        self._rare = math.log(len(counted)) if counted else 0.0  # IDF of an n-gram that is in no reference
        self._weight = {gram: self._rare - math.log(count) for gram, count in holding.items()}
        self._wanted = [[self._vector(grams) for grams in texts] for texts in counted]

    def scores(self, answers: Sequence[Tokens]) -> list[tuple[float, float]]:
        """(CIDEr-D, CIDEr) of one answer to each picture, 0 to 10: means over its references."""
        found = []
        for tokens, wanted in zip(answers, self._wanted, strict=True):
            answer = self._vector(_grams(tokens))
            both = [_similarity(answer, reference) for reference in wanted]
            found.append((sum(one for one, _ in both) / len(both), sum(other for _, other in both) / len(both)))
        return found

    def _vector(self, grams: Counter[Gram]) -> _Vector:
        weights: list[dict[Gram, float]] = [{} for _ in range(LONGEST)]
        for gram, count in grams.items():
            weights[len(gram) - 1][gram] = count * self._weight.get(gram, self._rare)
        norms = [math.hypot(*one.values()) for one in weights]
        return _Vector(weights, norms, sum(count for gram, count in grams.items() if len(gram) == 2))


def _grams(tokens: Tokens) -> Counter[Gram]:
    return Counter(tuple(tokens[i : i + n]) for n in range(1, LONGEST + 1) for i in range(len(tokens) - n + 1))


def _similarity(answer: _Vector, reference: _Vector) -> tuple[float, float]:
    """(CIDEr-D, CIDEr) of an answer and one reference."""
    clipped = plain = 0.0
    for one, other, norm, norm_other in zip(
        answer.weights, reference.weights, answer.norms, reference.norms, strict=True
    ):
        if norm and norm_other:
            shared = [(value, other[gram]) for gram, value in one.items() if gram in other]
            clipped += sum(min(value, wanted) * wanted for value, wanted in shared) / (norm * norm_other)
            plain += sum(value * wanted for value, wanted in shared) / (norm * norm_other)
    penalty = math.exp(-((answer.bigrams - reference.bigrams) ** 2) / (2 * SIGMA**2))
    return 10 * penalty * clipped / LONGEST, 10 * plain / LONGEST
