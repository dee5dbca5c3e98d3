"""Processes that are measured in turn: each works when told to, waits otherwise, and has its own peak memory."""

from __future__ import annotations

import itertools
import math
import multiprocessing
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from dataset.record import Batch
from engine.device import peak_memory, pick_device, prepare
from tools.bench.cost import finish

Wait = Callable[[dict], None]  # sends a measurement ({}: ready to begin), waits for the next turn or raises Finished


class Finished(Exception):
    """Raised in a child when its measurements are over."""


class BrokenWork(RuntimeError):
    """A child failed or was killed; the message says which and how."""


def metered(
    steps: Iterable[list[Batch]], wait: Wait, device: torch.device, warmup: int, seconds: float,
    cost: Callable[[Batch], float],
) -> Iterator[list[Batch]]:  # fmt: skip
    """Yields each step's batches, and measures from within the loop that takes them: its rates per second.

    The clock is read when a step's batches are ready and the step before is done. warmup: steps that are not measured.
    seconds: a measurement ends with the first step after this long. cost: FLOPs of a batch.
    """
    steps = iter(steps)
    yield from itertools.islice(steps, warmup)
    began, done = -math.inf, Counter()
    for batches in steps:
        if time.perf_counter() - began >= seconds:
            finish(device)
            took = time.perf_counter() - began
            wait({name: amount / took for name, amount in done.items()})
            began, done = time.perf_counter(), Counter()
        for batch in batches:
            done.update(value=len(batch.ids), tokens_per_s=batch.tokens, flops_per_s=cost(batch))
        yield batches


def serve(connection: Connection, work: Callable, job, log: Path) -> None:
    """What a child runs: work(job, wait) until it is stopped; then it sends its peak memory and any error."""

    def wait(measured: dict) -> None:
        connection.send(measured)
        if connection.recv() != "go":
            raise Finished

    end: dict = {}
    with open(log, "w", encoding="utf-8", buffering=1) as file, redirect_stdout(file), redirect_stderr(file):
        device = pick_device(job.device)
        prepare(device)  # the same allocator settings for every work, before its first tensor
        try:
            work(job, wait)
        except Finished:
            pass
        except Exception:
            end["error"] = traceback.format_exc()
    connection.send({**end, "peak_mib": peak_memory(device) / 2**20})


class Child:
    """A workload in a process of its own, as its parent sees it."""

    def __init__(self, name: str, work: Callable, job):
        self.name = name
        log = job.folder / "logs" / f"{name}.txt"
        log.parent.mkdir(parents=True, exist_ok=True)
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs, work, job, log), daemon=True)
        self._process.start()
        theirs.close()

    def measure(self) -> dict:
        """One measurement."""
        self._connection.send("go")
        return self.receive()

    def stop(self) -> dict:
        """End the workload; returns its peak memory, in MiB."""
        self._connection.send("stop")
        end = self.receive()
        self._process.join()
        return end

    def kill(self) -> None:
        self._process.kill()
        self._process.join()

    def receive(self) -> dict:
        """What the workload sends next: {} when it is ready to begin, measurements later. BrokenWork if it failed."""
        try:
            message = self._connection.recv()
        except (EOFError, OSError) as error:
            self._process.join()
            raise BrokenWork(f"{self.name}: the process died ({self._process.exitcode}); out of memory?") from error
        if "error" in message:
            raise BrokenWork(f"{self.name}: {message['error']}")
        return message
