"""Changes of a training batch, drawn anew at each step: (seed, step, batch) -> the batch to train on in its place."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dataset.bad_rows import DataError
from dataset.batching import PictureLoader
from dataset.pictures import open_for, picture_key
from dataset.preprocess import PreprocessSpec, normalise, resize_and_crop
from dataset.record import IGNORE, Batch, Picture

SHIFT = 8  # pictures are shifted by up to an eighth of their side
GRAY = 0.25  # share of the pictures without colour, so that kinds are told by their shapes
PERMUTED = 0.25  # share with permuted colour channels, to the same end
SMALLEST, JITTER = 0.15, 0.3  # of a crop's area and colours; pixels are normalised to about -2 to 2
ERASED = 0.5  # share of the crops with a gray square, a quarter to half as wide as they are
CAPTIONS = 3  # of each picture at a step, where it has several
PIXELS_GB = 4.0  # of memory, at most, for pictures that are seen again in each epoch
LUMA = (0.299, 0.587, 0.114)
ORDERS = ((0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))


def remembering_loader(spec: PreprocessSpec, limit: int) -> PictureLoader:
    """A loader of pixels that keeps up to `limit` bytes of resized pictures in memory for the next epoch."""
    kept: dict[str, np.ndarray] = {}
    most = limit // (3 * spec.shape[0] * spec.shape[1])

    def resized(picture: Picture) -> np.ndarray:
        key = picture_key(picture)
        pixels = kept[key] if key in kept else np.asarray(resize_and_crop(open_for(picture, spec), spec))
        if len(kept) < most:
            kept[key] = pixels
        return pixels

    return lambda pictures: {"pixels": torch.from_numpy(normalise(np.stack([resized(p) for p in pictures]), spec))}


def pixels_of(batch: Batch) -> Tensor:
    """The pixels (P, 3, H, W) of a batch. ValueError where it has features or no picture."""
    if batch.pixels is None:
        raise ValueError("a batch without pixels; load its pictures with remembering_loader()")
    return batch.pixels


def without_colour(seed: int, step: int, batch: Batch) -> Batch:
    """The batch with a share GRAY of the pictures in gray."""
    rng = np.random.default_rng((seed, 3, step))
    pixels = pixels_of(batch)
    gray = torch.from_numpy(rng.random(len(pixels)) < GRAY)
    luma = (pixels * pixels.new_tensor(LUMA)[:, None, None]).sum(1, keepdim=True)  # (P, 1, H, W)
    return dataclasses.replace(batch, pixels=torch.where(gray[:, None, None, None], luma, pixels))


def other_colours(seed: int, step: int, batch: Batch, colours: Tensor) -> Batch:
    """The batch with a share GRAY of the pictures in gray, and the colour channels of a share PERMUTED permuted.

    Words that name a colour (ids in `colours`) are not supervised for these pictures.
    """
    batch = without_colour(seed, step, batch)
    rng = np.random.default_rng((seed, 4, step))
    pixels = pixels_of(batch).clone()
    permuted = rng.random(len(pixels)) < PERMUTED
    for i in np.flatnonzero(permuted):
        pixels[i] = pixels[i][list(ORDERS[rng.integers(len(ORDERS))])]
    gray = (pixels == pixels[:, :1]).flatten(1).all(1)
    changed = torch.from_numpy(permuted).to(gray.device) | gray
    labels = batch.labels.masked_fill(changed[:, None] & torch.isin(batch.labels, colours), IGNORE)
    words = batch.words
    if words is not None:
        words = words.masked_fill(changed[:, None, None] & torch.isin(words, colours), -1)
    return dataclasses.replace(batch, pixels=pixels, labels=labels, words=words)


def shifted(seed: int, step: int, batch: Batch, flip: bool = False) -> Batch:
    """The batch with each picture shifted by up to 1/SHIFT of its side, reflected at the border; with `flip`, half of
    them are mirrored."""
    rng = np.random.default_rng((seed, 2, step))
    pixels = pixels_of(batch)
    side, reach = pixels.shape[-1], max(pixels.shape[-1] // SHIFT, 1)
    padded = F.pad(pixels, (reach,) * 4, mode="reflect")
    moved = []
    for one, (x, y) in zip(padded, rng.integers(0, 2 * reach + 1, (len(pixels), 2)), strict=True):
        crop = one[:, y : y + side, x : x + side]
        moved.append(crop.flip(-1) if flip and rng.random() < 0.5 else crop)
    return dataclasses.replace(batch, pixels=torch.stack(moved))


def cropped(seed: int, step: int, batch: Batch) -> Batch:
    """The batch with each picture cropped to SMALLEST or more of its area and about its shape, half of them mirrored,
    brightness, contrast and saturation changed by up to JITTER, a square of a share ERASED of them gray."""
    rng = np.random.default_rng((seed, 5, step))
    pixels = pixels_of(batch)
    count = len(pixels)
    drawn = lambda low, high, *shape: pixels.new_tensor(rng.uniform(low, high, (count, *shape)))  # noqa: E731
    area, aspect = drawn(SMALLEST, 1), drawn(-0.25, 0.25).exp()
    size = torch.stack(((area * aspect).sqrt(), (area / aspect).sqrt()), 1).clamp(max=1)  # (P, 2): width, height
    place = torch.zeros(count, 2, 3, device=pixels.device)
    place[:, 0, 0], place[:, 1, 1] = size[:, 0] * torch.where(drawn(0, 1) < 0.5, -1.0, 1.0), size[:, 1]
    place[:, :, 2] = drawn(-1, 1, 2) * (1 - size)
    grid = F.affine_grid(place, list(pixels.shape), align_corners=False)
    pixels = F.grid_sample(pixels, grid, padding_mode="reflection", align_corners=False)
    for centre in (pixels.mean((1, 2, 3), keepdim=True), pixels.mean(1, keepdim=True)):  # contrast, saturation
        pixels = centre + (pixels - centre) * drawn(1 - JITTER, 1 + JITTER, 1, 1, 1)
    pixels = pixels + drawn(-2 * JITTER, 2 * JITTER, 1, 1, 1)
    along = torch.linspace(0, 1, pixels.shape[-1], device=pixels.device)
    reach = torch.where(drawn(0, 1, 1) < ERASED, drawn(1 / 8, 1 / 4, 1), -1.0)
    down, across = ((along - drawn(0, 1, 1)).abs() < reach for _ in range(2))  # (P, side) each
    square = (down[:, :, None] & across[:, None])[:, None]
    return dataclasses.replace(batch, pixels=pixels.masked_fill(square, 0.0))


def several_captions(seed: int, step: int, batch: Batch, width: int) -> Batch:
    """The batch with a row for each of CAPTIONS captions of every picture in place of one.

    batch.words (P, 1, C * width) holds the C captions of each picture, ends included, padded with -1; so are words
    that another change has masked, which are not supervised.
    """
    rng = np.random.default_rng((seed, 6, step))
    assert batch.words is not None
    captions = batch.words[:, 0].unflatten(1, (-1, width))  # (P, C, width)
    drawn = torch.from_numpy(rng.random(captions.shape[:2])).masked_fill((captions < 0).all(2), 2.0)
    chosen = captions.take_along_dim(drawn.argsort(1)[:, :CAPTIONS, None], 1).flatten(0, 1)  # (P * CAPTIONS, width)
    chosen = chosen[:, : 1 + int((chosen >= 0).any(0).nonzero().max())]
    image = batch.ids[:1, : int(batch.image_mask[0].sum())].expand(len(chosen), -1)
    ids = torch.cat((image, chosen.clamp(min=0)), 1)
    labels = torch.cat((torch.full_like(image, IGNORE), chosen.masked_fill(chosen < 0, IGNORE)), 1)
    image_mask = (torch.arange(ids.shape[1]) < image.shape[1]).expand(ids.shape)
    return dataclasses.replace(
        batch, ids=ids, labels=labels, image_mask=image_mask, attention_mask=image_mask | (labels != IGNORE)
    )


AUGMENTATIONS: dict[str, Callable[..., Batch]] = {
    "gray": without_colour, "colours": other_colours, "shift": shifted, "shift-flip": partial(shifted, flip=True),
    "crop": cropped,
}  # fmt: skip


def augmented(
    name: str, seed: int, spec: PreprocessSpec, cache_gb: float
) -> tuple[PictureLoader, Callable[[int, Batch], Batch]]:
    """A loader of pixels, and the change `name` of a batch at a step, for models that answer.

    cache_gb: of memory for the pictures. DataError for a change after which the colours in captions would be false.
    """
    if name in ("gray", "colours"):
        raise DataError(f"--augment {name} is for train_vision.py alone; give shift, shift-flip or crop")
    change = AUGMENTATIONS[name]
    return remembering_loader(spec, int(min(cache_gb, PIXELS_GB) * 1e9)), (
        lambda step, batch: batch if batch.pixels is None else change(seed, step, batch)
    )
