"""MiniMind2 and MiniMind2-V .pth files: sizes inferred from shapes, and their names for our parameters."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch import Tensor

from model.checkpoints.files import KeyTable, WeightsError, read_tensors, rename, save_pickle
from model.config import LMConfig
from model.vlm import VLM

# Our VLM's names and MiniMind2-V's. Its language model has Hugging Face's names, as ours does.
MINIMIND_V: KeyTable = (("llm.", ""), ("projector.linear_1.", "vision_proj.vision_proj.0."))
MINIMIND_V_PROJECTOR = "vision_proj."
MINIMIND_HEADS, MINIMIND_KV_HEADS = 8, 2  # of every MiniMind2 size; shapes do not determine them


def minimind_config(tensors: dict[str, Tensor], config: dict, where: Path | str) -> LMConfig:
    """The sizes of a MiniMind2 state dict: from its shapes, and from `config` what shapes do not determine."""
    first = "model.layers.0."
    shaped = ("model.embed_tokens.weight", first + "mlp.gate_proj.weight")
    missing = [name for name in shaped if name not in tensors]
    if missing:
        raise WeightsError(
            f"{where}: missing {missing}; found {len(tensors)} tensors such as {sorted(tensors)[:4]}. "
            "Expected MiniMind2's names (April 2025 or later), or a Llama config.json beside the file"
        )
    vocab_size, hidden_size = tensors[shaped[0]].shape
    heads = config.get("num_attention_heads", MINIMIND_HEADS)
    defaults = LMConfig()
    layers = {int(match[1]) for name in tensors if (match := re.match(r"model\.layers\.(\d+)\.", name))}
    try:
        return LMConfig(
            hidden_size=hidden_size,
            num_hidden_layers=max(layers) + 1,
            num_attention_heads=heads,
            num_key_value_heads=config.get("num_key_value_heads", MINIMIND_KV_HEADS),
            intermediate_size=tensors[shaped[1]].shape[0],
            vocab_size=vocab_size,
            rope_theta=float(config.get("rope_theta", defaults.rope_theta)),
            rms_norm_eps=config.get("rms_norm_eps", defaults.rms_norm_eps),
        )
    except ValueError as error:
        raise WeightsError(f"{where}: {error}") from error


def without_tied_head(tensors: dict[str, Tensor], where: Path | str) -> dict[str, Tensor]:
    """`tensors` without the head's copy of the embedding; WeightsError where the two differ."""
    head, embedding = tensors.get("lm_head.weight"), tensors.get("model.embed_tokens.weight")
    if head is None or embedding is None:
        return tensors
    if not torch.equal(head, embedding):
        raise WeightsError(
            f"{where}: lm_head.weight differs from model.embed_tokens.weight, but the model's head is tied; "
            "expected two equal copies. In a Llama folder set tie_word_embeddings to false, else save again"
        )
    return {name: tensor for name, tensor in tensors.items() if name != "lm_head.weight"}


def minimind_v_tensors(state: dict[str, Tensor], lm: LMConfig) -> dict[str, Tensor]:
    """A VLM's state dict as MiniMind2-V saves it: its names, fp16, the tied head twice, no encoder.

    WeightsError for what that format cannot hold: a projector other than `linear`, a language model with an untied
    head or biases, and other values than MiniMind2's where shapes do not determine them, since readers assume those.
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


def minimind_language(file: Path, config: dict) -> tuple[LMConfig, dict[str, Tensor]]:
    """Config and state dict of a MiniMind2 or MiniMind2-V file, without the head's copy of the embedding."""
    tensors = read_tensors(file)
    return minimind_config(tensors, config, file), without_tied_head(tensors, file)


def save_minimind_v(path: Path | str, vlm: VLM) -> None:
    """Writes `vlm` as MiniMind2-V's own .pth, without the encoder; WeightsError where that format cannot hold it."""
    save_pickle(path, minimind_v_tensors(vlm.state_dict(), vlm.config.lm))
