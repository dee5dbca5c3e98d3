from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import re
from pathlib import Path

import pytest

from engine.arguments import SHARED, TrainArguments
from engine.command import guarded
from engine.console import check
from engine.console import parse as parse_declared

SCRIPTS = ("train_vision", "train_lm", "train_pretrain", "train_sft")
FIELDS = {item.name: item for item in dataclasses.fields(TrainArguments)}
# MiniMind-V's flag names, where they mean the same
FAMILIAR = ("epochs", "batch_size", "learning_rate", "accumulation_steps", "grad_clip", "max_seq_len", "save_interval",
            "num_workers", "device", "dtype", "use_wandb", "wandb_project")  # fmt: skip


def parse(default: TrainArguments, argv: list[str]) -> TrainArguments:
    """As a command that has every flag there is."""
    return parse_declared(default, argv, tuple(FIELDS))


def flag_of(name: str) -> str:
    return FIELDS[name].metadata.get("flag", name)


def other_value(name: str):
    """A valid value that is not the default."""
    default, choices = getattr(TrainArguments(), name), FIELDS[name].metadata.get("choices")
    if choices:
        return next(value for value in choices if value != default)
    special = {"image_size": 256, "patch_size": 32, "hidden_size": 320, "images": "pictures",
               "learning_rates": "llm=0.5"}
    if name in special:
        return special[name]
    return {int: lambda: default + 1, float: lambda: default / 2, str: lambda: default + "x"}[type(default)]()


@pytest.mark.parametrize("name", [name for name in FIELDS if not isinstance(getattr(TrainArguments(), name), bool)])
def test_each_field_is_a_flag_in_both_spellings(name):
    value = other_value(name)
    more = ["--data", "f"] if name in ("images", "val_data") else []
    for spelling in (flag_of(name), flag_of(name).replace("_", "-")):
        for argv in ([f"--{spelling}", str(value)], [f"--{spelling}={value}"]):
            stage = parse(TrainArguments(), argv + more)
            assert getattr(stage, name) == value and type(getattr(stage, name)) is type(value)
            same = dataclasses.replace(stage, **{name: getattr(TrainArguments(), name)})
            assert dataclasses.replace(same, data="") == TrainArguments()


@pytest.mark.parametrize("name", [name for name in FIELDS if isinstance(getattr(TrainArguments(), name), bool)])
def test_a_switch_takes_no_value(name, capsys):
    assert getattr(parse(TrainArguments(), []), name) is False
    assert getattr(parse(TrainArguments(), [f"--{name}"]), name) is True
    assert getattr(parse(TrainArguments(), [f"--{name.replace('_', '-')}"]), name) is True
    for argv in ([f"--{name}", "False"], [f"--{name}=false"]):  # or a user who writes that switches it on
        with pytest.raises(SystemExit) as left:
            parse(TrainArguments(), argv)
        assert left.value.code == 2


def test_without_flags_the_arguments_are_the_defaults():
    default = TrainArguments(out="out/x", scenes=7, learning_rate=0.5)
    assert parse(default, []) == default


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_command_has_the_familiar_flags_and_help_for_each(script, capsys):
    module = importlib.import_module(script)
    with pytest.raises(SystemExit) as left:
        module.main(["--help"])
    assert left.value.code == 0
    text = capsys.readouterr().out
    assert f"python {script}.py" in text
    shown = {*SHARED, *module.FLAGS}
    named = re.findall(r"^  --(\w+)", text, re.MULTILINE)
    assert sorted(named) == sorted(map(flag_of, shown))  # each flag once
    defaults = {name: getattr(module.DEFAULTS, name) for name in shown}
    for name in (name for name, value in defaults.items() if not isinstance(value, (str, bool))):
        described = re.search(rf"^  --{flag_of(name)} .*?(?=^  --|^\w|\Z)", text, re.MULTILINE | re.DOTALL)[0]
        assert re.search(rf"default: {defaults[name]:g}\)|\(default 0: ", " ".join(described.split()))
    assert set(FAMILIAR) - {"max_seq_len"} <= shown
    assert all(FIELDS[name].metadata["help"] for name in FIELDS)


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("argv", [
    ["--learningrate", "1"], ["--learning", "1"], ["--epochs", "two"], ["--epochs", "1.5"], ["--batch_size"],
    ["--learning_rate", "fast"], ["--dtype", "float64"], ["extra"], ["--use_wandb=yes"],
])  # fmt: skip
def test_a_wrong_flag_ends_a_command_with_status_2_and_says_what_was_wrong(script, argv, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as left:
        importlib.import_module(script).main(argv)
    said = capsys.readouterr().err
    assert left.value.code == 2 and argv[0].partition("=")[0] in said
    assert said.startswith("error: ") and said.endswith("\n") and said.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("script", "flag"),
    [("train_lm", "--projector"), ("train_sft", "--llm"), ("train_pretrain", "--stage"), ("train_vision", "--train")],
)
def test_a_flag_of_another_command_is_refused(script, flag, capsys):
    with pytest.raises(SystemExit) as left:
        importlib.import_module(script).main([flag, "1"])
    assert left.value.code == 2 and flag in capsys.readouterr().err


