"""Weights that are split over several files are read as one, and a set that is not whole is refused in words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from model.checkpoints import load_language, save_vlm
from model.checkpoints.files import WeightsError, find_weights, read_tensors
from model.config import LMConfig, VLMConfig
from model.vlm import VLM

TENSORS = {f"layers.{n}.weight": torch.full((2, 3), float(n)) for n in range(5)}


def write_shards(folder: Path, tensors: dict, form: str = "safetensors", count: int = 2) -> Path:
    """`tensors` dealt out to `count` files under Hugging Face's names; returns the index."""
    stem = {"safetensors": "model", "bin": "pytorch_model"}[form]
    names = [f"{stem}-{n + 1:05d}-of-{count:05d}.{form}" for n in range(count)]
    places = {name: names[i % count] for i, name in enumerate(tensors)}
    for file in names:
        here = {name: tensors[name].clone() for name, place in places.items() if place == file}
        if form == "safetensors":
            save_file(here, folder / file, {"format": "pt"})
        else:
            torch.save(here, folder / file)
    index = folder / f"{stem}.{form}.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}))
    return index


@pytest.mark.parametrize("form", ["safetensors", "bin"])
def test_shards_are_read_as_one(tmp_path, form):
    index = write_shards(tmp_path, TENSORS, form)
    read = read_tensors(find_weights(tmp_path))
    assert find_weights(tmp_path) == index and read.keys() == TENSORS.keys()
    assert all(torch.equal(read[name], TENSORS[name]) for name in TENSORS)


def test_only_the_shards_that_hold_something_wanted_are_opened(tmp_path):
    index = write_shards(tmp_path, TENSORS)
    (tmp_path / "model-00002-of-00002.safetensors").unlink()  # holds layers 1 and 3
    assert set(read_tensors(index, lambda name: "0" in name or "4" in name)) == {"layers.0.weight", "layers.4.weight"}
    with pytest.raises(WeightsError, match="names model-00002-of-00002.safetensors, which are not in .*all 2 shards"):
        read_tensors(find_weights(tmp_path))


def test_one_whole_file_comes_before_shards_and_safetensors_before_pickles(tmp_path):
    for form in ("bin", "safetensors"):
        index = write_shards(tmp_path, TENSORS, form)
        assert find_weights(tmp_path) == index
    save_file(TENSORS, tmp_path / "model.safetensors")
    assert find_weights(tmp_path).name == "model.safetensors"


def test_a_language_model_in_shards_is_the_same_model(tmp_path):
    vlm = VLM(VLMConfig(LMConfig(32, 2, 8, 2, 48, 60)))
    save_vlm(tmp_path, vlm)
    write_shards(tmp_path, read_tensors(find_weights(tmp_path)), count=3)
    (tmp_path / "model.safetensors").unlink()
    loaded = load_language(tmp_path).state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in vlm.llm.state_dict().items())


def test_a_torn_shard_is_named(tmp_path):
    write_shards(tmp_path, TENSORS)
    shard = tmp_path / "model-00002-of-00002.safetensors"
    shard.write_bytes(shard.read_bytes()[:-3])
    with pytest.raises(WeightsError, match="model-00002-of-00002.safetensors: found .* bytes that cannot be read"):
        read_tensors(find_weights(tmp_path))


@pytest.mark.parametrize(
    "change, message",
    [
        ({"layers.9.weight": "model-00001-of-00002.safetensors"}, "lists layers.9.weight, which the files"),
        ({"layers.0.weight": "../secret.safetensors"}, r"names ../secret.safetensors, not files in"),
        ({"layers.0.weight": "model.safetensors.index.json"}, "names model.safetensors.index.json, not files in"),
        ({"layers.0.weight": "model-00002-of-00002.safetensors"}, "lists layers.0.weight, which the files"),
        ({"layers.0.weight": 3}, "found no weight_map"),
    ],
)
def test_an_index_that_does_not_fit_its_shards_is_refused(tmp_path, change, message):
    index = write_shards(tmp_path, TENSORS)
    document = json.loads(index.read_text())
    document["weight_map"] |= change
    index.write_text(json.dumps(document))
    with pytest.raises(WeightsError, match=message):
        read_tensors(find_weights(tmp_path))


def test_a_folder_without_weights_says_what_is_there(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(WeightsError, match=r"found \['notes.txt'\], expected one of model.safetensors"):
        read_tensors(find_weights(tmp_path))
    with pytest.raises(WeightsError, match="no such folder"):
        read_tensors(find_weights(tmp_path / "nowhere"))
