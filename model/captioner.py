"""How the small encoder is trained: its features must let a thin decoder describe the image."""

from __future__ import annotations

import math
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.config import LMConfig, ProjectorConfig, VisionConfig, VLMConfig
from model.vision import MLP, Attention, VisionTransformer
from model.vlm import VLM

WORD_WEIGHT = 0.2  # of the image's word loss, against the caption loss per token
MATCH_WEIGHT = 0.5  # of the image-text matching loss
MATCH_WIDTH, TEMPERATURE = 128, 0.1


class Captioner(nn.Module):
    """The encoder, a thin decoder that captions from its features, and a linear head that classifies into words.

    Captioning teaches which things go together (image captioners are scalable vision learners, arXiv 2306.07915);
    classifying the image into its caption's tokens (arXiv 2411.03313) gives a strong signal early; and where the
    contents of each cell of a raster are known, classifying each cell into its words teaches small objects too, and
    to tell an object by its looks rather than by the company it keeps. Only `.vision` is kept after training.

    Two more things help where images are few and real: matching each image to its caption among those of the batch
    (arXiv 2103.00020), and dropout everywhere.
    """

    def __init__(self, vision: VisionConfig, vocab_size: int, dropout: float = 0.0, match: bool = False):
        """match: tell images by their captions, too; for data in which captions differ. dropout: a probability, of
        what dropped() says in the encoder, and in the decoder of elements of its input and output."""
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
        self.matching = Matching(vision.hidden_size, vocab_size) if match else None
        self.dropout = dropout
        branches = [m for m in self.vision.encoder.modules() if isinstance(m, (Attention, MLP))]
        for number, branch in enumerate(branches if dropout else (), 2):
            depth = number // 2 / vision.num_hidden_layers
            branch.register_forward_hook(partial(dropped, dropout / 2, dropout * depth))

    def loss(self, batch) -> tuple[Tensor, int]:
        """(loss, number of supervised tokens) of a batch with one image per row, or one for as many rows each.

        The mean losses of words and matching are multiplied by that number, since the caption loss is a sum over
        tokens. batch.words, if not None, holds the words (P, M, W) of the M cells of a square raster.
        """
        features = self.vision(batch.pixels)  # (P, N, Dv)
        images = self.decoder.image_embeddings(features=features)
        rows = len(batch.ids) // len(images)
        embedded = self.decoder.embed(batch.ids, batch.image_mask, images.repeat_interleave(rows, 0))
        if self.training and self.dropout:  # whole tokens of the text too, so that not everything follows from the last
            told = torch.rand(batch.ids.shape, device=embedded.device) >= self.dropout / 2
            embedded = embedded * (told | batch.image_mask).unsqueeze(-1)
        hidden = self.decoder.llm(F.dropout(embedded, self.dropout, self.training))
        caption, count = self.decoder.token_loss(F.dropout(hidden, self.dropout, self.training), batch.labels)
        pooled = features.mean(1)  # (P, Dv)
        loss = caption + WORD_WEIGHT * word_loss(self.words(pooled).float(), batch.labels[::rows]) * count
        if batch.words is not None:
            cells = pool(features, batch.words.shape[1])  # (P, M, Dv)
            named = word_loss(self.words(cells).float().flatten(0, 1), batch.words.flatten(0, 1))
            loss = loss + named * count
        if self.matching is not None:
            loss = loss + MATCH_WEIGHT * self.matching(pooled, batch.labels[::rows]) * count
        return loss, count


class Matching(nn.Module):
    """Which of a batch's captions, as bags of words, is that of an image, and the reverse."""

    def __init__(self, width: int, vocab_size: int):
        super().__init__()
        self.image = nn.Linear(width, MATCH_WIDTH)
        self.words = nn.EmbeddingBag(vocab_size, MATCH_WIDTH, mode="sum")
        nn.init.normal_(self.words.weight, std=0.01)

    def forward(self, pooled: Tensor, labels: Tensor) -> Tensor:
        """The loss of pooled features (B, Dv) and the captions among labels (B, T)."""
        return matching_loss(self.image(pooled), self.bag(labels))

    def bag(self, labels: Tensor) -> Tensor:
        """The summed embeddings (B, MATCH_WIDTH) of the supervised tokens of each row of labels (B, T)."""
        return self.words(labels.clamp(min=0), per_sample_weights=(labels >= 0).to(self.words.weight.dtype))


def dropped(elements: float, whole: float, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    """In training, the output (B, N, D) of a branch of the encoder with a share of its elements dropped, and of that
    of whole images (stochastic depth, arXiv 1603.09382)."""
    if not module.training:
        return output
    kept = torch.rand(len(output), 1, 1, device=output.device) >= whole
    return F.dropout(output, elements) * (kept / (1 - whole)).to(output.dtype)


def matching_loss(images: Tensor, texts: Tensor) -> Tensor:
    """CLIP's loss of embeddings (B, D): which of the texts is that of an image, and which of the images that of a
    text, by cosine similarity."""
    similarity = F.normalize(images.float(), dim=-1) @ F.normalize(texts.float(), dim=-1).T / TEMPERATURE
    own = torch.arange(len(similarity), device=similarity.device)
    return (F.cross_entropy(similarity, own) + F.cross_entropy(similarity.T, own)) / 2


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
