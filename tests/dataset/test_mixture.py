"""--data with several files: how names are read, what an epoch draws from each, and text beside pictures in a batch."""

from __future__ import annotations

import json
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import QUICK, conversation

import train_pretrain
import train_sft
from dataset.bad_rows import BadRows, DataError
from dataset.batching import Examples, collate, pixel_loader
from dataset.encoding import encode_record
from dataset.formats.sources import read_records
from dataset.mixture import Mixture, draw, join, mixture_of, open_sources, read_folders, read_names, share_out
from dataset.record import Example, Record, Turn
from dataset.splits import stage_data
from dataset.views import Changed, Subset, split_off
from engine import loop
from engine.arguments import TrainArguments
from engine.build import get_tokenizer, run_encoder
from engine.checkpoint import Run
from engine.dataloader import Feed
from model.checkpoints import load_vlm
from model.fast.vlm import FastVLM


def write_texts(path: Path, count: int) -> Path:
    rows = [{"conversations": conversation(f"答案{i % 9}。", f"{i} 是什么？" * (i % 9))} for i in range(count)]
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), "utf-8")
    return path


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("a.jsonl", "b.json", "x,y.jsonl", "odd:0.5", "s-00.tar", "s-01.tar"):
        (tmp_path / name).write_text("{}")
    return tmp_path


def named(text: str) -> list[tuple[list[str], float | None]]:
    return [([str(path) for path in source.files], source.weight) for source in read_names(text)]


@pytest.mark.parametrize(
    "text, expected",
    [
        ("a.jsonl", [(["a.jsonl"], None)]),
        ("a.jsonl:0.7,b.json:0.3", [(["a.jsonl"], 0.7), (["b.json"], 0.3)]),
        ("a.jsonl:7, b.json:3e0", [(["a.jsonl"], 7.0), (["b.json"], 3.0)]),
        ("a.jsonl,b.json", [(["a.jsonl"], None), (["b.json"], None)]),
        ("x,y.jsonl", [(["x,y.jsonl"], None)]),
        ("x,y.jsonl:1,a.jsonl:2", [(["x,y.jsonl"], 1.0), (["a.jsonl"], 2.0)]),
        ("odd:0.5", [(["odd:0.5"], None)]),
        ("odd:0.5:2,a.jsonl:1", [(["odd:0.5"], 2.0), (["a.jsonl"], 1.0)]),
        ("C:\\data\\a.jsonl", [(["C:\\data\\a.jsonl"], None)]),
        ("C:\\a.jsonl:0.7,D:\\b.jsonl:0.3", [(["C:\\a.jsonl"], 0.7), (["D:\\b.jsonl"], 0.3)]),
        ("s-*.tar:1,a.jsonl:1", [(["s-00.tar", "s-01.tar"], 1.0), (["a.jsonl"], 1.0)]),
        ("s-{00..01}.tar", [(["s-00.tar", "s-01.tar"], None)]),
        ("gone.jsonl", [(["gone.jsonl"], None)]),
    ],
)
def test_names_and_weights_are_read_and_what_exists_is_meant_as_it_is_written(here, text, expected):
    assert named(text) == expected


@pytest.mark.parametrize(
    "text, message",
    [
        ("a.jsonl:0.7,b.json", "b.json has no weight"),
        ("a.jsonl:0,b.json:1", "not above 0"),
        ("a.jsonl:-1,b.json:1", "not above 0"),
        ("a.jsonl:1,./a.jsonl:2", "given twice"),
    ],
)
def test_weights_that_say_nothing_clear_are_refused(here, text, message):
    with pytest.raises(DataError, match=message):
        read_names(text)


def test_picture_folders_are_one_for_all_or_one_for_each(here):
    for name in ("one", "two", "with, comma"):
        (here / name).mkdir()
    assert read_folders("one", 3) == [Path("one")] * 3 and read_folders("", 2) == [None, None]
    assert read_folders("one,two", 2) == [Path("one"), Path("two")] and read_folders(",two", 2) == [None, Path("two")]
    assert read_folders("with, comma", 2) == [Path("with, comma")] * 2
    with pytest.raises(DataError, match="2 folders for 3 files"):
        read_folders("one,two", 3)
    with pytest.raises(DataError, match="three: no such folder"):
        read_folders("one,three", 2)


@pytest.mark.parametrize("total, shares", [(10, (0.7, 0.3)), (7, (1 / 3, 1 / 3, 1 / 3)), (1, (0.1, 0.9)), (9, (1.0,))])
def test_shares_become_whole_numbers_that_add_up(total, shares):
    counts = share_out(total, shares)
    assert sum(counts) == total and all(abs(c - total * s) < 1 for c, s in zip(counts, shares, strict=True))


