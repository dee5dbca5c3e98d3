"""Language-only training: the base model that learns to write, and to answer from what stands in its context."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import torch

from dataset.encoding import encode_record
from dataset.picturebook.words import GRID, word_loader
from dataset.splits import stage_data
from dataset.views import Changed, without_pictures
from engine.arguments import TrainArguments, parse, placed
from engine.build import get_language, get_tokenizer, join
from engine.command import guarded
from engine.dataloader import Feed, make_examples
from engine.device import accelerate
from engine.trainer import is_done, machine, run_training
from model.checkpoints import fingerprint, save_vlm

DEFAULTS = TrainArguments(learning_rate=3e-3, batch_size=32, scenes=100_000, eval_interval=100,
              init="matching")  # fmt: skip
TEXTS = 12_800  # of the picture book
NAME = "lm"
FLAGS = ("llm", "init", "max_seq_len", "gradient_checkpointing", "fsdp")


def main(argv: list[str] | None = None) -> None:
    """python train_lm.py            the picture book's texts, about 7 minutes on 2 cores, validation loss about 0.25
    python train_lm.py --data FILE   your own texts: JSONL or parquet of conversations, pictures left out

    The picture book's texts are answered from word pictures: in place of a picture's tokens stand the words of
    what lies in each of its cells. A model that has never read its context cannot use what a projector says. Four in
    ten texts are checklists (dataset/picturebook/checklists.py): from them it learns to look up what it is asked about.
    """
    args = placed(parse(DEFAULTS, argv, FLAGS, main.__doc__), NAME)
    if is_done(args):
        return
    here = machine(args)
    torch.manual_seed(args.seed)
    start = Path(args.llm) if args.llm not in ("", "random") else None
    tokenizer = get_tokenizer(args.tokenizer, start)
    model = join(get_language(args.llm or "random", tokenizer.vocab_size, args.init), None, "")
    accelerate(model, args.fast)
    data = stage_data(args, "lm", TEXTS)
    train, val = data.train, data.val
    if args.data:
        train, val = Changed(train, without_pictures), Changed(val, without_pictures)
    encode = partial(encode_record, tokenizer=tokenizer, image_tokens=GRID * GRID, max_seq_len=args.max_seq_len)
    feeds = [
        Feed(make_examples(records, encode, data.bad, what), args.batch_size, args.seed, tokenizer.pad_id,
             word_loader(tokenizer, args.english), data.bad, workers=1, token_budget=args.token_budget)
        for records, what in ((train, "texts"), (val, "validation"))
        if len(records)
    ]  # fmt: skip
    facts = {"tokenizer": tokenizer.fingerprint, "start": fingerprint(model)}

    def save(folder) -> None:
        save_vlm(folder, model)
        tokenizer.save(folder)

    run_training(args, model, ("llm",), feeds[0], feeds[1] if len(feeds) > 1 else None, facts, here, save)


if __name__ == "__main__":
    sys.exit(guarded(main))
