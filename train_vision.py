"""Trains a small image encoder from scratch on image-text pairs, as the one in the repo was."""

from __future__ import annotations

if __name__ == "__main__":
    from engine.start import begin

    begin()

import contextlib
import dataclasses
import sys
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from dataset.bad_rows import BadRow
from dataset.batching import PictureLoader
from dataset.picturebook.facts import COLOURS
from dataset.picturebook.words import word_loader
from dataset.pictures import open_for, picture_key
from dataset.preprocess import PreprocessSpec, normalise, resize_and_crop
from dataset.record import IGNORE, Batch, Example, Picture, Record
from dataset.splits import Data, stage_data
from engine.arguments import TrainArguments
from engine.build import get_tokenizer
from engine.command import RESUMES, guarded
from engine.dataloader import make_feeds
from engine.recipe import command_arguments
from engine.trainer import is_done, machine, run_training
from model.captioner import Captioner
from model.checkpoints import WeightsError, fingerprint, load_vision, save_vision
from model.config import VisionConfig
from tokenizer.tokenizer import Tokenizer

DEFAULTS = TrainArguments(learning_rate=2e-3, batch_size=64, scenes=128_000, augment="colours", log_interval=20,
                          eval_interval=400, cache_gb=4.0)  # fmt: skip
FLAGS = ("recipe", "from_run", "images", "image_size", "patch_size", "hidden_size", "layers", "augment", "cache_gb")
MAX_CAPTION = 128  # tokens
SHIFT = 8  # pictures are shifted by up to an eighth of their side
GRAY = 0.25  # share of the pictures without colour, so that kinds are told by their shapes
PERMUTED = 0.25  # share with permuted colour channels, to the same end
SMALLEST, JITTER = 0.35, 0.3  # of a crop's area and colours; pixels are normalised to about -2 to 2
LUMA = (0.299, 0.587, 0.114)
ORDERS = ((0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))


