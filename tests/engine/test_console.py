from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from test_arguments import parse

import eval_vlm
import train_lm
import train_pretrain
import train_sft
from dataset import check, clean
from engine.arguments import TrainArguments, UsageError
from engine.console import Parser, spelled
from engine.peer_flags import ELSEWHERE, MINIMIND, SAME
from engine.recipe import command_arguments

COMMANDS = {"pretrain": train_pretrain, "sft": train_sft, "lm": train_lm}
FLAGS = {*vars(TrainArguments()), "from", "weights"} - {"from_run"}


def given(command: str, *argv: str) -> TrainArguments:
    """What a training command makes of the flags."""
    module = COMMANDS[command]
    return command_arguments(command, module.DEFAULTS, list(argv), module.FLAGS, "")


def refused(capsys, call, *argv) -> str:
    """The one line that a command ends with, without its "error: "."""
    with pytest.raises(SystemExit) as left:
        call(*argv)
    said = capsys.readouterr().err
    assert left.value.code == 2 and said.startswith("error: ") and said.count("\n") == 1
    return said[7:-1]


def weights(folder: Path, *names: str) -> Path:
    """A folder of runs with these, or these files."""
    for name in names:
        file = folder / name if name.endswith(".pth") else folder / name / "config.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("{}", "utf-8")
    return folder


@pytest.mark.parametrize(("typed", "near"), [
    ("--learningrate", "--learning_rate"), ("--batchsize", "--batch_size"), ("--epoch", "--epochs"),
    ("--stag", "--stage"), ("--imgaes", "--images"), ("--dryrun", "--dry_run"), ("--seeds=1", "--seed"),
])  # fmt: skip
def test_a_flag_that_is_misspelled_or_abbreviated_is_refused_with_the_nearest_name(typed, near, capsys):
    name = typed.partition("=")[0]
    assert refused(capsys, parse, TrainArguments(), [typed]) == f"no flag is called {name}; did you mean {near}?"


def test_nothing_is_near_to_what_is_like_no_flag(capsys):
    assert refused(capsys, parse, TrainArguments(), ["--zzz"]) == "no flag is called --zzz; --help lists them"
    assert "belongs to no flag" in refused(capsys, parse, TrainArguments(), ["--seed", "1", "2"])


def test_eval_refuses_an_abbreviation_and_takes_dashes(capsys):
    assert "did you mean --image?" in refused(capsys, eval_vlm.parse, ["--imag", "a.png"])
    args = eval_vlm.parse(["--image-dir", "d", "--max-new-tokens=3", "--no-blank"])
    assert (args.images, args.max_new_tokens, args.blank) == ("d", 3, False)


@pytest.mark.parametrize(("argv", "field", "value"), [
    ("--data_path a.parquet", "data", "a.parquet"), ("--data-path=a.parquet", "data", "a.parquet"),
    ("--data_path a --images_path d", "images", "d"), ("--save_dir x", "runs", "x"),
    ("--save_dir x --save_weight sft_vlm", "out", "x/sft_vlm"), ("--save_weight=mine --runs=y", "out", "y/mine"),
    ("--save_weight mine", "out", "out/mine"), ("--preset photos", "recipe", "photos"),
    ("--freeze_llm 0", "train", "projector,llm"), ("--freeze_llm=2", "train", "projector"),
    ("--freeze-llm 1", "train", "projector,llm.layers.0,llm.layers.-1"),
    ("--from_resume 1 --dry_run --out x", "out", "x"),
    ("--freeze_llm=0 --from_resume=1 --save_interval 1", "train", "projector,llm"),
])  # fmt: skip
def test_minimind_vs_flags_mean_here_what_they_mean_there(argv, field, value):
    assert Path(getattr(given("sft", "--stage", "1", *argv.split()), field)) == Path(value)


