"""The files that data sets come in, as raw rows in any order and in bounded memory: JSONL, a JSON list, parquet."""

from __future__ import annotations

import bisect
import json
import mmap
import re
import tempfile
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dataset.bad_rows import BadRow, DataError

CONVERSATION_COLUMNS = ("conversations", "messages")
IMAGE_COLUMNS = ("image_bytes", "images", "image")
OTHER_COLUMNS = ("system", "label")
IN_MEMORY = 256 << 20  # bytes; a larger parquet file is first copied to one that can be read at any row
BATCH = 256  # rows

# a string, or a bracket, of JSON
_JSON_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{}]', re.DOTALL)


def open_rows(path: Path) -> TextRows | ParquetRows:
    """The rows of a data file, its format recognised by content. DataError where it cannot be one."""
    return ParquetRows(path) if is_parquet(path) else TextRows(path)


def is_parquet(path: Path) -> bool:
    """Whether a file holds parquet and not text; DataError where it is missing, empty or neither."""
    wanted = "expected a data set: JSONL, a JSON list or parquet"
    if path.is_dir():
        raise DataError(f"{path} is a folder; {wanted}: name the file in it")
    try:
        with path.open("rb") as file:
            head = file.read(1024)
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist; {wanted}: check the name given to --data") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); {wanted}") from error
    if not head.strip():
        raise DataError(f"{path} is empty; {wanted}: download or make it again")
    if head.startswith(b"version https://git-lfs"):
        raise DataError(f"{path} is a Git LFS pointer, not the data; {wanted}: run git lfs pull")
    if head[:4] == b"PAR1":
        return True
    if path.suffix == ".parquet" or b"\0" in head or head[:2] == b"\x1f\x8b":
        raise DataError(f"{path} starts with {head[:8]!r}; {wanted}: unpack or download it again")
    return False


class TextRows:
    """The rows of a JSONL file or a JSON list, found by byte offsets; the file itself stays on disk."""

    def __init__(self, path: Path):
        self.path = path
        with path.open("rb") as file:
            self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        start = 3 if self._bytes[:3] == b"\xef\xbb\xbf" else 0  # a byte order mark
        while self._bytes[start : start + 1].isspace():
            start += 1
        is_list = self._bytes[start : start + 1] == b"[" and path.suffix != ".jsonl"
        self._starts, self._ends, self._numbers = array("q"), array("q"), array("q")
        for begin, end, number in _items(self._bytes, start) if is_list else _lines(self._bytes):
            self._starts.append(begin)
            self._ends.append(end)
            self._numbers.append(number)
        if not self._starts:
            raise DataError(f"{path} has no rows; expected at least one conversation: give another --data")

    def __len__(self) -> int:
        return len(self._starts)

    def number(self, index: int) -> int:
        """The line, from 1; in a JSON list the item, from 0."""
        return self._numbers[index]

    def read(self, index: int) -> Any:
        """What the row says. BadRow where it is not JSON."""
        return parse_json(self._bytes[self._starts[index] : self._ends[index]], "row is not JSON")

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        """(number, unread row) in order."""
        for index in range(len(self)):
            yield self._numbers[index], self._bytes[self._starts[index] : self._ends[index]]


def _lines(data: mmap.mmap) -> Iterator[tuple[int, int, int]]:
    """(start, end, line number) of every line that is not blank."""
    start, number = (3 if data[:3] == b"\xef\xbb\xbf" else 0), 1
    while start < len(data):
        end = data.find(b"\n", start)
        end = len(data) if end < 0 else end
        if end - start > 64 or data[start:end].strip():
            yield start, end, number
        start, number = end + 1, number + 1


