"""A trained model with everything that it needs to look at pictures: a run of ours, or MiniMind2-V's weights."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch

from engine.familiar import Familiar, load_familiar
from engine.parts import Encoder, check_vocabulary, get_tokenizer, run_encoder
from engine.run import Run
from engine.runtime import accelerate, keep_in
from model.checkpoints import load_vlm
from model.vlm import VLM
from tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True)
class Trained:
    """A model in evaluation mode, its tokenizer and its encoder."""

    path: Path  # the run's folder, or the weights file
    model: VLM
    tokenizer: Tokenizer
    encoder: Encoder
    settings: dict = field(default_factory=dict)  # of the stage that trained it; none for a weights file

    @cached_property
    def familiar(self) -> Familiar | None:
        """What its training's pictures look like, where its run kept that; WeightsError for a file that is damaged."""
        if self.path.is_file():
            return None
        return load_familiar(self.path, self.encoder.fingerprint, self.encoder.module.config.feature_size)

    @property
    def outputs(self) -> Path:
        """The folder for what is made with the model: the run's own, or one under out/ for a weights file."""
        return Path("out") / self.path.stem if self.path.is_file() else self.path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments that say which model a command takes: load_trained()'s path, vision and tokenizer."""
    parser.add_argument("run", help="a run's folder, or a MiniMind2-V .pth")
    parser.add_argument("--vision", default="", metavar="DIR", help="the encoder of a .pth; where a run's is now")
    parser.add_argument("--tokenizer", default="", metavar="DIR", help="the tokenizer of a .pth, if not beside it")


def load_trained(
    path: Path | str, vision: str = "", tokenizer: str = "", device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32, fast: str = "on",
) -> Trained:  # fmt: skip
    """The model of a run's folder, or of a MiniMind2-V .pth with its encoder and tokenizer named.

    vision: where the encoder is (default: where the run found it). tokenizer: its folder (default: the run's).
    dtype: what its products will be computed in; the encoder is kept in it. fast: on, or off for the plain model.
    RunError, WeightsError or TokenizerError for parts that are missing or do not fit each other.
    """
    path = Path(path)
    settings = {} if path.is_file() else Run(path).record()["settings"]
    encoder = run_encoder(path, vision)
    model = load_vlm(path, encoder.module).to(device).eval()
    accelerate(model, fast)
    keep_in(dtype, encoder.module)
    words = get_tokenizer(tokenizer, path)
    check_vocabulary(model.config.lm.vocab_size, words.vocab_size, str(path))
    return Trained(path, model, words, encoder, settings)
