"""Where in its picture a word of an answer comes from: integrated gradients (arXiv 1703.01365) of its log-probability.

The gradient with regard to the encoder's features is averaged along the straight line from a blanked picture's features
to the picture's, and multiplied by what the two differ. Summed over all features this is what the log-probability gains
by the picture, but for the error of the average, so a cell's value is its part of that gain: above 0 it speaks for the
word, below against it. A blanked picture has a map of zeros. With regard to the pixels the average does not converge
where an encoder's stem normalises: a gray picture has no variance, and all changes with the first grain of contrast.

It is no proof of what the model looked at. A feature stands where its patch is, but the encoder's attention carries
what is in one place to others; the line leads through features that no picture has; and two cells of which either
suffices share the gain.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from dataset.batching import pixel_loader
from dataset.encoding import encode_prompt
from dataset.preprocess import preprocess
from dataset.record import Ask
from engine.build import Trained
from engine.device import autocast
from model.vlm import VLM

STEPS = 32  # points on the line where the gradient is taken
LEVELS = 64  # parts of the line at whose ends the log-probability alone is taken
AT_ONCE = 16  # points
GRAY = (128, 128, 128)  # of a blanked picture


@dataclass(frozen=True, eq=False)
class WordMap:
    """What a word's log-probability owes to each cell of the picture."""

    cells: Tensor  # (P, h, w) of the P pictures, a cell for each of the encoder's features, float32 on the CPU
    seeing: float  # log-probability of the word, given the answer before it
    blanked: float  # the same with the pictures blanked

    @property
    def gain(self) -> float:
        """What the log-probability gains by the pictures; cells.sum() but for the error of the average."""
        return self.seeing - self.blanked


def blanked(trained: Trained) -> Tensor:
    """A blanked picture as pixels (1, 3, H, W) of its encoder's preprocessing."""
    spec = trained.encoder.spec
    height, width = spec.shape
    return torch.from_numpy(preprocess(Image.new("RGB", (width, height), GRAY), spec))[None]


def word_map(
    trained: Trained, ask: Ask, answer: Sequence[int], start: int, end: int, dtype: torch.dtype = torch.float32,
    steps: int = STEPS,
) -> WordMap:  # fmt: skip
    """The map of the word answer[start:end] of token ids, said after answer[:start] to an ask about pictures.

    dtype: of matmuls. ValueError for an ask without pictures or an empty word. Raises BadRow where a picture cannot be
    read or the prompt is too long.
    """
    if not ask.images or not 0 <= start < end <= len(answer):
        raise ValueError(f"a word from {start} to {end} of {len(answer)} tokens, {len(ask.images)} pictures: "
                         "expected a word that is not empty and at least one picture")  # fmt: skip
    model = trained.model
    device = next(model.parameters()).device
    prompt = encode_prompt(ask.turns, trained.tokenizer, model.image_tokens, ask.images, row_id=ask.id)
    loaded = pixel_loader(trained.encoder.spec)(ask.images)["pixels"]
    pixels = torch.cat((blanked(trained), loaded)).to(device)
    ids = torch.tensor([*prompt.ids.tolist(), *answer[:end]], device=device)
    mask = torch.zeros(len(ids), dtype=torch.bool, device=device)
    mask[: len(prompt.ids)] = torch.from_numpy(prompt.image_mask)
    first = len(prompt.ids) + start

    def between(points: Tensor) -> Tensor:
        """Features (S, P, N, Dv) at points (S,) of the line."""
        return blank + points.view(-1, 1, 1, 1) * (seeing - blank)

    def said(features: Tensor) -> Tensor:
        return _log_probability(model, features, ids, mask, first)

    with torch.no_grad(), autocast(device, dtype):
        features = model.encode(pixels).float()  # (1 + P, N, Dv)
        seeing = features[1:]
        blank = features[:1].expand_as(seeing)
        levels = torch.linspace(0, 1, LEVELS + 1, device=device)
        told = torch.cat([said(between(some)) for some in levels.split(AT_ONCE)])  # (LEVELS + 1,)
    points, widths = _where_it_changes(levels, told, steps)
    total = torch.zeros_like(seeing)
    with torch.enable_grad():
        for some, wide in zip(points.split(AT_ONCE), widths.split(AT_ONCE), strict=True):
            line = between(some).detach().requires_grad_()
            with autocast(device, dtype):
                here = said(line).sum()
            total += (torch.autograd.grad(here, line)[0] * wide.view(-1, 1, 1, 1)).sum(0)
    cells = (total * (seeing - blank)).sum(-1).cpu()  # (P, N)
    side = math.isqrt(cells.shape[1])
    return WordMap(cells.view(-1, side, side), float(told[-1]), float(told[0]))


def _where_it_changes(levels: Tensor, told: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """Middles and widths (steps,) of parts that the line from 0 to 1 is cut in: half of them even, half of them where
    `told`, a log-probability at each of the `levels`, changes, which it often does within a hundredth of the line."""
    change = told.diff().abs().double()
    dense = levels.diff() + (change / change.sum() if float(change.sum()) > 0 else levels.diff())
    reached = torch.cat((dense.new_zeros(1), dense.cumsum(0)))
    wanted = torch.linspace(0, 1, steps + 1, device=levels.device, dtype=reached.dtype) * reached[-1]
    part = torch.searchsorted(reached, wanted).clamp(1, len(levels) - 1)
    share = (wanted - reached[part - 1]) / dense[part - 1]
    edges = (levels[part - 1] + share * (levels[part] - levels[part - 1])).float()
    return (edges[1:] + edges[:-1]) / 2, edges.diff()


def _log_probability(model: VLM, features: Tensor, ids: Tensor, mask: Tensor, first: int) -> Tensor:
    """Log-probability (S,) of ids (T,) from position `first` on, with each of S sets of features (S, P, N, Dv)."""
    rows = len(features)
    embeddings = model.embed(
        ids.expand(rows, -1), mask.expand(rows, -1), model.image_embeddings(features=features.flatten(0, 1))
    )
    hidden = model.llm(embeddings[:, :-1])[:, first - 1 :]  # each position tells the next token
    chosen = ids[first:].expand(rows, -1).unsqueeze(-1)
    return model.llm.logits(hidden).float().log_softmax(-1).gather(-1, chosen).flatten(1).sum(1)
