"""Studies: rows are made once, arms are compared over the same seeds and scenes, budgets stand in the table."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import ablate
from dataset.bad_rows import DataError
from engine.arguments import UsageError
from engine.command import guarded
from engine.plugin import load_plugin
from model.checkpoints import save_safetensors
from model.config import ProjectorConfig
from model.projector import build_projector
from scoring.answer_file import write_answers
from tools.studies import runner
from tools.studies.arms import STUDIES, Study, study_of
from tools.studies.results import Crossed, compare, crossed, read_scores, study_table
from tools.studies.runner import ArmError, Plan, quick, run_row, run_study

STUDY = Study("?", {"one": ("train_sft.py --from {shared} --seed {seed}", "train_sft.py --from {before}"),
                    "two": ()}, "two", ("train_pretrain.py --seed {seed}",))  # fmt: skip


class Commands:
    """In the place of processes: writes what a command would leave, and counts."""

    def __init__(self):
        self.called: list[list[str]] = []
        self.fail = ""

    def __call__(self, words, log, threads) -> int:
        self.called.append(words)
        print("said", file=log)
        if self.fail and self.fail in words:
            return 3
        if words[0] == "eval_vlm.py":
            given = dict(zip(words, words[1:], strict=False))
            score = 0.5 + 0.1 * ("one" in given["--weights"])
            rows = [{"picture": str(i), "prompt": "", "answer": "", "stopped": True, "tokens": 3,
                     "scores": {"f1": [score, 1]}} for i in range(4)]  # fmt: skip
            write_answers(given["--answers"], rows)
            Path(given["--scores"]).write_text('{"metrics": {"f1": 0.5}}')
        else:
            run = Path(words[-1])
            run.mkdir(parents=True)
            weights = {"projector.weight": torch.zeros(2, 3), "llm.weight": torch.ones(1)}
            save_safetensors(run / "model.safetensors", weights)
            (run / "finished.json").write_text(json.dumps({"steps": 7, "tokens": 200, "seconds": 60.0}))
            facts = {"samples, tokens, supervised": [1, 100, 25]}
            (run / "run.json").write_text(json.dumps({"format": 1, "settings": {}, "facts": facts}))
        return 0


@pytest.fixture
def commands(monkeypatch):
    made = Commands()
    monkeypatch.setattr(runner, "called", made)
    monkeypatch.setattr("engine.checkpoint.FORMAT", 1)
    monkeypatch.setattr("engine.checkpoint._misshapen", lambda value, shape: "")
    return made


def test_a_row_is_made_of_its_commands_and_made_once(commands, tmp_path):
    plan = Plan("s", STUDY, tmp_path, 4, ("--english", "1"))
    row = run_row(plan, "one", 43)
    shared, first, second, scored = commands.called
    out = ["--out", str(tmp_path / "runs" / "shared-43-1")]
    assert shared == ["train_pretrain.py", "--seed", "43", "--english", "1", *out]
    assert first[:4] == ["train_sft.py", "--from", str(tmp_path / "runs" / "shared-43-1"), "--seed"]
    assert second[:3] == ["train_sft.py", "--from", str(tmp_path / "runs" / "one-43-1")]
    assert "--weights" in scored and str(tmp_path / "runs" / "one-43-2") in scored
    assert row["projector"] == 6
    assert (row["steps"], row["tokens"], row["supervised"], row["seconds"]) == (14, 400, 100, 120.0)
    assert run_row(plan, "one", 43) == row and len(commands.called) == 4
    assert row["commands"][-1] == shlex.join(["python", *scored]).replace(str(tmp_path), "out/ablate/s")
    assert row["command"] == "python ablate.py s --arm one --seed 43 --n 4 --english 1"
    assert row["answers"] == "one-43/answers.jsonl" and str(tmp_path) not in json.dumps(row)


def test_a_recipe_and_a_plugin_reach_the_commands_and_values_may_hold_spaces(commands, tmp_path):
    study = replace(STUDY, scored="eval_vlm.py --n {n} --prompt 'in detail'")
    folder = tmp_path / "with a space"
    plan = Plan("s", study, folder, 4, plugin=("--plugin", str(tmp_path / "p.py")), recipe=("--recipe", "r.toml"))
    row = run_row(plan, "two", 42)
    (shared, scored) = commands.called
    assert all(words[words.index("--recipe") + 1] == "r.toml" for words in (shared, scored))
    assert scored[:5] == ["eval_vlm.py", "--n", "4", "--prompt", "in detail"]
    assert str(folder / "runs" / "shared-42-1") in scored
    assert row["command"] == "python ablate.py s --arm two --seed 42 --n 4 --recipe r.toml --plugin p.py"


def test_the_projectors_study_has_each_kind_at_both_numbers_of_tokens():
    load_plugin(str(runner.ROOT / STUDIES["projector"].plugin))
    arms = study_of("projector").arms
    assert {"linear", "linear-pooled", "mlp", "mlp-pooled", "ldp", "ldp-full"} <= set(arms)
    tokens = {kind: ProjectorConfig(kind, 8, 8).tokens_out(64) for kind in arms}
    assert sorted(tokens[kind] for kind in ("linear", "linear-pooled", "ldp", "ldp-full")) == [16, 16, 64, 64]
    for kind, count in tokens.items():
        assert build_projector(ProjectorConfig(kind, 8, 8))(torch.zeros(1, 64, 8)).shape == (1, count, 8)


def test_photographs_are_asked_for():
    with pytest.raises(UsageError, match="recipes/photos.toml"):
        ablate.main(["photos-curriculum"])


def test_a_command_that_fails_is_told_and_what_was_made_is_kept(commands, tmp_path):
    plan = Plan("s", STUDY, tmp_path, 4)
    commands.fail = "eval_vlm.py"
    with pytest.raises(ArmError, match="ended with 3"):
        run_row(plan, "one", 42)
    commands.fail, commands.called = "", []
    run_row(plan, "one", 42)
    assert [words[0] for words in commands.called] == ["eval_vlm.py"]


def test_a_study_makes_all_rows_and_its_table_has_budgets_and_differences(commands, tmp_path):
    plan = Plan("s", STUDY, tmp_path, 4)
    rows = run_study(plan, ["one", "two"], [42, 43], 2, 1)
    assert [(row["arm"], row["seed"]) for row in rows] == [("one", 42), ("two", 42), ("one", 43), ("two", 43)]
    values = compare(crossed(rows, tmp_path), "two")
    assert values["one"]["f1"].gain == pytest.approx(0.1) and values["one"]["f1"].p < 0.05
    table = study_table(rows, values, ("f1",), markdown=True)
    assert "| one" in table and "0.600 [0.600, 0.600]*" in table and "| 14 " in table and "| 100 " in table


def test_answers_about_one_picture_are_resampled_together(tmp_path):
    row = {"prompt": "", "answer": "", "stopped": True, "tokens": 3}
    scores = [("a", {"vqa_accuracy": [1, 1]}), ("b", {"vqa_accuracy": [0, 1]}), ("a", {"vqa_accuracy": [0, 1]})]
    write_answers(tmp_path / "a.jsonl", [{**row, "picture": name, "scores": one} for name, one in scores])
    assert read_scores(tmp_path / "a.jsonl") == [{"vqa_accuracy": (1, 2)}, {"vqa_accuracy": (0, 1)}]


def test_a_rise_along_a_caption_stands_beside_that_under_another_picture_and_a_humans(tmp_path):
    row = {"prompt": "", "answer": "A man with a dog.", "stopped": True, "tokens": 6, "scores": {"cider_d": [0, 1]}}
    seen = {"a": ["A man near a tree.", "A man."], "b": ["A dog."]}
    write_answers(tmp_path / "a.jsonl", [{**row, "picture": name, "references": texts} for name, texts in seen.items()])
    of_a, of_b = read_scores(tmp_path / "a.jsonl")
    names = [f"{control}later_less_earlier" for control in ("", "swapped_", "human_")]
    assert [of_a[name] for name in names] == [(1, 1), (-1, 1), (1, 1)]  # the dog, the man, the tree
    assert [of_b.get(name) for name in names] == [(-1, 1), (1, 1), None]
    counts = {name: Crossed(np.array([[of_a[name][0]]]), np.array([[1]])) for name in names[:2]}
    assert compare({"arm": counts}, "arm")["arm"]["gain_over_swapped/later_less_earlier"].value == 2


def test_arms_with_other_seeds_are_refused(commands, tmp_path):
    plan = Plan("s", STUDY, tmp_path, 4)
    rows = run_study(plan, ["one", "two"], [42], 1, 0) + run_study(plan, ["one"], [43], 1, 0)
    with pytest.raises(DataError, match="expected seeds"):
        crossed(rows, tmp_path)


def test_values_and_intervals_are_those_of_seeds_and_scenes_crossed():
    rng = np.random.default_rng(0)
    tops = rng.normal(0.5, 0.02, (5, 1)) + rng.normal(0, 0.1, (1, 40))  # a part of each seed, one of each scene
    arm, better = (Crossed(some, np.ones_like(some)) for some in (tops, tops + 0.05))
    found = compare({"a": {"m": arm}, "b": {"m": better}}, "a")
    assert found["a"]["m"].value == pytest.approx(tops.mean()) and found["a"]["m"].p is None
    assert found["b"]["m"].gain == pytest.approx(0.05) and found["b"]["m"].gain_ci95 == pytest.approx((0.05, 0.05))
    low, high = found["a"]["m"].ci95
    expected = np.sqrt(tops.mean(1).var(ddof=0) / 5 + tops.mean(0).var(ddof=0) / 40)
    assert high - low == pytest.approx(2 * 1.96 * expected, rel=0.15)


def test_what_forced_captions_have_more_is_drawn_together_with_what_they_are_compared_with():
    tops = np.random.default_rng(0).uniform(0, 1, (3, 30))
    plain, forced = (Crossed(some, np.ones_like(some)) for some in (tops, tops + 0.1))
    of_arms = {arm: {"m": plain, "forced_m": Crossed(forced.tops + more, forced.bottoms), "n": plain}
               for arm, more in (("a", 0), ("b", 0.2))}  # fmt: skip
    found = compare(of_arms, "a")
    assert found["a"]["forced_rise/m"].ci95 == pytest.approx([0.1, 0.1]) and "forced_rise/n" not in found["a"]
    assert found["b"]["forced_rise/m"].gain == pytest.approx(0.2)


def test_every_arm_of_every_study_is_quick_to_try_and_differs_from_the_others():
    for name, study in STUDIES.items():
        plan = quick(Plan(name, study, Path("x"), 500))
        commands = [command for arm in plan.study.arms.values() for command in (*arm, *plan.study.shared)]
        assert all("--steps 8" in one or "--samples 64" in one for one in commands) and plan.n == 8
        assert len(set(study.arms.values())) == len(study.arms)
        assert study.reference in study.arms or name == "projector"


@pytest.mark.parametrize(
    "argv",
    [["curriculum", "--arm", "none"], ["curriculum", "--reference", "none"], ["curriculum", "--n", "0"], ["none"]],
)
def test_what_there_is_not_is_told(argv, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["ablate.py", *argv])
    try:
        status = guarded(ablate.main)
    except SystemExit as left:
        status = left.code
    assert status in (1, 2) and capsys.readouterr().err.startswith("error: ")


def test_an_unknown_arm_names_those_there_are():
    with pytest.raises(UsageError, match="growing"):
        ablate.main(["curriculum", "--arm", "none"])
