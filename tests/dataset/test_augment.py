"""What changes a training batch at each step, and that it follows from seed and step alone."""

from __future__ import annotations

import pytest
import torch

from dataset.augment import CAPTIONS, GRAY, cropped, several_captions, without_colour
from dataset.record import IGNORE, Batch

IMAGE = 2  # id of an image token


def batch_of(pixels: torch.Tensor, words: torch.Tensor | None = None) -> Batch:
    """Rows of two image tokens and the caption 7, 8."""
    ids = torch.tensor([IMAGE, IMAGE, 7, 8]).repeat(len(pixels), 1)
    image_mask = ids == IMAGE
    labels = ids.masked_fill(image_mask, IGNORE)
    return Batch(ids, labels, torch.ones_like(image_mask), image_mask, pixels=pixels, words=words)


def test_a_share_of_the_pictures_loses_its_colour_and_nothing_else_and_a_step_repeats():
    pixels = torch.randn(400, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    batch = batch_of(pixels)
    one, again, other = (without_colour(7, step, batch).pixels for step in (3, 3, 4))
    gray = (one == one[:, :1]).flatten(1).all(1)
    assert abs(gray.float().mean() - GRAY) < 0.08
    assert torch.equal(one[~gray], pixels[~gray]) and torch.equal(one, again) and not torch.equal(one, other)
    red, green, blue = pixels[gray][0, :, 2, 5].tolist()
    assert one[gray][0, 0, 2, 5].item() == pytest.approx(0.299 * red + 0.587 * green + 0.114 * blue, abs=1e-5)


def test_crops_keep_the_shape_and_follow_from_the_step():
    batch = batch_of(torch.rand(6, 3, 16, 16))
    one, again, other = (cropped(1, step, batch).pixels for step in (4, 4, 5))
    assert one.shape == (6, 3, 16, 16) and torch.equal(one, again) and not torch.equal(one, other)


def test_a_flat_picture_stays_flat_but_for_a_gray_square_in_about_half_of_them():
    crops = cropped(1, 4, batch_of(torch.full((200, 3, 32, 32), 5.0))).pixels
    erased = (crops == 0).all(1)
    share = erased.flatten(1).float().mean(1)
    assert 0.4 < (share > 0).float().mean() < 0.6 and share[share > 0].min() > 0 and share.max() < 0.4
    for crop, hole in zip(crops, erased, strict=True):
        rest = crop[:, ~hole]
        assert rest.min() > 0 and rest.max() - rest.min() < 1e-4
        rows, columns = hole.any(1), hole.any(0)
        assert torch.equal(hole, rows[:, None] & columns)


def test_each_picture_gets_rows_of_different_captions_of_its_own():
    # picture 0 has four captions of up to three tokens, picture 1 two
    words = torch.tensor([[[10, 11, 3, 12, 3, -1, 13, 3, -1, 14, 15, 3]], [[20, 3, -1, 21, 3, -1, *[-1] * 6]]])
    own = [{(10, 11, 3), (12, 3), (13, 3), (14, 15, 3)}, {(20, 3), (21, 3)}]
    batch = batch_of(torch.rand(2, 3, 8, 8), words)
    seen: list[set] = [set(), set()]
    for step in range(20):
        made = several_captions(5, step, batch, width=3)
        assert len(made.ids) == 2 * CAPTIONS == 6 and made.pixels is batch.pixels
        assert torch.equal(made.image_mask, (torch.arange(made.ids.shape[1]) < 2).expand(made.ids.shape))
        assert torch.equal(made.attention_mask, made.image_mask | (made.labels != IGNORE))
        assert (made.ids[:, :2] == IMAGE).all() and (made.labels[:, :2] == IGNORE).all()
        told = [tuple(row[row != IGNORE].tolist()) for row in made.labels]
        assert [tuple(ids[2 : 2 + len(text)].tolist()) for ids, text in zip(made.ids, told, strict=True)] == told
        assert len(set(told[:3])) == 3 and sorted(told[3:], key=len)[0] == () and len(set(told[3:])) == 3
        for picture, texts in enumerate((told[:3], told[3:])):
            seen[picture].update(filter(None, texts))
    assert seen == own
    assert torch.equal(several_captions(5, 1, batch, 3).ids, several_captions(5, 1, batch, 3).ids)


def test_masked_words_of_a_caption_are_not_supervised_and_its_end_is():
    """--augment colours masks words that name a colour, the first of a caption too."""
    made = several_captions(5, 1, batch_of(torch.rand(1, 3, 8, 8), torch.tensor([[[-1, 8, -1, 3]]])), width=4)
    assert made.labels[0, 2:].tolist() == [IGNORE, 8, IGNORE, 3]
