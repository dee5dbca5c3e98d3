"""The vision encoders of other projects: reading and writing their configs and weights, by a table for each family.

What an image's features are, by family (in brackets: model_type of the whole model, and of its vision half):

- clip, chinese_clip (clip, clip_vision_model, and the same after chinese_): the last hidden state without the class
  token, before post_layernorm, which is kept only for export.
- siglip (siglip, siglip_vision_model), also SigLIP 2 of fixed resolution: the last hidden state after post_layernorm.
  There is no class token; the attention pooling (`head`) is omitted.
- internvl (internvl, internvl_vision): the last hidden state without the class token, each 2 x 2 block merged into one
  feature, (N / 4, 4 Dv). A config can name another layer and block size.
- intern_vit (internvl_chat, intern_vit_6b): the same encoder, as InternVL's own code stores it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from model.checkpoints import files
from model.checkpoints.files import WeightsError, read_tensors, refusing
from model.checkpoints.strict import SAME, KeyTable, load_strict, rename, their_name
from model.config import VisionConfig
from model.vision import VisionTransformer

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5)
BICUBIC = 3  # its number in preprocessor_config.json


@dataclass(frozen=True)
class VisionFormat:
    """How one family's folder describes a VisionTransformer; used for reading and for writing."""

    whole: str  # model_type of the whole model, which has its vision half in vision_config
    vision: str  # model_type of the vision half alone
    architecture: str  # the class of the vision half
    sizes: dict[str, Any]  # config keys, named as ours, and their config class's defaults
    fixed: dict[str, Any]  # fields of VisionConfig that every encoder of the family has
    only: dict[str, tuple] = field(default_factory=dict)  # config key: (default, the one value supported)
    table: KeyTable = SAME  # our names and theirs; {n} is the layer index
    fused: str = ""  # the linear that computes query, key and value at once
    padded: dict[str, int] = field(default_factory=dict)  # their name: number of leading axes of size 1
    prefix: str = "vision_model."  # of every name when writing; any is accepted when reading
    other_parts: tuple[str, ...] = ()  # the other halves of a whole model
    unused: tuple[str, ...] = ()  # parts of the vision half that the features do not pass through
    written: dict[str, Any] = field(default_factory=dict)  # further config keys when writing
    processor: str = "CLIPImageProcessor"
    mean: tuple = CLIP_MEAN
    std: tuple = CLIP_STD
    crops: bool = True  # resize the shorter edge, then centre-crop; else resize height and width

    def keys(self, layers: int, prefix: str = "") -> KeyTable:
        """The table written out for every layer, with `prefix` before their names."""
        return tuple(
            (ours.format(n=n), prefix + theirs.format(n=n))
            for ours, theirs in self.table
            for n in range(layers if "{n}" in ours else 1)
        )


_CLIP_SIZES = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
               "image_size": 224, "patch_size": 32, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5}  # fmt: skip
_CLIP_FIXED = {"class_token": True, "pre_norm": True, "post_norm": "kept", "patch_bias": False, "layer_scale": False}
_CLIP_PARTS = ("text_model.", "text_projection.", "visual_projection.", "logit_scale")
_INTERN_SIZES = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
                 "image_size": 448, "patch_size": 14, "hidden_act": "gelu", "layer_norm_eps": 1e-6}  # fmt: skip
_INTERN_FIXED = {"class_token": True, "pre_norm": False, "post_norm": "none", "patch_bias": True, "layer_scale": True}
_INTERN_PARTS = tuple(f"{start}{part}" for start in ("", "model.") for part in
                      ("language_model.", "mlp1.", "multi_modal_projector.", "lm_head."))  # fmt: skip

