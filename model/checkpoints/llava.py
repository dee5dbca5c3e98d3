"""Exporting our VLM as Hugging Face's LlavaForConditionalGeneration: config and weights under its names.

LLaVA is a CLIP or SigLIP tower, two linear layers with an activation between them, and a Llama or Qwen2. Key names are
those of transformers up to 4.49, which later versions and vLLM still read.
"""

from __future__ import annotations

import contextlib
from dataclasses import asdict, replace

import torch
from torch import Tensor

from model.checkpoints.files import WeightsError
from model.checkpoints.strict import KeyTable, rename
from model.checkpoints.vision_families import FORMATS, unlike, vision_document
from model.config import LMConfig, ProjectorConfig, VisionConfig, VLMConfig
from model.vlm import VLM

TOWER, PROJECTOR, LANGUAGE = "vision_tower.vision_model.", "multi_modal_projector.", "language_model."
LLAVA: KeyTable = (("llm.", LANGUAGE), ("projector.", PROJECTOR), ("vision.", TOWER))
HEAD, EMBEDDING = LANGUAGE + "lm_head.weight", LANGUAGE + "model.embed_tokens.weight"
# Our kinds of projector that LLaVA's can compute, and the activation between its two linear layers that does so.
ACTIVATIONS = {"mlp": "gelu", "linear": "linear"}


def llava_config(vlm: VLM, image_id: int, special_ids: dict[str, int], vocab_size: int) -> dict:
    """The config.json; WeightsError, with the reason and what to do, for a model that LLaVA cannot express.

    special_ids: pad_token_id, bos_token_id, eos_token_id. vocab_size: rows of the embedding as exported.
    """
    vision, projector = picture_parts(vlm)
    tower = vision_tower(vision)
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
    """LLaVA's projector_hidden_act for our projector; WeightsError for one that LLaVA's cannot compute."""
    if config.kind not in ACTIVATIONS:
        raise WeightsError(
            f"found the projector {config.kind!r}, expected {' or '.join(ACTIVATIONS)}: LLaVA's is two linear layers "
            "with an activation between them, and keeps the number of features (ldp pools them to a quarter), so no "
            "LLaVA can compute what this model does; train with --projector mlp (or linear) and export that"
        )
    return ACTIVATIONS[config.kind]


def picture_parts(vlm: VLM) -> tuple[VisionConfig, ProjectorConfig]:
    """The configs of encoder and projector; WeightsError where the model lacks one."""
    if vlm.vision is None or vlm.config.projector is None:
        raise WeightsError("this is only a language model; export a run of train_pretrain.py or train_sft.py")
    return vlm.vision.config, vlm.config.projector


def vision_tower(config: VisionConfig) -> dict:
    """The vision_config; WeightsError for an encoder whose features LLaVA's CLIP or SigLIP cannot produce."""
    fitting = [family for family in ("clip", "siglip") if unlike(config, FORMATS[family]).keys() <= {"post_norm"}]
    if not fitting or config.pixel_shuffle > 1:
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
    return vision_document(config, fitting[0])


def llava_layer(config: VisionConfig) -> int:
    """The hidden state to take of an encoder for LLaVA's sake: the one before, where only that can be exported."""
    try:
        vision_tower(config)
    except WeightsError:
        with contextlib.suppress(WeightsError):
            vision_tower(replace(config, feature_layer=-2))
            return -2
    return config.feature_layer


def text_config(config: LMConfig) -> dict:
    """The text_config: Llama, or Qwen2 if there are biases on q, k and v."""
    kind = ("qwen2", "Qwen2ForCausalLM") if config.attention_bias else ("llama", "LlamaForCausalLM")
    names = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
             "num_key_value_heads", "rms_norm_eps", "max_position_embeddings", "tie_word_embeddings",
             "head_dim")  # fmt: skip
    values = {name: getattr(config, name) for name in names} | {"hidden_act": "silu"}
    theta, rope = {"rope_theta": config.rope_theta}, {"rope_type": "default"}
    if config.rope_scaling is not None:
        rope = {"rope_type": "llama3", **asdict(config.rope_scaling)}
        values["rope_scaling"] = rope  # transformers 4's name; 5 reads rope_parameters
    values |= theta | {"rope_parameters": rope | theta}
    biases = {} if config.attention_bias else {"attention_bias": False, "mlp_bias": False}
    return {"model_type": kind[0], "architectures": [kind[1]], **values, **biases}


def llava_tensors(vlm: VLM, vocab_size: int, unsaid_id: int) -> dict[str, Tensor]:
    """The state dict under LLaVA's names; no two tensors share memory.

    vocab_size: rows of the exported embedding; new ones are copies of row unsaid_id, a token that the model learned not
    to generate. A final LayerNorm of the encoder, which the features skip, is written as the identity if it is absent.
    """
    vision, projector = picture_parts(vlm)
    tensors = rename(vlm.state_dict(), LLAVA)
    if projector_activation(projector) == "linear":  # the second layer is the identity
        width = projector.out_features
        tensors[PROJECTOR + "linear_2.weight"] = torch.eye(width)
        tensors[PROJECTOR + "linear_2.bias"] = torch.zeros(width)
    tensors.setdefault(TOWER + "post_layernorm.weight", torch.ones(vision.hidden_size))
    tensors.setdefault(TOWER + "post_layernorm.bias", torch.zeros(vision.hidden_size))
    more = vocab_size - vlm.config.lm.vocab_size
    for name in (EMBEDDING, HEAD):
        if name in tensors and more:
            tensors[name] = torch.cat((tensors[name], tensors[name][unsaid_id].expand(more, -1)))
    tensors.setdefault(HEAD, tensors[EMBEDDING])  # a tied head is stored too: some readers look for it
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}
