"""Random access to the rows of parquet files: small ones are kept in memory, large ones copied once to a file."""

from __future__ import annotations

import bisect
import tempfile
import threading
from collections.abc import Callable, Collection, Iterator
from itertools import accumulate, chain
from pathlib import Path
from typing import Any

from dataset.bad_rows import BadRow, DataError
from dataset.formats.layout import layout_of

IN_MEMORY = 256 << 20  # bytes; larger files are first copied to one with random access
BATCH = 256  # rows per sequential read
COPIED = 16  # rows of the copy that are read to get one
BUFFER = 1 << 20  # bytes of a column per read


class ParquetRows:
    """The rows of a parquet file. A large one is streamed once to a temporary file with random access.

    The copy is in Python's temporary folder (set TMPDIR to choose), holds only the columns in use, and is deleted when
    the program ends, however it ends.
    """

    def __init__(self, path: Path):
        self.path = path
        file = open_parquet(path)
        size = sum(file.metadata.row_group(i).total_byte_size for i in range(file.num_row_groups))
        self._batch: Callable[[int], Any]
        if size <= IN_MEMORY:
            batches = list(parquet_batches(path, file))
            self._batch, counts = batches.__getitem__, list(map(len, batches))
        else:
            self._batch, counts = _copied(path, parquet_batches(path, file, COPIED))
        self._starts = [0, *accumulate(counts)]

    def __len__(self) -> int:
        return self._starts[-1]

    def number(self, index: int) -> int:
        """The row index, from 0."""
        return index

    def read(self, index: int) -> dict[str, Any]:
        """The row's columns by name."""
        block = bisect.bisect_right(self._starts, index) - 1
        return row_of(self._batch(block), index - self._starts[block])


def row_of(batch: Any, index: int) -> dict[str, Any]:
    """The columns of a row of a RecordBatch by name. BadRow for a value that Python has no form for.

    Text that is no UTF-8, dates beyond the year 9999, nanoseconds and unknown time zones are such values.
    """
    import pyarrow as pa

    row = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        try:
            row[name] = column[index].as_py()
            if type(row[name]).__module__.startswith("pandas"):  # which stands in for nanoseconds where it is installed
                raise TypeError("Python's own types have no nanoseconds")
        except (ValueError, ArithmeticError, LookupError, TypeError, ImportError, pa.ArrowException) as error:
            raise BadRow("column cannot be read", f"{name}, {column.type}: {str(error)[:80]}") from error
    return row


def open_parquet(path: Path) -> Any:
    """A pyarrow ParquetFile with the columns that are required, or DataError."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:  # page by page, not by row group; not memory-mapped, which would count as memory in use
        file = pq.ParquetFile(path, buffer_size=BUFFER, pre_buffer=False)
        names = file.schema_arrow.names
    except (pa.ArrowException, OSError, ValueError) as error:  # ValueError: names of columns that are not UTF-8
        raise DataError(f"{path} is damaged ({error}); expected parquet: download it again") from error
    layout = layout_of(path)
    if not any(name in names for name in (*layout.conversations, *layout.answer, *layout.captions)):
        raise DataError(
            f"{path} has the columns {', '.join(names)}; expected one named "
            f"{' or '.join(layout.conversations)}: rename the column that holds the turns"
        )
    if file.metadata.num_rows == 0:
        raise DataError(f"{path} has no rows; expected at least one conversation: give another --data")
    return file


def parquet_batches(path: Path, file: Any, rows: int = BATCH, also: Collection[str] = ()) -> Iterator[Any]:
    """Stream the columns in use as pyarrow RecordBatches, in order, never the whole file at once.

    also: further columns, by name.
    """
    import pyarrow as pa

    wanted = layout_of(path).columns()
    columns = [name for name in file.schema_arrow.names if name in wanted or name in also]
    try:
        yield from file.iter_batches(batch_size=rows, columns=columns)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is damaged ({error}); expected parquet: download it again") from error


def _copied(path: Path, batches: Iterator[Any]) -> tuple[Callable[[int], Any], list[int]]:
    """(a reader of the n-th batch, the rows of each) after copying the batches to a temporary file.

    The file is unlinked while open, where the system can.
    """
    import pyarrow as pa

    folder = tempfile.TemporaryDirectory(prefix="glimpse-", ignore_cleanup_errors=True)
    copy = Path(folder.name) / "rows.arrow"
    counts: list[int] = []
    try:
        first = next(batches)
        with pa.OSFile(str(copy), "wb") as sink, pa.ipc.new_file(sink, first.schema) as writer:
            for batch in chain([first], batches):
                writer.write_batch(batch)
                counts.append(batch.num_rows)
    except OSError as error:
        raise DataError(
            f"no copy of {path} could be written to {folder.name} ({error}); a large parquet file is copied once "
            "so that its rows can be shuffled: set TMPDIR to a folder with room, or give JSONL with --images"
        ) from error
    reader, lock = pa.ipc.open_file(pa.OSFile(str(copy))), threading.Lock()
    folder.cleanup()

    def read(block: int) -> Any:
        with lock:
            return reader.get_batch(block)

    return read, counts
