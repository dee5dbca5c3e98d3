"""Language-only training: the base model learns to write, and to answer from its context."""

from __future__ import annotations

if __name__ == "__main__":
    from engine.start import begin

    begin()

import sys
from functools import partial
from pathlib import Path

import torch

from dataset.encoding import encode_record
from dataset.picturebook.words import GRID, word_loader
from dataset.splits import stage_data
from engine.arguments import TrainArguments
from engine.build import get_language, get_tokenizer, is_random
from engine.checkpoint import Run
from engine.command import RESUMES, guarded
from engine.dataloader import make_feeds
from engine.inference import SAMPLES, Samples, sample_records, write_samples
from engine.recipe import command_arguments
from engine.trainer import is_done, machine, run_training
from model.checkpoints import fingerprint, save_vlm
from model.config import VLMConfig
from model.vlm import VLM

DEFAULTS = TrainArguments(learning_rate=3e-3, batch_size=32, scenes=100_000, eval_interval=100, init="matching")
TEXTS = 12_800  # of the picture book
NAME = "lm"
FLAGS = ("recipe", "doubt", "llm", "init", "max_seq_len", "gradient_checkpointing", "fsdp")


def main(argv: list[str] | None = None) -> None:
    """python train_lm.py            the picture book's texts, about 7 minutes on 2 cores, validation loss about 0.25
    python train_lm.py --data FILE   your own texts: JSONL or parquet of conversations; pictures need not be there

    The picture book's texts are answered from word pictures, in which the words of what lies in each cell take the
    place of the image tokens: a model that never reads its context cannot use what a projector writes there. Four in
    ten texts are checklists (dataset/picturebook/checklists.py), which teach it to look up what it is asked about.
    """
    args = command_arguments(NAME, DEFAULTS, argv, FLAGS, main.__doc__)
    if is_done(args):
        return
    here = machine(args)
    torch.manual_seed(args.seed)
    start = Path(args.llm) if args.llm and not is_random(args.llm) else None
    tokenizer = get_tokenizer(args.tokenizer, start)
    language = get_language(args.llm or "random", tokenizer.vocab_size, args.init)
    model = VLM(VLMConfig(language.config), llm=language)
    data = stage_data(args, "lm", TEXTS, text_only=True)
    encode = partial(encode_record, tokenizer=tokenizer, image_tokens=GRID * GRID, max_seq_len=args.max_seq_len)
    load = word_loader(tokenizer, args.english, doubt=args.doubt)
    feeds = make_feeds(args, data, encode, tokenizer, load)
    facts = {"tokenizer": tokenizer.fingerprint, "start": fingerprint(model)}

    def save(folder) -> None:
        save_vlm(folder, model)
        tokenizer.save(folder)

    def show(run: Run) -> Samples:  # of word pictures
        records = sample_records((row for val in feeds[1:] for row in val.examples.rows[:SAMPLES]), data.val)
        return write_samples(run, model, tokenizer, records, load, here.dtype, GRID * GRID)

    run_training(args, model, ("llm",), feeds, facts, here, save, show)


if __name__ == "__main__":
    sys.exit(guarded(main, RESUMES))
