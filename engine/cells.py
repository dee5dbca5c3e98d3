"""Warm-up of a projector: its token for a cell of the image is regressed onto the words of what lies in that cell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm

from dataset.batching import PictureLoader
from dataset.record import Picture
from engine import distributed
from engine.device import autocast
from engine.optimizer import learning_rate
from model.vlm import VLM

PICTURES = 64  # per step


def name_cells(
    model: VLM, scenes: Sequence[Picture], load: PictureLoader, words: PictureLoader, steps: int, peak: float,
    seed: int, device: torch.device, dtype: torch.dtype = torch.float32,
) -> float:  # fmt: skip
    """Train the projector alone to output the word pictures that the language model was trained to read.

    The target of an image token is the sum of the embeddings of its cell's words. The language model does not run, so a
    step takes milliseconds. Targets are scaled to unit variance, about that of the features, and the scale is folded
    into the projector's weights afterwards. Returns the share of the targets' variance that is left unexplained, over
    the last tenth of the steps. Deterministic in the seed. An image must have as many tokens as cells.
    """
    projector: Any = model.projector  # with a method scale_output, see model/registry.py
    model.to(device)
    optimizer = torch.optim.AdamW(projector.parameters(), lr=peak, weight_decay=0.0)
    rng = np.random.default_rng((seed, 5))
    left: list[float] = []
    with torch.no_grad():
        scale = model.image_embeddings(words=words(scenes[: 8 * PICTURES])["words"].to(device)).std()
    for step in tqdm(range(steps), desc="cells", unit="step", leave=False, disable=not distributed.is_main()):
        chosen = [scenes[i] for i in rng.integers(len(scenes), size=PICTURES)]
        with torch.no_grad():
            target = model.image_embeddings(words=words(chosen)["words"].to(device))  # (P, M, D)
        with autocast(device, dtype):
            made = model.image_embeddings(**{name: given.to(device) for name, given in load(chosen).items()})
        error = F.mse_loss(made.float(), target / scale)
        error.backward()
        optimizer.param_groups[0]["lr"] = learning_rate(step, steps, peak, max(steps // 20, 1), 0.05)
        optimizer.step()
        optimizer.zero_grad()
        left.append(error.item())
    projector.scale_output(scale)
    return float(np.mean(left[-max(steps // 10, 1) :]))
