"""The exit of every command: an error that the user can fix is a message, not a traceback."""

from __future__ import annotations

import sys
from collections.abc import Callable

from dataset.bad_rows import BadRow, DataError
from engine.arguments import UsageError
from engine.checkpoint import RunError
from engine.device import DeviceError
from engine.freeze import FreezeError
from engine.recorder import NotFiniteError
from model.checkpoints.files import WeightsError
from tokenizer.tokenizer import TokenizerError

MENDABLE = (BadRow, DataError, FreezeError, NotFiniteError, RunError, DeviceError, UsageError, WeightsError,
            TokenizerError, OSError)  # fmt: skip


def guarded(main: Callable[[], None]) -> int:
    """Run main() and return the exit status. Errors that the user can fix are printed, others keep their traceback."""
    try:
        main()
    except MENDABLE as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; repeat the command to resume from the last checkpoint", file=sys.stderr)
        return 130
    return 0
