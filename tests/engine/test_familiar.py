"""Pictures unlike training's: the distance, what a run keeps of it, and what is said of a picture."""

from __future__ import annotations

import io
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from tiny import QUICK, png, write_jsonl

import engine.familiar
import eval_vlm
import train_pretrain
from dataset.batching import pixel_loader
from dataset.picturebook.world import make_scene
from engine import looker
from engine.build import get_encoder
from engine.dataloader import encode_pixels
from engine.familiar import FILE, Familiar, describe, load_familiar, save_familiar
from model.checkpoints import WeightsError, read_tensors
from scoring.page import Shown, write_page


def by_hand() -> Familiar:
    """Of two features: the second counts twice."""
    return Familiar("e", torch.tensor([1.0, 0.0]), torch.tensor([[1.0, 0.0], [0.0, 2.0]]), 2.0, 1.5)


def test_the_distance_is_the_one_computed_by_hand():
    features = torch.tensor([[[1.0, 0.0], [4.0, 4.0]]])  # the mean (2.5, 2), from the centre (1.5, 2), counted (1.5, 4)
    assert by_hand().distances(features).tolist() == pytest.approx([math.sqrt(1.5**2 + 4**2) / 2.0], rel=1e-5)


def test_the_distance_is_mahalanobiss():
    generator = torch.Generator().manual_seed(3)
    features = torch.randn(400, 1, 3, generator=generator) @ torch.tensor([[2.0, 0, 0], [1, 1, 0], [0, 0, 0.5]])
    familiar = describe([features], [features], "e")
    means = features[:, 0].double()
    covariance = means.T.cov(correction=0)
    covariance += 0.01 * covariance.diagonal().mean() * torch.eye(3)
    off = means - means.mean(0)
    expected = (off @ torch.linalg.inv(covariance) * off).sum(1).sqrt()
    torch.testing.assert_close(familiar.distances(features).double() * familiar.usual, expected, rtol=1e-4, atol=1e-4)


def test_distances_do_not_depend_on_the_neighbours():
    features = torch.randn(70, 5, 2, generator=torch.Generator().manual_seed(0))
    together = by_hand().distances(features)
    alone = torch.cat([by_hand().distances(one[None]) for one in features])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)


def test_a_note_is_for_distances_beyond_the_limit():
    familiar = by_hand()
    assert familiar.note(1.5) == "" and familiar.note(0.2) == ""
    assert familiar.note(1.625) == (
        "unlike the pictures it was trained on (distance 1.62, 99.8% of training's within 1.50): "
        "do not trust this description"
    )


@pytest.mark.parametrize("constant", [False, True])
def test_a_description_counts_the_usual_as_one_and_draws_nothing_from_torchs_seed(constant):
    """Also where features do not vary in some direction, and where there are fewer of them than directions."""
    generator = torch.Generator().manual_seed(1)
    make = lambda count, width: torch.randn(count, 3, width, generator=generator)  # noqa: E731
    train, apart = make(40, 200), make(101, 200)
    if constant:
        train[..., 5:], apart[..., 5:] = 1.0, 1.0
    before = torch.get_rng_state()
    familiar = describe(train.split(16), apart.split(16), "e")
    assert torch.equal(before, torch.get_rng_state())
    distances = familiar.distances(apart)
    assert distances.isfinite().all() and float(distances.median()) == pytest.approx(1.0)
    assert int((distances > familiar.limit).sum()) == 1  # the farthest of 101
    assert torch.equal(familiar.whitening, describe(train.split(16), apart.split(16), "e").whitening)


def test_a_description_is_read_as_it_was_written(tmp_path):
    generator = torch.Generator().manual_seed(2)
    features = torch.randn(60, 4, 24, generator=generator)
    made = describe([features[:40]], [features[40:]], "e")
    save_familiar(tmp_path, made)
    read = load_familiar(tmp_path, "e", 24)
    assert torch.equal(made.distances(features), read.distances(features)) and read.limit == made.limit
    assert load_familiar(tmp_path / "none", "e", 24) is None


