"""CIDEr-D (Vedantam et al. 2015, arXiv 1411.5726): TF-IDF weighted n-gram similarity of an answer to its reference."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from scoring.answers import words

LONGEST = 4  # maximum n of an n-gram
SIGMA = 6.0  # of the Gaussian penalty on the difference in length, in bigrams
Grams = Counter[tuple[str, ...]]


def cider(answers: Sequence[str], references: Sequence[str]) -> list[float]:
    """CIDEr-D of each answer against its reference, 0 to 10: 2.5 per n-gram length.

    n-grams of 1 to 4 tokens (Chinese characters or other words, lower-cased, no punctuation) have IDF weights from
    these references, so scores are comparable only between models on the same rows, and a single row has none. As in
    COCO caption evaluation, counts are clipped to the reference's and sigma is 6; COCO's Penn Treebank tokenisation
    would differ only for Chinese.
    """
    wanted = [_grams(text) for text in references]
    holding = Counter(gram for grams in wanted for gram in grams)
    weight = {gram: math.log(len(wanted)) - math.log(count) for gram, count in holding.items()}
    rare = math.log(len(wanted)) if wanted else 0.0  # IDF of an n-gram that is in no reference
    return [_similarity(_grams(text), grams, weight, rare) for text, grams in zip(answers, wanted, strict=True)]


def _grams(text: str) -> Grams:
    tokens = [word.lower() for word in words(text)]
    return Counter(tuple(tokens[i : i + n]) for n in range(1, LONGEST + 1) for i in range(len(tokens) - n + 1))


def _similarity(answer: Grams, reference: Grams, weight: dict[tuple[str, ...], float], rare: float) -> float:
    lengths = [sum(count for gram, count in grams.items() if len(gram) == 2) for grams in (answer, reference)]
    penalty = math.exp(-((lengths[0] - lengths[1]) ** 2) / (2 * SIGMA**2))
    total = 0.0
    for n in range(1, LONGEST + 1):
        one, other = (
            {gram: count * weight.get(gram, rare) for gram, count in grams.items() if len(gram) == n}
            for grams in (answer, reference)
        )
        shared = sum(min(value, other[gram]) * other[gram] for gram, value in one.items() if gram in other)
        norms = math.hypot(*one.values()) * math.hypot(*other.values())
        total += shared / norms if norms else 0.0
    return 10 * penalty * total / LONGEST
