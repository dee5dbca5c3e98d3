"""A decode step and its KV cache, with static shapes and addresses: a CUDA graph can replay it without Python overhead.

A small model's step is some 250 kernels of a few microseconds each; launching them one by one from Python takes
several times as long as running them.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from model.cache import KVCache

# Stores a layer's new keys and values (B, KV, 1, head_dim); returns those to attend to, (B, KV, S, head_dim).
Append = Callable[[int, Tensor, Tensor], tuple[Tensor, Tensor]]


class FastKVCache(KVCache):
    def put(self, layer: int, keys: Tensor, values: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
        """Stores one position (B, KV, 1, head_dim) at index `at` (1,) int64; returns the whole cache, (B, KV,
        max_length, head_dim), zeros where nothing was written. No shape depends on the value of `at`."""
        stored = self._layers[layer]
        assert stored is not None  # prefill has allocated it
        return stored[0].index_copy_(2, at, keys), stored[1].index_copy_(2, at, values)

    def place(self) -> tuple[int, ...]:
        """Identifies this cache's memory: unique among the caches alive at the same time, and different for other batch
        sizes of one cache."""
        return (self.max_length, *(n for kv in self._layers if kv for n in (len(kv[0]), kv[0].data_ptr())))

    def to(self, dtype: torch.dtype) -> None:
        """Casts the cached keys and values; a no-op if they have that dtype already."""
        if self._layers[0] is not None and self._layers[0][0].dtype != dtype:
            self._layers = [stored and (stored[0].to(dtype), stored[1].to(dtype)) for stored in self._layers]


class FixedStep:
    """A decode step of one batch over its whole cache, with a mask instead of a length; the result is the same.

    With `record`, the first call captures it as a CUDA graph, which later calls replay.
    """

    def __init__(
        self, compute: Callable[[Tensor, Tensor, Tensor, Append], Tensor], cache: FastKVCache, rows: int,
        device: torch.device, record: bool,
    ):  # fmt: skip
        """compute: logits (B, V) of tokens (B,) at positions (B,) with a mask (B, S) of the positions to attend to."""
        self.place = cache.place()
        self._compute, self._cache, self._record = compute, cache, record
        self._tokens, self._positions = (torch.zeros(rows, dtype=torch.int64, device=device) for _ in range(2))
        self._at = torch.zeros(1, dtype=torch.int64, device=device)  # index of the step's keys and values
        self._real = torch.ones((rows, cache.max_length), dtype=torch.bool, device=device)
        self._indices = torch.arange(cache.max_length, device=device)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._logits = torch.empty(0)  # of the graph

    def __call__(self, tokens: Tensor, positions: Tensor, mask: Tensor | None) -> Tensor:
        """Logits (B, V), which the next call overwrites. The caller advances the cache's length."""
        self._tokens.copy_(tokens)
        self._positions.copy_(positions)
        self._at.fill_(self._cache.length)
        if mask is None:  # another batch in the same memory may have had padding
            self._real.fill_(True)
        else:
            self._real[:, : mask.shape[1]] = mask
        if not self._record:
            return self._run()
        if self._graph is None:
            self._graph = self._capture()
        self._graph.replay()
        return self._logits

    def _run(self) -> Tensor:
        seen = self._real & (self._indices <= self._at)
        append = lambda layer, keys, values: self._cache.put(layer, keys, values, self._at)  # noqa: E731
        return self._compute(self._tokens, self._positions, seen, append)

    def _capture(self) -> torch.cuda.CUDAGraph:
        """The step as a CUDA graph, after one warm-up run, which writes the same as the replay will."""
        warm_up = torch.cuda.Stream()
        warm_up.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(warm_up):
            self._run()
        torch.cuda.current_stream().wait_stream(warm_up)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._logits = self._run()
        return graph