def test_an_epoch_draws_each_sources_share_and_no_row_again_before_all_were():
    of = np.repeat([0, 1], [90, 10])
    epochs = [draw(of, (0.25, 0.75), 3, epoch) for epoch in range(6)]
    for rows in epochs:
        assert len(rows) == 100 and (of[rows] == 0).sum() == 25
    drawn = np.concatenate([rows[of[rows] == 0] for rows in epochs])  # 150 of 90: each once or twice
    assert set(Counter(drawn.tolist()).values()) == {1, 2} and len(set(drawn[:90].tolist())) == 90
    small = Counter(epochs[0][of[epochs[0]] == 1].tolist())
    assert set(small.values()) == {7, 8} and len(small) == 10


def test_a_draw_follows_from_seed_and_epoch_alone():
    of = np.repeat([0, 1], [30, 50])
    one = draw(of, (0.5, 0.5), 1, 4)
    assert (one == draw(of, (0.5, 0.5), 1, 4)).all()
    assert (one != draw(of, (0.5, 0.5), 2, 4)).any() and (one != draw(of, (0.5, 0.5), 1, 5)).any()


def records(prefix: str, count: int) -> list[Record]:
    return [Record(f"{prefix}:{i}", (), (Turn("user", ("?",)), Turn("assistant", ("!",)))) for i in range(count)]


def test_the_source_of_a_row_is_known_through_views():
    mixture = Mixture(("a", "b"), (records("a", 4), records("b", 3)), (0.5, 0.5))
    view = Changed(Subset(mixture, np.array([6, 0, 4])), lambda record: record)
    found, of = mixture_of(view)
    assert found is mixture and of.tolist() == [1, 0, 1]
    assert [record.id for record in view] == ["b:2", "a:0", "b:0"]
    assert mixture_of(Mixture(("a", "b"), mixture.datasets, None))[0] is None
    assert mixture_of(split_off(records("a", 5), 2, 0)[0])[0] is None
    with pytest.raises(IndexError):
        mixture[7]


def feed_of(shares: tuple[float, ...] | None, counts=(40, 20)) -> Feed:
    def encode(record: Record) -> Example:
        length = 3 + int(record.id.split(":")[1]) % 5
        ids = np.full(length, ord(record.id[0]), np.int32)
        return Example(ids, ids, np.zeros(length, bool), (), record.id)

    parts = tuple(records(name, count) for name, count in zip("abc", counts, strict=False))
    examples = Examples(Mixture(tuple("abc"[: len(parts)]), parts, shares), encode, BadRows())
    return Feed(examples, 8, 5, 0, None, BadRows())


def test_batches_of_an_epoch_hold_the_shares_and_mix_the_sources():
    feed = feed_of((0.5, 0.5))
    plan = feed.plan(0)
    rows = np.concatenate(plan)
    assert len(rows) == 60 and (rows < 40).sum() == 30
    assert sum(0 < (batch < 40).sum() < len(batch) for batch in plan) > len(plan) / 2
    assert feed.mixing()[1] == "from b: 30 samples an epoch (50.0%), 1.50 times its 20"
    plain = feed_of(None)
    assert sorted(np.concatenate(plain.plan(0)).tolist()) == list(range(60)) and plain.mixing() == []


def test_going_on_from_a_step_gives_what_an_unbroken_run_gets():
    def ids(start: int, count: int) -> list[tuple[str, ...]]:
        steps = feed_of((0.3, 0.7)).steps_from(start, 1)
        return [batch.example_ids for _ in range(count) for batch in next(steps)]

    assert ids(11, 12) == ids(0, 23)[11:]  # over the border of the second epoch


def test_a_source_without_a_usable_row_is_named(tmp_path):
    write_texts(tmp_path / "good.jsonl", 30)
    (tmp_path / "bad.jsonl").write_text('{"conversations": []}\n')
    sources, parts = open_sources(f"{tmp_path}/good.jsonl:1,{tmp_path}/bad.jsonl:1", "", BadRows(1.0))
    encode = lambda r: Example(np.ones(2, np.int32), np.ones(2, np.int32), np.zeros(2, bool), (), r.id)  # noqa: E731
    feed = Feed(Examples(join(sources, parts), encode, BadRows(1.0)), 4, 0, 0, None, BadRows(1.0))
    with pytest.raises(DataError, match=r"bad.jsonl: no row of it can be trained on"):
        feed.plan(0)


