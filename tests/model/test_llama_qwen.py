"""Llama 3.2 and Qwen2 from their Hugging Face folders: transformers' logits and answers, or a refusal in words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from engine_parts import prompt_batch

from model.checkpoints import WeightsError, load_language, load_vlm, save_vlm, write_json
from model.config import LMConfig, RopeScaling, VLMConfig
from model.generation import generate
from model.language import LanguageModel
from model.layers import scale_periods
from model.vlm import VLM

LLAMA3 = {"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 64}  # fmt: skip
SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "vocab_size": 60,
         "max_position_embeddings": 2048, "bos_token_id": 0, "eos_token_id": 59, "pad_token_id": 0}  # fmt: skip


def make_theirs(kind: str, **changes):
    """A tiny random Llama 3.2 or Qwen2 of transformers, with large enough weights for its answers to differ."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    if kind == "llama":
        more = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "tie_word_embeddings": True,
                "rms_norm_eps": 1e-5, "rope_parameters": {**LLAMA3, "rope_theta": 500000.0}}  # fmt: skip
        config = transformers.LlamaConfig(**{**SIZES, **more, **changes})
        model = transformers.LlamaForCausalLM(config)
    else:
        more = {"num_attention_heads": 4, "num_key_value_heads": 2, "use_sliding_window": False,
                "rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}  # fmt: skip
        config = transformers.Qwen2Config(**{**SIZES, **more, **changes})
        model = transformers.Qwen2ForCausalLM(config)
    for name, parameter in model.named_parameters():
        if not name.endswith("norm.weight"):
            torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


def as_transformers_4_wrote_it(folder: Path) -> None:
    """Moves rope_parameters to where transformers 4 had them: rope_theta at the top, the rest in rope_scaling."""
    config = json.loads((folder / "config.json").read_text())
    rope = config.pop("rope_parameters")
    config.pop("layer_types", None)
    config["rope_theta"] = rope.pop("rope_theta")
    config["rope_scaling"] = rope if rope["rope_type"] != "default" else None
    write_json(folder / "config.json", {**config, "torch_dtype": "float32", "sliding_window": 131072})


def check_logits_and_answers(theirs, ours: LanguageModel) -> None:
    ids = torch.randint(0, 59, (2, 300), generator=torch.Generator().manual_seed(1))  # far beyond the 64 of LLAMA3
    with torch.no_grad():
        assert (ours.logits(ours(ours.embed(ids))) - theirs(ids).logits).abs().max() < 1e-4
    prompt = ids[:, :7]
    everything = torch.ones_like(prompt, dtype=torch.bool)
    vlm = VLM(VLMConfig(ours.config), llm=ours).eval()
    done = generate(vlm, prompt_batch(prompt, everything, ~everything), max_new_tokens=40, end_id=59)
    expected = theirs.generate(prompt, attention_mask=everything.long(), max_new_tokens=40, do_sample=False)[:, 7:]
    assert done.ids == [row[: (row + [59]).index(59)] for row in expected.tolist()]
    assert len({token for row in done.ids for token in row}) > 5


@pytest.mark.parametrize("kind, changes", [
    ("llama", {}),
    ("llama", {"tie_word_embeddings": False, "head_dim": None, "num_key_value_heads": 1}),
    ("qwen2", {"tie_word_embeddings": True}),
    ("qwen2", {"tie_word_embeddings": False}),
])  # fmt: skip
def test_a_folder_gives_transformers_logits_and_greedy_answers(tmp_path, kind, changes):
    theirs = make_theirs(kind, **changes)
    theirs.save_pretrained(tmp_path)
    check_logits_and_answers(theirs, load_language(tmp_path))
    as_transformers_4_wrote_it(tmp_path)
    check_logits_and_answers(theirs, load_language(tmp_path))


def test_llama_3s_positions_are_stretched_as_transformers_does():
    transformers = pytest.importorskip("transformers")
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    real = {**LLAMA3, "original_max_position_embeddings": 8192, "rope_theta": 500000.0}
    config = transformers.LlamaConfig(head_dim=64, max_position_embeddings=131072, rope_parameters=real)
    frequencies, _ = ROPE_INIT_FUNCTIONS["llama3"](config, "cpu")
    periods = 500000.0 ** (torch.arange(0, 64, 2) / 64)
    ours = scale_periods(periods, RopeScaling(32.0, 1.0, 4.0, 8192))
    assert torch.allclose(1 / ours, frequencies, rtol=1e-5)
    assert ours[0] == periods[0] and torch.isclose(ours[-1], 32 * periods[-1])


def test_one_of_our_folders_keeps_what_llama_and_qwen_need(tmp_path):
    for kind in ("llama", "qwen2"):
        make_theirs(kind).save_pretrained(tmp_path / kind)
        language = load_language(tmp_path / kind)
        save_vlm(tmp_path / "ours", VLM(VLMConfig(language.config), llm=language))
        again = load_vlm(tmp_path / "ours").llm
        assert again.config == language.config
        assert all(torch.equal(a, b) for a, b in zip(again.parameters(), language.parameters(), strict=True))


def test_a_folder_of_before_these_settings_existed_still_loads(tmp_path):
    save_vlm(tmp_path, VLM(VLMConfig(LMConfig(32, 1, 4, 2, 48, 60))))
    config = json.loads((tmp_path / "config.json").read_text())
    del config["lm"]["head_width"], config["lm"]["rope_scaling"]
    write_json(tmp_path / "config.json", config)
    assert load_vlm(tmp_path).config.lm == LMConfig(32, 1, 4, 2, 48, 60)


@pytest.mark.parametrize("change, message", [
    ({"rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 99}}, "'yarn'.* 99 tokens"),
    ({"rope_scaling": {"rope_type": "longrope"}}, "rope type 'longrope', this decoder supports default and llama3"),
    ({"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4}}, "'dynamic'"),
    ({"rope_parameters": {"full_attention": {"rope_type": "default"}}}, "expected one set of them for all layers"),
    ({"rope_scaling": {**LLAMA3, "low_freq_factor": None}}, r"lacks \['low_freq_factor'\]"),
    ({"rope_scaling": {**LLAMA3, "low_freq_factor": 8}}, "expected the low one below the high one"),
    ({"use_sliding_window": True, "sliding_window": 4096}, r"use_sliding_window True.*4096 tokens.*to false"),
    ({"layer_types": ["sliding_attention", "full_attention"]}, r"\['sliding_attention'\]"),
    ({"partial_rotary_factor": 0.5}, "partial_rotary_factor 0.5"),
    ({"model_type": "qwen3"}, r"config.json: found model_type 'qwen3', expected one of \('llama', 'qwen2'\)"),
    ({"model_type": "mistral"}, "found model_type 'mistral'"),
    ({"model_type": "llama", "rope_scaling": LLAMA3}, "these weights do not fit.*unexpected: .*q_proj.bias"),
    ({"head_dim": 7}, "head_width: found 7, expected an even width"),
    ({"num_attention_heads": 0}, "config.json"),
    ({"hidden_size": None}, "config.json"),
])  # fmt: skip
def test_what_this_decoder_does_not_do_is_refused_in_words(tmp_path, change, message):
    make_theirs("qwen2").save_pretrained(tmp_path)
    as_transformers_4_wrote_it(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    write_json(tmp_path / "config.json", {**config, **change})
    with pytest.raises(WeightsError, match="(?s)" + message):
        load_language(tmp_path)


def test_a_pickled_checkpoint_of_another_model_is_not_taken_for_minimind2(tmp_path):
    theirs = make_theirs("llama")
    torch.save(theirs.state_dict(), tmp_path / "pytorch_model.bin")
    write_json(tmp_path / "config.json", {**theirs.config.to_dict(), "model_type": "mistral"})
    with pytest.raises(WeightsError, match="found model_type 'mistral'"):
        load_language(tmp_path)


def test_a_folder_without_a_config_is_refused(tmp_path):
    make_theirs("qwen2").save_pretrained(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(WeightsError, match=r"expected config.json and model.safetensors of a language model"):
        load_language(tmp_path)