FORMATS: dict[str, VisionFormat] = {
    "clip": VisionFormat(
        "clip", "clip_vision_model", "CLIPVisionModel", _CLIP_SIZES, _CLIP_FIXED, other_parts=_CLIP_PARTS,
    ),
    "chinese_clip": VisionFormat(
        "chinese_clip", "chinese_clip_vision_model", "ChineseCLIPVisionModel", _CLIP_SIZES, _CLIP_FIXED,
        other_parts=_CLIP_PARTS, processor="ChineseCLIPImageProcessor",
    ),
    "siglip": VisionFormat(
        "siglip", "siglip_vision_model", "SiglipVisionModel",
        {**_CLIP_SIZES, "patch_size": 16, "hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6},
        {"class_token": False, "pre_norm": False, "post_norm": "applied", "patch_bias": True, "layer_scale": False},
        other_parts=("text_model.", "logit_scale", "logit_bias"), unused=("head.",),
        written={"vision_use_head": False}, processor="SiglipImageProcessor", mean=HALF, std=HALF, crops=False,
    ),
    "internvl": VisionFormat(
        "internvl", "internvl_vision", "InternVLVisionModel", _INTERN_SIZES, _INTERN_FIXED,
        only={
            "use_qk_norm": (False, False), "attention_bias": (False, True), "norm_type": ("layer_norm", "layer_norm"),
            "use_absolute_position_embeddings": (True, True), "use_mean_pooling": (True, True),
        },
        table=(
            ("embeddings.class_embedding", "embeddings.cls_token"),
            ("embeddings.position_embedding.weight", "embeddings.position_embeddings"),
            ("embeddings.patch_embedding.", "embeddings.patch_embeddings.projection."),
            ("encoder.layers.{n}.self_attn.out_proj.", "encoder.layer.{n}.attention.projection_layer."),
            ("encoder.layers.{n}.self_attn.", "encoder.layer.{n}.attention."),
            ("encoder.layers.{n}.mlp.", "encoder.layer.{n}.mlp."),
            ("encoder.layers.{n}.layer_norm1.", "encoder.layer.{n}.layernorm_before."),
            ("encoder.layers.{n}.layer_norm2.", "encoder.layer.{n}.layernorm_after."),
            ("encoder.layers.{n}.layer_scale1", "encoder.layer.{n}.lambda_1"),
            ("encoder.layers.{n}.layer_scale2", "encoder.layer.{n}.lambda_2"),
        ),
        padded={"embeddings.cls_token": 2, "embeddings.position_embeddings": 1}, prefix="", other_parts=_INTERN_PARTS,
        unused=("embeddings.mask_token",), processor="GotOcr2ImageProcessor", mean=IMAGENET_MEAN, std=IMAGENET_STD,
        crops=False,
    ),
    "intern_vit": VisionFormat(
        "internvl_chat", "intern_vit_6b", "InternVisionModel",
        {**_INTERN_SIZES, "hidden_size": 3200, "intermediate_size": 12800, "num_hidden_layers": 48,
         "num_attention_heads": 25, "image_size": 224}, _INTERN_FIXED,  # their config class is made for the 6B model
        only={"qk_normalization": (True, False), "qkv_bias": (False, True), "norm_type": ("rms_norm", "layer_norm")},
        table=(
            ("embeddings.position_embedding.weight", "embeddings.position_embedding"),
            ("embeddings.", "embeddings."),
            ("encoder.layers.{n}.self_attn.q_proj.", "encoder.layers.{n}.attn.qkv.q."),
            ("encoder.layers.{n}.self_attn.k_proj.", "encoder.layers.{n}.attn.qkv.k."),
            ("encoder.layers.{n}.self_attn.v_proj.", "encoder.layers.{n}.attn.qkv.v."),
            ("encoder.layers.{n}.self_attn.out_proj.", "encoder.layers.{n}.attn.proj."),
            ("encoder.layers.{n}.mlp.", "encoder.layers.{n}.mlp."),
            ("encoder.layers.{n}.layer_norm1.", "encoder.layers.{n}.norm1."),
            ("encoder.layers.{n}.layer_norm2.", "encoder.layers.{n}.norm2."),
            ("encoder.layers.{n}.layer_scale1", "encoder.layers.{n}.ls1"),
            ("encoder.layers.{n}.layer_scale2", "encoder.layers.{n}.ls2"),
        ),
        fused=".attn.qkv.", padded={"embeddings.class_embedding": 2, "embeddings.position_embedding": 1},
        prefix="", other_parts=_INTERN_PARTS, mean=IMAGENET_MEAN, std=IMAGENET_STD,
    ),
}  # fmt: skip
PATCHES = "embeddings.patch_embedding.weight"  # in every family, and only in vision encoders
NAFLEX = ("siglip2", "siglip2_vision_model")


def vision_config(document: dict, where: Path | str) -> tuple[str, VisionConfig]:
    """(family, our config) of a folder's config.json; WeightsError names what this encoder does not support."""
    kind = document.get("model_type")
    with refusing(where):
        if kind in NAFLEX:
            raise ValueError(
                f"found model_type {kind!r}, a NaFlex SigLIP 2: its images keep their shape and give varying numbers "
                "of patches, but this encoder has one fixed grid; take a SigLIP 2 of fixed resolution (their "
                "model_type is 'siglip')"
            )
        kinds = {kind: family for family, form in FORMATS.items() for kind in (form.whole, form.vision)}
        if kind not in list(kinds):
            raise ValueError(
                f"found model_type {kind!r}, expected one of {tuple(kinds)} (or an encoder trained here); use the "
                "folder of a CLIP, Chinese-CLIP, SigLIP, SigLIP 2 (fixed resolution) or InternViT model"
            )
        form, vision = FORMATS[kinds[kind]], document
        if kind == form.whole:  # early CLIP configs have a vision_config_dict, which takes precedence
            parts = [document.get(name) or {} for name in ("vision_config", "vision_config_dict")]
            if not all(isinstance(part, dict) for part in parts):
                raise ValueError(f"found vision_config {parts[0]!r}, expected a JSON object")
            vision = {**parts[0], **parts[1]}
            half = vision.get("model_type", form.vision)
            if half != form.vision:
                raise ValueError(f"found the vision half {half!r} in a {kind!r} model, expected {form.vision!r}")
        for name, (absent, does) in {"num_channels": (3, 3), **form.only}.items():
            if vision.get(name, absent) != does:
                found = repr(vision[name]) if name in vision else f"none, which means {absent!r}"
                example = " (as InternViT-300M has)" if name in form.only else " (RGB)"
                raise ValueError(f"found {name} {found}, this encoder supports only {does!r}{example}")
        sizes = {name: vision.get(name, default) for name, default in form.sizes.items()}
        for name in ("image_size", "patch_size"):
            if isinstance(sizes[name], (list, tuple)):  # [height, width]
                if len(sizes[name]) != 2 or sizes[name][0] != sizes[name][1]:
                    raise ValueError(f"found {name} {sizes[name]}, this encoder supports only squares")
                sizes[name] = sizes[name][0]
        if form.fixed["layer_scale"]:  # InternVL, whose defaults go for an InternViT alone too
            ratio = document.get("downsample_ratio", 0.5)
            if ratio * round(1 / ratio) != 1:
                raise ValueError(f"found downsample_ratio {ratio}, expected 1 / n for a whole number n")
            layer = document.get("select_layer", document.get("vision_feature_layer", -1))
            sizes |= {"pixel_shuffle": round(1 / ratio), "feature_layer": layer}
        return kinds[kind], VisionConfig(**sizes, **form.fixed)


def unlike(config: VisionConfig, form: VisionFormat) -> dict[str, Any]:
    """The fields of `config` that are not those of the family's encoders; empty where its format can hold this one."""
    wanted = {"stem": "patch", **form.fixed}
    return {name: getattr(config, name) for name, value in wanted.items() if getattr(config, name) != value}


def vision_document(config: VisionConfig, family: str) -> dict:
    """The config.json of the vision half alone; only InternVL's records the feature layer."""
    form = FORMATS[family]
    document = {"model_type": form.vision, "architectures": [form.architecture], **form.written}
    document |= {name: getattr(config, name) for name in form.sizes}
    document |= {"num_channels": 3} | {name: does for name, (_, does) in form.only.items()}
    if form.fixed["layer_scale"]:
        document |= {"downsample_ratio": 1 / config.pixel_shuffle, "vision_feature_layer": config.feature_layer}
    return document


def processor_settings(family: str, size: int) -> dict[str, Any]:
    """The family's preprocessor_config.json for images of `size` x `size` pixels."""
    form = FORMATS[family]
    square = {"height": size, "width": size}
    settings = {
        "image_processor_type": form.processor,
        "do_resize": True, "size": {"shortest_edge": size} if form.crops else square, "resample": BICUBIC,
        "do_rescale": True, "rescale_factor": 1 / 255,
        "do_normalize": True, "image_mean": list(form.mean), "image_std": list(form.std),
        "do_convert_rgb": True,
    }  # fmt: skip
    return settings | ({"do_center_crop": True, "crop_size": square} if form.crops else {})


def read_vision(file: Path, config_file: Path, document: dict) -> tuple[str, VisionTransformer]:
    """(family, encoder) from a weights file (or shard index) and its config.json, as load_vision() says."""
    family, config = vision_config(document, config_file)
    form = FORMATS[family]
    tensors = read_tensors(file, lambda name: not name.startswith(form.other_parts))
    patches = their_name(PATCHES, form.table)
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
    files.write_json(folder / "config.json", vision_document(vision.config, family))
    files.write_json(folder / "preprocessor_config.json", settings)
    files.save_safetensors(folder / "model.safetensors", tensors)


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
