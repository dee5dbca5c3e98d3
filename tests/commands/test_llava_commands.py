"""The LLaVA of published parts: a CLIP folder and a Qwen2.5 or Llama 3.2 folder become a VLM in two commands."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from families import write_clip, write_model
from tiny import QUICK, conversation, write_jsonl

import eval_vlm
import train_lm
import train_pretrain
import train_sft
from engine.build import get_tokenizer
from engine.checkpoint import RunError
from model.checkpoints import load_language, read_tensors
from tokenizer.tokenizer import default_folder, load_tokenizer

KEPT = ("tokenizer.json", "tokenizer_config.json", "generation_config.json")


def train(main, *flags) -> None:
    main([str(flag) for flag in (*flags, *QUICK, "--steps", "2", "--batch_size", "4", "--optimizer", "adamw")])


def weights(run: Path, prefix: str) -> dict[str, torch.Tensor]:
    return {k: v for k, v in read_tensors(run / "model.safetensors").items() if k.startswith(prefix)}


@pytest.mark.slow
@pytest.mark.parametrize("family", ["qwen2", "llama3"])
def test_two_commands_make_a_vlm_of_published_parts_and_the_run_is_all_that_evaluation_needs(tmp_path, family, capsys):
    pytest.importorskip("transformers")
    llm = write_model(tmp_path / "llm", family, shard="20KB")
    clip = write_clip(tmp_path / "clip")
    data = ["--data", write_jsonl(tmp_path / "data", 24), "--images", tmp_path / "data" / "images"]
    assert (llm / "model.safetensors.index.json").is_file()
    begun = {"llm." + name: tensor for name, tensor in load_language(llm).state_dict().items()}

    one, two = tmp_path / "out" / "llava1", tmp_path / "out" / "llava2"
    train(train_pretrain.main, "--llm", llm, "--vision", clip, "--projector", "mlp", *data, "--out", one)
    after = weights(one, "llm.")
    assert after.keys() == begun.keys() and all(torch.equal(after[name], begun[name]) for name in begun)
    for name in KEPT:
        assert (one / name).read_bytes() == (llm / name).read_bytes()

    shutil.rmtree(llm)
    train(train_sft.main, "--from", one, "--stage", 3, *data, "--out", two)
    trained, projector = weights(two, "llm."), weights(two, "projector.")
    assert not all(torch.equal(trained[name], begun[name]) for name in begun)
    assert not all(torch.equal(tensor, weights(one, "projector.")[name]) for name, tensor in projector.items())

    capsys.readouterr()
    scores = tmp_path / "scores.json"
    flags = ["--weights", two, *data, "--scores", scores, "--max_new_tokens", 3, "--device", "cpu"]
    eval_vlm.main([str(flag) for flag in flags])
    assert json.loads(scores.read_text("utf-8"))["n"] == 24
    tokenizer = load_tokenizer(two)
    assert tokenizer.template.name == {"llama3": "Llama 3"}.get(family, "ChatML")
    assert tokenizer.end_ids == load_tokenizer(one).end_ids and len(tokenizer.end_ids) > 1


def test_a_language_model_of_hugging_face_goes_on_learning_from_texts_alone(tmp_path):
    pytest.importorskip("transformers")
    llm = write_model(tmp_path / "llm", "llama3")
    texts = tmp_path / "texts.jsonl"
    row = {"conversations": conversation("蓝色。天是蓝色的。", "天是什么颜色？")}
    texts.write_text("\n".join(json.dumps(row) for _ in range(24)))
    train(train_lm.main, "--llm", llm, "--tokenizer", llm, "--data", texts, "--out", tmp_path / "lm")
    assert load_tokenizer(tmp_path / "lm").template == load_tokenizer(llm).template
    assert load_language(tmp_path / "lm").config == load_language(llm).config


def test_a_tokenizer_that_is_absent_or_larger_than_the_embedding_is_refused_before_anything_is_trained(tmp_path):
    pytest.importorskip("transformers")
    llm = write_model(tmp_path / "llm", "llama3")
    data = ["--data", write_jsonl(tmp_path / "data", 6), "--out", tmp_path / "run"]
    with pytest.raises(RunError, match=r"llm knows \d+ tokens, the tokenizer has 6400; give the model's own"):
        train(train_pretrain.main, "--llm", llm, "--tokenizer", default_folder(), *data)
    (llm / "tokenizer.json").unlink()
    with pytest.raises(RunError, match=r"llm: found no tokenizer.json there"):
        get_tokenizer("", llm)
    assert not (tmp_path / "run").exists()
