from __future__ import annotations

import errno
import io
import os
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dataset import features
from dataset.bad_rows import BadImage, BadRows
from dataset.batching import collate
from dataset.features import FeatureCache
from dataset.pictures import load_pixels
from dataset.preprocess import PreprocessSpec
from dataset.record import Example

SPEC = PreprocessSpec.square(8)
WEIGHTS = torch.randn(3 * 16, 5, generator=torch.Generator().manual_seed(0))


def encode(pixels: torch.Tensor) -> torch.Tensor:
    """4 patches of 4×4 pixels, 5 wide."""
    patches = torch.nn.functional.unfold(pixels, 4, stride=4).transpose(1, 2)  # (P, 4, 48)
    return patches @ WEIGHTS


def picture(number: int) -> bytes:
    colours = np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(colours).save(file, "PNG")
    return file.getvalue()


PICTURES = [picture(number) for number in range(300)]


class Counting:
    """The encoder, noting how many pictures were given at a time; kills or breaks off where it is told."""

    def __init__(self, stop_at: int = 10**9, error: BaseException | None = None):
        self.calls: list[int] = []
        self.stop_at, self.error = stop_at, error

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        if len(self.calls) == self.stop_at:
            raise self.error or KeyboardInterrupt
        self.calls.append(len(pixels))
        return encode(pixels)


def open_cache(folder: Path, run=encode, encoder: str = "e", **options) -> FeatureCache:
    return FeatureCache(folder, encoder, SPEC, run, **options)


def test_features_are_the_encoders_to_half_precision_in_any_order(tmp_path):
    cache = open_cache(tmp_path)
    assert cache.ensure(PICTURES, total=300)
    order = np.random.default_rng(0).permutation(300)[:40]
    got = cache.load([PICTURES[i] for i in order])["features"]
    expected = encode(torch.from_numpy(load_pixels([PICTURES[i] for i in order], SPEC)))
    assert got.dtype == torch.float32 and got.shape == (40, 4, 5)
    assert (got - expected.half().float()).abs().max() < 0.02


def test_features_in_another_memory_layout_are_kept_alike(tmp_path):
    turned = open_cache(tmp_path / "a", lambda pixels: encode(pixels).transpose(1, 2).contiguous().transpose(1, 2))
    plain = open_cache(tmp_path / "b")
    assert turned.ensure(PICTURES[:10]) and plain.ensure(PICTURES[:10])
    assert torch.equal(turned.load(PICTURES[:10])["features"], plain.load(PICTURES[:10])["features"])
    assert len({path.read_bytes() for path in tmp_path.rglob("*.npy")}) == 1


def test_nothing_is_computed_twice(tmp_path):
    first = Counting()
    open_cache(tmp_path, first).ensure([*PICTURES, *PICTURES[:50]])
    assert sum(first.calls) == 300 and max(first.calls) == 64
    again = Counting()
    cache = open_cache(tmp_path, again)
    assert cache.ensure(PICTURES) and again.calls == [] and len(cache) == 300
    assert torch.equal(cache.load(PICTURES[7:9])["features"], open_cache(tmp_path).load(PICTURES[7:9])["features"])


def test_files_and_bytes_of_one_picture_share_features(tmp_path):
    (tmp_path / "7.png").write_bytes(PICTURES[7])
    cache = open_cache(tmp_path / "cache")
    cache.ensure(PICTURES[:10])
    assert torch.equal(cache.load([tmp_path / "7.png"])["features"], cache.load([PICTURES[7]])["features"])


def test_another_encoder_or_preprocessing_gets_features_of_its_own(tmp_path):
    open_cache(tmp_path).ensure(PICTURES[:10])
    assert len(open_cache(tmp_path, encoder="other")) == 0
    assert len(FeatureCache(tmp_path, "e", PreprocessSpec.square(12), encode)) == 0
    assert len(open_cache(tmp_path)) == 10


@pytest.mark.parametrize("stop_at", [0, 1, 3, 4])
def test_going_on_after_an_interruption_gives_an_unbroken_runs_features(tmp_path, stop_at, monkeypatch):
    monkeypatch.setattr(features, "SHARD_BYTES", 100 * 4 * 5 * 2)  # two chunks to a shard
    whole = open_cache(tmp_path / "whole")
    whole.ensure(PICTURES)
    broken = open_cache(tmp_path / "broken", Counting(stop_at))
    with pytest.raises(KeyboardInterrupt):
        broken.ensure(PICTURES)
    rest = Counting()
    resumed = open_cache(tmp_path / "broken", rest)
    assert resumed.ensure(PICTURES) and len(rest.calls) == 5 - stop_at // 2 * 2
    assert torch.equal(resumed.load(PICTURES)["features"], whole.load(PICTURES)["features"])
    assert {p.name for p in (tmp_path / "broken").rglob("*")} == {p.name for p in (tmp_path / "whole").rglob("*")}


