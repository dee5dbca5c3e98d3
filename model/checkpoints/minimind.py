"""MiniMind2 and MiniMind2-V .pth files: sizes inferred from shapes, and their names for our parameters."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from model.checkpoints.files import WeightsError, read_tensors, refusing, save_pickle
from model.checkpoints.strict import KeyTable, rename
from model.config import LMConfig, VisionConfig
from model.vlm import VLM

# Our VLM's names and MiniMind2-V's. Its language model has Hugging Face's names, as ours does.
MINIMIND_V: KeyTable = (("llm.", ""), ("projector.linear_1.", "vision_proj.vision_proj.0."))
MINIMIND_V_PROJECTOR = "vision_proj."
# What shapes do not determine, the same in every MiniMind2.
ASSUMED: dict[str, Any] = {"num_attention_heads": 8, "num_key_value_heads": 2, "rope_theta": 1e6, "rms_norm_eps": 1e-5}

# The encoder that MiniMind-V's code runs.
ENCODER: dict[str, Any] = {"hidden_size": 768, "num_patches": 196, "stem": "patch", "class_token": True,
                           "pre_norm": True, "feature_layer": -1}  # fmt: skip


def minimind_config(tensors: dict[str, Tensor], config: dict, where: Path | str) -> LMConfig:
    """The sizes of a MiniMind2 state dict: from its shapes, and from `config` what shapes do not determine."""
    embedding, gate = "model.embed_tokens.weight", "model.layers.0.mlp.gate_proj.weight"
    missing = [name for name in (embedding, gate) if name not in tensors or tensors[name].dim() != 2]
    if missing:
        raise WeightsError(
            f"{where}: missing the matrices {missing}; found {len(tensors)} tensors such as {sorted(tensors)[:4]}. "
            "Expected MiniMind2's names (April 2025 or later), or a Llama config.json beside the file"
        )
    layers = {match[1] for name in tensors if (match := re.match(r"model\.layers\.(\d+)\.", name))}
    given = {name: config.get(name, value) for name, value in ASSUMED.items()}
    with refusing(where):
        return LMConfig(
            hidden_size=tensors[embedding].shape[1],
            num_hidden_layers=len(layers),
            intermediate_size=tensors[gate].shape[0],
            vocab_size=tensors[embedding].shape[0],
            **given,
        )


def minimind_language(file: Path, config: dict) -> tuple[LMConfig, dict[str, Tensor]]:
    """Config and state dict of a MiniMind2 or MiniMind2-V file, without the head's copy of the embedding."""
    tensors = read_tensors(file)
    return minimind_config(tensors, config, file), without_tied_head(tensors, file)


def without_tied_head(tensors: dict[str, Tensor], where: Path | str) -> dict[str, Tensor]:
    """`tensors` without the head's copy of the embedding; WeightsError where the two differ."""
    head, embedding = tensors.get("lm_head.weight"), tensors.get("model.embed_tokens.weight")
    if head is None or embedding is None:
        return tensors
    if not torch.equal(head.to(embedding.dtype), embedding):
        raise WeightsError(
            f"{where}: lm_head.weight differs from model.embed_tokens.weight, but the model's head is tied; "
            "expected two equal copies. In a Llama folder set tie_word_embeddings to false, else save again"
        )
    return {name: tensor for name, tensor in tensors.items() if name != "lm_head.weight"}


def check_minimind_v(vlm: VLM) -> None:
    """WeightsError for what MiniMind2-V's format cannot hold.

    That is a projector other than `linear`, a language model with an untied head or biases, and other values than
    MiniMind2's where shapes do not determine them, since readers assume those.
    """
    state = _without_encoder(vlm)
    strange = [key for key in state if key.endswith("_proj.bias") or key.startswith("llm.lm_head.")]
    strange += [key for key in state if key.startswith("projector.") and "linear_1." not in key]
    if strange or "projector.linear_1.weight" not in state:
        raise WeightsError(
            "MiniMind2-V's format holds a linear projector and a tied head, and no biases in the language "
            f"model; found {strange or 'no projector'}. Keep our own format for this model"
        )
    for name, value in ASSUMED.items():
        found = getattr(vlm.config.lm, name)
        if found != value:
            raise WeightsError(
                f"MiniMind2-V's format does not tell {name}, which is {value} in every MiniMind2; found {found}. Keep "
                "our own format for this model"
            )


def check_minimind_encoder(config: VisionConfig) -> None:
    """WeightsError for an encoder that MiniMind-V's code does not run: CLIP ViT-B/16 is hard-coded there."""
    odd = [f"{name} {getattr(config, name)!r} (expected {value!r})" for name, value in ENCODER.items()
           if getattr(config, name) != value]  # fmt: skip
    if odd:
        raise WeightsError(
            f"MiniMind-V takes the last hidden state of a CLIP ViT-B/16, this model's encoder has {', '.join(odd)}; "
            "train with such an encoder (--vision), or keep our own format"
        )


def _without_encoder(vlm: VLM) -> dict[str, Tensor]:
    return {key: tensor for key, tensor in vlm.state_dict().items() if not key.startswith("vision.")}


def save_minimind_v(path: Path | str, vlm: VLM) -> None:
    """Writes `vlm` as MiniMind2-V saves it: its names, fp16, the tied head twice, no encoder.

    WeightsError for a model that check_minimind_v() refuses.
    """
    check_minimind_v(vlm)
    theirs = rename({key: tensor.half() for key, tensor in _without_encoder(vlm).items()}, MINIMIND_V)
    save_pickle(path, {**theirs, "lm_head.weight": theirs["model.embed_tokens.weight"]})
