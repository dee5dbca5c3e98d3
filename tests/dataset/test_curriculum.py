"""The curriculum: answers of growing length, with a share of earlier stages replayed, on any data."""

from __future__ import annotations

import pytest

from dataset.bad_rows import BadRow
from dataset.record import Record, Turn
from dataset.views import BOUNDS, REPLAY, stage_records

SENTENCE = "一二三四五六七八九。"  # 10 characters, counted as tokens


def record(i: int, sentences: int) -> Record:
    return Record(f"d:{i}", (), (Turn("user", ("说",)), Turn("assistant", (SENTENCE * sentences,))))


RECORDS = [record(i, 20) for i in range(2000)]


def answers(stage: int, fit: str = "cut", records=RECORDS, seed: int = 1) -> list[str]:
    return [r.turns[1].text for r in stage_records(records, stage, fit, len, seed)]


def test_bounds_grow_and_the_last_stage_sees_everything():
    assert BOUNDS[1] < BOUNDS[2] and BOUNDS[3] == 0


def test_the_first_stage_cuts_every_answer_to_its_bound():
    assert set(answers(1)) == {SENTENCE * 3}


@pytest.mark.parametrize("stage, own", [(2, SENTENCE * 9), (3, SENTENCE * 20)])
def test_later_stages_show_their_own_length_and_replay_a_share_as_earlier_stages_showed_it(stage, own):
    found = answers(stage)
    assert found.count(own) / len(found) == pytest.approx(1 - REPLAY, abs=0.03)
    replayed = {text for text in found if text != own}
    assert replayed == {SENTENCE * n for n in (3, 9)[: stage - 1]}
    for text in replayed:
        assert found.count(text) / len(found) == pytest.approx(REPLAY / (stage - 1), abs=0.03)


def test_what_is_replayed_follows_from_the_seed_and_the_record_not_from_the_order():
    view = stage_records(RECORDS, 3, "cut", len, seed=1)
    backwards = [view[i].turns[1].text for i in reversed(range(len(view)))][::-1]
    assert backwards == answers(3) != answers(3, seed=2)
    shuffled = RECORDS[1000:] + RECORDS[:1000]
    assert answers(3, records=shuffled) == answers(3)[1000:] + answers(3)[:1000]


def test_no_row_is_lost_by_cutting_and_short_answers_stay_whole():
    mixed = [record(i, 1 + i % 12) for i in range(300)]
    view = stage_records(mixed, 2, "cut", len, seed=1)
    assert [r.id for r in view] == [r.id for r in mixed]
    assert all(after.turns == before.turns for after, before in zip(view, mixed, strict=True)
               if len(before.turns[1].text) <= BOUNDS[1])  # fmt: skip


def test_dropping_keeps_exactly_the_rows_that_fit_whole():
    mixed = [record(i, 1 + i % 12) for i in range(48)]
    assert [r.id for r in stage_records(mixed, 1, "drop", len, 1)] == [f"d:{i}" for i in range(48) if i % 12 < 3]
    assert [r.id for r in stage_records(mixed, 2, "drop", len, 1)] == [f"d:{i}" for i in range(48) if i % 12 < 9]
    assert len(stage_records(mixed, 3, "drop", len, 1)) == 48


def test_a_conversation_is_dropped_for_its_longest_answer():
    later = (Turn("user", ("b",)), Turn("assistant", (SENTENCE * 5,)))
    assert len(stage_records([Record("r", (), record(0, 1).turns + later)], 1, "drop", len, 1)) == 0


def test_a_bad_row_is_left_for_whoever_counts_bad_rows():
    class Broken(list):
        def __getitem__(self, i):
            if i == 1:
                raise BadRow("row has no answer")
            return super().__getitem__(i)

    view = stage_records(Broken([record(0, 1), record(1, 1), record(2, 9)]), 1, "drop", len, 1)
    assert len(view) == 2
    with pytest.raises(BadRow):
        view[1]
