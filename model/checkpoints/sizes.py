"""Configs of our models as JSON values, read strictly: no unknown keys, and none missing but those added later."""

from __future__ import annotations

import dataclasses

from model.config import LMConfig, ProjectorConfig, RopeScaling, VisionConfig, VLMConfig

# Absent in files of earlier versions, whose models have the defaults.
LATER = ("patch_bias", "post_norm", "layer_scale", "pixel_shuffle", "head_width", "rope_scaling")


def to_dict(config) -> dict:
    """A config as plain JSON values; `from_dict` reads it back equal."""
    return dataclasses.asdict(config)


def from_dict(kind, values: object):
    """A config of class `kind` from what `to_dict` gave; ValueError names unknown and missing keys."""
    if not isinstance(values, dict):
        raise ValueError(f"{kind.__name__}: found {type(values).__name__} {values!r}, expected a JSON object")
    names = [field.name for field in dataclasses.fields(kind)]
    unknown = sorted(set(values) - set(names))
    missing = [name for name in names if name not in values and name not in LATER]
    if unknown or missing:
        raise ValueError(
            f"{kind.__name__}: unknown keys {unknown}, missing keys {missing}; expected exactly {names}. "
            "Was the file written by another version?"
        )
    return kind(**values)


def vlm_from_dict(values: dict) -> VLMConfig:
    """The reverse of `to_dict` for a VLMConfig; ValueError names unknown and missing keys of each part."""
    parts = from_dict(_Parts, values)
    lm = from_dict(LMConfig, parts.lm)
    if isinstance(lm.rope_scaling, dict):
        lm = dataclasses.replace(lm, rope_scaling=from_dict(RopeScaling, lm.rope_scaling))
    return VLMConfig(
        lm=lm,
        vision=None if parts.vision is None else from_dict(VisionConfig, parts.vision),
        projector=None if parts.projector is None else from_dict(ProjectorConfig, parts.projector),
    )


@dataclasses.dataclass(frozen=True)
class _Parts:
    lm: dict
    vision: dict | None
    projector: dict | None
