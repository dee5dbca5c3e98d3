from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import sys
from pathlib import Path

import pytest
import torch
from engine_parts import make_parts, pretrain_flags, small_batches, small_plan, small_vlm

import train_pretrain
from engine.arguments import COSMETIC, TrainArguments, settings
from engine.checkpoint import FORMAT, Run, RunError, differences, is_finished, load_state, open_run, save_state
from engine.command import guarded
from engine.freeze import set_trainable
from engine.loop import gradients, take_step
from engine.optimizer import make_optimizer
from model.checkpoints import files, fingerprint, read_tensors, save_safetensors, write_json

SETTINGS = {"steps": 6, "learning_rate": 1e-3, "data": ""}


def trained(steps: int = 2, part: str = "projector"):
    """(model, optimizer) after so many steps on one batch."""
    model = small_vlm()
    set_trainable(model, (part,))
    optimizer = make_optimizer(model, small_plan())
    for step in range(steps):
        gradients(model, optimizer, small_batches(1), small_plan())
        take_step(optimizer, small_plan(), step)
    return model, optimizer


def run_in(path: Path) -> Run:
    return open_run(path, SETTINGS, {})


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_is_saved_comes_back_bit_for_bit_with_step_and_progress(tmp_path):
    model, optimizer = trained(3)
    save_state(run_in(tmp_path), 3, model, optimizer, {"losses": [0.1, 1 / 3]})
    other, fresh = trained(0)
    assert load_state(run_in(tmp_path), other, fresh) == (3, {"losses": [0.1, 1 / 3]})
    assert fingerprint(other) == fingerprint(model)
    for parameter, twin in zip(model.projector.parameters(), other.projector.parameters(), strict=True):
        one, two = optimizer.state[parameter], fresh.state[twin]
        assert one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


def test_the_state_holds_what_trains_and_nothing_else(tmp_path):
    model, optimizer = trained(1)
    save_state(run_in(tmp_path), 1, model, optimizer)
    kinds = {"weight", "exp_avg", "exp_avg_sq", "step"}
    expected = {f"{kind}.projector.{name}" for kind in kinds for name, _ in model.projector.named_parameters()}
    assert set(read_tensors(run_in(tmp_path).state_file)) == expected


def test_a_folder_without_a_state_starts_at_step_0(tmp_path):
    model, optimizer = trained(0)
    assert load_state(run_in(tmp_path), model, optimizer) == (0, {})


