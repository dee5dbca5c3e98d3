"""Other projects' checkpoints: what their configs mean here, and what they call our weights."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch import Tensor

from model.config import LMConfig, VisionConfig
from model.tensors import KeyTable, WeightsError, rename

# MiniMind2-V: our VLM's names and its own. Its language model has Hugging Face's names, as ours has.
MINIMIND_V: KeyTable = (("llm.", ""), ("projector.linear_1.", "vision_proj.vision_proj.0."))
MINIMIND_V_PROJECTOR = "vision_proj."
MINIMIND_HEADS, MINIMIND_KV_HEADS = 8, 2  # of every MiniMind2 size; shapes alone do not tell

# A CLIP checkpoint has other halves, and in its vision half a last LayerNorm that comes after our features.
CLIP_PREFIXED: KeyTable = (("", "vision_model."),)
CLIP_OTHER_PARTS = ("text_model.", "text_projection.", "visual_projection.", "logit_scale")
CLIP_AFTER_FEATURES = "post_layernorm."
CLIP_TYPES = ("clip", "clip_vision_model", "chinese_clip", "chinese_clip_vision_model")
CLIP_DEFAULTS = {  # CLIPVisionConfig's, for what a config leaves out
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "image_size": 224,
    "patch_size": 32,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
}

LLAMA_TYPES = ("llama", "qwen2")
LLAMA_SIZES = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "vocab_size",
)


def clip_config(config: dict, where: Path | str) -> VisionConfig:
    """A CLIP model's or CLIP vision model's config.json as ours; WeightsError where it is neither."""
    vision = config.get("vision_config", config)
    model_type = config.get("model_type")
    if model_type not in CLIP_TYPES or not isinstance(vision, dict):
        raise WeightsError(
            f"{where}: found model_type {model_type!r}, expected one of {CLIP_TYPES} (or an encoder trained "
            "here); give the folder of a CLIP model"
        )
    if vision.get("num_channels", 3) != 3:
        raise WeightsError(f"{where}: found num_channels {vision['num_channels']}, expected 3 (RGB)")
    try:
        return VisionConfig(**{name: vision.get(name, default) for name, default in CLIP_DEFAULTS.items()})
    except ValueError as error:
        raise WeightsError(f"{where}: {error}") from error


def llama_config(config: dict, where: Path | str) -> LMConfig:
    """A Llama's or Qwen2's config.json as ours; WeightsError names what this decoder does not do."""
    missing = [name for name in LLAMA_SIZES if name not in config]
    if missing:
        raise WeightsError(f"{where}: missing {missing}; expected a Llama's or Qwen2's config.json")
    qwen = config.get("model_type") == "qwen2"
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    heads = config["num_attention_heads"]
    head_dim = config["hidden_size"] // heads
    wanted = {  # name: (found, what this decoder does)
        "hidden_act": (config.get("hidden_act", "silu"), "silu"),
        "rope type": (rope.get("rope_type", rope.get("type", "default")), "default"),
        "partial_rotary_factor": (rope.get("partial_rotary_factor", 1.0), 1.0),
        "head_dim": (config.get("head_dim") or head_dim, head_dim),
        "attention_bias": (bool(config.get("attention_bias", qwen)), qwen),
        "mlp_bias": (bool(config.get("mlp_bias", False)), False),
        "use_sliding_window": (bool(config.get("use_sliding_window", False)), False),
    }
    for name, (found, does) in wanted.items():
        if found != does:
            raise WeightsError(f"{where}: found {name} {found!r}, this decoder does only {does!r}")
    try:
        return LMConfig(
            **{name: config[name] for name in LLAMA_SIZES},
            num_key_value_heads=config.get("num_key_value_heads") or heads,
            rope_theta=float(rope.get("rope_theta", config.get("rope_theta", 10000.0))),
            rms_norm_eps=config.get("rms_norm_eps", 1e-6),
            max_position_embeddings=config.get("max_position_embeddings", 32768 if qwen else 2048),
            tie_word_embeddings=config.get("tie_word_embeddings", False),
            attention_bias=qwen,
        )
    except ValueError as error:
        raise WeightsError(f"{where}: {error}") from error


def minimind_config(tensors: dict[str, Tensor], config: dict, where: Path | str) -> LMConfig:
    """The sizes of a MiniMind2 state dict: from its shapes, and from `config` what shapes do not tell."""
    first = "model.layers.0."
    telling = ("model.embed_tokens.weight", first + "mlp.gate_proj.weight")
    missing = [name for name in telling if name not in tensors]
    if missing:
        raise WeightsError(
            f"{where}: missing {missing}; found {len(tensors)} tensors such as {sorted(tensors)[:4]}. "
            "Expected MiniMind2's names (of April 2025 or later), or a Llama's config.json beside the file"
        )
    vocab_size, hidden_size = tensors[telling[0]].shape
    heads = config.get("num_attention_heads", MINIMIND_HEADS)
    defaults = LMConfig()
    layers = {int(match[1]) for name in tensors if (match := re.match(r"model\.layers\.(\d+)\.", name))}
    try:
        return LMConfig(
            hidden_size=hidden_size,
            num_hidden_layers=max(layers) + 1,
            num_attention_heads=heads,
            num_key_value_heads=config.get("num_key_value_heads", MINIMIND_KV_HEADS),
            intermediate_size=tensors[telling[1]].shape[0],
            vocab_size=vocab_size,
            rope_theta=float(config.get("rope_theta", defaults.rope_theta)),
            rms_norm_eps=config.get("rms_norm_eps", defaults.rms_norm_eps),
        )
    except ValueError as error:
        raise WeightsError(f"{where}: {error}") from error


def without_tied_head(tensors: dict[str, Tensor], where: Path | str) -> dict[str, Tensor]:
    """`tensors` less the head's copy of the embedding; WeightsError where the two differ."""
    head, embedding = tensors.get("lm_head.weight"), tensors.get("model.embed_tokens.weight")
    if head is None or embedding is None:
        return tensors
    if not torch.equal(head, embedding):
        raise WeightsError(
            f"{where}: lm_head.weight differs from model.embed_tokens.weight, but the model's head is tied; "
            "expected two equal copies. In a Llama's folder set tie_word_embeddings to false, else save again"
        )
    return {name: tensor for name, tensor in tensors.items() if name != "lm_head.weight"}


