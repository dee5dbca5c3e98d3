from __future__ import annotations

import io
import itertools
import json
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image

from dataset.bad_rows import BadImage, BadRow, BadRows, DataError, TooManyBadRows
from dataset.batching import (
    Examples,
    batch_plan,
    collate,
    endless,
    even_length,
    in_order,
    load_batches,
    padding_share,
    pixel_loader,
)
from dataset.formats.sources import RecordFile
from dataset.preprocess import PreprocessSpec
from dataset.record import IGNORE, Example, Record

LENGTHS = np.random.default_rng(1).integers(5, 300, 1000)
M = 3  # image tokens


def png(value: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (4, 4), (value, value, value)).save(file, "PNG")
    return file.getvalue()


def example(length: int = 6, images: tuple = (), name: str = "e") -> Example:
    ids = np.arange(10, 10 + length, dtype=np.int32)
    mask = np.zeros(length, bool)
    mask[1 : 1 + M * len(images)] = True
    labels = np.where(np.arange(length) >= length - 2, ids, IGNORE).astype(np.int32)
    return Example(ids, labels, mask, images, name)


def values(pictures) -> dict[str, torch.Tensor]:
    """A loader that reads a picture's number; b"bad" cannot be read."""
    if b"bad" in pictures:
        raise BadImage("image is damaged", "bad")
    return {"features": torch.tensor([[[float(picture)]] for picture in pictures])}


@pytest.mark.parametrize("budget", [None, 4096])
def test_a_plan_has_every_example_once_and_follows_from_seed_and_epoch(budget):
    plan = partial(batch_plan, LENGTHS, 16, token_budget=budget)
    flat = np.concatenate(plan(7, 0))
    assert sorted(flat.tolist()) == list(range(1000)) and flat.tolist() != sorted(flat.tolist())
    assert [b.tolist() for b in plan(7, 3)] == [b.tolist() for b in plan(7, 3)]
    for other in (plan(7, 1), plan(8, 0)):
        assert np.concatenate(other).tolist() != flat.tolist()


def test_batches_have_the_size_asked_for_or_keep_to_the_token_budget():
    sizes = sorted(len(b) for b in batch_plan(LENGTHS, 16, 0, 0))
    assert sizes == [8] + [16] * 62
    batches = batch_plan([*LENGTHS, 9000], 16, 0, 0, token_budget=4096)
    cost = [max([*LENGTHS, 9000][i] for i in b) * len(b) for b in batches]
    assert sorted(cost)[-2] <= 4096 and max(cost) == 9000
    assert np.mean(sorted(cost)[:-1]) > 0.8 * 4096


def test_batches_hold_similar_lengths_in_no_order_of_length():
    batches = batch_plan(LENGTHS, 16, 0, 0)
    assert padding_share(batches, LENGTHS) < 0.05
    assert padding_share(np.array_split(np.arange(1000), 62), LENGTHS) > 0.4
    longest = [LENGTHS[b].max() for b in batches]
    assert abs(np.corrcoef(np.arange(len(longest)), longest)[0, 1]) < 0.4


def test_padding_is_the_part_that_is_not_tokens():
    assert padding_share([np.array([0, 1]), np.array([2])], [2, 4, 9]) == pytest.approx(2 / 17)


def test_an_epoch_does_not_pair_the_same_examples_as_the_one_before():
    pairs = [
        {frozenset(p) for b in batch_plan(LENGTHS, 4, 0, e) for p in itertools.combinations(b.tolist(), 2)}
        for e in (0, 1)
    ]
    assert len(pairs[0] & pairs[1]) < 0.1 * len(pairs[0])


@pytest.mark.parametrize("start", [0, 1, 62, 63, 64, 150])
@pytest.mark.parametrize("budget", [None, 4096])
def test_going_on_from_any_step_gives_the_batches_of_an_unbroken_run(start, budget):
    def plan(epoch):
        return batch_plan(LENGTHS, 16, 5, epoch, budget)

    whole = [(k, b.tolist()) for k, b in itertools.islice(endless(plan), 160)]
    rest = [(k, b.tolist()) for k, b in itertools.islice(endless(plan, start), 160 - start)]
    assert rest == whole[start:]


