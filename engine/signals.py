"""SIGINT and SIGTERM: training stops at the end of a step, saved; everything else at once, with a message."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from types import FrameType

STOPPING = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """A command that a signal ended; the text says what is kept and how to go on."""

    def __init__(self, message: str, number: int):
        super().__init__(message)
        self.number = number


def raise_interrupted(number: int, frame: FrameType | None) -> None:
    """A signal handler: the signal takes effect at once."""
    raise Interrupted(signal.Signals(number).name, number)


class Postponed(contextlib.AbstractContextManager["Postponed"]):
    """While open, the first SIGINT or SIGTERM is only noted; another one takes effect at once. For the main thread."""

    def __init__(self) -> None:
        self.noted = 0  # the signal's number
        self._before: dict[int, object] = {}

    def __enter__(self) -> Postponed:
        if threading.current_thread() is threading.main_thread():  # no other may set handlers
            self._before = {number: signal.signal(number, self._note) for number in STOPPING}
        return self

    def __exit__(self, *error) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.noted:
            raise_interrupted(number, frame)
        self.noted = number
        name = signal.Signals(number).name
        print(f"\n{name}: stopping at the end of this step, once it is saved; again to stop at once", file=sys.stderr)