def test_rows_of_files_with_one_name_are_told_apart(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_texts(tmp_path / name / "data.jsonl", 2)
    _, parts = open_sources(f"{tmp_path}/a/data.jsonl,{tmp_path}/b/data.jsonl", "", BadRows())
    assert parts[0][0].id != parts[1][0].id


def test_validation_rows_and_samples_come_from_each_file_by_its_share(tmp_path):
    write_texts(tmp_path / "a.jsonl", 4000)
    write_texts(tmp_path / "b.jsonl", 2000)
    stage = TrainArguments(data=f"{tmp_path}/a.jsonl:0.25,{tmp_path}/b.jsonl:0.75", samples=400)
    data = stage_data(stage, "lm", 0)
    assert Counter(r.id.split(":")[0] for r in data.val) == {"a.jsonl": 64, "b.jsonl": 100}  # 192, but a twentieth
    assert Counter(r.id.split(":")[0] for r in data.train) == {"a.jsonl": 100, "b.jsonl": 300}
    assert not {r.id for r in data.val} & {r.id for r in data.train}
    again = stage_data(stage, "lm", 0)
    assert [r.id for r in data.train] == [r.id for r in again.train]


def spy(monkeypatch) -> list[list[bool]]:
    """Of every batch that is trained on, which of its rows have a picture."""
    seen: list[list[bool]] = []
    loss = FastVLM.loss  # commands run it unless told not to

    def watched(self, batch):
        if torch.is_grad_enabled():
            seen.append(batch.image_mask.any(1).tolist())
        return loss(self, batch)

    monkeypatch.setattr(FastVLM, "loss", watched)
    return seen


def run(main, *flags) -> None:
    main([str(flag) for flag in (*flags, *QUICK)])


def test_text_alone_trains_beside_pictures_in_one_batch(tiny, tiny_run, tmp_path, monkeypatch, capsys):
    texts, seen = write_texts(tmp_path / "text.jsonl", 60), spy(monkeypatch)
    data, images = f"{tiny}/data.jsonl:0.6,{texts}:0.4", f"{tiny}/images,{tmp_path}"
    run(train_sft.main, "--data", data, "--images", images, "--from", tiny_run, "--out", tmp_path / "sft",
        "--epochs", 2, "--batch_size", 12)  # fmt: skip
    assert Run(tmp_path / "sft").is_finished()
    rows = [has for batch in seen for has in batch]
    assert len(rows) == 2 * 114 and sum(rows) == 2 * round(114 * 0.6)
    assert sum(any(batch) and not all(batch) for batch in seen) >= len(seen) / 2
    said = capsys.readouterr().out
    assert "from " in said and "68 samples an epoch (59.6%), 1.19 times its 57" in said


def test_a_batch_of_text_and_pictures_has_the_loss_of_its_halves(tiny, tiny_run, tmp_path):
    encoder = run_encoder(tiny_run, "")
    model, tokenizer = load_vlm(tiny_run, encoder.module), get_tokenizer("", tiny_run)
    encode = partial(encode_record, tokenizer=tokenizer, image_tokens=model.image_tokens, max_seq_len=512)
    make = partial(collate, pad_id=tokenizer.pad_id, load=pixel_loader(encoder.spec))
    seen = [encode(r) for r in list(read_records(tiny / "data.jsonl", tiny / "images"))[:3]]
    plain = [encode(r) for r in read_records(write_texts(tmp_path / "t.jsonl", 3))]
    mixed = [example for pair in zip(seen, plain, strict=True) for example in pair]
    with torch.no_grad():
        (both, count), (one, first), (other, second) = (model.loss(make(part)) for part in (mixed, seen, plain))
    assert count == first + second and torch.allclose(both, one + other, rtol=1e-5)


def test_aligning_on_batches_without_a_picture_goes_on(tiny, tmp_path):
    """A projector learns nothing from text, and a batch of it must not end the run."""
    texts = write_texts(tmp_path / "text.jsonl", 40)
    data = f"{tiny}/data.jsonl:0.5,{texts}:0.5"
    run(train_pretrain.main, "--data", data, "--images", f"{tiny}/images,", "--llm", tiny / "lm", "--vision",
        tiny / "vision", "--out", tmp_path / "p", "--steps", 12, "--batch_size", 2)  # fmt: skip
    assert Run(tmp_path / "p").is_finished()


def test_an_interrupted_run_on_a_mixture_ends_as_an_unbroken_one(tiny, tiny_run, tmp_path, monkeypatch):
    texts = write_texts(tmp_path / "text.jsonl", 60)
    flags = ["--data", f"{tiny}/data.jsonl:3,{texts}:1", "--images", f"{tiny}/images,{tmp_path}", "--from", tiny_run,
             "--steps", 8, "--batch_size", 16, "--save_interval", 3]  # fmt: skip
    run(train_sft.main, *flags, "--out", tmp_path / "whole")
    take_step = loop.take_step
    monkeypatch.setattr(loop, "take_step", lambda o, p, step: 1 / 0 if step == 5 else take_step(o, p, step))
    with pytest.raises(ZeroDivisionError):
        run(train_sft.main, *flags, "--out", tmp_path / "broken")
    monkeypatch.setattr(loop, "take_step", take_step)
    run(train_sft.main, *flags, "--out", tmp_path / "broken")
    assert (tmp_path / "whole/model.safetensors").read_bytes() == (tmp_path / "broken/model.safetensors").read_bytes()
