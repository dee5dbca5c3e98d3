"""Projector alignment: the projector learns to map image features to the frozen language model's embedding space."""

from __future__ import annotations

if __name__ == "__main__":
    from engine.start import begin

    begin()

import sys

import train_lm
import train_vision
from dataset.batching import PictureLoader
from dataset.picturebook.words import GRID, word_loader
from dataset.picturebook.world import make_scene
from dataset.splits import stage_data
from engine.arguments import TrainArguments, with_projector_rate
from engine.cells import name_cells
from engine.command import RESUMES, guarded
from engine.parts import parts
from engine.plugin import check_projector, keep_plugin
from engine.recipe import command_arguments, make, missing_parts
from engine.trainer import is_done, machine, train_vlm
from model.registry import warms_up

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
    tokenizer, encoder, model = parts(args, train_lm, train_vision)
    check_projector(model)
    data = stage_data(args, "pretrain", TEXTS)

    def begin(load: PictureLoader) -> None:
        scenes = [make_scene("train", index) for index in range(min(args.scenes, len(data.train)))]
        words = word_loader(tokenizer, args.english, model.config.projector.band)
        left = name_cells(model, scenes, load, words, args.cell_steps, CELL_RATE, args.seed, here.device, here.dtype)
        print(f"cells: {args.cell_steps} steps, {left:.1%} of the variance of the words is not explained")

    cells = args.cell_steps and not args.data and named and model.image_tokens == GRID * GRID
    train_vlm(args, model, encoder, tokenizer, data, ("projector",), here, begin if cells else None)


if __name__ == "__main__":
    sys.exit(guarded(main, RESUMES))
