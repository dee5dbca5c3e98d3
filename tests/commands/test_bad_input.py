"""Bad input to the commands: said in words with exit status 1, or counted, named and skipped up to a limit."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import COLOURS, QUICK, conversation, files_in, png, write_encoder, write_jsonl, write_language, write_parquet

import engine.trainer
import eval_vlm
import train_lm
import train_pretrain
import train_sft
import train_vision
from engine.checkpoint import Run
from engine.command import guarded
from model.checkpoints.files import write_json
from tokenizer.tokenizer import default_folder

ROOT = Path(train_sft.__file__).resolve().parent


def run(capsys, main, *flags) -> tuple[int, str]:
    """(exit status, what is on stderr) of a command, run as its script runs it."""
    capsys.readouterr()
    quick = [] if main is eval_vlm.main else QUICK
    status = guarded(lambda: main([str(flag) for flag in (*flags, *quick)]))
    return status, capsys.readouterr().err


def refused(capsys, main, *flags) -> str:
    """The message of a command that must end with status 1."""
    status, said = run(capsys, main, *flags)
    assert status == 1
    message = said[said.index("error: ") :]
    assert "Traceback" not in said and len(message) < 1500
    return message


@pytest.fixture
def parts(tiny, tmp_path) -> list:
    """The flags that join the tiny models in a short run."""
    return ["--llm", tiny / "lm", "--vision", tiny / "vision", "--out", tmp_path / "out" / "run", "--steps", 1,
            "--batch_size", 64]  # fmt: skip


# files


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("none.jsonl", None, "none.jsonl does not exist; expected a data set"),
        ("empty.jsonl", b"", "empty.jsonl is empty; expected a data set"),
        ("blank.jsonl", b"\n \n", "blank.jsonl is empty; expected a data set"),
        ("empty.parquet", b"", "empty.parquet is empty; expected a data set"),
        ("torn.parquet", b"PAR1 and then nothing", "torn.parquet is damaged"),
        ("text.parquet", b"hello", "text.parquet starts with"),
    ],
)
@pytest.mark.parametrize("command", ["vision", "lm", "pretrain", "sft", "eval"])
def test_a_data_file_that_is_missing_empty_or_damaged_is_an_error(
    parts, tiny_run, tmp_path, capsys, command, name, content, message
):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    data, out = ["--data", tmp_path / name], ["--out", tmp_path / "out" / "run"]
    flags = {
        "vision": (train_vision.main, *data, *out),
        "lm": (train_lm.main, *data, *out),
        "pretrain": (train_pretrain.main, *data, *parts),
        "sft": (train_sft.main, *data, *out, "--from", tiny_run),
        "eval": (eval_vlm.main, *data, "--weights", tiny_run),
    }[command]
    assert message in refused(capsys, *flags)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_script_itself_ends_with_status_1_a_message_and_no_traceback(tmp_path):
    """Once through a process of its own, as a user runs it; the other tests call main()."""
    flags = ["--data", "none.jsonl", "--llm", "random", "--vision", str(write_encoder(tmp_path / "vision"))]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, str(ROOT / "train_pretrain.py"), *flags], cwd=tmp_path, env=environment,
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.startswith("error: none.jsonl does not exist")


# rows and pictures


def jpeg(seed: int = 0, mode: str = "RGB") -> bytes:
    noise = np.random.default_rng(seed).integers(0, 255, (64, 64, 4 if mode == "CMYK" else 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise, mode).save(file, "JPEG")
    return file.getvalue()


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def row(**fields) -> dict:
    return {"conversations": conversation("红色。它是红色的。"), **fields}


BAD_ROWS = {
    "row is not JSON": "{not json",
    "row is not an object": [1, 2],
    "row has no conversation": {"image": "0.png"},
    "row has no answer": {**row(image="0.png"), "conversations": conversation("x")[:1]},
    "answer is empty": {**row(image="0.png"), "conversations": conversation("  ")},
    "image file is missing": row(image="none.png"),
    "image path leaves the image folder": row(image="../secret.png"),
    "image tags and images disagree": row(),
}
BAD_PICTURES = {
    "image has zero bytes": b"",
    "image is damaged": jpeg()[:900],
    "not an image": b"this is no picture at all",
}


def bad_data(folder: Path, bad: dict, good: int = 57) -> tuple[Path, list[str]]:
    """A JSONL file whose first lines are bad, and the reasons."""
    (folder / "images").mkdir(parents=True)
    (folder / "secret.png").write_bytes(png())
    lines = []
    for i, (_reason, what) in enumerate(bad.items()):
        if isinstance(what, bytes):
            (folder / "images" / f"bad{i}.png").write_bytes(what)
            what = row(image=f"bad{i}.png")
        lines.append(what)
    return write_jsonl(folder, good, tuple(lines)), list(bad)


def reported(run_folder: Path) -> dict[str, dict]:
    return json.loads((run_folder / "bad_rows.json").read_text("utf-8"))


@pytest.mark.parametrize("command", ["pretrain", "sft", "vision"])
def test_bad_rows_are_named_and_skipped_up_to_the_limit(parts, tiny, tiny_run, tmp_path, capsys, command):
    """Rows are judged when the data is looked through, pictures when they are opened; bad_rows.json names each."""
    data, reasons = bad_data(tmp_path / "d", BAD_ROWS | BAD_PICTURES)
    valid = write_jsonl(tmp_path / "d", 6, name="valid.jsonl")  # so that every row of the other file is trained on
    out = tmp_path / "out" / "run"
    flags = ["--data", data, "--images", tmp_path / "d" / "images", "--val_data", valid, "--max_bad", 0.2]
    if command == "pretrain":
        status, said = run(capsys, train_pretrain.main, *flags, *parts)
    elif command == "sft":
        status, said = run(capsys, train_sft.main, *flags, "--from", tiny_run, "--out", out, "--steps", 1,
                           "--batch_size", 99)  # fmt: skip
    else:
        status, said = run(capsys, train_vision.main, *flags, "--out", out, "--image_size", 32, "--patch_size", 8,
                           "--hidden_size", 64, "--layers", 1, "--steps", 1, "--batch_size", 99)  # fmt: skip
    assert (status, "Traceback" in said) == (0, False), said
    assert Run(out).is_finished()
    report = reported(out)
    assert set(report["reasons"]) == set(reasons)
    for number, reason in enumerate(reasons, 1):
        fault = report["reasons"][reason]
        assert fault["count"] == 1 and fault["examples"][0].startswith(f"data.jsonl:{number}")
    assert report["bad"] == len(reasons) and report["rows"] == 57 + len(reasons) + 6


@pytest.mark.parametrize("reason", [*BAD_ROWS, *BAD_PICTURES])
def test_more_bad_rows_than_allowed_stop_the_run_and_are_named(parts, tmp_path, capsys, reason):
    data, _ = bad_data(tmp_path / "d", {reason: (BAD_ROWS | BAD_PICTURES)[reason]}, good=60)
    valid = write_jsonl(tmp_path / "d", 3, name="valid.jsonl")
    message = refused(capsys, train_pretrain.main, "--data", data, "--images", tmp_path / "d" / "images", "--val_data",
                      valid, *parts)  # fmt: skip
    assert f"1 × {reason}: data.jsonl:1" in message
    assert "1 of 6" in message and "more than the 1.00% allowed" in message and "--max_bad" in message
    out = tmp_path / "out" / "run"
    assert not Run(out).is_finished()
    if reason in ("image is damaged", "not an image"):  # found while the run was under way
        assert set(reported(out)["reasons"]) == {reason}


CHANGES = {
    "image file is missing": lambda folder: (folder / "images" / "7.png").unlink(),
    "image is not the one that was encoded": lambda folder: (folder / "images" / "7.png").write_bytes(png((1, 2, 3))),
    "row is not JSON": lambda folder: os.truncate(folder / "data.jsonl", (folder / "data.jsonl").stat().st_size - 9),
}


@pytest.mark.parametrize("allowed", [0.1, 0.01])
@pytest.mark.parametrize("reason", CHANGES)
def test_a_row_that_becomes_bad_while_training_counts_as_bad(parts, tmp_path, capsys, monkeypatch, reason, allowed):
    data = write_jsonl(tmp_path / "d", 20)
    valid = write_jsonl(tmp_path / "d", 3, name="valid.jsonl")
    fit = engine.trainer.fit
    monkeypatch.setattr(engine.trainer, "fit", lambda *given: (CHANGES[reason](tmp_path / "d"), fit(*given))[1])
    status, said = run(capsys, train_pretrain.main, "--data", data, "--images", tmp_path / "d" / "images", "--val_data",
                       valid, "--max_bad", allowed, *parts)  # fmt: skip
    row = "data.jsonl:20" if "JSON" in reason else "data.jsonl:8"
    assert "Traceback" not in said and status == (0 if allowed == 0.1 else 1), said
    assert status == 0 or f"error: 1 of 23 rows are bad (4.35%) and left out.\n  1 × {reason}: {row}" in said
    found = reported(tmp_path / "out" / "run")
    assert found["bad"] == 1 and found["reasons"][reason]["examples"][0].startswith(row)


def test_a_bad_row_among_the_validation_rows_does_not_end_a_run_that_is_done(parts, tmp_path, capsys):
    """The samples at the end are made of validation rows: those that can be used."""
    data = write_jsonl(tmp_path / "d", 100)
    bad = {**BAD_ROWS, **BAD_PICTURES}
    valid, _ = bad_data(tmp_path / "v", bad, good=6)
    for i in range(6):
        shutil.copy(tmp_path / "v" / "images" / f"{i}.png", tmp_path / "d" / "images" / f"{i}.png")
    for broken in (tmp_path / "v" / "images").glob("bad*"):
        shutil.copy(broken, tmp_path / "d" / "images")
    status, said = run(capsys, train_pretrain.main, "--data", data, "--images", tmp_path / "d" / "images",
                       "--val_data", valid, "--max_bad", 0.3, *parts)  # fmt: skip
    assert status == 0, said
    samples = json.loads((tmp_path / "out" / "run" / "samples.json").read_text("utf-8"))["samples"]
    assert 4 <= len(samples) <= 8
    assert {sample["reference"] for sample in samples} <= {f"{c}。它是{c}的。" for c in COLOURS}


STRANGE = {
    "cmyk.jpg": lambda: jpeg(1, "CMYK"),
    "palette.gif": lambda: encoded(Image.new("P", (20, 20), 3), "GIF"),
    "deep.png": lambda: encoded(Image.fromarray(np.full((9, 9), 40_000, np.uint16)), "PNG"),
    "moving.gif": lambda: encoded(Image.new("P", (9, 9), 1), "GIF", save_all=True,
                                  append_images=[Image.new("P", (9, 9), 2)]),
    "dot.png": lambda: png(size=(1, 1)),
    "wide.png": lambda: encoded(Image.new("L", (20_000, 40), 99), "PNG"),
    "clear.png": lambda: encoded(Image.new("RGBA", (9, 9), (9, 9, 9, 0)), "PNG"),
}  # fmt: skip


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_strange_pictures_are_read_and_no_row_of_them_is_lost(parts, tmp_path, capsys, kind):
    pictures = {name: make() for name, make in STRANGE.items()}
    if kind == "jsonl":
        (tmp_path / "d" / "images").mkdir(parents=True)
        for name, content in pictures.items():
            (tmp_path / "d" / "images" / name).write_bytes(content)
        data = ["--data", write_jsonl(tmp_path / "d", 21, tuple(row(image=name) for name in pictures)), "--images",
                tmp_path / "d" / "images"]  # fmt: skip
    else:
        extra = tuple({"conversations": json.dumps(conversation("红。")), "image_bytes": [content], "label": None}
                      for content in pictures.values())  # fmt: skip
        data = ["--data", write_parquet(tmp_path / "d.parquet", 21, extra)]
    status, said = run(capsys, train_pretrain.main, *data, *parts, "--max_bad", 0)
    assert status == 0, said
    report = reported(tmp_path / "out" / "run")
    assert report["bad"] == 0 and report["rows"] == 28 and not report["reasons"]


def test_where_every_row_is_bad_even_a_limit_of_all_is_an_error(parts, tmp_path, capsys):
    data, _ = bad_data(tmp_path / "d", BAD_ROWS, good=0)
    message = refused(capsys, train_pretrain.main, "--data", data, "--images", tmp_path / "d" / "images",
                      "--max_bad", 1, *parts)  # fmt: skip
    assert "no row can be trained on" in message and "row is not JSON" in message


def test_where_no_picture_can_be_read_it_is_an_error_not_an_endless_search(parts, tmp_path, capsys):
    (tmp_path / "d" / "images").mkdir(parents=True)
    (tmp_path / "d" / "images" / "x.png").write_bytes(b"no picture")
    data = write_jsonl(tmp_path / "d", 0, (row(image="x.png"),) * 30)
    message = refused(capsys, train_pretrain.main, "--data", data, "--images", tmp_path / "d" / "images",
                      "--max_bad", 1, *parts)  # fmt: skip
    assert "no batch has a picture that can be read" in message


# flags


@pytest.mark.parametrize(
    "main, flags, message",
    [
        (train_pretrain.main, ["--projektor", "ldp"], "did you mean --projector?"),
        (train_pretrain.main, ["--proj", "ldp"], "no flag is called --proj"),
        (train_pretrain.main, ["--projector", "conv"], "expected one of linear, mlp, ldp"),
        (train_pretrain.main, ["--batch_size", "many"], "found 'many', expected a whole number"),
        (train_pretrain.main, ["--batch_size", "0"], "--batch_size 0: expected 1 or more"),
        (train_pretrain.main, ["--learning_rate", "nan"], "expected"),
        (train_pretrain.main, ["--max_bad", "3"], "--max_bad 3.0: expected a share from 0 to 1"),
        (train_pretrain.main, ["--stage", "1"], "it is a flag of train_sft.py"),
        (train_sft.main, ["--stage", "4"], "expected one of 1, 2, 3"),
        (train_sft.main, ["--images", "d"], "there is no --data"),
        (train_sft.main, ["--val_data", "v.jsonl"], "there is no --data"),
        (train_vision.main, ["--image_size", "100"], "expected a multiple of a power of two"),
        (train_vision.main, ["--hidden_size", "100"], "expected a multiple of 64"),
        (train_lm.main, ["--projector", "ldp"], "no flag is called --projector"),
        (train_lm.main, ["--use_wandb", "False"], "--use_wandb takes no value; leave it out"),
    ],
)
def test_wrong_flags_end_with_status_2_and_say_what_is_wrong(capsys, tmp_path, monkeypatch, main, flags, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        main(flags)
    said = capsys.readouterr().err
    assert end.value.code == 2 and message in said
    assert not files_in(tmp_path)


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--device", "cuda:77"], "--device cuda:77: not on this machine, which has cpu"),
        (["--train", "projector,head"], "--train head: no weight is named 'head'"),
        (["--train", "llm.layers.9"], "a layer of the language model is llm.layers.0 to llm.layers.1"),
    ],
)
def test_flags_that_cannot_be_followed_are_refused_in_words(parts, tmp_path, capsys, flags, message):
    small = ["--samples", 8, "--scenes", 4]
    given = [*parts, *small, *flags]
    capsys.readouterr()
    status = guarded(lambda: train_pretrain.main([str(flag) for flag in given]))
    assert status == 1 and message in capsys.readouterr().err
    assert not (tmp_path / "out" / "run" / "training_state.safetensors").exists()


def test_an_image_folder_that_is_not_there_is_said_before_every_row_is_found_bad(parts, tiny, tmp_path, capsys):
    message = refused(capsys, train_pretrain.main, "--data", tiny / "data.jsonl", "--images", tmp_path / "gone", *parts)
    assert "--images" in message and "no such folder" in message


# parts that do not fit


def test_a_vision_folder_that_is_none_is_refused(tiny, tmp_path, capsys):
    other = tmp_path / "other"
    other.mkdir()
    (other / "readme.txt").write_text("nothing")
    bert = tmp_path / "bert"
    bert.mkdir()
    write_json(bert / "config.json", {"model_type": "bert"})
    shutil.copy(tiny / "vision" / "model.safetensors", bert)
    data = ["--data", tiny / "data.jsonl", "--images", tiny / "images", "--llm", tiny / "lm", "--out", tmp_path / "o"]
    for folder, message in (
        (tmp_path / "gone", "no such folder, expected one of a vision encoder"),
        (other, "expected config.json and model.safetensors of a vision encoder"),
        (tiny / "images", "expected config.json and model.safetensors of a vision encoder"),
        (bert, "found model_type 'bert', expected one of"),
        (tiny / "lm", "VisionConfig"),
    ):
        assert message in refused(capsys, train_pretrain.main, *data, "--vision", folder)
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"do_resize": False}, "do_resize is false"),
        ({"size": "large"}, "size"),
        ({"size": {"shortest_edge": 48}, "crop_size": {"height": 48, "width": 48}}, "takes 32x32"),
        ({"image_mean": [0.5]}, "image_mean"),
    ],
)
def test_preprocessing_that_does_not_fit_its_encoder_is_refused(tiny, tmp_path, capsys, settings, message):
    vision = shutil.copytree(tiny / "vision", tmp_path / "vision")
    file = vision / "preprocessor_config.json"
    write_json(file, json.loads(file.read_text()) | settings)
    said = refused(capsys, train_pretrain.main, "--data", tiny / "data.jsonl", "--images", tiny / "images", "--llm",
                   tiny / "lm", "--vision", vision, "--out", tmp_path / "o")  # fmt: skip
    assert "preprocessor_config.json" in said and message in said


def test_a_projector_that_was_trained_with_another_encoder_is_refused(tiny, tiny_run, tmp_path, capsys):
    """Both an encoder of another size and one of the same size with other weights: nothing would fail by itself."""
    data = ["--data", tiny / "data.jsonl", "--images", tiny / "images", "--from", tiny_run, "--out", tmp_path / "o"]
    for other in (write_encoder(tmp_path / "same", seed=7), write_encoder(tmp_path / "wide", width=128)):
        message = refused(capsys, train_sft.main, *data, "--vision", other)
        assert "was trained with the encoder" in message and f"{other} now holds" in message and "--vision" in message
        message = refused(capsys, eval_vlm.main, "--split", "val", "--n", 1, "--weights", tiny_run, "--vision", other)
        assert "was trained with the encoder" in message
    assert not (tmp_path / "o").exists()


def test_a_checkpoint_whose_projector_does_not_fit_it_is_refused(tiny, tiny_run, tmp_path, capsys):
    broken = shutil.copytree(tiny_run, tmp_path / "broken")
    config = json.loads((broken / "config.json").read_text())
    config["projector"]["kind"] = "mlp"
    write_json(broken / "config.json", config)
    data = ["--data", tiny / "data.jsonl", "--images", tiny / "images", "--out", tmp_path / "o"]
    message = refused(capsys, train_sft.main, *data, "--from", broken)
    assert "do not fit" in message and "unexpected: projector.depthwise" in message
    config["projector"] |= {"kind": "ldp", "out_features": 48}
    write_json(broken / "config.json", config)
    assert "the projector gives width 48" in refused(capsys, train_sft.main, *data, "--from", broken)


def test_a_run_to_go_on_from_that_is_none_is_refused(tiny, tmp_path, capsys):
    data = ["--data", tiny / "data.jsonl", "--images", tiny / "images", "--out", tmp_path / "o"]
    assert "check the path" in refused(capsys, train_sft.main, *data, "--from", tmp_path / "gone")
    assert "no run.json" in refused(capsys, train_sft.main, *data, "--from", tiny / "lm")
    message = refused(capsys, train_pretrain.main, *data, "--vision", tiny / "vision", "--llm", tmp_path / "gone.pth")
    assert "gone.pth" in message and "check the path" in message


def test_a_language_models_run_cannot_be_fine_tuned_on_pictures(tiny, tmp_path, capsys):
    lm = tmp_path / "lm"
    texts = write_parquet(tmp_path / "d.parquet", 20)
    assert run(capsys, train_lm.main, "--data", texts, "--llm", tiny / "lm", "--out", lm, "--steps", 1)[0] == 0
    message = refused(capsys, train_sft.main, "--data", texts, "--from", lm, "--out", tmp_path / "o")
    assert "is a language model's run and sees nothing" in message


@pytest.fixture(scope="module")
def other_tokenizer(tmp_path_factory) -> Path:
    """The repo's tokenizer with two ordinary tokens exchanged: the same size, other texts."""
    folder = tmp_path_factory.mktemp("tokenizer")
    data = json.loads((default_folder() / "tokenizer.json").read_text("utf-8"))
    vocabulary = data["model"]["vocab"]
    one, other = [name for name, number in vocabulary.items() if number in (1000, 1001)]
    vocabulary[one], vocabulary[other] = vocabulary[other], vocabulary[one]
    (folder / "tokenizer.json").write_text(json.dumps(data), encoding="utf-8")
    return folder


