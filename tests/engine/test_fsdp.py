"""Two processes that divide the weights between them (--fsdp) do what one with all of them does."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

import pytest
import torch
from engine_parts import Kill, feed_of, in_process, sft_flags, small_batches, small_vlm
from pairs import argv_for, losses, start_pair, together, weights

from engine import distributed
from engine.arguments import TrainArguments, UsageError
from engine.freeze import set_trainable
from engine.memory import memory_plan
from engine.trainer import machine

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="gloo is tested where torchrun is used")


@pytest.fixture(scope="module")
def pair(parts, tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("pair") / "run"
    codes, said = together("train_pretrain", argv_for(parts, run, fsdp=True), run.parent)
    assert codes == [0, 0], said
    return run


def one(script: str, argv: list[str], folder: Path) -> None:
    output = folder / "said.txt"
    assert in_process(script, argv, output) == 0, output.read_text()


def check_same(divided: Path, whole: Path, atol: float = 1e-5, learned: float = 0.1) -> None:
    """Losses within atol, weights alike, the same files; and it learned, or equal losses would show little."""
    found, expected = losses(divided), losses(whole)
    assert [step for step, _ in found] == [step for step, _ in expected]
    assert [loss for _, loss in found] == pytest.approx([loss for _, loss in expected], abs=atol)
    assert expected[0][1] - expected[-1][1] > learned
    for name, tensor in weights(whole).items():
        torch.testing.assert_close(weights(divided)[name], tensor, atol=10 * atol, rtol=1e-3)
    summaries = [json.loads((folder / "finished.json").read_text()) for folder in (divided, whole)]
    assert summaries[0]["tokens"] == summaries[1]["tokens"]
    assert sorted(path.name for path in divided.iterdir()) == sorted(path.name for path in whole.iterdir())


def test_divided_weights_learn_what_whole_ones_learn(parts, pair, tmp_path):
    one("train_pretrain", argv_for(parts, tmp_path / "one"), tmp_path)
    check_same(pair, tmp_path / "one")
    samples = [(folder / "samples.json").read_text() for folder in (pair, tmp_path / "one")]
    assert samples[0] == samples[1]


def test_a_pair_of_which_one_was_killed_goes_on_bit_identically(parts, pair, tmp_path):
    run = tmp_path / "run"
    argv = argv_for(parts, run, fsdp=True)
    codes, said = together("train_pretrain", argv, tmp_path, Kill("training_state.safetensors", 1, "after"))
    assert codes[0] == -signal.SIGKILL and codes[1] != 0, said
    codes, said = together("train_pretrain", argv, tmp_path)
    assert codes == [0, 0] and "resuming after step 2 of 5" in said
    assert losses(run) == losses(pair)
    assert all(torch.equal(weights(pair)[name], tensor) for name, tensor in weights(run).items())


def test_one_process_goes_on_with_what_two_began(parts, pair, tmp_path):
    """The training state holds whole tensors, so how many processes there are may change."""
    run = tmp_path / "run"
    kill = Kill("training_state.safetensors", 1, "after")
    together("train_pretrain", argv_for(parts, run, fsdp=True), tmp_path, kill)
    one("train_pretrain", argv_for(parts, run), tmp_path)
    assert "resuming after step 2 of 5" in (tmp_path / "said.txt").read_text()
    check_same(run, pair)


def uneven(parts: Path) -> Path:
    """Rows of which few have a picture, and so long ones that a token budget gives some batches a single row."""
    rows = [json.loads(line) for line in (parts / "data.jsonl").read_text(encoding="utf-8").splitlines()]
    for number, row in enumerate(rows):
        if number % 3:
            del row["image"]
            row["conversations"][0]["content"] = "这是什么？"
        row["conversations"][1]["content"] *= 1 + 6 * (number % 4 == 0)
    file = parts / "uneven.jsonl"
    file.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n", encoding="utf-8")
    return file


@pytest.mark.parametrize("train", ["projector", "projector,vision,llm.layers.-1"])
def test_batches_without_pictures_and_without_rows_for_some_are_no_hindrance(parts, tmp_path, train):
    """Processes that gather weights together have to do so equally often, whatever each of them has to do."""
    changes = {"data": uneven(parts), "train": train, "token_budget": 90, "accumulation_steps": 1, "optimizer": "adamw",
               "projector": "linear", "learning_rate": 1e-2, "fast": "off"}  # fmt: skip
    codes, said = together("train_pretrain", argv_for(parts, tmp_path / "two", fsdp=True, **changes), tmp_path)
    assert codes == [0, 0], said
    one("train_pretrain", argv_for(parts, tmp_path / "one", **changes), tmp_path)
    check_same(tmp_path / "two", tmp_path / "one", learned=0.0)


@pytest.mark.slow
@pytest.mark.parametrize(("changes", "atol"), [
    ({"optimizer": "muon"}, 2e-3),  # orthogonal in bfloat16, so a sum in another order shows
    ({"dtype": "bfloat16"}, 2e-2),
    ({"gradient_checkpointing": True, "keep": "best", "eval_interval": 1}, 1e-5),
], ids=lambda value: "-".join(value) if isinstance(value, dict) else "")  # fmt: skip
def test_with_other_settings(parts, tmp_path, changes, atol):
    codes, said = together("train_pretrain", argv_for(parts, tmp_path / "two", fsdp=True, **changes), tmp_path)
    assert codes == [0, 0], said
    one("train_pretrain", argv_for(parts, tmp_path / "one", **changes), tmp_path)
    check_same(tmp_path / "two", tmp_path / "one", atol, learned=0.02)


@pytest.mark.slow
def test_adapters_are_divided_too_and_merged_in_the_end(pair, tmp_path):
    changes = {"train": "projector,lora", "lora_rank": 2, "learning_rates": "lora=0.01", "optimizer": "adamw"}
    codes, said = together("train_sft", sft_flags(pair, tmp_path / "two", fsdp=True, **changes), tmp_path)
    assert codes == [0, 0], said
    one("train_sft", sft_flags(pair, tmp_path / "one", **changes), tmp_path)
    check_same(tmp_path / "two", tmp_path / "one", learned=-0.1)  # of rank 2, for a few steps: hardly anything


def test_alone_it_is_refused():
    with pytest.raises(UsageError, match="--fsdp divides a model among several processes, and this is the only one"):
        machine(TrainArguments(fsdp=True, device="cpu"))


def measure(rank: int, folder: Path) -> None:
    """Write how many values this process holds of a divided model, of its gradients and of AdamW's moments."""
    from engine.fsdp import sharded

    device = torch.device("cpu")
    distributed.init(device)
    whole = small_vlm(vision=True)
    set_trainable(whole, ("projector", "llm"))
    model = sharded(whole, device, torch.float32)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad])
    model.loss(small_batches(2)[rank])[0].backward()
    optimizer.step()
    local = lambda tensors: sum(tensor.to_local().numel() for tensor in tensors)  # noqa: E731
    trained = [p for p in model.parameters() if p.requires_grad]
    moments = [value for state in optimizer.state.values() for value in state.values() if value.dim()]
    encoder = sum(p.numel() for p in model.vision.parameters())
    sizes = [local(trained), local(p.grad for p in trained), local(moments), encoder]
    (folder / f"{rank}.json").write_text(json.dumps(sizes))


