"""One hostile case in a process of its own, watched: how it ends, how long it takes, what it opens and starts."""

from __future__ import annotations

import contextlib
import io
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dataset.bad_rows import DataError
from engine.command import guarded
from tokenizer.tokenizer import TokenizerError

SECONDS = 20.0  # a case that takes longer hangs
MEMORY = 1500  # MiB beside what the parent has
FORBIDDEN = ("os.system", "os.exec", "os.posix_spawn", "os.spawn", "subprocess.Popen", "socket.connect", "socket.bind")


@dataclass(frozen=True)
class Ending:
    """verdict: 'ok' (read, or refused in words), else what went wrong; memory in MiB beside the model's.

    said: the end of what was printed.
    """

    verdict: str
    seconds: float
    memory: int
    said: str


def watch(case: Callable[[], object], folder: Path, canary: Path, typed: bytes | None = None) -> Ending:
    """Run case() in a fork whose working folder is `folder`; `typed` is what it reads from its terminal.

    It may neither open `canary`, a file that no input should lead to, nor start anything.
    """
    said = folder / "said.txt"
    began = time.monotonic()
    sys.stdout.flush()
    child = os.fork()
    if not child:
        os._exit(_run(case, folder, canary, said, typed))
    before = most = _memory(child)
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        seconds = time.monotonic() - began
        if done:
            break
        most = max(most, _memory(child))
        if seconds > SECONDS:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return Ending("hang", seconds, 0, _end(said))
        time.sleep(0.004)
    text, code = _end(said), os.waitstatus_to_exitcode(status)
    memory = (most - before) >> 10
    verdict = "ok"
    if code < 0:
        verdict = f"killed by {signal.Signals(-code).name}"
    elif "VIOLATION" in text:
        verdict = text[text.index("VIOLATION") :].split("\n")[0]
    elif "Traceback (most recent call last)" in text:
        verdict = "traceback"
    elif code not in (0, 1, 2):
        verdict = f"exit {code}"
    elif memory > MEMORY:
        verdict = f"memory {memory} MiB"
    return Ending(verdict, seconds, memory, text)


def _memory(process: int) -> int:
    """KiB of memory that a process has of its own; 0 after its end."""
    status = Path(f"/proc/{process}/status").read_text()
    return next((int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon:")), 0)


def _end(said: Path) -> str:
    with contextlib.suppress(OSError):
        return said.read_bytes()[-4000:].decode("utf-8", "replace")
    return ""


def _run(case: Callable[[], object], folder: Path, canary: Path, said: Path, typed: bytes | None) -> int:
    os.chdir(folder)
    out = os.open(said, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    os.dup2(out, 1)
    os.dup2(out, 2)
    sys.stdout = io.TextIOWrapper(io.FileIO(1, "w", closefd=False), encoding="utf-8", write_through=True)
    sys.stderr = io.TextIOWrapper(io.FileIO(2, "w", closefd=False), encoding="utf-8", write_through=True)
    reading, writing = os.pipe()
    os.write(writing, (typed or b"")[:60_000])
    os.close(writing)
    os.dup2(reading, 0)
    sys.stdin = io.TextIOWrapper(io.FileIO(0, "r", closefd=False), encoding="utf-8")
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limit = size + (2 * MEMORY << 20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

    def audit(event: str, args: tuple) -> None:
        if event in FORBIDDEN or (event == "open" and args[0] == str(canary)):
            os.write(2, f"\nVIOLATION {event} {args[:1]!r}\n".encode())

    sys.addaudithook(audit)
    try:
        return guarded(lambda: _plainly(case))
    except SystemExit as stop:
        if isinstance(stop.code, str):
            print(stop.code)
        return stop.code if isinstance(stop.code, int) else 1
    except BaseException:
        traceback.print_exc()
        return 70


def _plainly(case: Callable[[], object]) -> None:
    try:
        case()
    except (DataError, TokenizerError) as error:  # as the commands of dataset/ and tokenizer/ say them
        print(f"error: {error}")
