"""The machine: device, dtype, fast passes, memory allocator."""

from __future__ import annotations

import contextlib
import ctypes
import ctypes.util
import importlib.util
import os
import sys
from collections.abc import Iterator
from typing import TypeVar

import torch
from torch import nn

Module = TypeVar("Module", bound=nn.Module)
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class DeviceError(ValueError):
    """A device or dtype that this machine does not have; the text says which it has."""


def pick_device(name: str) -> torch.device:
    """The device called `name` (cpu, cuda, cuda:1, mps), or for 'auto' the best there is."""
    gpus = [f"cuda:{i}" for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    have = ["cpu", *(["cuda"] if gpus else []), *gpus, *(["mps"] if torch.backends.mps.is_available() else [])]
    if name == "auto":
        return torch.device("cuda" if gpus else have[-1])
    if name not in have:
        raise DeviceError(
            f"--device {name}: not on this machine, which has {', '.join(have)}; use one of them, or auto"
        )
    return torch.device(name)


def pick_dtype(name: str, device: torch.device) -> torch.dtype:
    """The dtype of matrix products; for 'auto' bfloat16 where the hardware has it, else float32.

    Weights, optimizer state and loss are float32 always.
    """
    if name == "auto":
        return torch.bfloat16 if has_fast_bfloat16(device) else torch.float32
    if name not in DTYPES:
        raise DeviceError(f"--dtype {name}: expected auto, {' or '.join(DTYPES)}")
    return DTYPES[name]


def has_fast_bfloat16(device: torch.device) -> bool:
    """True where bfloat16 products are faster than float32 ones: Ampere and later, CPUs with AVX512-BF16 or AMX."""
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
    """A context in which matrix products are computed in dtype; nothing for float32."""
    if dtype == torch.float32:
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype)


def accelerate(model: nn.Module, choice: str) -> None:
    """Run the model by model/fast unless `choice` is off or that folder was deleted."""
    if choice == "on" and importlib.util.find_spec("model.fast"):
        from model import fast

        fast.enable(model)


def arithmetic(model: nn.Module, device: torch.device, dtype: torch.dtype) -> dict[str, str | bool]:
    """What decides rounding on this machine: device, dtype, fast passes, kernels, torch version; kept in run.json."""
    fast = "model.fast" in sys.modules and sys.modules["model.fast"].is_enabled(model)
    return {
        "device": device.type,
        "dtype": str(dtype).removeprefix("torch."),
        "fast": fast,
        "kernels": fast and sys.modules["model.fast"].compiles(dtype, device),
        "torch": torch.__version__,
    }


def keep_in(dtype: torch.dtype, module: nn.Module) -> None:
    """Cast a frozen module's matrices once, in place, as autocast would at every call; nothing for float32.

    What it computes stays the same under autocast to dtype, with half of the memory.
    """
    for parameter in of_products(module, dtype):
        parameter.data = parameter.data.to(dtype)


@contextlib.contextmanager
def frozen_in(dtype: torch.dtype, module: Module) -> Iterator[Module]:
    """A context in which a module's frozen matrices are in dtype, which saves autocast a cast at every step; the
    float32 ones wait in main memory and come back bit for bit."""
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
    """The parameters that autocast to dtype would cast at every call; none for float32."""
    parts = [part for part in module.modules() if isinstance(part, (nn.Linear, nn.Conv2d))]
    return [p for part in parts for p in part.parameters(recurse=False)] if dtype != torch.float32 else []


def prepare(device: torch.device) -> None:
    """Once per process, before the first big tensor: keep freed memory for the next step instead of returning it."""
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
    if device.type == "cpu" and sys.platform == "linux" and not any(k.startswith("MALLOC_") for k in os.environ):
        _keep_freed_memory()


def _keep_freed_memory() -> None:
    """glibc gives large blocks back to the system and page-faults them in again each step; tell it not to.

    The constants are mallopt(3)'s. Other C libraries have no mallopt and are left alone.
    """
    trim_threshold, top_pad, mmap_max = -1, -2, -4
    name = ctypes.util.find_library("c")
    mallopt = getattr(ctypes.CDLL(name), "mallopt", None) if name else None
    if mallopt is not None:
        mallopt(mmap_max, 0)
        mallopt(trim_threshold, -1)  # never
        mallopt(top_pad, 64 * 2**20)


def peak_memory(device: torch.device) -> int:
    """Most memory in use so far, in bytes: the device's on CUDA, the process's elsewhere (0 where unknown)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # Windows
        return 0
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else used * 1024
