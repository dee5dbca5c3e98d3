"""A decoding step whose tensors stay where they are, so that a CUDA graph can repeat it without Python in the way.

A small model's step is some 250 kernels of a few microseconds; launched one by one from Python they take several times
as long as they run.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from model.fast.cache import FastKVCache

# Stores a layer's new keys and values (B, KV, 1, head_dim); gives those that are looked at, (B, KV, S, head_dim).
Append = Callable[[int, Tensor, Tensor], tuple[Tensor, Tensor]]
# Logits (B, V) of tokens (B,) at positions (B,), with a mask (B, S) of what may be looked at.
Compute = Callable[[Tensor, Tensor, Tensor | None, Append], Tensor]


class FixedStep:
    """One step of a batch over the whole of its cache, with masks in place of lengths; equal to a growing one's.

    On a GPU it is recorded at the first call and replayed from then on, where `record` is True.
    """

    def __init__(self, compute: Compute, cache: FastKVCache, rows: int, device: torch.device, record: bool):
        self.place = cache.place()
        self._compute, self._cache, self._record = compute, cache, record
        self._tokens, self._positions = (torch.zeros(rows, dtype=torch.int64, device=device) for _ in range(2))
        self._at = torch.zeros(1, dtype=torch.int64, device=device)  # where the step's keys and values go
        self._real = torch.ones((rows, cache.max_length), dtype=torch.bool, device=device)
        self._everywhere = torch.arange(cache.max_length, device=device)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._logits = torch.empty(0)  # of the graph

    def __call__(self, tokens: Tensor, positions: Tensor, mask: Tensor | None) -> Tensor:
        """Logits (B, V), which the next call overwrites. The cache's length is the caller's to move on."""
        self._tokens.copy_(tokens)
        self._positions.copy_(positions)
        self._at.fill_(self._cache.length)
        if mask is not None:
            self._real[:, : mask.shape[1]] = mask
        if not self._record:
            return self._run()
        if self._graph is None:
            self._graph = self._recorded()
        self._graph.replay()
        return self._logits

    def _run(self) -> Tensor:
        seen = self._real & (self._everywhere <= self._at)
        append = lambda layer, keys, values: self._cache.put(layer, keys, values, self._at)  # noqa: E731
        return self._compute(self._tokens, self._positions, seen, append)

    def _recorded(self) -> torch.cuda.CUDAGraph:
        """The step as a graph; run once before, which makes what is made but once and writes what the replay will."""
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            self._run()
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._logits = self._run()
        return graph
