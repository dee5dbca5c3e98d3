"""A lean decode step: the decoder's forward pass for one new token per row, bound by reading the weights once.

Compared to LanguageModel.forward, matmuls of a layer that share an input are one (q, k and v; gate and up), norm
weights are folded into the matrices after them, rotary factors come from a table, and weights are cast once, not for
every answer. The residual stream stays in float32. The tokens are the same, except for ties within rounding (tested).
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.fast.fused import are_linear, rotate, signed
from model.fast.graphs import Append, FastKVCache, FixedStep
from model.language import LanguageModel
from model.layers import MLP, Attention, DecoderLayer, RMSNorm, rotary_embedding


@dataclass(frozen=True)
class StepLayer:
    """A layer's matrices, with the norms' weights and sqrt(D) folded into qkv and gate_up."""

    qkv: Tensor  # ((H + 2 KV) * head_dim, D)
    qkv_bias: Tensor | None
    out: Tensor  # (D, H * head_dim)
    gate_up: Tensor  # (2 * I, D)
    down: Tensor  # (D, I)


StepWeights = tuple[list[StepLayer], Tensor]  # and the head's matrix (V, D)


class TokenStepper:
    """Decode steps of a model whose weights do not change; the first step in each dtype copies them."""

    def __init__(self, llm: LanguageModel, fixed: bool | None = None):
        """fixed: steps attend to the whole cache through a mask (graphs.py). None: only on CUDA devices, where such a
        step is captured once per batch and replayed."""
        self.llm = llm
        self.fixed = fixed
        parts = [part for part in llm.model.modules() if isinstance(part, (Attention, MLP))]
        # False (where there are LoRA adapters, for one): every step goes through the model's own forward
        self.stepping = are_linear(*(module for part in parts for module in part.children()))
        self._weights: dict[torch.dtype, StepWeights] = {}
        self._rotary = torch.empty(0)
        self._overflows = False
        self._epsilon = torch.empty(0)
        self._fixed_step: FixedStep | None = None

    @torch.no_grad()
    def step(self, tokens: Tensor, positions: Tensor, mask: Tensor | None, cache: FastKVCache) -> Tensor:
        """Logits (B, V) after one more token (B,) per row.

        positions (B,) of the tokens in their rows; mask (B, S + 1) bool, False for padding, None if there is none;
        cache: holds S positions before and one more after. Under autocast, in its dtype.
        """
        if not self.stepping:
            return LanguageModel.next_logits(self.llm, tokens, positions, mask, cache)
        device = tokens.device.type
        autocast = torch.is_autocast_enabled(device)
        dtype = torch.get_autocast_dtype(device) if autocast else self.llm.head.weight.dtype
        with torch.autocast(device, enabled=False):
            if len(tokens) == 1 and autocast and device == "cpu" and not self._overflows:
                # On CPUs a float16 matrix-vector product takes half the time of a bfloat16 one (docs/log.md). float16
                # rounds eight times finer but overflows at 65504: models with larger activations fall back to `dtype`.
                logits = self._growing(torch.float16, tokens, positions, mask, cache)
                if bool(logits.isfinite().all()):
                    cache.length += 1
                    return logits
                self._overflows = True
            fixed = device == "cuda" if self.fixed is None else self.fixed
            found = self._replayable(dtype, tokens, positions, mask, cache) if fixed else None
            logits = self._growing(dtype, tokens, positions, mask, cache) if found is None else found
        cache.length += 1
        return logits

    def _growing(
        self, dtype: torch.dtype, tokens: Tensor, positions: Tensor, mask: Tensor | None, cache: FastKVCache
    ) -> Tensor:
        """A step that attends to the filled positions of the cache."""
        # for one row, attention in float32 is as fast on CPUs, and its cache is small
        attention_dtype = torch.float32 if len(tokens) == 1 and tokens.device.type == "cpu" else dtype
        cache.to(attention_dtype)
        self._make_tables(tokens.device, cache.max_length)
        return self._step(self._prepared(dtype), attention_dtype, tokens, positions, mask, cache.append)

    def _replayable(
        self, dtype: torch.dtype, tokens: Tensor, positions: Tensor, mask: Tensor | None, cache: FastKVCache
    ) -> Tensor | None:
        """A step that attends to the whole cache through a mask and can be replayed; None where that fails."""
        cache.to(dtype)
        if self._fixed_step is None or self._fixed_step.place != cache.place():
            self._make_tables(tokens.device, cache.max_length)
            compute = partial(self._step, self._prepared(dtype), dtype)
            self._fixed_step = FixedStep(compute, cache, len(tokens), tokens.device, record=tokens.is_cuda)
        try:
            return self._fixed_step(tokens, positions, mask)
        except RuntimeError as error:
            warnings.warn(f"no CUDA graph of a decode step ({error}); kernels are launched one by one", stacklevel=4)
            self.fixed = False
            return None

    def _prepared(self, dtype: torch.dtype) -> StepWeights:
        """Copies of the weights in the form that a step uses; only the head may share memory with the model's."""
        if dtype in self._weights:
            return self._weights[dtype]

        def merged(norm: RMSNorm, *linears: nn.Linear) -> Tensor:
            scale = norm.weight.float() * self.llm.config.hidden_size**0.5  # x is divided by its norm, not by its RMS
            return (torch.cat([linear.weight for linear in linears]).float() * scale).to(dtype)

        layers = []
        for layer in self.llm.model.layers:
            assert isinstance(layer, DecoderLayer)
            attention, mlp = layer.self_attn, layer.mlp
            inputs = (attention.q_proj, attention.k_proj, attention.v_proj)
            layers.append(StepLayer(
                merged(layer.input_layernorm, *inputs),
                torch.cat([linear.bias for linear in inputs]).to(dtype) if inputs[0].bias is not None else None,
                attention.o_proj.weight.to(dtype),
                merged(layer.post_attention_layernorm, mlp.gate_proj, mlp.up_proj),
                mlp.down_proj.weight.to(dtype),
            ))  # fmt: skip
        self._weights[dtype] = layers, self.llm.head.weight.to(dtype)
        return self._weights[dtype]

    def _make_tables(self, device: torch.device, longest: int) -> None:
        """Make what all steps share: the rotary factors of `longest` positions, and the norms' epsilon."""
        config = self.llm.config
        if len(self._rotary) < longest:
            positions = torch.arange(longest, device=device)
            rotary = rotary_embedding(positions, config.head_dim, config.rope_theta, config.rope_scaling)
            cos, sin = signed(rotary)
            self._rotary = torch.cat((cos, sin), -1)[0, :, 0]  # (longest, 2 * head_dim)
            self._epsilon = torch.tensor((config.rms_norm_eps * config.hidden_size) ** 0.5, device=device)

    def _step(
        self, weights: StepWeights, attention_dtype: torch.dtype, tokens: Tensor, positions: Tensor,
        mask: Tensor | None, append: Append,
    ) -> Tensor:  # fmt: skip
        """Logits (B, V); attention_dtype: of attention and its cache."""
        (layers, head), config, rows, epsilon = weights, self.llm.config, len(tokens), self._epsilon
        heads, width, dtype = config.num_attention_heads, config.head_dim, head.dtype
        rotated = heads + config.num_key_value_heads
        cos, sin = self._rotary[positions, None].to(attention_dtype).chunk(2, dim=-1)  # each (B, 1, head_dim)
        mask = None if mask is None else mask[:, None, None, :]
        x = F.embedding(tokens, self.llm.model.embed_tokens.weight).float()  # (B, D)
        for number, layer in enumerate(layers):
            qkv = F.linear(_normalise(x, epsilon).to(dtype), layer.qkv, layer.qkv_bias)
            qkv = qkv.view(rows, -1, width).to(attention_dtype)
            qk, value = qkv[:, :rotated], qkv[:, rotated:]
            qk = rotate(qk, cos, sin)
            keys, values = append(number, qk[:, heads:, None], value[:, :, None])  # (B, KV, S, head_dim)
            query = qk[:, :heads].reshape(rows, keys.shape[1], -1, width)  # a group's heads become its rows
            out = F.scaled_dot_product_attention(query, keys, values, attn_mask=mask)
            x += F.linear(out.reshape(rows, -1).to(dtype), layer.out)
            gate, up = F.linear(_normalise(x, epsilon).to(dtype), layer.gate_up).chunk(2, dim=-1)
            x += F.linear(F.silu(gate) * up, layer.down)
        last = _normalise(x, epsilon) * (self.llm.model.norm.weight * config.hidden_size**0.5)
        return F.linear(last.to(dtype), head)


def _normalise(x: Tensor, epsilon: Tensor) -> Tensor:
    """RMSNorm of x (B, D) float32 without its weight, divided by sqrt(D); epsilon: sqrt(D * eps)."""
    # three operations, which for single rows take less than half the time of F.rms_norm
    return x / torch.hypot(torch.linalg.vector_norm(x, dim=-1, keepdim=True), epsilon)
