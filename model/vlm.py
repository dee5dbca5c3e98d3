"""The vision-language model: vision encoder, projector and language model, and the training loss."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from model.config import VLMConfig
from model.language import LanguageModel
from model.projector import band_order, build_projector
from model.vision import VisionTransformer

IGNORED = -100  # the label of an unsupervised position


class VLM(nn.Module):
    """Vision encoder `.vision` (or None), projector `.projector` (or None) and language model `.llm`.

    Projector and, unless given, language model start at random weights. The encoder is never created here: pass one or
    feed cached features. A batch has ids, labels, attention_mask, image_mask (B, T), and pixels, features or words.
    """

    vision: VisionTransformer | None
    projector: nn.Module | None

    def __init__(self, config: VLMConfig, vision: VisionTransformer | None = None, llm: LanguageModel | None = None):
        super().__init__()
        for name, given, wanted in (("language model", llm, config.lm), ("encoder", vision, config.vision)):
            if given is not None and given.config != wanted:
                raise ValueError(f"the {name} given is {given.config}, the config says {wanted}")
        self.config = config
        # registered even when None, so that the order of parameters does not depend on when the encoder is attached
        self.register_module("vision", vision)
        self.register_module("projector", build_projector(config.projector) if config.projector else None)
        self.llm = LanguageModel(config.lm) if llm is None else llm

    @property
    def image_tokens(self) -> int:
        """M, the number of positions that an image takes up."""
        return self.config.image_tokens

    @property
    def trains_vision(self) -> bool:
        """Whether any parameter of the encoder is trainable."""
        return self.vision is not None and any(parameter.requires_grad for parameter in self.vision.parameters())

    def loss(self, batch) -> tuple[Tensor, int]:
        """(summed cross entropy in fp32, number of supervised tokens).

        labels[t] is the token at t itself (-100: unsupervised); the shift by one happens here. The batch must be
        right-padded. A batch with nothing supervised gives (0, 0).
        """
        self.check_padding(batch)
        return self.token_loss(self.llm(self.embed_batch(batch)), batch.labels)  # right padding needs no mask

    def token_loss(self, hidden: Tensor, labels: Tensor) -> tuple[Tensor, int]:
        """As loss(), of hidden states (B, T, D) and labels (B, T)."""
        targets = labels[:, 1:].flatten()
        supervised = (targets != IGNORED).nonzero().squeeze(1)
        logits = self.llm.logits(hidden[:, :-1].flatten(0, 1).index_select(0, supervised)).float()
        return F.cross_entropy(logits, targets.index_select(0, supervised), reduction="sum"), len(supervised)

    def logits(self, batch) -> Tensor:
        """Logits (B, T, V) at every position, of a left- or right-padded batch; for tests and probes."""
        mask = None if bool(batch.attention_mask.all()) else batch.attention_mask
        return self.llm.logits(self.llm(self.embed_batch(batch), attention_mask=mask))

    def embed_batch(self, batch) -> Tensor:
        """Input embeddings (B, T, D) of a batch, images included."""
        given = (batch.pixels, batch.features, batch.words)
        images = None if all(source is None for source in given) else self.image_embeddings(*given)
        return self.embed(batch.ids, batch.image_mask, images)

    def embed(self, ids: Tensor, image_mask: Tensor, image_embeddings: Tensor | None = None) -> Tensor:
        """Token embeddings (B, T, D) of ids (B, T), with images (P, M, D), in order, where image_mask is True.

        ValueError unless the mask marks exactly P x M positions.
        """
        if image_mask.shape != ids.shape:
            found, expected = tuple(image_mask.shape), tuple(ids.shape)
            raise ValueError(f"image_mask: found shape {found}, expected that of ids, {expected}")
        positions = image_mask.flatten().nonzero().squeeze(1)
        given = 0 if image_embeddings is None else image_embeddings.shape[0] * image_embeddings.shape[1]
        if len(positions) != given:
            shape = "none" if image_embeddings is None else str(tuple(image_embeddings.shape))
            raise ValueError(
                f"the text holds {len(positions)} image positions, the image embeddings {shape} fill {given}; "
                "encode the text with this model's image_tokens"
            )
        embeddings = self.llm.embed(ids.flatten())  # (B * T, D)
        if image_embeddings is not None and given:
            embeddings.index_copy_(0, positions, image_embeddings.flatten(0, 1).to(embeddings.dtype))
        return embeddings.view(*ids.shape, -1)

    def image_embeddings(
        self, pixels: Tensor | None = None, features: Tensor | None = None, words: Tensor | None = None
    ) -> Tensor:
        """Embeddings (P, M, D) of P images, M positions each, from exactly one of three sources; else ValueError.

        pixels (P, 3, H, W) go through encoder and projector, features (P, N, Dv) through the projector alone. words
        (P, M, W) are token ids, padded with -1, whose embeddings are summed at each position. Projected tokens come in
        bands of config.projector.band rows: causally, one sees the bands above and what lies left of it in its own.
        """
        if sum(source is not None for source in (pixels, features, words)) != 1:
            raise ValueError("give exactly one of pixels, features and words")
        if words is not None:
            embedded = self.llm.embed(words.clamp(min=0))  # (P, M, W, D)
            return (embedded * (words >= 0).unsqueeze(-1)).sum(2)
        if self.projector is None or self.config.projector is None:
            raise ValueError("this model has no projector, so it cannot take images; train one with train_pretrain.py")
        if pixels is not None:
            features = self.encode(pixels)
        made, band = self.projector(features), self.config.projector.band
        return made if band == 1 else made[:, band_order(made.shape[1], band)]

    def encode(self, pixels: Tensor) -> Tensor:
        """Features (P, N, Dv) of pixels (P, 3, H, W)."""
        if self.vision is None:
            raise ValueError("this model has no encoder, so it cannot take pixels; give it one: vision=")
        return self.vision(pixels)

    @staticmethod
    def check_padding(batch) -> None:
        """ValueError for a left-padded batch."""
        if not bool(batch.attention_mask[:, 0].all()):
            raise ValueError("loss takes right-padded batches, but a row of this one starts with padding")
