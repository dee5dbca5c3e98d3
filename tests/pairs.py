"""Two processes that train together, as torchrun would start them, and what their run left."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import torch
from engine_parts import Kill, forkserver, pretrain_flags, run_main, told

from model.checkpoints import read_tensors


def start_pair(work: Callable, *given) -> list[int]:
    """Exit codes of two processes that each do work(rank, *given), after two minutes at most."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    some = [forkserver().Process(target=_one, args=(rank, port, work, given)) for rank in (0, 1)]
    for process in some:
        process.start()
    for process in some:
        process.join(120)
        if process.exitcode is None:
            process.kill()
            process.join()
    return [process.exitcode for process in some]


def _one(rank: int, port: int, work: Callable, given: tuple) -> None:
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1",
                      MASTER_PORT=str(port), GLOO_SOCKET_IFNAME="lo")  # fmt: skip
    work(rank, *given)


def together(script: str, argv: list[str], folder: Path, kill: Kill | None = None) -> tuple[list[int], str]:
    """Exit codes of two processes that train together, of which the first may be killed, and what they said."""
    folder.mkdir(parents=True, exist_ok=True)
    codes = start_pair(_train, script, argv, folder, kill)
    return codes, "".join((folder / f"said-{rank}.txt").read_text() for rank in (0, 1))


def _train(rank: int, script: str, argv: list[str], folder: Path, kill: Kill | None) -> None:
    run_main(script, argv, folder / f"said-{rank}.txt", kill if rank == 0 else None)


def losses(run: Path) -> list[tuple]:
    return [(entry["step"], entry.get("loss", entry.get("val_loss"))) for entry in told(run)]


def weights(run: Path) -> dict[str, torch.Tensor]:
    return read_tensors(run / "model.safetensors")


CHANGES = {"train": "projector,llm", "optimizer": "adamw", "batch_size": 5, "accumulation_steps": 2, "eval_interval": 2}


def argv_for(parts: Path, run: Path, **changes) -> list[str]:
    return pretrain_flags(parts, run, val_data=parts / "data.jsonl", **{**CHANGES, **changes})
