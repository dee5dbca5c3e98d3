"""What a command does before its imports: called at the top of every script and tool, ahead of torch."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from types import FrameType

WAITING = {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0"}  # GNU's OpenMP; LLVM's and Intel's, in milliseconds
PARENT_DEATH_SIGNAL = 1  # prctl's PR_SET_PDEATHSIG


def begin() -> None:
    """Let OpenMP's threads wait passively, and make Ctrl-C during the imports end the command with one line."""
    wait_passively()
    end_with_torchrun()
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not where it is ignored, as under nohup
        signal.signal(signal.SIGINT, interrupted_early)


def wait_passively() -> None:
    """Threads of OpenMP that have nothing to do sleep, unless the user says how they wait.

    By default they spin, and two processes on the same cores slow each other twentyfold. OpenMP reads the environment
    once, when torch loads it.
    """
    if not any(name in os.environ for name in (*WAITING, "GOMP_SPINCOUNT")):
        os.environ.update(WAITING)


def end_with_torchrun() -> None:
    """On Linux a rank is killed when its torchrun dies, which otherwise leaves it waiting for the others for hours."""
    if "WORLD_SIZE" in os.environ and sys.platform == "linux":
        ctypes.CDLL(None).prctl(PARENT_DEATH_SIGNAL, signal.SIGKILL)


def interrupted_early(number: int, frame: FrameType | None) -> None:
    """A handler of SIGINT until guarded() runs: nothing is to be saved, and an exception could be swallowed by what is
    being imported."""
    os.write(2, f"\n{signal.Signals(number).name}\n".encode())
    os._exit(128 + number)
