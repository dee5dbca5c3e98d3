"""Weight and config files: read strictly, written atomically."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import zlib
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

# A folder's weights in order of preference; an index maps each tensor to the file (shard) that holds it.
INDEX_SUFFIX = ".index.json"
WEIGHT_FILES = tuple(name + end for name in ("model.safetensors", "pytorch_model.bin") for end in ("", INDEX_SUFFIX))

CHECKSUMS = "crc32"  # key of the metadata in our safetensors files: a JSON object of tensors' names and checksums


class WeightsError(ValueError):
    """A weight or config file is missing, corrupt or does not fit the model; the message says what to do."""


@contextlib.contextmanager
def refusing(where: Path | str) -> Iterator[None]:
    """A context in which what unsuitable values raise becomes a WeightsError on that file."""
    try:
        yield
    except WeightsError:
        raise
    except (ValueError, TypeError, LookupError, ArithmeticError, AttributeError, RecursionError) as error:
        raise WeightsError(f"{where}: {error}") from error


def read_json(path: Path | str) -> dict:
    """The JSON object in `path`; WeightsError where there is none."""
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: no such file, expected a JSON object; check the folder's name")
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path}: found no valid JSON ({error}); copy or write the file again") from error
    if not isinstance(value, dict):
        raise WeightsError(f"{path}: found a JSON {type(value).__name__}, expected an object")
    return value


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    """write() fills a file in a folder beside `path`, which then takes its place: the old one stays until that is done.

    A folder, as safetensors has a temporary file of its own, with a random name: the next save finds what a killed
    process left. safetensors' permissions, for the owner only, become the default ones.
    """
    folder = path.with_name(path.name + ".tmp")
    temporary = folder / path.name
    discard(folder)
    folder.mkdir(parents=True)
    try:
        temporary.touch()
        mode = temporary.stat().st_mode
        write(temporary)
        temporary.chmod(mode)
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if error.errno and not error.filename:  # how a full disk is reported
            what = f"{error.strerror}; the previous file, if any, is unchanged"
            raise OSError(error.errno, what, str(path)) from error
        raise
    finally:
        discard(folder)


def discard(path: Path) -> None:
    """Remove a file, or a folder with all its contents, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_json(path: Path | str, value: dict) -> None:
    """Writes `value` to `path` as indented JSON, atomically."""
    text = json.dumps(value, indent=1, ensure_ascii=False) + "\n"
    content = text.encode("utf-8", "backslashreplace")  # half a surrogate pair becomes an escape, which JSON reads back
    _replace(Path(path), lambda temporary: temporary.write_bytes(content))


