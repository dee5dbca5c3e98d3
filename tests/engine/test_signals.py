"""A signal during training: stopped at the end of the step, saved, resumed to the same weights."""

from __future__ import annotations

import os
import signal

import pytest
from engine_parts import small_batches, small_plan, small_vlm

import engine.recorder
from engine.checkpoint import Run
from engine.command import guarded
from engine.freeze import set_trainable
from engine.loop import train
from engine.signals import STOPPING, Interrupted, Postponed
from engine.start import interrupted_early
from model.checkpoints import fingerprint
from model.checkpoints.files import read_metadata


def go(path, model, signals=(), plan=None):
    """Trains six steps; signals: numbers of the batches before which the process gets its signal."""
    path.mkdir(exist_ok=True)
    set_trainable(model, ("projector", "llm.layers.-1"))

    def steps_from(start):
        for number, batch in enumerate(small_batches(6)[start:], start):
            for at, sent in signals:
                if at == number:
                    os.kill(os.getpid(), sent)
            yield [batch]

    return train(model, plan or small_plan(save_interval=100), steps_from, Run(path))


@pytest.mark.parametrize("sent, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("at", [0, 3, 5])
def test_the_step_is_finished_and_saved_and_the_run_resumes_to_the_same_weights(tmp_path, capsys, sent, status, at):
    whole, stopped, resumed = small_vlm(), small_vlm(), small_vlm()
    go(tmp_path / "whole", whole)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with pytest.raises(Interrupted, match=rf"stopped after step {at + 1} of 6, .*repeat the command") as stop:
        go(tmp_path / "run", stopped, [(at, sent)])
    assert 128 + stop.value.number == status
    assert "stopping at the end of this step" in capsys.readouterr().err
    assert {number: signal.getsignal(number) for number in before} == before
    assert read_metadata(Run(tmp_path / "run").state_file)["step"] == str(at + 1)
    assert go(tmp_path / "run", resumed).steps == 6
    assert fingerprint(resumed) == fingerprint(whole) != fingerprint(small_vlm())


def test_a_second_signal_stops_at_once():
    with Postponed() as signals:
        os.kill(os.getpid(), signal.SIGINT)
        assert signals.noted == signal.SIGINT
        with pytest.raises(Interrupted, match="SIGTERM"):
            os.kill(os.getpid(), signal.SIGTERM)


def test_a_checkpoint_is_due_by_time_too(tmp_path, monkeypatch):
    """Nothing that is trained depends on it."""
    saved, save = [], engine.recorder.save_state
    count = lambda run, step, *rest: (saved.append(step), save(run, step, *rest))  # noqa: E731
    monkeypatch.setattr(engine.recorder, "save_state", count)
    whole, often = small_vlm(), small_vlm()
    go(tmp_path / "a", whole)
    assert saved == [6]
    monkeypatch.setattr(engine.recorder, "SAVE_SECONDS", 0.0)
    go(tmp_path / "b", often)
    assert saved == [6, 1, 2, 3, 4, 5, 6]
    assert fingerprint(whole) == fingerprint(often)


def test_ctrl_c_is_an_exception_again_once_the_command_runs():
    before, seen = [signal.getsignal(number) for number in STOPPING], []
    signal.signal(signal.SIGINT, interrupted_early)
    try:
        assert guarded(lambda: seen.append(signal.getsignal(signal.SIGINT))) == 0
        assert seen == [signal.default_int_handler]
    finally:
        for number, handler in zip(STOPPING, before, strict=True):
            signal.signal(number, handler)
