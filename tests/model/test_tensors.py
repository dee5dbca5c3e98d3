from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from model.checkpoints import (
    WeightsError,
    files,
    fingerprint,
    load_language,
    load_vision,
    load_vlm,
    read_tensors,
    save_safetensors,
    save_vlm,
)
from model.config import LMConfig, VLMConfig
from model.language import LanguageModel
from model.vlm import VLM

ROOT = Path(files.__file__).parents[2]
LM = LMConfig(32, 2, 8, 2, 48, 60)


def test_a_truncated_file_gives_a_clear_error(tmp_path):
    save_vlm(tmp_path, VLM(VLMConfig(LM)))
    whole = (tmp_path / "model.safetensors").read_bytes()
    for length in (0, 5, 100, len(whole) // 2, len(whole) - 1):
        (tmp_path / "model.safetensors").write_bytes(whole[:length])
        with pytest.raises(
            WeightsError, match=f"model.safetensors: found {length} bytes that cannot be read"
        ):
            load_vlm(tmp_path)


def test_a_flipped_bit_is_noticed_and_the_tensor_named(tmp_path):
    file = tmp_path / "a.safetensors"
    save_safetensors(file, {"first": torch.arange(4.0), "second": torch.ones(8, dtype=torch.bfloat16)})
    content = bytearray(file.read_bytes())
    content[-1] ^= 1  # of the last tensor
    file.write_bytes(content)
    with pytest.raises(WeightsError, match="a.safetensors: second: the checksum is not that of what was written"):
        read_tensors(file)
    assert torch.equal(read_tensors(file, lambda name: name == "first")["first"], torch.arange(4.0))


def test_equal_content_gives_equal_bytes(tmp_path):
    """safetensors alone writes the keys of its metadata in another order each time."""
    tensors = {name: torch.full((3,), float(number)) for number, name in enumerate("cab")}
    metadata = {"rank": "8", "alpha": "16", "targets": "q_proj", "é": '"'}
    for number in range(6):
        save_safetensors(tmp_path / f"{number}.safetensors", tensors, metadata)
    assert len({(tmp_path / f"{number}.safetensors").read_bytes() for number in range(6)}) == 1
    found = files.read_metadata(tmp_path / "0.safetensors")
    assert {name: found[name] for name in metadata} == metadata and found["format"] == "pt"
    assert torch.equal(read_tensors(tmp_path / "0.safetensors")["a"], tensors["a"])


def test_a_torn_pickle_and_a_pointer_give_clear_errors(tmp_path):
    torch.save(LanguageModel(LM).state_dict(), tmp_path / "whole.pth")
    whole = (tmp_path / "whole.pth").read_bytes()
    for content in (b"", b"garbage", whole[: len(whole) // 2]):
        (tmp_path / "torn.pth").write_bytes(content)
        with pytest.raises(WeightsError, match="torn.pth: found .* bytes that cannot be read"):
            load_language(tmp_path / "torn.pth")
    (tmp_path / "a.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    with pytest.raises(WeightsError, match="git lfs pull"):
        read_tensors(tmp_path / "a.safetensors")


class _Payload:
    def __reduce__(self):
        return (Path.touch, (Path("payload_was_run"),))


def test_a_pickle_with_code_in_it_is_refused_and_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"weight": _Payload()}, tmp_path / "evil.pth")
    with pytest.raises(WeightsError):
        read_tensors(tmp_path / "evil.pth")
    assert not (tmp_path / "payload_was_run").exists()


def test_a_training_checkpoint_is_not_taken_for_weights(tmp_path):
    torch.save({"model": {"a": torch.zeros(1)}, "step": 3}, tmp_path / "checkpoint.pt")
    with pytest.raises(WeightsError, match="found model: dict, step: int; expected a flat state dict"):
        read_tensors(tmp_path / "checkpoint.pt")


def test_missing_files_and_folders_are_named(tmp_path):
    for load in (load_language, load_vlm, load_vision):
        with pytest.raises(WeightsError, match="nowhere: no such"):
            load(tmp_path / "nowhere")
        with pytest.raises(WeightsError, match="expected config.json"):
            load(tmp_path)


def test_a_save_that_fails_leaves_the_old_file_and_no_rubbish(tmp_path, monkeypatch):
    path = tmp_path / "model.safetensors"
    save_safetensors(path, {"a": torch.ones(2)}, {"step": "1"})

    def full(tensors, name, metadata):
        Path(name).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "save_file", full)
    with pytest.raises(OSError, match="No space left"):
        save_safetensors(path, {"a": torch.zeros(2)})
    assert torch.equal(read_tensors(path)["a"], torch.ones(2)) and files.read_metadata(path)["step"] == "1"
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.safetensors"]


SAVE_AND_DIE = """
import os, signal, sys, torch
from pathlib import Path
from model.checkpoints import files as tensors
def dying(ready, name, metadata):
    Path(name).with_name(".tmpAbCdEf").write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
tensors.save_file = dying
tensors.save_safetensors(sys.argv[1], {"a": torch.zeros(2)})
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL on Windows")
def test_what_a_process_killed_in_mid_save_leaves_is_gone_after_the_next_save(tmp_path):
    """A killed save_file leaves a file whose name safetensors made up; it must not stay beside the weights."""
    path = tmp_path / "model.safetensors"
    save_safetensors(path, {"a": torch.ones(2)})
    died = subprocess.run([sys.executable, "-c", SAVE_AND_DIE, str(path)], cwd=ROOT, check=False)
    assert died.returncode == -9
    left = sorted(entry.name for entry in tmp_path.iterdir())
    assert left == ["model.safetensors", "model.safetensors.tmp"]
    assert torch.equal(read_tensors(path)["a"], torch.ones(2))
    save_safetensors(path, {"a": torch.zeros(2)})
    assert torch.equal(read_tensors(path)["a"], torch.zeros(2))
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.safetensors"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no access bits")
def test_weights_are_as_open_to_others_as_any_other_file(tmp_path):
    (tmp_path / "plain.txt").write_text("")
    save_safetensors(tmp_path / "model.safetensors", {"a": torch.ones(2)})
    modes = {path.stat().st_mode for path in tmp_path.iterdir()}
    assert len(modes) == 1


def test_fingerprints_tell_weights_apart():
    model = LanguageModel(LM)
    before = fingerprint(model)
    assert len(before) == 16 and fingerprint(model) == before
    model.model.norm.weight.data[3] += 1e-6
    assert fingerprint(model) != before


def test_a_full_disk_is_told_with_the_files_name_and_the_old_file_stays(tmp_path, monkeypatch):
    file = tmp_path / "config.json"
    files.write_json(file, {"old": 1})

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device; the previous file.*config\.json") as error:
        files.write_json(file, {"new": 2})
    assert error.value.errno == errno.ENOSPC
    assert files.read_json(file) == {"old": 1} and [path.name for path in tmp_path.iterdir()] == ["config.json"]
