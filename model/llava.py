"""Our VLM as Hugging Face's LlavaForConditionalGeneration: config and weights under its names.

LLaVA is a CLIP or SigLIP tower, two linear layers with an activation between them, and a Llama or Qwen2. Key names are
those of transformers 4.49 and before, which later versions of it, and vLLM, still read.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from model.config import LMConfig, ProjectorConfig, VLMConfig
from model.tensors import KeyTable, WeightsError, rename
from model.vlm import VLM

LLAVA: KeyTable = (
    ("llm.", "language_model."),
    ("projector.", "multi_modal_projector."),
    ("vision.", "vision_tower.vision_model."),
)
HEAD, EMBEDDING = "language_model.lm_head.weight", "language_model.model.embed_tokens.weight"
PATCH_BIAS = "vision.embeddings.patch_embedding.bias"
POST_NORM = "vision_tower.vision_model.post_layernorm."
SHARED = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "image_size", "patch_size",
          "hidden_act", "layer_norm_eps")  # fmt: skip


def llava_config(vlm: VLM, image_id: int, special_ids: dict[str, int], vocab_size: int) -> dict:
    """config.json; WeightsError for a model that LLaVA cannot express, with the reason and what to do.

    special_ids: pad_token_id, bos_token_id, eos_token_id. vocab_size: rows of the embedding as exported.
    """
    tower = vision_tower(vlm)
    lm = replace(vlm.config.lm, vocab_size=vocab_size)
    return {
        "architectures": ["LlavaForConditionalGeneration"],
        "model_type": "llava",
        "image_token_index": image_id,
        "image_seq_length": vlm.image_tokens,
        "projector_hidden_act": projector_activation(vlm.config.projector),
        "multimodal_projector_bias": True,
        "vision_feature_layer": vlm.config.vision.feature_layer,
        "vision_feature_select_strategy": select_strategy(vlm.config),
        "tie_word_embeddings": lm.tie_word_embeddings,
        "vision_config": tower,
        "text_config": text_config(lm) | special_ids,
        **special_ids,
    }


def select_strategy(config: VLMConfig) -> str:
    """LLaVA's word for dropping the class token ("default") or having none ("full")."""
    return "default" if config.vision.class_token else "full"


def projector_activation(config: ProjectorConfig) -> str:
    """LLaVA's activation between its two linear layers that makes them our projector."""
    if config.kind == "ldp":
        raise WeightsError(
            "LLaVA's projector keeps the number of features, ldp pools them to a quarter, so no LLaVA computes what "
            "this model does; align and tune with --projector mlp (or linear) and export that"
        )
    return "gelu" if config.kind == "mlp" else "linear"


def vision_tower(vlm: VLM) -> dict:
    """vision_config; WeightsError for an encoder that is neither CLIP's nor SigLIP's."""
    if vlm.vision is None or vlm.projector is None:
        raise WeightsError("this is a language model alone; export a run of train_pretrain.py or train_sft.py")
    config = vlm.config.vision
    biased = PATCH_BIAS in {"vision." + name for name in vlm.vision.state_dict()}
    shape = (config.stem, config.class_token, config.pre_norm, biased)
    kinds = {
        ("patch", True, True, False): {"model_type": "clip_vision_model", "architectures": ["CLIPVisionModel"]},
        ("patch", False, False, True): {
            "model_type": "siglip_vision_model",
            "architectures": ["SiglipVisionModel"],
            "vision_use_head": False,
        },
    }
    if shape not in kinds:
        raise WeightsError(
            f"LLaVA's encoder is CLIP's or SigLIP's; this model's has stem {config.stem!r}, class_token "
            f"{config.class_token}, pre_norm {config.pre_norm} and a patch bias {biased}, which neither has "
            "(train_vision.py's encoder is of a kind of its own). Align with --vision and a CLIP or SigLIP folder, and "
            "export that"
        )
    return kinds[shape] | {name: getattr(config, name) for name in SHARED} | {"num_channels": 3}


def text_config(config: LMConfig) -> dict:
    """A Llama's or, with biases on q, k and v, a Qwen2's config."""
    kind = ("qwen2", "Qwen2ForCausalLM") if config.attention_bias else ("llama", "LlamaForCausalLM")
    values = {
        name: getattr(config, name)
        for name in ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
                     "num_key_value_heads", "rms_norm_eps", "max_position_embeddings", "tie_word_embeddings")
    }  # fmt: skip
    theta = {"rope_theta": config.rope_theta}
    rope = theta | {"rope_parameters": {"rope_type": "default", **theta}}  # in the words of transformers 4 and of 5
    plain = {"hidden_act": "silu", "head_dim": config.head_dim}
    biases = {} if config.attention_bias else {"attention_bias": False, "mlp_bias": False}
    return {"model_type": kind[0], "architectures": [kind[1]], **values, **rope, **plain, **biases}


def llava_tensors(
    vlm: VLM, post_norm: dict[str, Tensor] | None = None, vocab_size: int | None = None, unsaid_id: int = 0
) -> dict[str, Tensor]:  # fmt: skip
    """The weights under LLaVA's names; each tensor has memory of its own.

    post_norm: CLIP's last LayerNorm ("weight", "bias"), which comes after our features; ones and zeros where it is not
    known. vocab_size: rows to give the embedding (default: those it has); the new ones are copies of row unsaid_id,
    which the model learned not to say.
    """
    projector_activation(vlm.config.projector)
    tensors = rename(vlm.state_dict(), LLAVA)
    if vlm.config.projector.kind == "linear":  # then the activation is the identity, and so is the second layer
        width = vlm.config.projector.out_features
        tensors["multi_modal_projector.linear_2.weight"] = torch.eye(width)
        tensors["multi_modal_projector.linear_2.bias"] = torch.zeros(width)
    if POST_NORM + "weight" not in tensors:
        width = vlm.config.vision.hidden_size
        known = post_norm or {"weight": torch.ones(width), "bias": torch.zeros(width)}
        tensors |= {POST_NORM + name: known[name] for name in ("weight", "bias")}
    more = (vocab_size or vlm.config.lm.vocab_size) - vlm.config.lm.vocab_size
    for name in (EMBEDDING, HEAD):
        if name in tensors and more:
            tensors[name] = torch.cat((tensors[name], tensors[name][unsaid_id].expand(more, -1)))
    tensors.setdefault(HEAD, tensors[EMBEDDING])  # a tied head is stored too: some readers look for it
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}
