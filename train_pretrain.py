"""Projector alignment: the projector learns to map image features to the frozen language model's embedding space."""

from __future__ import annotations

if __name__ == "__main__":
    from engine.start import begin

    begin()

import sys
from dataclasses import replace
from pathlib import Path

import torch

import train_lm
import train_vision
from dataset.batching import PictureLoader
from dataset.picturebook.words import GRID, word_loader
from dataset.picturebook.world import make_scene
from dataset.splits import stage_data
from engine.arguments import TrainArguments, UsageError, with_projector_rate
from engine.build import EMBEDDED_LANGUAGE, Encoder, get_encoder, get_language, get_tokenizer, is_random, join
from engine.cells import name_cells
from engine.checkpoint import Run
from engine.command import RESUMES, guarded
from engine.console import spelled
from engine.plugin import check_projector, keep_plugin
from engine.recipe import command_arguments, make, missing_parts, planned
from engine.trainer import is_done, machine, train_vlm
from model.registry import warms_up
from model.vlm import VLM
from tokenizer.tokenizer import Tokenizer

DEFAULTS = TrainArguments(learning_rate=2e-3, batch_size=32, scenes=8_000, eval_interval=100, cell_steps=400)
CELL_RATE = 3e-3  # peak of the warm-up on cells
AFTER_CELLS = 5e-4  # the projector's peak rate after that
TEXTS = 3_200  # of the picture book
NAME = "pretrain"
FLAGS = ("recipe", "from_run", "images", "vision", "feature_layer", "llm", "init", "projector", "plugin",
         "cell_steps", "train", "lora_rank", "lora_alpha", "lora_targets", "max_seq_len", "augment", "cache_gb",
         "gradient_checkpointing", "fsdp")  # fmt: skip


def main(argv: list[str] | None = None) -> None:
    """python train_pretrain.py                about a minute on 2 cores, with train_lm.py's model or the shipped one
    python train_pretrain.py --llm random      an ablation: the language model keeps its random weights
    python train_pretrain.py --data FILE --images DIR --vision DIR --llm FILE     your own data and weights

    With --llm a Qwen2.5's or Llama 3.2's folder, --vision a CLIP's and --projector mlp this is LLaVA's first stage;
    its second is stage 3 of train_sft.py with --optimizer adamw --learning_rate 2e-5.
    """
    args = command_arguments(NAME, DEFAULTS, argv, FLAGS, main.__doc__)
    named = warms_up(args.projector, GRID * GRID)
    if args.cell_steps and named:
        args = with_projector_rate(args, DEFAULTS, AFTER_CELLS)
    if is_done(args):
        return
    for run in missing_parts(args):
        make(args, run, train_vision.main if run == train_vision.NAME else train_lm.main)
    here = machine(args)
    keep_plugin(args)
    tokenizer, encoder, model = parts(args)
    check_projector(model)
    data = stage_data(args, "pretrain", TEXTS)

    def begin(load: PictureLoader) -> None:
        scenes = [make_scene("train", index) for index in range(min(args.scenes, len(data.train)))]
        words = word_loader(tokenizer, args.english, model.config.projector.band)
        left = name_cells(model, scenes, load, words, args.cell_steps, CELL_RATE, args.seed, here.device, here.dtype)
        print(f"cells: {args.cell_steps} steps, {left:.1%} of the variance of the words is not explained")

    cells = args.cell_steps and not args.data and named and model.image_tokens == GRID * GRID
    train_vlm(args, model, encoder, tokenizer, data, ("projector",), here, begin if cells else None)


def parts(args: TrainArguments) -> tuple[Tokenizer, Encoder, VLM]:
    """Tokenizer, encoder and model as training begins; random weights in place of runs that a dry run has planned."""
    missing = missing_parts(args)
    if train_lm.NAME in missing:
        lm = planned(args, train_lm)
        args = replace(args, llm=lm.llm or "random", tokenizer=args.tokenizer or lm.tokenizer)
    language_path = find_language(args)
    torch.manual_seed(args.seed)
    tokenizer = get_tokenizer(args.tokenizer, None if is_random(language_path) else Path(language_path))
    language = get_language(language_path, tokenizer.vocab_size, args.init)
    new = train_vision.untrained(planned(args, train_vision)) if train_vision.NAME in missing else None
    encoder = new or get_encoder(args.vision, args.feature_layer, args.projector)
    return tokenizer, encoder, join(language, encoder, args.projector)


def find_language(args: TrainArguments) -> str:
    """The language model's path, or 'random': --llm, else train_lm.py's run, else the shipped model.

    A run that has begun is finished first. One is made where texts are in both languages: no model ships for those.
    """
    if args.llm or args.from_run:
        return args.llm or args.from_run
    default = Path(args.runs) / train_lm.NAME
    if Run(default).is_finished():
        return str(default)
    shipped = EMBEDDED_LANGUAGE.get(args.english)
    if shipped and not (default / "run.json").is_file() and not args.tokenizer:
        print(spelled(f"language model: {shipped}, which ships; one of your own: python train_lm.py first"))
        return str(shipped)
    if args.dry_run:
        print(f"{default} has not been trained; random weights stand in for it in this dry run")
        return "random"
    if args.tokenizer:
        raise UsageError(f"--tokenizer {args.tokenizer}: give the language model that goes with it, with --llm")
    make(args, train_lm.NAME, train_lm.main)
    return str(default)


if __name__ == "__main__":
    sys.exit(guarded(main, RESUMES))
