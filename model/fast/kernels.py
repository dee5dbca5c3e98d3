"""The functions of kernels.c for bfloat16 tensors on a CPU, compiled with the machine's own gcc at first use and kept
in the user's cache folder.

A chain of PyTorch operations reads and writes memory at every step; a kernel does so once. Where they cannot be built,
only speed is lost: fused.py has the same formulas in PyTorch. They share PyTorch's threads, so they are linked against
the OpenMP library that it has loaded; a second one would compete with it for the cores.
GLIMPSE_KERNELS=0 in the environment disables them.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import os
import platform
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

SOURCE = Path(__file__).with_name("kernels.c")
FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fPIC", "-fopenmp", "-shared")
TYPES = {"p": ctypes.c_void_p, "n": ctypes.c_int64, "f": ctypes.c_float, "t": ctypes.c_int}
ARGUMENTS = {  # of each function: pointers, 64-bit integers, floats and the number of threads (TYPES)
    "rms_norm": "ppppfppnnt", "rms_norm_backward": "ppppppppnnt",
    "swiglu": "ppnnt", "swiglu_backward": "pppnnt", "rotate": "ppppppnft",
    "softmax": "pfnnnnnt", "softmax_backward": "ppfpnnt",
    "add_layer_norm": "pppppfpnnt", "gelu": "ppffnnt", "split_heads": "pppnnnnt",
}  # fmt: skip


def usable(*tensors: Tensor) -> bool:
    """Whether these tensors are on a CPU and the kernels are available; not under torch.compile, which has better."""
    on_cpu = all(tensor.device.type == "cpu" for tensor in tensors)
    return on_cpu and not torch.compiler.is_compiling() and library() is not None


@functools.cache
def library() -> ctypes.CDLL | None:
    """The kernels, from the cache folder or built in about half a second; None without gcc or OpenMP, or, with a
    warning, if the build fails."""
    compiler, openmp = shutil.which("gcc"), _openmp()
    if os.environ.get("GLIMPSE_KERNELS") == "0" or compiler is None or openmp is None:
        return None
    wide = ["-mprefer-vector-width=512"] if platform.machine() == "x86_64" else []
    # PyTorch's OpenMP comes before gcc's own, which is then not needed and left out
    command = [compiler, *FLAGS, *wide, str(SOURCE), "-Wl,--as-needed", openmp, "-lm"]
    try:
        kernels = _kept(command)
    except (OSError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", None) or error
        warnings.warn(f"the kernels of {SOURCE} could not be built, continuing without them: {said}", stacklevel=2)
        return None
    for name, arguments in ARGUMENTS.items():
        function = getattr(kernels, name)
        function.argtypes, function.restype = [TYPES[letter] for letter in arguments], None
    return kernels


def _kept(command: list[str]) -> ctypes.CDLL:
    """What the command builds: from the cache folder, where it is kept once built; from a temporary one if that cannot
    be used. OSError or CalledProcessError if the build fails."""
    folder = _cache_folder()
    if folder is None:
        return _built(command)
    kept = folder / f"kernels-{_fingerprint(command)}.so"
    with contextlib.suppress(OSError):  # not there, or damaged
        return ctypes.CDLL(str(kept))
    try:
        return _built(command, kept)
    except (OSError, subprocess.CalledProcessError):  # as on a full disk
        return _built(command)


def _built(command: list[str], kept: Path | None = None) -> ctypes.CDLL:
    with tempfile.TemporaryDirectory(prefix="glimpse-", dir=kept and kept.parent) as scratch:
        built = Path(scratch) / "kernels.so"
        subprocess.run([*command, "-o", str(built)], check=True, capture_output=True, text=True)
        kernels = ctypes.CDLL(str(built))
        if kept:
            os.replace(built, kept)  # whole, whatever another process does at the same time
        return kernels


def _cache_folder() -> Path | None:
    """Our folder in the user's cache folder, made if it is missing; None unless it is the user's alone."""
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "glimpse"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
    except (OSError, RuntimeError):  # no home, or one that cannot be written
        return None
    ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077
    return folder if ours and os.access(folder, os.W_OK) else None


def _fingerprint(command: list[str]) -> str:
    """Of what determines the code that the command builds: source, compiler, flags and processor."""
    said = subprocess.run([command[0], "--version"], check=True, capture_output=True).stdout
    processor = [line for line in Path("/proc/cpuinfo").read_bytes().split(b"\n\n")[0].splitlines()
                 if line.startswith((b"model", b"flags", b"Features", b"CPU"))]  # fmt: skip
    parts = (SOURCE.read_bytes(), said, *processor, *(part.encode() for part in command))
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:24]


def _openmp() -> str | None:
    """The file of the OpenMP library that PyTorch has loaded; None if that cannot be determined."""
    maps = Path("/proc/self/maps").read_text() if sys.platform == "linux" else ""
    found = re.search(r"/.*/lib(gomp|iomp5|omp)\b[^/\n]*\.so.*", maps)
    return found[0] if found else None


def _call(name: str, *arguments) -> None:
    given = (a.data_ptr() if isinstance(a, Tensor) else a for a in arguments)
    getattr(library(), name)(*given, torch.get_num_threads())


class RMSNorm(torch.autograd.Function):
    """x (..., D) float32 plus update (..., D), and the RMSNorm of that with weight (D,) float32, in bfloat16; where
    update is None, only the RMSNorm of x."""

    @staticmethod
    def forward(ctx, x: Tensor, update: Tensor | None, weight: Tensor, eps: float):
        ctx.set_materialize_grads(False)
        x, update = x.contiguous(), None if update is None else update.contiguous()
        stream = x if update is None else torch.empty_like(x)
        out, scale = torch.empty_like(x, dtype=torch.bfloat16), x.new_empty((*x.shape[:-1], 1))  # scale: 1 / RMS
        _call("rms_norm", x, update, stream, weight, eps, out, scale, scale.numel(), x.shape[-1])
        ctx.save_for_backward(stream, weight, scale)
        return out if update is None else (stream, out)

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads: Tensor | None):
        stream, weight, scale = ctx.saved_tensors
        grad_stream, grad_out = grads if len(grads) == 2 else (None, *grads)
        grad_out = torch.zeros_like(stream, dtype=torch.bfloat16) if grad_out is None else grad_out.contiguous()
        grad_stream = None if grad_stream is None else grad_stream.contiguous()
        grad_x, width = torch.empty_like(stream), stream.shape[-1]
        grad_update = torch.empty_like(stream, dtype=torch.bfloat16) if ctx.needs_input_grad[1] else None
        sums = stream.new_zeros((torch.get_num_threads(), width)) if ctx.needs_input_grad[2] else None
        grads_in = (grad_x, grad_update, sums)
        _call("rms_norm_backward", grad_out, grad_stream, stream, weight, scale, *grads_in, scale.numel(), width)
        return grad_x, grad_update, None if sums is None else sums.sum(0), None


class SwiGLU(torch.autograd.Function):
    """silu(gate) * up (..., I) of gate and up, concatenated (..., 2 I)."""

    @staticmethod
    def forward(ctx, gate_up: Tensor) -> Tensor:
        gate_up, width = gate_up.contiguous(), gate_up.shape[-1] // 2
        ctx.save_for_backward(gate_up)
        out = gate_up.new_empty((*gate_up.shape[:-1], width))
        _call("swiglu", gate_up, out, out.numel() // width, width)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> Tensor:
        (gate_up,) = ctx.saved_tensors
        grad, grad_gate_up = grad.contiguous(), torch.empty_like(gate_up)
        _call("swiglu_backward", grad, gate_up, grad_gate_up, grad.numel() // grad.shape[-1], grad.shape[-1])
        return grad_gate_up


class Softmax(torch.autograd.Function):
    """In place: softmax(scale * scores) over the last dimension of (..., queries * group, S). Each query has `group`
    rows, and query q attends to the first seen + q columns."""

    @staticmethod
    def forward(ctx, scores: Tensor, scale: float, queries: int, group: int, seen: int) -> Tensor:
        columns = scores.shape[-1]
        _call("softmax", scores, scale, scores.numel() // columns, columns, queries, group, seen)
        ctx.mark_dirty(scores)
        ctx.save_for_backward(scores)
        ctx.scale = scale
        return scores

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        (softmax,) = ctx.saved_tensors
        grad, grad_scores, columns = grad.contiguous(), torch.empty_like(softmax), softmax.shape[-1]
        _call("softmax_backward", grad, softmax, ctx.scale, grad_scores, softmax.numel() // columns, columns)
        return grad_scores, None, None, None, None


def rotate(x: Tensor, cos: Tensor, sin: Tensor, sign: float) -> Tensor:
    """x (B, T, H, d) cos + swapped(x) sin * sign; cos and sin (1 or B, T, 1, d)."""
    x = x if x.stride(-1) == 1 else x.contiguous()
    out = torch.empty(x.shape, dtype=x.dtype)
    sizes, strides = (ctypes.c_int64 * 4)(*x.shape), (ctypes.c_int64 * 6)(*x.stride()[:3], *out.stride()[:3])
    cos, sin = cos.contiguous(), sin.contiguous()
    turn = cos.stride(0) if len(cos) > 1 else 0
    _call("rotate", x, cos, sin, out, sizes, strides, turn, sign)
    return out


def add_layer_norm_(x: Tensor, update: Tensor | None, bias: Tensor | None, norm: nn.LayerNorm) -> Tensor:
    """Adds update (..., D) and bias (D,) float32 to x (..., D) float32, in place; returns the LayerNorm of that in
    bfloat16."""
    out = torch.empty(x.shape, dtype=torch.bfloat16)
    weight, shift = norm.weight.float(), norm.bias.float()
    _call("add_layer_norm", x, update, bias, weight, shift, norm.eps, out, x.numel() // x.shape[-1], x.shape[-1])
    return out


def gelu_(x: Tensor, bias: Tensor, linear: float, cubic: float) -> Tensor:
    """In place: y sigmoid(linear y + cubic y^3) for y = x + bias, of x (..., D) and bias (D,) float32."""
    _call("gelu", x, bias, linear, cubic, x.numel() // x.shape[-1], x.shape[-1])
    return x


def split_heads(qkv: Tensor, bias: Tensor, heads: int) -> Tensor:
    """Queries, keys and values (3, B, H, N, d) from qkv (B, N, 3 H d) plus bias (3 H d,) float32."""
    batch, length, width = *qkv.shape[:2], qkv.shape[2] // (3 * heads)
    out = qkv.new_empty((3, batch, heads, length, width))
    _call("split_heads", qkv, bias, out, batch, length, heads, width)
    return out
