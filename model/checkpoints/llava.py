"""Exporting our VLM as Hugging Face's LlavaForConditionalGeneration: config and weights under its names.

LLaVA is a CLIP or SigLIP tower, two linear layers with an activation between them, and a Llama or Qwen2. Key names are
those of transformers up to 4.49, which later versions and vLLM still read.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from model.checkpoints.files import KeyTable, WeightsError, rename
from model.checkpoints.sizes import to_dict
from model.config import LMConfig, ProjectorConfig, VisionConfig, VLMConfig
from model.vlm import VLM

LLAVA: KeyTable = (
    ("llm.", "language_model."),
    ("projector.", "multi_modal_projector."),
    ("vision.", "vision_tower.vision_model."),
)
HEAD, EMBEDDING = "language_model.lm_head.weight", "language_model.model.embed_tokens.weight"
POST_NORM = "vision_tower.vision_model.post_layernorm."
SHARED = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "image_size", "patch_size",
          "hidden_act", "layer_norm_eps")  # fmt: skip


def llava_config(vlm: VLM, image_id: int, special_ids: dict[str, int], vocab_size: int) -> dict:
    """The config.json; WeightsError, with the reason and what to do, for a model that LLaVA cannot express.

    special_ids: pad_token_id, bos_token_id, eos_token_id. vocab_size: rows of the embedding as exported.
    """
    tower = vision_tower(vlm)
    vision, projector = picture_parts(vlm)
    lm = replace(vlm.config.lm, vocab_size=vocab_size)
    return {
        "architectures": ["LlavaForConditionalGeneration"],
        "model_type": "llava",
        "image_token_index": image_id,
        "image_seq_length": vlm.image_tokens,
        "projector_hidden_act": projector_activation(projector),
        "multimodal_projector_bias": True,
        "vision_feature_layer": vision.feature_layer,
        "vision_feature_select_strategy": select_strategy(vlm.config),
        "tie_word_embeddings": lm.tie_word_embeddings,
        "vision_config": tower,
        "text_config": text_config(lm) | special_ids,
        **special_ids,
    }


def select_strategy(config: VLMConfig) -> str:
    """LLaVA's name for dropping the class token ("default") or having none ("full")."""
    return "default" if config.vision is not None and config.vision.class_token else "full"


def projector_activation(config: ProjectorConfig) -> str:
    """The activation between LLaVA's two linear layers that makes them equal to our projector."""
    if config.kind == "ldp":
        raise WeightsError(
            "LLaVA's projector keeps the number of features, ldp pools them to a quarter, so no LLaVA can compute what "
            "this model does; train with --projector mlp (or linear) and export that"
        )
    return "gelu" if config.kind == "mlp" else "linear"


def picture_parts(vlm: VLM) -> tuple[VisionConfig, ProjectorConfig]:
    """The configs of encoder and projector; WeightsError where the model lacks one."""
    if vlm.vision is None or vlm.projector is None:
        raise WeightsError("this is only a language model; export a run of train_pretrain.py or train_sft.py")
    return vlm.vision.config, vlm.projector.config


def vision_tower(vlm: VLM) -> dict:
    """The vision_config; WeightsError for an encoder whose features LLaVA's CLIP or SigLIP cannot produce."""
    config, _ = picture_parts(vlm)
    plain = not config.layer_scale and config.pixel_shuffle == 1
    kinds: dict[tuple, dict[str, Any]] = {
        ("patch", True, True, False, True): {"model_type": "clip_vision_model", "architectures": ["CLIPVisionModel"]},
        ("patch", False, False, True, True): {
            "model_type": "siglip_vision_model",
            "architectures": ["SiglipVisionModel"],
            "vision_use_head": False,
        },
    }
    shape = (config.stem, config.class_token, config.pre_norm, config.patch_bias, plain)
    if shape not in kinds:
        raise WeightsError(
            f"LLaVA's encoder is CLIP's or SigLIP's; this model's has stem {config.stem!r}, class_token "
            f"{config.class_token}, pre_norm {config.pre_norm}, patch_bias {config.patch_bias}, layer_scale "
            f"{config.layer_scale} and pixel_shuffle {config.pixel_shuffle}, which neither has (train_vision.py's is "
            "an architecture of its own). Train with --vision and a CLIP folder, and export that"
        )
    if config.post_norm == "applied" and config.feature_layer == -1:
        raise WeightsError(
            "this model's features are taken after the encoder's last LayerNorm, as SigLIP's are; LLaVA takes them "
            "before it, and its projector has no LayerNorm to make up for that. Train with a CLIP (--vision), whose "
            "features LLaVA takes as we do, or with features of an earlier layer (train_pretrain.py --feature_layer "
            "-2, LLaVA's default), and export that"
        )
    return kinds[shape] | {name: getattr(config, name) for name in SHARED} | {"num_channels": 3}


def text_config(config: LMConfig) -> dict:
    """The text_config: Llama, or Qwen2 if there are biases on q, k and v."""
    kind = ("qwen2", "Qwen2ForCausalLM") if config.attention_bias else ("llama", "LlamaForCausalLM")
    names = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
             "num_key_value_heads", "rms_norm_eps", "max_position_embeddings", "tie_word_embeddings",
             "head_dim")  # fmt: skip
    values = {name: getattr(config, name) for name in names} | {"hidden_act": "silu"}
    theta, rope = {"rope_theta": config.rope_theta}, {"rope_type": "default"}
    if config.rope_scaling is not None:
        rope = {"rope_type": "llama3", **to_dict(config.rope_scaling)}
        values["rope_scaling"] = rope  # transformers 4's name; 5 reads rope_parameters
    values |= theta | {"rope_parameters": rope | theta}
    biases = {} if config.attention_bias else {"attention_bias": False, "mlp_bias": False}
    return {"model_type": kind[0], "architectures": [kind[1]], **values, **biases}


def llava_tensors(vlm: VLM, vocab_size: int | None = None, unsaid_id: int = 0) -> dict[str, Tensor]:
    """The state dict under LLaVA's names; no two tensors share memory.

    vocab_size: rows of the exported embedding (default: unchanged); new rows are copies of row unsaid_id, a token that
    the model learned not to generate. If the model lacks the encoder's final LayerNorm, which the features skip, it is
    written as the identity.
    """
    vision, projector = picture_parts(vlm)
    projector_activation(projector)
    tensors = rename(vlm.state_dict(), LLAVA)
    if projector.kind == "linear":  # activation and second layer are the identity
        width = projector.out_features
        tensors["multi_modal_projector.linear_2.weight"] = torch.eye(width)
        tensors["multi_modal_projector.linear_2.bias"] = torch.zeros(width)
    width = vision.hidden_size
    tensors.setdefault(POST_NORM + "weight", torch.ones(width))
    tensors.setdefault(POST_NORM + "bias", torch.zeros(width))
    more = (vocab_size or vlm.config.lm.vocab_size) - vlm.config.lm.vocab_size
    for name in (EMBEDDING, HEAD):
        if name in tensors and more:
            tensors[name] = torch.cat((tensors[name], tensors[name][unsaid_id].expand(more, -1)))
    tensors.setdefault(HEAD, tensors[EMBEDDING])  # a tied head is stored too: some readers look for it
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}
