"""The machine: device, dtype, fast passes, memory."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import sys
from collections.abc import Iterator
from typing import TypeVar

import torch
from torch import nn

from engine.arguments import UsageError

Module = TypeVar("Module", bound=nn.Module)
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def pick_device(name: str) -> torch.device:
    """The device called `name` (cpu, cuda, cuda:1, mps), for 'auto' the fastest; UsageError names those there are."""
    gpus = [f"cuda:{i}" for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    have = ["cpu", *(["cuda"] if gpus else []), *gpus, *(["mps"] if torch.backends.mps.is_available() else [])]
    if name == "auto":
        return torch.device("cuda" if gpus else have[-1])
    if name not in have:
        raise UsageError(f"--device {name}: not on this machine, which has {', '.join(have)}; use one of them, or auto")
    return torch.device(name)


def pick_dtype(name: str, device: torch.device) -> torch.dtype:
    """The dtype of matmuls; for 'auto' bfloat16 where the hardware has it, else float32.

    Weights that train, optimizer state and loss are always float32.
    """
    if name == "auto":
        return torch.bfloat16 if has_fast_bfloat16(device) else torch.float32
    if name not in DTYPES:
        raise UsageError(f"--dtype {name}: expected auto, {' or '.join(DTYPES)}")
    return DTYPES[name]


def has_fast_bfloat16(device: torch.device) -> bool:
    """True where bfloat16 matmuls are faster than float32 ones: Ampere and later, CPUs with AVX512-BF16 or AMX."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu":
        return False
    try:
        with open("/proc/cpuinfo") as file:
            flags = next((line for line in file if line.startswith(("flags", "Features"))), "").split()
    except OSError:
        return False
    return bool({"avx512_bf16", "amx_bf16", "bf16"} & set(flags))


def autocast(device: torch.device, dtype: torch.dtype):
    """A context in which matmuls run in dtype; no autocast for float32."""
    if dtype == torch.float32:
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype)


def accelerate(model: nn.Module, choice: str) -> None:
    """Switch the model to model/fast, unless `choice` is off or that folder was deleted."""
    if choice == "on" and importlib.util.find_spec("model.fast"):
        from model import fast

        fast.enable(model)


def arithmetic(model: nn.Module, device: torch.device, dtype: torch.dtype) -> dict[str, str | bool]:
    """What determines rounding: device, dtype, fast passes, kernels, torch version; recorded in run.json."""
    fast = "model.fast" in sys.modules and sys.modules["model.fast"].is_enabled(model)
    return {
        "device": device.type,
        "dtype": str(dtype).removeprefix("torch."),
        "fast": fast,
        "kernels": fast and sys.modules["model.fast"].compiles(dtype, device),
        "torch": torch.__version__,
    }


def keep_in(dtype: torch.dtype, module: nn.Module) -> None:
    """Cast the weights of a frozen module's matmuls to dtype once, in place, as autocast would at every call.

    Its results under autocast to dtype stay the same, in half the memory. float32 changes nothing.
    """
    for parameter in of_products(module, dtype):
        parameter.data = parameter.data.to(dtype)


@contextlib.contextmanager
def frozen_in(dtype: torch.dtype, module: Module) -> Iterator[Module]:
    """A context in which the frozen weights of a module's matmuls are in dtype, which saves a cast at every step; the
    float32 originals wait in main memory and are restored bit for bit."""
    originals = {}
    for parameter in of_products(module, dtype):
        if not parameter.requires_grad and parameter.dtype == torch.float32:
            originals[parameter] = parameter.data.cpu()
            parameter.data = parameter.data.to(dtype)
    try:
        yield module
    finally:
        for parameter, original in originals.items():
            parameter.data = original.to(parameter.device)


def of_products(module: nn.Module, dtype: torch.dtype) -> list[nn.Parameter]:
    """The parameters of matmuls, which autocast to dtype would cast at every call; none for float32."""
    parts = [part for part in module.modules() if isinstance(part, (nn.Linear, nn.Conv2d))]
    return [p for part in parts for p in part.parameters(recurse=False)] if dtype != torch.float32 else []


def prepare(device: torch.device) -> None:
    """Once per process, before the first big tensor: TF32 matmuls on CUDA, an allocator that keeps memory on CPU."""
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
    if device.type == "cpu" and sys.platform == "linux" and not any(k.startswith("MALLOC_") for k in os.environ):
        _keep_freed_memory()


def _keep_freed_memory() -> None:
    """glibc returns large blocks to the system and page-faults them in again at each step; tell it not to (mallopt(3)).

    Other C libraries have no mallopt and are left alone.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    for parameter, value in ((-4, 0), (-1, -1), (-2, 64 * 2**20)):  # M_MMAP_MAX, M_TRIM_THRESHOLD: never, M_TOP_PAD
        if mallopt is not None:
            mallopt(parameter, value)


def release_memory(above: int = 0) -> None:
    """Return freed memory to the system where the process holds more than `above` bytes of its own.

    What _keep_freed_memory() keeps does not fit the next batch's lengths, so it would grow for hours to several times
    what is in use (docs/log.md).
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is None:
        return
    with open("/proc/self/statm") as file:
        pages = file.read().split()
    if (int(pages[1]) - int(pages[2])) * os.sysconf("SC_PAGE_SIZE") > above:  # resident, without files
        trim(0)


def peak_memory(device: torch.device) -> int:
    """Peak memory so far, in bytes: the device's on CUDA, the process's elsewhere (0 where unknown)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # Windows
        return 0
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else used * 1024
