"""Reading and writing other projects' vision encoders, by the tables of vision_families.py."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from model.checkpoints.files import WeightsError, load_strict, read_tensors, rename, save_safetensors, write_json
from model.checkpoints.vision_families import FORMATS, VisionFormat, unlike, vision_config, vision_document
from model.vision import VisionTransformer

PATCHES = "embeddings.patch_embedding.weight"  # in every family, and only in vision encoders


def read_vision(file: Path, config_file: Path, document: dict) -> tuple[str, VisionTransformer]:
    """(family, encoder) from a weights file (or shard index) and its config.json, as load_vision() says."""
    family, config = vision_config(document, config_file)
    form = FORMATS[family]
    tensors = read_tensors(file, lambda name: not name.startswith(form.other_parts))
    (patches,) = rename({PATCHES: torch.empty(0)}, form.table)
    anchors = [name for name in tensors if name.endswith(patches)]
    if len(anchors) != 1:
        raise WeightsError(
            f"{file}: found {patches} {len(anchors)} times in {len(tensors)} tensors such as {sorted(tensors)[:4]}, "
            f"expected the one of a {family} encoder, which its config says this is; use the right folder"
        )
    prefix = anchors[0].removesuffix(patches)
    if config.post_norm == "kept" and f"{prefix}post_layernorm.weight" not in tensors:
        config = replace(config, post_norm="none")  # some files omit it; the features do not need it
    table = form.keys(config.num_hidden_layers, prefix)
    unused = tuple(prefix + part for part in form.unused)
    return family, load_strict(lambda: VisionTransformer(config), _plain(tensors, form, prefix), file, table, unused)


def vision_tensors(vision: VisionTransformer, family: str) -> dict[str, Tensor]:
    """The encoder's weights as the family's files hold them; ValueError where its format cannot."""
    form = FORMATS[family]
    if differs := unlike(vision.config, form):
        raise ValueError(
            f"a {form.vision} has {form.fixed} and the stem 'patch'; found {differs}: choose another of "
            f"{list(FORMATS)}, or keep our own format"
        )
    theirs = rename(vision.state_dict(), form.keys(vision.config.num_hidden_layers))
    ready = {name: tensor[(None,) * form.padded.get(name, 0)] for name, tensor in theirs.items()}
    if form.fused:
        for first in [name for name in ready if f"{form.fused}q." in name]:
            parts = [ready.pop(first.replace(f"{form.fused}q.", f"{form.fused}{part}.")) for part in "qkv"]
            ready[first.replace(f"{form.fused}q.", form.fused)] = torch.cat(parts)
    return {form.prefix + name: tensor for name, tensor in ready.items()}


def save_hf_vision(folder: Path | str, vision: VisionTransformer, settings: dict, family: str) -> None:
    """Writes the encoder as a Hugging Face folder of its family's vision half, `settings` as preprocessor_config.json.

    family: a key of FORMATS. ValueError, with nothing written, where its format cannot hold this encoder.
    """
    folder, tensors = Path(folder), vision_tensors(vision, family)
    write_json(folder / "config.json", vision_document(vision.config, family))
    write_json(folder / "preprocessor_config.json", settings)
    save_safetensors(folder / "model.safetensors", tensors)


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
