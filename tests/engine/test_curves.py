"""The curves of a run: smoothed without lag, with what they are to show on them, redrawn while it trains."""

from __future__ import annotations

import json
import math
import time

import matplotlib.figure
import numpy as np
import pytest
from engine_parts import broken_off, small_batches, small_plan, small_vlm
from PIL import Image

import engine.log
from engine.checkpoint import open_run
from engine.curves import draw_curve, points_of, smooth
from engine.log import Log
from engine.loop import train


@pytest.mark.parametrize("count", [1, 2, 9, 10, 30, 60, 500, 3000])
def test_a_straight_line_smoothed_is_itself_at_any_length(count):
    line = [5 - 3 * i / count for i in range(count)]
    assert smooth(line) == pytest.approx(line, abs=1e-9)


def test_a_step_is_smoothed_around_its_place_and_not_behind_it():
    for count in (20, 100, 1000):
        values = [4.0] * (count // 2) + [2.0] * (count // 2)
        smoothed = smooth(values)
        assert smoothed == pytest.approx([6 - value for value in smoothed[::-1]])  # symmetric about the step
        assert smoothed[0] == 4.0 and smoothed[-1] == 2.0


def test_noise_is_smoothed_more_in_a_longer_curve_and_not_at_all_in_one_of_few_entries():
    noise = np.random.default_rng(0).normal(size=4000)
    left = [np.std(smooth(list(noise[:count]))) / np.std(noise[:count]) for count in (8, 40, 400, 4000)]
    assert left[0] == pytest.approx(1) and left[1] < 0.8 and left[2] < 0.35 and left[3] < 0.2


def write_log(path, entries):
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return path


def trained(count: int, **more) -> list[dict]:
    return [{"step": 10 * i, "loss": 3 / i, "lr": 1e-3, "tokens_per_s": 900 + i, **more} for i in range(1, count + 1)]


@pytest.fixture
def drawn(monkeypatch):
    """The figures that are saved."""
    kept, save = [], matplotlib.figure.Figure.savefig

    def keep(figure, *args, **given):
        kept.append(figure)
        save(figure, *args, **given)

    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", keep)
    return kept


def test_loss_validation_rate_and_throughput_are_on_the_picture(tmp_path, drawn):
    entries = [*trained(40), {"step": 300, "val_loss": 0.2}, {"step": 400, "val_loss": 0.3}]
    log = write_log(tmp_path / "log.jsonl", entries)
    draw_curve(log, tmp_path / "loss.png", kept_step=300)
    loss, rate, speed = drawn[0].axes
    assert [text.get_text() for text in loss.get_legend().get_texts()] == [
        "training (smoothed)", "validation", "kept: step 300"
    ]  # fmt: skip
    plotted = {line.get_label(): line.get_xydata().tolist() for line in loss.lines}
    assert plotted["validation"] == [[300, 0.2], [400, 0.3]]
    assert rate.get_ylabel() == "learning rate" and set(rate.lines[0].get_ydata()) == {1e-3}
    assert speed.get_ylabel() == "tokens/s" and list(speed.lines[0].get_ydata()) == list(range(901, 941))
    assert speed.get_xlabel() == "step"


@pytest.mark.parametrize("entries", [
    [{"step": 1, "loss": 2.0}],
    [*trained(60), {"step": 300, "val_loss": 0.2}],
    [{"step": 1, "loss": 0.0}, {"step": 1, "val_loss": 0.0}],
    [{"step": 1, "loss": 1e30}, {"step": 2, "loss": 1.0}, {"step": 3, "loss": 1e-9}],
    [{"step": 1, "loss": 7.0}, {"step": 2, "loss": math.nan}, {"step": 3, "loss": "7"}, {"step": None, "loss": 1}],
])  # fmt: skip
def test_the_curve_is_a_png_with_something_on_it(tmp_path, entries):
    draw_curve(write_log(tmp_path / "log.jsonl", entries), tmp_path / "loss.png")
    with Image.open(tmp_path / "loss.png") as picture:
        assert picture.format == "PNG" and picture.width > 400 and picture.height > 200
        assert len(picture.convert("RGB").getcolors(1 << 24)) > 10


def test_a_loss_that_falls_by_orders_of_magnitude_has_a_logarithmic_axis(tmp_path, drawn):
    for name, losses in (("far", [7.0 * 0.9**i for i in range(80)]), ("near", [7.0 - 0.05 * i for i in range(80)])):
        log = write_log(tmp_path / f"{name}.jsonl", [{"step": i, "loss": loss} for i, loss in enumerate(losses)])
        draw_curve(log, tmp_path / "loss.png")
    assert [figure.axes[0].get_yscale() for figure in drawn] == ["log", "linear"]


def test_without_entries_there_is_no_curve(tmp_path):
    draw_curve(write_log(tmp_path / "log.jsonl", [{"step": 5, "val_loss": 1.0}]), tmp_path / "loss.png")
    assert not (tmp_path / "loss.png").exists()


def test_what_is_no_number_is_no_point():
    entries = [{"step": 1, "loss": 2}, {"step": 2, "loss": True}, {"step": 3}, {"loss": 1.0}, {"step": 4, "loss": 0.5}]
    assert points_of(entries, "loss") == [(1, 2), (4, 0.5)]


def test_a_run_that_trains_redraws_its_curve_but_not_at_every_entry(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(engine.log.time, "perf_counter", lambda: now[0])
    run, picture, changed = open_run(tmp_path, {}, {}), tmp_path / "loss.png", []
    with Log(run, 100, 0) as log:
        for step in range(1, 16):
            before = picture.stat().st_mtime_ns if picture.exists() else 0
            now[0] += 10
            log.write(step, loss=1 / step)
            if picture.exists() and picture.stat().st_mtime_ns != before:
                changed.append(step)
    assert changed == [7, 14]


def test_a_curve_that_cannot_be_drawn_does_not_end_the_training(tmp_path, capsys):
    run = open_run(tmp_path, {}, {})
    (tmp_path / "loss.png").mkdir()
    with Log(run, 10, 0) as log:
        log.write(1, loss=1.0)
        log.draw()
    assert "loss.png cannot be drawn" in capsys.readouterr().out
    assert not [path for path in tmp_path.iterdir() if path.suffix == ".partial"]


def test_a_run_that_is_stopped_leaves_its_curve(tmp_path):
    plan, model, batches = small_plan(steps=6), small_vlm(), [[batch] for batch in small_batches(6)]
    run = open_run(tmp_path, {}, {})
    with pytest.raises(KeyboardInterrupt):
        train(model, plan, broken_off(batches, 3), run)
    assert [entry["step"] for entry in engine.log.read_log(run.log_file)] == [1, 2, 3]
    with Image.open(tmp_path / "loss.png") as picture:
        assert picture.format == "PNG"


def test_validation_and_saving_are_not_counted_as_time_of_training(tmp_path):
    """If it were, no interval would show more tokens per second than a step's by the time of its validation."""
    plan, batches = small_plan(steps=4, eval_interval=1), [[batch] for batch in small_batches(4)]
    run = open_run(tmp_path, {}, {})
    train(small_vlm(), plan, broken_off(batches, None), run, lambda: time.sleep(0.2) or 1.0)
    speeds = [entry["tokens_per_s"] for entry in engine.log.read_log(run.log_file) if "loss" in entry]
    assert max(speeds[1:]) > 1.2 * max(batch.tokens for (batch,) in batches) / 0.2
