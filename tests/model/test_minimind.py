"""MiniMind2-V in and out by commands: photo to answer, training from its files, and back to its format."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import QUICK, files_in, write_jsonl

import eval_vlm
import train_pretrain
import train_sft
from dataset.encoding import encode_prompt
from dataset.pictures import load_pixels
from dataset.record import IMAGE, Ask, Turn
from engine.build import get_encoder, load_trained
from engine.checkpoint import RunError
from engine.command import guarded
from engine.inference import Decoding, answer
from model.checkpoints import WeightsError, load_language, read_tensors
from model.checkpoints.minimind import minimind_config, save_minimind_v
from model.config import LMConfig, ProjectorConfig, VLMConfig
from model.language import LanguageModel
from model.vlm import VLM
from tokenizer.tokenizer import MINIMIND2_IMAGE_ID
from tools import export_minimind

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
TINY, TOKENIZER = DATA / "minimind_v_tiny", DATA / "minimind_tokenizer"
PTH = TINY / "sft_vlm_64.pth"
needs_data = pytest.mark.skipif(
    not (TINY.is_dir() and TOKENIZER.is_dir()), reason="../shared/data/minimind_v_tiny is not on this machine"
)
PARTS = ["--vision", str(TINY / "clip"), "--tokenizer", str(TOKENIZER)]
ON_CPU = ["--device", "cpu", "--dtype", "float32"]


@pytest.fixture(scope="module")
def reference() -> dict:
    with np.load(TINY / "reference.npz") as file:
        return {name: file[name] for name in file.files}


@pytest.fixture(scope="module")
def photo(reference) -> Path:
    return DATA / "photos" / str(reference["image"])


@needs_data
def test_our_preprocessing_of_the_photo_gives_minimind_vs_pixels(reference, photo):
    pixels = load_pixels([photo], get_encoder(str(TINY / "clip")).spec)
    assert np.abs(pixels - reference["pixel_values"]).max() < 0.02


@needs_data
def test_from_the_photo_to_minimind_vs_own_ids_and_answer(reference, photo):
    trained = load_trained(PTH, str(TINY / "clip"), str(TOKENIZER))
    turn = Turn("user", (IMAGE, "\n" + json.loads((TINY / "config.json").read_text("utf-8"))["prompt"]
                         .split("<image>\n")[1].split("<|im_end|>")[0]))  # fmt: skip
    assert trained.tokenizer.image_id == MINIMIND2_IMAGE_ID and trained.model.image_tokens == 196
    prompt = encode_prompt((turn,), trained.tokenizer, trained.model.image_tokens, (photo,))
    assert prompt.ids.tolist() == reference["input_ids"][0].tolist()

    def load(pictures):
        return {"pixels": torch.from_numpy(load_pixels(pictures, trained.encoder.spec))}

    ask = Ask((turn,), (photo,), "photo")
    [made] = answer(trained.model, trained.tokenizer, [ask], load, Decoding(max_new_tokens=16))
    assert made.text == trained.tokenizer.decode(reference["greedy"]).strip()


@needs_data
def test_eval_vlm_captions_with_minimind_vs_file(photo, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    flags = ["--image", str(photo), "--weights", str(PTH), *PARTS, "--max_new_tokens", "16", *ON_CPU]
    eval_vlm.main(flags)
    said = capsys.readouterr().out
    assert f"[Image]: {photo.name}\n🤖️: " in said and "[Prompt]: 描述一下这个图像的内容。" in said
    kept = json.loads((tmp_path / "out" / "sft_vlm_64" / f"captions_{photo.stem}.json").read_text("utf-8"))
    assert kept["captions"][0]["text"]
    assert not any("captions" in name for name in files_in(TINY))


@needs_data
def test_training_goes_on_from_minimind_vs_files_and_comes_back_to_its_format(tmp_path, capsys):
    data = write_jsonl(tmp_path, 24)
    rows = ["--data", str(data), "--images", str(tmp_path / "images"), *PARTS, *QUICK, "--steps", "1"]
    rows += ["--batch_size", "2"]
    sft, pretrain, out = tmp_path / "sft", tmp_path / "pretrain", tmp_path / "sft_vlm_64.pth"
    train_sft.main([*rows, "--stage", "1", "--from", str(PTH), "--out", str(sft)])
    export_minimind.main([str(sft), str(out)])
    assert "--hidden_size 64 --num_hidden_layers 2" in capsys.readouterr().out
    theirs, ours = read_tensors(PTH), read_tensors(out)
    kinds = [{name: (x.shape, x.dtype) for name, x in some.items()} for some in (ours, theirs)]
    assert kinds[0] == kinds[1]
    assert any(not torch.equal(ours[name], theirs[name]) for name in theirs)
    back, run = load_trained(out, *PARTS[1::2]).model.state_dict(), load_trained(sft).model.state_dict()
    assert all(torch.equal(back[name], run[name].half().float()) for name in run if not name.startswith("vision."))

    torch.save({name: x for name, x in theirs.items() if not name.startswith("vision_proj")}, tmp_path / "llm_64.pth")
    train_pretrain.main([*rows, "--llm", str(tmp_path / "llm_64.pth"), "--projector", "linear", "--out", str(pretrain)])
    export_minimind.main([str(pretrain), str(tmp_path / "pretrain_vlm_64.pth")])
    kept = read_tensors(tmp_path / "pretrain_vlm_64.pth")
    assert all(torch.equal(kept[name], theirs[name]) for name in theirs if not name.startswith("vision_proj"))


@needs_data
def test_the_file_alone_goes_through_the_command_unchanged(tmp_path):
    export_minimind.main([str(PTH), str(tmp_path / "again.pth"), *PARTS])
    ours, theirs = read_tensors(tmp_path / "again.pth"), read_tensors(PTH)
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


@needs_data
def test_what_a_weights_file_lacks_is_asked_for_by_name(tmp_path):
    with pytest.raises(RunError, match="sft_vlm_64.pth holds no image encoder; .* --vision"):
        load_trained(PTH)
    with pytest.raises(RunError, match="found no tokenizer.json there.* --tokenizer"):
        load_trained(PTH, str(TINY / "clip"))
    state = {name: x for name, x in read_tensors(PTH).items() if not name.startswith("vision_proj")}
    torch.save(state, tmp_path / "llm_64.pth")
    with pytest.raises(WeightsError, match="llm_64.pth: found no vision_proj.* --llm"):
        load_trained(tmp_path / "llm_64.pth", str(TINY / "clip"), str(TOKENIZER))
    short = {name: x[:99] if name in ("lm_head.weight", "model.embed_tokens.weight") else x
             for name, x in read_tensors(PTH).items()}  # fmt: skip
    torch.save(short, tmp_path / "short.pth")
    with pytest.raises(RunError, match="knows 99 tokens, the tokenizer has 6400"):
        load_trained(tmp_path / "short.pth", str(TINY / "clip"), str(TOKENIZER))


@pytest.mark.parametrize("hidden, layers, million", [(512, 8, 25.83), (768, 16, 104.03)])
def test_minimind2s_two_sizes_are_told_from_their_files(tmp_path, hidden, layers, million):
    inner = 64 * -(-int(hidden * 8 / 3) // 64)  # MiniMind2's rule
    config = LMConfig(hidden_size=hidden, num_hidden_layers=layers, intermediate_size=inner)
    with torch.device("meta"):
        model = LanguageModel(config)
    assert minimind_config(model.state_dict(), {}, "llm.pth") == config
    assert round(sum(p.numel() for p in model.parameters()) / 1e6, 2) == million


def test_a_512_wide_file_of_minimind2_loads_whole(tmp_path):
    model = LanguageModel(LMConfig(num_hidden_layers=1))
    state = {name: x.half() for name, x in model.state_dict().items()}
    torch.save({**state, "lm_head.weight": state["model.embed_tokens.weight"]}, tmp_path / "llm_512.pth")
    loaded = load_language(tmp_path / "llm_512.pth")
    assert loaded.config == model.config
    assert all(torch.equal(x, state[name].float()) for name, x in loaded.state_dict().items())


@pytest.mark.parametrize("change", [{"num_attention_heads": 4}, {"num_key_value_heads": 4}, {"rope_theta": 1e4}])
def test_numbers_that_minimind_vs_file_does_not_tell_must_be_minimind2s(change, tmp_path):
    lm = replace(LMConfig(64, 1, 8, 2, 64, 20), **change)
    vlm = VLM(VLMConfig(lm, projector=ProjectorConfig("linear", 768, 64)))
    with pytest.raises(WeightsError, match=f"does not tell {next(iter(change))}"):
        save_minimind_v(tmp_path / "sft_vlm_64.pth", vlm)
    assert not list(tmp_path.iterdir())


def test_a_run_that_minimind_vs_code_cannot_run_is_refused_in_words(tiny_run, tmp_path, capsys):
    run = shutil.copytree(tiny_run, tmp_path / "run")
    out = tmp_path / "sft_vlm_32.pth"
    assert guarded(lambda: export_minimind.main([str(run), str(out)])) == 1
    said = capsys.readouterr().err
    assert "MiniMind-V takes the last hidden state of a CLIP ViT-B/16" in said and "stem 'conv'" in said
    assert not out.exists()
    assert guarded(lambda: export_minimind.main([str(run), str(tmp_path / "a.bin")])) == 1
    assert "expected a file that ends in .pth" in capsys.readouterr().err
