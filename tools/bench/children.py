"""Processes that are measured in turn: each works when told to, waits otherwise, and has its own peak memory."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from dataset.record import Batch
from engine.device import peak_memory, pick_device, prepare
from tools.bench.cost import Done, finish


class Finished(Exception):
    """Raised in a child when its measurements are over."""


class BrokenWork(RuntimeError):
    """A child failed or was killed; the message says which and how."""


@dataclass(frozen=True)
class Turns:
    """A child's end of the connection to its parent."""

    connection: Connection

    def wait(self, measured: dict | None = None) -> None:
        """Send a measurement (None: ready to begin) and wait for the next turn, or raise Finished."""
        self.connection.send(measured or {})
        if self.connection.recv() != "go":
            raise Finished


@dataclass
class StepMeter:
    """Measures a training loop from within: it calls tick() when a batch is ready and the previous step is done."""

    turns: Turns
    device: torch.device
    warmup: int  # steps
    seconds: float  # a measurement ends with the first step after this long
    cost: Callable[[Batch], float]  # FLOPs
    _began: float | None = None
    _done: Done = field(default_factory=Done)

    def tick(self, batches: Iterable[Batch]) -> None:
        if self.warmup:
            self.warmup -= 1
            return
        if self._began is None:
            self._start(None)
        elif time.perf_counter() - self._began >= self.seconds:
            finish(self.device)
            self._done.seconds = time.perf_counter() - self._began
            self._start(measured(self._done))
        for batch in batches:
            self._done.samples += len(batch.ids)
            self._done.tokens += batch.tokens
            self._done.flops += self.cost(batch)

    def _start(self, result: dict | None) -> None:
        finish(self.device)
        self.turns.wait(result)
        self._done, self._began = Done(), time.perf_counter()


def measured(done: Done) -> dict:
    """Rates per second of what was done."""
    rates = {"value": done.samples, "tokens_per_s": done.tokens, "flops_per_s": done.flops}
    return {name: amount / done.seconds for name, amount in rates.items()}


def serve(connection: Connection, work: Callable, job, log: Path) -> None:
    """What a child runs: work(job, turns) until it is stopped; then it sends its peak memory and any error."""
    with open(log, "w", encoding="utf-8", buffering=1) as file:
        with contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
            device = pick_device(job.device)
            prepare(device)  # the same allocator settings for every work, before its first tensor
            end: dict = {}
            try:
                with contextlib.suppress(Finished):
                    work(job, Turns(connection))
            except Exception:
                end["error"] = traceback.format_exc()
        end["peak_mib"] = peak_memory(device) / 2**20
    connection.send(end)


class Child:
    """A workload in a process of its own, as its parent sees it."""

    def __init__(self, name: str, work: Callable, job, log: Path):
        self.name = name
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs, work, job, log), daemon=True)
        self._process.start()
        theirs.close()

    def ready(self) -> None:
        """Wait until the workload is ready for its first turn."""
        self._receive()

    def measure(self) -> dict:
        """One measurement."""
        self._connection.send("go")
        return self._receive()

    def stop(self) -> float:
        """End the workload; returns its peak memory in MiB."""
        self._connection.send("stop")
        peak = self._receive()["peak_mib"]
        self._process.join()
        return peak

    def kill(self) -> None:
        if self._process.is_alive():
            self._process.kill()
        self._process.join()

    def _receive(self) -> dict:
        try:
            message = self._connection.recv()
        except (EOFError, OSError) as error:
            self._process.join()
            raise BrokenWork(f"{self.name}: the process died ({self._process.exitcode}); out of memory?") from error
        if "error" in message:
            raise BrokenWork(f"{self.name}: {message['error']}")
        return message


def cores() -> int:
    """Number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
