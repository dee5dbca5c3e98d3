"""The parts that a stage is put together from: tokenizer, encoder, language model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dataset.preprocess import PreprocessSpec
from engine.run import Run, RunError
from model.config import LMConfig, ProjectorConfig, VLMConfig
from model.language import LanguageModel
from model.vision import VisionTransformer
from model.vlm import VLM
from model.weights import fingerprint, load_language, load_vision
from tokenizer.tokenizer import Tokenizer, default_folder, load_tokenizer

EMBEDDED_ENCODER = Path(__file__).resolve().parent.parent / "model" / "picturebook_vit"


@dataclass(frozen=True)
class Encoder:
    """A frozen encoder with how pictures are prepared for it and a fingerprint of its weights."""

    module: VisionTransformer
    spec: PreprocessSpec
    fingerprint: str
    folder: str  # "" for the one that ships with the repo


def get_tokenizer(folder: str, run: Path | None = None) -> Tokenizer:
    """The tokenizer asked for, else the one in the run that is gone on from, else the repo's own."""
    if folder:
        return load_tokenizer(folder)
    if run and (run / "tokenizer.json").is_file():
        return load_tokenizer(run)
    return load_tokenizer(default_folder())


def get_encoder(folder: str) -> Encoder:
    """The encoder in a folder; the one shipped with the repo where none is named."""
    module, settings = load_vision(folder or EMBEDDED_ENCODER)
    return Encoder(module.eval(), PreprocessSpec.from_settings(settings), fingerprint(module), folder)


def get_language(path: str, vocab_size: int, layers: int = 0) -> LanguageModel:
    """The language model at path; for 'random' the default one at random weights, from torch's seed.

    Raises RunError where it has fewer ids than the tokenizer uses.
    """
    if path == "random":
        return LanguageModel(LMConfig(vocab_size=vocab_size))
    language = load_language(path)
    check_vocabulary(language.config.vocab_size, vocab_size, path)
    return language


def check_vocabulary(model: int, tokenizer: int, where: str) -> None:
    """Raise RunError unless a model's embedding matrix has a row for every id of the tokenizer."""
    if model < tokenizer:
        raise RunError(
            f"{where} knows {model} tokens, the tokenizer has {tokenizer}; give the model's own with --tokenizer DIR"
        )


def join(language: LanguageModel, encoder: Encoder | None, projector: str) -> VLM:
    """A VLM of a language model, an encoder and a projector at random weights (from torch's seed)."""
    if encoder is None:
        return VLM(VLMConfig(language.config), llm=language)
    vision = encoder.module.config
    connection = ProjectorConfig(projector, vision.hidden_size, language.config.hidden_size)
    return VLM(VLMConfig(language.config, vision, connection), encoder.module, language)


def run_encoder(run: Path, folder: str = "") -> Encoder:
    """The encoder that a run was trained with: its own if it trained one, else the one it names, or `folder`.

    RunError where that has other weights by now.
    """
    if not (run / "config.json").is_file():
        raise RunError(f"{run}: no config.json, so this is no finished run; give a folder under out/")
    if (run / "preprocessor_config.json").is_file():
        return get_encoder(folder or str(run))
    wanted = Run(run).record()["facts"].get("vision")
    if wanted is None:
        raise RunError(f"{run} is a language model's run and sees nothing; give one of train_pretrain.py or _sft.py")
    encoder = get_encoder(folder or wanted["folder"])
    if encoder.fingerprint != wanted["fingerprint"]:
        where = folder or wanted["folder"] or EMBEDDED_ENCODER
        raise RunError(
            f"{run} was trained with the encoder {wanted['fingerprint']}, {where} now holds {encoder.fingerprint}; "
            "name that encoder's folder with --vision, or train the run again"
        )
    return encoder
