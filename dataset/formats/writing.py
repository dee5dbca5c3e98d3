"""Copy a data file without some of its rows and with some answers changed, atomically."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable, Container
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from dataset.atomic import encoded, replacing
from dataset.bad_rows import DataError
from dataset.formats.captions import KINDS, CaptionRows
from dataset.formats.layout import Layout, layout_of
from dataset.formats.parquet import open_parquet, parquet_batches
from dataset.formats.rows import recognise
from dataset.formats.shards import CAPTIONS, TEXTS, TarRows
from dataset.formats.sources import content_text
from dataset.formats.textrows import TextRows

TEXT_SUFFIXES = (".jsonl", ".json")  # a JSON list may become JSONL, and the other way round
SUFFIXES = {"parquet": (".parquet",), "webdataset tar": (".tar",)}  # of other formats TEXT_SUFFIXES
Change = Callable[[str], str]  # a transform of an answer
Edit = Callable[[Any], Any]  # a transform of a raw row


def write_rows(path: Path, out: Path, removed: Container[int], changed: Container[int], change: Change) -> None:
    """Copy the rows that are not in `removed`, in order, with `change` applied to every answer of those in `changed`.

    Files of captions become rows of JSON, each a picture with its captions.
    Raises DataError if OUT has another format.
    """
    kind = recognise(path)
    suffixes = SUFFIXES.get(kind, TEXT_SUFFIXES)
    if out.suffix not in suffixes:
        raise DataError(f"{out} ends in {out.suffix!r}; expected {' or '.join(suffixes)} for {path}, {kind}")
    edit = partial(change_row, layout=layout_of(path), change=change)
    with replacing(out) as file:
        if kind == "parquet":
            _write_parquet(path, file, removed, changed, edit)
        elif kind == "webdataset tar":
            _write_tar(TarRows(path), file, removed, changed, edit)
        else:
            rows = CaptionRows(path, kind) if kind in KINDS else TextRows(path, kind == "JSON list")
            _write_text(rows, file, out.suffix == ".json", removed, changed, edit)


def _write_text(
    rows: TextRows | CaptionRows, file: BinaryIO, as_list: bool, removed: Container[int], changed: Container[int],
    edit: Edit,
) -> None:  # fmt: skip
    before, between, after = (b"[\n", b",\n", b"\n]\n") if as_list else (b"", b"\n", b"\n")
    separator = before
    for place in range(len(rows)):
        if place in removed:
            continue
        text = rows.text(place)
        if place in changed:
            text = _dumps(edit(rows.read(place)))
        elif b"\n" in text:  # from an indented list
            text = _dumps(rows.read(place))
        file.write(separator + text)
        separator = between
    file.write(after)


def _dumps(value: Any) -> bytes:
    return encoded(json.dumps(value, ensure_ascii=False))


def _write_parquet(path: Path, out: BinaryIO, removed: Container[int], changed: Container[int], edit: Edit) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    file, place, used = open_parquet(path), 0, set(layout_of(path).columns())
    with pq.ParquetWriter(out, file.schema_arrow) as writer:
        for batch in parquet_batches(path, file, also=file.schema_arrow.names):
            places = range(place, place + len(batch))
            place += len(batch)
            kept = [i for i, number in enumerate(places) if number not in removed]
            written = batch.take(pa.array(kept, pa.int64()))
            if any(places[i] in changed for i in kept):
                names = [name for name in batch.schema.names if name in used]  # Python has no form for some others
                rows = written.select(names).to_pylist()
                rows = [edit(row) if places[i] in changed else row for i, row in zip(kept, rows, strict=True)]
                edited = pa.RecordBatch.from_pylist(rows, schema=written.select(names).schema)
                columns = [(edited if name in used else written)[name] for name in batch.schema.names]
                written = pa.RecordBatch.from_arrays(columns, schema=batch.schema)
            writer.write_batch(written)


def _write_tar(rows: TarRows, file: BinaryIO, removed: Container[int], changed: Container[int], edit: Edit) -> None:
    for place in range(len(rows)):
        if place in changed:
            for info, kind, content in rows.members(place):
                if kind == "json":
                    content = _dumps(edit(json.loads(content)))
                elif kind in TEXTS:
                    content = encoded(edit({"caption": content.decode("utf-8", "replace")})["caption"])
                info.size = len(content)
                padding = b"\0" * (-len(content) % tarfile.BLOCKSIZE)
                file.write(info.tobuf(tarfile.PAX_FORMAT) + content + padding)
        elif place not in removed:
            file.write(rows.raw(place))
    file.write(b"\0" * 2 * tarfile.BLOCKSIZE)


def change_row(row: Any, layout: Layout, change: Change) -> Any:
    """A raw row that holds a good record, each answer changed; turns stored as JSON text stay JSON text."""
    if isinstance(row, list):
        return [_change_turn(turn, layout, change) for turn in row]
    key = next((name for name in layout.conversations if row.get(name)), None)
    if key is None:
        answers = {name: change(row[name]) for name in (*layout.answer, *CAPTIONS) if isinstance(row.get(name), str)}
        several = {name: [*map(change, row[name])] for name in layout.captions if isinstance(row.get(name), list)}
        return {**row, **answers, **several}
    turns = row[key]
    if isinstance(turns, list):
        return {**row, key: change_row(turns, layout, change)}
    text = json.dumps(change_row(json.loads(turns), layout, change), ensure_ascii=False)
    return {**row, key: encoded(text) if isinstance(turns, bytes) else text}


def _change_turn(turn: Any, layout: Layout, change: Change) -> Any:
    role, key = (next(n for n in names if turn.get(n) is not None) for names in (layout.role, layout.content))
    if layout.speakers[turn[role]] != "assistant":
        return turn
    content, text = turn[key], change(content_text(turn[key]))
    if isinstance(content, list):  # of texts: the first holds all
        name = next(name for name in ("text", "value") if content[0].get(name) is not None)
        return {**turn, key: [{**content[0], name: text}]}
    return {**turn, key: text}
