"""A projector's first steps: what it makes of a cell of the picture becomes the words of what lies in that cell."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm

from dataset.batching import PictureLoader
from dataset.picturebook.words import GRID
from dataset.record import Picture
from engine import ranks
from engine.schedule import learning_rate
from model.vlm import VLM

PICTURES = 64  # a step


def name_cells(
    model: VLM, scenes: Sequence[Picture], load: PictureLoader, words: PictureLoader, steps: int, peak: float,
    seed: int, device: torch.device,
) -> float:  # fmt: skip
    """Train the projector alone for `steps` steps to give the word pictures that the language model learned to read.

    A picture's tokens are drawn to the sums of the embeddings of its cells' words, which the language model is not
    run for, so a step takes milliseconds. Returns the share of the targets' variance that the last tenth of the steps
    leaves unexplained. The same for the same seed. ValueError where a picture makes another number of tokens than
    there are cells.
    """
    if model.image_tokens != GRID * GRID:
        raise ValueError(f"a picture makes {model.image_tokens} tokens, and {GRID * GRID} cells are to be named")
    model.to(device)
    parameters = list(model.projector.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=peak, weight_decay=0.0)
    rng = np.random.default_rng((seed, 5))
    left: list[float] = []
    for step in tqdm(range(steps), desc="cells", unit="step", leave=False, disable=not ranks.is_first()):
        chosen = [scenes[i] for i in rng.integers(len(scenes), size=PICTURES)]
        with torch.no_grad():
            target = model.image_embeddings(words=words(chosen)["words"].to(device))  # (P, M, D)
        made = model.image_embeddings(**{name: given.to(device).float() for name, given in load(chosen).items()})
        error = F.mse_loss(made, target) / target.var()
        error.backward()
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps, peak, max(steps // 20, 1), 0.05)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        left.append(float(error.detach()))
    return sum(left[-max(steps // 10, 1) :]) / max(steps // 10, 1) if steps else float("nan")
