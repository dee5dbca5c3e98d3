from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from model.checkpoints import (
    WeightsError,
    fingerprint,
    load_language,
    load_vision,
    load_vlm,
    save_vision,
    save_vlm,
    write_json,
)
from model.checkpoints.strict import load_strict
from model.config import LMConfig, ProjectorConfig, VisionConfig, VLMConfig
from model.language import LanguageModel
from model.vision import VisionTransformer
from model.vlm import VLM

LM = LMConfig(32, 2, 8, 2, 48, 60)
VISION = VisionConfig(24, 32, 2, 2, 32, 8)
CONFIG = VLMConfig(LM, VISION, ProjectorConfig("ldp", 24, 32))


def seeded(config: VLMConfig = CONFIG) -> VLM:
    torch.manual_seed(0)
    return VLM(config, VisionTransformer(config.vision))


def same_weights(a, b) -> bool:
    one, other = a.state_dict(), b.state_dict()
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def rewrite(folder: Path, change) -> None:
    """model.safetensors in `folder`, changed by change(tensors)."""
    tensors = load_file(folder / "model.safetensors")
    changed = change(tensors)
    save_file(tensors if changed is None else changed, folder / "model.safetensors", {"format": "pt"})


def test_a_folder_gives_back_every_weight(tmp_path):
    vlm = seeded()
    save_vlm(tmp_path / "with", vlm, with_vision=True)
    save_vlm(tmp_path / "without", vlm)
    assert same_weights(load_vlm(tmp_path / "with"), vlm)
    assert same_weights(load_vlm(tmp_path / "without", vlm.vision), vlm)
    assert load_vlm(tmp_path / "without").vision is None
    assert same_weights(load_language(tmp_path / "without"), vlm.llm)
    with pytest.warns(UserWarning, match="no preprocessor_config.json"):
        assert same_weights(load_vision(tmp_path / "with")[0], vlm.vision)


def test_int8_rounds_to_half_a_scale_and_shrinks_the_file(tmp_path):
    """Half a scale is the most that rounding changes; rows of zeros and of whole scales stay what they were."""
    vlm = seeded()
    matrix = vlm.llm.model.layers[0].self_attn.q_proj.weight
    with torch.no_grad():
        matrix[0] = 0
        matrix[1] = torch.arange(matrix.shape[1]) % 255 - 127.0
    save_vlm(tmp_path / "fp32", vlm)
    save_vlm(tmp_path / "int8", vlm, int8=True)
    small, large = ((tmp_path / name / "model.safetensors").stat().st_size for name in ("int8", "fp32"))
    assert small < 0.4 * large  # names and scales weigh more in a tiny model
    loaded = load_vlm(tmp_path / "int8", vlm.vision)
    assert torch.equal(loaded.llm.model.layers[0].self_attn.q_proj.weight[:2], matrix[:2])
    for (name, ours), theirs in zip(vlm.llm.named_parameters(), loaded.llm.parameters(), strict=True):
        assert theirs.dtype == torch.float32
        rows = ours.flatten(1) if ours.dim() == 2 else None
        bound = 0 if rows is None else rows.abs().amax(dim=1, keepdim=True) / 254 * (1 + 1e-5)
        assert ((theirs - ours).abs() <= bound).all(), name
    assert same_weights(load_language(tmp_path / "int8"), loaded.llm)


@pytest.mark.parametrize("scale", [None, torch.ones(3)])
def test_int8_without_its_scales_is_refused(tmp_path, scale):
    save_vlm(tmp_path, seeded(), int8=True)
    name = "llm.model.layers.0.self_attn.q_proj.weight.int8_scale"
    rewrite(tmp_path, lambda tensors: {k: v for k, v in (tensors | {name: scale}).items() if v is not None})
    with pytest.raises(WeightsError, match=f"model.safetensors: {name}: found"):
        load_language(tmp_path)


