"""What answers there are to learn: how many differ, what the commonest earns, what word frequencies alone reach."""

from __future__ import annotations

from collections import Counter

import numpy as np

from dataset.record import IGNORE

MOST = 20_000  # different answers that are counted apart, some 3 MB
REPEATED = 5  # answers are few where each is there so many times on average
HALF = 0.5  # share of the commonest beyond which a warning is due


class AnswersSeen:
    """Counts, in bounded memory, of the answers of some rows: all supervised tokens of a row are one answer."""

    def __init__(self) -> None:
        self.rows = 0
        self._rows_of: Counter[int] = Counter()  # hash of an answer's ids -> rows
        self._first: dict[int, int] = {}  # hash -> number of the first example with it
        self._tokens = np.zeros(0, np.int64)  # token id -> its count among the supervised

    def add(self, labels: np.ndarray) -> None:
        """Count the answer of the next example, with labels (T,), some of them supervised."""
        ids = labels[labels != IGNORE]
        words, counts = np.unique(ids, return_counts=True)
        if words[-1] >= len(self._tokens):
            self._tokens = np.pad(self._tokens, (0, int(words[-1]) + 1 - len(self._tokens)))
        self._tokens[words] += counts
        answer = hash(ids.tobytes())
        if answer in self._first or len(self._first) < MOST:
            self._first.setdefault(answer, self.rows)
            self._rows_of[answer] += 1
        self.rows += 1

    @property
    def all_counted(self) -> bool:
        """Whether there were at most MOST different answers."""
        return sum(self._rows_of.values()) == self.rows

    @property
    def few(self) -> bool:
        """Whether the answers are few for the rows."""
        return self.all_counted and self.rows >= REPEATED * len(self._first)

    def commonest(self) -> tuple[int, float]:
        """(number of the first example with the commonest answer, the share of the rows that have it)."""
        answer, rows = self._rows_of.most_common(1)[0]
        return self._first[answer], rows / self.rows

    def baseline(self) -> float:
        """The loss, in nats per supervised token, of a model that knows frequencies alone: those of the words, or those
        of the answers where they are few, whichever is lower."""
        words = _entropy(self._tokens)
        if not self.few:
            return words
        answers = _entropy(np.array(list(self._rows_of.values())))
        return min(words, answers * self.rows / int(self._tokens.sum()))

    def lines(self, text: str) -> list[str]:
        """For a summary: how many answers there are, what always giving the commonest earns, and a warning if too much.

        text: the commonest answer. Nothing where the answers are many and none of them stands out.
        """
        share = self.commonest()[1]
        if not (self.few or share > HALF):
            return []
        different = f"{'' if self.all_counted else 'at least '}{len(self._first):,}"
        lines = [f"answers: {self.rows:,} rows, {different} different; always {text!r} would be right in {share:.1%}"]
        if len(self._first) == 1:
            lines.append("warning: every row has the same answer, so there is nothing to learn from the pictures; give "
                         "rows whose answers differ")  # fmt: skip
        elif share > HALF:
            lines.append("warning: more than half of the rows have the same answer, and a model may learn to give it "
                         "always; dataset.clean --balance label:1:N keeps at most N of each label")  # fmt: skip
        return lines

    def verdict(self, loss: float, sees: bool = True) -> str:
        """A warning where a training's loss, in nats per supervised token, is not below baseline(); else "".

        sees: whether the model has an encoder, which may be to blame.
        """
        baseline = self.baseline()
        if loss < baseline:
            return ""
        return (
            f"warning: loss {loss:.3f} is not below {baseline:.3f}, what the frequencies of words and answers alone "
            "reach: it learned less than those. Likely causes: too few steps (--epochs), a learning rate that is too "
            f"high or too low{', an encoder that does not tell these pictures apart (--vision)' if sees else ''}"
        )


def _entropy(counts: np.ndarray) -> float:
    """In nats, of what is counted."""
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())
