"""The vision-language model: vision encoder, projector and language model, and the training loss."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.config import VLMConfig
from model.language import LanguageModel
from model.projector import Projector, build_projector
from model.vision import VisionTransformer

IGNORED = -100  # the label of a position that is not supervised


class VLM(nn.Module):
    """`.vision` (or None), `.projector` (or None) and `.llm`, randomly initialised unless given.

    The encoder is never made here: pass it, or feed features that were computed before. A batch is any object with
    ids, labels, attention_mask, image_mask (B, T) and pixels, features or words (at most one of them not None).
    """

    vision: VisionTransformer | None
    projector: Projector | None

    def __init__(
        self, config: VLMConfig, vision: VisionTransformer | None = None, llm: LanguageModel | None = None,
        generator: torch.Generator | None = None,
    ):  # fmt: skip
        super().__init__()
        if llm is not None and llm.config != config.lm:
            raise ValueError(f"the language model given is {llm.config}, the config says {config.lm}")
        if vision is not None and vision.config != config.vision:
            raise ValueError(f"the encoder given is {vision.config}, the config says {config.vision}")
        self.config = config
        # registered even when absent, so that the parameters' order does not depend on when the encoder comes
        self.register_module("vision", vision)
        self.register_module("projector", build_projector(config.projector) if config.projector else None)
        self.llm = LanguageModel(config.lm, generator) if llm is None else llm

    @property
    def image_tokens(self) -> int:
        """M, the number of positions that an image takes."""
        return self.config.image_tokens

    @property
    def trains_vision(self) -> bool:
        """Whether any parameter of the encoder requires a gradient."""
        return self.vision is not None and any(parameter.requires_grad for parameter in self.vision.parameters())

    def loss(self, batch) -> tuple[Tensor, int]:
        """(sum of the cross entropies in fp32, number of supervised tokens).

        labels[t] is the token at t itself (-100: not supervised); the shift happens here. The batch must be right
        padded. A batch without labels gives (0, 0).
        """
        self.check_padding(batch)
        hidden = self.llm(self.embed_batch(batch))[:, :-1]  # causal attention never looks at right padding
        labels = batch.labels[:, 1:]
        supervised = labels != IGNORED
        logits = self.llm.logits(hidden[supervised]).float()  # (supervised tokens, V)
        return F.cross_entropy(logits, labels[supervised], reduction="sum"), len(logits)

    def logits(self, batch) -> Tensor:
        """Logits (B, T, V) at every position, whatever the side of the padding; for tests and probes."""
        mask = None if bool(batch.attention_mask.all()) else batch.attention_mask
        return self.llm.logits(self.llm(self.embed_batch(batch), attention_mask=mask))

    def embed_batch(self, batch) -> Tensor:
        """Embeddings (B, T, D) of a batch, its images in their places."""
        given = (batch.pixels, batch.features, batch.words)
        images = None if all(source is None for source in given) else self.image_embeddings(*given)
        return self.embed(batch.ids, batch.image_mask, images)

    def embed(self, ids: Tensor, image_mask: Tensor, image_embeddings: Tensor | None = None) -> Tensor:
        """Embeddings (B, T, D) of ids (B, T), with images (P, M, D) in reading order where image_mask (B, T) is True.

        ValueError where the mask does not hold exactly P x M positions.
        """
        if image_mask.shape != ids.shape:
            found, expected = tuple(image_mask.shape), tuple(ids.shape)
            raise ValueError(f"image_mask: found shape {found}, expected that of ids, {expected}")
        places = image_mask.flatten().nonzero().squeeze(1)
        given = 0 if image_embeddings is None else image_embeddings.shape[0] * image_embeddings.shape[1]
        if len(places) != given:
            shape = "none" if image_embeddings is None else str(tuple(image_embeddings.shape))
            raise ValueError(
                f"the text holds {len(places)} image positions, the picture embeddings {shape} fill {given}; "
                "encode the text with this model's image_tokens"
            )
        embeddings = self.llm.embed(ids.flatten())  # (B * T, D)
        if image_embeddings is not None and given:
            embeddings.index_copy_(0, places, image_embeddings.flatten(0, 1).to(embeddings.dtype))
        return embeddings.view(*ids.shape, -1)

    def image_embeddings(
        self, pixels: Tensor | None = None, features: Tensor | None = None, words: Tensor | None = None
    ) -> Tensor:
        """What stands in the image positions, (P, M, D), from exactly one of three sources.

        pixels (P, 3, H, W) go through encoder and projector, features (P, N, Dv) through the projector; of words
        (P, M, W), ids or -1 for none, the token embeddings are summed. ValueError for none or several.
        """
        if sum(source is not None for source in (pixels, features, words)) != 1:
            raise ValueError("give exactly one of pixels, features and words")
        if words is not None:
            embedded = self.llm.embed(words.clamp(min=0))  # (P, M, W, D)
            return (embedded * (words >= 0).unsqueeze(-1)).sum(2)
        if self.projector is None:
            raise ValueError("this model has no projector, so it takes no pictures; align one first")
        if pixels is not None:
            features = self.encode(pixels)
        return self.projector(features)

    def encode(self, pixels: Tensor) -> Tensor:
        """Features (P, N, Dv) of pixels (P, 3, H, W)."""
        if self.vision is None:
            raise ValueError("this model has no encoder, so it takes no pixels; give it one: vision=")
        return self.vision(pixels)

    @staticmethod
    def check_padding(batch) -> None:
        """ValueError for a batch that is padded on the left."""
        if not bool(batch.attention_mask[:, 0].all()):
            raise ValueError("loss takes right-padded batches, and a row of this one starts with padding")
