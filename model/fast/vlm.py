"""The training loss without what no gradient needs; the same value and gradients as VLM.loss."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from model.vlm import IGNORED, VLM


class FastVLM(VLM):
    def loss(self, batch) -> tuple[Tensor, int]:
        """As VLM.loss. Hidden states are made from the first supervised position on, logits of supervised ones."""
        self.check_padding(batch)
        supervised = (batch.labels[:, 1:] != IGNORED).any(0).nonzero()
        first = int(supervised[0]) if len(supervised) else 0
        hidden = self._hidden(batch, first)
        targets = batch.labels[:, first + 1 :].flatten()
        places = (targets != IGNORED).nonzero().squeeze(1)
        predicted = hidden[:, :-1].flatten(0, 1).index_select(0, places)  # (supervised, D)
        logits = self.llm.logits(predicted).float()
        return F.cross_entropy(logits, targets.index_select(0, places), reduction="sum"), len(places)

    def encode(self, pixels: Tensor) -> Tensor:
        """As VLM.encode; a frozen encoder runs without gradients, which its kernels need."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.trains_vision):
            return super().encode(pixels)

    def _hidden(self, batch, first: int) -> Tensor:
        """Hidden states (B, T - first, D) of a right-padded batch from position `first` on.

        With a frozen language model no gradient reaches the text before the first image: it is read without one, and
        for one row where it is the same in all.
        """
        embeddings = self.embed_batch(batch)
        lead = self._lead(batch, first) if embeddings.requires_grad else 0
        if not lead:
            return self.llm(embeddings, first=first)
        cache = self.llm.new_cache(embeddings.shape[1])
        same = bool((batch.ids[:, :lead] == batch.ids[:1, :lead]).all())
        with torch.no_grad():
            self.llm(embeddings[: 1 if same else None, :lead], cache=cache)
        if same:
            cache.keep(torch.zeros(len(embeddings), dtype=torch.int64, device=embeddings.device))
        return self.llm(embeddings[:, lead:], cache=cache, first=first - lead)

    def _lead(self, batch, first: int) -> int:
        """How many positions of each row come before every image and every label, where nothing in them trains."""
        if self.llm.checkpointing or any(parameter.requires_grad for parameter in self.llm.parameters()):
            return 0
        pictured = batch.image_mask.any(0).nonzero()
        return min(first, int(pictured[0])) if len(pictured) else 0
