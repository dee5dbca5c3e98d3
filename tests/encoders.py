"""Tiny folders of every family of vision encoder at random weights, and what their own code makes of pixels."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

SIZES = {"hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
         "image_size": 32, "patch_size": 8}  # fmt: skip
FAMILIES = ("clip", "chinese_clip", "siglip", "internvl", "intern_vit")
LIBRARY = FAMILIES[:-1]  # those that transformers has
NAMES = {"clip": "CLIP", "chinese_clip": "ChineseCLIP", "siglip": "Siglip", "internvl": "InternVL"}
TEXT = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 9}
TEXT |= {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}


def pixels(pictures: int = 2, size: int = 32) -> Tensor:
    return torch.randn(pictures, 3, size, size, generator=torch.Generator().manual_seed(1))


def shaken(model: nn.Module) -> nn.Module:
    """Every weight moved off its default, so that a bias, a norm or a scale in the wrong place shows."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def write_family(folder: Path, family: str, whole: bool = False, shards: str | None = None):
    """A folder of the family as its library writes it; returns pixels -> the features to expect.

    whole: the model with its other halves. shards: the largest size of a file, '30KB'.
    """
    if family == "intern_vit":
        return write_intern_vit(folder, whole)
    transformers = pytest.importorskip("transformers")
    name = NAMES[family]
    sizes = dict(SIZES, attention_bias=True) if family == "internvl" else SIZES
    if not whole:
        model = getattr(transformers, f"{name}VisionModel")(getattr(transformers, f"{name}VisionConfig")(**sizes))
    elif family == "internvl":
        text = {**TEXT, "model_type": "qwen2", "num_key_value_heads": 1}
        config = transformers.InternVLConfig(vision_config=sizes, text_config=text)
        model = transformers.InternVLForConditionalGeneration(config)
    else:
        config = getattr(transformers, f"{name}Config")(vision_config=dict(sizes), text_config=TEXT)
        model = getattr(transformers, f"{name}Model")(config)
    shaken(model).save_pretrained(folder, **({"max_shard_size": shards} if shards else {}))
    vision = model
    if whole:
        vision = model.model.vision_tower if family == "internvl" else model.vision_model
    return lambda given: library_features(family, vision, given)


@torch.no_grad()
def library_features(family: str, vision: nn.Module, given: Tensor) -> Tensor:
    """What transformers' own model gives, as the family's features are taken (model/checkpoints/vision_families.py)."""
    state = vision(pixel_values=given).last_hidden_state
    if family == "siglip":
        return state
    if family != "internvl":
        return state[:, 1:]
    transformers = pytest.importorskip("transformers")
    side = round((state.shape[1] - 1) ** 0.5)
    shuffled = transformers.InternVLModel.pixel_shuffle(None, state[:, 1:].unflatten(1, (side, side)), 0.5)
    return shuffled.flatten(1, 2)


def write_intern_vit(folder: Path, whole: bool = False):
    """An InternViT folder as InternVL's own code names things, from the shapes that its model card and code publish."""
    width, inner, layers, patch = SIZES["hidden_size"], SIZES["intermediate_size"], 2, SIZES["patch_size"]
    shapes = {"embeddings.class_embedding": (1, 1, width), "embeddings.position_embedding": (1, 17, width),
              "embeddings.patch_embedding.weight": (width, 3, patch, patch),
              "embeddings.patch_embedding.bias": (width,)}  # fmt: skip
    for n in range(layers):
        at = f"encoder.layers.{n}."
        shapes |= {at + "ls1": (width,), at + "ls2": (width,)}
        for name, out, into in (("attn.qkv", 3 * width, width), ("attn.proj", width, width),
                                ("mlp.fc1", inner, width), ("mlp.fc2", width, inner)):  # fmt: skip
            shapes |= {f"{at}{name}.weight": (out, into), f"{at}{name}.bias": (out,)}
        for name in ("norm1", "norm2"):
            shapes |= {f"{at}{name}.weight": (width,), f"{at}{name}.bias": (width,)}
    generator = torch.Generator().manual_seed(0)
    state = {name: 0.3 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    vision = {**SIZES, "architectures": ["InternVisionModel"], "model_type": "intern_vit_6b", "hidden_act": "gelu",
              "layer_norm_eps": 1e-6, "norm_type": "layer_norm", "num_channels": 3, "qk_normalization": False,
              "qkv_bias": True, "use_flash_attn": True}  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    document, stored = vision, state
    if whole:
        document = {"model_type": "internvl_chat", "vision_config": vision, "llm_config": {}, "ps_version": "v2",
                    "select_layer": -1, "downsample_ratio": 0.5}  # fmt: skip
        stored = {f"vision_model.{name}": tensor for name, tensor in state.items()}
        stored |= {"language_model.model.norm.weight": torch.ones(3), "mlp1.0.weight": torch.ones(4 * width)}
    save_file(stored, folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(document))
    return lambda given: intern_vit(state, given)


def intern_vit(state: dict[str, Tensor], given: Tensor, heads: int = 2) -> Tensor:
    """InternViT's arithmetic as its paper and code describe it, written out: the reference for that family.

    Pre-norm blocks; query, key and value from one linear, in this order; each branch times its LayerScale; then the
    patches in 2 x 2 blocks, top left, top right, bottom left, bottom right.
    """

    def norm(x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], state[name + ".weight"], state[name + ".bias"], 1e-6)

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ state[name + ".weight"].T + state[name + ".bias"]

    weight, bias = state["embeddings.patch_embedding.weight"], state["embeddings.patch_embedding.bias"]
    x = F.conv2d(given, weight, bias, stride=weight.shape[-1]).flatten(2).transpose(1, 2)
    x = torch.cat((state["embeddings.class_embedding"].expand(len(x), 1, -1), x), 1)
    x = x + state["embeddings.position_embedding"]
    for n in range(2):
        at = f"encoder.layers.{n}."
        q, k, v = linear(norm(x, at + "norm1"), at + "attn.qkv").chunk(3, -1)
        width = q.shape[-1] // heads
        outs = []
        for h in range(heads):
            here = slice(h * width, (h + 1) * width)
            outs.append((q[..., here] @ k[..., here].mT / width**0.5).softmax(-1) @ v[..., here])
        x = x + linear(torch.cat(outs, -1), at + "attn.proj") * state[at + "ls1"]
        x = x + linear(F.gelu(linear(norm(x, at + "norm2"), at + "mlp.fc1")), at + "mlp.fc2") * state[at + "ls2"]
    x = x[:, 1:]
    side = round(x.shape[1] ** 0.5)
    blocks = [[x[:, (row + r) * side + column + c] for r in (0, 1) for c in (0, 1)]
              for row in range(0, side, 2) for column in range(0, side, 2)]  # fmt: skip
    return torch.stack([torch.cat(block, -1) for block in blocks], 1)
