"""One process at a time trains in a run's folder."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from engine.checkpoint import RunError


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder, made if it is missing; RunError, naming the holder, if another process does.

    The operating system releases the lock of a process that ends, however it ends. Where the file system cannot lock,
    nothing is locked.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise RunError(f"{folder}: no run can be kept there ({error}); choose another --out") from error
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(f"{folder} is in use by {_holder(file)}; wait for it, or choose another --out") from None
        except OSError:  # a network file system without locks
            pass
        holder = {"host": socket.gethostname(), "process": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
        os.ftruncate(file, 0)
        os.pwrite(file, json.dumps(holder).encode(), 0)
        yield
    finally:
        os.close(file)


def _holder(file: int) -> str:
    try:
        return "process {process} on {host}, since {since}".format(**json.loads(os.pread(file, 1000, 0)))
    except (ValueError, KeyError, TypeError):
        return "another process"
