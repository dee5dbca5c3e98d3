"""Values that no honest config or weights file holds: an error that names file, key, what was found and expected."""

from __future__ import annotations

import json
import math
import shutil

import pytest
import torch
from tiny import write_encoder, write_language

from dataset.preprocess import PreprocessSpec
from model.checkpoints import WeightsError, load_language, load_vision, load_vlm, save_hf_vision
from model.checkpoints.llama import llama_config
from model.config import LMConfig, VisionConfig
from model.vision import VisionTransformer
from tokenizer.tokenizer import TokenizerError, default_folder, load_tokenizer

ODD = ({}, [1], -5, "7", math.inf, math.nan, 10**12, 10**30)
LLAMA = {"model_type": "llama", "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
         "num_key_value_heads": 1, "intermediate_size": 48, "vocab_size": 99, "rms_norm_eps": 1e-6,
         "rope_theta": 10_000, "max_position_embeddings": 64, "head_dim": 16, "tie_word_embeddings": True,
         "attention_bias": False, "mlp_bias": False}  # fmt: skip


def refuses(read, key: str, value: object) -> str:
    with pytest.raises(WeightsError) as error:
        read()
    said = str(error.value)
    assert key in said and repr(value) in said and "config.json" in said, said
    return said


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("odd")
    write_language(folder / "lm", with_tokenizer=False)
    write_encoder(folder / "vision")
    config = VisionConfig(32, 48, 1, 2, 16, 8, post_norm="kept")
    settings = PreprocessSpec.square(16).to_settings()
    save_hf_vision(folder / "clip", VisionTransformer(config), settings, "clip")
    return folder


def changed(folder, name: str, key: tuple[str, ...], value: object):
    """The folder's config.json with another value under this key; give it back with changed(..., None)."""
    file = folder / name / "config.json"
    kept = folder / f"{name}.json"
    if not kept.exists():
        shutil.copy(file, kept)
    document = json.loads(kept.read_text("utf-8"))
    inside = document
    for part in key[:-1]:
        inside = inside[part]
    inside[key[-1]] = value
    file.write_text(json.dumps(document), "utf-8")
    return folder / name


LM_KEYS = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "intermediate_size",
    "vocab_size",
    "rope_theta",
    "rms_norm_eps",
    "max_position_embeddings",
    "tie_word_embeddings",
    "head_width",
)
VISION_KEYS = ("hidden_size", "num_hidden_layers", "image_size", "patch_size", "layer_norm_eps")


def accepted(key: str, value: object) -> bool:
    return key == "rope_theta" and value == 10**12


@pytest.mark.parametrize("value", ODD, ids=str)
def test_a_config_of_ours_names_the_field(folders, value):
    for key in (key for key in LM_KEYS if not accepted(key, value)):
        refuses(lambda key=key: load_language(changed(folders, "lm", ("lm", key), value)), f"LMConfig.{key}", value)
    for key in (*VISION_KEYS, "class_token", "pre_norm", "feature_layer", "pixel_shuffle", "hidden_act"):
        read = lambda key=key: load_vision(changed(folders, "vision", ("vision", key), value))  # noqa: E731
        refuses(read, f"VisionConfig.{key}", value)


@pytest.mark.parametrize("value", ODD, ids=str)
def test_a_config_of_others_names_the_key(folders, value):
    for key in (key for key in LLAMA if key != "model_type" and not accepted(key, value)):
        name = {"head_dim": "head_width"}.get(key, key)
        refuses(lambda key=key: llama_config({**LLAMA, key: value}, "config.json"), name, value)
    rope = {"rope_type": "llama3", "factor": value, "low_freq_factor": 1, "high_freq_factor": 4,
            "original_max_position_embeddings": 64}  # fmt: skip
    said = "rope settings" if value == {} else "RopeScaling.factor"
    refuses(lambda: llama_config({**LLAMA, "rope_scaling": rope}, "config.json"), said, value)
    for key in VISION_KEYS:
        read = lambda key=key: load_vision(changed(folders, "clip", (key,), value))  # noqa: E731
        if not (isinstance(value, list) and key in ("image_size", "patch_size")):  # [height, width] for some
            refuses(read, key, value)


def test_what_is_usual_is_still_read(folders):
    assert llama_config({**LLAMA, "rope_theta": 1e6, "head_dim": None, "hidden_act": None}, "c").rope_theta == 1e6
    assert llama_config(LLAMA, "c") == llama_config({**LLAMA, "head_dim": None}, "c")
    assert llama_config({**LLAMA, "head_dim": 8}, "c").head_dim == 8
    assert LMConfig(max_position_embeddings=10_485_760, vocab_size=256_000, rope_theta=10_000).head_dim == 64
    for name, key, value in (("lm", ("lm", "rope_theta"), 500_000), ("vision", ("vision", "layer_norm_eps"), 1e-6)):
        (load_language if name == "lm" else load_vision)(changed(folders, name, key, value))


