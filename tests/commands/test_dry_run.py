"""--dry-run: the data is checked, the numbers of the run are printed, and nothing is written."""

from __future__ import annotations

import json
import math
import re
import shutil
import warnings
from pathlib import Path

import pytest
from tiny import QUICK, conversation, files_in, write_jsonl

import train_lm
import train_pretrain
import train_sft
import train_vision
from dataset.bad_rows import TooManyBadRows
from engine.arguments import UsageError
from engine.checkpoint import RunError
from model.checkpoints import clip_preprocess
from tokenizer.tokenizer import default_folder, load_tokenizer

REFERENCE = {"linear": 26_223_616, "ldp": 26_491_392}  # without the encoder, with a 768-wide one
SMALL_ENCODER = ["--image_size", 32, "--patch_size", 8, "--hidden_size", 64, "--layers", 1]


def write_clip(folder: Path, layers: int) -> Path:
    """A Hugging Face CLIP ViT-B/16 folder at random weights, in fp16, with only so many of its 12 layers."""
    transformers = pytest.importorskip("transformers")
    config = transformers.CLIPVisionConfig(
        hidden_size=768, intermediate_size=3072, num_hidden_layers=layers, num_attention_heads=12, image_size=224,
        patch_size=16,
    )  # fmt: skip
    transformers.CLIPVisionModel(config).half().save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(clip_preprocess(224)))
    return folder


def dry_run(main, *flags) -> None:
    main([str(flag) for flag in (*flags, "--dry-run", *QUICK)])


def numbers(said: str) -> dict[str, list[int]]:
    """The parameter table: module -> trainable, frozen, total."""
    rows = re.findall(r"^(\w[\w ]*?) +([\d,]+) +([\d,]+) +([\d,]+)$", said, re.MULTILINE)
    return {name: [int(number.replace(",", "")) for number in row] for name, *row in rows}


