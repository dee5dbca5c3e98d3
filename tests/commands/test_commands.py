"""The training commands from data to finished runs: the whole chain, staging, what is not done twice."""

from __future__ import annotations

import dataclasses
import gc
import json
import re
import shutil
import weakref
from functools import partial
from pathlib import Path

import pytest
import torch
from tiny import QUICK, conversation, files_in, write_encoder, write_jsonl, write_language, write_parquet

import engine.build
import engine.trainer
import eval_vlm
import train_lm
import train_pretrain
import train_sft
import train_vision
from engine.arguments import UsageError
from engine.checkpoint import Run, RunError
from engine.log import read_log
from model.checkpoints import load_vision, read_tensors
from model.config import LMConfig

SMALL_ENCODER = ["--image_size", 32, "--patch_size", 8, "--hidden_size", 64, "--layers", 1]


def call(main, *flags) -> None:
    """Run a command with these flags, given as whatever prints as them."""
    main([str(flag) for flag in flags])


def train(main, *flags) -> None:
    call(main, *flags, *QUICK)


def weights(run: Path, prefix: str = "") -> dict[str, torch.Tensor]:
    return {k: v for k, v in read_tensors(run / "model.safetensors").items() if k.startswith(prefix)}


def same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def assert_complete(run: Path, steps: int, extra: tuple[str, ...] = ()) -> None:
    """A finished run holds all that it is said to hold, and its log tells every loss."""
    expected = {"lock", "run.json", "config.json", "model.safetensors", "training_state.safetensors", "log.jsonl",
                "loss.png", "bad_rows.json", "finished.json", *extra}  # fmt: skip
    assert {path.name for path in run.iterdir() if path.is_file()} == expected
    assert Run(run).summary()["steps"] == steps
    log = read_log(run / "log.jsonl")
    assert [entry["step"] for entry in log if "loss" in entry][-1] == steps
    assert any("val_loss" in entry for entry in log)
    assert (run / "loss.png").read_bytes()[:4] == b"\x89PNG"


VLM_FILES = ("tokenizer.json", "tokenizer_config.json", "samples.json")


@pytest.fixture(params=["jsonl", "parquet"])
def data(request, tmp_path) -> list:
    """The flags that give a command tiny data in one of MiniMind-V's two formats."""
    if request.param == "jsonl":
        return ["--data", write_jsonl(tmp_path / "data"), "--images", tmp_path / "data" / "images"]
    return ["--data", write_parquet(tmp_path / "data.parquet")]


@pytest.mark.slow
def test_the_whole_chain_runs_on_a_users_own_data(data, tmp_path, capsys):
    encoder, lm, pretrain = (tmp_path / "runs" / name for name in ("vision", "lm", "pretrain"))
    texts = tmp_path / "texts.jsonl"
    row = {"conversations": conversation("蓝色。天是蓝色的。", "天是什么颜色？")}
    texts.write_text("\n".join(json.dumps(row) for _ in range(60)))

    train(train_vision.main, *data, "--out", encoder, *SMALL_ENCODER, "--steps", 3, "--batch_size", 8)
    assert_complete(encoder, 3, ("preprocessor_config.json",))
    module, _ = load_vision(encoder)
    assert (module.config.image_size, module.config.hidden_size) == (32, 64)

    start = write_language(tmp_path / "start")
    train(train_lm.main, "--data", texts, "--llm", start, "--out", lm, "--steps", 2)
    assert_complete(lm, 2, VLM_FILES)
    assert not same(weights(start), weights(lm))

    train(train_pretrain.main, *data, "--llm", lm, "--vision", encoder, "--out", pretrain, "--steps", 2)
    assert_complete(pretrain, 2, VLM_FILES)
    assert same(weights(pretrain, "llm."), weights(lm)), "pretraining changed the frozen language model"
    assert not weights(pretrain, "vision."), "a frozen encoder is kept where it came from"

    before = pretrain
    for stage in (1, 2, 3):
        run = tmp_path / "runs" / f"sft{stage}"
        train(train_sft.main, "--stage", stage, *data, "--from", before, "--out", run, "--steps", 2)
        assert_complete(run, 2, VLM_FILES)
        for part in ("llm.", "projector."):
            assert not same(weights(run, part), weights(before, part))
        assert Run(run).record()["facts"]["vision"] == Run(pretrain).record()["facts"]["vision"]
        before = run

    capsys.readouterr()
    scores = tmp_path / "scores.json"
    call(eval_vlm.main, *data, "--weights", before, "--scores", scores, "--max_new_tokens", 4, "--device", "cpu")
    kept = json.loads(scores.read_text("utf-8"))
    assert set(kept) == {"command", "n", "seed", "checkpoint", "metrics"}
    assert kept["n"] == 60 and kept["checkpoint"] == str(before)
    assert {"exact", "contains", "exact_ci95", "contains_ci95", "contains/红色"} <= set(kept["metrics"])