def minimind_v_tensors(state: dict[str, Tensor], lm: LMConfig) -> dict[str, Tensor]:
    """A VLM's state dict as MiniMind2-V saves it: its names, fp16, the tied head twice, no encoder.

    WeightsError for a projector other than `linear`, an untied or biased language model (it has no such), and
    for numbers other than MiniMind2's that the shapes do not tell: a reader would take those for granted.
    """
    state = {key: tensor for key, tensor in state.items() if not key.startswith("vision.")}
    strange = [key for key in state if key.endswith("_proj.bias") or key.startswith("llm.lm_head.")]
    strange += [key for key in state if key.startswith("projector.") and "linear_1." not in key]
    if strange or "projector.linear_1.weight" not in state:
        raise WeightsError(
            "MiniMind2-V's format holds a linear projector and a tied head, and no biases in the language "
            f"model; found {strange or 'no projector'}. Keep our own format for this model"
        )
    defaults = LMConfig()
    wanted = {
        "num_attention_heads": MINIMIND_HEADS,
        "num_key_value_heads": MINIMIND_KV_HEADS,
        "rope_theta": defaults.rope_theta,
        "rms_norm_eps": defaults.rms_norm_eps,
    }
    for name, value in wanted.items():
        if getattr(lm, name) != value:
            raise WeightsError(
                f"MiniMind2-V's format does not tell {name}, which is {value} in every MiniMind2; found "
                f"{getattr(lm, name)}. Keep our own format for this model"
            )
    theirs = rename({key: tensor.half() for key, tensor in state.items()}, MINIMIND_V)
    return {**theirs, "lm_head.weight": theirs["model.embed_tokens.weight"]}
