from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from engine_parts import prompt_batch
from safetensors.torch import load_file, save_file

from model.checkpoints import (
    WeightsError,
    load_language,
    load_vision,
    load_vlm,
    read_tensors,
    save_minimind_v,
    save_safetensors,
    save_vlm,
    write_json,
)
from model.checkpoints.llava import projector_activation
from model.checkpoints.vision_families import FORMATS, vision_config
from model.config import PROJECTORS, LMConfig, ProjectorConfig, VisionConfig, VLMConfig
from model.generation import generate
from model.language import LanguageModel
from model.vision import VisionTransformer
from model.vlm import VLM

TINY = Path(__file__).resolve().parents[3] / "shared" / "data" / "minimind_v_tiny"
needs_tiny = pytest.mark.skipif(
    not TINY.is_dir(), reason="../shared/data/minimind_v_tiny is not on this machine"
)

LM = LMConfig(32, 2, 8, 2, 48, 60)
VISION = VisionConfig(24, 32, 2, 2, 32, 8)
CONFIG = VLMConfig(LM, VISION, ProjectorConfig("ldp", 24, 32))


def seeded(config: VLMConfig = CONFIG) -> VLM:
    torch.manual_seed(0)
    return VLM(config, VisionTransformer(config.vision))


def same_weights(a, b) -> bool:
    one, other = a.state_dict(), b.state_dict()
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def clip_folder(folder: Path, kind: str):
    """A CLIP folder in `folder` as transformers writes it; returns their vision model."""
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    sizes |= {"image_size": 32, "patch_size": 8}
    torch.manual_seed(0)
    if kind == "vision":
        model = vision = transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**sizes))
    else:
        text = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
        text |= {"vocab_size": 9, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
        model = transformers.CLIPModel(transformers.CLIPConfig(vision_config=sizes, text_config=text))
        vision = model.vision_model
    model.save_pretrained(folder)
    write_json(folder / "preprocessor_config.json", {"size": {"shortest_edge": 32}})
    return vision.eval()


def rewrite(folder: Path, change) -> None:
    """model.safetensors in `folder`, changed by change(tensors)."""
    tensors = load_file(folder / "model.safetensors")
    changed = change(tensors)
    save_file(tensors if changed is None else changed, folder / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize("tied", [True, False])
def test_a_llama_folder_gives_llamas_logits(tmp_path, tied):
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=1,
        vocab_size=60,
        rms_norm_eps=1e-4,
        max_position_embeddings=77,
        tie_word_embeddings=tied,
        rope_parameters={"rope_type": "default", "rope_theta": 5000.0},
    )
    theirs = transformers.LlamaForCausalLM(config).eval()
    theirs.save_pretrained(tmp_path)
    check_against(theirs, load_language(tmp_path))
    assert load_language(tmp_path).config.max_position_embeddings == 77
    old_style = json.loads((tmp_path / "config.json").read_text())
    del old_style["rope_parameters"]
    write_json(tmp_path / "config.json", {**old_style, "rope_theta": 5000.0, "rope_scaling": None})
    check_against(theirs, load_language(tmp_path / "model.safetensors"))


def test_a_qwen2_folder_gives_qwen2s_logits(tmp_path):
    transformers = pytest.importorskip("transformers")
    config = transformers.Qwen2Config(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=60,
        tie_word_embeddings=True,
    )
    theirs = transformers.Qwen2ForCausalLM(config).eval()
    for name, parameter in theirs.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter)
    theirs.save_pretrained(tmp_path)
    check_against(theirs, load_language(tmp_path))


def check_against(theirs, ours) -> None:
    ids = torch.arange(40)[None] % 60
    with torch.no_grad():
        assert (ours.logits(ours(ours.embed(ids))) - theirs(ids).logits).abs().max() < 1e-4


@pytest.mark.parametrize(
    "change, message",
    [
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, r"'llama3' lacks \['low_freq_factor', 'high_"),
        ({"attention_bias": True}, "attention_bias True"),
        ({"hidden_act": "gelu"}, "hidden_act 'gelu'"),
        ({"head_dim": 16}, r"q_proj.weight \(found \(32, 32\), expected \(128, 32\)\)"),
        ({"model_type": "gpt2"}, "model_type 'gpt2'"),
        ({"hidden_size": 36}, "does not split"),
        ({"num_hidden_layers": 3}, "model.layers.2.mlp.up_proj.weight"),
        ({"vocab_size": 61}, r"model.embed_tokens.weight \(found \(60, 32\), expected \(61, 32\)\)"),
    ],
)
def test_a_llama_that_this_decoder_is_not_is_refused(tmp_path, change, message):
    config = {"model_type": "llama", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 8}
    config |= {
        "num_key_value_heads": 2,
        "intermediate_size": 48,
        "vocab_size": 60,
        "tie_word_embeddings": True,
    }
    save_safetensors(tmp_path / "model.safetensors", LanguageModel(LM).state_dict())
    write_json(tmp_path / "config.json", config)
    load_language(tmp_path)
    write_json(tmp_path / "config.json", {**config, **change})
    with pytest.raises(WeightsError, match=message):
        load_language(tmp_path)