@pytest.mark.slow
def test_a_run_learns_to_look(tiny, tmp_path):
    """Three answers of eight tokens: who does not look at the picture cannot get below ln(3) / 8 = 0.137 a token."""
    run = tmp_path / "pretrain"
    train(train_pretrain.main, "--data", tiny / "data.jsonl", "--images", tiny / "images", "--llm", tiny / "lm",
          "--vision", tiny / "vision", "--out", run, "--train", "projector,llm", "--steps", 80, "--batch_size", 12,
          "--learning_rate", 0.02, "--eval_interval", 1000)  # fmt: skip
    log = read_log(run / "log.jsonl")
    losses = [entry["loss"] for entry in log if "loss" in entry]
    assert losses[0] > 4 and losses[-1] < 0.1
    assert [entry["val_loss"] for entry in log if "val_loss" in entry][-1] < 0.1


def test_the_same_command_gives_the_same_weights_and_another_seed_others(tiny, tmp_path):
    flags = ["--data", tiny / "data.jsonl", "--images", tiny / "images", "--llm", tiny / "lm", "--vision",
             tiny / "vision", "--steps", 3, "--batch_size", 5]  # fmt: skip
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        train(train_pretrain.main, *flags, "--out", tmp_path / name, "--seed", seed)
    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))
    assert not same(weights(tmp_path / "a"), weights(tmp_path / "c"))


def test_the_random_init_ablation_keeps_the_language_model_at_random_weights(tiny, tmp_path, monkeypatch):
    small = partial(LMConfig, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1,
                    intermediate_size=48)  # fmt: skip
    monkeypatch.setattr(engine.build, "LMConfig", small)
    run = tmp_path / "random"
    train(train_pretrain.main, "--llm", "random", "--data", tiny / "data.jsonl", "--images", tiny / "images",
          "--vision", tiny / "vision", "--out", run, "--steps", 2)  # fmt: skip
    torch.manual_seed(42)
    fresh = engine.build.get_language("random", 6400)
    assert same(weights(run, "llm."), {f"llm.{name}": tensor for name, tensor in fresh.state_dict().items()})


def test_an_encoder_that_is_trained_with_the_rest_is_kept_in_the_run_and_used_by_the_next(tiny, tmp_path, tiny_run):
    own, after = tmp_path / "own", tmp_path / "after"
    data = ["--data", tiny / "data.jsonl", "--images", tiny / "images", "--steps", 2, "--batch_size", 4]
    train(train_sft.main, *data, "--from", tiny_run, "--train", "projector,vision", "--out", own)
    assert weights(own, "vision.") and same(weights(own, "llm."), weights(tiny_run, "llm."))
    kept, _ = load_vision(own)
    first, _ = load_vision(tiny / "vision")
    assert not same(kept.state_dict(), first.state_dict())
    train(train_sft.main, *data, "--from", own, "--out", after)
    assert Run(after).record()["facts"]["vision"]["folder"] == str(own)


@pytest.mark.parametrize("fit, reference", [("cut", "红色。"), ("drop", "红色。")])
def test_sft_shows_a_stage_only_answers_within_its_bound(tiny_run, tmp_path, fit, reference):
    """Half of the answers are one short sentence, half have far more tokens than stage 1 takes."""
    long = {"conversations": conversation("红色。" + "这张图片从左到右都是同一种颜色的。" * 9), "image": "0.png"}
    short = {"conversations": conversation("红色。"), "image": "0.png"}
    data = write_jsonl(tmp_path, 3, (long, short) * 30)
    run = tmp_path / "run"
    train(train_sft.main, "--stage", 1, "--fit", fit, "--data", data, "--images", tmp_path / "images", "--from",
          tiny_run, "--out", run, "--steps", 1, "--max_seq_len", 128)  # fmt: skip
    samples = json.loads((run / "samples.json").read_text("utf-8"))["samples"]
    references = {sample["reference"] for sample in samples}
    assert reference in references
    cut = {text for text in references if len(text) > 12}
    assert all(len(text) < 60 for text in cut) and bool(cut) == (fit == "cut")


def test_samples_chooses_so_many_rows_and_the_validation_rows_are_not_among_them(tiny, tmp_path, capsys):
    seen = []
    encode = train_lm.encode_record
    train_lm_encode = lambda record, **rest: seen.append(record.id) or encode(record, **rest)  # noqa: E731
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_lm, "encode_record", train_lm_encode)
        call(train_lm.main, "--data", write_parquet(tmp_path / "d.parquet", 200), "--llm", tiny / "lm", "--samples", 40,
             "--dry-run", "--device", "cpu")  # fmt: skip
    assert "samples: 40 " in capsys.readouterr().out
    assert len(set(seen)) == 40 + 10  # a twentieth of the file is for validation


