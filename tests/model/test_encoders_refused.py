"""Vision folders that cannot be read are refused in words: what was found, what was expected, what to do."""

from __future__ import annotations

import json
import re

import pytest
import torch
from encoders import FAMILIES, write_family
from safetensors.torch import load_file, save_file

from model.checkpoints import WeightsError, load_vision
from model.checkpoints.vision_families import vision_config
from model.config import LMConfig
from model.language import LanguageModel

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def refused(folder) -> str:
    with pytest.raises(WeightsError) as error:
        load_vision(folder)
    return str(error.value)


def rewrite(folder, change) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def test_an_unknown_model_type_lists_what_is_read():
    with pytest.raises(WeightsError) as error:
        vision_config({"model_type": "dinov2"}, "folder/config.json")
    assert str(error.value).startswith("folder/config.json: found model_type 'dinov2', expected one of")
    for name in ("'clip'", "'chinese_clip'", "'siglip'", "'internvl'", "'intern_vit_6b'", "SigLIP 2 (fixed"):
        assert name in str(error.value)


@pytest.mark.parametrize(
    "document, message",
    [
        ({"model_type": "siglip2"}, "a NaFlex SigLIP 2: its images keep their shape"),
        ({"model_type": "siglip2_vision_model", "num_patches": 256}, "take a SigLIP 2 of fixed resolution"),
        ({}, "found model_type None, expected one of"),
        ({"model_type": "intern_vit_6b"}, "found qk_normalization none, which means True, this encoder supports"),
        ({"model_type": "intern_vit_6b", "qk_normalization": False, "qkv_bias": True, "norm_type": "rms_norm"},
         "found norm_type 'rms_norm', this encoder supports only 'layer_norm' (as InternViT-300M has)"),
        ({"model_type": "internvl_vision"}, "found attention_bias none, which means False"),
        ({"model_type": "clip", "vision_config": 3}, "found vision_config 3, expected a JSON object"),
        ({"model_type": "clip", "vision_config": {"model_type": "siglip_vision_model"}},
         "found the vision half 'siglip_vision_model' in a 'clip' model, expected 'clip_vision_model'"),
        ({"model_type": "clip_vision_model", "num_channels": 1}, "found num_channels 1, this encoder supports only 3"),
        ({"model_type": "siglip_vision_model", "image_size": [224, 196]}, "found image_size [224, 196]"),
        ({"model_type": "siglip_vision_model", "hidden_act": "relu"}, "hidden_act: found 'relu'"),
        ({"model_type": "siglip_vision_model", "patch_size": 500}, "no patch of 500 fits"),
        ({"model_type": "internvl", "vision_config": {"attention_bias": True}, "downsample_ratio": 0.3},
         "found downsample_ratio 0.3"),
        ({"model_type": "internvl", "vision_config": {"attention_bias": True, "image_size": 42}},
         "a grid 3 wide does not split into blocks 2 wide"),
    ],
)  # fmt: skip
def test_configs_that_this_encoder_does_not_do_are_named(document, message):
    with pytest.raises(WeightsError, match=re.escape(message)) as error:
        vision_config(document, "folder/config.json")
    assert str(error.value).startswith("folder/config.json: ")


def test_an_early_clip_config_is_read_in_its_own_place():
    document = {"model_type": "clip", "vision_config": None, "vision_config_dict": {"patch_size": 16}}
    assert vision_config(document, "here")[1].patch_size == 16


@pytest.mark.parametrize("family", FAMILIES)
def test_missing_and_strange_keys_are_named_as_the_file_names_them(tmp_path, family):
    write_family(tmp_path, family, whole=True)
    names = list(load_file(tmp_path / "model.safetensors"))
    gone = next(name for name in names if "vision" in name and name.endswith("fc1.bias"))

    def spoil(tensors):
        del tensors[gone]
        tensors[gone.replace("fc1.bias", "fc3.bias")] = torch.zeros(1)

    rewrite(tmp_path, spoil)
    said = refused(tmp_path)
    assert f"missing: {gone}" in said and f"unexpected: {gone.replace('fc1.bias', 'fc3.bias')}" in said
    assert "model.safetensors" in said


def test_half_a_fused_linear_is_named(tmp_path):
    write_family(tmp_path, "intern_vit")
    rewrite(tmp_path, lambda tensors: tensors.pop("encoder.layers.1.attn.qkv.bias"))
    assert "missing: encoder.layers.1.attn.qkv.k.bias, encoder.layers.1.attn.qkv.q.bias" in refused(tmp_path)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_checkpoint_of_another_architecture_is_refused(tmp_path, family):
    write_family(tmp_path, family)
    save_file(LanguageModel(LMConfig(32, 1, 2, 1, 48, 60)).state_dict(), tmp_path / "model.safetensors")
    said = refused(tmp_path)
    assert f"expected the one of a {family} encoder, which its config says this is" in said
    assert "model.embed_tokens.weight" in said


def test_one_familys_weights_under_anothers_config_are_refused(tmp_path):
    write_family(tmp_path / "a", "clip")
    write_family(tmp_path / "b", "siglip")
    (tmp_path / "a" / "config.json").write_text((tmp_path / "b" / "config.json").read_text())
    said = refused(tmp_path / "a")
    assert "unexpected: " in said and "class_embedding" in said and "pre_layrnorm" in said


def test_a_torn_file_and_an_empty_folder_are_named(tmp_path):
    write_family(tmp_path / "torn", "siglip")
    file = tmp_path / "torn" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-9])
    assert "model.safetensors: found" in (said := refused(tmp_path / "torn")) and "truncated" in said
    (tmp_path / "torn" / "config.json").unlink()
    assert "found ['model.safetensors'], expected config.json" in refused(tmp_path / "torn")
    (tmp_path / "torn" / "config.json").write_text(json.dumps({"model_type": "siglip"})[:-4])
    assert "config.json: found no valid JSON" in refused(tmp_path / "torn")