@pytest.mark.parametrize("change, said", [
    (lambda x: x.to(torch.uint8), r"not floating point: {name} \(torch.uint8\)"),
    (lambda x: x > 0, r"not floating point: {name} \(torch.bool\)"),
    (lambda x: x.to(torch.complex64), r"not floating point: {name} \(torch.complex64\)"),
    (lambda x: x * torch.nan, "not finite: {name}"),
    (lambda x: x + torch.where(torch.arange(len(x)) == 1, torch.inf, 0), "not finite: {name}"),
], ids=["uint8", "bool", "complex", "nan", "one-inf"])  # fmt: skip
def test_tensors_that_are_no_weights_are_refused_by_name(tmp_path, change, said):
    save_vlm(tmp_path, seeded())
    name = "llm.model.norm.weight"
    rewrite(tmp_path, lambda tensors: tensors | {name: change(tensors[name])})
    with pytest.raises(WeightsError, match=said.format(name=name)):
        load_language(tmp_path)


def test_a_language_only_folder_loads(tmp_path):
    vlm = VLM(VLMConfig(LM))
    save_vlm(tmp_path, vlm)
    assert same_weights(load_language(tmp_path), vlm.llm)
    assert load_vlm(tmp_path).projector is None


def test_loaded_weights_can_be_trained(tmp_path):
    save_vlm(tmp_path, seeded(), with_vision=True)
    assert all(
        parameter.requires_grad and not parameter.is_meta for parameter in load_vlm(tmp_path).parameters()
    )


def test_an_encoder_folder_round_trips_with_its_settings(tmp_path):
    vision = VisionTransformer(
        replace(VISION, stem="conv", class_token=False, pre_norm=False, hidden_act="gelu")
    )
    save_vision(tmp_path, vision, {"image_mean": [0.5, 0.5, 0.5]})
    loaded, preprocess = load_vision(tmp_path)
    assert loaded.config == vision.config and same_weights(loaded, vision)
    assert preprocess == {"image_mean": [0.5, 0.5, 0.5]}


def test_another_encoder_than_the_trained_one_is_refused(tmp_path):
    save_vlm(tmp_path, seeded())
    with pytest.raises(WeightsError, match="was trained with the encoder"):
        load_vlm(tmp_path, VisionTransformer(replace(VISION, num_hidden_layers=1)))


def test_another_version_is_refused_by_name(tmp_path):
    save_vlm(tmp_path, seeded())
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["format"] == "glimpse" and config["format_version"] == 1
    write_json(tmp_path / "config.json", {**config, "format_version": 2})
    with pytest.raises(WeightsError, match="found format_version 2, expected 1"):
        load_vlm(tmp_path)


def test_a_strange_config_key_is_named(tmp_path):
    save_vlm(tmp_path, seeded())
    config = json.loads((tmp_path / "config.json").read_text())
    config["lm"]["dropout"] = 0.1
    write_json(tmp_path / "config.json", config)
    with pytest.raises(WeightsError, match=r"config.json: LMConfig: unknown keys \['dropout'\]"):
        load_vlm(tmp_path)


@pytest.mark.parametrize("load", [load_vlm, load_language])
def test_missing_unexpected_and_misshaped_keys_are_all_named(tmp_path, load):
    save_vlm(tmp_path, seeded())

    def spoil(tensors):
        del tensors["llm.model.norm.weight"]
        tensors["llm.model.layers.0.self_attn.q_norm.weight"] = torch.ones(4)
        tensors["llm.model.layers.1.mlp.up_proj.weight"] = torch.zeros(47, 32)

    rewrite(tmp_path, spoil)
    with pytest.raises(WeightsError) as error:
        load(tmp_path)
    text = str(error.value)
    assert str(tmp_path / "model.safetensors") in text
    assert "missing: llm.model.norm.weight" in text
    assert "unexpected: llm.model.layers.0.self_attn.q_norm.weight" in text
    assert "llm.model.layers.1.mlp.up_proj.weight (found (47, 32), expected (48, 32))" in text


def test_loaded_weights_share_no_memory_with_what_they_were_loaded_from():
    state = LanguageModel(LM).state_dict()
    model = load_strict(lambda: LanguageModel(LM), state, "here")
    before = fingerprint(model)
    for tensor in state.values():
        tensor.zero_()
    assert fingerprint(model) == before