def test_a_minimind_file_loads_by_name_without_a_config(tmp_path):
    model = LanguageModel(LM)
    state = {key: value.half() for key, value in model.state_dict().items()}
    state["lm_head.weight"] = state["model.embed_tokens.weight"].clone()
    state["model.freqs_cos"] = torch.zeros(3, 4)  # a table, not a weight
    torch.save(state, tmp_path / "full_sft_32.pth")
    loaded = load_language(tmp_path / "full_sft_32.pth")
    assert loaded.config == replace(LM, max_position_embeddings=8192)
    for key, value in loaded.state_dict().items():
        assert value.dtype == torch.float32 and torch.equal(value, state[key].float())


def test_a_tied_head_that_differs_is_refused(tmp_path):
    state = LanguageModel(LM).state_dict()
    torch.save({**state, "lm_head.weight": state["model.embed_tokens.weight"] + 1}, tmp_path / "odd.pth")
    with pytest.raises(WeightsError, match="lm_head.weight differs from model.embed_tokens.weight"):
        load_language(tmp_path / "odd.pth")


def test_other_names_in_a_pth_are_refused(tmp_path):
    torch.save({"tok_embeddings.weight": torch.zeros(3, 2)}, tmp_path / "old.pth")
    with pytest.raises(WeightsError, match="missing .*model.embed_tokens.weight.*such as .*tok_embeddings"):
        load_language(tmp_path / "old.pth")


def test_minimind_vs_key_table_works_both_ways(tmp_path):
    vlm = seeded(VLMConfig(LM, VISION, ProjectorConfig("linear", 24, 32)))
    save_minimind_v(tmp_path / "sft_vlm_32.pth", vlm)
    state = read_tensors(tmp_path / "sft_vlm_32.pth")
    projector = {"vision_proj.vision_proj.0.weight", "vision_proj.vision_proj.0.bias"}
    assert projector | {"lm_head.weight"} <= set(state)
    assert not any(key.startswith(("vision.", "llm.", "projector.")) for key in state)
    back = load_vlm(tmp_path / "sft_vlm_32.pth", vlm.vision)
    for (name, ours), theirs in zip(vlm.state_dict().items(), back.state_dict().values(), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-3), name
    assert same_weights(load_language(tmp_path / "sft_vlm_32.pth"), back.llm)


def test_what_minimind_v_cannot_hold_is_refused(tmp_path):
    with pytest.raises(ValueError, match="linear projector.*projector.linear_2.weight"):
        save_minimind_v(tmp_path / "a.pth", seeded())
    with pytest.raises(ValueError, match="no projector"):
        save_minimind_v(tmp_path / "a.pth", VLM(VLMConfig(LM)))


def test_only_projectors_that_llava_computes_are_exported(monkeypatch):
    assert projector_activation(ProjectorConfig("mlp", 24, 32)) == "gelu"
    assert projector_activation(ProjectorConfig("linear", 24, 32)) == "linear"
    monkeypatch.setitem(PROJECTORS, "norm", lambda patches: patches)
    for kind in ("ldp", "norm"):
        message = f"found the projector '{kind}', expected mlp or linear: .* train with --projector mlp"
        with pytest.raises(WeightsError, match=message):
            projector_activation(ProjectorConfig(kind, 24, 32))


@needs_tiny
def test_minimind_vs_own_answers_are_reproduced():
    numpy = pytest.importorskip("numpy")
    vision, preprocess = load_vision(TINY / "clip")
    vlm = load_vlm(TINY / "sft_vlm_64.pth", vision)
    with numpy.load(TINY / "reference.npz") as reference:
        wanted = {name: reference[name] for name in reference.files if name != "image"}
    ids, pixels = torch.from_numpy(wanted["input_ids"]), torch.from_numpy(wanted["pixel_values"])
    image_mask = ids == 34
    with torch.no_grad():
        features = vision.hidden_state(pixels)
        pictures = vlm.image_embeddings(pixels=pixels)
        logits = vlm.llm.logits(vlm.llm(vlm.embed(ids, image_mask, pictures)))[0]
    assert vlm.image_tokens == 196 == int(image_mask.sum())
    assert preprocess["crop_size"] == {"height": 224, "width": 224}
    assert (features[..., ::8] - torch.from_numpy(wanted["last_hidden_state"])).abs().max() < 1e-3
    assert (logits[-1] - torch.from_numpy(wanted["logits_last"])).abs().max() < 2e-3
    assert (logits[::8, ::16] - torch.from_numpy(wanted["logits_every8"])).abs().max() < 2e-3
    everything = torch.ones_like(image_mask)
    done = generate(vlm, prompt_batch(ids, everything, image_mask, pixels), max_new_tokens=16, end_id=-1)
    assert done.ids[0] == wanted["greedy"].tolist()


