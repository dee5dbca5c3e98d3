"""Image preprocessing as the encoder's own processor does it: resize, crop, rescale, normalise."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
HALF = (0.5, 0.5, 0.5)
SHORTEST, EXACT = {"shortest_edge": 224}, {"height": 224, "width": 224}
BILINEAR, BICUBIC = int(Image.Resampling.BILINEAR), int(Image.Resampling.BICUBIC)
# Defaults of transformers' processors. Each converts to RGB and rescales by 1/255.
CLIP_DEFAULTS = {"size": SHORTEST, "do_center_crop": True, "crop_size": EXACT, "resample": BICUBIC,
                 "image_mean": CLIP_MEAN, "image_std": CLIP_STD}  # fmt: skip
EXACT_DEFAULTS = {**CLIP_DEFAULTS, "size": EXACT, "do_center_crop": False}
PROCESSORS: dict[str, dict[str, Any]] = {
    "CLIP": CLIP_DEFAULTS,
    "ChineseCLIP": CLIP_DEFAULTS,
    "Siglip": {**EXACT_DEFAULTS, "image_mean": HALF, "image_std": HALF},
    "ViT": {**EXACT_DEFAULTS, "image_mean": HALF, "image_std": HALF, "resample": BILINEAR},
    "GotOcr2": {**EXACT_DEFAULTS, "size": {"height": 384, "width": 384}},  # InternVL's, without its tiling
}
LARGEST = 4096  # pixels of a side
LONG = 4  # aspect ratio above which only the region of the crop is resized
MARGIN = 8  # output pixels around the crop, beyond any filter's support


@dataclass(frozen=True)
class PreprocessSpec:
    """Preprocessing settings; the defaults are CLIP ViT-B/16's."""

    size: int | tuple[int, int] = 224  # the shorter edge, or (height, width) regardless of aspect ratio
    crop: tuple[int, int] | None = (224, 224)  # (height, width) of the centre crop; None: no crop
    mean: tuple[float, float, float] = CLIP_MEAN
    std: tuple[float, float, float] = CLIP_STD
    resample: int = BICUBIC
    rescale: float = 1 / 255

    def __post_init__(self):
        if self.crop is None and isinstance(self.size, int):
            raise ValueError(
                f"pictures resized to a shorter edge of {self.size} differ in their longer edge and cannot be batched; "
                "expected a crop, or a size with height and width: set do_center_crop or size in "
                "preprocessor_config.json"
            )

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) of the output."""
        return self.crop or self.size  # type: ignore[return-value]  # without a crop, size is a pair

    @staticmethod
    def square(size: int, mean: tuple = CLIP_MEAN, std: tuple = CLIP_STD) -> PreprocessSpec:
        """Resize the shorter edge to size, then crop the central square."""
        return PreprocessSpec(size=size, crop=(size, size), mean=mean, std=std)

    @staticmethod
    def from_settings(settings: Mapping[str, Any]) -> PreprocessSpec:
        """Read a Hugging Face preprocessor_config.json; ValueError names an unsupported setting.

        Missing settings take the defaults of the processor named there, or CLIP's if none is; a null switch is off. A
        bare number as size is the shorter edge for CLIP; without a crop it is a square for the others, as nothing else
        can be batched (Chinese-CLIP was published so).
        """
        kind, found = processor_name(settings)
        if kind not in PROCESSORS:
            raise ValueError(
                f"image_processor_type is {found!r}, expected that of {', '.join(PROCESSORS)}"
                + ("; a NaFlex encoder has no fixed size" if kind == "Siglip2" else "")
                + ": correct it in preprocessor_config.json, or take another encoder"
            )
        for name in ("do_resize", "do_rescale", "do_normalize", "do_center_crop"):
            if settings.get(name) not in (None, True, False):
                raise _wrong(name, settings[name], "true or false")
        given = {name: value for name, value in settings.items() if value is not None or name[:3] == "do_"}
        filled = {"do_resize": True, "do_rescale": True, "do_normalize": True, **PROCESSORS[kind], **given}
        if not filled["do_resize"]:
            raise ValueError("do_resize is false, but a batch needs one size: set it in preprocessor_config.json")
        size = _size(filled["size"], "size")
        if not filled["do_center_crop"] and isinstance(filled["size"], int) and kind != "CLIP":
            size = (size, size)  # type: ignore[assignment]  # a number
        crop = _size(filled["crop_size"], "crop_size") if filled["do_center_crop"] else None
        normalise = filled["do_normalize"]
        return PreprocessSpec(
            size=size,
            crop=(crop, crop) if isinstance(crop, int) else crop,
            mean=_three(filled["image_mean"], "image_mean", -255) if normalise else (0.0, 0.0, 0.0),
            std=_three(filled["image_std"], "image_std", 1e-6) if normalise else (1.0, 1.0, 1.0),
            resample=_resample(filled["resample"]),
            rescale=_number(filled.get("rescale_factor", 1 / 255), "rescale_factor", 1e-6, 255)
            if filled["do_rescale"]
            else 1.0,
        )

    def to_settings(self) -> dict[str, Any]:
        """The spec as a preprocessor_config.json for Hugging Face's CLIPImageProcessor."""
        crop = {} if self.crop is None else {"crop_size": _written(self.crop)}
        return {
            "image_processor_type": "CLIPImageProcessor",
            "do_convert_rgb": True,
            "do_resize": True,
            "size": _written(self.size),
            "resample": self.resample,
            "do_center_crop": self.crop is not None,
            "do_rescale": True,
            "rescale_factor": self.rescale,
            "do_normalize": True,
            "image_mean": list(self.mean),
            "image_std": list(self.std),
            **crop,
        }


