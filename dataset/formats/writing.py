"""Copy a data file without some of its rows and with some answers changed, atomically."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Callable, Container, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from dataset.bad_rows import DataError
from dataset.formats.layout import Layout, layout_of
from dataset.formats.parquet import open_parquet, parquet_batches
from dataset.formats.rows import open_rows, recognise
from dataset.formats.shards import CAPTIONS, TEXTS, TarRows
from dataset.formats.textrows import TextRows

SUFFIXES = {"parquet": (".parquet",), "tar": (".tar",), "list": (".jsonl", ".json"), "lines": (".jsonl", ".json")}
Change = Callable[[str], str]  # a transform of an answer


def write_rows(path: Path, out: Path, removed: Container[int], changed: Container[int], change: Change) -> None:
    """Copy the rows that are not in `removed`, in order, with `change` applied to every answer of those in `changed`.

    change may return "" to keep an answer as it is. Raises DataError if OUT has another format.
    """
    kind = recognise(path)
    if out.suffix not in SUFFIXES[kind]:
        raise DataError(f"{out} ends in {out.suffix!r}; expected {' or '.join(SUFFIXES[kind])}, the format of {path}")
    partial = out.with_name(out.name + ".partial")
    try:
        if kind == "parquet":
            _write_parquet(path, partial, removed, changed, change)
        else:
            rows = open_rows(path)
            with partial.open("wb") as file:
                if isinstance(rows, TarRows):
                    _write_tar(rows, file, removed, changed, change)
                elif isinstance(rows, TextRows):
                    _write_text(rows, file, out.suffix == ".json", removed, changed, change)
        os.replace(partial, out)
    finally:
        partial.unlink(missing_ok=True)


def _write_text(
    rows: TextRows, file: BinaryIO, as_list: bool, removed: Container[int], changed: Container[int], change: Change
) -> None:
    layout, first = layout_of(rows.path), True
    for place in range(len(rows)):
        if place in removed:
            continue
        text = rows.text(place)
        if place in changed:
            text = _dumps(change_row(rows.read(place), layout, change))
        elif b"\n" in text:  # from an indented list
            text = _dumps(rows.read(place))
        if as_list:
            file.write((b"[\n" if first else b",\n") + text)
        else:
            file.write(text + b"\n")
        first = False
    if as_list:
        file.write(b"\n]\n")


def _dumps(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")


def _write_parquet(path: Path, out: Path, removed: Container[int], changed: Container[int], change: Change) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    file, layout = open_parquet(path), layout_of(path)
    place = 0
    with pq.ParquetWriter(out, file.schema_arrow) as writer:
        for batch in parquet_batches(path, file, all_columns=True):
            places = range(place, place + len(batch))
            place += len(batch)
            kept = [i for i, number in enumerate(places) if number not in removed]
            if any(number in changed for number in places):
                rows = batch.to_pylist()
                some = [change_row(rows[i], layout, change) if places[i] in changed else rows[i] for i in kept]
                writer.write_batch(pa.RecordBatch.from_pylist(some, schema=batch.schema))
            else:
                writer.write_batch(batch.take(pa.array(kept, pa.int64())))


def _write_tar(rows: TarRows, file: BinaryIO, removed: Container[int], changed: Container[int], change: Change) -> None:
    for place in range(len(rows)):
        if place in removed:
            continue
        members = rows.member_bytes(place)
        file.write(b"".join(_changed_members(members, layout_of(rows.path), change)) if place in changed else members)
    file.write(b"\0" * 2 * tarfile.BLOCKSIZE)


def _changed_members(members: bytes, layout: Layout, change: Change) -> Iterator[bytes]:
    with tarfile.open(fileobj=io.BytesIO(members), mode="r:") as tar:
        for info in tar:
            file = tar.extractfile(info) if info.isfile() else None
            content = file.read() if file is not None else b""
            kind = info.name.rpartition(".")[2].lower()
            if kind == "json":
                content = _dumps(change_row(json.loads(content), layout, change))
            elif kind in TEXTS:
                text = content.decode("utf-8", "replace")
                content = (change(text) or text).encode()
            info.size = len(content)
            padding = -len(content) % tarfile.BLOCKSIZE
            yield info.tobuf(tarfile.PAX_FORMAT) + content + b"\0" * padding


def change_row(row: Any, layout: Layout, change: Change) -> Any:
    """The raw row with each answer changed; conversations stored as JSON text stay JSON text."""
    if isinstance(row, list):
        return [_change_turn(turn, layout, change) for turn in row]
    row = dict(row)
    key = next((name for name in layout.conversations if row.get(name)), None)
    if key is None:
        for name in (*layout.answer, *CAPTIONS):
            if isinstance(row.get(name), str):
                row[name] = change(row[name]) or row[name]
    elif isinstance(row[key], list):
        row[key] = [_change_turn(turn, layout, change) for turn in row[key]]
    else:
        turns = [_change_turn(turn, layout, change) for turn in json.loads(row[key])]
        text = json.dumps(turns, ensure_ascii=False)
        row[key] = text.encode() if isinstance(row[key], bytes) else text
    return row


def _change_turn(turn: Any, layout: Layout, change: Change) -> Any:
    role = next((turn[name] for name in layout.role if turn.get(name) is not None), None)
    if role is None or dict(layout.speakers).get(role) != "assistant":
        return turn
    key = next(name for name in layout.content if turn.get(name) is not None)
    return {**turn, key: change(turn[key]) or turn[key]}
