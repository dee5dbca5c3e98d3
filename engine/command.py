"""The exit of every command: an error that the user can fix is a message, not a traceback."""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
from collections.abc import Callable

from dataset.bad_rows import BadRow, DataError
from engine.arguments import UsageError
from engine.checkpoint import RunError
from engine.console import spelled
from engine.finite import NotFiniteError
from engine.freeze import FreezeError
from engine.signals import raise_interrupted
from engine.start import interrupted_early
from model.checkpoints.files import WeightsError
from tokenizer.tokenizer import TokenizerError

MENDABLE = (
    BadRow, DataError, FreezeError, NotFiniteError, RunError, UsageError, WeightsError, TokenizerError, OSError,
)  # fmt: skip

RESUMES = "repeat the command to resume"  # what training commands advise


def guarded(main: Callable[[], None], advice: str = "") -> int:
    """Run main() and return the exit status. Errors that the user can fix are printed, others keep their traceback.

    advice: how to go on after a signal that came when there was nothing to save.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # for half a surrogate pair, or a terminal without Unicode
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, raise_interrupted)
        if signal.getsignal(signal.SIGINT) is interrupted_early:
            signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        main()
        sys.stdout.flush()
    except BrokenPipeError:  # as by `| head`: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except MENDABLE as error:
        print(spelled(f"error: {error}"), file=sys.stderr)
        return 1
    except KeyboardInterrupt as stop:
        said = str(stop) or signal.Signals(signal.SIGINT).name
        print("\n" + "; ".join(part for part in (said, advice if advice not in said else "") if part), file=sys.stderr)
        return 128 + getattr(stop, "number", signal.SIGINT)
    return 0
