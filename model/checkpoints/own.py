"""Our own format: a folder with config.json (format, version, sizes) and model.safetensors.

Weights are named as in VLM.state_dict() (`llm.`, `projector.`, `vision.`) or, for an encoder alone, as in
VisionTransformer.state_dict(); preprocessor_config.json says how to prepare images for the encoder.
"""

from __future__ import annotations

from pathlib import Path

from model.checkpoints.files import WeightsError, save_safetensors, write_json
from model.checkpoints.sizes import from_dict, to_dict, vlm_from_dict
from model.config import VisionConfig, VLMConfig
from model.vision import VisionTransformer
from model.vlm import VLM

FORMAT = "glimpse"
FORMAT_VERSION = 1
CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
PREPROCESSOR_FILE = "preprocessor_config.json"


def config_document(parts: dict) -> dict:
    """The contents of config.json: format, version, then the sizes in `parts`."""
    return {"format": FORMAT, "format_version": FORMAT_VERSION, **parts}


def own_parts(document: dict, where: Path) -> dict:
    """The reverse of config_document; WeightsError for another version."""
    version = document.get("format_version")
    if version != FORMAT_VERSION:
        raise WeightsError(
            f"{where}: found format_version {version!r}, expected {FORMAT_VERSION}; it was written by "
            "another version of this program: use that one, or train again"
        )
    return {name: value for name, value in document.items() if name not in ("format", "format_version")}


def vlm_config(document: dict, where: Path) -> VLMConfig:
    """The sizes of all parts in a config.json; WeightsError for another version or unknown keys."""
    try:
        return vlm_from_dict(own_parts(document, where))
    except WeightsError:
        raise
    except ValueError as error:
        raise WeightsError(f"{where}: {error}") from error


def vision_config(document: dict, where: Path) -> VisionConfig:
    """The encoder's sizes in a config.json; WeightsError for another version or unknown keys."""
    try:
        return from_dict(VisionConfig, own_parts(document, where).get("vision"))
    except WeightsError:
        raise
    except ValueError as error:
        raise WeightsError(f"{where}: {error}") from error


def save_vlm(folder: Path | str, vlm: VLM, with_vision: bool = False, metadata: dict | None = None) -> None:
    """Writes one of our folders: sizes, language model, projector and, with `with_vision`, the encoder."""
    state = vlm.state_dict()
    if not with_vision:
        state = {key: tensor for key, tensor in state.items() if not key.startswith("vision.")}
    write_json(Path(folder) / CONFIG_FILE, config_document(to_dict(vlm.config)))
    save_safetensors(Path(folder) / WEIGHTS_FILE, state, metadata)


def save_vision(folder: Path | str, vision: VisionTransformer, preprocess: dict) -> None:
    """Writes an encoder's folder; `preprocess`: settings under the names of CLIP's preprocessor_config.json."""
    folder = Path(folder)
    write_json(folder / CONFIG_FILE, config_document({"vision": to_dict(vision.config)}))
    write_json(folder / PREPROCESSOR_FILE, preprocess)
    save_safetensors(folder / WEIGHTS_FILE, vision.state_dict())
