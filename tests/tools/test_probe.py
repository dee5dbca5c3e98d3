"""What can be read of a thing at its noun."""

from __future__ import annotations

import json

import torch

from dataset.picturebook.facts import KINDS
from dataset.picturebook.words import word_loader
from model.checkpoints import save_vlm
from model.config import LMConfig
from model.language import LanguageModel
from model.vlm import VLM, VLMConfig
from tokenizer.tokenizer import default_folder, load_tokenizer
from tools import probe

TOKENIZER = load_tokenizer(default_folder())


def tiny_model() -> VLM:
    config = LMConfig(hidden_size=64, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
                      intermediate_size=64, vocab_size=TOKENIZER.vocab_size)  # fmt: skip
    return VLM(VLMConfig(config), llm=LanguageModel(config, torch.Generator().manual_seed(0))).eval()


def test_a_classifier_reads_what_states_hold_linearly_and_nothing_from_noise():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 3, (300,), generator=generator)
    noise = torch.randn(300, 20, generator=generator)
    held = noise + 4 * torch.eye(3, 20)[labels]
    for states, low, high in ((held, 0.9, 1.0), (noise, 0.0, 0.55)):
        right = probe.accuracy(labels[:200], labels[200:], states[:200], states[200:], 3)
        assert low <= right.float().mean() <= high


def test_a_prompt_ends_with_the_noun_and_what_is_behind_it():
    rows = probe.probed("test", 12, "side")
    for one, made in zip(rows, probe.prompts(TOKENIZER, 16, rows, "在画面的"), strict=True):
        assert TOKENIZER.decode(made.ids.tolist()).endswith(KINDS[one.thing.kind].zh + "在画面的")
        assert made.image_mask.sum() == 16 and one.thing in one.scene.things


def test_the_streams_are_those_that_the_logits_come_from():
    model = tiny_model()
    rows = probe.probed("test", 3, "column")
    streams, logits = probe.Probe(model, TOKENIZER, word_loader(TOKENIZER), 16).at_the_end(rows)
    assert streams.shape == (3, 3, 64)
    with torch.no_grad():
        torch.testing.assert_close(model.llm.logits(model.llm.model.norm(streams[-1])), logits)


def test_a_run_is_probed_by_command_and_its_figures_are_kept(tmp_path, capsys):
    save_vlm(tmp_path / "lm", tiny_model())
    TOKENIZER.save(tmp_path / "lm")
    out = tmp_path / "probe.json"
    probe.main([str(tmp_path / "lm"), "--n", "20", "--json", str(out), "--device", "cpu"])
    kept = json.loads(out.read_text())
    assert len(kept["by_layer"]) == 3 and kept["scored"] == 10
    assert all(0 <= share <= 1 for row in (*kept["by_layer"], kept["teacher_forced"]) for share in row.values())
    assert "after layer 2" in capsys.readouterr().out