def _items(data: mmap.mmap, start: int) -> Iterator[tuple[int, int, int]]:
    """(start, end, index) of every object in the JSON list that begins at start; an unfinished one runs to the end."""
    depth, begin, number = 0, -1, 0
    for token in _JSON_TOKEN.finditer(data, start):
        sign = token.group() if token.end() - token.start() == 1 else b""
        if sign and sign in b"[{":
            depth += 1
            if depth == 2:
                begin = token.start()
        elif sign:
            depth -= 1
            if depth == 1:
                yield begin, token.end(), number
                begin, number = -1, number + 1
    if begin >= 0:
        yield begin, len(data), number


class ParquetRows:
    """The rows of a parquet file. A large one is copied once, in a stream, to a file that can be read at any row.

    The copy lies where Python puts temporary files (set TMPDIR to choose), holds the columns that are used, and
    is gone when the program ends, however it ends.
    """

    def __init__(self, path: Path):
        self.path = path
        file = open_parquet(path)
        size = sum(file.metadata.row_group(i).total_byte_size for i in range(file.num_row_groups))
        batches = parquet_batches(path, file)
        self._batches = list(batches) if size <= IN_MEMORY else _spill(path, batches)
        self._starts = [0]
        for batch in self._batches:
            self._starts.append(self._starts[-1] + batch.num_rows)

    def __len__(self) -> int:
        return self._starts[-1]

    def number(self, index: int) -> int:
        """The row, from 0."""
        return index

    def read(self, index: int) -> dict[str, Any]:
        """The row's columns by name."""
        block = bisect.bisect_right(self._starts, index) - 1
        return self._batches[block].slice(index - self._starts[block], 1).to_pylist()[0]


def open_parquet(path: Path) -> Any:
    """A pyarrow ParquetFile with the columns that are needed, or DataError."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path, memory_map=True, pre_buffer=False)  # page by page, not by row group
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is damaged ({error}); expected parquet: download it again") from error
    names = file.schema_arrow.names
    if not any(name in names for name in CONVERSATION_COLUMNS):
        raise DataError(
            f"{path} has the columns {', '.join(names)}; expected one named "
            f"{' or '.join(CONVERSATION_COLUMNS)}: rename the column that holds the turns"
        )
    if file.metadata.num_rows == 0:
        raise DataError(f"{path} has no rows; expected at least one conversation: give another --data")
    return file


def parquet_batches(path: Path, file: Any) -> Iterator[Any]:
    """pyarrow RecordBatches of the columns that are used, in order, never the whole file at once."""
    import pyarrow as pa

    wanted = (*CONVERSATION_COLUMNS, *IMAGE_COLUMNS, *OTHER_COLUMNS)
    columns = [name for name in file.schema_arrow.names if name in wanted]
    try:
        yield from file.iter_batches(batch_size=BATCH, columns=columns)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is damaged ({error}); expected parquet: download it again") from error


def _spill(path: Path, batches: Iterator[Any]) -> list[Any]:
    """The same batches, memory mapped from a temporary file that has no name any more where the system allows it."""
    import pyarrow as pa

    folder = tempfile.TemporaryDirectory(prefix="glimpse-", ignore_cleanup_errors=True)
    copy = Path(folder.name) / "rows.arrow"
    try:
        first = next(batches)
        with pa.OSFile(str(copy), "wb") as sink, pa.ipc.new_file(sink, first.schema) as writer:
            writer.write_batch(first)
            for batch in batches:
                writer.write_batch(batch)
    except OSError as error:
        raise DataError(
            f"no copy of {path} could be written to {folder.name} ({error}); a large parquet file is copied once "
            "so that its rows can be shuffled: set TMPDIR to a folder with room, or give JSONL with --images"
        ) from error
    reader = pa.ipc.open_file(pa.memory_map(str(copy)))
    mapped = [reader.get_batch(i) for i in range(reader.num_record_batches)]
    folder.cleanup()
    return mapped


def parse_json(text: bytes | str, reason: str) -> Any:
    """The JSON value, or a BadRow for the reason that says where it stops being JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadRow(reason, str(error)[:120]) from error
