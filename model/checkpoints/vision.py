"""Reading and writing other projects' vision encoders, by the tables of vision_families.py."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from model.checkpoints.files import (
    KeyTable,
    WeightsError,
    load_strict,
    read_tensors,
    rename,
    save_safetensors,
    write_json,
)
from model.checkpoints.vision_families import FORMATS, VisionFormat, family_of, vision_config, vision_document
from model.config import VisionConfig
from model.vision import VisionTransformer

PATCHES = "embeddings.patch_embedding.weight"  # in every family, and only in vision encoders


def read_vision(file: Path, config_file: Path, document: dict) -> tuple[str, VisionTransformer]:
    """(family, encoder) from a weights file (or shard index) and its config.json, in fp32 on the CPU.

    WeightsError names every key of the vision half that is missing, unexpected or of another shape.
    """
    family, config = vision_config(document, config_file)
    tensors = read_tensors(file, lambda name: not name.startswith(FORMATS[family].other_parts))
    return family, vision_of(tensors, family, config, file)


def vision_of(tensors: dict[str, Tensor], family: str, config: VisionConfig, where: Path | str) -> VisionTransformer:
    """The encoder from tensors under a family's names, all with one arbitrary prefix; WeightsError as above."""
    form = FORMATS[family]
    patches = rename({PATCHES: torch.empty(0)}, form.table).popitem()[0]
    anchors = [name for name in tensors if name.endswith(patches)]
    if len(anchors) != 1:
        raise WeightsError(
            f"{where}: found {patches} {len(anchors)} times in {len(tensors)} tensors such as {sorted(tensors)[:4]}, "
            f"expected the one of a {family} encoder, which its config says this is; use the right folder"
        )
    prefix = anchors[0].removesuffix(patches)
    if config.post_norm == "kept" and f"{prefix}post_layernorm.weight" not in tensors:
        config = replace(config, post_norm="none")  # some files omit it; the features do not need it
    with torch.device("meta"):
        vision = VisionTransformer(config)
    table = tuple((ours, prefix + theirs) for ours, theirs in key_table(form, config))
    unused = tuple(prefix + part for part in form.unused)
    load_strict(vision, _plain(tensors, form, prefix), where, table, unused)
    return vision


def key_table(form: VisionFormat, config: VisionConfig) -> KeyTable:
    """The family's table, written out for every layer."""
    rows = ((ours, theirs, config.num_hidden_layers if "{n}" in ours else 1) for ours, theirs in form.table)
    return tuple((ours.format(n=n), theirs.format(n=n)) for ours, theirs, count in rows for n in range(count))


def vision_tensors(vision: VisionTransformer, family: str = "", prefix: str = "") -> dict[str, Tensor]:
    """The encoder's weights as a family's files hold them, under its names; by default those of family_of()."""
    form = FORMATS[family or family_of(vision.config)]
    _require(vision.config, form)
    theirs = rename(vision.state_dict(), key_table(form, vision.config))
    ready = {
        name: tensor.reshape((1,) * form.padded.get(name, 0) + tuple(tensor.shape)) for name, tensor in theirs.items()
    }
    if form.fused:
        for first in [name for name in ready if f"{form.fused}q." in name]:
            parts = [ready.pop(first.replace(f"{form.fused}q.", f"{form.fused}{part}.")) for part in "qkv"]
            ready[first.replace(f"{form.fused}q.", form.fused)] = torch.cat(parts)
    return {prefix + name: tensor for name, tensor in ready.items()}


def save_hf_vision(folder: Path | str, vision: VisionTransformer, settings: dict, family: str = "") -> None:
    """Writes the encoder as a Hugging Face folder of its family's vision half, `settings` as preprocessor_config.json.

    family: a key of FORMATS; by default the first that fits, so 'clip' for a Chinese-CLIP. ValueError where none does.
    """
    family = family or family_of(vision.config)
    form, folder = FORMATS[family], Path(folder)
    tensors = vision_tensors(vision, family, form.prefix)
    write_json(folder / "config.json", vision_document(vision.config, family))
    write_json(folder / "preprocessor_config.json", settings)
    save_safetensors(folder / "model.safetensors", tensors)


def _require(config: VisionConfig, form: VisionFormat) -> None:
    differs = {name: getattr(config, name) for name, value in form.fixed.items() if getattr(config, name) != value}
    if differs or config.stem != "patch":
        raise ValueError(
            f"a {form.vision} has {form.fixed} and the stem 'patch'; found {differs or config.stem}: choose another "
            "family, or keep our own format"
        )


def _plain(tensors: dict[str, Tensor], form: VisionFormat, prefix: str) -> dict[str, Tensor]:
    """Their tensors in our shapes: a fused qkv linear split in three, leading axes of size 1 removed."""
    plain: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if form.fused and form.fused in name and tensor.shape[0] % 3 == 0:
            for part, piece in zip("qkv", tensor.chunk(3), strict=True):
                plain[name.replace(form.fused, f"{form.fused}{part}.")] = piece
            continue
        for _ in range(form.padded.get(name.removeprefix(prefix), 0)):
            tensor = tensor.squeeze(0)
        plain[name] = tensor
    return plain