def test_a_tokenizer_that_does_not_fit_the_model_is_refused(tiny, tiny_run, other_tokenizer, tmp_path, capsys):
    data = ["--data", tiny / "data.jsonl", "--images", tiny / "images", "--out", tmp_path / "o"]
    small = write_language(tmp_path / "small", vocab_size=500)
    message = refused(capsys, train_pretrain.main, *data, "--vision", tiny / "vision", "--llm", small)
    assert "small knows 500 tokens, the tokenizer has 6400" in message and "--tokenizer" in message
    message = refused(capsys, train_sft.main, *data, "--from", tiny_run, "--tokenizer", other_tokenizer)
    assert "was trained with another tokenizer" in message and "leave --tokenizer out" in message
    message = refused(capsys, train_sft.main, *data, "--from", tiny_run, "--tokenizer", tmp_path / "gone")
    assert "does not exist" in message
    assert not (tmp_path / "o").exists()


def test_a_run_whose_tokenizer_was_exchanged_is_refused(tiny_run, other_tokenizer, tmp_path, capsys):
    broken = shutil.copytree(tiny_run, tmp_path / "broken")
    shutil.copy(other_tokenizer / "tokenizer.json", broken)
    message = refused(capsys, eval_vlm.main, "--split", "val", "--n", 1, "--weights", broken)
    assert "was trained with another tokenizer" in message


