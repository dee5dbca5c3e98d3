"""Two processes that train together, as torchrun starts them, do what one does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from engine_parts import Kill, in_process, sft_flags
from pairs import argv_for, losses, start_pair, together, weights

from dataset.bad_rows import BadRows
from dataset.record import IGNORE, Example
from engine import distributed
from engine.arguments import TrainArguments, UsageError
from engine.dataloader import Feed
from engine.optimizer import orthogonal
from engine.trainer import machine

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="gloo is tested where torchrun is used")


class Numbered:
    """Examples that say which they are: number i has i % 5 + 4 tokens, each of them i."""

    def __init__(self, count: int):
        self.records = ()
        self.lengths = np.array([i % 5 + 4 for i in range(count)])

    def epoch(self, seed, epoch):
        return np.arange(len(self))

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> Example:
        ids = np.full(self.lengths[index], index, np.int32)
        return Example(ids, np.where(ids < 0, IGNORE, ids), ids < 0, (), str(index))

    def some(self, numbers) -> list[Example]:
        return [self[int(number)] for number in numbers]


def steps_of(rank: int, processes: int, accumulation: int = 1, count: int = 23, **changes) -> list[list[str]]:
    """The examples of each of the first 12 steps that one process trains on."""
    feed = Feed(Numbered(count), 5, 1, 999, None, BadRows(), rank=rank, processes=processes, **changes)
    steps = feed.steps_from(0, accumulation)
    return [sorted(name for batch in next(steps) for name in batch.example_ids) for _ in range(12)]


@pytest.mark.parametrize("changes", [{}, {"accumulation": 2}, {"token_budget": 15}, {"count": 11}])
def test_every_step_the_processes_have_the_batch_of_one_between_them(changes):
    whole = steps_of(0, 1, **changes)
    for processes in (2, 3):
        parts = [steps_of(rank, processes, **changes) for rank in range(processes)]
        assert [sorted(sum(step, [])) for step in zip(*parts, strict=True)] == whole
        assert all(any(step) for step in parts)


def test_validation_is_divided_without_rest():
    def names(rank: int, processes: int) -> list[str]:
        feed = Feed(Numbered(13), 4, 1, 999, None, BadRows(), rank=rank, processes=processes)
        return [name for batch in feed.some(10) for name in batch.example_ids]

    assert sorted(names(0, 3) + names(1, 3) + names(2, 3)) == sorted(names(0, 1)) == sorted(map(str, range(10)))


def test_a_batch_with_fewer_samples_than_processes_is_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(UsageError, match="--batch_size 3 for 4 processes"):
        machine(TrainArguments(batch_size=3))


@pytest.fixture(scope="module")
def pair(parts, tmp_path_factory) -> Path:
    """A run of two processes."""
    run = tmp_path_factory.mktemp("pair") / "run"
    codes, said = together("train_pretrain", argv_for(parts, run), run.parent)
    assert codes == [0, 0], said
    return run


def test_two_processes_find_the_losses_of_one_and_end_with_its_weights(parts, pair, tmp_path):
    run = tmp_path / "one"
    output = tmp_path / "said.txt"
    assert in_process("train_pretrain", argv_for(parts, run), output) == 0, output.read_text()
    found, expected = losses(pair), losses(run)
    assert [step for step, _ in found] == [step for step, _ in expected] and len(found) == 5 + 3
    assert [loss for _, loss in found] == pytest.approx([loss for _, loss in expected], abs=1e-5)
    assert expected[0][1] - expected[-1][1] > 0.1  # it learned, or equal losses show little
    for name, tensor in weights(run).items():
        torch.testing.assert_close(weights(pair)[name], tensor, atol=1e-4, rtol=1e-3)
    summaries = [json.loads((folder / "finished.json").read_text()) for folder in (pair, run)]
    assert summaries[0]["tokens"] == summaries[1]["tokens"]
    assert sorted(path.name for path in pair.iterdir()) == sorted(path.name for path in run.iterdir())


def test_the_first_process_alone_speaks(pair):
    assert "steps: 5 of" in (pair.parent / "said-0.txt").read_text()
    assert (pair.parent / "said-1.txt").read_text() == ""


def test_a_pair_of_which_one_was_killed_goes_on_bit_identically(parts, pair, tmp_path):
    run = tmp_path / "run"
    codes, said = together("train_pretrain", argv_for(parts, run), tmp_path, Kill("training_state.safetensors", 1,
                                                                                 "after"))  # fmt: skip
    assert codes[0] == -signal.SIGKILL and codes[1] != 0, said
    codes, said = together("train_pretrain", argv_for(parts, run), tmp_path)
    assert codes == [0, 0] and "resuming after step 2 of 5" in said
    assert losses(run) == losses(pair)
    assert all(torch.equal(weights(pair)[name], tensor) for name, tensor in weights(run).items())


@pytest.mark.slow
def test_adapters_the_best_weights_and_rates_of_their_own_work_in_pairs_too(parts, pair, tmp_path):
    changes = {"from": pair, "train": "projector,lora", "lora_rank": 2, "learning_rates": "lora=0.01", "keep": "best",
               "eval_interval": 1, "optimizer": "adamw", "gradient_checkpointing": True}  # fmt: skip
    codes, said = together("train_sft", sft_flags(changes.pop("from"), tmp_path / "two", **changes), tmp_path)
    assert codes == [0, 0], said
    assert in_process("train_sft", sft_flags(pair, tmp_path / "one", **changes), tmp_path / "said.txt") == 0
    found, expected = losses(tmp_path / "two"), losses(tmp_path / "one")
    assert [loss for _, loss in found] == pytest.approx([loss for _, loss in expected], abs=1e-5)
    for name, tensor in weights(tmp_path / "one").items():
        torch.testing.assert_close(weights(tmp_path / "two")[name], tensor, atol=1e-4, rtol=1e-3)


@pytest.mark.slow
def test_muon_works_in_pairs_too(parts, tmp_path):
    """Its update is made orthogonal in bfloat16, so sums in another order differ by more than AdamW's."""
    codes, said = together("train_pretrain", argv_for(parts, tmp_path / "two", optimizer="muon"), tmp_path)
    assert codes == [0, 0], said
    argv = argv_for(parts, tmp_path / "one", optimizer="muon")
    assert in_process("train_pretrain", argv, tmp_path / "said.txt") == 0
    found, expected = losses(tmp_path / "two"), losses(tmp_path / "one")
    assert [step for step, _ in found] == [step for step, _ in expected]
    assert [loss for _, loss in found] == pytest.approx([loss for _, loss in expected], abs=2e-3)
    assert expected[0][1] - expected[-1][1] > 0.02


