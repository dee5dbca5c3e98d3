"""A projector in a file of the user's own: trained, kept with the run, loaded again; what is wrong with it is told."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from engine_parts import flags, pretrain_flags, sft_flags

import dataset.splits
import eval_vlm
import train_pretrain
import train_sft
from engine.arguments import UsageError
from engine.checkpoint import RunError
from engine.plugin import load_plugin
from engine.recipe import read_recipe
from model.checkpoints import WeightsError, load_vlm
from model.registry import MODULES, PROJECTORS, warms_up
from tools.studies.arms import study_of

PAIRS = """
from torch import nn
from model.registry import register_projector

@register_projector("pairs")
class Pairs(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.linear = nn.Linear(2 * config.in_features, config.out_features)

    @staticmethod
    def tokens_out(features):
        return features // 2

    def forward(self, features):
        return self.linear(features.unflatten(1, (-1, 2)).flatten(2))
"""


@pytest.fixture
def plugin(tmp_path) -> Path:
    file = tmp_path / "pairs.py"
    file.write_text(PAIRS, "utf-8")
    return file


@pytest.fixture(scope="module")
def trained(parts, tmp_path_factory) -> Path:
    """A run of one step with the plugin. Do not write into it: copy it."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "pairs.py").write_text(PAIRS, "utf-8")
    run = folder / "run"
    train_pretrain.main(pretrain_flags(parts, run, projector="pairs", plugin=folder / "pairs.py", steps=1))
    forget()
    return run


def forget() -> None:
    """As in a new process."""
    del MODULES["pairs"], PROJECTORS["pairs"]


def test_it_is_trained_further_and_scored(parts, trained, plugin, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(dataset.splits, "VALIDATION_ROWS", 4)
    run = tmp_path / "next"
    assert json.loads((trained / "config.json").read_text("utf-8"))["projector"]["kind"] == "pairs"
    train_sft.main(sft_flags(trained, run, plugin=plugin, steps=1))
    assert load_vlm(run).projector.linear.weight.shape == (64, 128)
    plugin.write_text(PAIRS + "\n# changed\n", "utf-8")
    ask = flags(weights=run, data=parts / "data.jsonl", images=parts / "pictures", n=3, max_new_tokens=3, device="cpu")
    eval_vlm.main(ask + flags(plugin=plugin))
    said = capsys.readouterr().out
    assert "3 scored" in said and f"that one is kept as {run / 'plugin.py'}" in said
    forget()
    with pytest.raises(WeightsError, match=r"config.json: ProjectorConfig.kind: found 'pairs', .* with --plugin"):
        eval_vlm.main(ask)
    eval_vlm.main(ask + flags(plugin=run / "plugin.py"))
    assert "that one is kept" not in capsys.readouterr().out


def test_a_run_is_not_resumed_with_another_file(parts, trained, plugin, tmp_path):
    run = shutil.copytree(trained, tmp_path / "run")
    (run / "finished.json").unlink()
    plugin.write_text(PAIRS.replace("// 2", "// 2 + 0"), "utf-8")
    with pytest.raises(RunError, match=r"was begun with another .*pairs.py, kept as .*run/plugin.py"):
        train_pretrain.main(pretrain_flags(parts, run, projector="pairs", plugin=plugin, steps=1))


def test_a_dry_run_writes_nothing(parts, plugin, tmp_path):
    train_pretrain.main(pretrain_flags(parts, tmp_path / "run", projector="pairs", plugin=plugin, dry_run=True))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "code, told",
    [
        ("import torch\n", "registers nothing; put @register_projector"),
        ("x = 1\nprint(y)\n", "line 2: NameError: name 'y' is not defined"),
        ("def f(:\n", "line 1: SyntaxError"),
        (PAIRS.replace('"pairs"', '"mlp"'), "that one is built in; choose another name"),
        (PAIRS.replace("(nn.Module)", ""), "expected a class derived from nn.Module"),
    ],
    ids=["empty", "error", "syntax", "taken", "no module"],
)
def test_what_is_wrong_with_a_file_is_told_in_a_line(plugin, code, told, monkeypatch):
    plugin.write_text(code, "utf-8")
    monkeypatch.chdir(plugin.parent)
    with pytest.raises(UsageError, match=r"--plugin pairs\.py") as found:
        load_plugin("pairs.py")
    assert told in str(found.value) and "\n" not in str(found.value)


def test_a_file_that_is_not_there_or_is_no_python_is_told(tmp_path):
    with pytest.raises(UsageError, match="no such file"):
        load_plugin(str(tmp_path / "none.py"))
    (tmp_path / "a.txt").write_text(PAIRS, "utf-8")
    with pytest.raises(UsageError, match="ends in .py"):
        load_plugin(str(tmp_path / "a.txt"))


def test_tokens_that_do_not_come_out_as_promised_are_refused_before_training(parts, plugin, tmp_path, capsys):
    plugin.write_text(PAIRS.replace("features // 2", "features // 4"), "utf-8")
    argv = pretrain_flags(parts, tmp_path / "run", projector="pairs", plugin=plugin, steps=1)
    with pytest.raises(UsageError, match=r"--projector pairs: makes \(1, 8, 64\) .* expected \(1, 4, 64\)"):
        train_pretrain.main(argv)
    plugin.write_text(PAIRS, "utf-8")  # corrected, it is trained
    train_pretrain.main(argv)
    assert (tmp_path / "run" / "plugin.py").read_text("utf-8") == PAIRS
    plugin.write_text(PAIRS + "\n", "utf-8")
    capsys.readouterr()
    train_pretrain.main(argv)
    said = capsys.readouterr().out
    assert "is finished; nothing to do" in said and "is not the file that" in said


def test_a_recipe_names_it_for_all_its_commands(plugin, tmp_path):
    file = tmp_path / "own.toml"
    file.write_text(f'[data]\nplugin = "{plugin}"\n[pretrain]\nprojector = "pairs"\n', "utf-8")
    assert read_recipe(str(file))["pretrain"] == {"projector": "pairs"}


def test_the_ablation_of_projectors_has_an_arm_for_it(plugin):
    assert list(study_of("projector").arms) == ["linear", "mlp", "ldp"]
    load_plugin(str(plugin))
    assert study_of("projector").arms["pairs"][0].endswith("--projector pairs")


def test_only_who_makes_a_token_a_cell_and_scales_them_is_warmed_up(plugin):
    load_plugin(str(plugin))
    assert warms_up("ldp", 16) and not warms_up("mlp", 16) and not warms_up("pairs", 16)
    PROJECTORS["pairs"] = lambda features: features // 4
    assert not warms_up("pairs", 16)
    MODULES["pairs"].scale_output = lambda self, factor: None
    assert warms_up("pairs", 16)