@pytest.mark.parametrize("key, values", [
    ("size", (-5, {}, 0, 1.5, "a", True, math.inf, 10**9, {"shortest_edge": -1}, {"shortest_edge": "7"}, [1], None)),
    ("crop_size", ("a", -5, {}, [16], {"height": 16, "width": math.nan}, {"height": None, "width": 16})),
    ("image_mean", ([1], 7, [math.nan] * 3, ["a"] * 3, [10**30] * 3, [True] * 3)),
    ("image_std", ([0, 1, 1], [-1, 1, 1], [math.inf] * 3, "abc")),
    ("resample", (99, "a", {}, -1, True, 1.5, math.nan)),
    ("rescale_factor", (math.nan, 0, -1, "a", {}, [], math.inf, True)),
    ("do_resize", ("false", {}, 7)), ("do_normalize", ([], 7)), ("do_rescale", ("no",)), ("do_center_crop", (2,)),
])  # fmt: skip
def test_a_preprocessor_config_names_the_setting(key, values):
    settings = PreprocessSpec.square(16).to_settings()
    for value in values:
        if value is None:  # the default
            PreprocessSpec.from_settings({**settings, key: value})
            continue
        with pytest.raises(ValueError, match=rf"^{key}.* is .*expected .*preprocessor_config.json"):
            PreprocessSpec.from_settings({**settings, key: value})


@pytest.mark.parametrize("value", ["7", {}, -1, 10**30, 1.5, True, [2, "a"], [None]], ids=str)
def test_a_generation_config_that_names_no_ids_is_refused(tmp_path, value):
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(default_folder() / name, tmp_path)
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 7]}))
    assert 7 in load_tokenizer(tmp_path).end_ids
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": value}))
    with pytest.raises(TokenizerError, match="generation_config.json .* has the eos_token_id .*expected a token id"):
        load_tokenizer(tmp_path)


EMBEDDING, GATE = "model.embed_tokens.weight", "model.layers.0.mlp.gate_proj.weight"
SQUARE = torch.zeros(64, 64)


@pytest.mark.filterwarnings("ignore")  # of torch, about kinds of tensors that are on their way in or out
@pytest.mark.parametrize("make, said", [
    (lambda: SQUARE.to_sparse(), "torch.sparse_coo"), (lambda: SQUARE.to_sparse_csr(), "torch.sparse_csr"),
    (lambda: torch.quantize_per_tensor(SQUARE, 1.0, 0, torch.qint8), "quantized"), (lambda: SQUARE.to("meta"), "meta"),
    (lambda: torch.nested.nested_tensor([SQUARE, SQUARE]), "nested"), (lambda: {"a": SQUARE}, "dict"),
    (lambda: torch.zeros(1).expand(10**6, 10**6), "4,000,000,000,000 bytes of which 4 are stored"),
], ids=lambda value: value if isinstance(value, str) else "")  # fmt: skip
def test_tensors_that_are_not_dense_are_refused_by_name(tmp_path, make, said):
    tensor = make()
    for state in ({EMBEDDING: tensor, GATE: SQUARE}, {EMBEDDING: SQUARE, GATE: SQUARE, "lm_head.weight": tensor}):
        torch.save(state, tmp_path / "a.pth")
        for load in (load_language, load_vlm):
            with pytest.raises(WeightsError, match=r"a\.pth: found .*\.weight: .*expected a flat state dict") as error:
                load(tmp_path / "a.pth")
            assert said in str(error.value)


@pytest.mark.parametrize("state", [
    {EMBEDDING: SQUARE, GATE: SQUARE, "model.layers.999999999.x": SQUARE},
    {EMBEDDING: SQUARE, GATE: SQUARE, f"model.layers.{'9' * 5000}.x": SQUARE},
    {EMBEDDING: SQUARE[0], GATE: SQUARE}, {EMBEDDING: SQUARE, GATE: SQUARE[0, 0]},
    {EMBEDDING: SQUARE, GATE: SQUARE, "vision_proj.vision_proj.0.weight": SQUARE[0]}, {1: SQUARE}, SQUARE, [SQUARE],
    {EMBEDDING: SQUARE, GATE: SQUARE, "lm_head.weight": SQUARE.to(torch.float8_e4m3fn)},
], ids=str)  # fmt: skip
def test_a_state_dict_is_bounded_by_what_it_holds(tmp_path, state):
    """No more layers are made than it has, whatever their numbers."""
    torch.save(state, tmp_path / "a.pth")
    for load in (load_language, load_vlm):
        with pytest.raises(WeightsError, match=r"a\.pth: "):
            load(tmp_path / "a.pth")
