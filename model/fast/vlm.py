"""The training loss without the work that no gradient needs; the same value and gradients as VLM.loss."""

from __future__ import annotations

import torch
from torch import Tensor

from model.vlm import IGNORED, VLM


class FastVLM(VLM):
    def loss(self, batch) -> tuple[Tensor, int]:
        """As VLM.loss; hidden states only from the first supervised position on.

        With a frozen language model no gradient reaches the text before the first image: that prefix is prefilled
        without autograd, and only once if it is the same in all rows.
        """
        self.check_padding(batch)
        supervised = (batch.labels[:, 1:] != IGNORED).any(0).nonzero()
        first = int(supervised[0]) if len(supervised) else 0
        embeddings = self.embed_batch(batch)
        trains = self.llm.checkpointing or any(parameter.requires_grad for parameter in self.llm.parameters())
        lead = 0  # length of the prefix that holds no image and no label in any row
        if embeddings.requires_grad and not trains:
            pictured = batch.image_mask.any(0).nonzero()
            lead = min(first, int(pictured[0])) if len(pictured) else 0
        cache = self.llm.new_cache(embeddings.shape[1]) if lead else None
        if cache is not None:
            same = bool((batch.ids[:, :lead] == batch.ids[:1, :lead]).all())
            with torch.no_grad():
                self.llm(embeddings[: 1 if same else None, :lead], cache=cache)
            if same:
                cache.keep(torch.zeros(len(embeddings), dtype=torch.int64, device=embeddings.device))
        hidden = self.llm(embeddings[:, lead:], cache=cache, first=first - lead)  # (B, T - first, D)
        return self.token_loss(hidden, batch.labels[:, first:])

    def encode(self, pixels: Tensor) -> Tensor:
        """As VLM.encode; a frozen encoder runs without autograd, as its kernels require."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.trains_vision):
            return super().encode(pixels)