@pytest.mark.parametrize(("argv", "said"), [
    ("--epochs 0", "--epochs 0: expected 1 or more"),
    ("--batch_size 0", "--batch_size 0: expected 1 or more"),
    ("--accumulation_steps -1", "--accumulation_steps -1: expected 1 or more"),
    ("--save_interval 0", "--save_interval 0: expected 1 or more"),
    ("--eval_interval 0", "--eval_interval 0: expected 1 or more"),
    ("--log_interval 0", "--log_interval 0: expected 1 or more"),
    ("--learning_rate 0", "--learning_rate 0.0: expected more than 0"),
    ("--learning_rate nan", "--learning_rate nan: expected a number"),
    ("--learning_rate inf", "--learning_rate inf: expected a number"),
    ("--grad_clip nan", "--grad_clip nan: expected a number"),
    ("--grad_clip -1", "--grad_clip -1.0: expected 0 or more"),
    ("--weight_decay -0.1", "--weight_decay -0.1: expected 0 or more"),
    ("--max_bad 1.5", "--max_bad 1.5: expected a share from 0 to 1"),
    ("--warmup_ratio 2", "--warmup_ratio 2.0: expected a share from 0 to 1"),
    ("--min_lr_ratio -1", "--min_lr_ratio -1.0: expected a share from 0 to 1"),
    ("--english 2", "--english 2.0: expected a share from 0 to 1"),
    ("--steps -1", "--steps -1: expected 0 or more"),
    ("--samples -1", "--samples -1: expected 0 or more"),
    ("--num_workers -1", "--num_workers -1: expected 0 or more"),
    ("--cache_gb -1", "--cache_gb -1.0: expected 0 or more"),
    ("--seed -1", "--seed -1: expected 0 or more"),
    ("--scenes 0", "--scenes 0: expected more than 0"),
    ("--max_seq_len 0", "--max_seq_len 0: expected more than 0"),
    ("--images pictures", "there is no --data"),
    ("--val_data more.jsonl", "there is no --data"),
    ("--image_size 100", "--image_size 100 --patch_size 16: expected a multiple of a power of two"),
    ("--patch_size 12 --image_size 120", "expected a multiple of a power of two"),
    ("--hidden_size 100", "--hidden_size 100: expected a multiple of 64"),
    ("--projector mpl", "--projector mpl: expected one of linear, mlp, ldp; did you mean mlp?"),
    ("--stage 4", "--stage 4: expected one of 1, 2, 3"),
])  # fmt: skip
def test_a_value_that_cannot_be_is_refused_with_what_was_expected(argv, said, capsys):
    with pytest.raises(SystemExit) as left:
        parse(TrainArguments(), argv.split())
    assert left.value.code == 2 and said in capsys.readouterr().err


def test_the_defaults_of_every_command_can_be():
    assert [check(importlib.import_module(script).DEFAULTS) for script in SCRIPTS] == [""] * len(SCRIPTS)


def test_a_device_that_is_not_there_ends_a_command_with_status_1(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for script in SCRIPTS:
        main = importlib.import_module(script).main
        assert guarded(lambda main=main: main(["--device", "cuda:99"])) == 1
        assert "error: --device cuda:99: not on this machine, which has cpu" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_no_flag_anywhere_has_type_bool_and_every_field_is_some_commands_flag():
    root = Path(inspect.getfile(TrainArguments)).parent.parent
    files = [path for path in root.rglob("*.py") if not {".venv", "out", "tests"} & set(path.relative_to(root).parts)]
    found = [
        f"{path}:{node.lineno}"
        for path in files
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.keyword) and node.arg == "type" and getattr(node.value, "id", "") == "bool"
    ]
    assert len(files) > 20 and found == []
    declared = [importlib.import_module(script).FLAGS for script in SCRIPTS]
    assert all("recipe" in flags for flags in declared)
    assert set(SHARED).union(*declared) == set(FIELDS)
    assert all(not set(SHARED) & set(flags) for flags in declared)


def test_arguments_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        TrainArguments().epochs = 2
