"""Text answers: exact and contains match against references, yes or no, loops, length.

Normalisation, wherever it is meant here: Unicode NFKC, lower case, punctuation and symbols to spaces, the English
articles a, an, the dropped, spaces next to a Chinese character removed, other whitespace collapsed.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

from dataset.curation.quality import HAN, UNITS

WORD_EDGE = r"(?:(?<![a-z0-9])|(?![a-z0-9]))"  # not within a word or number
LOOP = re.compile(r"(..+?)\1{3}", re.DOTALL)  # a unit of 2 or more characters, 4 times in a row


def normalise(text: str) -> str:
    """The text normalised for comparison (see the module's docstring)."""
    text = unicodedata.normalize("NFKC", text).lower()
    text = "".join(" " if unicodedata.category(letter)[0] in "PSCZ" else letter for letter in text)
    text = re.sub(r"\b(?:an?|the)\b", " ", text)
    text = re.sub(rf"\s+(?=[{HAN}])|(?<=[{HAN}])\s+", "", text)
    return " ".join(text.split())


def exact(answer: str, references: Sequence[str]) -> bool:
    """True if the normalised answer equals a normalised reference."""
    return normalise(answer) in {normalise(reference) for reference in references}


def contains(answer: str, references: Sequence[str]) -> bool:
    """True if the normalised answer contains a normalised reference: anywhere if Chinese, else as whole words.

    A long answer that lists everything scores high here: read it beside the mean length.
    """
    text, wanted = normalise(answer), map(normalise, references)
    return any(reference and re.search(WORD_EDGE + re.escape(reference) + WORD_EDGE, text) for reference in wanted)


def words(text: str) -> list[str]:
    """Each Chinese character, each other word or number: units of length for both languages."""
    return UNITS.findall(text)


def loops(text: str) -> bool:
    """True for a degenerate loop: a unit of 2 or more characters 4 or more times in a row, or a sentence 3 times.

    Units are searched twice: among letters and digits only (so 一只狗，一只狗， repeats 一只狗), and in the text
    without spaces (so a run of punctuation counts). Sentences end at . ! ? 。 ！ ？ ； or a line break, count from 2
    letters on, and need not be consecutive.
    """
    dense = "".join(unicodedata.normalize("NFKC", text).lower().split())
    letters = "".join(letter for letter in dense if letter.isalnum())
    if LOOP.search(letters) or LOOP.search(dense):
        return True
    sentences = (normalise(sentence) for sentence in re.split(r"[.!?;。！？；\n]+", text))
    counts = Counter(sentence for sentence in sentences if len(sentence) >= 2)
    return max(counts.values(), default=0) >= 3


UNSURE = re.compile(
    r"不知道|不确定|不清楚|看不清|无法|不能确定|\b(?:not |un)sure\b|\b(?:don't|do not|can't|cannot) (?:know|tell)\b"
)
YES_FIRST = re.compile(r"^(?:(?:yes|yeah|yep|true|correct)\b|是(?!不是|否)|有(?!没有)|对(?!不)|嗯|没错|正确|存在|当然)")
NO_FIRST = re.compile(r"^(?:(?:no|nope|not|false|incorrect)\b|没(?!错)|不|否|无|错)")
NO = re.compile(r"\b(?:no|not|none|without)\b|n't\b|没有|没(?!错)|不是|不存在|看不到|并无")
YES = re.compile(r"\byes\b|\bthere (?:is|are)\b|有|存在")


def yes_or_no(answer: str) -> bool | None:
    """True for yes, False for no, None if the answer is neither or both.

    The first word decides (yes, 是, 有, 对; no, 没有, 不, 否). Without such a first word the whole answer does: any
    negation in it is a no, else any affirmation a yes. An answer that says it cannot tell is None.
    """
    text = unicodedata.normalize("NFKC", answer).lower().replace("’", "'").strip().lstrip("\"'“‘([*# ")
    text = re.sub("有没有|是不是|是否", "", text)
    if UNSURE.search(text):
        return None
    for pattern, value in ((NO_FIRST, False), (YES_FIRST, True), (NO, False), (YES, True)):
        if pattern.search(text):
            return value
    return None
