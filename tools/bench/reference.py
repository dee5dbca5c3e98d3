"""The reference: a model that computes as MiniMind-V did in April 2025, with the same weights.

Reimplemented from what its code does, at the same cost; none of it is copied. Of model/ it takes the modules that hold
the weights, but no forward pass, even where the two are equal today, or the reference would get faster along with the
model. What it does as MiniMind-V did:

- every sample is padded to a fixed length, 640 in pretraining and 1536 in SFT, and the padding is computed;
- the encoder runs at every step, like transformers' CLIP: fused attention, x * sigmoid(1.702 x), fp32 weights;
- the decoder's attention is softmax(Q Kᵀ / √d + M) V in separate matmuls, softmax in fp32, with keys and values
  repeated for every query head and a new causal mask in every layer;
- rotary factors, norm weights and embeddings are fp32, so that under autocast activations are cast back and forth;
- logits and unreduced cross entropies are computed at all positions, and a mask picks the supervised ones;
- pictures are inserted by searching for their run of ids and concatenating each row anew;
- AdamW with its default implementation, a gradient scaler on CUDA, clipping at 1;
- one answer at a time: prefill, then a Python loop of decode steps with keys and values concatenated, the attention
  mask grown by concatenation, stopping tests and the text decoded for the screen.

In its favour, compared to the original: labels are ours (so that the losses can be equal), pictures and texts go
through our data path and threads, unused weights (CLIP's text half) are not loaded, and transformers' own overhead per
generated token is not imitated beyond the above.

With the same random weights, data and allocator settings its losses are those of MiniMind-V's own code (27 April 2025,
transformers 4.57) to the last bit in float32, and its steps take as long (README.md, Speed, has the figures).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dataset.record import IGNORE, Batch
from engine.device import autocast
from model.layers import Attention, DecoderLayer, RMSNorm
from model.vision import VisionTransformer
from model.vlm import VLM

Past = tuple[Tensor, Tensor] | None  # keys and values, (B, S, KV, head_dim)


def norm(module: RMSNorm, x: Tensor) -> Tensor:
    exact = x.float()
    exact = exact * torch.rsqrt(exact.pow(2).mean(-1, keepdim=True) + module.eps)
    return module.weight * exact.type_as(x)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x (B, T, H, head_dim) rotated by position; cos and sin (T, head_dim) fp32, so the result is fp32."""
    half = x.shape[-1] // 2
    swapped = torch.cat((-x[..., half:], x[..., :half]), dim=-1)
    return x * cos.unsqueeze(1) + swapped * sin.unsqueeze(1)


def repeat_heads(x: Tensor, times: int) -> Tensor:
    """x (B, S, KV, head_dim) with each head repeated `times` times, (B, H, S, head_dim)."""
    rows, length, heads, width = x.shape
    copies = x[:, :, :, None, :].expand(rows, length, heads, times, width)
    return copies.reshape(rows, length, heads * times, width).transpose(1, 2)


def attend(
    module: Attention, x: Tensor, cos: Tensor, sin: Tensor, past: Past, mask: Tensor | None
) -> tuple[Tensor, Past]:
    """Attention's output (B, T, D), and keys and values including the past ones. mask: (B, S), 1 for real tokens."""
    rows, length, _ = x.shape
    query, key, value = (
        product(x).view(rows, length, -1, module.head_dim) for product in (module.q_proj, module.k_proj, module.v_proj)
    )
    query, key = rotate(query, cos, sin), rotate(key, cos, sin)
    if past is not None:
        key, value = torch.cat((past[0], key), dim=1), torch.cat((past[1], value), dim=1)
    kept = (key, value)
    times = query.shape[2] // key.shape[2]
    query, key, value = query.transpose(1, 2), repeat_heads(key, times), repeat_heads(value, times)
    scores = (query @ key.transpose(-2, -1)) / math.sqrt(module.head_dim)  # (B, H, T, S)
    scores = scores + torch.full((length, length), -math.inf, device=x.device).triu(1)[None, None]
    if mask is not None:
        scores = scores + (1.0 - mask[:, None, None, :]) * -1e9
    weights = F.softmax(scores.float(), dim=-1).type_as(query)
    out = (weights @ value).transpose(1, 2).reshape(rows, length, -1)
    return module.o_proj(out), kept


def decode_layer(
    layer: DecoderLayer, x: Tensor, cos: Tensor, sin: Tensor, past: Past, mask: Tensor | None
) -> tuple[Tensor, Past]:
    """The residual stream (B, T, D) after a layer, and the layer's keys and values."""
    attended, kept = attend(layer.self_attn, norm(layer.input_layernorm, x), cos, sin, past, mask)
    attended += x
    mlp, y = layer.mlp, norm(layer.post_attention_layernorm, attended)
    return attended + mlp.down_proj(F.silu(mlp.gate_proj(y)) * mlp.up_proj(y)), kept


