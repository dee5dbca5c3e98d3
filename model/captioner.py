"""How the small encoder is trained: its features must let a thin decoder describe the image."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.config import LMConfig, ProjectorConfig, VisionConfig, VLMConfig
from model.vision import VisionTransformer
from model.vlm import VLM

WORD_WEIGHT = 0.2  # of the image's word loss, against the caption loss per token


class Captioner(nn.Module):
    """The encoder, a thin decoder that captions from its features, and a linear head that classifies into words.

    Captioning teaches which things go together (image captioners are scalable vision learners, arXiv 2306.07915);
    classifying the image into its caption's tokens (arXiv 2411.03313) gives a strong signal early; and where the
    contents of each cell of a raster are known, classifying each cell into its words teaches small objects too, and
    to tell an object by its looks rather than by the company it keeps. Only `.vision` is kept after training.
    """

    def __init__(self, vision: VisionConfig, vocab_size: int):
        super().__init__()
        heads = vision.num_attention_heads
        # as wide as the encoder but only two layers deep: what it cannot work out, the encoder must
        decoder = LMConfig(
            hidden_size=vision.hidden_size, num_hidden_layers=2, num_attention_heads=heads, num_key_value_heads=heads,
            intermediate_size=2 * vision.hidden_size, vocab_size=vocab_size, rope_theta=1e4,
        )  # fmt: skip
        projector = ProjectorConfig("ldp", vision.hidden_size, decoder.hidden_size)
        self.vision = VisionTransformer(vision)
        self.decoder = VLM(VLMConfig(decoder, vision, projector))
        self.words = nn.Linear(vision.hidden_size, vocab_size)

    def loss(self, batch) -> tuple[Tensor, int]:
        """(loss, number of supervised tokens) of a batch with one image per row.

        The mean word losses are multiplied by that number, since the caption loss is a sum over tokens. batch.words,
        if not None, holds the words (B, M, W) of the M cells of a square raster.
        """
        features = self.vision(batch.pixels)  # (B, N, Dv)
        images = self.decoder.image_embeddings(features=features)
        hidden = self.decoder.llm(self.decoder.embed(batch.ids, batch.image_mask, images))
        caption, count = self.decoder.token_loss(hidden, batch.labels)
        words = word_loss(self.words(features.mean(1)).float(), batch.labels)
        loss = caption + WORD_WEIGHT * words * count
        if batch.words is not None:
            cells = pool(features, batch.words.shape[1])  # (B, M, Dv)
            named = word_loss(self.words(cells).float().flatten(0, 1), batch.words.flatten(0, 1))
            loss = loss + named * count
        return loss, count


def pool(features: Tensor, cells: int) -> Tensor:
    """Features (B, N, Dv) of a square grid, average-pooled to a coarser square grid of `cells`: (B, cells, Dv)."""
    side = math.isqrt(features.shape[1])
    plane = features.transpose(1, 2).unflatten(2, (side, side))  # (B, Dv, side, side)
    return F.adaptive_avg_pool2d(plane, math.isqrt(cells)).flatten(2).transpose(1, 2)


def word_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross entropy of logits (B, V) against the set of non-negative tokens in each row of labels (B, T)."""
    held = torch.zeros_like(logits)
    held.scatter_add_(1, labels.clamp(min=0), (labels >= 0).to(held.dtype))
    present = (held > 0).to(logits.dtype)
    return -(present / present.sum(1, keepdim=True).clamp(min=1) * logits.log_softmax(1)).sum(1).mean()
