"""What the embedded encoder learns from: captions, the picture's words, the words of each cell."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import torch.nn.functional as F

from dataset.picturebook.facts import KINDS
from dataset.picturebook.words import GRID, word_loader
from dataset.picturebook.world import make_scene
from dataset.record import IGNORE, Batch
from model.captioner import Captioner, dropped, matching_loss, pool, word_loss
from model.config import VisionConfig
from tokenizer.tokenizer import default_folder, load_tokenizer

TINY = VisionConfig(hidden_size=64, intermediate_size=128, num_hidden_layers=1, num_attention_heads=1, image_size=32,
                    patch_size=4, hidden_act="gelu", class_token=False, pre_norm=False, post_norm="applied",
                    stem="conv")  # fmt: skip
VOCABULARY = 50


def batch_of(words: torch.Tensor | None) -> Batch:
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(0, VOCABULARY, (2, 20), generator=generator)
    image_mask = torch.arange(20).repeat(2, 1) < 16
    labels = ids.masked_fill(image_mask, IGNORE)
    pixels = torch.randn(2, 3, 32, 32, generator=generator)
    return Batch(ids, labels, torch.ones_like(image_mask), image_mask, pixels=pixels, words=words)


@pytest.fixture(scope="module")
def captioner() -> Captioner:
    torch.manual_seed(0)
    return Captioner(TINY, VOCABULARY)


def test_a_cell_is_the_mean_of_the_patches_that_lie_in_it():
    features = torch.arange(16.0).view(1, 16, 1)  # a square of 4x4 patches
    assert pool(features, 4).flatten().tolist() == [2.5, 4.5, 10.5, 12.5]


def test_a_set_of_words_costs_the_mean_of_their_surprisals_and_what_is_negative_is_no_word():
    logits = torch.tensor([[2.0, 0.0, 1.0], [0.5, 0.0, 0.0]])
    labels = torch.tensor([[0, 2, 2, IGNORE], [1, -1, -1, -1]])
    by_hand = torch.stack([-(F.log_softmax(logits[0], 0)[[0, 2]]).mean(), -F.log_softmax(logits[1], 0)[1]]).mean()
    torch.testing.assert_close(word_loss(logits, labels), by_hand)


def test_the_words_of_the_cells_are_added_to_the_loss(captioner):
    words = torch.randint(0, VOCABULARY, (2, 16, 3), generator=torch.Generator().manual_seed(2))
    without, count = captioner.loss(batch_of(None))
    with_cells, same = captioner.loss(batch_of(words))
    features = captioner.vision(batch_of(None).pixels)
    cells = word_loss(captioner.words(pool(features, 16)).flatten(0, 1), words.flatten(0, 1))
    assert count == same == 8
    torch.testing.assert_close(with_cells - without, cells * count)


def test_the_words_of_a_cell_reach_the_patches_in_it_first(captioner):
    """The gradient of one cell's words with respect to the last layer's features is nought outside of that cell."""
    features = torch.randn(1, 64, TINY.hidden_size, requires_grad=True)
    F.cross_entropy(captioner.words(pool(features, 16))[:, 5], torch.tensor([3])).backward()
    touched = features.grad.abs().sum(-1).view(8, 8) > 0
    expected = torch.zeros(8, 8, dtype=torch.bool)
    expected[2:4, 2:4] = True  # cell 5 of a 4x4 raster is in row 1, column 1
    assert torch.equal(touched, expected)


def test_the_words_of_a_scene_name_each_of_its_things_in_some_cell():
    tokenizer = load_tokenizer(default_folder())
    scenes = [make_scene("train", i) for i in range(50)]
    words = word_loader(tokenizer)(scenes)["words"]  # (50, 16, W)
    assert words.shape[:2] == (50, GRID * GRID)
    missed = total = 0
    for scene, cells in zip(scenes, words, strict=True):
        named = set(cells.flatten().tolist())
        for thing in scene.things:
            missed += not set(tokenizer.encode(KINDS[thing.kind].zh)) <= named
            total += 1
    assert missed <= 0.06 * total  # now and then a word is missing on purpose


def repeated(batch: Batch, rows: int) -> Batch:
    """Each row `rows` times, its picture once."""
    texts = {name: getattr(batch, name).repeat_interleave(rows, 0)
             for name in ("ids", "labels", "attention_mask", "image_mask")}  # fmt: skip
    return dataclasses.replace(batch, **texts)


def test_rows_that_share_a_picture_have_the_mean_loss_of_rows_with_a_copy_of_it(captioner):
    once, count = captioner.loss(batch_of(None))
    twice, double = captioner.loss(repeated(batch_of(None), 2))
    assert double == 2 * count
    torch.testing.assert_close(twice / double, once / count)


def test_images_match_their_texts_by_clips_loss_computed_by_hand():
    images = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    texts = torch.tensor([[3.0, 0.0], [1.0, 1.0]])
    half = 0.5**0.5
    similarity = torch.tensor([[1.0, half], [0.0, half]]) / 0.1
    columns = [-similarity[:, i].log_softmax(0)[i] for i in range(2)]
    rows = [-similarity[i].log_softmax(0)[i] for i in range(2)]
    torch.testing.assert_close(matching_loss(images, texts), torch.stack(rows + columns).mean())


def test_matching_reaches_the_encoder_and_the_text_is_the_sum_of_its_words():
    torch.manual_seed(0)
    model = Captioner(TINY, VOCABULARY, match=True)
    labels = torch.tensor([[IGNORE, 3, 5, 5], [7, IGNORE, IGNORE, IGNORE]])
    summed = torch.stack([model.matching.words.weight[[3, 5, 5]].sum(0), model.matching.words.weight[7]])
    torch.testing.assert_close(model.matching.bag(labels), summed)
    batch = batch_of(None)
    plain = Captioner(TINY, VOCABULARY)
    plain.load_state_dict({k: v for k, v in model.state_dict().items() if not k.startswith("matching")})
    (with_it, count), (without, _) = model.loss(batch), plain.loss(batch)
    pooled = model.vision(batch.pixels).mean(1)
    expected = 0.5 * count * matching_loss(model.matching.image(pooled), model.matching.bag(batch.labels))
    torch.testing.assert_close(with_it - without, expected)


def test_dropout_follows_from_the_seed_and_is_for_training_alone(captioner):
    torch.manual_seed(0)
    model = Captioner(TINY, VOCABULARY, dropout=0.3)
    model.load_state_dict(captioner.state_dict())  # dropout has no weights
    assert captioner.loss(batch_of(None))[0] == model.eval().loss(batch_of(None))[0]
    model.train()
    found = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        found.append(model.loss(batch_of(None))[0].item())
    assert found[0] == found[1] != found[2]


def test_a_branch_loses_whole_images_and_keeps_its_mean():
    torch.manual_seed(0)
    module, output = torch.nn.Identity(), torch.ones(4000, 2, 3)
    left = dropped(0.0, 0.25, module, (), output)
    whole = left.flatten(1)
    gone = (whole == 0).all(1)
    assert (gone | (whole == 4 / 3).all(1)).all() and abs(gone.float().mean() - 0.25) < 0.03
    assert abs(dropped(0.5, 0.25, module, (), output).mean() - 1) < 0.05
    assert dropped(0.5, 0.25, module.eval(), (), output) is output
