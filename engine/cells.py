"""Warm-up of a projector: its token for a cell of the image is regressed onto the words of what lies in that cell."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm

from dataset.batching import PictureLoader
from dataset.record import Picture
from engine import distributed
from engine.device import autocast
from engine.optimizer import learning_rate
from model.projector import Projector
from model.vlm import VLM

PICTURES = 64  # a step


def name_cells(
    model: VLM, scenes: Sequence[Picture], load: PictureLoader, words: PictureLoader, steps: int, peak: float,
    seed: int, device: torch.device, dtype: torch.dtype = torch.float32,
) -> float:  # fmt: skip
    """Train the projector alone for `steps` steps to give the word pictures that the language model learned to read.

    A picture's tokens are drawn to the sums of the embeddings of its cells' words, which the language model is not
    run for, so a step takes milliseconds. The sums are learned at unit variance, as features have about that, and what
    they were divided by becomes part of the projector in the end. Returns the share of their variance that the last
    tenth of the steps leaves unexplained. The same for the same seed. ValueError where a picture makes another number
    of tokens than there are cells.
    """
    cells = words(scenes[:1])["words"].shape[1]
    if model.image_tokens != cells:
        raise ValueError(f"a picture makes {model.image_tokens} tokens, and {cells} cells are to be named")
    projector = model.projector
    assert projector is not None  # or there would be no image_tokens
    model.to(device)
    parameters = list(projector.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=peak, weight_decay=0.0)
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
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps, peak, max(steps // 20, 1), 0.05)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        left.append(float(error.detach()))
    scale_output(projector, scale)
    return sum(left[-max(steps // 10, 1) :]) / max(steps // 10, 1) if steps else float("nan")


@torch.no_grad()
def scale_output(projector: Projector, factor: torch.Tensor) -> None:
    """Scale the projector's output by `factor`, by way of its weights."""
    last = projector.linear_1 if projector.config.kind == "linear" else projector.linear_2
    last.weight.mul_(factor)
    last.bias.mul_(factor)
    if projector.config.kind == "ldp" and projector.depthwise.bias is not None:  # linear in what comes in, but for it
        projector.depthwise.bias.mul_(factor)
