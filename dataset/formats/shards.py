"""Webdataset tar shards: files that share a base name, as 0001.jpg with 0001.txt or 0001.json, are one row."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dataset.bad_rows import BadRow, DataError
from dataset.formats.captions import prompt_for
from dataset.formats.textrows import LONGEST, Slices, parse_json
from dataset.pictures import SUFFIXES

PICTURES = (*(suffix[1:] for suffix in SUFFIXES), "ppm")
TEXTS = ("txt", "caption")
MOVING = ("mp4", "webm", "avi", "mov", "mkv", "mp3", "wav", "flac", "ogg", "m4a")
CAPTIONS = ("caption", "text")  # keys of a JSON that is a caption and no conversation
HEADERS = 1 << 20  # bytes that hold the headers of a row's first file
UNREADABLE = (tarfile.TarError, EOFError, ValueError, ArithmeticError, RecursionError)  # what damaged tars raise


class TarRows(Slices):
    """The rows of a tar file; only their byte offsets are kept in memory. The files of a row must be adjacent."""

    def __init__(self, path: Path):
        try:
            super().__init__(path, _samples(path))
        except UNREADABLE as error:
            raise DataError(f"{path} is damaged ({error}); expected a whole tar: download it again") from error
        if not len(self):
            raise DataError(f"{path} holds no files; expected pictures with texts: give another --data")

    def number(self, index: int) -> str:
        """The base name that the row's files share."""
        with tarfile.open(fileobj=io.BytesIO(self.raw(index, HEADERS)), mode="r:") as tar:
            first = tar.next()
            assert first is not None  # a range begins with a file
            return base_name(first.name)

    def read(self, index: int) -> dict[str, Any]:
        """The row: the columns of its JSON, or a prompt and its caption as the answer."""
        row: dict[str, Any] = {}
        pictures = []
        for _, kind, content in self.members(index):
            if kind in PICTURES:
                pictures.append(content)
            elif kind == "json":
                found = parse_json(content, "row is not JSON")
                row |= found if isinstance(found, Mapping) else {"conversations": found}
            elif kind in TEXTS:
                row["caption"] = content.decode("utf-8", "replace")
            elif kind in MOVING:
                raise BadRow("row holds video or audio", f"a .{kind} file, which is not supported")
        if not pictures and not row:
            raise BadRow("files are neither picture nor text", f"expected .{', .'.join(PICTURES)}, .txt or .json")
        if not any(key in row for key in ("conversations", "messages", "instruction")):
            row = _captioned(row, len(pictures))
        return {**row, **({"image_bytes": pictures, "image": None, "images": None} if pictures else {})}

    def members(self, index: int) -> Iterator[tuple[tarfile.TarInfo, str, bytes]]:
        """(header, extension in lower case, content) of each of the row's files."""
        if (size := self.size(index)) > LONGEST:
            raise BadRow("file of the tar cannot be read", f"{size:,} bytes, at most {LONGEST:,} are supported")
        try:
            with tarfile.open(fileobj=io.BytesIO(self.raw(index)), mode="r:") as tar:
                for info in tar:
                    if (file := tar.extractfile(info)) is not None:
                        yield info, info.name.rpartition(".")[2].lower(), file.read()
        except UNREADABLE as error:
            raise BadRow("file of the tar cannot be read", str(error)[:120]) from error


def _captioned(row: dict[str, Any], pictures: int) -> dict[str, Any]:
    """The row as a conversation: a prompt in the caption's language, and the caption as the answer."""
    caption = next((row[key] for key in CAPTIONS if isinstance(row.get(key), str)), None)
    if caption is None:
        return row
    prompt = "<image>\n" * pictures + prompt_for([caption])
    turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": caption.strip()}]
    return {**row, "conversations": turns}


def base_name(name: str) -> str:
    """A member's path up to the first dot of its file name, which the files of a row share."""
    folder, slash, file = name.rpartition("/")
    return folder + slash + (file.partition(".")[0] or file)


def _samples(path: Path) -> Iterator[tuple[int, int]]:
    """Byte range (start, end) of each run of members with one base name; links, folders etc. are skipped."""
    with tarfile.open(path, "r:") as tar:
        name, start, end = None, 0, 0
        while (info := tar.next()) is not None:
            tar.members.clear()  # type: ignore[attr-defined]  # not in its stubs; they would grow with the file
            if info.size < 0 or info.issparse():
                raise tarfile.ReadError(f"{info.name!r:.80} has a size of {info.size:,} bytes")
            skipped = not info.isfile() or info.name.rpartition("/")[2].startswith(".")
            base = None if skipped else base_name(info.name)
            if base != name:
                if name is not None:
                    yield start, end
                name, start = base, info.offset
            end = tar.offset
        if name is not None:
            yield start, end
