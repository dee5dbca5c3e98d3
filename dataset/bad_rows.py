"""Bad rows of a data set: counted, reported and skipped, up to a limit."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from pathlib import Path

from dataset.atomic import encoded, replacing

EXAMPLES = 5  # listed per reason
EARLIEST = 100  # rows read before the share is checked


class DataError(ValueError):
    """A data file is unusable as a whole; the message says what was found, what was expected, what to do."""


class BadRow(ValueError):
    """One row is unusable. `reason` is the kind of fault (reports group by it), `detail` describes this instance."""

    def __init__(self, reason: str, detail: str = ""):
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail
        self.row_id = ""  # "file:line", where the reader knows it


class BadImage(BadRow):
    """One picture cannot be read."""


class TooManyBadRows(DataError):
    """The share of bad rows exceeds the limit; the message is the report."""


@dataclass
class _Fault:
    count: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, text: str) -> None:
        self.count += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(text)


class BadRows:
    """Counts rows, and bad rows by reason; raises TooManyBadRows when their share exceeds the limit.

    The share is checked from the hundredth row on, and by finish(). A row counts once, however many epochs it occurs
    in. Thread-safe.
    """

    def __init__(self, limit: float = 0.01):
        if not 0 <= limit <= 1:
            raise ValueError(f"the allowed share of bad rows is {limit}; expected 0 to 1: give 0.01 for 1%")
        self.limit = limit
        self.total = 0
        self._bad: set[str] = set()
        self._reasons: dict[str, _Fault] = {}
        self._repairs: dict[str, _Fault] = {}
        self._finished = False
        self._lock = threading.Lock()

    def seen(self, rows: int = 1) -> None:
        """Count rows that were read, good or bad; call it before add()."""
        with self._lock:
            self.total += rows

    def add(self, row_id: str, error: BadRow) -> None:
        """Count a bad row."""
        with self._lock:
            if row_id in self._bad:
                return
            self._bad.add(row_id)
            fault = self._reasons.setdefault(error.reason, _Fault())
            fault.add(f"{row_id}: {error.detail}" if error.detail else row_id)
        self._judge()

    def repaired(self, row_id: str, note: str) -> None:
        """Count a row that was repaired and kept; it is reported but not counted towards the limit."""
        with self._lock:
            self._repairs.setdefault(note, _Fault()).add(row_id)

    def finish(self) -> None:
        """Check the share, however few rows were read; from now on every further bad row is checked at once."""
        self._finished = True
        self._judge()

    @property
    def bad(self) -> int:
        return len(self._bad)

    @property
    def share(self) -> float:
        return self.bad / max(self.total, 1)

    def _judge(self) -> None:
        if self.share > self.limit and (self._finished or self.total >= EARLIEST):
            raise TooManyBadRows(
                f"{self.report()}\nThat is more than the {self.limit:.2%} allowed. "
                "Repair these rows, or allow more with --max_bad."
            )

    def report(self) -> str:
        """A few lines: how many rows were bad or repaired, by reason, with the first few of each."""
        text = [f"{self.bad} of {self.total} rows are bad ({self.share:.2%}) and left out."]
        for title, faults in (("", self._reasons), ("repaired: ", self._repairs)):
            for reason, fault in sorted(faults.items(), key=lambda item: -item[1].count):
                more = ", ..." if fault.count > len(fault.examples) else ""
                text.append(f"  {fault.count} × {title}{reason}: {', '.join(fault.examples)}{more}")
        return encoded("\n".join(text)).decode()

    def write(self, path: Path) -> None:
        """Write the report as JSON, atomically."""
        content = {
            "rows": self.total,
            "bad": self.bad,
            "limit": self.limit,
            "reasons": {reason: vars(fault) for reason, fault in self._reasons.items()},
            "repaired": {note: vars(fault) for note, fault in self._repairs.items()},
        }
        with replacing(path) as file:
            file.write(encoded(json.dumps(content, ensure_ascii=False, indent=1) + "\n"))