def test_each_process_holds_its_part_of_weights_gradients_and_moments_and_the_whole_frozen_encoder(tmp_path):
    assert start_pair(measure, tmp_path) == [0, 0]
    found = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)]
    model = small_vlm(vision=True)
    encoder = sum(p.numel() for p in model.vision.parameters())
    trained = sum(p.numel() for p in model.parameters()) - encoder
    for sizes in found:
        assert sizes[:2] == [pytest.approx(trained / 2, rel=0.02)] * 2
        assert sizes[2:] == [pytest.approx(trained, rel=0.02), encoder]
    assert [sum(pair) for pair in zip(*found, strict=True)] == [trained, trained, 2 * trained, 2 * encoder]


def test_the_memory_plan_divides_what_is_divided():
    model = small_vlm(vision=True)
    set_trainable(model, ("projector", "llm"))
    whole, two, eight = (
        memory_plan(model, feed_of([100] * 8), torch.float32, "adamw", ranks=n, fsdp=n > 1) for n in (1, 2, 8)
    )
    encoder = 4 * sum(p.numel() for p in model.vision.parameters())
    assert two["weights"] - encoder == pytest.approx((whole["weights"] - encoder) / 2, abs=4)
    assert eight["gradients"] * 8 == whole["gradients"] and eight["optimizer"] * 8 == whole["optimizer"]
    assert two["gathered"] == eight["gathered"] > 0 and "gathered" not in whole
