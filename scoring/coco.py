"""Metrics of captions with several references, as COCO's caption evaluation (arXiv 1504.00325) computes them.

Tokens: each Chinese character; other text as COCO's PTBTokenizer has it: lower case, no punctuation, clitics apart
("dog's" -> "dog 's", "isn't" -> "is n't"), hyphenated words whole.
"""

from __future__ import annotations

import re
import shutil
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.util import find_spec

import numpy as np

from dataset.curation.quality import HAN
from scoring.cider import LONGEST, Cider, Tokens

LETTER = rf"[^\W_{HAN}]"
CLITIC = rf"'(?:s|m|d|re|ve|ll)(?!{LETTER})"
TOKEN = re.compile(
    rf"[{HAN}]|{CLITIC}|n't(?!{LETTER})|{LETTER}+?(?=n't(?!{LETTER}))"
    rf"|(?:[a-z]\.){{2,}}|(?:mr|mrs|ms|dr|st|jr)\.(?=.*\w)"
    rf"|{LETTER}+(?:(?:[-/.,_]|(?!{CLITIC})'){LETTER}+)*"
    rf"|[^\w\s]"
)
IN_TWO = {"cannot": "can not", "gonna": "gon na", "gotta": "got ta", "wanna": "wan na"}
BRACKETS = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}  # words to COCO
SIGNS = "&%#@*/"  # punctuation to Unicode, words to COCO
BETA = 1.2  # of ROUGE-L's F measure
NO_GRAMS = 1e-6  # COCO's n-gram precision of answers that are all shorter than n tokens


def tokens(text: str) -> list[str]:
    """The tokens of a caption (see the module's docstring)."""
    found: list[str] = []
    for token in TOKEN.findall(unicodedata.normalize("NFKC", text).lower().replace("’", "'")):
        if len(token) > 1 or token in BRACKETS or token in SIGNS or unicodedata.category(token)[0] != "P":
            found += (BRACKETS.get(token) or IN_TWO.get(token, token)).split()
    return found


class CaptionScorer:
    """Scores one answer to each picture against the picture's references, one or more."""

    def __init__(self, references: Sequence[Sequence[str]]):
        self.references = [[tokens(text) for text in texts] for texts in references]
        self._cider = Cider(self.references)

    def samples(self, texts: Sequence[str]) -> list[dict[str, tuple[float, float]]]:
        """Per picture: the parts of BLEU, cider_d, cider_plain and rouge_l; ValueError for another number of answers.

        cider_d is CIDEr-D with IDF weights from these references, cider_plain CIDEr without clipping and penalty.
        """
        if len(texts) != len(self.references):
            raise ValueError(f"{len(texts)} answers for {len(self.references)} pictures; expected one each, in order")
        answers = [tokens(text) for text in texts]
        return [
            bleu_parts(answer, wanted)
            | {"cider_d": (clipped, 1), "cider_plain": (plain, 1), "rouge_l": (rouge_l(answer, wanted), 1)}
            for answer, wanted, (clipped, plain) in zip(
                answers, self.references, self._cider.scores(answers), strict=True
            )
        ]

    def meteor(self, texts: Sequence[str]) -> float | None:
        """METEOR 1.5 (Denkowski and Lavie 2014) of all answers by pycocoevalcap; None where it or java is missing."""
        if find_spec("pycocoevalcap") is None or shutil.which("java") is None:
            return None
        from pycocoevalcap.meteor.meteor import Meteor

        wanted = {i: [" ".join(one) for one in several] for i, several in enumerate(self.references)}
        answers = {i: [" ".join(tokens(text))] for i, text in enumerate(texts)}
        try:
            return float(Meteor().compute_score(wanted, answers)[0])
        except (OSError, ValueError):  # java did not start, or died
            return None


def bleu_parts(answer: Tokens, references: Sequence[Tokens]) -> dict[str, tuple[float, float]]:
    """The ratios that BLEU is made of, which may be summed over samples.

    bleu_precision_<n>: the answer's n-grams that a reference has, each at most as often / its n-grams; n is 1 to 4.
    bleu_length: tokens of the answer / of the reference closest in length, the shorter of two.
    """
    parts: dict[str, tuple[float, float]] = {}
    for n in range(1, LONGEST + 1):
        most: Counter[tuple[str, ...]] = Counter()
        for reference in references:
            most |= _grams(reference, n)
        held = _grams(answer, n)
        parts[f"bleu_precision_{n}"] = ((held & most).total(), held.total())
    closest = min((abs(len(one) - len(answer)), len(one)) for one in references)[1]
    return parts | {"bleu_length": (len(answer), closest)}


def bleu(ratios: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Corpus BLEU (Papineni et al. 2002) bleu_1 to bleu_4 of the ratios (R,) of bleu_parts; {} where there are none."""
    if "bleu_length" not in ratios:
        return {}
    with np.errstate(divide="ignore"):
        brevity = np.exp(np.minimum(0, 1 - 1 / np.nan_to_num(ratios["bleu_length"], nan=1)))
    product, found = np.ones_like(brevity), {}
    for n in range(1, LONGEST + 1):
        product = product * np.nan_to_num(ratios[f"bleu_precision_{n}"], nan=NO_GRAMS)
        found[f"bleu_{n}"] = brevity * product ** (1 / n)
    return found


def rouge_l(answer: Tokens, references: Sequence[Tokens]) -> float:
    """ROUGE-L (Lin 2004): F of the longest common subsequence, with the best precision and the best recall."""
    common = [longest_common(answer, one) for one in references]
    precision = max(common) / max(len(answer), 1)
    recall = max(shared / max(len(one), 1) for shared, one in zip(common, references, strict=True))
    return (1 + BETA**2) * precision * recall / (recall + BETA**2 * precision) if precision and recall else 0.0


def longest_common(first: Tokens, second: Tokens) -> int:
    """Length of the longest common subsequence; a bit for each token of `first` (Hyyrö 2004), as it is often asked."""
    places: dict[str, int] = {}
    for i, token in enumerate(first):
        places[token] = places.get(token, 0) | 1 << i
    full = (1 << len(first)) - 1
    free = full  # places that end no longer subsequence
    for token in second:
        here = free & places.get(token, 0)
        free = ((free + here) | (free - here)) & full
    return len(first) - bin(free).count("1")


def _grams(text: Tokens, n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(text[i : i + n]) for i in range(len(text) - n + 1))