def test_a_damaged_or_foreign_file_is_named(tmp_path):
    features = torch.randn(60, 4, 24, generator=torch.Generator().manual_seed(2))
    save_familiar(tmp_path, describe([features], [features], "e"))
    whole = (tmp_path / FILE).read_bytes()
    with pytest.raises(WeightsError, match="describes features of the encoder e, not another; delete it"):
        load_familiar(tmp_path, "another", 24)
    with pytest.raises(WeightsError, match=r"found \{.*expected \{.*delete it to go without"):
        load_familiar(tmp_path, "e", 25)
    (tmp_path / FILE).write_bytes(whole[:-100])
    with pytest.raises(WeightsError, match=f"{FILE}: found .* cannot be read as weights"):
        load_familiar(tmp_path, "e", 24)
    engine.familiar.save_safetensors(tmp_path / FILE, {"weight": torch.zeros(2)})
    with pytest.raises(WeightsError, match="no description of training pictures"):
        load_familiar(tmp_path, "e", 24)
    not_finite = {name: torch.full_like(t, torch.nan) for name, t in by_hand_tensors().items()}
    engine.familiar.save_safetensors(
        tmp_path / FILE, not_finite, {"kind": engine.familiar.FORMAT, "encoder": "e"}
    )  # fmt: skip
    with pytest.raises(WeightsError, match="not all finite"):
        load_familiar(tmp_path, "e", 2)


def by_hand_tensors() -> dict[str, torch.Tensor]:
    one = by_hand()
    return {"centre": one.centre, "whitening": one.whitening, "scale": torch.tensor([2.0, 1.5])}


def test_a_new_scene_is_familiar_to_the_shipped_encoder_and_noise_and_blurred_light_are_not():
    encoder = get_encoder("")
    load = pixel_loader(encoder.spec)
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 255, (160, 160, 3), np.uint8))
    light = Image.fromarray(np.clip(rng.normal(120, 400, (160, 160, 3)), 0, 255).astype(np.uint8))
    light = light.filter(ImageFilter.GaussianBlur(6))  # shaded everywhere, as photographs are and drawings are not

    def features(pictures) -> torch.Tensor:
        return encode_pixels(encoder, load(pictures)["pixels"], torch.device("cpu"), torch.float32)

    scenes = [make_scene("train", i) for i in range(700)]
    familiar = describe([features(scenes[:600])], [features(scenes[600:])], encoder.fingerprint)
    new = familiar.distances(features([make_scene("test", i) for i in range(16)]))
    odd = familiar.distances(features([as_bytes(noise), as_bytes(light)]))
    assert float(new.max()) < float(odd.min())
    assert not any(familiar.note(float(d)) for d in new) and all(familiar.note(float(d)) for d in odd)


def as_bytes(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def pretrain(tiny: Path, out: Path, data: Path, *flags) -> Path:
    argv = ["--data", data, "--images", data.parent / "images", "--llm", tiny / "lm", "--vision", tiny / "vision",
            "--out", out, "--steps", 2, "--batch_size", 4, *flags, *QUICK]  # fmt: skip
    train_pretrain.main([str(flag) for flag in argv])
    return out


@pytest.fixture
def few(monkeypatch) -> None:
    """A description is made of few pictures too."""
    monkeypatch.setattr(engine.familiar, "FEWEST", 10)


def test_a_run_keeps_a_description_and_its_weights_are_those_of_a_run_without(tiny, tmp_path, monkeypatch, capsys):
    data = write_jsonl(tmp_path)
    without = pretrain(tiny, tmp_path / "a" / "run", data)
    monkeypatch.setattr(engine.familiar, "FEWEST", 10)
    kept = pretrain(tiny, tmp_path / "b" / "run", data)
    uncached = pretrain(tiny, tmp_path / "c" / "run", data, "--cache_gb", 0)
    assert (kept / FILE).is_file() and not (without / FILE).exists() and not (uncached / FILE).exists()
    one, other = (read_tensors(run / "model.safetensors") for run in (without, kept))
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
    before = read_tensors(kept / FILE)
    (kept / "finished.json").unlink()
    (kept / FILE).unlink()
    pretrain(tiny, kept, data)  # goes on from its last step
    after = read_tensors(kept / FILE)
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)