def orthogonal_in_shares(rank: int, folder: Path) -> None:
    distributed.init(torch.device("cpu"))
    mine: list[torch.Tensor] = []
    found = distributed.divided_work(lambda matrix: mine.append(matrix) or orthogonal(matrix), MATRICES)
    expected = [orthogonal(matrix) for matrix in MATRICES]
    assert all(map(torch.equal, found, expected))
    (folder / str(rank)).write_text(str(sum(matrix.numel() for matrix in mine)))


MATRICES = [torch.randn(*shape, generator=torch.Generator().manual_seed(0)) for shape in ((64, 16), (24, 24), (16, 64),
                                                                                          (24, 24))]  # fmt: skip


def test_each_of_two_processes_makes_half_of_muons_updates_and_both_have_all(tmp_path):
    assert start_pair(orthogonal_in_shares, tmp_path) == [0, 0]
    assert [int((tmp_path / rank).read_text()) for rank in "01"] == [64 * 16 + 24 * 24] * 2


@pytest.mark.slow
def test_torchrun_starts_them(parts, tmp_path):
    run = tmp_path / "run"
    argv = [str(word) for word in argv_for(parts, run, steps=2)]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}  # no network is needed
    done = subprocess.run([*command, str(ROOT / "train_pretrain.py"), *argv], cwd=tmp_path, capture_output=True,
                          text=True, timeout=280, env=environment)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (run / "finished.json").is_file() and done.stdout.count("without encoder") == 1