def test_no_batches_and_a_batch_of_none_are_refused():
    with pytest.raises(DataError, match="no batches"):
        next(endless(lambda epoch: batch_plan([], 16, 0, epoch)))
    with pytest.raises(ValueError, match="batch_size 0"):
        batch_plan(LENGTHS, 0, 0, 0)


@pytest.mark.parametrize("left", [False, True])
def test_padding_is_masked_and_unlabelled_on_its_side(left):
    batch = collate([example(6), example(9)], pad_id=0, left=left)
    padding = slice(0, 3) if left else slice(6, 9)
    row = slice(3, 9) if left else slice(0, 6)
    assert batch.ids[0, row].tolist() == list(range(10, 16)) and batch.attention_mask[0, row].all()
    assert not batch.ids[0, padding].any() and not batch.attention_mask[0, padding].any()
    assert (batch.labels[0, padding] == IGNORE).all() and not batch.image_mask[0, padding].any()
    assert (batch.tokens, batch.supervised_tokens) == (15, 4)
    assert batch.ids.dtype == batch.labels.dtype == torch.int64
    assert batch.attention_mask.dtype == batch.image_mask.dtype == torch.bool
    assert batch.pixels is batch.features is batch.words is None


def test_pictures_are_in_reading_order_with_their_positions():
    batch = collate([example(9, (b"1", b"2")), example(5), example(9, (b"3",))], 0, values)
    assert batch.features.flatten().tolist() == [1, 2, 3]
    assert batch.image_mask.sum(1).tolist() == [2 * M, 0, M]


def test_pixels_are_loaded_as_the_encoder_reads_them():
    spec = PreprocessSpec.square(8, mean=(0, 0, 0), std=(1, 1, 1))
    batch = collate([example(9, (png(0), png(255)))], 0, pixel_loader(spec))
    assert batch.pixels.shape == (2, 3, 8, 8) and batch.pixels.dtype == torch.float32
    assert batch.pixels.mean((1, 2, 3)).tolist() == [0, 1]


def test_an_example_whose_picture_cannot_be_read_is_counted_and_left_out():
    bad = BadRows(1.0)
    bad.seen(4)
    examples = [example(9, (b"1",), "a"), example(9, (b"2", b"bad"), "b"), example(7, (), "c")]
    examples.append(example(9, (b"4",), "d"))
    batch = collate(examples, 0, values, bad)
    assert batch.example_ids == ("a", "c", "d") and batch.features.flatten().tolist() == [1, 4]
    assert bad.bad == 1 and "image is damaged: b" in bad.report()
    assert collate(examples[1:2], 0, values, bad) is None and bad.bad == 1
    with pytest.raises(BadImage):
        collate(examples, 0, values)
    with pytest.raises(ValueError, match="pictures but no loader"):
        collate(examples, 0)


def encode(record: Record) -> Example:
    if record.id.endswith("7"):
        raise BadRow("nothing is supervised", "seven")
    return example(5 + int(record.id), record.images, record.id)


def records(count: int = 30) -> list[Record]:
    return [Record(str(i), (str(i).encode(),) if i % 2 else (), ()) for i in range(count)]


def test_examples_know_lengths_and_labels_of_the_usable_rows_only():
    bad = BadRows(1.0)
    examples = Examples(records(), encode, bad)
    assert (len(examples), bad.total, bad.bad) == (27, 30, 3)
    assert examples.lengths.tolist() == [len(examples[i].ids) for i in range(27)]
    assert examples.supervised.tolist() == [2] * 27 and examples.truncated == 0
    assert list(examples.pictures())[:4] == [b"1", b"3", b"5", b"9"]
    with pytest.raises(TooManyBadRows, match="3 of 30.*\n.*nothing is supervised: 7: seven, 17: seven, 27: seven"):
        Examples(records(), encode, BadRows(0.05))
    with pytest.raises(DataError, match="no row can be trained on"):
        Examples([], encode)


