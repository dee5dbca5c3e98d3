from __future__ import annotations

import builtins
import ctypes
import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from engine import device
from engine.arguments import UsageError
from engine.device import (
    autocast,
    frozen_in,
    has_fast_bfloat16,
    keep_in,
    peak_memory,
    pick_device,
    pick_dtype,
    prepare,
    release_memory,
)

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
    with pytest.raises(UsageError) as error:
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
    with pytest.raises(UsageError, match="--dtype float16: expected auto, float32 or bfloat16"):
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
from engine.device import prepare
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
    monkeypatch.setattr(device.sys, "platform", "linux")
    monkeypatch.setattr(device.os, "environ", {name: "1"})
    monkeypatch.setattr(device, "_keep_freed_memory", lambda: done.append("kept"))
    device.prepare(CPU)
    device.prepare(torch.device("mps"))
    assert done == expected


def two_layers() -> torch.nn.Sequential:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.LayerNorm(8), torch.nn.Linear(8, 4))


def test_weights_kept_in_bfloat16_compute_what_autocast_does():
    module, x = two_layers(), torch.randn(3, 6)
    with autocast(CPU, torch.bfloat16):
        expected = module(x)
        keep_in(torch.bfloat16, module)
        assert torch.equal(module(x), expected)
    assert [p.dtype for p in module.parameters()] == [torch.bfloat16] * 2 + [torch.float32] * 2 + [torch.bfloat16] * 2
    same = two_layers()
    keep_in(torch.float32, same)
    assert {p.dtype for p in same.parameters()} == {torch.float32}


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="another C library than glibc")
def test_freed_memory_is_kept_until_it_is_more_than_allowed():
    def own() -> int:
        found = re.search(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text())
        return int(found[1]) >> 10  # MiB

    prepare(CPU)
    release_memory(above=0)  # what earlier tests have freed, which the blocks would take
    before = own()
    blocks = [torch.ones(1 << 18) for _ in range(400)]  # 400 MiB
    last = torch.ones(1 << 10)  # so that they are not at the end of the heap
    del blocks
    release_memory(above=1 << 50)
    kept = own()
    release_memory(above=before << 20)
    assert kept > before + 300 and own() < before + 100 and last.sum() == 1 << 10


def test_frozen_weights_come_back_bit_for_bit_and_those_that_train_are_left_alone():
    module, x = two_layers(), torch.randn(3, 6)
    module[0].requires_grad_(False)
    before = [p.clone() for p in module.parameters()]
    with autocast(CPU, torch.bfloat16):
        expected = module(x)
    with pytest.raises(ZeroDivisionError), frozen_in(torch.bfloat16, module):  # whatever happens within
        assert module[0].weight.dtype == torch.bfloat16 and module[2].weight.dtype == torch.float32
        with autocast(CPU, torch.bfloat16):
            assert torch.equal(module(x), expected)
        _ = 1 / 0
    assert all(torch.equal(p, q) and p.dtype == q.dtype for p, q in zip(module.parameters(), before, strict=True))
    with frozen_in(torch.float32, module):
        assert {p.dtype for p in module.parameters()} == {torch.float32}