def test_a_torn_state_is_refused_by_name(tmp_path):
    model, optimizer = trained(1)
    run = run_in(tmp_path)
    save_state(run, 1, model, optimizer)
    whole = run.state_file.read_bytes()
    for length in (0, 5, len(whole) // 2, len(whole) - 1):
        run.state_file.write_bytes(whole[:length])
        with pytest.raises(RunError, match="not a training state .*; delete .* to start this run anew"):
            load_state(run, model, optimizer)
    save_safetensors(run.state_file, {"weight.a": torch.zeros(1)}, {"step": "many"})
    with pytest.raises(RunError, match="not a training state"):
        load_state(run, model, optimizer)


@pytest.mark.parametrize("place", [0.3, 0.6, 0.99])
def test_one_flipped_bit_is_noticed_and_the_state_before_is_loaded(tmp_path, capsys, place):
    model, optimizer = trained(1)
    run = run_in(tmp_path)
    for step in (1, 2):
        save_state(run, step, model, optimizer, {"step": step})
    assert load_state(run, *trained(0)) == (2, {"step": 2})
    flip(run.state_file, place)
    assert load_state(run, *trained(0)) == (1, {"step": 1})
    assert "training_state.safetensors: not a training state" in capsys.readouterr().out
    flip(run.previous_file, place)
    with pytest.raises(RunError, match="previous_state.safetensors: not a training state .*nor is there one before"):
        load_state(run, *trained(0))


def flip(file: Path, place: float) -> None:
    """Flips one bit at this share of the file's length."""
    content = bytearray(file.read_bytes())
    content[int(place * len(content))] ^= 4
    file.write_bytes(content)


def test_a_state_of_other_weights_is_refused(tmp_path):
    model, optimizer = trained(1, "llm")
    run = run_in(tmp_path)
    save_state(run, 1, model, optimizer)
    with pytest.raises(RunError, match="trains 20 weights, this run 6; e.g. llm"):
        load_state(run, *trained(0))


@pytest.mark.parametrize("fault", ["write", "sync", "rename"])
def test_on_a_full_disk_the_old_state_survives_byte_for_byte_and_no_rubbish_stays(tmp_path, monkeypatch, fault):
    model, optimizer = trained(1)
    run = run_in(tmp_path)
    save_state(run, 1, model, optimizer)
    before, listed = run.state_file.read_bytes(), names(tmp_path)

    def full(*args, **kwargs):
        if fault == "write":
            Path(args[1]).write_bytes(before[: len(before) // 2])
        raise OSError(28, "No space left on device")

    target = {"write": (files, "save_file"), "sync": (os, "fsync"), "rename": (os, "replace")}[fault]
    monkeypatch.setattr(*target, full)
    said = "step 2 could not be saved .*No space left.*the state before is still there, whole.*free some space"
    with pytest.raises(OSError, match=said) as error:
        save_state(run, 2, model, optimizer)
    assert str(run.state_file) in str(error.value)
    assert run.state_file.read_bytes() == before and names(tmp_path) == listed
    assert load_state(run, *trained(0))[0] == 1


@contextlib.contextmanager
def largest_file(size: int):
    """Writing a file beyond this size fails, as on a full disk, when half of it is written already."""
    import resource

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on a file's size")
def test_where_the_system_itself_cuts_a_write_off_the_old_state_survives(tmp_path):
    model, optimizer = trained(1)
    run = run_in(tmp_path)
    with largest_file(30_000), pytest.raises(OSError, match="step 1 could not be saved.*nothing was kept before"):
        save_state(run, 1, model, optimizer)
    assert names(tmp_path) == ["run.json"]
    save_state(run, 1, model, optimizer)
    before, listed = run.state_file.read_bytes(), names(tmp_path)
    with largest_file(len(before) // 2), pytest.raises(OSError, match="the state before is still there, whole"):
        save_state(run, 2, model, optimizer)
    assert run.state_file.read_bytes() == before and names(tmp_path) == listed


def test_a_run_goes_on_under_the_same_settings_only(tmp_path):
    run_in(tmp_path / "run")
    assert run_in(tmp_path / "run").record() == {"format": 1, "settings": SETTINGS, "facts": {}}
    changed = {**SETTINGS, "learning_rate": 0.5, "batch_size": 4}
    with pytest.raises(RunError) as error:
        open_run(tmp_path / "run", changed, {"start": "abc"})
    text = str(error.value)
    assert "learning_rate: 0.001 -> 0.5" in text and "batch_size: None -> 4" in text
    assert "facts.start: None -> 'abc'" in text and "--out" in text and str(tmp_path / "run") in text
    assert run_in(tmp_path / "run").record()["settings"] == SETTINGS


def test_differences_name_every_leaf():
    assert differences({"a": 1, "b": {"c": [1], "d": 2}}, {"a": 1, "b": {"c": [2], "d": 2}, "e": None}) == [
        "b.c: [1] -> [2]"
    ]
    assert differences({"settings": {"x": 1}}, {"settings": {}}) == ["x: 1 -> None"]


def test_left_overs_of_a_killed_process_are_cleared_away(tmp_path):
    run = run_in(tmp_path)
    for name in ("training_state.safetensors.tmp", "log.jsonl.partial"):
        (tmp_path / name).write_bytes(b"half")
    (tmp_path / "model.safetensors.tmp").mkdir()
    (tmp_path / "model.safetensors.tmp" / ".tmpAbCdEf").write_bytes(b"half")
    (tmp_path / "notes.txt").write_text("mine")
    run_in(tmp_path)
    assert names(tmp_path) == ["notes.txt", "run.json"] and run.path == tmp_path


def test_a_run_is_finished_when_its_mark_is_there_and_its_settings_are_the_same(tmp_path):
    assert not is_finished(tmp_path / "nowhere", SETTINGS)
    run = run_in(tmp_path)
    assert not is_finished(tmp_path, SETTINGS)
    write_json(run.path / "finished.json", {"loss": 1.5})
    assert is_finished(tmp_path, SETTINGS) and run.summary() == {"loss": 1.5}
    with pytest.raises(RunError, match="steps: 6 -> 7"):
        is_finished(tmp_path, {**SETTINGS, "steps": 7})
    for damaged in (b"", bytes(20), b'{"loss": 1', b"1.5", b"\xff"):
        (run.path / "finished.json").write_bytes(damaged)
        assert not is_finished(tmp_path, SETTINGS)


def test_a_folder_that_is_no_run_or_another_versions_is_named(tmp_path):
    with pytest.raises(RunError, match="no run.json, so this is no run's folder"):
        Run(tmp_path).record()
    (tmp_path / "run.json").write_text('{"format": 0}')
    with pytest.raises(RunError, match="format 0, expected 1"):
        run_in(tmp_path)


def test_where_no_folder_can_be_made_the_error_says_which(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"file[/\\]run: no run can be kept there .*; choose another --out"):
        run_in(tmp_path / "file" / "run")


def test_settings_are_json_and_leave_out_what_does_not_change_the_outcome():
    chosen = settings(TrainArguments(out="somewhere", num_workers=7))
    assert json.loads(json.dumps(chosen)) == chosen and not set(COSMETIC) & set(chosen)
    assert set(chosen) | set(COSMETIC) == {item.name for item in dataclasses.fields(TrainArguments)}


@pytest.fixture(scope="module")
def parts(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("parts")
    make_parts(folder)
    train_pretrain.main(pretrain_flags(folder, folder / "run"))
    return folder


def test_a_finished_run_is_not_repeated_and_says_so(parts, capsys):
    run = parts / "run"
    before = {path.name: path.stat().st_mtime_ns for path in run.iterdir()}
    train_pretrain.main(pretrain_flags(parts, run, num_workers=0, save_interval=77))
    assert f"{run} is finished; nothing to do" in capsys.readouterr().out
    assert {path.name: path.stat().st_mtime_ns for path in run.iterdir()} == before


def test_a_finished_run_under_other_settings_is_refused_and_left_alone(parts, capsys):
    before = (parts / "run" / "model.safetensors").read_bytes()
    argv = pretrain_flags(parts, parts / "run", learning_rate=0.5)
    assert guarded(lambda: train_pretrain.main(argv)) == 1
    assert "learning_rate: 0.002 -> 0.5" in capsys.readouterr().err
    assert (parts / "run" / "model.safetensors").read_bytes() == before


def test_a_run_begun_with_another_language_model_is_refused(parts, tmp_path, capsys):
    """The path is the same, the weights are not: what a run starts from is known by its fingerprint."""
    run, start = tmp_path / "run", tmp_path / "lm"
    start.mkdir()
    for file in (parts / "lm").iterdir():
        (start / file.name).write_bytes(file.read_bytes())
    argv = pretrain_flags(parts, run, llm=start)
    train_pretrain.main(argv)
    (run / "finished.json").unlink()
    tensors = read_tensors(start / "model.safetensors")
    tensors["llm.model.norm.weight"] += 1
    save_safetensors(start / "model.safetensors", tensors)
    assert guarded(lambda: train_pretrain.main(argv)) == 1
    assert "facts.start" in capsys.readouterr().err


def test_a_run_does_not_resume_on_other_pictures_of_the_same_rows(parts, tmp_path, capsys):
    """Their number, names, sizes and texts are the same; two pictures are exchanged."""
    make_parts(tmp_path)
    argv = pretrain_flags(tmp_path, tmp_path / "run")
    train_pretrain.main(argv)
    (tmp_path / "run" / "finished.json").unlink()
    one, other = (tmp_path / "pictures" / name for name in ("1.png", "2.png"))
    contents = one.read_bytes(), other.read_bytes()
    for file, content in zip((other, one), contents, strict=True):
        file.write_bytes(content)
    assert guarded(lambda: train_pretrain.main(argv)) == 1
    assert "facts.data" in capsys.readouterr().err
    for file, content in zip((one, other), contents, strict=True):
        file.write_bytes(content)
    assert guarded(lambda: train_pretrain.main(argv)) == 0


def weights_after(parts: Path, run: Path, **changes) -> dict[str, bytes]:
    train_pretrain.main(pretrain_flags(parts, run, **changes))
    return {name: tensor.numpy().tobytes() for name, tensor in read_tensors(run / "model.safetensors").items()}


@pytest.mark.parametrize(
    "changes", [{"eval_interval": 1}, {"save_interval": 1}, {"num_workers": 0}, {"log_interval": 5}],
    ids=lambda changes: "".join(changes),
)  # fmt: skip
def test_how_a_run_is_watched_and_kept_does_not_change_its_weights(parts, tmp_path, changes):
    tensors = read_tensors(parts / "run" / "model.safetensors")
    expected = {name: tensor.numpy().tobytes() for name, tensor in tensors.items()}
    assert weights_after(parts, tmp_path / "run", **changes) == expected


def test_the_number_of_workers_does_not_change_the_weights(parts, tmp_path):
    """Without the feature cache, for only then do workers prepare the batches."""
    ends = [weights_after(parts, tmp_path / str(n), cache_gb=0, num_workers=n) for n in (0, 1, 3)]
    assert ends[0] == ends[1] == ends[2]


def test_another_seed_gives_other_weights(parts, tmp_path):
    assert weights_after(parts, tmp_path / "a", seed=1) != weights_after(parts, tmp_path / "b", seed=2)


@pytest.mark.parametrize(
    "change",
    [{"settings": []}, {"settings": {"data": 5}}, {"settings": {"stage": "three"}}, {"facts": {"vision": "x"}},
     {"facts": {"vision": {"folder": 7}}}, {"facts": {"tokenizer": None}}],
)  # fmt: skip
def test_a_record_with_other_types_than_training_writes_is_refused(tmp_path, change):
    write_json(tmp_path / "run.json", {"format": FORMAT, "settings": {"data": "", "stage": 1}} | change)
    with pytest.raises(RunError, match=r"run.json: \w+: found .*, expected \w+; the file was changed since"):
        Run(tmp_path).record()
