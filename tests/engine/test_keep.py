from __future__ import annotations

import json

import pytest
import torch
from engine_parts import make_parts, pretrain_flags, small_batches, small_plan, small_vlm, told

import train_pretrain
from engine.arguments import UsageError
from engine.checkpoint import open_run
from engine.freeze import set_trainable
from engine.loop import train
from model.checkpoints import fingerprint, read_tensors

BATCHES = [[batch] for batch in small_batches(8)]
PLAN = {"steps": 8, "eval_interval": 1, "save_interval": 3, "log_interval": 5}


def go(path, losses, stop=None, **changes):
    """(summary, model, fingerprints after each step): a run whose validations find these losses, by step."""
    model, seen = small_vlm(), {}
    set_trainable(model, ("projector", "llm.layers.-1"))

    def steps_from(start):
        for number, batch in enumerate(BATCHES[start:], start):
            if number == stop:
                raise KeyboardInterrupt
            seen["step"] = number + 1
            yield batch

    def validate():
        seen[seen["step"]] = fingerprint(model)
        return losses[seen["step"] - 1]

    plan = small_plan(**{**PLAN, **changes})
    return train(model, plan, steps_from, open_run(path, {}, {}), validate), model, seen


LOSSES = [5.0, 4.0, 3.0, 3.5, 2.5, 2.5, 2.75, 2.6]


def test_the_weights_of_the_lowest_validation_loss_are_kept_the_first_of_equals(tmp_path):
    summary, model, seen = go(tmp_path, LOSSES, keep="best")
    assert (summary.steps, summary.kept_step, summary.val_loss) == (8, 5, 2.5)
    assert fingerprint(model) == seen[5] != seen[8]
    assert [path.name for path in tmp_path.glob("best-*")] == ["best-5.safetensors"]


def test_without_being_asked_the_last_weights_are_kept(tmp_path):
    summary, model, seen = go(tmp_path, LOSSES)
    assert (summary.steps, summary.kept_step, summary.val_loss) == (8, 8, 2.6)
    assert fingerprint(model) == seen[8] and not list(tmp_path.glob("best-*"))


@pytest.mark.parametrize(("patience", "last"), [(1, 4), (2, 7), (3, 8), (0, 8)])
def test_it_stops_after_so_many_validations_without_a_lower_loss(tmp_path, patience, last):
    for keep_best in (False, True):
        path = tmp_path / str(keep_best)
        summary, model, seen = go(path, LOSSES, patience=patience, keep="best" if keep_best else "last")
        best = 3 if patience == 1 else 5
        assert summary.steps == last and summary.kept_step == (best if keep_best else last)
        assert fingerprint(model) == seen[summary.kept_step]
        assert told(path)[-1]["step"] == last and {e["step"] for e in told(path) if "loss" in e} == {5, last} - (
            {5} if last < 5 else set()
        )


@pytest.mark.parametrize("stopped_at", [1, 3, 4, 5, 6, 7])
@pytest.mark.parametrize("patience", [0, 2])
def test_a_run_that_was_stopped_from_outside_keeps_the_same_weights(tmp_path, stopped_at, patience):
    changes = {"patience": patience, "keep": "best"}
    summary, whole, _ = go(tmp_path / "whole", LOSSES, **changes)
    if stopped_at < summary.steps:
        with pytest.raises(KeyboardInterrupt):
            go(tmp_path / "stopped", LOSSES, stopped_at, **changes)
    again, model, _ = go(tmp_path / "stopped", LOSSES, **changes)
    assert fingerprint(model) == fingerprint(whole) and told(tmp_path / "stopped") == told(tmp_path / "whole")
    assert {**vars(again), "seconds": 0} == {**vars(summary), "seconds": 0}
    names = [{path.name for path in (tmp_path / run).iterdir()} for run in ("stopped", "whole")]
    assert names[0] - {"loss.png"} == names[1]  # drawn of a run that is stopped, too
    third, model, _ = go(tmp_path / "stopped", [], **changes)  # nothing is left to do, nothing is validated again
    assert third == again and fingerprint(model) == fingerprint(whole)


def test_a_best_that_was_written_after_the_last_save_does_no_harm(tmp_path):
    """The state says that step 3 is best; step 5 was found and kept, and then the process died and finds otherwise."""
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path, LOSSES, 6, keep="best", save_interval=4)
    assert {path.name for path in tmp_path.glob("best-*")} == {"best-3.safetensors", "best-5.safetensors"}
    summary, model, seen = go(tmp_path, [5.0, 4.0, 3.0, 3.5, 3.5, 3.5, 3.5, 3.5], keep="best", save_interval=4)
    assert summary.kept_step == 3 and 3 not in seen
    _, expected, _ = go(tmp_path / "other", [5.0, 4.0, 3.0, 9.0, 9.0, 9.0, 9.0, 9.0], keep="best")
    assert fingerprint(model) == fingerprint(expected)
    assert {path.name for path in tmp_path.glob("best-*")} == {"best-3.safetensors"}


def test_a_command_keeps_the_best_and_says_which(tmp_path, capsys):
    make_parts(tmp_path)
    changes = {"val_data": tmp_path / "data.jsonl", "eval_interval": 1, "learning_rate": 0.3, "warmup_ratio": 0}
    train_pretrain.main(pretrain_flags(tmp_path, tmp_path / "run", keep="best", **changes))
    said = capsys.readouterr().out
    summary = json.loads((tmp_path / "run" / "finished.json").read_text())
    losses = {entry["step"]: entry["val_loss"] for entry in told(tmp_path / "run") if "val_loss" in entry}
    assert summary["kept_step"] == min(losses, key=losses.get) and summary["val_loss"] == min(losses.values())
    assert f"the weights after step {summary['kept_step']} kept" in said
    kept = read_tensors(tmp_path / "run" / f"best-{summary['kept_step']}.safetensors")
    end = read_tensors(tmp_path / "run" / "model.safetensors")
    assert kept and all(torch.equal(end[name], kept[name]) for name in kept)


def test_a_command_without_validation_data_refuses(tmp_path):
    make_parts(tmp_path)
    rows = (tmp_path / "data.jsonl").read_text(encoding="utf-8").splitlines()[:10]  # a twentieth of it is nothing
    (tmp_path / "data.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    for changes in ({"keep": "best"}, {"patience": 2}):
        with pytest.raises(UsageError, match="go by the validation loss.*give --val_data"):
            train_pretrain.main(pretrain_flags(tmp_path, tmp_path / "run", **changes))
    assert not (tmp_path / "run").exists()