def processor_name(settings: Mapping[str, Any]) -> tuple[str, str]:
    """(a key of PROCESSORS or another family, the name in the settings), from the new or the old setting."""
    found = str(settings.get("image_processor_type") or settings.get("feature_extractor_type") or "CLIPImageProcessor")
    return re.sub(r"(ImageProcessor|FeatureExtractor)(Fast|Pil)?$", "", found), found


def preprocess(image: Image.Image, spec: PreprocessSpec) -> np.ndarray:
    """Preprocess an RGB image to (3, H, W) float32, within 1/255 of transformers' image processors on Pillow."""
    return normalise(np.asarray(resize_and_crop(image, spec)), spec)


def normalise(pixels: np.ndarray, spec: PreprocessSpec) -> np.ndarray:
    """Pixels (..., H, W, 3) from 0 to 255 to normalised (..., 3, H, W) float32."""
    mean, std = np.asarray(spec.mean, np.float32), np.asarray(spec.std, np.float32)
    pixels = (pixels.astype(np.float32) * np.float32(spec.rescale) - mean) / std
    return np.ascontiguousarray(np.moveaxis(pixels, -1, -3))


def resize_and_crop(image: Image.Image, spec: PreprocessSpec) -> Image.Image:
    """Resize, then crop the centre; black where the crop exceeds the picture."""
    width, height = image.size
    if isinstance(spec.size, int):
        shorter = min(height, width)
        new_height, new_width = int(spec.size * height / shorter), int(spec.size * width / shorter)
    else:
        new_height, new_width = spec.size
    if spec.crop is None:
        return image.resize((new_width, new_height), spec.resample)
    crop_height, crop_width = spec.crop
    top, left = (new_height - crop_height) // 2, (new_width - crop_width) // 2
    if max(width, height) <= LONG * min(width, height):
        resized = image.resize((new_width, new_height), spec.resample)
        return resized.crop((left, top, left + crop_width, top + crop_height))
    # The same pixels without resizing what the crop discards: 20,000×1 at 224 would take 3 GB.
    x0, x1 = max(left - MARGIN, 0), min(left + crop_width + MARGIN, new_width)
    y0, y1 = max(top - MARGIN, 0), min(top + crop_height + MARGIN, new_height)
    across, down = width / new_width, height / new_height
    box = (x0 * across, y0 * down, min(x1 * across, width), min(y1 * down, height))
    part = image.resize((x1 - x0, y1 - y0), spec.resample, box=box)
    return part.crop((left - x0, top - y0, left - x0 + crop_width, top - y0 + crop_height))


def _size(value: Any, name: str) -> int | tuple[int, int]:
    """A size as configs write it: 224, {"shortest_edge": 224} or {"height": 224, "width": 224}."""
    if isinstance(value, Mapping):
        if "height" in value and "width" in value:
            return _side(value["height"], f"{name}.height"), _side(value["width"], f"{name}.width")
        if set(value) == {"shortest_edge"}:
            return _side(value["shortest_edge"], f"{name}.shortest_edge")
    elif isinstance(value, (int, float)):
        return _side(value, name)
    elif isinstance(value, (list, tuple)) and len(value) == 2:
        return _side(value[0], name), _side(value[1], name)
    raise _wrong(name, value, "a number, shortest_edge, or height and width")


def _side(value: Any, name: str) -> int:
    """A side in pixels."""
    if (side := _number(value, name, 1, LARGEST)) % 1:
        raise _wrong(name, value, "a whole number of pixels")
    return int(side)


def _number(value: Any, name: str, least: float, most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
        raise _wrong(name, value, f"a number from {least} to {most}")
    return float(value)


def _written(size: int | tuple[int, int]) -> dict[str, int]:
    """A size as configs write it."""
    return {"shortest_edge": size} if isinstance(size, int) else {"height": size[0], "width": size[1]}


def _resample(value: Any) -> int:
    """A resampling filter by number: 0 nearest, 1 Lanczos, 2 bilinear, 3 bicubic, 4 box, 5 Hamming."""
    if isinstance(value, bool) or value not in list(Image.Resampling):
        raise _wrong("resample", value, f"a number from 0 to {max(Image.Resampling)}")
    return int(value)


def _three(value: Any, name: str, least: float) -> tuple[float, float, float]:
    if not isinstance(value, (list, tuple)) or len(value) != 3:
        raise _wrong(name, value, "three numbers")
    first, second, third = (_number(number, name, least, 255) for number in value)
    return first, second, third


def _wrong(name: str, value: Any, expected: str) -> ValueError:
    return ValueError(f"{name} is {value!r}; expected {expected}: correct it in preprocessor_config.json")
