"""What alignment begins with: tokenizer, encoder and language model, each given, shipped, or trained earlier."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from engine.arguments import TrainArguments, UsageError
from engine.build import EMBEDDED_LANGUAGE, Encoder, get_encoder, get_language, get_tokenizer, is_random, join
from engine.checkpoint import Run
from engine.console import spelled
from engine.recipe import make, missing_parts, planned
from model.vlm import VLM
from tokenizer.tokenizer import Tokenizer


def parts(args: TrainArguments, train_lm: Any, train_vision: Any) -> tuple[Tokenizer, Encoder, VLM]:
    """Tokenizer, encoder and model as training begins; random weights in place of runs that a dry run has planned."""
    missing = missing_parts(args)
    if train_lm.NAME in missing:
        lm = planned(args, train_lm)
        args = replace(args, llm=lm.llm or "random", tokenizer=args.tokenizer or lm.tokenizer)
    language_path = find_language(args, train_lm)
    torch.manual_seed(args.seed)
    tokenizer = get_tokenizer(args.tokenizer, None if is_random(language_path) else Path(language_path))
    language = get_language(language_path, tokenizer.vocab_size, args.init)
    new = train_vision.untrained(planned(args, train_vision)) if train_vision.NAME in missing else None
    encoder = new or get_encoder(args.vision, args.feature_layer, args.projector)
    return tokenizer, encoder, join(language, encoder, args.projector)


def find_language(args: TrainArguments, train_lm: Any) -> str:
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
