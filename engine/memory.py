"""An estimate of a training step's peak memory, part by part, before it is tried."""

from __future__ import annotations

import re

import torch
from torch import nn

from engine.dataloader import Feed
from engine.device import of_products
from engine.optimizer import muon_weights
from model.config import LMConfig
from model.language import LanguageModel
from model.vlm import VLM

GIB = 2**30
GPUS = (8, 12, 16, 24)  # GB, as they are sold
PROGRAM = GIB // 2  # what torch and its kernels take by themselves
SLACK = 1.1  # what the allocator loses between blocks


def memory_plan(
    model: nn.Module, feed: Feed, dtype: torch.dtype, optimizer: str, checkpointing: bool = False, ranks: int = 1,
    on_gpu: bool = False, fsdp: bool = False,
) -> dict[str, int]:  # fmt: skip
    """Bytes at the peak of a step: weights, their bf16 copies, gradients, optimizer state, activations, logits.

    Activations and logits are those of the batch with the most tokens, split among so many processes. With fsdp each
    of these has its part of weights, gradients and optimizer state too, and what is gathered at one time. On a GPU the
    frozen weights of products are there in bf16 alone (device.frozen_in).
    """
    half = dtype == torch.bfloat16
    trained = [p for p in model.parameters() if p.requires_grad]
    muon = muon_weights(model) if optimizer == "muon" else set()
    language = next((module for module in model.modules() if isinstance(module, LanguageModel)), None)
    per_batch = [(int(feed.examples.lengths[batch].max()) * len(batch), len(batch)) for batch in feed.plan(0)]
    tokens, examples = max(per_batch)
    supervised = max(int(feed.examples.supervised[batch].sum()) for batch in feed.plan(0))
    away = {id(p) for p in of_products(model, dtype) if on_gpu and not p.requires_grad and p.element_size() > 2}
    plan = {
        "weights": sum(p.numel() * p.element_size() for p in model.parameters() if id(p) not in away),
        "bf16 copies": 2 * sum(p.numel() for p in model.parameters() if p.element_size() > 2) if half else 0,
        "gradients": sum(4 * p.numel() for p in trained),
        "optimizer": sum((4 if id(p) in muon else 8) * p.numel() for p in trained),
    }
    if fsdp:
        assert isinstance(model, VLM)
        plan = divided_plan(plan, model, half, ranks)
    if language is None:
        return {**plan, "activations": 0, "logits": 0}
    # plain attention products keep a score per key that a query sees, fused ones none
    scores = getattr(language, "kept_scores", None) if half and not on_gpu else None
    seen = scores(tokens // examples) if scores else 0
    activations = language_activations(model, language, half, checkpointing, seen) * tokens
    vision = getattr(model, "vision", None)
    if vision is not None and any(p.requires_grad for p in vision.parameters()):
        activations += vision_activations(vision.config, half) * examples
    # Logits in fp32, their logarithmic softmax and its gradient, beside those in bf16.
    logits = (14 if half else 12) * language.config.vocab_size * supervised
    return {**plan, "activations": activations // ranks, "logits": logits // ranks}


def divided_plan(plan: dict[str, int], model: VLM, half: bool, ranks: int) -> dict[str, int]:
    """The estimate of one rank where engine/fsdp.py shards the model; without activations.

    Gathered are the weights outside of layers, and the layer that is run and the next one, with one's gradients.
    """
    layers = [sum(p.numel() for p in layer.parameters()) for layer in model.llm.model.layers]
    whole = [] if model.vision is None or model.trains_vision else list(model.vision.parameters())
    apart, inside = {id(p) for p in whole}, {id(p) for p in model.llm.model.layers.parameters()}
    outside = [p for p in model.parameters() if id(p) not in apart | inside]
    size = 2 if half else 4
    gathered = (2 + any(p.requires_grad for p in model.llm.model.layers.parameters())) * size * max(layers)
    gathered += sum((4 + (size if half else 0) + 4 * p.requires_grad) * p.numel() for p in outside)
    return {
        "weights": sum(p.numel() * p.element_size() for p in whole)
        + sum(4 * p.numel() for p in model.parameters() if id(p) not in apart) // ranks,
        "gathered": gathered,
        "gradients": plan["gradients"] // ranks,
        "optimizer": plan["optimizer"] // ranks,
    }


def language_activations(model: nn.Module, language: LanguageModel, half: bool, checkpointing: bool, seen: int) -> int:
    """Bytes of activations per token kept by the language model for the backward pass; seen: keys with a score.

    Layers below the first weight that trains keep nothing. With checkpointing each keeps its input, and one at a time
    all the rest.
    """
    config, first, trains = language.config, language.config.num_hidden_layers, set()
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        found = re.search(r"llm\.model\.layers\.(\d+)\.", name)
        if found:
            trains.add(int(found[1]))
        elif not name.endswith(("llm.model.norm.weight", "lm_head.weight")):
            first = 0  # it works on what goes into the layers
    first = min({first, *trains})
    kept = [layer_activations(config, layer in trains, half, seen) for layer in range(first, config.num_hidden_layers)]
    if checkpointing and kept:
        return 4 * config.hidden_size * len(kept) + max(kept)
    return sum(kept)


def layer_activations(config: LMConfig, trains: bool, half: bool, seen: int = 0) -> int:
    """Bytes a token that one layer keeps: the stream before both norms, fp32 always, q, k, v and the attention's
    output, scores of so many keys, the two inputs of SwiGLU; where its weights train also the norms' and SwiGLU's
    output."""
    width, inner = config.hidden_size, config.intermediate_size
    kv = config.num_key_value_heads * config.head_dim
    size = 2 if half else 4
    always = 2 * 4 * width + size * (2 * width + 2 * kv + 2 * inner + config.num_attention_heads * seen)
    return always + size * (2 * width + inner) if trains else always


def vision_activations(config, half: bool) -> int:
    """Bytes of activations per image that a trained encoder keeps for the backward pass."""
    width, inner, size = config.hidden_size, config.intermediate_size, 2 if half else 4
    patches = (config.image_size // config.patch_size) ** 2
    inputs = 4 * 2 * width if half else 2 * 4 * width
    layer = 4 * 4 * width + inputs + size * (4 * width + 2 * inner)
    return patches * config.num_hidden_layers * layer


def total(plan: dict[str, int]) -> int:
    return sum(plan.values())


def fits(plan: dict[str, int], gpu_gb: int) -> bool:
    """Whether a step fits on a GPU of so many GB, with what the program and the allocator take beside."""
    return total(plan) * SLACK + PROGRAM <= gpu_gb * GIB


def memory_table(plan: dict[str, int]) -> str:
    """The plan, one line a part, and which GPUs it fits on."""
    lines = [f"  {part:<12}{size / GIB:>8.2f} GiB" for part, size in plan.items()]
    answers = ", ".join(f"{gpu} GB {'yes' if fits(plan, gpu) else 'no'}" for gpu in GPUS)
    return "\n".join(["memory at the peak of a step, about:", *lines, f"  fits on a GPU of: {answers}"])