def test_bad_rows_of_a_file_and_of_encoding_are_counted_together(tmp_path):
    turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "yes"}]
    lines = [json.dumps({"conversations": turns})] * 4 + ["nonsense"]
    (tmp_path / "d.jsonl").write_text("\n".join(lines))
    bad = BadRows(1.0)
    path = tmp_path / "d.jsonl"
    examples = Examples(RecordFile(path, bad=bad), lambda r: encode(Record(r.id[-1], (), r.turns)), bad)
    assert len(examples) == 4 and bad.total == 5 and "row is not JSON: d.jsonl:5" in bad.report()


def loaded(workers: int, start: int = 0, stop: int = 25) -> list[tuple]:
    bad = BadRows(1.0)
    rows = records()
    rows[3] = Record("3", (b"bad",), ())
    rows[5] = Record("5", (b"bad",), ())
    examples = Examples(rows, encode, bad)
    rows[8] = Record("7", (), ())  # becomes bad once it was checked
    steps = endless(lambda epoch: batch_plan(examples.lengths, 2, 0, epoch), start)
    batches = load_batches(examples, steps, lambda some: collate(some, 0, values, bad), workers)
    result = []
    for step, batch in itertools.takewhile(lambda item: item[0] < stop, batches):
        features = None if batch.features is None else batch.features.flatten().tolist()
        result.append((step, batch.ids.tolist(), batch.labels.tolist(), features))
    assert bad.bad == 6 and "seven, row 8: seven" in bad.report()
    return result


def test_batches_do_not_depend_on_the_number_of_workers_or_on_where_the_run_began():
    alone = loaded(0)
    assert loaded(1) == alone == loaded(4)
    cut = [item for item in alone if item[0] >= 14]
    assert loaded(2, start=14) == cut


def test_a_batch_without_a_readable_picture_is_passed_over():
    examples = Examples([Record("4", (b"bad",), ()), Record("4", (b"1",), ())], encode)
    steps = [(0, np.array([0])), (1, np.array([1])), (2, np.array([0]))]
    bad = BadRows(1.0)
    assert [k for k, _ in load_batches(examples, steps, lambda some: collate(some, 0, values, bad))] == [1]
    hopeless = ((k, np.array([0])) for k in itertools.count())
    with pytest.raises(DataError, match="no batch has a picture"):
        next(load_batches(examples, hopeless, lambda some: collate(some, 0, values, bad)))


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_work_ahead_keeps_order_and_hands_errors_on(workers):
    def invert(x):
        return 1 / x

    assert list(in_order(invert, range(1, 20), workers)) == [1 / x for x in range(1, 20)]
    with pytest.raises(ZeroDivisionError):
        list(in_order(invert, [1, 2, 0, 3], workers))
    taken = itertools.count(1)
    assert next(in_order(invert, taken, workers)) == 1 and next(taken) < 10


def test_lengths_are_rounded_up_by_a_sixteenth_at_most_and_never_beyond_the_longest():
    assert [even_length(n, 10**6) for n in (1, 7, 33, 65, 250, 257, 400)] == [1, 7, 34, 68, 256, 272, 400]
    for length in range(1, 3000):
        found = even_length(length, 10**6)
        assert length <= found <= length * 17 / 16 + 1
        assert even_length(length, length + 1) <= length + 1 and even_length(length, 0) == length
    assert len({even_length(n, 10**6) for n in range(200, 256)}) == 8


def test_a_batch_is_rounded_up_with_padding():
    examples = [example(length) for length in (33, 40)]
    plain, even = collate(examples, 0), collate(examples, 0, longest=100)
    assert plain.ids.shape == (2, 40) and even.ids.shape == (2, 40)
    examples = [example(length) for length in (33, 35)]
    even = collate(examples, 9, longest=100)
    assert even.ids.shape == (2, 36) and (even.ids[:, 35:] == 9).all() and not even.attention_mask[:, 35:].any()
    assert (even.labels[:, 35:] == IGNORE).all()
    assert padding_share([np.array([0, 1])], [33, 35], 100) == pytest.approx(1 - 68 / 72)