def test_what_is_unlike_training_is_said_of_in_the_terminal_the_captions_and_the_page(
    tiny, tmp_path, few, capsys, monkeypatch
):
    run = pretrain(tiny, tmp_path / "run", write_jsonl(tmp_path))
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "a.png").write_bytes((tmp_path / "images" / "3.png").read_bytes())  # one of training's
    noise = np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)
    Image.fromarray(noise).save(folder / "b.png")
    (folder / "c.png").write_bytes(b"nothing")
    encoded = []
    monkeypatch.setattr(looker, "encode_pixels", lambda *a, **k: encoded.append(len(a[1])) or encode_pixels(*a, **k))
    capsys.readouterr()
    flags = ["--weights", run, "--max_new_tokens", 2, "--device", "cpu", "--dtype", "float32"]
    evaluate("--images", folder, *flags)
    said = capsys.readouterr().out.splitlines()
    notes = [line for line in said if "unlike the pictures" in line]
    assert len(notes) == 1
    assert said.index("[Image]: b.png") < said.index(notes[0]) < said.index("[Image]: c.png")
    assert "1 of 2 pictures are unlike those the model was trained on" in said
    rows = json.loads((run / "captions_pictures.json").read_text("utf-8"))["captions"]
    assert [row.get("familiar") for row in rows] == [True, False, None]
    assert rows[0]["distance"] < rows[1]["distance"] and "distance" not in rows[2]
    assert (run / "captions_pictures.html").read_text("utf-8").count("unlike the pictures") == 1

    encoded.clear()
    evaluate("--image", folder / "b.png", *flags)
    assert encoded == [1]  # for the answer and the distance together
    typed = ["", "真的吗？", "这是什么？"]
    monkeypatch.setattr("builtins.input", lambda prompt: typed.pop())
    capsys.readouterr()
    encoded.clear()
    evaluate("--image", folder / "b.png", "--chat", *flags)
    assert capsys.readouterr().out.count("unlike the pictures") == 1 and encoded == [1]


def test_of_a_run_without_a_description_nothing_is_said_and_the_captions_are_the_same(tiny, tmp_path, few, capsys):
    run = pretrain(tiny, tmp_path / "run", write_jsonl(tmp_path))
    (tmp_path / "x.png").write_bytes(png((0, 255, 255)))
    older = shutil.copytree(run, tmp_path / "older")
    (older / FILE).unlink()
    captions = []
    for one in (run, older):
        capsys.readouterr()
        evaluate("--image", tmp_path / "x.png", "--weights", one, "--max_new_tokens", 6, "--dtype", "float32")
        captions.append(json.loads((one / "captions_x.json").read_text("utf-8"))["captions"][0])
    assert "unlike" not in capsys.readouterr().out
    assert set(captions[1]) == {"image", "text", "stopped"} and captions[0]["text"] == captions[1]["text"]


def test_a_page_shows_a_note_below_the_text_and_none_where_there_is_none(tmp_path):
    picture = Image.new("RGB", (4, 4))
    write_page(tmp_path / "p.html", [Shown(picture, "one", note="far <off>"), Shown(picture, "two")])
    page = (tmp_path / "p.html").read_text("utf-8")
    assert page.count("⚠") == 1 and page.index(">one<") < page.index("far &lt;off&gt;") < page.index(">two<")


def evaluate(*flags) -> None:
    eval_vlm.main([str(flag) for flag in flags])