def test_a_language_model_trains_on_the_texts_of_rows_whose_pictures_are_not_there(tiny, tmp_path):
    seen = []
    encode = train_lm.encode_record
    row = {"conversations": conversation("红色。"), "images": ["../a/1.png", "2.png"]}
    data = write_jsonl(tmp_path, 30, (json.dumps(row),))
    shutil.rmtree(tmp_path / "images")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_lm, "encode_record", lambda record, **rest: seen.append(record) or encode(record, **rest))
        train(train_lm.main, "--data", data, "--llm", tiny / "lm", "--out", tmp_path / "out", "--steps", 1,
              "--max_bad", 0)  # fmt: skip
    assert len({record.id for record in seen}) == 31
    assert {record.turns[0].parts for record in seen} == {("这是什么颜色？",)} and not any(r.images for r in seen)


@pytest.fixture
def default_stages(tiny, tmp_path, monkeypatch):
    """The commands' defaults at a tiny size, in an empty folder: the picture book, four steps a stage."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(engine.build, "EMBEDDED_ENCODER", tiny / "vision")
    monkeypatch.setitem(engine.build.EMBEDDED_LANGUAGE, 0.0, tiny / "lm")
    small = {"batch_size": 4, "scenes": 12, "num_workers": 0}
    for script in (train_lm, train_pretrain, train_sft):
        monkeypatch.setattr(script, "DEFAULTS", dataclasses.replace(script.DEFAULTS, **small))
    monkeypatch.setattr(train_lm, "DEFAULTS", dataclasses.replace(train_lm.DEFAULTS, llm=str(tiny / "lm")))
    monkeypatch.setattr(train_lm, "TEXTS", 8)
    monkeypatch.setattr(train_pretrain, "TEXTS", 8)
    monkeypatch.setattr(train_sft, "TEXTS", {1: 8, 2: 8, 3: 8})
    monkeypatch.setattr("dataset.splits.VALIDATION_ROWS", 4)
    return tmp_path


MACHINE = ["--device", "cpu", "--dtype", "float32"]


@pytest.mark.slow
def test_missing_stages_are_said_and_run_first_and_finished_ones_are_not_repeated(default_stages, capsys):
    both = ["--english", 0.5]  # a language model for both languages does not ship
    call(train_sft.main, "--stage", 2, *both, *MACHINE)
    said = capsys.readouterr().out
    first = ["out/sft1 is not finished", "out/pretrain is not finished", "out/lm is not finished"]
    assert [line.split(":")[0] for line in said.splitlines() if "not finished" in line] == first
    done = [line.split(":")[0] for line in said.splitlines() if " steps, loss " in line]
    assert done == ["out/lm", "out/pretrain", "out/sft1", "out/sft2"]
    for name in ("lm", "pretrain", "sft1", "sft2"):
        assert Run(Path("out") / name).is_finished()
    times = {name: (Path("out") / name).stat().st_mtime_ns for name in files_in(Path("out"))}

    call(train_sft.main, "--stage", 2, *both, *MACHINE)
    assert "out/sft2 is finished; nothing to do" in capsys.readouterr().out
    assert {name: (Path("out") / name).stat().st_mtime_ns for name in files_in(Path("out"))} == times

    call(train_sft.main, "--stage", 3, *both, *MACHINE)
    said = capsys.readouterr().out
    assert "not finished" not in said and "out/sft3: 2 steps" in said
    after = {name: (Path("out") / name).stat().st_mtime_ns for name in files_in(Path("out"))}
    assert {name: after[name] for name in times if not name.startswith("cache")} == {
        name: time for name, time in times.items() if not name.startswith("cache")
    }


def test_a_stage_that_was_cut_off_is_run_again_before_the_next(default_stages, tiny_run, tiny, capsys):
    """run.json and a training state are there, finished.json is not whole: as after a full disk."""
    call(train_lm.main, *MACHINE)
    Path("out/lm/finished.json").write_text("")
    weight = weights(Path("out/lm"))
    capsys.readouterr()
    call(train_pretrain.main, *MACHINE)
    said = capsys.readouterr().out
    assert "out/lm is not finished: running it first" in said and "out/pretrain: 2 steps" in said
    assert same(weights(Path("out/lm")), weight)  # gone on from its last state, not begun anew


def test_the_shipped_language_model_is_taken_where_none_was_trained(default_stages, tiny, capsys):
    call(train_pretrain.main, *MACHINE)
    assert f"language model: {tiny / 'lm'}, which ships" in capsys.readouterr().out
    assert not Path("out/lm").exists()
    assert Run(Path("out/pretrain")).record()["facts"]["start"]

    call(train_lm.main, *MACHINE)
    capsys.readouterr()
    call(train_pretrain.main, "--out", "out/other", *MACHINE)
    assert "language model:" not in capsys.readouterr().out
    trained, kept = weights(Path("out/lm")), weights(Path("out/other"))
    assert all(torch.equal(kept[name], tensor) for name, tensor in trained.items())


def test_each_stage_of_a_process_begins_without_the_models_before_and_keeps_to_its_plan(
    default_stages, monkeypatch, capsys
):
    models, released = [], []
    monkeypatch.setattr(engine.trainer, "release_memory", lambda above=0: released.append(above))

    def watched(args, model, here):
        assert not any(one() for one in models)  # freed
        models.append(weakref.ref(model))
        return in_training(args, model, here)

    in_training = engine.trainer.in_training
    monkeypatch.setattr(engine.trainer, "in_training", watched)
    gc.disable()  # so that it is not by chance
    try:
        call(train_sft.main, "--stage", 1, *MACHINE)
    finally:
        gc.enable()
    assert len(models) == 2
    said = re.findall(r"peak memory: about ([\d.]+) GiB .* beside about ([\d.]+) GiB", capsys.readouterr().out)
    planned = [float(plan) + float(program) for plan, program in said]
    assert [above / 2**30 for above in released] == pytest.approx([0, *planned[:1] * 2, 0, *planned[1:] * 2], abs=0.1)


def test_a_language_model_that_is_named_is_taken_and_none_is_trained(default_stages, tiny, capsys):
    call(train_pretrain.main, "--llm", tiny / "lm", *MACHINE)
    assert "running it first" not in capsys.readouterr().out
    assert not Path("out/lm").exists()


def test_own_data_does_not_set_off_the_default_stages(default_stages, tiny):
    """They would be trained on the picture book, which is not what was asked for."""
    with pytest.raises(UsageError, match="out/sft1 is not finished, and stage 2 starts from it; name a run"):
        call(train_sft.main, "--stage", 2, "--data", tiny / "data.jsonl", "--images", tiny / "images", *MACHINE)
    assert not Path("out").exists()


def test_a_run_of_other_settings_is_not_overwritten(tiny, tiny_run, tmp_path):
    run = shutil.copytree(tiny_run, tmp_path / "run")
    before = {name: (run / name).read_bytes() for name in files_in(run)}
    flags = ["--data", tiny / "data.jsonl", "--images", tiny / "images", "--llm", tiny / "lm", "--vision",
             tiny / "vision", "--out", run, "--batch_size", 4]  # fmt: skip
    with pytest.raises(RunError, match=r"holds a run with other settings \(steps: 2 -> 3\).*choose another --out"):
        train(train_pretrain.main, *flags, "--steps", 3)
    assert {name: (run / name).read_bytes() for name in files_in(run)} == before


@pytest.mark.parametrize("part, fact", [("vision", "facts.vision.fingerprint"), ("lm", "facts.start")])
def test_a_run_that_began_from_other_weights_is_not_gone_on_with(tiny, tmp_path, part, fact):
    """The settings are the same words, but the folder that they name holds another model by now."""
    for name in ("vision", "lm"):
        shutil.copytree(tiny / name, tmp_path / name)
    flags = ["--data", tiny / "data.jsonl", "--images", tiny / "images", "--llm", tmp_path / "lm", "--vision",
             tmp_path / "vision", "--out", tmp_path / "run", "--steps", 2]  # fmt: skip
    train(train_pretrain.main, *flags)
    (tmp_path / "run" / "finished.json").unlink()
    write = write_encoder if part == "vision" else write_language
    write(tmp_path / part, seed=9)
    with pytest.raises(RunError, match=fact):
        train(train_pretrain.main, *flags)


def test_the_picture_books_stages_train_on_different_scenes_than_they_validate_on(default_stages, monkeypatch):
    seen: dict[str, list] = {"train": [], "val": []}

    def watch(stage, model, encoder, tokenizer, data, trained, here, begin=None):
        seen["train"] += [record.scene for record in data.train]
        seen["val"] += [record.scene for record in data.val]

    monkeypatch.setattr(train_pretrain, "train_vlm", watch)
    call(train_pretrain.main, "--dry-run", *MACHINE)
    assert len(seen["train"]) == 8 and len(seen["val"]) == 4
    assert not set(seen["train"]) & set(seen["val"])
