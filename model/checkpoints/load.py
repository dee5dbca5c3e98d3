"""Loading weights of any known format: recognises the format of a file or folder and builds the model in it."""

from __future__ import annotations

import warnings
from pathlib import Path

from model.checkpoints.files import WeightsError, find_weights, read_json, read_tensors, refusing
from model.checkpoints.llama import LLAMA_TYPES, llama_config
from model.checkpoints.minimind import MINIMIND_V, MINIMIND_V_PROJECTOR, minimind_language, without_tied_head
from model.checkpoints.own import CONFIG_FILE, FORMAT, PREPROCESSOR_FILE, WEIGHTS_FILE, read_config, read_weights
from model.checkpoints.strict import SAME, load_strict
from model.checkpoints.vision_families import processor_settings, read_vision
from model.config import ProjectorConfig, VisionConfig, VLMConfig
from model.language import LanguageModel
from model.vision import VisionTransformer
from model.vlm import VLM

PROCESSOR_FILE = "processor_config.json"  # transformers 5 has the same in it, under image_processor
PICKLE_SUFFIXES = (".pth", ".pt", ".bin")


def _locate(path: Path | str, what: str) -> tuple[Path, Path, dict]:
    """(weights file or shard index, config file, its contents or {}) for a folder or a file; or WeightsError."""
    path = Path(path)
    if path.is_dir():
        config_file = path / CONFIG_FILE
        if not config_file.is_file():
            found = sorted(entry.name for entry in path.iterdir())[:12]
            raise WeightsError(f"{path}: found {found}, expected {CONFIG_FILE} and {WEIGHTS_FILE} of {what}")
        return find_weights(path), config_file, read_json(config_file)
    if not path.is_file():
        raise WeightsError(f"{path}: no such file or folder, expected {what}; check the path")
    config_file = path.parent / CONFIG_FILE
    return path, config_file, read_json(config_file) if config_file.is_file() else {}


def load_language(path: Path | str) -> LanguageModel:
    """The language model in one of our folders, a Llama or Qwen2 folder, or a MiniMind2 or MiniMind2-V .pth.

    In fp32, on the CPU. WeightsError names every key that is missing, unexpected or of another shape.
    """
    file, config_file, config = _locate(path, "a language model")
    table = SAME
    other_parts: tuple[str, ...] = ()
    if config.get("format") == FORMAT:
        lm = read_config(VLMConfig, config, config_file).lm
        table, other_parts = (("", "llm."),), ("projector.", "vision.")
        tensors = read_weights(file)
    elif config.get("model_type") in LLAMA_TYPES:
        lm = llama_config(config, config_file)
        tensors = read_tensors(file)
        tensors = without_tied_head(tensors, file) if lm.tie_word_embeddings else tensors
    elif file.suffix in PICKLE_SUFFIXES and str(config.get("model_type") or "minimind").startswith("minimind"):
        lm, tensors = minimind_language(file, config)
        other_parts = (MINIMIND_V_PROJECTOR,)
    else:
        raise WeightsError(
            f"{config_file}: found model_type {config.get('model_type')!r}, expected one of {LLAMA_TYPES} (Llama 1 to "
            "3.2, Qwen2 and 2.5), a folder written by this program, or a MiniMind2 .pth; use one of those"
        )
    return load_strict(lambda: LanguageModel(lm), tensors, file, table, other_parts)


def load_vlm(path: Path | str, vision: VisionTransformer | None = None) -> VLM:
    """The vision-language model in one of our folders or a MiniMind2-V .pth, in fp32 on the CPU.

    An encoder in the file takes precedence over `vision`; with neither, the model takes only features. WeightsError
    where the encoder or any key does not fit.
    """
    file, config_file, document = _locate(path, "a vision-language model")
    table = SAME
    if document.get("format") == FORMAT:
        config = read_config(VLMConfig, document, config_file)
        tensors = read_weights(file)
    else:
        lm, tensors = minimind_language(file, document)
        table = MINIMIND_V
        weight = tensors.get(MINIMIND_V_PROJECTOR + "vision_proj.0.weight")
        if weight is None:
            raise WeightsError(
                f"{file}: found no vision_proj.vision_proj.0.weight, expected a MiniMind2-V state dict; "
                "a plain language model goes to train_pretrain.py --llm"
            )
        with refusing(file):
            projector = ProjectorConfig("linear", weight.shape[1], lm.hidden_size)
            config = VLMConfig(lm, None if vision is None else vision.config, projector)
    stored = any(name.startswith("vision.") for name in tensors)
    if not stored and vision is not None and vision.config != config.vision:
        raise WeightsError(
            f"{file}: was trained with the encoder {config.vision}, found {vision.config}; use the former"
        )
    inside = config.vision if stored else None
    vlm = load_strict(lambda: VLM(config, VisionTransformer(inside) if inside else None), tensors, file, table)
    if not stored:
        vlm.vision = vision
    return vlm


def load_vision(folder: Path | str) -> tuple[VisionTransformer, dict]:
    """The encoder in one of our folders or a Hugging Face one, in fp32 on the CPU, and its preprocessor settings.

    A Hugging Face folder belongs to one of vision_families.py's families: the whole model or its vision half, in one
    file or in shards. If it has no preprocessor settings, the family's are used, with a warning. WeightsError names
    every key of the vision half that is missing, unexpected or of another shape.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise WeightsError(f"{folder}: no such folder, expected one of a vision encoder, with {CONFIG_FILE}")
    file, config_file, document = _locate(folder, "a vision encoder")
    if document.get("format") == FORMAT:
        inside_vlm = "lm" in document
        config = read_config(VisionConfig, document, config_file)
        table, other_parts = ((("", "vision."),), ("llm.", "projector.")) if inside_vlm else (SAME, ())
        vision = load_strict(lambda: VisionTransformer(config), read_tensors(file), file, table, other_parts)
        family = "clip"
    else:
        family, vision = read_vision(file, config_file, document)
    return vision, _preprocess_settings(folder, family, vision.config.image_size)


def _preprocess_settings(folder: Path, family: str, size: int) -> dict:
    """The folder's preprocessor settings; if it has none, the family's, with a warning."""
    default, settings = processor_settings(family, size), None
    if (folder / PREPROCESSOR_FILE).is_file():
        settings = read_json(folder / PREPROCESSOR_FILE)
    elif (folder / PROCESSOR_FILE).is_file():
        settings = read_json(folder / PROCESSOR_FILE).get("image_processor")
    if not isinstance(settings, dict):
        warnings.warn(f"{folder}: no {PREPROCESSOR_FILE}; using the default settings of {family}", stacklevel=3)
        return default
    named = settings.get("image_processor_type") or settings.get("feature_extractor_type")
    if named or family == "clip":  # CLIP's is the default where none is named
        return settings
    return {**settings, "image_processor_type": default["image_processor_type"]}


def clip_preprocess(size: int) -> dict:
    """CLIPImageProcessor's defaults for images of `size` x `size` pixels."""
    return processor_settings("clip", size)