@needs_tiny
def test_minimind_vs_file_is_written_back_the_same(tmp_path):
    save_minimind_v(tmp_path / "again.pth", load_vlm(TINY / "sft_vlm_64.pth"))
    ours, theirs = read_tensors(tmp_path / "again.pth"), read_tensors(TINY / "sft_vlm_64.pth")
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.mark.parametrize("kind, prefixed", [("full", True), ("vision", True), ("vision", False)])
@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_every_form_of_a_clip_folder_gives_clips_features(tmp_path, kind, prefixed, file):
    theirs = clip_folder(tmp_path, kind)

    def form(tensors):
        if kind == "vision":
            bare = {key.removeprefix("vision_model."): value for key, value in tensors.items()}
            tensors = {("vision_model." if prefixed else "") + key: value for key, value in bare.items()}
        start = "vision_model." if prefixed else ""
        return {**tensors, start + "embeddings.position_ids": torch.arange(17)[None]}

    rewrite(tmp_path, form)
    if file == "pytorch_model.bin":
        torch.save(load_file(tmp_path / "model.safetensors"), tmp_path / file)
        (tmp_path / "model.safetensors").unlink()
    vision, preprocess = load_vision(tmp_path)
    pixels = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert (vision(pixels) - theirs(pixels).last_hidden_state[:, 1:]).abs().max() < 1e-4
    assert preprocess == {"size": {"shortest_edge": 32}}


def test_half_precision_becomes_fp32(tmp_path):
    clip_folder(tmp_path, "vision")
    rewrite(tmp_path, lambda tensors: {key: value.half() for key, value in tensors.items()})
    assert {parameter.dtype for parameter in load_vision(tmp_path)[0].parameters()} == {torch.float32}


def test_absent_fields_of_a_clip_config_take_hugging_faces_defaults(tmp_path):
    transformers = pytest.importorskip("transformers")
    theirs = transformers.CLIPVisionConfig()
    for document in ({"model_type": "clip_vision_model"}, {"model_type": "clip", "vision_config": {}}):
        ours = vision_config(document, "here")[1]
        for name in FORMATS["clip"].sizes:
            assert getattr(ours, name) == getattr(theirs, name)


@pytest.mark.parametrize(
    "key, message",
    [
        ("vision_model.encoder.layers.1.mlp.fc1.bias", "missing: vision_model.encoder.layers.1.mlp.fc1.bias"),
        (None, "unexpected: vision_model.encoder.layers.2.strange"),
    ],
)
def test_strange_keys_of_a_clip_are_named(tmp_path, key, message):
    clip_folder(tmp_path, "full")

    def spoil(tensors):
        if key:
            del tensors[key]
        else:
            tensors["vision_model.encoder.layers.2.strange"] = torch.zeros(1)

    rewrite(tmp_path, spoil)
    with pytest.raises(WeightsError, match=message):
        load_vision(tmp_path)


def test_a_wrong_patch_size_is_seen_in_the_shapes(tmp_path):
    clip_folder(tmp_path, "vision")
    config = json.loads((tmp_path / "config.json").read_text())
    write_json(tmp_path / "config.json", {**config, "patch_size": 16})
    with pytest.raises(WeightsError, match=r"patch_embedding.weight \(found \(24, 3, 8, 8\), expected"):
        load_vision(tmp_path)


def test_a_folder_that_is_no_vision_folder_is_refused(tmp_path):
    write_json(tmp_path / "config.json", {"model_type": "dinov2"})
    save_safetensors(tmp_path / "model.safetensors", {"a": torch.zeros(1)})
    with pytest.raises(WeightsError, match="found model_type 'dinov2', expected one of"):
        load_vision(tmp_path)
    save_vlm(tmp_path, VLM(VLMConfig(LM)))
    with pytest.raises(WeightsError, match="VisionConfig: found NoneType"):
        load_vision(tmp_path)
