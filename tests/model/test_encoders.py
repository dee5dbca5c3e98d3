"""Every family's folder becomes our one vision transformer with the family's own features, and a folder again."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from encoders import FAMILIES, LIBRARY, NAMES, SIZES, library_features, pixels, write_family
from safetensors.torch import load_file, save_file

from model.checkpoints import load_vision, load_vlm, save_hf_vision, save_vision, save_vlm
from model.checkpoints.files import find_weights, read_tensors
from model.checkpoints.own import from_dict
from model.checkpoints.vision_families import FORMATS, processor_settings, vision_config
from model.config import LMConfig, ProjectorConfig, VisionConfig, VLMConfig
from model.vision import VisionTransformer, shuffle_pixels
from model.vlm import VLM

CLIP = VisionConfig(24, 32, 2, 2, 32, 8)

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*no preprocessor_config.json:UserWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


def same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def features(folder: Path, given: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return load_vision(folder)[0](given)


@pytest.mark.parametrize("whole", [False, True], ids=["vision", "whole"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_folder_gives_the_features_of_its_own_code(tmp_path, family, whole):
    theirs = write_family(tmp_path, family, whole)(pixels())
    ours = features(tmp_path, pixels())
    assert ours.shape == theirs.shape == ((2, 4, 96) if "intern" in family else (2, 16, 24))
    assert (ours - theirs).abs().max() < 1e-4
    assert (ours - ours.mean()).abs().max() > 0.1


@pytest.mark.parametrize("family", LIBRARY)
def test_transformers_reads_the_folder_that_is_written_back(tmp_path, family):
    transformers = pytest.importorskip("transformers")
    theirs = write_family(tmp_path / "theirs", family, whole=True)(pixels())
    vision, settings = load_vision(tmp_path / "theirs")
    save_hf_vision(tmp_path / "ours", vision, settings, family)
    again, settings_again = load_vision(tmp_path / "ours")
    assert again.config == vision.config and same(again.state_dict(), vision.state_dict())
    assert settings_again == settings == processor_settings(family, 32)
    model, info = getattr(transformers, f"{NAMES[family]}VisionModel").from_pretrained(
        tmp_path / "ours", output_loading_info=True
    )
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    assert (library_features(family, model.eval(), pixels()) - theirs).abs().max() < 1e-4


def test_an_intern_vit_is_written_back_tensor_for_tensor(tmp_path):
    write_family(tmp_path / "theirs", "intern_vit")
    vision, settings = load_vision(tmp_path / "theirs")
    save_hf_vision(tmp_path / "ours", vision, settings, "intern_vit")
    assert same(read_tensors(find_weights(tmp_path / "ours")), read_tensors(find_weights(tmp_path / "theirs")))
    written, original = (json.loads((tmp_path / d / "config.json").read_text()) for d in ("ours", "theirs"))
    assert {key: written[key] for key in original if key != "use_flash_attn"} == {
        key: value for key, value in original.items() if key != "use_flash_attn"
    }
    assert load_vision(tmp_path / "ours")[0].config == vision.config


def test_one_intern_vit_in_both_forms_is_the_same_encoder(tmp_path):
    write_family(tmp_path / "a", "intern_vit")
    vision, settings = load_vision(tmp_path / "a")
    save_hf_vision(tmp_path / "b", vision, settings, "internvl")  # as transformers names it
    assert "embeddings.cls_token" in read_tensors(find_weights(tmp_path / "b"))
    assert same(load_vision(tmp_path / "b")[0].state_dict(), vision.state_dict())


def test_clips_last_norm_is_kept_to_be_written_out_and_changes_no_feature(tmp_path):
    theirs = write_family(tmp_path, "clip")(pixels())
    vision, settings = load_vision(tmp_path)
    name = next(name for name in read_tensors(find_weights(tmp_path)) if name.endswith("post_layernorm.weight"))
    assert torch.equal(vision.state_dict()["post_layernorm.weight"], read_tensors(find_weights(tmp_path))[name])
    assert not any(name.startswith("post_layernorm") for name, _ in vision.named_parameters())
    tensors = load_file(tmp_path / "model.safetensors")
    save_file({k: v for k, v in tensors.items() if "post_layernorm" not in k}, tmp_path / "model.safetensors")
    without = load_vision(tmp_path)[0]
    with torch.no_grad():
        assert (without(pixels()) - theirs).abs().max() < 1e-4
    with pytest.raises(ValueError, match="found {'post_norm': 'none'}: choose another of"):
        save_hf_vision(tmp_path / "out", without, settings, "clip")


@pytest.mark.parametrize("layer", [-1, -2])
def test_only_siglips_last_hidden_state_goes_through_its_last_norm(tmp_path, layer):
    transformers = pytest.importorskip("transformers")
    write_family(tmp_path, "siglip")
    vision = load_vision(tmp_path)[0]
    other = VisionTransformer(replace(vision.config, feature_layer=layer)).eval()
    other.load_state_dict(vision.state_dict())
    with torch.no_grad():
        theirs = transformers.SiglipVisionModel.from_pretrained(tmp_path).eval()(pixels(), output_hidden_states=True)
        wanted = theirs.last_hidden_state if layer == -1 else theirs.hidden_states[layer]
        assert (other(pixels()) - wanted).abs().max() < 1e-4


def test_the_pixel_shuffle_makes_a_feature_of_each_block_row_by_row():
    grid = torch.arange(16.0).view(1, 16, 1) + torch.tensor([0.0, 0.5])  # patch p is (p, p + 0.5)
    first, second = [0, 0.5, 1, 1.5, 4, 4.5, 5, 5.5], [2, 2.5, 3, 3.5, 6, 6.5, 7, 7.5]
    shuffled = shuffle_pixels(grid, 2)
    assert shuffled.shape == (1, 4, 8)
    assert shuffled[0, 0].tolist() == first and shuffled[0, 1].tolist() == second
    assert shuffled[0, 2].tolist() == [8 + x for x in first]


@pytest.mark.parametrize("family", LIBRARY)
def test_absent_fields_of_a_config_take_the_familys_defaults(family):
    transformers = pytest.importorskip("transformers")
    theirs = getattr(transformers, f"{NAMES[family]}VisionConfig")()
    form = FORMATS[family]
    given = {"attention_bias": True} if family == "internvl" else {}
    for document in ({"model_type": form.vision, **given}, {"model_type": form.whole, "vision_config": given}):
        found, ours = vision_config(document, "here")
        assert found == family
        for name in form.sizes:
            wanted = getattr(theirs, name)
            assert getattr(ours, name) == (wanted[0] if isinstance(wanted, (list, tuple)) else wanted)


def test_siglip_2_of_fixed_resolution_is_read_as_it_is_published():
    published = {"initializer_factor": 1.0, "model_type": "siglip",
                 "text_config": {"model_type": "siglip_text_model", "vocab_size": 256000},
                 "vision_config": {"image_size": 512, "model_type": "siglip_vision_model"}}  # fmt: skip
    family, config = vision_config(published, "here")
    assert family == "siglip" and (config.num_features, config.feature_size) == (1024, 768)
    assert config.hidden_act == "gelu_pytorch_tanh" and not config.class_token
    so400m = published["vision_config"] | {"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27,
                                           "num_attention_heads": 16, "patch_size": 14, "image_size": 384}  # fmt: skip
    assert vision_config({**published, "vision_config": so400m}, "here")[1].num_features == 27 * 27  # 6 pixels left out


def test_the_300m_intern_vit_has_304_million_weights_and_256_features():
    sizes = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
             "image_size": 448, "patch_size": 14, "norm_type": "layer_norm", "qk_normalization": False,
             "qkv_bias": True}  # fmt: skip
    family, config = vision_config({"model_type": "intern_vit_6b", **sizes}, "here")
    with torch.device("meta"):
        count = sum(parameter.numel() for parameter in VisionTransformer(config).parameters())
    assert family == "intern_vit" and round(count / 1e6) == 304  # as its model card says
    assert (config.num_features, config.feature_size) == (256, 4096)
    vlm = VLMConfig(LMConfig(), config, ProjectorConfig("ldp", 4096, 512))
    assert vlm.image_tokens == 64
    with pytest.raises(ValueError, match="takes width 1024, the encoder gives 4096"):
        VLMConfig(LMConfig(), config, ProjectorConfig("ldp", 1024, 512))


def test_internvls_ratio_and_layer_are_followed(tmp_path):
    write_family(tmp_path, "intern_vit", whole=True)
    document = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**document, "downsample_ratio": 1, "select_layer": -2}))
    vision = load_vision(tmp_path)[0]
    assert (vision.config.pixel_shuffle, vision.config.feature_layer) == (1, -2)
    with torch.no_grad():
        assert vision(pixels()).shape == (2, 16, 24)


@pytest.mark.parametrize("family", ["clip", "internvl"])
def test_a_model_that_transformers_splits_into_shards_loads(tmp_path, family):
    theirs = write_family(tmp_path, family, shards="10KB")(pixels())
    assert (tmp_path / "model.safetensors.index.json").is_file() and not (tmp_path / "model.safetensors").exists()
    assert (features(tmp_path, pixels()) - theirs).abs().max() < 1e-4


def test_bfloat16_weights_become_fp32(tmp_path):
    write_family(tmp_path, "intern_vit")
    tensors = load_file(tmp_path / "model.safetensors")
    save_file({name: tensor.bfloat16() for name, tensor in tensors.items()}, tmp_path / "model.safetensors")
    assert {tensor.dtype for tensor in load_vision(tmp_path)[0].state_dict().values()} == {torch.float32}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_lives_in_our_own_folders_too(tmp_path, family):
    write_family(tmp_path / "theirs", family)
    vision, settings = load_vision(tmp_path / "theirs")
    save_vision(tmp_path / "ours", vision, settings)
    again, settings_again = load_vision(tmp_path / "ours")
    assert again.config == vision.config and same(again.state_dict(), vision.state_dict())
    assert settings_again == settings
    projector = ProjectorConfig("mlp", vision.config.feature_size, 32)
    config = VLMConfig(LMConfig(32, 1, 2, 1, 48, 60), vision.config, projector)
    torch.manual_seed(0)
    save_vlm(tmp_path / "vlm", VLM(config, vision), with_vision=True)
    loaded = load_vlm(tmp_path / "vlm")
    with torch.no_grad():
        embedded = loaded.image_embeddings(pixels=pixels())
    assert embedded.shape == (2, config.image_tokens, 32)
    assert same(loaded.vision.state_dict(), vision.state_dict())


def test_configs_of_before_these_families_still_read():
    old = {name: value for name, value in asdict(CLIP).items()
           if name not in ("patch_bias", "post_norm", "layer_scale", "pixel_shuffle")}  # fmt: skip
    assert from_dict(VisionConfig, old) == CLIP


def test_an_encoder_that_no_family_has_is_not_written(tmp_path):
    kept = replace(CLIP, post_norm="kept")
    for config, family, differs in (
        (CLIP, "clip", "'post_norm': 'none'"), (replace(kept, stem="conv"), "clip", "'stem': 'conv'"),
        (replace(CLIP, post_norm="applied"), "chinese_clip", "'post_norm': 'applied'"),
        (kept, "siglip", "'class_token': True"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=f"{family}_vision_model has .* found {{{differs}"):
            save_hf_vision(tmp_path, VisionTransformer(config), {}, family)
    assert not list(tmp_path.iterdir())


def test_settings_come_from_the_folder_and_else_from_the_family(tmp_path):
    write_family(tmp_path, "siglip")
    assert load_vision(tmp_path)[1] == processor_settings("siglip", SIZES["image_size"])
    (tmp_path / "processor_config.json").write_text(json.dumps({"image_processor": {"resample": 2}}))
    named = {"image_processor_type": "SiglipImageProcessor"}
    assert load_vision(tmp_path)[1] == {"resample": 2, **named}  # where transformers 5 puts it
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"resample": 1}))
    assert load_vision(tmp_path)[1] == {"resample": 1, **named}
