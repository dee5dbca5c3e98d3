"""The files that data sets come in, as raw rows in any order and in bounded memory, the format told by content."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from dataset.bad_rows import BadRow, DataError
from dataset.formats.layout import REGISTER, read_register
from dataset.formats.parquet import ParquetRows, open_parquet, parquet_batches
from dataset.formats.shards import TarRows
from dataset.formats.textrows import TextRows

WANTED = "expected a data set: JSONL, a JSON list, parquet or a tar of pictures with texts"


class Rows(Protocol):
    """The raw rows of a file: a mapping by column, or whatever else stands there. Safe to share between threads."""

    def __len__(self) -> int: ...

    def number(self, index: int) -> int | str:
        """What the row is called in messages."""
        ...

    def read(self, index: int) -> Any:
        """What the row says. BadRow where it cannot be read."""
        ...


def open_rows(path: Path) -> Rows:
    """The rows of a data file, its format recognised by content. DataError where it cannot be one."""
    kind = recognise(path)
    if kind in ("list", "lines"):
        return TextRows(path, is_list=kind == "list")
    return ParquetRows(path) if kind == "parquet" else TarRows(path)


def stream_rows(path: Path, all_columns: bool = False) -> Iterator[tuple[int | str, Any]]:
    """(number, row) of every row in order, nothing of the file kept; a BadRow in a row's place where it has none.

    all_columns: of parquet, give those too that training does not use.
    """
    if recognise(path) == "parquet":
        batches = parquet_batches(path, open_parquet(path), all_columns=all_columns)
        yield from enumerate(row for batch in batches for row in batch.to_pylist())
        return
    rows = open_rows(path)
    for index in range(len(rows)):
        try:
            yield rows.number(index), rows.read(index)
        except BadRow as error:
            yield rows.number(index), error


def recognise(path: Path) -> str:
    """parquet, tar, list (JSON) or lines (JSONL), by a file's first bytes; DataError where it is none of them."""
    if path.is_dir():
        raise DataError(f"{path} is a folder; {WANTED}: name the file in it")
    if path.name == REGISTER and path.is_file():
        names = ", ".join(entry["file_name"] for entry in read_register(path).values()) or "none"
        raise DataError(f"{path} is no data but LLaMA-Factory's register of files ({names}); name one of them")
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
        return "tar"
    if path.suffix in (".parquet", ".tar") or b"\0" in head or head[:2] == b"\x1f\x8b":
        raise DataError(f"{path} starts with {head[:8]!r}; {WANTED}: unpack or download it again")
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    return "list" if re.match(rb"\[\s*(\{|\]|$)", text) else "lines"


def _is_tar(head: bytes) -> bool:
    try:
        tarfile.TarInfo.frombuf(head[:512], "utf-8", "surrogateescape")  # checks the sum of the header
    except tarfile.HeaderError:
        return False
    return True
