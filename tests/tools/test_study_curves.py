"""Studies by epoch: jumps of the loss, accuracies of snapshots, means over seeds, data made once, plots."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from test_studies import Commands

import tools.studies.epochs as epochs
import tools.studies.order as order
from model.checkpoints import read_json
from tools.studies import runner
from tools.studies.arms import STUDIES, Study
from tools.studies.curves import boundaries, draw_curves, epoch_steps
from tools.studies.epochs import naming_scores, points_of_run, tier
from tools.studies.results import crossed, over_seeds, student, student_p, values_of
from tools.studies.runner import Plan, make_data, run_study


def entries(*losses: float) -> list[dict]:
    return [{"step": step, "loss": loss} for step, loss in enumerate(losses, 1)] + [{"step": 4, "val_loss": 9.0}]


def test_the_jump_at_the_end_of_an_epoch_is_measured_by_its_last_and_the_next_ones_first_quarter():
    saw = entries(9, 9, 8, 8, 7, 7, 6, 6, 8, 8, 7, 7, 6, 6, 5, 5, 7, 7)  # epochs of 8: quarters of 2
    assert boundaries(saw, 8) == [{"step": 8, "jump": 2.0, "within": -3.0}, {"step": 16, "jump": 2.0, "within": -3.0}]
    line = boundaries(entries(*range(20, 0, -1)), 8)  # a straight line falls by 2 from quarter to quarter
    assert [one["jump"] for one in line] == [-2.0, -2.0] and [one["within"] for one in line] == [-6.0, -6.0]


def test_the_end_of_the_last_epoch_is_no_boundary():
    assert [one["step"] for one in boundaries(entries(*[1.0] * 12), 4)] == [4, 8]
    assert boundaries(entries(1.0, 1.0, 1.0, 1.0), 4) == [] == boundaries([], 4)


@pytest.mark.parametrize(("samples", "batch", "accumulation", "steps"), [(33, 32, 1, 2), (64, 32, 1, 2), (64, 8, 3, 2),
                                                                         (3, 8, 2, 1)])  # fmt: skip
def test_the_steps_of_an_epoch_are_those_of_its_batches(samples, batch, accumulation, steps):
    settings = {"batch_size": batch, "accumulation_steps": accumulation}
    run = SimpleNamespace(record=lambda: {"settings": settings},
                          facts=lambda: {"samples, tokens, supervised": [samples, 9, 9]})  # fmt: skip
    assert epoch_steps(run) == steps


def test_students_t_is_that_of_the_tables():
    for t, freedom in ((12.7062, 1), (4.30265, 2), (3.18245, 3), (2.77645, 4), (2.22814, 10)):
        assert student_p(t, freedom) == pytest.approx(0.05, abs=1e-5) == student_p(-t, freedom)
    mean, ci95, p = student(np.array([1.0, 2.0, 3.0]))
    assert mean == 2.0 and ci95 == pytest.approx([2 - 4.30265 / 3**0.5, 2 + 4.30265 / 3**0.5], abs=1e-4)
    assert p == pytest.approx(0.0742, abs=1e-4)  # t = 3.4641


def test_scalars_are_means_over_the_seeds_and_compared_seed_by_seed():
    rows = [{"arm": arm, "seed": seed, "scalars": {"gap": gap, "val_loss": None if arm == "b" else 1.0}}
            for arm, gaps in {"a": (0.1, 0.2, 0.3), "b": (0.2, 0.4, 0.3)}.items()
            for seed, gap in zip((42, 43, 44), gaps, strict=True)]  # fmt: skip
    found = over_seeds(rows, "a")
    assert found["a"]["gap"].value == pytest.approx(0.2) and found["a"]["gap"].p is None
    assert found["b"]["gap"].gain == pytest.approx(0.1) and found["b"]["gap"].p == pytest.approx(0.2254, abs=1e-4)
    assert "val_loss" not in found["b"] and over_seeds(rows[:1], "a")["a"]["gap"].ci95 is None


@pytest.mark.parametrize(("count", "name"), [(300, "common"), (20, "common"), (19, "middle"), (5, "middle"),
                                             (4, "rare"), (1, "rare"), (0, "rare")])  # fmt: skip
def test_tiers_go_by_the_number_of_training_pictures(count, name):
    assert tier(count) == name


def test_a_name_counts_in_its_tier_among_those_seen_and_among_those_absent():
    assert naming_scores(True, 7, False) == {"accuracy": (1, 1), "accuracy/middle": (1, 1), "accuracy_seen": (1, 1)}
    assert set(naming_scores(False, 2, True)) == {"accuracy", "accuracy/rare", "accuracy/absent"}


def fake_run(folder: Path, answers: dict[str, str]) -> None:
    """A run of 2 steps an epoch with a snapshot of the first, and data of two names; each answers the same always."""
    turns = [{"role": "user", "content": "<image>\n?"}, {"role": "assistant", "content": "it is"}]
    Image.new("RGB", (4, 4)).save(folder / "p.png")
    for name, labels in (("train", ["Kavo"] * 3 + ["Bimo"]), ("test", ["Kavo", "Bimo"])):
        rows = [{"image": "p.png", "conversations": turns, "label": label} for label in labels]
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
    record = {"format": 1, "settings": {"data": str(folder / "train.jsonl"), "batch_size": 2, "accumulation_steps": 1},
              "facts": {"samples, tokens, supervised": [4, 9, 9]}}  # fmt: skip
    for name, summary in (("run", {"steps": 4}), ("run/epoch1", {"steps": 2, "epoch": 1})):
        (folder / name).mkdir()
        (folder / name / "run.json").write_text(json.dumps(record))
        (folder / name / "finished.json").write_text(json.dumps(summary))
        (folder / name / "says").write_text(answers[name])


def test_every_snapshot_is_scored_and_the_best_is_told(tmp_path, monkeypatch):
    fake_run(tmp_path, {"run/epoch1": "Kavo or Bimo", "run": "Kavo"})  # in the end it has unlearned Bimo
    monkeypatch.setattr(epochs, "load_trained", lambda folder, **_: SimpleNamespace(
        says=(folder / "says").read_text(), encoder=SimpleNamespace(spec=None, fingerprint="")))  # fmt: skip
    monkeypatch.setattr(epochs, "answer_all", lambda looker, task, title: [
        SimpleNamespace(text=looker.trained.says, stopped=True, tokens=1) for _ in task.records])  # fmt: skip
    assert [epoch for epoch, _ in points_of_run(epochs.Run(tmp_path / "run"))] == [1.0, 2.0]
    files = {"weights": "run", "data": "test.jsonl", "counts": "train.jsonl", "answers": "a.jsonl", "scores": "s.json"}
    epochs.main([text for flag, name in files.items() for text in (f"--{flag}", str(tmp_path / name))])
    scores = read_json(tmp_path / "s.json")
    assert [(point["epoch"], point["train"], point["test"]) for point in scores["curve"]] == [(1, 1, 1), (2, 0.75, 0.5)]
    assert scores["scalars"] == {"train_accuracy": 0.75, "gap": 0.25, "best_epoch": 1.0, "lost_since_best": 0.5}
    assert scores["n"] == 2 and scores["metrics"]["accuracy"] == 0.5 and scores["metrics"]["best_accuracy"] == 1.0


class Counted(Commands):
    """Scores with a scalar and a curve, beside the answers."""

    def __call__(self, words, log, threads) -> int:
        if words[0] == "-m" and words[1] != "scores":
            self.called.append(words)
            return 0
        code = super().__call__(["eval_vlm.py", *words[2:]] if words[0] == "-m" else words, log, threads)
        if words[0] == "-m":
            given = dict(zip(words, words[1:], strict=False))
            seed = int(given["--weights"].split("-")[-2])
            curve = [{"epoch": 1.0, "train": 0.5, "test": 0.25}, {"epoch": 2.0, "train": 1.0, "test": 0.2}]
            Path(given["--scores"]).write_text(
                json.dumps({"metrics": {}, "n": 4, "scalars": {"gap": seed - 42}, "curve": curve}))
        return code


def test_a_studys_data_is_made_once_and_its_rows_hold_scalars_and_curves(tmp_path, monkeypatch):
    commands = Counted()
    monkeypatch.setattr(runner, "called", commands)
    monkeypatch.setattr("engine.checkpoint.FORMAT", 1)
    study = Study("?", {"one": ("train_sft.py --data {data}/x",), "two": ("train_sft.py --seed {seed}",)}, "two",
                  scored="-m scores --data {data}/y", metrics=("f1", "gap"), data=("-m made {data}/x",))  # fmt: skip
    plan = Plan("s", study, tmp_path, 9)
    rows = run_study(plan, ["one", "two"], [42, 43], 1, 0)
    make_data(plan, 0)
    assert [words for words in commands.called if words[0] == "-m"] == [["-m", "made", f"{tmp_path}/data/x"]]
    assert rows[0]["scalars"] == {"gap": 0} and rows[0]["n"] == 4 and len(rows[0]["curve"]) == 2
    assert f"--data {tmp_path}" not in json.dumps(rows) and rows[0]["commands"][0].endswith("runs/one-42-1")
    values = values_of(rows, crossed(rows, tmp_path), "two")
    assert values["one"]["gap"].value == 0.5 and values["one"]["f1"].gain == pytest.approx(0.1)
    assert draw_curves(tmp_path / "c.png", rows, "?") and Image.open(tmp_path / "c.png").width > 800


def test_the_order_of_the_data_is_scored_by_captions_and_by_the_runs_log(tmp_path, monkeypatch):
    losses = [9, 9, 8, 8, 7, 7, 6, 6, 8, 8, 7, 7, 6, 6, 5, 5]
    (tmp_path / "log.jsonl").write_text("\n".join(map(json.dumps, entries(*losses))), "utf-8")
    record = {"format": 1, "settings": {"batch_size": 2, "accumulation_steps": 1},
              "facts": {"samples, tokens, supervised": [16, 9, 9]}}  # fmt: skip
    (tmp_path / "run.json").write_text(json.dumps(record))
    (tmp_path / "finished.json").write_text(json.dumps({"loss": 5.0, "val_loss": 6.0}))
    passed_on = []

    def evaluate(argv):
        passed_on.extend(argv)
        (tmp_path / "s.json").write_text('{"metrics": {"f1": 0.5}}')

    monkeypatch.setattr("eval_vlm.main", evaluate)
    argv = ["--split", "test", "--weights", str(tmp_path), "--scores", str(tmp_path / "s.json")]
    order.main(argv)
    scores = read_json(tmp_path / "s.json")
    assert passed_on == argv and scores["metrics"] == {"f1": 0.5}
    assert scores["scalars"] == {"jump": 2.0, "within": -3.0, "loss": 5.0, "val_loss": 6.0}
    assert [point["loss"] for point in scores["curve"]] == losses
    assert [point["step"] for point in scores["curve"] if "end" in point] == [8]


def test_losses_by_step_are_plotted_and_rows_without_curves_are_not(tmp_path):
    curve = [{"step": step, "loss": 1 / step, **({"end": 1} if step == 4 else {})} for step in range(1, 9)]
    assert draw_curves(tmp_path / "c.png", [{"arm": "a", "seed": 42, "curve": curve}], "?")
    assert not draw_curves(tmp_path / "none.png", [{"arm": "a", "seed": 42}], "?")
    assert (tmp_path / "c.png").is_file() and not (tmp_path / "none.png").exists()


def test_the_arms_of_brands_take_the_same_steps_on_the_same_test():
    study = STUDIES["brands"]
    one, two = (arms[0] for arms in study.arms.values())
    assert one.replace("/all/train", "/from5/train") == two and "--steps 840" in one
    assert all("{data}" in command for command in study.data) and study.reference in study.arms
