"""Where in its picture a word of an answer comes from: integrated gradients (arXiv 1703.01365) of its log-probability.

The gradient with regard to the pixels is averaged along the straight line from a blanked picture to the picture, and
multiplied by what the pixels differ. Summed over all pixels this is what the log-probability gains by the picture, but
for the error of the average, so a cell's value is its part of that gain: above 0 it speaks for the word, below against
it. A blanked picture has a map of zeros.

It is no proof of what the model looked at. The line leads through pictures that the model never saw; an attention layer
of the encoder carries what is in one place to all others; and two cells of which either suffices share the gain.
"""

from __future__ import annotations

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

STEPS = 16  # points on the line
AT_ONCE = 8  # of them
GRAY = (128, 128, 128)  # of a blanked picture


@dataclass(frozen=True, eq=False)
class WordMap:
    """What a word's log-probability owes to each cell of the picture."""

    cells: Tensor  # (P, h, w) of the P pictures, a cell for each patch of the encoder, float32 on the CPU
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
    pixels = pixel_loader(trained.encoder.spec)(ask.images)["pixels"].to(device)  # (P, 3, H, W)
    blank = blanked(trained).to(device).expand_as(pixels)
    ids = torch.tensor([*prompt.ids.tolist(), *answer[:end]], device=device)
    mask = torch.zeros(len(ids), dtype=torch.bool, device=device)
    mask[: len(prompt.ids)] = torch.from_numpy(prompt.image_mask)
    first = len(prompt.ids) + start
    total = torch.zeros_like(pixels)
    with torch.no_grad(), autocast(device, dtype):
        ends = _log_probability(model, torch.stack((blank, pixels)), ids, mask, first)
    points = (torch.arange(steps, device=device) + 0.5) / steps
    with torch.enable_grad():
        for some in points.split(AT_ONCE):
            line = (blank + some.view(-1, 1, 1, 1, 1) * (pixels - blank)).detach().requires_grad_()  # (S, P, 3, H, W)
            with autocast(device, dtype):
                said = _log_probability(model, line, ids, mask, first)
            total += torch.autograd.grad(said.sum(), line)[0].sum(0)
    owed = (total / steps * (pixels - blank)).sum(1)  # (P, H, W)
    return WordMap(_by_cell(owed, model), float(ends[1]), float(ends[0]))


def _log_probability(model: VLM, pictures: Tensor, ids: Tensor, mask: Tensor, first: int) -> Tensor:
    """Log-probability (S,) of ids (T,) from position `first` on, with each of S sets of pictures (S, P, 3, H, W).

    The encoder is called by itself, as model/fast runs a frozen one without autograd.
    """
    assert model.vision is not None and model.projector is not None
    rows = len(pictures)
    images = model.projector(model.vision(pictures.flatten(0, 1)))  # (S * P, M, D)
    embeddings = model.embed(ids.expand(rows, -1), mask.expand(rows, -1), images)
    hidden = model.llm(embeddings[:, :-1])[:, first - 1 :]  # each position tells the next token
    chosen = ids[first:].expand(rows, -1).unsqueeze(-1)
    return model.llm.logits(hidden).float().log_softmax(-1).gather(-1, chosen).flatten(1).sum(1)


def _by_cell(owed: Tensor, model: VLM) -> Tensor:
    """Pixels (P, H, W) summed in squares of the encoder's patch size; a rest at the edge goes to the last one."""
    assert model.vision is not None
    size, patch = model.vision.config.image_size, model.vision.config.patch_size
    side = size // patch
    number = (torch.arange(size, device=owed.device) // patch).clamp(max=side - 1)
    rows = torch.zeros(len(owed), side, size, device=owed.device).index_add_(1, number, owed.float())
    return torch.zeros(len(owed), side, side, device=owed.device).index_add_(2, number, rows).cpu()
