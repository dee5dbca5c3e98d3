"""The decoder's KV cache."""

from __future__ import annotations

from torch import Tensor

from model.config import LMConfig


class KVCache:
    """Keys and values of every layer, preallocated for max_length positions at the first write."""

    def __init__(self, config: LMConfig, max_length: int):
        self.max_length = max_length
        self.length = 0  # filled positions; LanguageModel.forward advances it
        self._layers: list[tuple[Tensor, Tensor] | None] = [None] * config.num_hidden_layers

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Appends keys and values (B, KV, T, head_dim); returns views of all positions so far, (B, KV, S, head_dim).
        ValueError where they do not fit."""
        end = self.length + keys.shape[2]
        if end > self.max_length:
            raise ValueError(f"the cache holds {self.max_length} positions, {end} are needed; raise max_length")
        stored = self._layers[layer]
        if stored is None:
            shape = (*keys.shape[:2], self.max_length, keys.shape[3])
            stored = self._layers[layer] = keys.new_zeros(shape), values.new_zeros(shape)
        all_keys, all_values = stored
        all_keys[:, :, self.length : end] = keys
        all_values[:, :, self.length : end] = values
        return all_keys[:, :, :end], all_values[:, :, :end]

    def keep(self, rows: Tensor) -> None:
        """Keeps only `rows` (int64 indices) of the batch, in that order."""
        self._layers = [None if stored is None else (stored[0][rows], stored[1][rows]) for stored in self._layers]
