"""What every config checks of its fields: types, ranges, choices."""

from __future__ import annotations

from dataclasses import fields

# least and greatest value of a field; of other numbers 1 and 2^20
RANGES = {"num_hidden_layers": (1, 1024), "feature_layer": (-1025, -1), "image_size": (1, 4096),
          "patch_size": (1, 4096), "vocab_size": (1, 1 << 24), "max_position_embeddings": (1, 1 << 30),
          "original_max_position_embeddings": (1, 1 << 30), "rope_theta": (1, 1e12), "rms_norm_eps": (0, 1),
          "layer_norm_eps": (0, 1), "low_freq_factor": (1e-6, 1e6), "high_freq_factor": (1e-6, 1e6)}  # fmt: skip
TYPES: dict[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "bool": (bool,)}


def check_fields(config) -> None:
    """ValueError for a field of another type than it is annotated with, or a number out of its range."""
    for field in fields(config):
        value, kind = getattr(config, field.name), str(field.type).removesuffix(" | None")
        if kind not in TYPES or (value is None and kind != field.type):
            continue
        least, most = (False, True) if kind == "bool" else RANGES.get(field.name, (1, 1 << 20))
        typed = isinstance(value, TYPES[kind]) and isinstance(value, bool) == (kind == "bool")
        if not (typed and least <= value <= most):
            wanted = f"{kind} from {least} to {most}"
            raise ValueError(f"{type(config).__name__}.{field.name}: found {value!r}, expected {wanted}")


def require_one_of(config, name: str, allowed: tuple[str, ...]) -> None:
    if getattr(config, name) not in allowed:
        raise ValueError(f"{type(config).__name__}.{name}: found {getattr(config, name)!r}, expected one of {allowed}")


def require_split(config, name: str, parts: int, into: str) -> None:
    if getattr(config, name) % parts:
        found = f"{type(config).__name__}: {name} {getattr(config, name)}"
        raise ValueError(f"{found} does not split into {into}; choose a multiple of {parts}")