def test_a_language_model_without_a_tokenizer_is_not_given_just_any(tiny, tmp_path, capsys):
    """The repo's own has as many tokens as MiniMind2's, so nothing else would tell that it is the wrong one."""
    bare = write_language(tmp_path / "bare", with_tokenizer=False)
    data = ["--data", tiny / "data.jsonl", "--images", tiny / "images", "--vision", tiny / "vision", "--out",
            tmp_path / "o", "--steps", 1]  # fmt: skip
    message = refused(capsys, train_pretrain.main, *data, "--llm", bare)
    assert "found no tokenizer.json" in message and "--tokenizer" in message
    assert "found no tokenizer.json" in refused(capsys, train_pretrain.main, *data, "--llm", bare / "model.safetensors")
    status, said = run(capsys, train_pretrain.main, *data, "--llm", bare, "--tokenizer", default_folder())
    assert status == 0, said


def test_a_torn_checkpoint_is_refused(tiny, tiny_run, tmp_path, capsys):
    torn = shutil.copytree(tiny_run, tmp_path / "torn")
    content = (torn / "model.safetensors").read_bytes()
    (torn / "model.safetensors").write_bytes(content[: len(content) // 2])
    message = refused(capsys, eval_vlm.main, "--split", "val", "--n", 1, "--weights", torn)
    assert "cannot be read as weights" in message and "model.safetensors" in message


def test_answers_longer_than_a_models_positions_are_cut_not_a_crash(tiny, tmp_path, capsys):
    """--max_seq_len is a wish; a model that was made for fewer positions gets no more than it can take."""
    long = {"conversations": conversation("红色的。" * 900), "image": "0.png"}
    data = write_jsonl(tmp_path / "d", 30, (long,) * 3)
    status, said = run(capsys, train_pretrain.main, "--data", data, "--images", tmp_path / "d" / "images", "--llm",
                       tiny / "lm", "--vision", tiny / "vision", "--out", tmp_path / "o", "--steps", 1, "--batch_size",
                       99, "--max_seq_len", 4000)  # fmt: skip
    assert status == 0, said


# how a command ends


@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_command_with_its_name_and_how_to_go_on(capsys, number, status):
    assert guarded(lambda: os.kill(os.getpid(), number), "repeat the command") == status
    assert capsys.readouterr().err == f"\n{number.name}; repeat the command\n"
    assert guarded(lambda: os.kill(os.getpid(), number)) == status
    assert capsys.readouterr().err == f"\n{number.name}\n"


def test_a_reader_who_closes_the_pipe_is_no_error():
    """As `eval_vlm.py ... | head -1` does."""
    code = "from engine.command import guarded; guarded(lambda: [print(i) for i in range(100_000)])"
    command = f"{sys.executable} -c '{code}' | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, cwd=ROOT)
    assert (done.stdout, done.stderr) == ("0\n", "")


def test_a_fault_of_the_program_keeps_its_traceback(capsys):
    def fault():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        guarded(fault)
