"""Random access to the rows of JSONL files and JSON lists by byte offset; the file itself stays on disk."""

from __future__ import annotations

import json
import re
import sys
import threading
import weakref
from array import array
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from dataset.bad_rows import BadRow, DataError

BLOCK = 4 << 20  # bytes read at once
LONGEST = 256 << 20  # maximum bytes of a row

# a string, its closing quote in the group (empty if the text ends before it), or a bracket
_JSON_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*("?)|[\[\]{}]', re.DOTALL)


class Slices:
    """Byte ranges (start, end) of a file, read on demand and not kept. Thread-safe."""

    def __init__(self, path: Path, ranges: Iterable[tuple[int, int]]):
        self.path = path
        self._starts, self._ends = array("q"), array("q")
        for start, end in ranges:
            self._starts.append(start)
            self._ends.append(end)
        self._file = path.open("rb")
        self._lock = threading.Lock()
        weakref.finalize(self, self._file.close)

    def __len__(self) -> int:
        return len(self._starts)

    def size(self, index: int) -> int:
        """Number of bytes of a range."""
        return self._ends[index] - self._starts[index]

    def raw(self, index: int, most: int = sys.maxsize) -> bytes:
        """The bytes of a range, the first `most` of them."""
        with self._lock:
            self._file.seek(self._starts[index])
            return self._file.read(min(self.size(index), most))


class TextRows(Slices):
    """The rows of a JSONL file or a JSON list."""

    def __init__(self, path: Path, is_list: bool):
        self._numbers = array("q")
        super().__init__(path, self._find(path, _items if is_list else _lines))
        if not self._numbers:
            raise DataError(f"{path} has no rows; expected at least one conversation: give another --data")

    def _find(self, path: Path, find: Callable[[BinaryIO, int], Iterator[tuple[int, int, int]]]) -> Iterator:
        with path.open("rb") as file:
            start = 3 if file.read(3) == b"\xef\xbb\xbf" else 0  # a byte order mark
            file.seek(start)
            for begin, end, number in find(file, start):
                self._numbers.append(number)
                yield begin, end

    def number(self, index: int) -> int:
        """The line number, from 1; in a JSON list the index, from 0."""
        return self._numbers[index]

    def read(self, index: int) -> Any:
        """The parsed row. BadRow if it is not JSON."""
        return parse_json(self.text(index), "row is not JSON")

    def text(self, index: int) -> bytes:
        """The bytes of the row in the file, without surrounding whitespace."""
        if (size := self.size(index)) > LONGEST:
            raise BadRow("row is not JSON", f"{size:,} bytes; a row does not end, or the file is no data set")
        return self.raw(index).strip()


def _lines(file: BinaryIO, start: int) -> Iterator[tuple[int, int, int]]:
    """(start, end, line number) of every non-blank line, with the file positioned at start."""
    begin, end, number, blank = start, start, 1, True
    while piece := file.readline(BLOCK):
        end += len(piece)
        blank = blank and not piece.strip()
        if piece.endswith(b"\n"):
            if not blank:
                yield begin, end, number
            begin, number, blank = end, number + 1, True
    if not blank:
        yield begin, end, number


def _items(file: BinaryIO, start: int) -> Iterator[tuple[int, int, int]]:
    """(start, end, index) of every object in the JSON list that begins at start; an unfinished one runs to the end."""
    depth, begin, number, rest = 0, -1, 0, b""
    base = start  # where in the file `data` begins
    while block := file.read(max(BLOCK, len(rest))):
        data = rest + block
        used = len(data)
        for token in _JSON_TOKEN.finditer(data):
            sign = data[token.start()]
            if sign == 0x22:  # a quote
                if not token.group(1):  # the string goes on in the next block
                    used = token.start()
                    break
            elif sign in b"[{":
                depth += 1
                if depth == 2:
                    begin = base + token.start()
            else:
                depth -= 1
                if depth == 1:
                    yield begin, base + token.end(), number
                    begin, number = -1, number + 1
        rest, base = data[used:], base + used
        if len(rest) > LONGEST:
            break
    if begin >= 0:
        yield begin, file.seek(0, 2), number


def parse_json(text: bytes | str, reason: str) -> Any:
    """Parse a JSON value; else BadRow with this reason, and with where parsing failed."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadRow(reason, str(error)[:120]) from error
