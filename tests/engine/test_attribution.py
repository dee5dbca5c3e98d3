"""Maps of where in its picture a word comes from."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from engine_parts import VISION, small_lm
from PIL import Image
from torch import nn

from dataset.encoding import encode_prompt
from dataset.preprocess import PreprocessSpec
from dataset.record import IMAGE, Ask, Turn
from engine.attribution import GRAY, blanked, word_map
from engine.build import Encoder, Trained
from engine.device import accelerate
from model.config import ProjectorConfig, VLMConfig
from model.vision import VisionTransformer
from model.vlm import VLM
from tokenizer.tokenizer import default_folder, load_tokenizer

TOKENIZER = load_tokenizer(default_folder())
WORD = TOKENIZER.encode("a red dog")
CELL = 6  # row 1, column 2 of the 4 x 4 cells


class OnlyCell(nn.Module):
    """A projector to which all cells but one are the same in every picture."""

    def __init__(self, projector: nn.Module, cell: int):
        super().__init__()
        self.projector = projector
        self.cell = cell

    def forward(self, features):
        seen = torch.zeros_like(features)
        seen[:, self.cell] = features[:, self.cell]
        return self.projector(seen)


def trained(tmp_path, cell: int | None = None) -> Trained:
    """A random model whose encoder mixes no places, which reads one cell alone if it is given."""
    torch.manual_seed(0)
    vision = replace(VISION, stem="patch", patch_bias=True)
    encoder = VisionTransformer(vision)
    nn.init.zeros_(encoder.encoder.layers[0].self_attn.out_proj.weight)
    config = VLMConfig(small_lm(TOKENIZER.vocab_size), vision, ProjectorConfig("linear", 64, 64))
    model = VLM(config, encoder).eval()
    for parameter in model.llm.parameters():
        parameter.data *= 3  # far enough from uniform for the gain to be more than rounding
    if cell is not None:
        model.projector = OnlyCell(model.projector, cell)
    return Trained(tmp_path, model, TOKENIZER, Encoder(encoder, PreprocessSpec.square(32), "", ""))


def ask(tmp_path, image: Image.Image) -> Ask:
    file = tmp_path / "picture.png"
    image.save(file)
    return Ask((Turn("user", (IMAGE, "\nWhat is this?")),), (file,), "1")


def noise() -> Image.Image:
    pixels = torch.randint(0, 256, (32, 32, 3), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    return Image.fromarray(pixels.numpy())


def test_the_map_of_a_model_that_reads_one_cell_is_in_that_cell(tmp_path):
    made = word_map(trained(tmp_path, CELL), ask(tmp_path, noise()), WORD, 1, 3)
    assert made.cells.shape == (1, 4, 4)
    others = made.cells.flatten().clone()
    others[CELL] = 0
    assert others.abs().max() == 0 and made.cells.flatten()[CELL].abs() > 1e-4


def test_only_cells_that_differ_from_a_blanked_picture_have_a_share(tmp_path):
    picture = Image.new("RGB", (32, 32), GRAY)
    picture.paste((200, 30, 90), (16, 8, 24, 16))
    cells = word_map(trained(tmp_path), ask(tmp_path, picture), WORD, 1, 3).cells.flatten()
    assert cells[CELL].abs() > 1e-4 and int(cells.count_nonzero()) == 1


def test_a_blanked_picture_has_a_map_of_zeros(tmp_path):
    made = word_map(trained(tmp_path), ask(tmp_path, Image.new("RGB", (50, 40), GRAY)), WORD, 0, 1)
    assert made.cells.abs().max() == 0 and made.gain == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("fast", ["on", "off"])
def test_the_cells_sum_to_what_the_log_probability_gains_by_the_picture(tmp_path, fast):
    one = trained(tmp_path)
    accelerate(one.model, fast)
    made = word_map(one, ask(tmp_path, noise()), WORD, 1, 3, steps=64)
    assert abs(made.gain) > 1e-3
    assert float(made.cells.sum()) == pytest.approx(made.gain, rel=0.02)


def test_the_log_probabilities_are_those_of_the_model_word_by_word(tmp_path):
    one, asked = trained(tmp_path), ask(tmp_path, noise())
    made = word_map(one, asked, WORD, 1, 3, steps=1)
    prompt = encode_prompt(asked.turns, TOKENIZER, 16, asked.images)
    ids = torch.tensor([[*prompt.ids.tolist(), *WORD]])
    mask = torch.zeros_like(ids, dtype=torch.bool)
    mask[0, : len(prompt.ids)] = torch.from_numpy(prompt.image_mask)
    with torch.no_grad():
        images = one.model.image_embeddings(pixels=blanked(one))
        probabilities = one.model.llm.logits(one.model.llm(one.model.embed(ids, mask, images))).softmax(-1)[0]
    place = len(prompt.ids)
    said = [float(probabilities[place + i - 1, WORD[i]].log()) for i in (1, 2)]
    assert made.blanked == pytest.approx(sum(said), abs=1e-4)


def test_a_word_that_is_not_in_the_answer_is_refused(tmp_path):
    with pytest.raises(ValueError, match="from 2 to 2"):
        word_map(trained(tmp_path), ask(tmp_path, noise()), WORD, 2, 2)
