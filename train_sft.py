"""Curriculum SFT: projector and language model learn to answer, at a length that grows from stage to stage."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import torch

import train_pretrain
from dataset.curriculum import stage_records
from engine.command import guarded
from engine.data import stage_data
from engine.parts import check_vocabulary, get_tokenizer, run_encoder
from engine.stage import Stage, UsageError, parse, passed_on, placed
from engine.training import is_done, machine
from engine.vlm_stage import train_vlm
from model.weights import load_vlm

STAGE = Stage(learning_rate=1e-3, batch_size=32, scenes=8_000, eval_interval=100)
TEXTS = {1: 3_200, 2: 2_560, 3: 9_600}  # of the picture book
PROJECTOR_RATE = 3e-4  # on the picture book, whose projector makes embeddings as small as the words' own
HIDDEN = ("llm", "init", "projector", "feature_layer", "image_size", "patch_size", "hidden_size", "layers", "augment")


def main(argv: list[str] | None = None) -> None:
    """python train_sft.py --stage 1    phrases, sentences, questions, checklists
    python train_sft.py --stage 2    short paragraphs, with some of stage 1 replayed
    python train_sft.py --stage 3    long descriptions, with some of both replayed

    On your own data (--data FILE) stage k sees answers up to 32, 96 and any number of tokens. A stage goes on from
    the one before (stage 1 from out/pretrain), which is run first where it is missing; --from RUN names another.
    MiniMind2-V's weights do too: --from pretrain_vlm_512.pth --vision CLIP_DIR --tokenizer DIR.
    """
    stage = parse(STAGE, argv, HIDDEN, main.__doc__)
    stage = dataclasses.replace(stage, stage=stage.stage or 1)
    stage = placed(stage, f"sft{stage.stage}")
    own = stage.data or stage.train or stage.vision or stage.from_run or stage.learning_rates
    if not own and stage.learning_rate == STAGE.learning_rate:
        stage = dataclasses.replace(stage, learning_rates=f"projector={PROJECTOR_RATE}")
    if is_done(stage):
        return
    here = machine(stage)
    start = find_start(stage)
    torch.manual_seed(stage.seed)
    tokenizer = get_tokenizer(stage.tokenizer, start)
    encoder = run_encoder(start, stage.vision)
    model = load_vlm(start, encoder.module)
    check_vocabulary(model.config.lm.vocab_size, tokenizer.vocab_size, str(start))
    data = stage_data(stage, f"sft{stage.stage}", TEXTS[stage.stage])
    if stage.data:
        length = lambda text: len(tokenizer.encode(text))  # noqa: E731
        train, val = (
            stage_records(some, stage.stage, stage.fit, length, stage.seed) for some in (data.train, data.val)
        )
        data = dataclasses.replace(data, train=train, val=val)
    trained = tuple(stage.train.split(",")) if stage.train else ("projector", "llm")
    train_vlm(stage, model, encoder, tokenizer, data, trained, here)


def find_start(stage: Stage) -> Path:
    """The run that this stage goes on from; the default ones are run first where they are missing."""
    if stage.from_run:
        return Path(stage.from_run)
    default = Path(stage.runs) / (train_pretrain.NAME if stage.stage == 1 else f"sft{stage.stage - 1}")
    if (default / "finished.json").is_file():
        return default
    if stage.data or stage.dry_run:
        raise UsageError(f"{default} is not finished, and stage {stage.stage} starts from it; name a run with --from")
    if stage.stage == 1:
        print(f"{default} is not finished: running it first (python train_pretrain.py)")
        train_pretrain.main(passed_on(stage))
    else:
        print(f"{default} is not finished: running it first (python train_sft.py --stage {stage.stage - 1})")
        main(["--stage", str(stage.stage - 1), *passed_on(stage)])
    return default


if __name__ == "__main__":
    sys.exit(guarded(main))
