"""Curriculum SFT: projector and language model learn to answer, with answers longer from stage to stage."""

from __future__ import annotations

if __name__ == "__main__":
    from engine.start import begin

    begin()

import dataclasses
import sys
from functools import partial
from pathlib import Path

import torch

import train_lm
import train_pretrain
import train_vision
from dataset.curriculum import curriculum
from dataset.encoding import encode_record
from dataset.splits import stage_data
from dataset.told import Told
from dataset.views import stage_records
from engine.arguments import TrainArguments, UsageError, with_projector_rate
from engine.build import check_vocabulary, get_tokenizer, run_encoder
from engine.checkpoint import Run
from engine.command import RESUMES, guarded
from engine.parts import parts
from engine.plugin import keep_plugin, note_change
from engine.recipe import command_arguments, last_finished, make, planned, run_before
from engine.trainer import is_done, machine, train_vlm
from model.checkpoints import load_vlm

DEFAULTS = TrainArguments(stage=1, learning_rate=1e-3, batch_size=32, scenes=8_000, eval_interval=100)
TEXTS = {1: 3_200, 2: 2_560, 3: 9_600}  # of the picture book
PROJECTOR_RATE = 3e-4  # on the picture book, whose projector makes embeddings as small as the words' own
FLAGS = ("recipe", "plugin", "stage", "fit", "curriculum", "supervised_tokens", "from_run", "images", "vision",
         "train", "lora_rank", "lora_alpha", "lora_targets", "max_seq_len", "augment", "cache_gb",
         "gradient_checkpointing", "fsdp")  # fmt: skip


def main(argv: list[str] | None = None) -> None:
    """python train_sft.py --stage 1    phrases, sentences, questions, checklists
    python train_sft.py --stage 2    short paragraphs, with some of stage 1 replayed
    python train_sft.py --stage 3    long descriptions, with some of both replayed

    On your own data (--data FILE) stage k sees answers up to 32, 96 and any number of tokens. A stage starts from
    the one before (stage 1 from out/pretrain), which is run first where it is missing; --from RUN names another.
    MiniMind2-V's weights do too: --from pretrain_vlm_512.pth --vision CLIP_DIR --tokenizer DIR.
    """
    args = command_arguments("sft", DEFAULTS, argv, FLAGS, main.__doc__)
    if not args.from_run:
        args = with_projector_rate(args, DEFAULTS, PROJECTOR_RATE)
    if is_done(args):
        return
    here = machine(args)
    start = find_start(args)
    keep_plugin(args)
    torch.manual_seed(args.seed)
    if start is None:
        tokenizer, encoder, model = parts(planned(args, train_pretrain), train_lm, train_vision)
    else:
        note_change(args.plugin, start)
        tokenizer = get_tokenizer(args.tokenizer, start)
        encoder = run_encoder(start, args.vision)
        model = load_vlm(start, encoder.module)
    check_vocabulary(model.config.lm.vocab_size, tokenizer.vocab_size, str(start or args.runs))
    data = stage_data(args, f"sft{args.stage}", TEXTS[args.stage])
    if args.curriculum:
        encode = partial(encode_record, tokenizer=tokenizer, image_tokens=model.image_tokens, max_seq_len=512)
        parts_in_order = curriculum(args, encode, data.train if args.data else None)
        print(*parts_in_order.lines(), sep="\n")
        val = Told(data.val, "final", len(data.val), args.seed) if args.data and len(data.val) else data.val
        data = dataclasses.replace(data, train=parts_in_order, val=val)
    elif args.data:
        length = lambda text: len(tokenizer.encode(text))  # noqa: E731
        train, val = (stage_records(some, args.stage, args.fit, length, args.seed) for some in (data.train, data.val))
        data = dataclasses.replace(data, train=train, val=val)
    train_vlm(args, model, encoder, tokenizer, data, ("projector", "llm"), here)


def find_start(args: TrainArguments) -> Path | None:
    """The run that this stage starts from; a default one that is missing is run first. In a dry run it is planned
    first, and the last that is there takes its place; None where none is."""
    if args.from_run:
        return Path(args.from_run)
    before = run_before(args, f"sft{args.stage}")
    default = Path(args.runs) / before
    if Run(default).is_finished():
        return default
    if args.data and not args.recipe:
        raise UsageError(f"{default} is not finished, and stage {args.stage} starts from it; name a run with --from")
    make(args, before, train_pretrain.main if before == train_pretrain.NAME else main)
    return last_finished(args, before) if args.dry_run else default


if __name__ == "__main__":
    sys.exit(guarded(main, RESUMES))
