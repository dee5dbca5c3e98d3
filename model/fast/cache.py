"""A KV cache that a decode step can write to without a change of shapes, and whose dtype can change between steps."""

from __future__ import annotations

import torch
from torch import Tensor

from model.cache import KVCache


class FastKVCache(KVCache):
    def put(self, layer: int, keys: Tensor, values: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
        """Stores one position (B, KV, 1, head_dim) at index `at` (1,) int64; returns the whole cache, (B, KV,
        max_length, head_dim), zeros where nothing was written. No shape depends on the value of `at`."""
        all_keys, all_values = self._keys[layer], self._values[layer]
        assert all_keys is not None and all_values is not None  # prefill has allocated them
        return all_keys.index_copy_(2, at, keys), all_values.index_copy_(2, at, values)

    def place(self) -> tuple[int, ...]:
        """Identifies this cache's memory: unique among the caches alive at the same time, and different for other batch
        sizes of one cache."""
        return (self.max_length, *(n for keys in self._keys if keys is not None for n in (len(keys), keys.data_ptr())))

    def to(self, dtype: torch.dtype) -> None:
        """Casts the cached keys and values; a no-op if they have that dtype already."""
        first = self._keys[0]
        if first is None or first.dtype == dtype:
            return
        self._keys = [None if keys is None else keys.to(dtype) for keys in self._keys]
        self._values = [None if values is None else values.to(dtype) for values in self._values]