def encode(vision: VisionTransformer, pixels: Tensor) -> Tensor:
    """CLIP's last hidden state without the class token, (B, N, Dv), computed with the encoder's weights."""
    embeddings = vision.embeddings
    patches = embeddings.patch_embedding(pixels).flatten(2).transpose(1, 2)
    x = torch.cat((embeddings.class_embedding.expand(len(pixels), 1, -1), patches), dim=1)
    x = vision.pre_layrnorm(x + embeddings.position_embedding.weight)
    for layer in vision.encoder.layers:
        attention, y = layer.self_attn, layer.layer_norm1(x)
        query, key, value = (
            product(y).view(*y.shape[:2], vision.config.num_attention_heads, -1).transpose(1, 2)
            for product in (attention.q_proj, attention.k_proj, attention.v_proj)
        )
        y = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).reshape(y.shape)
        x = x + attention.out_proj(y)
        y = layer.mlp.fc1(layer.layer_norm2(x))
        x = x + layer.mlp.fc2(y * torch.sigmoid(1.702 * y))
    return x[:, 1:]


class Reference(nn.Module):
    """MiniMind-V's computation on the weights of a VLM with CLIP's encoder, a linear projector and tied embeddings."""

    def __init__(self, vlm: VLM, image_id: int):
        super().__init__()
        lm = vlm.config.lm
        self.image_id, self.image_tokens = image_id, vlm.image_tokens
        self.vision, self.projector, self.llm = vlm.vision, vlm.projector, vlm.llm
        frequencies = lm.rope_theta ** -(torch.arange(0, lm.head_dim, 2).float() / lm.head_dim)
        angles = torch.outer(torch.arange(lm.max_position_embeddings).float(), frequencies).repeat(1, 2)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def forward(
        self, ids: Tensor, pixels: Tensor | None = None, past: list[Past] | None = None, mask: Tensor | None = None,
        last: int = 0,
    ) -> tuple[Tensor, list[Past]]:  # fmt: skip
        """Logits (B, T, V), of the `last` positions if given, and keys and values. pixels: (B, 3, H, W)."""
        decoder = self.llm.model
        past = past or [None] * len(decoder.layers)
        start = past[0][0].shape[1] if past[0] is not None else 0
        x = decoder.embed_tokens(ids)
        if pixels is not None:
            with torch.no_grad():
                features = encode(self.vision, pixels)
            x = self.with_pictures(ids, x, self.projector(features))
        cos, sin = (table[start : start + ids.shape[1]] for table in (self.cos, self.sin))
        kept = []
        for layer, before in zip(decoder.layers, past, strict=True):
            x, now = decode_layer(layer, x, cos, sin, before, mask)
            kept.append(now)
        return F.linear(norm(decoder.norm, x)[:, -last:], decoder.embed_tokens.weight), kept

    def with_pictures(self, ids: Tensor, x: Tensor, pictures: Tensor) -> Tensor:
        """x (B, T, D) with each row's run of image ids replaced by its picture (M, D)."""
        run = torch.full((self.image_tokens,), self.image_id, device=ids.device)
        found = (ids.unfold(1, self.image_tokens, 1) == run).all(dim=2)
        rows = []
        for row, picture in enumerate(pictures):
            start = int(found[row].nonzero()[0])
            rows.append(torch.cat((x[row, :start], picture, x[row, start + self.image_tokens :]))[: ids.shape[1]])
        return torch.stack(rows)


def padded_loss(model: Reference, batch: Batch, length: int, pad_id: int) -> Tensor:
    """The mean loss of a right-padded batch of one picture per row, padded further to `length` positions."""
    more = length - batch.ids.shape[1]
    ids = F.pad(batch.ids, (0, more), value=pad_id)
    labels = F.pad(batch.labels, (0, more), value=IGNORE)[:, 1:]
    counts = (labels != IGNORE).long()
    inputs, targets = ids[:, :-1], ids[:, 1:]
    logits, _ = model(inputs, batch.pixels)
    losses = F.cross_entropy(logits.reshape(-1, logits.shape[-1]), targets.reshape(-1), reduction="none")
    return (losses.view(targets.shape) * counts).sum() / counts.sum()


def make_step(
    model: Reference, optimizer: torch.optim.Optimizer, length: int, pad_id: int, dtype: torch.dtype
) -> Callable[[Batch], float]:
    """A function that takes a training step on a batch and returns its loss."""
    device = next(model.parameters()).device
    scaler = torch.amp.GradScaler(device.type, enabled=device.type == "cuda")

    def step(batch: Batch) -> float:
        batch = batch.to(device)
        with autocast(device, dtype):
            loss = padded_loss(model, batch, length, pad_id)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=True)
        return loss.item()

    return step


@torch.no_grad()  # not inference_mode, under which autocast casts every weight again at every step
def answer_one(
    model: Reference, ids: Tensor, pixels: Tensor, new_tokens: int, end_id: int, show: Callable[[list[int]], object]
) -> list[int]:
    """The greedy answer to a prompt (1, T) about a picture (1, 3, H, W), without the end token."""
    mask = torch.ones_like(ids)
    running = torch.ones(1, dtype=torch.long, device=ids.device)
    past, inputs, length = None, ids, ids.shape[1]
    while running.max() != 0 and ids.shape[1] < length + new_tokens:
        logits, past = model(inputs, pixels if past is None else None, past, mask, last=1)
        token = logits[:, -1].to(torch.float32, copy=True).argmax(-1)
        ids = torch.cat((ids, token[:, None]), dim=-1)
        mask = torch.cat((mask, mask.new_ones((1, 1))), dim=-1)
        inputs = ids[:, -1:]
        running = running & (token != end_id).long()
        show(token.tolist())
    said = ids[0, length:].tolist()
    return said[:-1] if said and said[-1] == end_id else said