def test_from_weight_is_a_prefix_of_weights_in_the_folder_of_runs(tmp_path, capsys):
    runs = str(weights(tmp_path / "out", "llm_512.pth", "llm_512_resume.pth", "pretrain", "sft_vlm_512.pth"))
    assert given("pretrain", "--save_dir", runs, "--from_weight", "llm").llm == f"{runs}/llm_512.pth"
    assert given("sft", "--stage", "1", "--runs", runs, "--from_weight", "pretrain").from_run == f"{runs}/pretrain"
    assert given("pretrain", "--from_weight", "none").llm == "random"
    said = capsys.readouterr().out
    assert f"MiniMind-V's --from_weight is taken as --llm {runs}/llm_512.pth" in said
    said = refused(capsys, given, "sft", "--runs", runs, "--from_weight", "pretrain_vlm")
    assert f"found neither {runs}/pretrain_vlm/" in said and "did you mean pretrain?" in said
    weights(tmp_path / "out", "llm_768.pth")
    assert "name one of them with --llm" in refused(capsys, given, "pretrain", "--runs", runs, "--from_weight", "llm")
    assert "starts from trained weights" in refused(capsys, given, "sft", "--from_weight", "none")


@pytest.mark.parametrize(("argv", "said"), [
    ("--freeze_llm 3", "--freeze_llm 3: expected 0 (all), 1"), ("--freeze_llm", "expected a value"),
    ("--freeze_llm 1 --train llm", "--freeze_llm and --train say the same"),
    ("--data_path a --data b", "--data_path and --data say the same"), ("--from_resume yes", "expected 0 or 1"),
    ("--use_moe 1", "no mixture of experts"), ("--hidden_size 512", "a weights file knows its sizes"),
    ("--llm x", "the language model is that of the run that --from names"), ("--use_swanlab", "it is --use_wandb"),
    ("--per_device_train_batch_size 8", "no flag is called --per_device_train_batch_size here: it is --batch_size"),
])  # fmt: skip
def test_what_means_nothing_here_is_refused_with_what_to_use(argv, said, capsys):
    assert said in refused(capsys, given, "sft", "--stage", "1", *argv.split())


def test_a_known_flag_that_this_command_has_no_use_for_is_not_taken_for_a_misspelling(capsys):
    said = "means nothing to this command; leave it out"
    assert said in refused(capsys, given, "lm", "--freeze_llm", "1")
    assert said in refused(capsys, eval_vlm.parse, ["--lr=1"])


@pytest.mark.parametrize("command", [check, clean])
def test_commands_on_data_refuse_a_misspelled_flag_in_one_line_too(command, capsys):
    assert refused(capsys, command.main, ["a.jsonl", "b.jsonl", "--imgaes", "d"]) == (
        "no flag is called --imgaes; did you mean --images?"
    )
    assert "found 'x', expected a whole number" in refused(capsys, command.main, ["a.jsonl", "b.jsonl", "--seed", "x"])


def test_every_flag_that_advice_names_is_there():
    names = {text for text in ELSEWHERE.values() if " " not in text}
    names |= {name for targets in (*SAME.values(), *MINIMIND.values()) for name in targets}
    assert names <= FLAGS and len(names) > 20
    inside = {name for text in ELSEWHERE.values() for name in re.findall(r"--(\w+)", text)} - {"nproc_per_node"}
    assert inside <= FLAGS and "llm" in inside


def test_from_resume_0_refuses_a_run_that_has_begun(tmp_path):
    flags = ["--runs", str(tmp_path), "--from_resume", "0"]
    assert given("lm", *flags).out == f"{tmp_path}/lm"
    (tmp_path / "lm").mkdir()
    (tmp_path / "lm" / "run.json").write_text("{}", "utf-8")
    with pytest.raises(UsageError, match="holds a run that has begun"):
        given("lm", *flags)
    with pytest.raises(UsageError, match="holds a run that has begun"):
        given("lm", *flags[:2], "--from-resume=1", "--from-resume=0")
    given("lm", *flags, "--from_resume", "1")
    given("lm", *flags[:2])
    given("lm", *flags[:2], "--from_resume", "1")


def test_commands_are_named_as_the_program_was_called(monkeypatch, capsys):
    text = "run python train_sft.py --stage 1, then python eval_vlm.py or python -m tools.publish RUN OUT"
    assert spelled(text) == text
    monkeypatch.setattr(sys, "argv", ["glimpse train sft"])
    assert spelled(text) == "run glimpse train sft --stage 1, then glimpse eval or glimpse publish RUN OUT"
    with pytest.raises(SystemExit):
        Parser("Do it: python train_lm.py").parse_args(["--help"])
    said = capsys.readouterr().out
    assert said.startswith("usage: glimpse train sft [flags]\n") and "Do it: glimpse train lm\n" in said