def gib(said: str) -> float:
    return float(re.search(r"peak memory: about ([\d.]+) GiB", said).group(1))


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """An empty folder to run in."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


@pytest.mark.slow
@pytest.mark.parametrize("projector, layers", [("linear", 2), ("ldp", 1)])
def test_with_clip_the_model_has_the_reference_experiments_parameters(here, tmp_path, capsys, projector, layers):
    clip = write_clip(tmp_path / "clip", layers)
    capsys.readouterr()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train_pretrain.main(["--projector", projector, "--vision", str(clip), "--dry-run"])
    said = capsys.readouterr().out
    table = numbers(said)
    count = REFERENCE[projector]
    assert table["without encoder"] == [count - 25_829_888, 25_829_888, count]
    assert table["llm"] == [0, 25_829_888, 25_829_888]
    assert f"{count:,}" in said
    # patch and position embeddings, the class token, a LayerNorm before the first layer, the layers
    encoder = 768 * 3 * 16**2 + 197 * 768 + 768 + 2 * 768 + layers * (12 * 768**2 + 13 * 768)
    assert table["vision"] == [0, encoder, encoder]
    assert table["all"] == [count - 25_829_888, 25_829_888 + encoder, count + encoder]
    samples = f"{train_pretrain.TEXTS:,}"
    assert re.search(rf"^samples: {samples} \(0 cut at 512 tokens\), [\d,]+ tokens, [\d,]+ supervised", said, re.M)
    assert f"steps: {math.ceil(train_pretrain.TEXTS / 32)} of 32 samples x 1 (1.00 epochs)" in said
    assert 0.3 < gib(said) < 30
    assert not files_in(here)


def test_samples_and_tokens_are_those_of_the_data(tiny, here, capsys):
    flags = ["--data", tiny / "data.jsonl", "--images", tiny / "images", "--llm", tiny / "lm", "--vision",
             tiny / "vision", "--batch_size", 8, "--accumulation_steps", 2, "--epochs", 3]  # fmt: skip
    before = files_in(tiny)
    dry_run(train_pretrain.main, *flags)
    said = capsys.readouterr().out
    tokenizer = load_tokenizer(default_folder())
    answer = len(tokenizer.encode("红色。它是红色的。")) + 1  # and its end
    prompt = len(tokenizer.encode("system\nYou are a helpful assistant")) + len(tokenizer.encode("\n")) + 2
    prompt += len(tokenizer.encode("user\n")) + 4 + len(tokenizer.encode("\n这是什么颜色？")) + 2
    prompt += len(tokenizer.encode("\n")) + 1 + len(tokenizer.encode("assistant\n"))
    found = re.search(r"samples: (\d+) \(0 cut .*\), ([\d,]+) tokens, ([\d,]+) supervised an epoch", said).groups()
    rows, tokens, supervised = (int(number.replace(",", "")) for number in found)
    assert rows == 57 and supervised == 57 * answer
    assert abs(tokens - 57 * (prompt + answer + 1)) <= 57 * 3  # "\n" may join its neighbours
    assert "steps: 12 of 8 samples x 2 (3.00 epochs)" in said
    assert numbers(said)["projector"][0] > 0 and numbers(said)["llm"][0] == 0
    assert not files_in(here) and files_in(tiny) == before


def test_steps_that_are_given_count(tiny, here, capsys):
    dry_run(train_pretrain.main, "--data", tiny / "data.jsonl", "--images", tiny / "images", "--llm", tiny / "lm",
            "--vision", tiny / "vision", "--batch_size", 8, "--steps", 40)  # fmt: skip
    assert "steps: 40 of 8 samples x 1 (5.00 epochs)" in capsys.readouterr().out


def test_a_token_budget_takes_the_place_of_the_batch_size_and_wastes_little(here, tmp_path, capsys):
    train_pretrain.main(["--token_budget", "2000", "--samples", "1000", "--llm", "random", "--dry-run"])
    said = capsys.readouterr().out
    pattern = r"samples: .*?, ([\d,]+) tokens.*?steps: (\d+) of 2000 tokens x 1 \(1.00 epochs\), ([\d.]+)% padding"
    tokens, steps, padding = re.search(pattern, said, re.S).groups()
    tokens, steps, padding = int(tokens.replace(",", "")), int(steps), float(padding) / 100
    assert padding <= 0.08
    assert tokens / (1 - padding) <= 2000 * steps  # no batch holds more
    assert tokens > 0.85 * 2000 * steps


def test_every_training_command_can_be_tried_dry(tiny, tiny_run, here, capsys):
    data = ["--data", tiny / "data.jsonl", "--images", tiny / "images"]
    before = files_in(tiny_run)
    commands = (
        (train_vision.main, [*data, *SMALL_ENCODER], "vision"),
        (train_lm.main, ["--llm", tiny / "lm", "--samples", 20], "llm"),
        (train_pretrain.main, [*data, "--vision", tiny / "vision", "--llm", tiny / "lm"], "projector"),
        (train_sft.main, [*data, "--from", tiny_run, "--stage", 2], "llm"),
    )
    for main, flags, part in commands:
        dry_run(main, *flags)
        said = capsys.readouterr().out
        assert numbers(said)[part][0] > 0
        for line in ("samples: ", "steps: ", "peak memory: about "):
            assert line in said
    assert not files_in(here) and files_in(tiny_run) == before


def test_freezing_shows_in_the_numbers(tiny, tiny_run, here, capsys):
    flags = ["--data", tiny / "data.jsonl", "--images", tiny / "images", "--from", tiny_run, "--train"]
    dry_run(train_sft.main, *flags, "projector")
    frozen = numbers(capsys.readouterr().out)
    dry_run(train_sft.main, *flags, "projector,llm.layers.-1")
    partly = numbers(capsys.readouterr().out)
    assert frozen["llm"][0] == 0 < partly["llm"][0] < partly["llm"][2] == frozen["llm"][2]
    assert partly["all"][2] == frozen["all"][2]


def test_the_memory_that_is_estimated_grows_with_the_batch_and_with_what_trains(tiny, here, capsys):
    flags = ["--data", tiny / "data.jsonl", "--images", tiny / "images", "--vision", tiny / "vision"]
    sizes = []
    for more in (["--batch_size", 8], ["--batch_size", 50], ["--batch_size", 50, "--train", "projector,llm"]):
        dry_run(train_pretrain.main, *flags, "--llm", "random", *more)
        sizes.append(gib(capsys.readouterr().out))
    assert sizes == sorted(sizes) and sizes[0] + 0.2 < sizes[1] and sizes[1] + 0.2 < sizes[2]


def test_a_random_language_model_may_have_other_sizes(tiny, here, capsys):
    flags = ["--data", tiny / "data.jsonl", "--images", tiny / "images", "--vision", tiny / "vision"]
    dry_run(train_pretrain.main, *flags, "--llm", "random:2x64")
    layer = 4 * 64 * 64 + 3 * 64 * 176 + 2 * 64  # attention, SwiGLU, norms
    assert numbers(capsys.readouterr().out)["llm"] == [0, 6400 * 64 + 2 * layer + 64, 6400 * 64 + 2 * layer + 64]
    for wrong in ("random:", "random:4", "random:0x64", "random:4x100", "random:4x-64"):
        with pytest.raises(RunError, match=f"--llm {wrong}: expected random or random:LAYERSxWIDTH"):
            dry_run(train_pretrain.main, *flags, "--llm", wrong)


def test_bad_rows_are_reported_or_stop_it(tiny, here, tmp_path, capsys):
    data = write_jsonl(tmp_path / "d", 60, ("{not json", {"conversations": conversation("")}))
    flags = ["--data", data, "--images", tmp_path / "d" / "images", "--llm", tiny / "lm", "--vision", tiny / "vision"]
    with pytest.raises(TooManyBadRows, match="more than the 1.00% allowed"):
        dry_run(train_pretrain.main, *flags)
    dry_run(train_pretrain.main, *flags, "--max_bad", 0.1)
    said = capsys.readouterr().out
    assert "2 of 62 rows are bad" in said and "row is not JSON" in said and "answer is empty" in said
    assert not files_in(here)


def damaged(folder: Path, rows: int, each: int) -> list:
    """The flags of so many rows, of which each such one's picture is cut off."""
    data = write_jsonl(folder, rows)
    for file in (folder / "images" / f"{i}.png" for i in range(0, rows, each)):
        file.write_bytes(file.read_bytes()[:50])
    valid = write_jsonl(folder, 3, name="valid.jsonl")
    (folder / "images" / "0.png").write_bytes(b"no picture")
    return ["--data", data, "--images", folder / "images", "--val_data", valid]