def main(argv: list[str] | None = None) -> None:
    """python train_vision.py                              the picture book's encoder, about 25 minutes on 2 cores
    python train_vision.py --from out/vision --out out/vision2 --scenes 96000 --learning_rate 1.2e-3 --seed 43
                                                           train it further, with a new decoder and word head
    python train_vision.py --data FILE --image_size 32 --patch_size 4 --augment shift-flip     one for small photographs

    The encoder learns from a thin decoder that captions its features (model/captioner.py) and by naming words: on the
    picture book those of each cell of the image, where pictures have several captions those of all of them. Only the
    encoder is kept: at most 12 MB in float16.
    """
    args = command_arguments("vision", DEFAULTS, argv, FLAGS, main.__doc__)
    if is_done(args):
        return
    here = machine(args)
    torch.manual_seed(args.seed)
    tokenizer = get_tokenizer(args.tokenizer)
    config = VisionConfig(
        hidden_size=args.hidden_size, intermediate_size=4 * args.hidden_size, num_hidden_layers=args.layers,
        num_attention_heads=args.hidden_size // 64, image_size=args.image_size, patch_size=args.patch_size,
        hidden_act="gelu", class_token=False, pre_norm=False, post_norm="applied", stem="conv",
    )  # fmt: skip
    model = Captioner(config, tokenizer.vocab_size)
    if args.from_run:
        module, _ = load_vision(args.from_run)
        if module.config != config:
            raise WeightsError(f"--from {args.from_run}: that encoder is {module.config}, asked for was {config}")
        model.vision.load_state_dict(module.float().state_dict())
    spec = PreprocessSpec.square(args.image_size, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    data = stage_data(args, "vision", args.scenes, "free")
    encode = partial(encode_caption, tokenizer=tokenizer, image_tokens=model.decoder.image_tokens)
    load = remembering_loader(spec, int(args.cache_gb * 1e9) if args.epochs > 1 else 0)
    if not args.data:  # the words of each cell are known
        pixels, words = load, word_loader(tokenizer, band=1)
        load = lambda pictures: {**pixels(pictures), **words(pictures)}  # noqa: E731
    elif words := words_of_captions(data, tokenizer):
        pixels = load
        load = lambda pictures: {**pixels(pictures), "words": padded([words[p] for p in pictures])}  # noqa: E731
    feed, *validation = make_feeds(args, data, encode, tokenizer, load)
    facts = {"tokenizer": tokenizer.fingerprint, "start": fingerprint(model)}
    change = partial(AUGMENTATIONS[args.augment], args.seed) if args.augment != "none" else None
    if args.augment == "colours":  # the ids that name a colour, in both languages
        names = [name for c in COLOURS.values() for name in (c.zh, c.zh_short, " " + c.name)]
        colours = torch.tensor([ids[0] for ids in map(tokenizer.encode, names) if len(ids) == 1])
        change = partial(other_colours, args.seed, colours=colours)

    def save(folder: Path) -> None:
        save_vision(folder, model.vision.half(), spec.to_settings())

    feeds = [dataclasses.replace(feed, change=change), *validation]
    run_training(args, model, ("vision", "decoder", "words"), feeds, facts, here, save)


def encode_caption(record: Record, tokenizer: Tokenizer, image_tokens: int) -> Example:
    """Image tokens, then the record's first answer and its end. BadRow unless there is one picture and an answer."""
    if len(record.images) != 1:
        raise BadRow("not one picture", f"found {len(record.images)}")
    text = next((turn.text for turn in record.turns if turn.role == "assistant" and turn.text.strip()), "")
    if not text:
        raise BadRow("row has no answer")
    answer = [*tokenizer.encode(text)[:MAX_CAPTION], tokenizer.end_id]
    ids = np.array([tokenizer.image_id] * image_tokens + answer, np.int32)
    labels = ids.copy()
    labels[:image_tokens] = IGNORE
    return Example(ids, labels, np.arange(len(ids)) < image_tokens, record.images, record.id)


def words_of_captions(data: Data, tokenizer: Tokenizer) -> dict[Picture, list[int]]:
    """The different tokens in all captions of each picture, where all are files with several captions; else {}."""
    found: dict[Picture, list[int]] = {}
    for records in (data.train, data.val):
        for i in range(len(records)):
            with contextlib.suppress(BadRow):  # counted where it is encoded
                record = records[i]
                if len(record.images) != 1 or not isinstance(record.images[0], Path) or len(record.references) < 2:
                    return {}
                found[record.images[0]] = sorted({t for text in record.references for t in tokenizer.encode(text)})
    return found


def padded(words: list[list[int]]) -> torch.Tensor:
    """Token ids (P, 1, W) of pictures seen as one cell, padded with -1."""
    width = max(map(len, words))
    return torch.tensor([[ids + [-1] * (width - len(ids))] for ids in words])


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


def without_colour(seed: int, step: int, batch: Batch) -> Batch:
    """The batch with a share GRAY of the pictures in gray."""
    rng = np.random.default_rng((seed, 3, step))
    gray = torch.from_numpy(rng.random(len(batch.pixels)) < GRAY)
    luma = (batch.pixels * batch.pixels.new_tensor(LUMA)[:, None, None]).sum(1, keepdim=True)  # (P, 1, H, W)
    return dataclasses.replace(batch, pixels=torch.where(gray[:, None, None, None], luma, batch.pixels))


def other_colours(seed: int, step: int, batch: Batch, colours: torch.Tensor) -> Batch:
    """The batch with a share GRAY of the pictures in gray, and the colour channels of a share PERMUTED permuted.

    Words that name a colour (ids in `colours`) are not supervised for these pictures.
    """
    batch = without_colour(seed, step, batch)
    rng = np.random.default_rng((seed, 4, step))
    pixels = batch.pixels.clone()
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
    pixels = batch.pixels
    side, reach = pixels.shape[-1], max(pixels.shape[-1] // SHIFT, 1)
    padded = F.pad(pixels, (reach,) * 4, mode="reflect")
    moved = []
    for one, (x, y) in zip(padded, rng.integers(0, 2 * reach + 1, (len(pixels), 2)), strict=True):
        crop = one[:, y : y + side, x : x + side]
        moved.append(crop.flip(-1) if flip and rng.random() < 0.5 else crop)
    return dataclasses.replace(batch, pixels=torch.stack(moved))


def cropped(seed: int, step: int, batch: Batch) -> Batch:
    """The batch with each picture cropped to SMALLEST or more of its area and about its shape, half of them mirrored,
    brightness, contrast and saturation changed by up to JITTER."""
    rng = np.random.default_rng((seed, 5, step))
    pixels = batch.pixels
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
    return dataclasses.replace(batch, pixels=pixels + drawn(-2 * JITTER, 2 * JITTER, 1, 1, 1))


AUGMENTATIONS = {"gray": without_colour, "colours": other_colours, "shift": shifted, "crop": cropped,
                 "shift-flip": partial(shifted, flip=True)}  # fmt: skip


if __name__ == "__main__":
    sys.exit(guarded(main, RESUMES))
