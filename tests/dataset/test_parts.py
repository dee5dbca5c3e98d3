"""Curricula of parts: equal steps, about equal supervised tokens, in order, and no scene twice."""

from __future__ import annotations

from functools import partial
from itertools import chain
from types import SimpleNamespace

import numpy as np
import pytest

from dataset.bad_rows import DataError
from dataset.batching import Examples
from dataset.curriculum import PARTS, beginning, curriculum
from dataset.encoding import encode_record
from dataset.record import Record, Turn
from tokenizer.tokenizer import default_folder, load_tokenizer


@pytest.fixture(scope="module")
def encode():
    return partial(encode_record, tokenizer=load_tokenizer(default_folder()), image_tokens=16, max_seq_len=512)


def arguments(names: str, **changes) -> SimpleNamespace:
    given = {"curriculum": names, "steps": 12, "supervised_tokens": 300, "scenes": 500, "english": 0.0, "seed": 1}
    return SimpleNamespace(**{**given, **changes})


def planned(names: str, encode, epoch: int = 0, **changes) -> tuple[Examples, list[np.ndarray]]:
    parts = curriculum(arguments(names, **changes), encode)
    examples = Examples(parts, encode)
    return examples, parts.plan(examples, 1, epoch)


def test_every_step_of_every_part_supervises_about_as_many_tokens(encode):
    examples, plan = planned("short,middle,long,final", encode, supervised_tokens=1500)
    assert len(plan) == 12
    tokens = np.array([examples.supervised[batch].sum() for batch in plan]).reshape(4, 3).mean(1)
    assert (abs(tokens / 1500 - 1) < 0.1).all()


def test_parts_come_in_their_order_and_lengths_grow(encode):
    examples, plan = planned("short,middle,long", encode)
    assert [batch.min() for batch in plan[::4]] == sorted(batch.min() for batch in plan[::4])
    assert sorted(chain.from_iterable(plan)) == list(range(len(examples)))
    short, middle, long = (np.concatenate(plan[k : k + 4]) for k in (0, 4, 8))
    assert max(short) < min(middle) and max(middle) < min(long)
    assert examples.supervised[short].mean() < examples.supervised[middle].mean() < examples.supervised[long].mean()


def test_no_part_sees_the_scenes_of_another(encode):
    parts = curriculum(arguments("short,long", scenes=5000), encode)
    scenes = [parts[i].scene.seed for i in range(len(parts))]
    assert len(set(scenes)) == len(scenes)


def test_epochs_have_the_same_batches_in_another_order_within_each_part(encode):
    examples, first = planned("short,long", encode)
    second = curriculum(arguments("short,long"), encode).plan(examples, 1, 1)
    assert [sorted(batch) for batch in first] != [sorted(batch) for batch in second]
    for part in (slice(0, 6), slice(6, 12)):
        assert sorted(chain.from_iterable(first[part])) == sorted(chain.from_iterable(second[part]))


def test_all_holds_as_many_tokens_of_each_length_as_the_three_one_after_another(encode):
    counts = {}
    for kind in ("phrase", "sentence", "paragraph", "long"):
        (part,) = curriculum(arguments({"phrase": "short", "sentence": "short", "paragraph": "middle"}.get(kind, kind)),
                             encode).parts  # fmt: skip
        counts[kind] = part.supervised
    shares = [sum(PARTS["all"][kind] * counts[kind] for kind in kinds)
              for kinds in (("phrase", "sentence"), ("paragraph",), ("long",))]  # fmt: skip
    assert max(shares) < 1.25 * min(shares)


def test_the_beginning_of_an_answer_is_its_first_sentences():
    turns = (Turn("user", ("说",)), Turn("assistant", ("一。二。三。四。",)))
    assert beginning(Record("1", (), turns), 2).turns[1].text == "一。二。"
    assert beginning(Record("1", (), turns), 9).turns[1].text == "一。二。三。四。"


@pytest.mark.parametrize(("names", "steps", "told"), [("short,wide", 9, "'wide'"), ("short,long", 1, "2 steps")])
def test_an_unknown_part_and_too_few_steps_are_refused(names, steps, told, encode):
    with pytest.raises(DataError, match=told):
        curriculum(arguments(names, steps=steps), encode)
