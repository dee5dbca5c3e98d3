"""Raw rows of data files, by random access or streaming, in bounded memory; the format is detected by content."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Callable, Collection, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from dataset.bad_rows import BadRow, DataError
from dataset.formats.captions import KINDS, CaptionRows, captions_kind, default_subset
from dataset.formats.layout import REGISTER, read_register
from dataset.formats.parquet import ParquetRows, open_parquet, parquet_batches, row_of
from dataset.formats.shards import TarRows
from dataset.formats.textrows import TextRows

WANTED = "expected a data set: JSONL, a JSON list, parquet, a tar of pictures with texts, or captions of pictures"
SHAPES = (
    'a line of {"image": "1.jpg", "conversations": [...]}, of 1.jpg#0<TAB>A dog runs., or a table whose first line is '
    "image,caption"
)


class Rows(Protocol):
    """The raw rows of a file: mappings by column, or whatever else it holds. Thread-safe."""

    def __len__(self) -> int: ...

    def number(self, index: int) -> int | str:
        """The name of the row in messages."""
        ...

    def read(self, index: int) -> Any:
        """The raw row. BadRow if it cannot be read."""
        ...


def open_rows(path: Path, subset: str = "", use: str = "") -> Rows:
    """The rows of a data file, its format detected by content. DataError if it is no data file.

    subset: of a file of captions, as CaptionRows.keep() takes it. use: 'train', 'val' or 'test': without a subset the
    splits that are for it, of a file that names splits.
    """
    kind = recognise(path)
    if kind in KINDS:
        captions = CaptionRows(path, kind)
        if subset := subset or (default_subset(captions.splits, use) if use else ""):
            captions.keep(subset, path)
        return captions
    if subset:
        raise DataError(f"{path}@{subset}: only files of captions have subsets, and this is {kind}; leave it out")
    if kind in ("JSON list", "JSONL"):
        _check_shape(path)
        return TextRows(path, is_list=kind == "JSON list")
    return ParquetRows(path) if kind == "parquet" else TarRows(path)


def _check_shape(path: Path) -> None:
    """DataError for text that does not look like JSON, with rows as they should look."""
    with path.open("rb") as file:
        head = file.read(1024)
    if not any(line.lstrip(b"\xef\xbb\xbf \t").startswith((b"{", b"[")) for line in head.splitlines()):
        raise DataError(f"{path} starts with {head[:40]!r}; {WANTED}, as {SHAPES}")


def splits_of(path: Path) -> list[str]:
    """The names of the splits in a file of captions; [] for any other."""
    kind = recognise(path)
    return CaptionRows(path, kind).splits if kind in KINDS else []


def stream_rows(
    path: Path, also: Collection[str] = (), subset: str = "", use: str = ""
) -> Iterator[tuple[str, Any]]:
    """Stream (row id, row) in order, keeping no rows; a BadRow takes the place of an unreadable row.

    also: for parquet, columns that training does not use; others are not read. subset, use: as for open_rows().
    """
    if recognise(path) == "parquet" and not subset:
        batches = parquet_batches(path, open_parquet(path), also=also)
        places = ((batch, index) for batch in batches for index in range(len(batch)))
        for number, (batch, index) in enumerate(places):
            yield f"{path.name}:{number}", _or_bad(partial(row_of, batch, index))
        return
    stored = open_rows(path, subset, use)
    for index in range(len(stored)):
        yield f"{path.name}:{stored.number(index)}", _or_bad(partial(stored.read, index))


def _or_bad(read: Callable[[], Any]) -> Any:
    try:
        return read()
    except BadRow as error:
        return error


def recognise(path: Path) -> str:
    """The format by content: parquet, webdataset tar, JSON list, one of captions, or JSONL; DataError if none."""
    if path.is_dir():
        if kind := captions_kind(path, b""):
            return kind
        raise DataError(f"{path} is a folder; {WANTED}: name the file in it")
    if path.name == REGISTER and path.is_file():
        names = ", ".join(entry["file_name"] for entry in read_register(path).values()) or "none"
        raise DataError(f"{path} is not data but LLaMA-Factory's registry of files ({names}); name one of them")
    try:
        with path.open("rb") as file:
            head = file.read(1024)
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist; {WANTED}: check the name given to --data") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); {WANTED}") from error
    if not head.strip():
        raise DataError(f"{path} is empty; {WANTED}: download or make it again")
    if head.startswith(b"version https://git-lfs"):
        raise DataError(f"{path} is a Git LFS pointer, not the data; {WANTED}: run git lfs pull")
    if head[:4] == b"PAR1":
        return "parquet"
    if _is_tar(head):
        return "webdataset tar"
    if path.suffix in (".parquet", ".tar") or b"\0" in head or head[:2] == b"\x1f\x8b":
        raise DataError(f"{path} starts with {head[:8]!r}; {WANTED}: unpack or download it again")
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if kind := captions_kind(path, head):
        return kind
    return "JSON list" if re.match(rb"\[\s*(\{|\]|$)", text) else "JSONL"


def _is_tar(head: bytes) -> bool:
    try:
        tarfile.TarInfo.frombuf(head[:512], "utf-8", "surrogateescape")  # verifies the checksum of the header
    except tarfile.HeaderError:
        return False
    return True
