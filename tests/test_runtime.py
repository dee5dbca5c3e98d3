from __future__ import annotations

import builtins
import io
import os
import subprocess
import sys

import pytest
import torch

from engine import runtime
from engine.runtime import RuntimeChoiceError, autocast, has_fast_bfloat16, peak_memory, pick_device, pick_dtype

CPU = torch.device("cpu")


def pretend(monkeypatch, gpus: int = 0, mps: bool = False) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


@pytest.mark.parametrize(("gpus", "mps", "best"), [(0, False, "cpu"), (2, False, "cuda"), (0, True, "mps")])
def test_auto_is_the_best_device_there_is(monkeypatch, gpus, mps, best):
    pretend(monkeypatch, gpus, mps)
    assert pick_device("auto") == torch.device(best)


def test_a_device_that_is_there_is_taken(monkeypatch):
    pretend(monkeypatch, 2)
    assert pick_device("cpu") == CPU
    assert pick_device("cuda") == torch.device("cuda") and pick_device("cuda:1") == torch.device("cuda", 1)


@pytest.mark.parametrize(("gpus", "name", "have"), [
    (0, "cuda", "which has cpu;"), (0, "cuda:0", "which has cpu;"), (0, "mps", "which has cpu;"),
    (0, "gpu", "which has cpu;"), (0, "", "which has cpu;"), (0, "cpu:x", "which has cpu;"),
    (2, "cuda:2", "which has cpu, cuda, cuda:0, cuda:1;"), (1, "cuda:", "which has cpu, cuda, cuda:0;"),
    (1, "cuda:-1", "which has cpu, cuda, cuda:0;"),
])  # fmt: skip
def test_a_device_that_is_not_there_is_an_error_that_says_what_is(monkeypatch, gpus, name, have):
    pretend(monkeypatch, gpus)
    with pytest.raises(RuntimeChoiceError) as error:
        pick_device(name)
    assert f"--device {name}: not on this machine, {have} use one of them, or auto" in str(error.value)


def cpu_with(monkeypatch, line: str) -> None:
    opened = builtins.open
    monkeypatch.setattr(
        builtins, "open", lambda name, *a, **k: io.StringIO(line) if name == "/proc/cpuinfo" else opened(name, *a, **k)
    )


@pytest.mark.parametrize(("line", "fast"), [
    ("flags\t\t: fpu avx2 avx512f\n", False), ("model\nflags\t\t: fpu avx512_bf16 sse\n", True),
    ("flags\t\t: fpu amx_bf16\n", True), ("Features\t: fp asimd bf16\n", True), ("", False),
])  # fmt: skip
def test_bfloat16_is_chosen_where_the_processor_has_it(monkeypatch, line, fast):
    cpu_with(monkeypatch, line)
    assert has_fast_bfloat16(CPU) is fast
    assert pick_dtype("auto", CPU) == (torch.bfloat16 if fast else torch.float32)


def test_a_number_format_is_taken_by_name_and_another_is_an_error_that_says_which_there_are():
    assert pick_dtype("float32", CPU) == torch.float32 and pick_dtype("bfloat16", CPU) == torch.bfloat16
    with pytest.raises(RuntimeChoiceError, match="--dtype float16: expected auto, float32 or bfloat16"):
        pick_dtype("float16", CPU)


def test_products_are_computed_in_the_format_and_float32_changes_nothing():
    x = torch.ones(2, 2)
    with autocast(CPU, torch.bfloat16):
        assert (x @ x).dtype == torch.bfloat16
    with autocast(CPU, torch.float32):
        assert (x @ x).dtype == torch.float32 and not torch.is_autocast_enabled("cpu")


def test_peak_memory_is_at_least_what_is_held():
    held = torch.ones(8 << 20)  # 32 MiB
    assert peak_memory(CPU) > held.numel() * 4


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the allocator's settings are glibc's")
def test_freed_memory_is_kept_for_the_next_step():
    program = """
import resource, torch
from engine.runtime import prepare
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(12):
        torch.ones(16 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(faults())
prepare(torch.device("cpu"))
faults()
print(faults())
"""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("MALLOC_")}
    done = subprocess.run([sys.executable, "-c", program], env=clean, capture_output=True, text=True, check=True)
    given_back, kept = map(int, done.stdout.split())
    assert kept * 10 < given_back


@pytest.mark.parametrize(("name", "expected"), [("MALLOC_ARENA_MAX", []), ("PATH", ["kept"])])
def test_an_allocator_that_the_user_has_set_is_left_alone(monkeypatch, name, expected):
    done = []
    monkeypatch.setattr(runtime.sys, "platform", "linux")
    monkeypatch.setattr(runtime.os, "environ", {name: "1"})
    monkeypatch.setattr(runtime, "_keep_freed_memory", lambda: done.append("kept"))
    runtime.prepare(CPU)
    runtime.prepare(torch.device("mps"))
    assert done == expected
