"""What trains the embedded encoder: it must let a thin decoder say what is in the picture."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.config import LMConfig, ProjectorConfig, VisionConfig, VLMConfig
from model.vision import VisionTransformer
from model.vlm import IGNORED, VLM


def thin_decoder(vision: VisionConfig, vocab_size: int) -> LMConfig:
    """A decoder as wide as the encoder and two layers deep: what it cannot work out, the encoder must."""
    return LMConfig(
        hidden_size=vision.hidden_size,
        num_hidden_layers=2,
        num_attention_heads=vision.num_attention_heads,
        num_key_value_heads=vision.num_attention_heads,
        intermediate_size=2 * vision.hidden_size,
        vocab_size=vocab_size,
        rope_theta=1e4,
    )


class Captioner(nn.Module):
    """The encoder, a thin decoder that captions from its features, and a head that names the caption's words.

    Captioning teaches what goes with what and where (image captioners are scalable vision learners,
    arXiv 2306.07915); classifying the picture into its caption's tokens (arXiv 2411.03313) gives a strong signal
    early. Both parts beside `.vision` are thrown away when training ends.
    """

    def __init__(self, vision: VisionConfig, vocab_size: int, word_weight: float = 0.2):
        """word_weight: of the word head's loss, against the caption's per token."""
        super().__init__()
        decoder = thin_decoder(vision, vocab_size)
        projector = ProjectorConfig("ldp", vision.hidden_size, decoder.hidden_size)
        self.vision = VisionTransformer(vision)
        self.decoder = VLM(VLMConfig(decoder, vision, projector))
        self.norm = nn.LayerNorm(vision.hidden_size)
        self.words = nn.Linear(vision.hidden_size, vocab_size)
        self.word_weight = word_weight

    @property
    def image_tokens(self) -> int:
        return self.decoder.image_tokens

    def loss(self, batch) -> tuple[Tensor, int]:
        """(caption loss summed over tokens plus as many word losses, supervised tokens); one picture a row."""
        features = self.norm(self.vision(batch.pixels))  # (B, N, Dv)
        pictures = self.decoder.projector(features)
        hidden = self.decoder.llm(self.decoder.embed(batch.ids, batch.image_mask, pictures))
        targets = batch.labels[:, 1:]
        places = targets != IGNORED
        logits = self.decoder.llm.logits(hidden[:, :-1][places]).float()
        caption = F.cross_entropy(logits, targets[places], reduction="sum")
        words = word_loss(self.words(features.mean(1)).float(), batch.labels)
        count = int(places.sum())
        return caption + self.word_weight * words * count, count


def word_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy of logits (B, V) against the set of tokens that each row of labels (B, T) holds, as a mean."""
    held = torch.zeros_like(logits)
    held.scatter_add_(1, labels.clamp(min=0), (labels >= 0).to(held.dtype))
    present = (held > 0).to(logits.dtype)
    return -(present / present.sum(1, keepdim=True).clamp(min=1) * logits.log_softmax(1)).sum(1).mean()