def test_pictures_are_opened_and_stop_it_as_they_would_stop_training(tiny, here, tmp_path, capsys):
    models = ["--llm", tiny / "lm", "--vision", tiny / "vision"]
    with pytest.raises(TooManyBadRows, match="1 × not an image: data.jsonl:1"):
        dry_run(train_pretrain.main, *damaged(tmp_path / "few", 20, 1), *models)
    flags = damaged(tmp_path / "many", 600, 5)
    with pytest.raises(TooManyBadRows, match="image is damaged: data.jsonl"):
        dry_run(train_pretrain.main, *flags, *models)
    dry_run(train_pretrain.main, *flags, "--max_bad", 0.3, *models)
    said = capsys.readouterr().out
    found = re.search(r"pictures: those of 256 of 600 samples opened, of which (\d+) are bad", said)
    assert 40 < int(found[1]) < 62  # a fifth
    assert "pictures: those of 3 of 3 validation rows opened, of which 1 are bad" in said
    assert not files_in(here)


def test_a_finished_run_in_the_way_does_not_matter(tiny, tiny_run, here, capsys):
    """Nothing is written, so another run's folder is no obstacle to a look at the numbers."""
    before = {name: (tiny_run / name).read_bytes() for name in files_in(tiny_run)}
    dry_run(train_pretrain.main, "--data", tiny / "data.jsonl", "--images", tiny / "images", "--llm", tiny / "lm",
            "--vision", tiny / "vision", "--steps", 99, "--out", tiny_run)  # fmt: skip
    assert "steps: 99 of" in capsys.readouterr().out
    assert {name: (tiny_run / name).read_bytes() for name in files_in(tiny_run)} == before


def test_on_a_fresh_clone_a_later_stage_tells_the_plan_of_all_stages_in_their_order(tiny, here, monkeypatch, capsys):
    monkeypatch.setattr("engine.build.EMBEDDED_ENCODER", tiny / "vision")
    monkeypatch.setattr("engine.parts.EMBEDDED_LANGUAGE", {0.0: tiny / "lm"})
    monkeypatch.setattr(train_pretrain, "TEXTS", 40)
    monkeypatch.setattr(train_sft, "TEXTS", {1: 64, 2: 96, 3: 128})
    dry_run(train_sft.main, "--stage", 3)
    said = capsys.readouterr().out
    assert re.findall(r"this is the plan of (\S+);", said) == ["out/pretrain", "out/sft1", "out/sft2", "out/sft3"]
    assert [int(steps) for steps in re.findall(r"^steps: (\d+) of", said, re.MULTILINE)] == [2, 2, 3, 4]
    of_llm = re.findall(r"^llm +([\d,]+) +([\d,]+) +[\d,]+$", said, re.MULTILINE)
    assert of_llm == [("0", "220,320"), *[("220,320", "0")] * 3]
    assert not files_in(here)


def test_a_plan_starts_from_the_last_run_that_is_there_and_with_data_of_ones_own_from_a_run_alone(
    tiny, tiny_run, here, monkeypatch, capsys
):
    monkeypatch.setattr(train_sft, "TEXTS", {1: 64, 2: 96, 3: 128})
    shutil.copytree(tiny_run, here / "out" / "pretrain")
    dry_run(train_sft.main, "--stage", 2)
    said = capsys.readouterr().out
    assert re.findall(r"this is the plan of (\S+);", said) == ["out/sft1", "out/sft2"]
    assert re.findall(r"^llm +([\d,]+) +0 +[\d,]+$", said, re.MULTILINE) == ["220,320"] * 2  # the tiny one's
    with pytest.raises(UsageError, match="out/sft1 is not finished, and stage 2 starts from it; name a run with"):
        dry_run(train_sft.main, "--stage", 2, "--data", tiny / "data.jsonl", "--images", tiny / "images")


def test_no_stage_is_trained_for_the_sake_of_a_dry_run(tiny, here, monkeypatch):
    def trained(argv):
        raise AssertionError("the language model was trained")

    monkeypatch.setattr("engine.build.EMBEDDED_ENCODER", tiny / "vision")
    monkeypatch.setattr(train_lm, "main", trained)
    dry_run(train_pretrain.main, "--samples", 20, "--english", 0.5)
    assert not files_in(here)
