from __future__ import annotations

import copy
import pickle

import torch

from dataset.record import IGNORE, IMAGE, Batch, Record, Turn, turn_from_text, with_prompt


def test_image_tags_of_a_data_set_become_slots_in_reading_order():
    assert turn_from_text("user", "<image>\nwhat?").parts == (IMAGE, "\nwhat?")
    assert turn_from_text("user", "what?\n<image>").parts == ("what?\n", IMAGE)
    assert turn_from_text("user", "a<image><image>b").parts == ("a", IMAGE, IMAGE, "b")
    assert turn_from_text("user", "<image>").parts == (IMAGE,)
    assert turn_from_text("user", "").parts == ()


def test_a_turn_shows_its_text_as_the_data_set_wrote_it():
    text = "看<image>\n和<image>"
    assert turn_from_text("user", text).text == text
    assert turn_from_text("user", text).image_count == 2


def test_another_prompt_keeps_the_pictures_and_the_turns_before():
    turns = (Turn("user", (IMAGE, "\nfirst?")), Turn("assistant", ("yes",)), Turn("user", ("what?", IMAGE)))
    changed = with_prompt(Record("1", (b"", b""), turns), "where?")
    assert changed.turns[:2] == turns[:2] and changed.turns[2].parts == (IMAGE, "\nwhere?")
    assert with_prompt(Record("1", (), (Turn("user", ("what?",)),)), "where?").turns[0].parts == ("where?",)


def test_typed_text_that_looks_like_a_tag_is_not_a_slot():
    assert Turn("user", ("<image>",)).image_count == 0


def test_the_slot_stays_one_object_through_pickle_and_copy():
    assert pickle.loads(pickle.dumps(IMAGE)) is IMAGE
    assert copy.deepcopy(IMAGE) is IMAGE


def test_batch_counts_real_and_supervised_tokens_and_moves_every_tensor():
    batch = Batch(
        ids=torch.tensor([[5, 6, 7], [8, 0, 0]]),
        labels=torch.tensor([[IGNORE, 6, 7], [8, IGNORE, IGNORE]]),
        attention_mask=torch.tensor([[True, True, True], [True, False, False]]),
        image_mask=torch.zeros(2, 3, dtype=torch.bool),
        pixels=torch.zeros(1, 3, 2, 2),
    )
    assert (batch.tokens, batch.supervised_tokens) == (4, 3)
    moved = batch.to("meta")
    assert moved.ids.device.type == moved.pixels.device.type == "meta"
    assert moved.features is None and moved.words is None
