"""Pictures are prepared as the encoder's own processor in transformers does, from every form of its settings."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dataset.pictures import open_picture
from dataset.preprocess import CLIP_MEAN, CLIP_STD, HALF, PROCESSORS, PreprocessSpec, preprocess, processor_name
from model.checkpoints.vision_families import FORMATS, processor_settings

PHOTOS = Path(__file__).resolve().parents[3] / "shared" / "data" / "photos"
needs_photos = pytest.mark.skipif(not PHOTOS.is_dir(), reason="../shared/data/photos is not on this machine")

CLIP = {"image_mean": CLIP_MEAN, "image_std": CLIP_STD, "do_normalize": True, "do_resize": True, "resample": 3}
IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
SIGLIP = {"image_processor_type": "SiglipImageProcessor", "image_mean": HALF, "image_std": HALF, "do_normalize": True,
          "do_rescale": True, "do_resize": True, "rescale_factor": 0.00392156862745098}  # fmt: skip
PUBLISHED = {  # as the models' own folders say it
    "CLIP, before there were dicts": {
        **CLIP, "feature_extractor_type": "CLIPFeatureExtractor", "size": 224, "do_center_crop": True, "crop_size": 224,
    },
    "CLIP": {
        **CLIP, "image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 224}, "do_center_crop": True,
        "crop_size": {"height": 224, "width": 224}, "do_convert_rgb": True, "do_rescale": True,
        "rescale_factor": 1 / 255,
    },
    "Chinese-CLIP": {
        **CLIP, "feature_extractor_type": "ChineseCLIPFeatureExtractor", "do_center_crop": False,
        "size": {"height": 224, "width": 224},
    },
    "SigLIP": {**SIGLIP, "resample": 3, "size": {"height": 384, "width": 384}},
    "SigLIP 2": {**SIGLIP, "resample": 2, "size": {"height": 256, "width": 256}, "do_convert_rgb": None},
    "InternViT": {
        **CLIP, **IMAGENET, "feature_extractor_type": "CLIPFeatureExtractor", "size": 448, "do_center_crop": True,
        "crop_size": 448,
    },
    "InternVL in transformers": {
        **CLIP, **IMAGENET, "image_processor_type": "GotOcr2ImageProcessorFast", "size": {"height": 448, "width": 448},
        "crop_to_patches": False, "crop_size": None, "do_center_crop": None, "do_convert_rgb": True, "do_rescale": True,
    },
}  # fmt: skip
FORMS = {
    "CLIP with nothing said": {"image_processor_type": "CLIPImageProcessor"},
    "Chinese-CLIP with nothing said": {"image_processor_type": "ChineseCLIPImageProcessor"},
    "SigLIP with nothing said": {"image_processor_type": "SiglipImageProcessor"},
    "SigLIP with nulls": {
        "image_processor_type": "SiglipImageProcessor", "crop_size": None, "do_center_crop": None, "do_normalize": None,
    },
    "CLIP with its crop null": {
        "image_processor_type": "CLIPImageProcessor", "do_center_crop": None, "size": {"height": 90, "width": 77},
    },
    "Lanczos": {**CLIP, "image_processor_type": "CLIPImageProcessor", "resample": 1},
    "not as wide as high": {"image_processor_type": "CLIPImageProcessor", "crop_size": {"height": 200, "width": 151}},
    "a crop beyond the picture": {"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 201}},
    "no mean": {"image_processor_type": "SiglipImageProcessor", "do_normalize": False},
    "no rescaling": {"image_processor_type": "SiglipImageProcessor", "do_rescale": False},
    "another scale": {"image_processor_type": "ChineseCLIPImageProcessor", "rescale_factor": 1 / 127.5},
    "SigLIP with a crop": {
        "image_processor_type": "SiglipImageProcessor", "size": {"shortest_edge": 256}, "do_center_crop": True,
        "crop_size": {"height": 224, "width": 224},
    },
}  # fmt: skip


def processor(settings: dict, folder: Path):
    """transformers' own processor for a folder with these settings, the one that resizes with Pillow."""
    transformers = pytest.importorskip("transformers")
    name = f"{processor_name(settings)[0]}ImageProcessor"
    kinds = [getattr(transformers, name + end, None) for end in ("Pil", "")]
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return next(kind for kind in kinds if kind is not None).from_pretrained(folder)


