"""Llama and Qwen2 config.json files, as transformers 4 and 5 write them, read as an LMConfig."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from model.checkpoints.files import refusing
from model.config import LMConfig, RopeScaling

LLAMA_TYPES = ("llama", "qwen2")
SIZES = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size")
SCALING = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
ROPE_TYPES = ("default", "llama3")


def llama_config(config: dict, where: Path | str) -> LMConfig:
    """A Llama or Qwen2 config.json as an LMConfig; WeightsError names what this decoder does not support."""
    with refusing(where):
        config = {name: value for name, value in config.items() if value is not None}  # null is as good as absent
        missing = [name for name in SIZES if name not in config]
        if missing:
            raise ValueError(f"missing {missing}; expected the config.json of a Llama or Qwen2")
        qwen = config.get("model_type") == "qwen2"
        _check_kind(config, qwen)
        theta, scaling = _rope(config)
        lm = LMConfig(
            **{name: config[name] for name in SIZES},
            num_key_value_heads=config.get("num_key_value_heads", config["num_attention_heads"]),
            rope_theta=theta,
            rms_norm_eps=config.get("rms_norm_eps", 1e-6),
            max_position_embeddings=config.get("max_position_embeddings", 32768 if qwen else 2048),
            tie_word_embeddings=config.get("tie_word_embeddings", False),
            attention_bias=qwen,
            head_width=config.get("head_dim"),
            rope_scaling=scaling,
        )
        usual = lm.hidden_size // lm.num_attention_heads  # what transformers writes for every model
        return replace(lm, head_width=None) if lm.head_width == usual else lm


def _check_kind(config: dict, qwen: bool) -> None:
    """ValueError for an option that this decoder does not support."""
    wanted = {  # name: (found, what this decoder supports)
        "hidden_act": (config.get("hidden_act", "silu"), "silu"),
        "attention_bias": (config.get("attention_bias", qwen), qwen),
        "mlp_bias": (config.get("mlp_bias", False), False),
    }
    for name, (found, does) in wanted.items():
        if found != does:
            raise ValueError(f"found {name} {found!r}, this decoder supports {does!r}; use another model")
    kinds = sorted(set(config.get("layer_types") or ()) - {"full_attention"})
    if config.get("use_sliding_window") or kinds:
        raise ValueError(
            f"found use_sliding_window {config.get('use_sliding_window')!r} and layer_types "
            f"{kinds or ['full_attention']}; this decoder has full attention only. Within the window "
            f"({config.get('sliding_window')} tokens) the two are the same: for such texts set use_sliding_window to "
            "false and remove layer_types"
        )


def _rope(config: dict) -> tuple[float, RopeScaling | None]:
    """(theta, scaling) from `rope_parameters` (transformers 5), else `rope_scaling` (4), else neither."""
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if not isinstance(rope, dict) or any(isinstance(value, dict) for value in rope.values()):
        raise ValueError(f"found rope settings {rope!r}, expected one set of them for all layers")
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind not in ROPE_TYPES:
        length = rope.get("original_max_position_embeddings", config.get("max_position_embeddings"))
        raise ValueError(
            f"found rope type {kind!r}, this decoder supports {' and '.join(ROPE_TYPES)}. Use another model; "
            f"if {kind!r} was only added for texts beyond {length} tokens, remove it from the file"
        )
    share = rope.get("partial_rotary_factor", config.get("partial_rotary_factor", 1.0))
    if share != 1.0:
        raise ValueError(f"found partial_rotary_factor {share!r}, this decoder needs 1.0; use another model")
    theta = rope.get("rope_theta", config.get("rope_theta", 10000.0))
    if kind == "default":
        return theta, None
    given = {"original_max_position_embeddings": config.get("original_max_position_embeddings"), **rope}
    absent = [name for name in SCALING if given.get(name) is None]
    if absent:
        raise ValueError(f"rope type 'llama3' lacks {absent}; copy the model's config.json again")
    return theta, RopeScaling(**{name: given[name] for name in SCALING})
