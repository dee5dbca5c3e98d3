"""The learning rate over a run."""

from __future__ import annotations

import math


def learning_rate(step: int, steps: int, peak: float, warmup: int, min_ratio: float) -> float:
    """The rate at `step` of `steps` (from 0): linear to `peak` over `warmup` steps, then half a cosine down to
    min_ratio * peak at the last step."""
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = (step - warmup) / max(steps - 1 - warmup, 1)
    return peak * (min_ratio + (1 - min_ratio) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0))))