def difference(theirs, image: Image.Image, spec: PreprocessSpec) -> float:
    """The largest difference, in steps of one 255th of the way from black to white."""
    wanted = np.asarray(theirs(images=image, return_tensors="np")["pixel_values"][0])
    ours = preprocess(image, spec)
    assert ours.shape == wanted.shape == (3, *spec.shape)
    return float(np.abs(ours - wanted).max() / (spec.rescale / min(spec.std)))


@pytest.fixture(scope="module")
def photos() -> list[Image.Image]:
    return [open_picture(path) for path in sorted(PHOTOS.iterdir())]


@needs_photos
@pytest.mark.parametrize("name", PUBLISHED)
def test_every_photo_is_prepared_as_the_familys_processor_does(photos, tmp_path, name):
    theirs, spec = processor(PUBLISHED[name], tmp_path), PreprocessSpec.from_settings(PUBLISHED[name])
    assert len(photos) == 8
    for photo in photos:
        assert difference(theirs, photo, spec) <= 1.001


@needs_photos
@pytest.mark.parametrize("name", FORMS)
def test_every_form_of_the_settings_means_what_it_means_there(photos, tmp_path, name):
    theirs, spec = processor(FORMS[name], tmp_path), PreprocessSpec.from_settings(FORMS[name])
    assert difference(theirs, photos[0].crop((0, 0, 399, 301)), spec) <= 1.001


@needs_photos
@pytest.mark.parametrize("mode, form", [("CMYK", "JPEG"), ("P", "PNG"), ("L", "PNG")])
@pytest.mark.parametrize("name", ["CLIP", "Chinese-CLIP", "SigLIP"])
def test_other_colour_modes_are_prepared_the_same(photos, tmp_path, mode, form, name):
    file = io.BytesIO()
    photos[1].crop((0, 0, 320, 240)).convert(mode).save(file, form)
    theirs, spec = processor(PUBLISHED[name] | {"do_convert_rgb": True}, tmp_path), PUBLISHED[name]
    spec = PreprocessSpec.from_settings(spec)
    wanted = np.asarray(theirs(images=Image.open(file), return_tensors="np")["pixel_values"][0])
    assert np.abs(preprocess(open_picture(file.getvalue()), spec) - wanted).max() <= 1.001 / 255 / min(spec.std)


@pytest.mark.parametrize("family", FORMATS)
def test_the_settings_made_for_a_family_fit_its_encoder(family):
    settings = processor_settings(family, 336)
    assert processor_name(settings)[0] in PROCESSORS
    spec = PreprocessSpec.from_settings(settings)
    assert spec.shape == (336, 336) and spec.crop == (None if family in ("siglip", "internvl") else (336, 336))
    assert spec.mean == tuple(FORMATS[family].mean) and spec.std == tuple(FORMATS[family].std)


def test_absent_settings_are_the_processors_own_and_null_switches_are_off():
    for kind, defaults in PROCESSORS.items():
        named = {"image_processor_type": f"{kind}ImageProcessor"}
        nulls = {**dict.fromkeys(defaults), "do_center_crop": defaults["do_center_crop"]}
        assert PreprocessSpec.from_settings(named) == PreprocessSpec.from_settings({**named, **nulls})
        assert PreprocessSpec.from_settings(named) == PreprocessSpec.from_settings({**named, **defaults})
        assert PreprocessSpec.from_settings({"image_processor_type": f"{kind}ImageProcessorFast"}) == (
            PreprocessSpec.from_settings({"feature_extractor_type": f"{kind}FeatureExtractor"})
        )
    assert PreprocessSpec.from_settings({"do_normalize": None}).mean == (0, 0, 0)


def test_a_bare_number_without_a_crop_is_a_square_where_chinese_clip_says_so():
    first = {"feature_extractor_type": "ChineseCLIPFeatureExtractor", "do_center_crop": False, "size": 224}
    assert PreprocessSpec.from_settings(first).size == (224, 224)
    with pytest.raises(ValueError, match="cannot be batched"):
        PreprocessSpec.from_settings({**first, "feature_extractor_type": "CLIPFeatureExtractor"})


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"image_processor_type": "Siglip2ImageProcessorFast"}, "Siglip2ImageProcessorFast.* no fixed size"),
        ({"image_processor_type": "Qwen2VLImageProcessor"}, "expected that of CLIP, ChineseCLIP, Siglip"),
        ({"resample": "bicubic"}, "resample is 'bicubic'; expected a number from 0"),
        ({"resample": 99}, "resample is 99"),
        ({"resample": True}, "resample is True"),
    ],
)
def test_settings_that_are_not_understood_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        PreprocessSpec.from_settings(settings)
