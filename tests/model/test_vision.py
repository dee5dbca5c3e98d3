from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from model.config import VisionConfig
from model.vision import ACTIVATION, VisionTransformer

CLIP_SMALL = VisionConfig(
    hidden_size=48,
    intermediate_size=64,
    num_hidden_layers=3,
    num_attention_heads=4,
    image_size=32,
    patch_size=8,
)
OURS = replace(
    CLIP_SMALL,
    hidden_act="gelu",
    class_token=False,
    pre_norm=False,
    stem="conv",
    image_size=64,
    patch_size=16,
)


def pixels_for(config: VisionConfig, pictures: int = 2) -> torch.Tensor:
    shape = (pictures, 3, config.image_size, config.image_size)
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def seeded(config: VisionConfig) -> VisionTransformer:
    torch.manual_seed(0)
    model = VisionTransformer(config).eval()
    for name, parameter in model.named_parameters():
        if "norm" in name:
            torch.nn.init.normal_(parameter, float(name.endswith("weight")), 0.3)
        elif name.endswith("bias"):
            torch.nn.init.normal_(parameter, 0, 0.3)
    return model


def clip_twin(model: VisionTransformer):
    transformers = pytest.importorskip("transformers")
    config = model.config
    twin = transformers.CLIPVisionModel(
        transformers.CLIPVisionConfig(
            hidden_size=config.hidden_size,
            intermediate_size=config.intermediate_size,
            num_hidden_layers=config.num_hidden_layers,
            num_attention_heads=config.num_attention_heads,
            image_size=config.image_size,
            patch_size=config.patch_size,
            hidden_act=config.hidden_act,
            layer_norm_eps=config.layer_norm_eps,
        )
    )
    prefix = "vision_model." if any(key.startswith("vision_model.") for key in twin.state_dict()) else ""
    ours = {prefix + key: value for key, value in model.state_dict().items()}
    twin.load_state_dict({**twin.state_dict(), **ours})
    return twin.eval()


@pytest.mark.parametrize("activation", sorted(ACTIVATION))
def test_every_hidden_state_equals_clips(activation):
    model = seeded(replace(CLIP_SMALL, hidden_act=activation))
    pixels = pixels_for(CLIP_SMALL)
    with torch.no_grad():
        theirs = clip_twin(model)(pixels, output_hidden_states=True)
        assert (model.hidden_state(pixels) - theirs.last_hidden_state).abs().max() < 1e-4
        assert (model(pixels) - theirs.last_hidden_state[:, 1:]).abs().max() < 1e-4
        for layer in range(-4, 0):
            other = VisionTransformer(replace(model.config, feature_layer=layer)).eval()
            other.load_state_dict(model.state_dict())
            assert (other.hidden_state(pixels) - theirs.hidden_states[layer]).abs().max() < 1e-4


def test_clip_vit_b_16_equals_clips_and_gives_196_features():
    config = VisionConfig(768, 3072, 1, 12, 224, 16)
    torch.manual_seed(0)
    model = VisionTransformer(config).eval()
    pixels = pixels_for(config, 1)
    with torch.no_grad():
        features = model(pixels)
        theirs = clip_twin(model)(pixels).last_hidden_state[:, 1:]
    assert features.shape == (1, config.num_patches, 768) and config.num_patches == 196
    assert (features - theirs).abs().max() < 1e-4


def test_the_conv_stem_keeps_the_patch_grid():
    for patch in (4, 8, 16):
        config = replace(OURS, patch_size=patch)
        features = seeded(config)(pixels_for(config))
        assert features.shape == (2, (64 // patch) ** 2, 48) and features.shape[1] == config.num_patches


def test_no_class_token_and_no_pre_norm_leave_no_such_weights():
    names = set(VisionTransformer(OURS).state_dict())
    assert not any("class_embedding" in name or "pre_layrnorm" in name for name in names)


def test_a_picture_is_encoded_the_same_in_any_batch():
    for config in (CLIP_SMALL, OURS):
        model, pixels = seeded(config), pixels_for(config, 3)
        with torch.no_grad():
            assert torch.allclose(model(pixels)[1], model(pixels[1:2])[0], atol=1e-5)


def test_every_weight_of_the_embedded_encoder_learns():
    model = seeded(OURS)
    (model(pixels_for(OURS)) ** 2).mean().backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


def test_bfloat16_autocast_stays_near_fp32():
    for config in (CLIP_SMALL, OURS):
        model, pixels = seeded(config), pixels_for(config)
        with torch.no_grad():
            exact = model(pixels)
            with torch.autocast("cpu", torch.bfloat16):
                rough = model(pixels).float()
        assert torch.nn.functional.cosine_similarity(exact, rough, dim=-1).min() > 0.99


def test_pixels_of_another_size_are_refused():
    with pytest.raises(ValueError, match=r"found shape \(1, 3, 16, 16\), expected \(images, 3, 32, 32\)"):
        VisionTransformer(CLIP_SMALL)(torch.zeros(1, 3, 16, 16))


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"hidden_act": "relu"}, "hidden_act: found 'relu'"),
        ({"stem": "conv", "patch_size": 12, "image_size": 48}, "power of two"),
        ({"stem": "conv", "image_size": 36}, "a multiple of patch_size as image_size, found 36"),
        ({"feature_layer": 0}, "feature_layer: found 0"),
        ({"feature_layer": -5}, "feature_layer: found -5"),
        ({"num_attention_heads": 5}, "does not split"),
    ],
)
def test_impossible_encoders_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        replace(CLIP_SMALL, **wrong)
