"""Models built from their parts (tokenizer, encoder, language model), or loaded from a finished run."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import torch

from dataset.preprocess import PreprocessSpec
from dataset.record import Picture
from engine.checkpoint import Run, RunError
from engine.device import accelerate, keep_in
from engine.familiar import Familiar, load_familiar
from model.checkpoints import WeightsError, fingerprint, load_language, load_vision, load_vlm
from model.checkpoints.files import refusing
from model.checkpoints.llava import ACTIVATIONS, llava_layer
from model.config import LMConfig, ProjectorConfig, VLMConfig
from model.init import match_like_with_like
from model.language import LanguageModel
from model.vision import VisionTransformer
from model.vlm import VLM
from tokenizer.tokenizer import Tokenizer, default_folder, load_tokenizer

SHIPPED = Path(__file__).resolve().parent.parent / "model"
EMBEDDED_ENCODER = SHIPPED / "picturebook_vit"
EMBEDDED_LANGUAGE = {0.0: SHIPPED / "picturebook_lm_zh", 1.0: SHIPPED / "picturebook_lm_en"}  # by the share of English
BAND = 2  # ProjectorConfig.band of a new projector that makes fewer tokens, as the shipped language models read them


@dataclass(frozen=True)
class Encoder:
    """A vision encoder, its preprocessing, and a fingerprint of its weights."""

    module: VisionTransformer
    spec: PreprocessSpec
    fingerprint: str
    folder: str  # "" for the one in the repo


def get_tokenizer(folder: str, start: Path | None = None) -> Tokenizer:
    """The tokenizer in `folder`, else the one of the checkpoint that training starts from, else the repo's own.

    start: a run's folder, or a language model's folder or file. RunError if it has no tokenizer and `folder` is not
    given, or if it was trained with another.
    """
    if start is None:
        return load_tokenizer(folder or default_folder())
    place = start if start.is_dir() else start.parent
    if not folder and not (place / "tokenizer.json").is_file():
        raise RunError(
            f"{start}: found no tokenizer.json there, expected the one that the model was trained with; check the "
            "path, or name the tokenizer's folder with --tokenizer"
        )
    tokenizer = load_tokenizer(folder or place)
    if (place / "run.json").is_file() and Run(place).facts().get("tokenizer") != tokenizer.fingerprint:
        raise RunError(
            f"{start} was trained with another tokenizer than the one in {folder or place}; leave --tokenizer out, or "
            "train the run again with it"
        )
    return tokenizer


def get_encoder(folder: str, feature_layer: int = 0, projector: str = "") -> Encoder:
    """The encoder in a folder, by default the one in the repo. WeightsError if there is none.

    feature_layer: the hidden state to use, -1 the last; 0: what the folder says, or with one of LLaVA's projectors
    the last that LLaVA can take, which of a SigLIP is the one before its last.
    """
    where = Path(folder or EMBEDDED_ENCODER)
    module, settings = load_vision(where)
    if not feature_layer and projector in ACTIVATIONS:
        feature_layer = llava_layer(module.config)
    if feature_layer:
        with refusing(where):
            module.config = replace(module.config, feature_layer=feature_layer)
    with refusing(where / "preprocessor_config.json"):
        spec = PreprocessSpec.from_settings(settings)
    size = module.config.image_size
    if spec.shape != (size, size):
        raise WeightsError(
            f"{where / 'preprocessor_config.json'}: makes pictures of {spec.shape[0]}x{spec.shape[1]} pixels, the "
            f"encoder beside it takes {size}x{size}; set size and crop_size to {size}"
        )
    return Encoder(module.eval(), spec, fingerprint(module), folder)


def encoder_note(encoder: Encoder, pictures: Iterator[Picture]) -> str:
    """A warning where the encoder in the repo, which has seen drawings alone, gets picture files; else ""."""
    if encoder.folder or not isinstance(next(pictures, None), (Path, bytes)):
        return ""
    return (
        f"warning: the encoder that ships ({EMBEDDED_ENCODER.name}) has only seen the picture book's drawings; for "
        "photographs train one on them first (python train_vision.py --data FILE) and name it, or a CLIP's folder, "
        "with --vision"
    )


def get_language(path: str, vocab_size: int, init: str = "normal") -> LanguageModel:
    """The language model at path; for 'random' the default one, randomly initialised from torch's seed, and for
    'random:4x256' one of 4 layers, 256 wide.

    init: 'normal' or 'matching' (model/init.py). RunError if the model has fewer ids than the tokenizer, and for a
    width that heads of 64 cannot fill.
    """
    if is_random(path):
        language = LanguageModel(LMConfig(vocab_size=vocab_size, **_sizes(path)))  # type: ignore[arg-type]
        if init == "matching":
            match_like_with_like(language)
        return language
    language = load_language(path)
    check_vocabulary(language.config.vocab_size, vocab_size, path)
    return language


def is_random(path: str) -> bool:
    """Whether --llm asks for random weights."""
    return path.partition(":")[0] == "random"


def _sizes(path: str) -> dict[str, int]:
    """The sizes in 'random:LAYERSxWIDTH', in the default model's proportions; none for 'random'."""
    if path == "random":
        return {}
    layers, _, width = path.partition(":")[2].partition("x")
    if not (layers.isdigit() and width.isdigit() and int(layers) and int(width) and int(width) % 64 == 0):
        raise RunError(f"--llm {path}: expected random or random:LAYERSxWIDTH, a multiple of 64 wide, as random:4x256")
    heads = int(width) // 64
    groups = heads // 4 if heads % 4 == 0 else 1
    return {"hidden_size": int(width), "num_hidden_layers": int(layers), "num_attention_heads": heads,
            "num_key_value_heads": groups, "intermediate_size": int(width) * 11 // 4}  # fmt: skip


def check_vocabulary(model: int, tokenizer: int, where: str) -> None:
    """Raise RunError unless a model's embedding matrix has a row for every id of the tokenizer."""
    if model < tokenizer:
        raise RunError(
            f"{where} knows {model} tokens, the tokenizer has {tokenizer}; give the model's own with --tokenizer DIR"
        )


def join(language: LanguageModel, encoder: Encoder, projector: str) -> VLM:
    """A VLM of a language model, an encoder and a projector of that kind, randomly initialised from torch's seed."""
    vision = encoder.module.config
    width = language.config.hidden_size
    connection = ProjectorConfig(projector, vision.feature_size, width)
    if connection.tokens_out(vision.num_features) < vision.num_features:
        connection = replace(connection, band=BAND)
    return VLM(VLMConfig(language.config, vision, connection), encoder.module, language)


def run_encoder(run: Path, folder: str = "") -> Encoder:
    """The encoder that a run was trained with: its own if it trained one, else the one it names, or `folder`.

    RunError if that has other weights by now. A weights file (MiniMind2-V's) names none, so it needs `folder`.
    """
    if run.is_file():
        if not folder:
            raise RunError(f"{run} holds no image encoder; name the folder of the one it was trained with by --vision")
        return get_encoder(folder)
    if not (run / "config.json").is_file():
        raise RunError(f"{run}: no config.json, so this is no finished run; give a folder under out/")
    if (run / "preprocessor_config.json").is_file():
        return get_encoder(folder or str(run))
    wanted = Run(run).facts().get("vision")
    if wanted is None:
        raise RunError(f"{run} is a language model's run and sees nothing; give one of train_pretrain.py or _sft.py")
    named = wanted.get("folder", "")
    if not folder and named and not Path(named).is_dir():
        raise RunError(
            f"{run} was trained with the encoder in {named}, which is not there any more; name the folder "
            "that it is in now with --vision"
        )
    encoder = get_encoder(folder or named, wanted.get("feature_layer", 0))
    if encoder.fingerprint != wanted.get("fingerprint"):
        where = folder or named or EMBEDDED_ENCODER
        raise RunError(
            f"{run} was trained with the encoder {wanted.get('fingerprint')}, {where} now holds {encoder.fingerprint}; "
            "name that encoder's folder with --vision, or train the run again"
        )
    return encoder


@dataclass(frozen=True)
class Trained:
    """A model in evaluation mode, its tokenizer and its encoder."""

    path: Path  # the run's folder, or the weights file
    model: VLM
    tokenizer: Tokenizer
    encoder: Encoder
    settings: dict = field(default_factory=dict)  # of the run; none for a weights file

    @cached_property
    def familiar(self) -> Familiar | None:
        """The statistics of its training images' features, if the run has them; WeightsError for a damaged file."""
        return load_familiar(self.path, self.encoder.fingerprint, self.encoder.module.config.feature_size)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that select a model: path, vision and tokenizer of load_trained()."""
    parser.add_argument("run", help="a run's folder, or a MiniMind2-V .pth")
    parser.add_argument("--vision", default="", metavar="DIR", help="the encoder of a .pth; where a run's is now")
    parser.add_argument("--tokenizer", default="", metavar="DIR", help="the tokenizer of a .pth, if not beside it")


def load_trained(
    path: Path | str, vision: str = "", tokenizer: str = "", device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32, fast: str = "on",
) -> Trained:  # fmt: skip
    """The model in a run's folder, or a MiniMind2-V .pth with its encoder and tokenizer named.

    vision: the encoder's folder (default: where the run found it). tokenizer: its folder (default: the run's). dtype:
    of matmuls; the encoder's weights are kept in it. fast: on, or off for the plain model. RunError, WeightsError or
    TokenizerError for parts that are missing or do not fit each other.
    """
    path = Path(path)
    settings = {} if path.is_file() else Run(path).record().get("settings", {})
    encoder = run_encoder(path, vision)
    model = load_vlm(path, encoder.module).to(device).eval()
    accelerate(model, fast)
    keep_in(dtype, encoder.module)
    words = get_tokenizer(tokenizer, path)
    check_vocabulary(model.config.lm.vocab_size, words.vocab_size, str(path))
    return Trained(path, model, words, encoder, settings)
