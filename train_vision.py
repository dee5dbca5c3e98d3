"""Trains a small image encoder from scratch on image-text pairs, as the one in the repo was."""

from __future__ import annotations

if __name__ == "__main__":
    from engine.start import begin

    begin()

import contextlib
import dataclasses
import sys
from functools import partial, reduce
from pathlib import Path

import numpy as np
import torch

from dataset.augment import AUGMENTATIONS, CAPTIONS, other_colours, remembering_loader, several_captions
from dataset.bad_rows import BadRow
from dataset.picturebook.facts import COLOURS
from dataset.picturebook.words import word_loader
from dataset.preprocess import PreprocessSpec
from dataset.record import IGNORE, Batch, Example, Picture, Record
from dataset.splits import Data, stage_data
from engine.arguments import TrainArguments
from engine.build import Encoder, get_tokenizer
from engine.command import RESUMES, guarded
from engine.dataloader import make_feeds
from engine.recipe import command_arguments
from engine.trainer import is_done, machine, run_training
from model.captioner import Captioner
from model.checkpoints import WeightsError, fingerprint, load_vision, save_vision
from model.config import VisionConfig
from model.vision import VisionTransformer
from tokenizer.tokenizer import Tokenizer

DEFAULTS = TrainArguments(learning_rate=2e-3, batch_size=64, scenes=128_000, augment="colours", log_interval=20,
                          eval_interval=400, cache_gb=4.0)  # fmt: skip
NAME = "vision"
FLAGS = ("recipe", "from_run", "images", "image_size", "patch_size", "hidden_size", "layers", "dropout", "augment",
         "cache_gb")  # fmt: skip
MAX_CAPTION = 128  # tokens


def main(argv: list[str] | None = None) -> None:
    """python train_vision.py                              the picture book's encoder, about 25 minutes on 2 cores
    python train_vision.py --from out/vision --out out/vision2 --scenes 96000 --learning_rate 1.2e-3 --seed 43
                                                           train it further, with a new decoder and word head
    python train_vision.py --data FILE --image_size 32 --patch_size 4 --augment shift-flip     one for small photographs

    The encoder learns from a thin decoder that captions its features (model/captioner.py) and by naming words: on the
    picture book those of each cell of the image, where pictures have several captions those of all of them, and by
    matching pictures to captions. Only the encoder is kept: at most 12 MB in float16.
    """
    args = command_arguments(NAME, DEFAULTS, argv, FLAGS, main.__doc__)
    if is_done(args):
        return
    here = machine(args)
    torch.manual_seed(args.seed)
    tokenizer = get_tokenizer(args.tokenizer)
    config, spec = sizes(args)
    data = stage_data(args, "vision", args.scenes, "free")
    captions = captions_of_pictures(data, tokenizer) if args.data else {}
    model = Captioner(config, tokenizer.vocab_size, args.dropout, match=bool(captions))
    if args.from_run:
        module, _ = load_vision(args.from_run)
        if module.config != config:
            raise WeightsError(f"--from {args.from_run}: that encoder is {module.config}, asked for was {config}")
        model.vision.load_state_dict(module.float().state_dict())
    encode = partial(encode_caption, tokenizer=tokenizer, image_tokens=model.decoder.image_tokens)
    load = remembering_loader(spec, int(args.cache_gb * 1e9) if args.epochs > 1 else 0)
    if not args.data:  # the words of each cell are known
        pixels, words = load, word_loader(tokenizer, band=1)
        load = lambda pictures: {**pixels(pictures), **words(pictures)}  # noqa: E731
    elif captions:
        pixels, longest = load, max(len(ids) for several in captions.values() for ids in several)
        most = max(map(len, captions.values()))
        load = lambda pictures: {**pixels(pictures), "words": torch.stack(  # noqa: E731
            [padded(captions[picture], most, longest) for picture in pictures])}  # fmt: skip
    feed, *validation = make_feeds(args, data, encode, tokenizer, load)
    facts = {"tokenizer": tokenizer.fingerprint, "start": fingerprint(model)}
    change = partial(AUGMENTATIONS[args.augment], args.seed) if args.augment != "none" else None
    if args.augment == "colours":  # the ids that name a colour, in both languages
        names = [name for c in COLOURS.values() for name in (c.zh, c.zh_short, " " + c.name)]
        colours = torch.tensor([ids[0] for ids in map(tokenizer.encode, names) if len(ids) == 1])
        change = partial(other_colours, args.seed, colours=colours)
    changes = [change] if change else []
    if captions:
        changes.append(partial(several_captions, args.seed, width=longest))

    def changed(step: int, batch: Batch) -> Batch:
        torch.manual_seed(((args.seed << 32) + step) % 2**63)  # what is dropped follows from the step's number
        return reduce(lambda one, change: change(step, one), changes, batch)

    def save(folder: Path) -> None:
        save_vision(folder, model.vision.half(), spec.to_settings())

    feeds = [dataclasses.replace(feed, change=changed, rows=CAPTIONS if captions else 1), *validation]
    trained = ("vision", "decoder", "words", *(("matching",) if captions else ()))
    run_training(args, model, trained, feeds, facts, here, save)


def sizes(args: TrainArguments) -> tuple[VisionConfig, PreprocessSpec]:
    """The sizes of the encoder, and what its pictures go through."""
    config = VisionConfig(
        hidden_size=args.hidden_size, intermediate_size=4 * args.hidden_size, num_hidden_layers=args.layers,
        num_attention_heads=args.hidden_size // 64, image_size=args.image_size, patch_size=args.patch_size,
        hidden_act="gelu", class_token=False, pre_norm=False, post_norm="applied", stem="conv",
    )  # fmt: skip
    return config, PreprocessSpec.square(args.image_size, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))


def untrained(args: TrainArguments) -> Encoder:
    """An encoder at random weights, which takes the place of that of a run that a dry run has planned."""
    config, spec = sizes(args)
    return Encoder(VisionTransformer(config).eval(), spec, "", args.out)


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


def captions_of_pictures(data: Data, tokenizer: Tokenizer) -> dict[Picture, list[list[int]]]:
    """The token ids of all captions of each picture, ends included, where all are files with several; else {}. Of a
    picture that several files describe, one in Chinese and one in English, those of all."""
    found: dict[Picture, list[list[int]]] = {}
    for records in (data.train, data.val):
        for i in range(len(records)):
            with contextlib.suppress(BadRow):  # counted where it is encoded
                record = records[i]
                if len(record.images) != 1 or not isinstance(record.images[0], Path) or len(record.references) < 2:
                    return {}
                ids = map(tokenizer.encode, record.references)
                captions = found.setdefault(record.images[0], [])
                captions += [[*one[:MAX_CAPTION], tokenizer.end_id] for one in ids]
    return found


def padded(captions: list[list[int]], most: int, longest: int) -> torch.Tensor:
    """Token ids (1, most * longest) of the captions of a picture, which is seen as one cell, each padded with -1."""
    rows = [ids + [-1] * (longest - len(ids)) for ids in captions]
    return torch.tensor(rows + [[-1] * longest] * (most - len(rows))).view(1, -1)


if __name__ == "__main__":
    sys.exit(guarded(main, RESUMES))
