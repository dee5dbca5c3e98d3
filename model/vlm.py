"""The vision-language model: encoder, projector and decoder put together, and its training loss."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.config import VLMConfig
from model.language import KVCache, LanguageModel
from model.projector import build_projector
from model.vision import VisionTransformer

IGNORED = -100  # a label that is not supervised


class VLM(nn.Module):
    """`.vision` (or None), `.projector` (or None) and `.llm`, random unless they are given.

    The encoder is never made here: pass it, or feed features that were computed before. A batch is any object
    with ids, labels, attention_mask, image_mask (B, T) and pixels, features or words (at most one not None).

    lockstep: True where the weights are divided among processes (engine/sharding.py). All of them then have to run
    every layer equally often, forward and backward: no part of a batch is run ahead, and a batch without pictures
    reaches the weights that pictures go through all the same.
    """

    lockstep = False

    def __init__(
        self,
        config: VLMConfig,
        vision: VisionTransformer | None = None,
        llm: LanguageModel | None = None,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        if llm is not None and llm.config != config.lm:
            raise ValueError(f"the language model given is {llm.config}, the config says {config.lm}")
        if vision is not None and vision.config != config.vision:
            raise ValueError(f"the encoder given is {vision.config}, the config says {config.vision}")
        self.config = config
        # Registered even when absent, so that the order of the parts is one, whenever the encoder comes.
        self.register_module("vision", vision)
        self.register_module("projector", build_projector(config.projector) if config.projector else None)
        self.llm = LanguageModel(config.lm, generator) if llm is None else llm

    @property
    def image_tokens(self) -> int:
        """M, the number of positions that each picture takes."""
        return self.config.image_tokens

    @property
    def trains_vision(self) -> bool:
        """Whether there is an encoder of which something trains."""
        return self.vision is not None and any(parameter.requires_grad for parameter in self.vision.parameters())

    def image_embeddings(
        self, pixels: Tensor | None = None, features: Tensor | None = None, words: Tensor | None = None
    ) -> Tensor:
        """What stands in the image positions, (P, M, D), from exactly one of three sources.

        pixels (P, 3, H, W) go through encoder and projector, features (P, N, Dv) through the projector; of
        words (P, M, W), ids or -1 for none, the token embeddings are summed. ValueError for none or several.
        """
        if sum(source is not None for source in (pixels, features, words)) != 1:
            raise ValueError("give exactly one of pixels, features and words")
        if words is not None:
            embedded = self.llm.embed(words.clamp(min=0))  # (P, M, W, D)
            return (embedded * (words >= 0).unsqueeze(-1)).sum(2)
        if self.projector is None:
            raise ValueError("this model has no projector, so it takes no pictures; align one first")
        if features is None:
            features = self._encode(pixels)
        return self.projector(features)

    def _encode(self, pixels: Tensor) -> Tensor:
        if self.vision is None:
            raise ValueError("this model has no encoder, so it takes no pixels; give it one: vision=")
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.trains_vision):
            return self.vision(pixels)  # (P, N, Dv)

    def embed(self, ids: Tensor, image_mask: Tensor, image_embeddings: Tensor | None = None) -> Tensor:
        """Embeddings (B, T, D) of ids (B, T), with pictures (P, M, D) in the True positions of image_mask.

        Pictures stand in reading order. ValueError where the mask does not hold exactly P x M positions.
        """
        if image_mask.shape != ids.shape:
            found, expected = tuple(image_mask.shape), tuple(ids.shape)
            raise ValueError(f"image_mask: found shape {found}, expected that of ids, {expected}")
        places = image_mask.flatten().nonzero().squeeze(1)
        given = 0 if image_embeddings is None else image_embeddings.shape[0] * image_embeddings.shape[1]
        if len(places) != given:
            found = "none" if image_embeddings is None else tuple(image_embeddings.shape)
            raise ValueError(
                f"the text holds {len(places)} image positions, the picture embeddings {found} fill {given}; "
                "encode the text with this model's image_tokens"
            )
        embeddings = self.llm.embed(ids.flatten())  # (B * T, D)
        if given:
            embeddings.index_copy_(0, places, image_embeddings.flatten(0, 1).to(embeddings.dtype))
        return embeddings.view(*ids.shape, -1)

    def _embed_batch(self, batch) -> Tensor:
        given = (batch.pixels, batch.features, batch.words)
        pictures = None if all(source is None for source in given) else self.image_embeddings(*given)
        return self.embed(batch.ids, batch.image_mask, pictures)

    def loss(self, batch) -> tuple[Tensor, int]:
        """(sum of the cross entropies in fp32, number of supervised tokens).

        labels[t] is the token at t itself (-100: not supervised); the shift happens here, and logits are made
        only where there is a label. The batch must be right padded. A batch without labels gives (0, 0).
        """
        if not bool(batch.attention_mask[:, 0].all()):
            raise ValueError("loss takes right-padded batches, and a row of this one starts with padding")
        supervised = (batch.labels[:, 1:] != IGNORED).any(0).nonzero()
        first = int(supervised[0]) if len(supervised) else 0  # no label before it, so nothing of the last layer either
        hidden = self._hidden(batch, first)  # causal attention never sees right padding
        targets = batch.labels[:, first + 1 :].flatten()
        places = (targets != IGNORED).nonzero().squeeze(1)
        predicted = hidden[:, :-1].flatten(0, 1).index_select(0, places)  # (supervised, D)
        logits = self.llm.logits(predicted).float()
        loss_sum = F.cross_entropy(logits, targets.index_select(0, places), reduction="sum")
        return loss_sum, len(places)

    def _untouched(self) -> Tensor:
        """0 by way of all trained weights that pictures go through, whose gradients then are 0 and not missing."""
        parts = [part for part in (self.vision, self.projector) if part is not None]
        trained = [p for part in parts for p in part.parameters() if p.requires_grad]
        return sum((p.sum() for p in trained), torch.zeros(())) * 0

    def _hidden(self, batch, first: int) -> Tensor:
        """Hidden states (B, T - first, D) of a right-padded batch from position `first` on.

        Where the language model is frozen, no gradient reaches the text before the first picture: it is read without
        one, and once for all rows where it is the same in all.
        """
        embeddings = self._embed_batch(batch)
        if self.lockstep and not bool(batch.image_mask.any()):
            embeddings = embeddings + self._untouched()
        lead = self._lead(batch, first) if embeddings.requires_grad else 0
        if not lead:
            return self.llm(embeddings, first=first)
        cache = KVCache(self.config.lm, embeddings.shape[1])
        same = bool((batch.ids[:, :lead] == batch.ids[:1, :lead]).all())
        with torch.no_grad():
            self.llm(embeddings[: 1 if same else None, :lead], cache=cache)
        if same:
            cache.keep(torch.zeros(len(embeddings), dtype=torch.int64, device=embeddings.device))
        return self.llm(embeddings[:, lead:], cache=cache, first=first - lead)

    def _lead(self, batch, first: int) -> int:
        """How many positions of each row come before every picture and every label, where nothing in them trains."""
        whole = self.llm.checkpointing or self.lockstep
        if whole or any(parameter.requires_grad for parameter in self.llm.parameters()):
            return 0
        pictured = batch.image_mask.any(0).nonzero()
        return min(first, int(pictured[0])) if len(pictured) else 0

    def logits(self, batch) -> Tensor:
        """Logits (B, T, V) at every position, whatever the side of the padding; for tests and probes."""
        mask = None if bool(batch.attention_mask.all()) else batch.attention_mask
        return self.llm.logits(self.llm(self._embed_batch(batch), attention_mask=mask))
