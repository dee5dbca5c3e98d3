"""A projector that learns to name the cells of scenes, without the language model being run."""

from __future__ import annotations

import pytest
import torch

from dataset.batching import pixel_loader
from dataset.picturebook.words import word_loader
from dataset.picturebook.world import make_scene
from engine.build import Encoder, get_encoder, join
from engine.cells import name_cells
from model.config import LMConfig, ProjectorConfig
from model.language import LanguageModel
from model.projector import build_projector
from tokenizer.tokenizer import default_folder, load_tokenizer

TOKENIZER = load_tokenizer(default_folder())
SCENES = [make_scene("train", i) for i in range(40)]


def model_of(projector: str = "ldp"):
    torch.manual_seed(0)
    config = LMConfig(hidden_size=64, num_hidden_layers=1, num_attention_heads=1, num_key_value_heads=1,
                      intermediate_size=64, vocab_size=TOKENIZER.vocab_size)  # fmt: skip
    encoder = get_encoder("")
    return join(LanguageModel(config), encoder, projector), encoder


def loader(encoder: Encoder):
    """Features of SCENES, each computed once."""
    pixels = pixel_loader(encoder.spec)(SCENES)["pixels"]
    with torch.no_grad():
        features = encoder.module(pixels)
    place = {scene: i for i, scene in enumerate(SCENES)}
    return lambda pictures: {"features": features[[place[picture] for picture in pictures]]}


def test_the_projector_learns_what_lies_in_each_cell_and_nothing_else_changes():
    model, encoder = model_of()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    load, words = loader(encoder), word_loader(TOKENIZER)
    first = name_cells(model, SCENES, load, words, 1, 3e-3, 0, torch.device("cpu"))
    last = name_cells(model, SCENES, load, words, 120, 3e-3, 0, torch.device("cpu"))
    assert last < 0.6 * first
    changed = {name for name, weight in model.state_dict().items() if not torch.equal(weight, before[name])}
    assert changed and all(name.startswith("projector.") for name in changed)
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("kind", ["linear", "mlp", "ldp"])
def test_a_projectors_output_can_be_scaled(kind):
    projector = build_projector(ProjectorConfig(kind, 32, 48))
    features = torch.randn(2, 16, 32, generator=torch.Generator().manual_seed(0))
    before = projector(features)
    projector.scale_output(torch.tensor(0.05))
    torch.testing.assert_close(projector(features), 0.05 * before)


def test_a_seed_repeats():
    made = []
    for _ in range(2):
        model, encoder = model_of()
        name_cells(model, SCENES, loader(encoder), word_loader(TOKENIZER), 3, 3e-3, 7, torch.device("cpu"))
        made.append(model.projector.state_dict())
    assert all(torch.equal(made[0][name], made[1][name]) for name in made[0])