KILLED = """
import sys, time
from pathlib import Path
sys.path.insert(0, "tests/dataset")
from dataset import features
import test_features as t
features.SHARD_BYTES, features.CHUNK = 64, 4
t.open_cache(Path(sys.argv[1]), lambda pixels: (time.sleep(0.005), t.encode(pixels))[1]).ensure(t.PICTURES[:120])
"""


def test_a_killed_run_leaves_only_whole_features(tmp_path, monkeypatch):
    monkeypatch.setattr(features, "CHUNK", 4)
    monkeypatch.setattr(features, "SHARD_BYTES", 64)
    run = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path / "killed")], cwd=Path(__file__).parents[2])
    deadline = time.monotonic() + 60
    while len(list(tmp_path.rglob("*.json"))) < 5 and run.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    os.kill(run.pid, signal.SIGTERM if os.name == "nt" else signal.SIGKILL)
    run.wait()
    resumed, whole = open_cache(tmp_path / "killed"), open_cache(tmp_path / "whole")
    assert len(resumed) >= 20
    assert resumed.ensure(PICTURES[:120]) and whole.ensure(PICTURES[:120])
    assert torch.equal(resumed.load(PICTURES[:120])["features"], whole.load(PICTURES[:120])["features"])


@pytest.mark.parametrize("damage", ["no keys", "no features", "cut features", "cut keys", "empty", "zeros", "text"])
def test_a_torn_shard_is_computed_again_and_never_read(tmp_path, damage):
    cache = open_cache(tmp_path)
    cache.ensure(PICTURES[:10])
    expected = cache.load(PICTURES[:10])["features"]
    keys, array = next(tmp_path.rglob("*.json")), next(tmp_path.rglob("*.npy"))
    content = array.read_bytes()
    {
        "no keys": keys.unlink,
        "no features": array.unlink,
        "cut features": lambda: array.write_bytes(content[:-8]),
        "cut keys": lambda: keys.write_bytes(keys.read_bytes()[:-20]),
        "empty": lambda: array.write_bytes(b""),
        "zeros": lambda: array.write_bytes(bytes(len(content))),
        "text": lambda: keys.write_text('{"not": "keys"}'),
    }[damage]()
    again = open_cache(tmp_path)
    assert len(again) == 0
    assert again.ensure(PICTURES[:10]) and torch.equal(again.load(PICTURES[:10])["features"], expected)


def test_features_that_went_bad_on_the_disk_are_found_and_computed_again(tmp_path):
    cache = open_cache(tmp_path)
    cache.ensure(PICTURES[:10])
    expected = cache.load(PICTURES[:10])["features"]
    array = next(tmp_path.rglob("*.npy"))
    whole = array.read_bytes()
    content = bytearray(whole)
    content[-3] ^= 1  # of the last picture's
    array.write_bytes(content)
    for once in (True, False):  # what was computed again is kept
        again = open_cache(tmp_path)
        assert len(again) == 10
        with pytest.warns(UserWarning, match="features of 1 pictures are damaged") if once else nullcontext():
            assert again.ensure(PICTURES[:10])
        assert torch.equal(again.load(PICTURES[:10])["features"], expected) and array.read_bytes() == whole


def test_what_is_computed_again_is_what_it_was_bit_for_bit(tmp_path):
    """By an encoder whose rounding depends on how many pictures it gets, and on a picture's place among them."""

    def rounded(pixels: torch.Tensor) -> torch.Tensor:
        return encode(pixels) * (1 + len(pixels) / 64 + torch.arange(len(pixels))[:, None, None] / 128)

    cache = open_cache(tmp_path, rounded)
    cache.ensure([PICTURES[0], *PICTURES[:150]])  # the first batch is one smaller
    cache.ensure(PICTURES[140:170])  # as a later stage does
    expected = cache.load(PICTURES[:170])["features"]
    for array in tmp_path.rglob("*.npy"):
        content = bytearray(array.read_bytes())
        content[-400:] = bytes(400)  # of the last ten pictures
        content[-600] ^= 1
        array.write_bytes(content)
    again = open_cache(tmp_path, rounded)
    with pytest.warns(UserWarning, match="features of 22 pictures are damaged"):
        assert again.ensure(reversed(PICTURES[:170]))
    assert torch.equal(again.load(PICTURES[:170])["features"], expected)


