from __future__ import annotations

import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dataset.bad_rows import BadImage
from dataset.picturebook.world import make_scene
from dataset.pictures import load_pixels, open_for, open_picture, picture_key, resolve_image_path
from dataset.preprocess import PreprocessSpec, preprocess

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"{DATA} is absent")


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def noise(height: int = 40, width: int = 60, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)


def colour(image: Image.Image) -> tuple[int, ...]:
    return image.getpixel((image.width // 2, image.height // 2))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16"])
def test_any_pixel_format_becomes_rgb(mode):
    image = Image.new("RGB", (8, 6), (255, 0, 0)).convert("L").convert(mode)
    tiff = {"kind": "TIFF", "compression": "tiff_lzw"}  # Pillow 12 cannot read YCbCr that is not compressed
    opened = open_picture(encoded(image, **(tiff if mode in ("CMYK", "YCbCr") else {})))
    assert opened.mode == "RGB" and opened.size == (8, 6)


def test_cmyk_jpeg_keeps_its_colour():
    opened = open_picture(encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG"))
    red, green, blue = colour(opened)
    assert red > 200 and green < 60 and blue < 60


def test_palette_colours_are_looked_up():
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, 10, 200, 30])
    assert colour(open_picture(encoded(image))) == (10, 200, 30)


def test_16_bit_gray_is_scaled_and_not_clipped():
    values = np.full((8, 8), 32768, np.uint16)
    assert colour(open_picture(encoded(Image.fromarray(values)))) == (128, 128, 128)


def test_float_gray_is_scaled():
    image = Image.fromarray(np.full((4, 4), 0.5, np.float32))
    assert colour(open_picture(encoded(image, "TIFF"))) == (128, 128, 128)


def test_transparent_parts_are_white():
    assert colour(open_picture(encoded(Image.new("RGBA", (8, 8), (0, 0, 0, 0))))) == (255, 255, 255)
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, 9, 9, 9])
    assert colour(open_picture(encoded(image, transparency=1))) == (255, 255, 255)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_an_animated_picture_is_its_first_frame(kind):
    frames = [Image.new("RGB", (16, 16), value) for value in ("red", "blue")]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert colour(open_picture(data)) == (255, 0, 0)


def test_orientation_in_the_file_is_obeyed():
    image = Image.new("RGB", (20, 10))
    exif = image.getexif()
    exif[0x0112] = 6  # turn by 90 degrees
    assert open_picture(encoded(image, "JPEG", exif=exif)).size == (10, 20)


@pytest.mark.parametrize("size", [(1, 1), (20_000, 1), (1, 20_000), (20_000, 300)])
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_tiny_and_very_long_pictures_fit_the_encoder(size, kind):
    image = open_picture(encoded(Image.new("RGB", size, (200, 100, 50)), kind))
    pixels = preprocess(image, PreprocessSpec(mean=(0, 0, 0), std=(1, 1, 1)))
    assert pixels.shape == (3, 224, 224)
    assert np.abs(pixels[:, 112, 112] * 255 - (200, 100, 50)).max() < 4


def test_a_jpeg_too_large_for_memory_is_read_smaller_and_a_png_refused(monkeypatch):
    monkeypatch.setattr("dataset.pictures.MAX_PIXELS", 10_000)
    image = Image.new("RGB", (201, 151), (200, 100, 50))
    assert open_picture(encoded(image, "JPEG")).size == (101, 76)
    with pytest.raises(BadImage, match="too large.*201×151"):
        open_picture(encoded(image, "PNG"))


