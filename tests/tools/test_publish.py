"""A published run: complete, checked, loadable wherever it lies, with a card that says what its run says."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from tiny import QUICK

import eval_vlm
import train_pretrain
import train_sft
from engine.arguments import UsageError
from engine.build import load_trained
from engine.checkpoint import RunError
from engine.command import guarded
from model.checkpoints import fingerprint, read_json, read_tensors, save_hf_vision, save_safetensors, write_json
from model.checkpoints.vision_families import processor_settings
from model.config import VisionConfig
from model.vision import VisionTransformer
from tools import publish
from tools.model_card import Scores, measured, training

METRICS = {
    "chair_i": 0.25, "chair_i_ci95": [0.2, 0.3], "statement_accuracy": 0.9, "statement_accuracy_ci95": [0.8, 0.95],
    "blank_statement_accuracy": 0.1, "blank_statement_accuracy_ci95": [0.05, 0.2],
    "gain_over_blank/statement_accuracy": 0.8, "gain_over_blank/statement_accuracy_ci95": [0.7, 0.9],
}  # fmt: skip
NO_SIGHT = {"answers": 50, "gain_over_blank/statement_accuracy_ci95": [-0.1, 0.2]}


def scores_of(run: Path, file: Path, command: str = "python eval_vlm.py --split test --scores /a/b/c.json") -> Path:
    write_json(file, {"command": command, "n": 7, "seed": 42, "checkpoint": str(run), "metrics": METRICS})
    return file


@pytest.fixture(scope="module")
def run(tiny_run, tmp_path_factory) -> Path:
    """A copy of a finished run, with scores."""
    folder = tmp_path_factory.mktemp("published") / "pretrain"
    shutil.copytree(tiny_run, folder)
    scores_of(folder, folder / "scores.json")
    return folder


@pytest.fixture(scope="module")
def published(run) -> Path:
    """The folder that is made of it, moved."""
    publish.main([str(run), str(run.parent / "new"), "--license", "apache-2.0", "--datasets", "me/colours"])
    (run.parent / "elsewhere").mkdir()
    return Path(shutil.move(run.parent / "new", run.parent / "elsewhere" / "moved"))


def test_a_published_folder_that_was_moved_is_the_same_model_without_the_encoders_folder(run, published, tiny):
    before, after = load_trained(run), load_trained(published)
    assert fingerprint(after.model) == fingerprint(before.model)
    assert after.encoder.fingerprint == before.encoder.fingerprint and after.encoder.spec == before.encoder.spec
    assert after.tokenizer.fingerprint == before.tokenizer.fingerprint
    files = {file.name for file in published.iterdir()}
    assert not {"training_state.safetensors", "lock", "llava", "bad_rows.json"} & files


def test_eval_and_training_take_a_published_folder(published, tiny, tmp_path, capsys):
    picture = str(tiny / "images" / "0.png")
    assert guarded(lambda: eval_vlm.main(["--weights", str(published), "--image", picture, "--max_new_tokens", "2",
                                          "--page", str(tmp_path / "p.html")])) == 0  # fmt: skip
    said = capsys.readouterr().out
    assert "[Prompt]: 这是什么颜色？" in said and "[Image]: 0.png" in said
    for file in published.glob("captions_*"):
        file.unlink()
    data = ["--data", tiny / "data.jsonl", "--images", tiny / "images", "--steps", 1, "--batch_size", 4]
    train_sft.main([str(flag) for flag in ("--from", published, "--out", tmp_path / "sft1", *data, *QUICK)])
    assert (tmp_path / "sft1" / "finished.json").is_file()


def test_every_file_has_its_checksum(published):
    lines = (published / "SHA256SUMS").read_text("utf-8").splitlines()
    held = {name: digest for digest, name in (line.split("  ") for line in lines)}
    files = {file.name for file in published.iterdir() if not file.name.startswith("captions_")} - {"SHA256SUMS"}
    assert set(held) == files and {"README.md", "model.safetensors", "scores.json"} <= files
    assert all(hashlib.sha256((published / name).read_bytes()).hexdigest() == held[name] for name in held)


def test_nothing_in_it_names_a_folder_of_this_machine_or_shows_the_data(run, published, tiny):
    texts = [file.read_text("utf-8") for file in published.iterdir() if file.suffix in (".json", ".jsonl", ".md")]
    assert len(texts) > 6 and not [text for text in texts for folder in (tiny, run.parent) if str(folder) in text]
    assert not [text for text in texts if "/a/b" in text]
    kept = json.loads((published / "samples.json").read_text("utf-8"))
    assert kept == {"samples": [{"prompt": "<image>\n这是什么颜色？"}]}
    assert read_json(published / "run.json")["settings"]["data"] == "data.jsonl"


def test_the_card_has_what_a_hub_reads_and_what_the_run_says(published):
    card = (published / "README.md").read_text("utf-8")
    head = card.split("---\n")[1]
    for line in ("license: apache-2.0", "language:\n- zh", "datasets:\n- me/colours", "library_name: glimpse"):
        assert f"{line}\n" in head
    assert "test, 7 scored" in card and "0.900 [0.800, 0.950]" in card and "--scores c.json`" in card
    assert "0.900 [0.800, 0.950] with the picture, 0.100 [0.050, 0.200] with it blanked; seeing brings 0.800" in card
    assert "not in the picture: 0.250 [0.200, 0.300]" in card
    summary = read_json(published / "finished.json")
    assert re.search(rf"^\| pretrain +\| data.jsonl +\| [\d,]+ +\| {summary['steps']} ", card, re.MULTILINE)
    reason = re.search(r"There is no Hugging Face LLaVA of this model: (.*)", card)[1]
    assert "expected mlp or linear" in reason or "LLaVA's encoder is CLIP's or SigLIP's" in reason
    assert "rain with" not in reason  # what to do is for who publishes


def test_without_scores_the_card_claims_nothing(tiny_run, tmp_path, capsys):
    publish.main([str(tiny_run), str(tmp_path / "new"), "--name", "Colours"])
    said, card = capsys.readouterr().out, (tmp_path / "new" / "README.md").read_text("utf-8")
    assert "scores: none found for this run" in said and "licence: none stated" in said
    assert "# Colours" in card and "published without having been scored" in card
    assert "**Nothing was measured.**" in card
    assert "license:" not in card and "Licence: its publisher has stated none." in card


@pytest.mark.parametrize(("metrics", "said"), [
    ({"cider_d": 0.5}, "not scored with the picture blanked"),
    (METRICS | NO_SIGHT, "is as high with every picture blanked"),
])  # fmt: skip
def test_limits_say_what_was_not_measured_and_what_speaks_against_the_model(metrics, said):
    assert said in "\n".join(measured(Scores("scores", {"metrics": metrics})))


def test_what_cannot_be_published_is_refused_and_nothing_is_left(run, tmp_path):
    full = tmp_path / "full"
    full.mkdir()
    (full / "a").write_text("", "utf-8")
    unfinished = shutil.copytree(run, tmp_path / "unfinished")
    (unfinished / "finished.json").unlink()
    (tmp_path / "x.pth").write_bytes(b"")
    other = scores_of(tmp_path / "sft1", tmp_path / "other.json")
    write_json(tmp_path / "none.json", {"a": 1})
    for argv, error, message in (
        ([run, full], UsageError, "not an empty folder"),
        ([unfinished, tmp_path / "new"], RunError, "is not finished; repeat its command"),
        ([tmp_path / "x.pth", tmp_path / "new"], UsageError, "found a file"),
        ([full, tmp_path / "new"], RunError, "no run.json"),
        ([run, tmp_path / "new", "--scores", other], UsageError, "these are the scores of"),
        ([run, tmp_path / "new", "--scores", tmp_path / "none.json"], UsageError, "found no metrics in it"),
    ):
        with pytest.raises(error, match=message):
            publish.main([str(word) for word in argv])
    assert {file.name for file in tmp_path.iterdir()} == {"full", "none.json", "other.json", "unfinished", "x.pth"}
    assert [file.name for file in full.iterdir()] == ["a"]


def test_a_licence_that_could_break_the_cards_head_is_refused(run, tmp_path, capsys):
    with pytest.raises(SystemExit):
        publish.main([str(run), str(tmp_path / "new"), "--license", "mit\ntags: x"])
    assert "expected an identifier" in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_a_model_that_llava_can_express_lies_beside_it(tiny, tmp_path, capsys):
    torch.manual_seed(0)
    tower = VisionTransformer(VisionConfig(24, 32, 2, 2, 32, 8, post_norm="kept"))
    save_hf_vision(tmp_path / "clip", tower, processor_settings("clip", 32), "clip")
    flags = ["--data", tiny / "data.jsonl", "--images", tiny / "images", "--llm", tiny / "lm", "--vision",
             tmp_path / "clip", "--projector", "mlp", "--steps", 1, "--batch_size", 4]  # fmt: skip
    train_pretrain.main([str(flag) for flag in (*flags, "--out", tmp_path / "pretrain", *QUICK)])
    publish.main([str(tmp_path / "pretrain"), str(tmp_path / "new")])
    assert read_json(tmp_path / "new" / "llava" / "config.json")["model_type"] == "llava"
    assert "is in `llava/`" in (tmp_path / "new" / "README.md").read_text("utf-8")
    assert "  llava/model.safetensors\n" in (tmp_path / "new" / "SHA256SUMS").read_text("utf-8")
    assert f"LLaVA export: {tmp_path}/new/llava" in capsys.readouterr().out


def test_the_card_lists_the_runs_before_it_whose_weights_it_began_with(tiny, run, tmp_path):
    shutil.copytree(run, tmp_path / "pretrain")
    data = ["--data", tiny / "data.jsonl", "--images", tiny / "images", "--steps", 1, "--batch_size", 4]
    train_sft.main([str(flag) for flag in ("--stage", 1, "--runs", tmp_path, "--from", tmp_path / "pretrain", *data,
                                           *QUICK)])  # fmt: skip
    trained = load_trained(tmp_path / "sft1")
    assert [one.path.name for one in publish.history(trained)] == ["pretrain", "sft1"]
    weights = tmp_path / "pretrain" / "model.safetensors"
    tensors = read_tensors(weights)
    save_safetensors(weights, {name: tensor + 1 for name, tensor in tensors.items()})
    assert [one.path.name for one in publish.history(trained)] == ["sft1"]
    assert "`sft1` began from `pretrain`, of whose training no record was at hand" in training(publish.history(trained))
