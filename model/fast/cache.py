"""A KV cache that a decoding step can write to at a fixed place, and whose format can change between steps."""

from __future__ import annotations

import torch
from torch import Tensor

from model.cache import KVCache


class FastKVCache(KVCache):
    def put(self, layer: int, keys: Tensor, values: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
        """Stores one position (B, KV, 1, head_dim) at `at` (1,) int64; returns all places, (B, KV, max_length,
        head_dim), zeros where nothing was written. No shape depends on what `at` holds."""
        self._keys[layer].index_copy_(2, at, keys)
        self._values[layer].index_copy_(2, at, values)
        return self._keys[layer], self._values[layer]

    def place(self) -> tuple[int, ...]:
        """Identifies this cache's memory: differs from that of any cache alive at the same time, and between batch
        sizes of one cache."""
        return (self.max_length, *(n for keys in self._keys if keys is not None for n in (len(keys), keys.data_ptr())))

    def to(self, dtype: torch.dtype) -> None:
        """Casts what is cached; nothing where it is in that dtype already."""
        if self._keys[0] is not None and self._keys[0].dtype != dtype:
            self._keys = [keys.to(dtype) for keys in self._keys]
            self._values = [values.to(dtype) for values in self._values]
