"""Our own format: a folder with config.json (format, version, sizes) and model.safetensors.

Weights are named as in VLM.state_dict() (`llm.`, `projector.`, `vision.`) or, for an encoder alone, as in
VisionTransformer.state_dict(); preprocessor_config.json says how to prepare images for the encoder.
"""

from __future__ import annotations

from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from model.checkpoints.files import WeightsError, read_tensors, refusing, save_safetensors, write_json
from model.config import LMConfig, ProjectorConfig, RopeScaling, VisionConfig, VLMConfig
from model.vision import VisionTransformer
from model.vlm import VLM

FORMAT = "glimpse"
FORMAT_VERSION = 1
HEADER = {"format": FORMAT, "format_version": FORMAT_VERSION}  # of config.json; the sizes follow
CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
PREPROCESSOR_FILE = "preprocessor_config.json"
SCALE = ".int8_scale"  # after the name of a matrix of int8, for its scales

NESTED = {"lm": LMConfig, "vision": VisionConfig, "projector": ProjectorConfig, "rope_scaling": RopeScaling}
# Absent in files of earlier versions, whose models have the defaults.
LATER = ("patch_bias", "post_norm", "layer_scale", "pixel_shuffle", "head_width", "rope_scaling", "band")


def from_dict(kind, values: object) -> Any:
    """A config of class `kind` from what dataclasses.asdict() gave; ValueError names unknown and missing keys."""
    if not isinstance(values, dict):
        raise ValueError(f"{kind.__name__}: found {type(values).__name__} {values!r}, expected a JSON object")
    names = [field.name for field in fields(kind)]
    unknown = sorted(set(values) - set(names))
    missing = [name for name in names if name not in values and name not in LATER]
    if unknown or missing:
        raise ValueError(
            f"{kind.__name__}: unknown keys {unknown}, missing keys {missing}; expected exactly {names}. "
            "Was the file written by another version?"
        )
    for name, part in NESTED.items():
        if name in values and (values[name] is not None or name == "lm"):
            values = values | {name: from_dict(part, values[name])}
    return kind(**values)


def read_config(kind, document: dict, where: Path) -> Any:
    """The VLMConfig or VisionConfig in a config.json; WeightsError for another version or unknown keys."""
    version = document.get("format_version")
    if version != FORMAT_VERSION:
        raise WeightsError(
            f"{where}: found format_version {version!r}, expected {FORMAT_VERSION}; it was written by "
            "another version of this program: use that one, or train again"
        )
    sizes = {name: value for name, value in document.items() if name not in HEADER}
    with refusing(where):
        return from_dict(kind, sizes if kind is VLMConfig else sizes.get("vision"))


def pack(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """`tensors` with each matrix (rows, columns) as int8, and one fp32 scale per row that puts its entry of largest
    magnitude at 127: a quarter of the size in fp32.

    The error is at most half a scale, a 254th of the row's largest magnitude. Vectors stay as they are.
    """
    packed = {}
    for name, tensor in tensors.items():
        if tensor.dim() == 2:
            scale = tensor.float().abs().amax(dim=1) / 127
            packed[name + SCALE] = scale
            tensor = (tensor / scale.clamp_min(torch.finfo(torch.float32).tiny)[:, None]).round().to(torch.int8)
        packed[name] = tensor
    return packed


def read_weights(file: Path) -> dict[str, Tensor]:
    """The state dict in a model.safetensors, with what pack() made in fp32 again; WeightsError for scales amiss."""
    tensors, unpacked = read_tensors(file), {}
    for name, tensor in tensors.items():
        if tensor.dtype == torch.int8:
            scale = tensors.get(name + SCALE)
            if scale is None or scale.shape != tensor.shape[:1]:
                found = None if scale is None else tuple(scale.shape)
                raise WeightsError(f"{file}: {name + SCALE}: found {found}, expected one scale for each row of {name}")
            tensor = tensor.float() * scale[:, None]
        if not name.endswith(SCALE):
            unpacked[name] = tensor
    return unpacked


def save_vlm(folder: Path | str, vlm: VLM, with_vision: bool = False, int8: bool = False) -> None:
    """Writes one of our folders: sizes, language model, projector and, with `with_vision`, the encoder.

    int8: matrices rounded to 8 bits, see pack().
    """
    state = {key: x for key, x in vlm.state_dict().items() if with_vision or not key.startswith("vision.")}
    write_json(Path(folder) / CONFIG_FILE, HEADER | asdict(vlm.config))
    save_safetensors(Path(folder) / WEIGHTS_FILE, pack(state) if int8 else state)


def save_vision(folder: Path | str, vision: VisionTransformer, preprocess: dict) -> None:
    """Writes an encoder's folder; `preprocess`: settings under the names of CLIP's preprocessor_config.json."""
    folder = Path(folder)
    write_json(folder / CONFIG_FILE, HEADER | {"vision": asdict(vision.config)})
    write_json(folder / PREPROCESSOR_FILE, preprocess)
    save_safetensors(folder / WEIGHTS_FILE, vision.state_dict())