def save_safetensors(path: Path | str, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Writes `tensors` to `path`, atomically; OSError (and the old file untouched) when the disk is full.

    The metadata gets each tensor's checksum, which read_tensors compares. Equal content gives equal bytes.
    """
    ready = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}

    sums = json.dumps({name: checksum(tensor) for name, tensor in sorted(ready.items())})

    def write(temporary: Path) -> None:
        try:
            save_file(ready, str(temporary), metadata={"format": "pt", CHECKSUMS: sums, **(metadata or {})})
        except SafetensorError as error:
            raise OSError(f"{path}: could not be written ({error}); is the disk full?") from error
        sort_header(temporary)

    _replace(Path(path), write)


def checksum(tensor: Tensor) -> int:
    """CRC-32 of a contiguous CPU tensor's bytes."""
    return zlib.crc32(tensor.view(-1).view(torch.uint8).numpy().data)


def sort_header(path: Path) -> None:
    """Sorts the keys of a safetensors file's header, which come in random order: its own metadata is a hash map."""
    with open(path, "rb+") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        text = json.dumps(header, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        assert len(text) <= length, f"{path}: the sorted header has {len(text)} bytes, the file's {length}"
        file.seek(8)
        file.write(text.ljust(length))


def save_pickle(path: Path | str, tensors: dict[str, Tensor]) -> None:
    """Writes `tensors` to `path` as a plain PyTorch state dict, atomically; for programs that read nothing else."""
    ready = {name: tensor.detach().cpu() for name, tensor in tensors.items()}
    _replace(Path(path), lambda temporary: torch.save(ready, temporary))


def read_metadata(path: Path | str) -> dict[str, str]:
    """The metadata strings of a safetensors file."""
    with _open_safetensors(Path(path)) as file:
        return dict(file.metadata() or {})


def _open_safetensors(path: Path):
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise _torn(path, error) from error


def _torn(path: Path, error: Exception) -> WeightsError:
    size = path.stat().st_size
    with open(path, "rb") as file:
        pointer = file.read(24).startswith(b"version https://git-lfs")
    cause = "a Git LFS pointer: run `git lfs pull`" if pointer else "truncated, or another format"
    return WeightsError(
        f"{path}: found {size} bytes that cannot be read as weights ({cause}); expected a complete "
        f"{path.suffix} file. Copy or download it again. [{type(error).__name__}: {error}]"
    )


def read_tensors(path: Path | str, wanted: Callable[[str], bool] = lambda name: True) -> dict[str, Tensor]:
    """The state dict in a .safetensors file, a PyTorch file or a shard index, on the CPU; never runs pickled code.

    `wanted` filters by name, so that only part of a large safetensors file, or only some shards, are read.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: no such file, expected weights; check the path")
    if path.name.endswith(INDEX_SUFFIX):
        return _read_shards(path, wanted)
    if path.suffix == ".safetensors":
        with _open_safetensors(path) as file:
            tensors = {name: file.get_tensor(name) for name in file.keys() if wanted(name)}  # noqa: SIM118
            _compare_checksums(path, tensors, (file.metadata() or {}).get(CHECKSUMS, "{}"))
            return tensors
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # there is no end to what unpickling a damaged file raises
        raise _torn(path, error) from error
    entries = state.items() if isinstance(state, dict) else [(None, state)]
    if strange := [f"{name}: {kind}" for name, value in entries if (kind := _strange(name, value))]:
        raise WeightsError(
            f"{path}: found {', '.join(strange[:8])}; expected a flat state dict of names and dense tensors. "
            "Save model.state_dict() alone and load that"
        )
    return {name: tensor for name, tensor in state.items() if wanted(name)}


def _strange(name: object, value: object) -> str:
    """What an entry of a state dict is if it is no dense tensor with all its entries in the file; else empty."""
    if not isinstance(name, str) or not isinstance(value, Tensor):
        return type(value).__name__
    kinds = {"nested": value.is_nested, "quantized": value.is_quantized, "meta": value.is_meta,
             str(value.layout): value.layout != torch.strided}  # fmt: skip
    if any(kinds.values()):
        return next(kind for kind, found in kinds.items() if found)
    stored = value.untyped_storage().nbytes()
    wanted = value.numel() * value.element_size()
    return f"{tuple(value.shape)}, {wanted:,} bytes of which {stored:,} are stored" if wanted > stored else ""


def _compare_checksums(path: Path, tensors: dict[str, Tensor], written: str) -> None:
    """WeightsError where a tensor is not what was written; one without a checksum, as in others' files, may be any."""
    with refusing(path):
        sums = dict(json.loads(written))
    damaged = [name for name, tensor in tensors.items() if name in sums and checksum(tensor) != sums[name]]
    if damaged:
        raise WeightsError(
            f"{path}: {listed(damaged)}: the checksum is not that of what was written, so the file was damaged since; "
            "copy it again, or train again"
        )


def find_weights(folder: Path | str) -> Path:
    """The folder's weights for `read_tensors`, the first of WEIGHT_FILES; WeightsError lists what is there instead."""
    folder = Path(folder)
    if not folder.is_dir():
        raise WeightsError(f"{folder}: no such folder, expected one with {WEIGHT_FILES[0]}; check the path")
    for name in WEIGHT_FILES:
        if (folder / name).is_file():
            return folder / name
    found = sorted(path.name for path in folder.iterdir())
    raise WeightsError(
        f"{folder}: found {found[:12]}, expected one of {', '.join(WEIGHT_FILES)}; copy or download the weights there"
    )


def _read_shards(index: Path, wanted: Callable[[str], bool]) -> dict[str, Tensor]:
    """The tensors that an index lists, each from the shard it names; WeightsError where the two disagree."""
    places = read_json(index).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(place, str) for place in places.values()):
        raise WeightsError(f"{index}: found no weight_map of names to files; copy or download the index again")
    shards = sorted({place for name, place in places.items() if wanted(name)})
    outside = [shard for shard in shards if Path(shard).name != shard or shard.endswith(INDEX_SUFFIX)]
    absent = [shard for shard in shards if not (index.parent / shard).is_file()]
    if outside or absent:
        raise WeightsError(
            f"{index}: names {listed(outside or absent)}, {'not files' if outside else 'which are not'} in "
            f"{index.parent}; expected all {len(set(places.values()))} shards beside it: download the rest"
        )
    tensors: dict[str, Tensor] = {}
    for shard in shards:
        here = read_tensors(index.parent / shard, wanted)
        tensors |= {name: tensor for name, tensor in here.items() if places.get(name, shard) == shard}
    lost = [name for name in places if name not in tensors and wanted(name)]
    if lost:
        raise WeightsError(
            f"{index}: lists {listed(lost)}, which the files it names do not hold; the index and the shards are "
            "from different checkpoints: download them again together"
        )
    return tensors


def listed(names: Collection[str], most: int = 20) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(sorted(names)[:most]) + more


def fingerprint(module: nn.Module) -> str:
    """16 hex digits that change with any weight, name, shape or dtype of `module`, not with its device."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:16]
