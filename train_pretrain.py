"""Projector alignment: encoder and language model frozen, the projector learns to say what the encoder sees."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import torch

import train_lm
from dataset.batching import PictureLoader
from dataset.picturebook.words import GRID
from dataset.picturebook.world import make_scene
from engine.arguments import Stage, UsageError, parse, passed_on, placed
from engine.build import get_encoder, get_language, get_tokenizer, join
from engine.cells import name_cells
from engine.command import guarded
from engine.data import stage_data
from engine.device import accelerate
from engine.feed import word_loader
from engine.training import is_done, machine
from engine.vlm_stage import train_vlm

STAGE = Stage(learning_rate=2e-3, batch_size=32, scenes=8_000, eval_interval=100, cell_steps=400)
CELL_RATE = 3e-3
AFTER_CELLS = 5e-4
TEXTS = 3_200  # of the picture book
NAME = "pretrain"
HIDDEN = ("stage", "fit", "image_size", "patch_size", "hidden_size", "layers", "augment")


def main(argv: list[str] | None = None) -> None:
    """python train_pretrain.py                about a minute on 2 cores, after train_lm.py if that has not been run
    python train_pretrain.py --llm random      the ablation: the language model stays at random weights
    python train_pretrain.py --data FILE --images DIR --vision DIR --llm FILE     your own data and weights

    With --llm a Qwen2.5's or Llama 3.2's folder, --vision a CLIP's and --projector mlp this is LLaVA's first stage;
    its second is stage 3 of train_sft.py with --optimizer adamw --learning_rate 2e-5.
    """
    stage = settled(placed(parse(STAGE, argv, HIDDEN, main.__doc__), NAME))
    if is_done(stage):
        return
    here = machine(stage)
    language_path = find_language(stage)
    torch.manual_seed(stage.seed)
    run = Path(language_path) if language_path != "random" else None
    tokenizer = get_tokenizer(stage.tokenizer, run)
    language = get_language(language_path, tokenizer.vocab_size, stage.init)
    encoder = get_encoder(stage.vision, stage.feature_layer)
    model = join(language, encoder, stage.projector)
    accelerate(model, stage.fast)
    data = stage_data(stage, "pretrain", TEXTS)
    trained = tuple(stage.train.split(",")) if stage.train else ("projector",)

    def begin(load: PictureLoader) -> None:
        scenes = [make_scene("train", index) for index in range(min(stage.scenes, len(data.train)))]
        words = word_loader(tokenizer, stage.english)
        left = name_cells(model, scenes, load, words, stage.cell_steps, CELL_RATE, stage.seed, here.device, here.dtype)
        print(f"cells: {stage.cell_steps} steps, {left:.1%} of what their words say is not explained by the picture")

    cells = stage.cell_steps and not stage.data and model.image_tokens == GRID * GRID
    train_vlm(stage, model, encoder, tokenizer, data, trained, here, begin if cells else None)


def settled(stage: Stage) -> Stage:
    """The stage with the rate that suits a projector which already names the cells of scenes, unless one is given."""
    own = stage.data or stage.train or stage.vision or stage.projector != "ldp" or not stage.cell_steps
    if own or stage.learning_rates or stage.learning_rate != STAGE.learning_rate:
        return stage
    return dataclasses.replace(stage, learning_rates=f"projector={AFTER_CELLS}")


def find_language(stage: Stage) -> str:
    """Where the language model is; the default one is trained first where it is missing and may be."""
    path = stage.llm or stage.from_run
    if path:
        return path
    default = f"{stage.runs}/{train_lm.NAME}"
    if (Path(default) / "finished.json").is_file():
        return default
    if stage.dry_run:
        print(f"{default} has not been trained; random weights stand in for it in this dry run")
        return "random"
    if stage.tokenizer:
        raise UsageError(f"--tokenizer {stage.tokenizer}: give the language model that goes with it, with --llm")
    print(f"no --llm given and {default} is not finished: training it first (python train_lm.py)")
    train_lm.main(passed_on(stage))
    return default


if __name__ == "__main__":
    sys.exit(guarded(main))