def test_left_overs_of_a_killed_run_are_cleared_away_and_those_of_a_run_beside_are_not(tmp_path):
    folder = open_cache(tmp_path).folder
    for name in ("old", "new"):
        (folder / f"{name}.partial").write_bytes(b"x")
    os.utime(folder / "old.partial", (0, 0))
    open_cache(tmp_path)
    assert [path.name for path in folder.glob("*.partial")] == ["new.partial"]


def test_a_limit_is_kept_and_said_before_work_is_lost(tmp_path):
    room = 200 * 4 * 5 * 2 / 1e9  # 200 pictures
    early = Counting()
    assert not open_cache(tmp_path / "a", early, limit_gb=room).ensure(PICTURES, total=300)
    assert len(early.calls) == 1
    late = Counting()
    assert not open_cache(tmp_path / "b", late, limit_gb=room).ensure(PICTURES)
    assert len(late.calls) == 4
    assert open_cache(tmp_path / "c", limit_gb=1).ensure(PICTURES, total=300)


def test_room_is_made_by_dropping_the_longest_unused_encoders_features(tmp_path):
    for age, name in ((100, "oldest"), (50, "older")):
        cache = open_cache(tmp_path, encoder=name)
        cache.ensure(PICTURES)
        os.utime(cache.folder, (time.time() - age,) * 2)
    size = features._size(tmp_path) / 2
    assert open_cache(tmp_path, encoder="new", limit_gb=2.2 * size / 1e9).ensure(PICTURES, total=300)
    kept = {name: len(open_cache(tmp_path, encoder=name)) for name in ("oldest", "older", "new")}
    assert kept == {"oldest": 0, "older": 300, "new": 300}


def test_a_full_disk_ends_the_caching_and_spoils_nothing(tmp_path, monkeypatch):
    open_cache(tmp_path).ensure(PICTURES[:64])

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert not open_cache(tmp_path).ensure(PICTURES)
    assert len(open_cache(tmp_path)) == 64 and not list(tmp_path.rglob("*.partial"))


def test_a_picture_that_cannot_be_read_is_named_when_it_is_asked_for(tmp_path):
    broken, absent = PICTURES[1][:60], tmp_path / "absent.png"
    cache = open_cache(tmp_path / "cache")
    assert cache.ensure([PICTURES[0], broken, absent, PICTURES[2]], total=4) and len(cache) == 2
    with pytest.raises(BadImage, match="damaged"):
        cache.load([PICTURES[0], broken])
    with pytest.raises(BadImage, match="missing"):
        cache.load([absent])
    with pytest.raises(BadImage, match="image is not the one that was encoded"):
        cache.load([PICTURES[9]])

    bad = BadRows(1.0)
    bad.seen(3)
    ids, mask = np.arange(4, dtype=np.int32), np.ones(4, bool)
    examples = [Example(ids, ids, mask, (p,), str(i)) for i, p in enumerate((PICTURES[0], broken, PICTURES[2]))]
    batch = collate(examples, 0, cache.load, bad)
    assert batch.example_ids == ("0", "2") and batch.features.shape == (2, 4, 5) and bad.bad == 1


@pytest.mark.parametrize("wrong", [lambda f: f * float("nan"), lambda f: f * 1e9, lambda f: f[:1], lambda f: f[:, 0]])
def test_features_that_cannot_be_kept_are_an_error_and_not_kept(tmp_path, wrong):
    with pytest.raises(ValueError, match=r"expected \(10, N, Dv\)|too large for the cache.*--cache_gb 0"):
        open_cache(tmp_path, lambda pixels: wrong(encode(pixels))).ensure(PICTURES[:10])
    assert len(open_cache(tmp_path)) == 0


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_features_do_not_depend_on_the_number_of_workers(tmp_path, workers):
    told = []
    cache, alone = open_cache(tmp_path / "a"), open_cache(tmp_path / "b")
    cache.ensure(iter([*PICTURES, *PICTURES[:50]]), workers=workers, progress=told.append)
    alone.ensure(PICTURES, workers=0)
    assert torch.equal(cache.load(PICTURES)["features"], alone.load(PICTURES)["features"]) and sum(told) == 300