def test_pixel_bombs_are_refused(monkeypatch):
    data = encoded(Image.new("1", (5000, 5000)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1_000_000)
    with pytest.raises(BadImage, match="too large"):
        open_picture(data)


def broken_files() -> dict[str, tuple[bytes, str]]:
    jpeg, png = encoded(Image.fromarray(noise()), "JPEG"), encoded(Image.fromarray(noise()))
    return {
        "zero bytes": (b"", "zero bytes"),
        "truncated jpeg": (jpeg[: len(jpeg) // 2], "damaged"),
        "jpeg's first bytes": (jpeg[:12], "damaged"),
        "truncated png": (png[: len(png) // 2], "damaged"),
        "text": (b"<html>404 not found</html>", "not an image"),
        "git lfs": (b"version https://git-lfs.github.com/spec/v1\n", "not an image"),
    }


@pytest.mark.parametrize("name", broken_files())
def test_a_broken_picture_is_named_whether_bytes_or_file(name, tmp_path):
    data, reason = broken_files()[name]
    with pytest.raises(BadImage, match=reason):
        open_picture(data)
    (tmp_path / "7.jpg").write_bytes(data)
    with pytest.raises(BadImage, match=rf"{reason}.*7\.jpg"):
        open_picture(tmp_path / "7.jpg")


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    with pytest.raises(BadImage, match="missing.*7.jpg"):
        open_picture(tmp_path / "7.jpg")
    with pytest.raises(BadImage, match="cannot be read"):
        open_picture(tmp_path)


def test_image_names_stay_inside_the_image_folder(tmp_path):
    root = tmp_path / "images"
    (root / "a").mkdir(parents=True)
    for path in (root / "a" / "7.jpg", tmp_path / "8.jpg", root / "empty.jpg"):
        path.write_bytes(b"" if path.stem == "empty" else b"x")
    assert resolve_image_path(root, "a/7.jpg") == root / "a" / "7.jpg"
    assert resolve_image_path(root, "a/../a/7.jpg") == root / "a" / "7.jpg"
    assert resolve_image_path(root, str(root / "a" / "7.jpg")) == root / "a" / "7.jpg"
    for name in ("../8.jpg", str(tmp_path / "8.jpg"), "/etc/passwd", "a/../../8.jpg", "../images2/7.jpg"):
        with pytest.raises(BadImage, match="leaves the image folder"):
            resolve_image_path(root, name)
    for name, reason in (
        ("9.jpg", "missing"), ("", "missing"), ("a", "missing"), ("x" * 5000, "image file"),
        ("a\0b.jpg", "image file"), ("empty.jpg", "zero bytes"), ("http://x.org/7.jpg", "image is a URL"),
    ):  # fmt: skip
        with pytest.raises(BadImage, match=reason):
            resolve_image_path(root, name)


def test_an_image_folder_reached_by_a_link_or_a_relative_name_works(tmp_path, monkeypatch):
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "7.jpg").write_bytes(b"x")
    os.symlink(tmp_path / "disk", tmp_path / "images")
    monkeypatch.chdir(tmp_path)
    assert resolve_image_path(Path("images"), "7.jpg").is_file()


def test_a_key_follows_the_bytes_and_not_the_name(tmp_path):
    one, two = encoded(Image.fromarray(noise())), encoded(Image.fromarray(noise()[::-1]))
    (tmp_path / "a.png").write_bytes(one)
    assert picture_key(one) == picture_key(tmp_path / "a.png") != picture_key(two)
    assert len(picture_key(one)) == 32
    with pytest.raises(BadImage, match="missing"):
        picture_key(tmp_path / "b.png")


def test_drawn_scenes_differ_in_key_and_are_drawn_at_the_encoders_size():
    pytest.importorskip("dataset.picturebook.drawing.picture")
    one, two = make_scene("train", 0), make_scene("train", 1)
    assert picture_key(one) == picture_key(make_scene("train", 0)) != picture_key(two)
    assert load_pixels([one, two], PreprocessSpec.square(96)).shape == (2, 3, 96, 96)
    assert open_picture(one, 200).size == (200, 200)


def test_a_long_picture_is_resized_as_if_it_were_resized_whole():
    image = Image.fromarray(noise(50, 700))
    spec = PreprocessSpec(size=32, crop=(32, 32), mean=(0, 0, 0), std=(1, 1, 1))
    whole = image.resize((448, 32), Image.Resampling.BICUBIC).crop((208, 0, 240, 32))
    expected = np.asarray(whole, np.float32).transpose(2, 0, 1) / 255
    assert np.abs(preprocess(image, spec) - expected).max() <= 1.01 / 255


@pytest.mark.parametrize(
    "settings, size, crop",
    [
        ({"size": 224, "crop_size": 224}, 224, (224, 224)),
        ({"size": {"shortest_edge": 256}, "crop_size": {"height": 224, "width": 200}}, 256, (224, 200)),
        ({"image_processor_type": "SiglipImageProcessor", "size": {"height": 384, "width": 384}}, (384, 384), None),
        ({"image_processor_type": "ViTImageProcessor", "size": 224}, (224, 224), None),
        ({"feature_extractor_type": "CLIPFeatureExtractor", "size": 224}, 224, (224, 224)),
        ({"do_center_crop": False, "size": {"height": 64, "width": 48}}, (64, 48), None),
    ],
)
def test_sizes_are_read_in_every_way_they_are_written(settings, size, crop):
    spec = PreprocessSpec.from_settings(settings)
    assert (spec.size, spec.crop) == (size, crop)
    assert PreprocessSpec.from_settings(json.loads(json.dumps(spec.to_settings()))) == spec
    assert preprocess(Image.fromarray(noise()), spec).shape == (3, *spec.shape)


@pytest.mark.parametrize(
    "settings",
    [
        {"size": {"longest_edge": 9}},
        {"size": "big"},
        {"crop_size": "x"},
        {"image_mean": 0.5},
        {"image_std": [1, 2]},
        {"size": {"shortest_edge": 224}, "do_center_crop": False},
        {"do_resize": False},
    ],
)
def test_settings_that_make_no_sense_are_named(settings):
    with pytest.raises(ValueError, match="preprocessor_config.json"):
        PreprocessSpec.from_settings(settings)


def test_switches_leave_a_step_out():
    spec = PreprocessSpec.from_settings({"do_normalize": False, "do_rescale": False, "size": 8, "crop_size": 8})
    assert preprocess(Image.new("RGB", (8, 8), (9, 80, 200)), spec)[:, 0, 0].tolist() == [9, 80, 200]


@needs_data
def test_photos_are_prepared_as_transformers_does():
    transformers = pytest.importorskip("transformers")
    kinds = [getattr(transformers, n, None) for n in ("CLIPImageProcessorPil", "CLIPImageProcessor")]
    processor = next(kind for kind in kinds if kind is not None).from_pretrained(DATA / "minimind_v_tiny" / "clip")
    spec = PreprocessSpec.from_settings(
        json.loads((DATA / "minimind_v_tiny" / "clip" / "preprocessor_config.json").read_text())
    )
    step = 1 / 255 / min(spec.std)
    for photo in sorted((DATA / "photos").iterdir()):
        image = open_picture(photo)
        theirs = np.asarray(processor(images=image, return_tensors="np")["pixel_values"][0])
        assert np.abs(preprocess(image, spec) - theirs).max() <= step


@needs_data
def test_the_reference_checkpoints_pixels_come_out():
    reference = np.load(DATA / "minimind_v_tiny" / "reference.npz", allow_pickle=False)
    photo = DATA / "photos" / Path(str(reference["image"])).name
    assert np.abs(load_pixels([photo], PreprocessSpec()) - reference["pixel_values"]).max() <= 0.02


def test_half_of_the_scenes_are_drawn_at_twice_the_size_and_a_scene_always_at_its_own(monkeypatch):
    spec = PreprocessSpec.square(32)
    sizes = [open_for(make_scene("train", i), spec).size for i in range(40)]
    assert set(sizes) == {(32, 32), (64, 64)} and 10 <= sizes.count((64, 64)) <= 30
    monkeypatch.setattr("dataset.pictures._drawing_code", lambda: "another drawing")
    assert sizes == [open_for(make_scene("train", i), spec).size for i in range(40)]
    assert open_for(encoded(Image.new("RGB", (50, 20))), spec).size == (50, 20)
