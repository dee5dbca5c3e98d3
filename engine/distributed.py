"""Data parallelism under torchrun; without torchrun the world size is 1.

Each rank has the whole model, or with engine/fsdp.py its shard of every weight, and its shard of every batch. An
all-reduce sums the gradients, so that all ranks take the same step. Only the main process writes files.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, TypeGuard

import torch
import torch.distributed as dist
from torch import nn

from dataset.record import Batch

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor  # slow to import

BUCKET = 2**25  # gradient values per all-reduce
TIMEOUT = timedelta(hours=4)  # other ranks wait while the main process computes features


def world_size() -> int:
    """The number of processes."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """This process's rank, from 0."""
    return int(os.environ.get("RANK", "0")) if world_size() > 1 else 0


def is_main() -> bool:
    return rank() == 0


def local_device(name: str) -> str:
    """The --device of this rank: a GPU of its own, unless --device names one."""
    if world_size() > 1 and name in ("auto", "cuda") and torch.cuda.is_available():
        return f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    return name


def init(device: torch.device) -> None:
    """Join the process group, once; from then on only the main process prints."""
    if world_size() == 1 or dist.is_initialized():
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=TIMEOUT)
    atexit.register(dist.destroy_process_group)
    if not is_main():
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  (until the process ends)


def barrier() -> None:
    """Wait for all ranks."""
    if dist.is_initialized():
        all_reduce_sum(0)


@contextlib.contextmanager
def main_first() -> Iterator[None]:
    """The main process runs the body first, so that the others find its files on disk."""
    if not is_main():
        barrier()
    yield
    if is_main():
        barrier()


def all_reduce_sum(*values: float) -> list[float]:
    """Each value summed over all ranks."""
    return _all_reduce(values, dist.ReduceOp.SUM)


def all_reduce_max(value: int) -> int:
    """The maximum over all ranks."""
    return int(_all_reduce((value,), dist.ReduceOp.MAX)[0])


def _all_reduce(values: Sequence[float], operation: dist.ReduceOp.RedOpType) -> list[float]:
    if not dist.is_initialized():
        return list(values)
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    reduced = torch.tensor(values, dtype=torch.float64, device=device)
    dist.all_reduce(reduced, operation)
    return reduced.tolist()


def full_tensor(tensor: torch.Tensor) -> torch.Tensor:
    """The full tensor of a sharded one (engine/fsdp.py), a collective call; other tensors as they are."""
    return tensor.full_tensor() if is_sharded(tensor) else tensor


def shard_like(tensor: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """This rank's shard of a full tensor, sharded as `like` is; the tensor itself if that is not sharded."""
    if not is_sharded(like):
        return tensor
    from torch.distributed.tensor import distribute_tensor  # slow to import

    return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


def is_sharded(tensor: torch.Tensor) -> TypeGuard[DTensor]:
    return hasattr(tensor, "full_tensor")


def gather(tensors: Iterable[tuple[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """The full tensors by name on the main process, sharded ones gathered one at a time in main memory; empty on the
    other ranks. A collective call."""
    kept = {}
    for name, tensor in tensors:
        value = full_tensor(tensor.detach())
        if is_main():
            kept[name] = value.cpu() if is_sharded(tensor) else value
    return kept


def all_reduce_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Sum every gradient over all ranks; those of sharded weights were reduced in the backward pass."""
    if not dist.is_initialized():
        return
    for bucket in buckets(p.grad for p in parameters if p.grad is not None and not is_sharded(p)):
        flat = torch.cat([gradient.flatten() for gradient in bucket])
        dist.all_reduce(flat)
        for gradient, part in zip(bucket, flat.split([g.numel() for g in bucket]), strict=True):
            gradient.copy_(part.view_as(gradient))


def buckets(tensors: Iterable[torch.Tensor]) -> Iterator[list[torch.Tensor]]:
    """The tensors in order, in lists of BUCKET values or little more."""
    bucket: list[torch.Tensor] = []
    for tensor in tensors:
        bucket.append(tensor)
        if sum(one.numel() for one in bucket) >= BUCKET:
            yield bucket
            bucket = []
    if bucket:
        yield bucket


def divided_work(function: Callable[[torch.Tensor], torch.Tensor], matrices: list[torch.Tensor]) -> list[torch.Tensor]:
    """function(m), of m's shape and in bfloat16, for each of the matrices, which are the same on all ranks: each is
    worked out by one rank, the longest first, and sent to the others. A collective call."""
    if not dist.is_initialized():
        return [function(matrix) for matrix in matrices]
    owner, load = {}, [0] * world_size()
    cost = [matrix.numel() * min(matrix.shape) for matrix in matrices]
    for number in sorted(range(len(matrices)), key=lambda i: -cost[i]):
        owner[number] = load.index(min(load))
        load[owner[number]] += cost[number]
    flat = matrices[0].new_zeros(sum(matrix.numel() for matrix in matrices), dtype=torch.bfloat16)
    parts = [part.view_as(m) for part, m in zip(flat.split([m.numel() for m in matrices]), matrices, strict=True)]
    for number, matrix in enumerate(matrices):
        if owner[number] == rank():
            parts[number].copy_(function(matrix))
    dist.all_reduce(flat)  # all others hold zeros, so the sum is exact
    return parts


def in_lockstep(model: nn.Module, batches: list) -> list:
    """The batches; for a model in lockstep (engine/fsdp.py) padded with idle ones to the longest rank's number."""
    if not getattr(model, "lockstep", False):
        return batches
    device = next(model.parameters()).device
    return batches + [Batch.idle().to(device)] * (all_reduce_max(len(batches)) - len(batches))
