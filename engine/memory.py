"""An estimate of a training step's peak memory, part by part, before anything is trained."""

from __future__ import annotations

import torch
from torch import nn

from engine.dataloader import Feed
from engine.device import of_products
from engine.optimizer import muon_weights
from model.config import LMConfig, VisionConfig
from model.language import LanguageModel
from model.vlm import VLM

GIB = 2**30
GPUS = (8, 12, 16, 24)  # GB, the sizes that are sold
PROGRAM = GIB // 2  # torch and its kernels themselves
MATMULS = GIB // 2  # the code that oneDNN keeps for the last 1,024 shapes of bf16 matmuls on a CPU (docs/log.md)
KEPT = 0.75  # of what a step stores, measured over the demo's stages in one process (docs/log.md)
SLACK = 1.1  # what the allocator loses to fragmentation


def memory_plan(
    model: nn.Module, feed: Feed, dtype: torch.dtype, optimizer: str, checkpointing: bool = False, ranks: int = 1,
    on_gpu: bool = False, fsdp: bool = False,
) -> dict[str, int]:  # fmt: skip
    """Bytes at the peak of a step: weights, their bf16 copies, gradients, optimizer state, activations, logits.

    Activations and logits are those of the batch with the most tokens, divided by the number of ranks. With fsdp each
    rank also holds just its shard of weights, gradients and optimizer state, beside what is gathered at one time. On a
    GPU the frozen weights of matmuls are kept in bf16 alone (device.frozen_in).
    """
    half = dtype == torch.bfloat16
    trained = [p for p in model.parameters() if p.requires_grad]
    muon = muon_weights(model) if optimizer == "muon" else set()
    away = {id(p) for p in of_products(model, dtype) if on_gpu and not p.requires_grad and p.element_size() > 2}
    plan = {
        "weights": sum(p.numel() * p.element_size() for p in model.parameters() if id(p) not in away),
        "bf16 copies": 2 * sum(p.numel() for p in model.parameters() if p.element_size() > 2) if half else 0,
        "gradients": sum(4 * p.numel() for p in trained),
        "optimizer": sum((4 if id(p) in muon else 8) * p.numel() for p in trained),
    }
    if fsdp:
        assert isinstance(model, VLM)
        plan = sharded_plan(plan, model, half, ranks)
    language = next(module for module in model.modules() if isinstance(module, LanguageModel))
    examples = feed.examples
    tokens, rows = max((int(examples.lengths[batch].max()) * len(batch), len(batch)) for batch in feed.plan(0))
    # the attention of model/fast stores its weights in bf16 on a CPU; others are fused and store none
    kept_scores = getattr(language, "kept_scores", None)
    fast = kept_scores is not None
    scores = kept_scores if kept_scores and half and not on_gpu else lambda length: 0
    activations = language_activations(model, language, half, checkpointing, fast, scores(tokens // rows)) * tokens
    activations *= feed.rows
    vision = getattr(model, "vision", None)
    if vision is not None and any(p.requires_grad for p in vision.parameters()):
        activations += vision_activations(vision.config, half, fast, scores(vision.config.num_patches)) * rows
    # logits, their log-softmax and its gradient in fp32; under autocast the logits in bf16 too
    supervised = max(int(examples.supervised[batch].sum()) for batch in feed.plan(0)) * feed.rows
    logits = (14 if half else 12) * language.config.vocab_size * supervised
    return {**plan, "activations": activations // ranks, "logits": logits // ranks}


def sharded_plan(plan: dict[str, int], model: VLM, half: bool, ranks: int) -> dict[str, int]:
    """The plan of one rank where engine/fsdp.py shards the model, without activations.

    Gathered at one time are the weights outside the layers, the layer that runs and the next one, and the gradients of
    one layer.
    """
    layers = model.llm.model.layers
    whole = [] if model.vision is None or model.trains_vision else list(model.vision.parameters())
    inside = {id(p) for p in [*whole, *layers.parameters()]}
    outside = [p for p in model.parameters() if id(p) not in inside]
    size = 2 if half else 4
    gathered = (2 + any(p.requires_grad for p in layers.parameters())) * size
    gathered *= max(sum(p.numel() for p in layer.parameters()) for layer in layers)
    gathered += sum((4 + (size if half else 0) + 4 * p.requires_grad) * p.numel() for p in outside)
    shards = 4 * sum(p.numel() for part in (outside, layers.parameters()) for p in part) // ranks
    return {
        "weights": sum(p.numel() * p.element_size() for p in whole) + shards,
        "gathered": gathered,
        "gradients": plan["gradients"] // ranks,
        "optimizer": plan["optimizer"] // ranks,
    }


def language_activations(
    model: nn.Module, language: LanguageModel, half: bool, checkpointing: bool, fast: bool, scores: int
) -> int:
    """Bytes of activations per token that the language model stores for the backward pass.

    Layers below the first weight that trains store nothing. With checkpointing each stores its input, and one at a
    time all the rest.
    """
    layers = language.model.layers
    trains = [any(p.requires_grad for p in layer.parameters()) for layer in layers]
    downstream = ("model.layers.", "model.norm.", "lm_head.")
    own = {id(p) for name, p in language.named_parameters() if name.startswith(downstream)}
    if any(p.requires_grad and id(p) not in own for p in model.parameters()):
        first = 0  # the gradient goes through all layers to the embeddings
    else:
        first = trains.index(True) if any(trains) else len(layers)
    stored = [layer_activations(language.config, train, half, fast, scores) for train in trains[first:]]
    if checkpointing and stored:
        return 4 * language.config.hidden_size * len(stored) + max(stored)
    return sum(stored)


def layer_activations(config: LMConfig, trains: bool, half: bool, fast: bool = True, scores: int = 0) -> int:
    """Bytes per token that a decoder layer stores for the backward pass; scores: attention weights per query and head.

    The residual stream before both norms in fp32; in the matmul dtype q, k, v, the attention's output and what SwiGLU
    multiplies; if its weights train, also the inputs of its matmuls. The plain layer has more: silu's output, the
    normalised stream in fp32 before the norm's weights, and in bf16 cos and sin for q and k and a cast per matmul.
    """
    width, kv_width = config.hidden_size, config.num_key_value_heads * config.head_dim
    casts = half and not fast
    fp32 = 2 * width
    values = 2 * width + 2 * kv_width + config.num_attention_heads * scores
    values += (2 if fast else 3) * config.intermediate_size + (4 * config.head_dim if casts else 0)
    if trains:
        fp32 += 0 if fast else 2 * width
        values += (5 if casts else 2) * width + config.intermediate_size
    return 4 * fp32 + (2 if half else 4) * values


def vision_activations(config: VisionConfig, half: bool, fast: bool, scores: int = 0) -> int:
    """Bytes of activations per image that a trained encoder stores for the backward pass; scores: as layer_activations.

    In each layer the stream before both norms in fp32; in the matmul dtype the norms' outputs (the plain encoder casts
    them for q, k and v each), q, k, v, the attention's output, and the activation's input and output. In a stem of
    convolutions, what goes into each norm, activation and next convolution.
    """
    width, size = config.hidden_size, 2 if half else 4
    values = (8 if half and not fast else 6) * width + 2 * config.intermediate_size
    values += config.num_attention_heads * scores
    layers = config.num_patches * config.num_hidden_layers * (4 * 2 * width + size * values)
    halvings = config.patch_size.bit_length() - 1 if config.stem == "conv" else 0
    maps = [(config.image_size >> n) ** 2 * max(16, width >> (halvings - n)) for n in range(1, halvings + 1)]
    return layers + 3 * size * sum(maps)


def program_memory(dtype: torch.dtype, device: torch.device) -> int:
    """Bytes that the program takes beside a plan."""
    return PROGRAM + (MATMULS if dtype == torch.bfloat16 and device.type == "cpu" else 0)


def kept_memory(plan: dict[str, int], device: torch.device) -> int:
    """Bytes that earlier steps have freed and the allocator keeps beside what a step needs, as batches of other lengths
    do not fit into them: 0 on a GPU."""
    return int(KEPT * (plan["activations"] + plan["logits"])) if device.type == "cpu" else 0


def fits(plan: dict[str, int], gpu_gb: int) -> bool:
    """Whether a step fits on a GPU of so many GB, with what the program and the allocator need besides."""
    return sum(plan.values()) * SLACK + PROGRAM <= gpu_gb * GIB


def memory_table(plan: dict[str, int]) -> str:
    """The plan, one line a part, and which GPUs it fits on."""
    lines = [f"  {part:<12}{size / GIB:>8.2f} GiB" for part, size in plan.items()]
    answers = ", ".join(f"{gpu} GB {'yes' if fits(plan, gpu) else 'no'}" for gpu in GPUS)
    return "\n".join(["memory at the peak of a step, about:", *lines, f"  fits on a GPU of: {answers}"])
