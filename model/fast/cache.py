"""A KV cache that a decoding step can write to at a fixed place, and whose format can change between steps."""

from __future__ import annotations

import torch
from torch import Tensor

from model.cache import KVCache


class FastKVCache(KVCache):
    def put(self, layer: int, keys: Tensor, values: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
        """Stores one position (B, KV, 1, head_dim) at `at` (1,) int64; returns all places, (B, KV, max_length,
        head_dim), zeros where nothing was written. No shape depends on what `at` holds."""
        all_keys, all_values = self._keys[layer], self._values[layer]
        assert all_keys is not None and all_values is not None  # the prompt was appended before
        return all_keys.index_copy_(2, at, keys), all_values.index_copy_(2, at, values)

    def place(self) -> tuple[int, ...]:
        """Identifies this cache's memory: differs from that of any cache alive at the same time, and between batch
        sizes of one cache."""
        return (self.max_length, *(n for keys in self._keys if keys is not None for n in (len(keys), keys.data_ptr())))

    def to(self, dtype: torch.dtype) -> None:
        """Casts what is cached; nothing where it is in that dtype already."""
        first = self._keys[0]
        if first is None or first.dtype == dtype:
            return
        self._keys = [None if keys is None else keys.to(dtype) for keys in self._keys]
        self._values = [None if values is None else values.to(dtype) for values in self._values]
