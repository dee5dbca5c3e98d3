"""The formats of other projects, told by content whatever a file is called, and read in bounded memory."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from tiny import conversation, png

from dataset.bad_rows import BadRows, DataError
from dataset.formats import textrows
from dataset.formats.rows import recognise
from dataset.formats.sources import RecordFile, read_records
from dataset.record import IMAGE

pa = pytest.importorskip("pyarrow")
import pyarrow.parquet as pq  # noqa: E402

TURNS = [{"from": "human", "value": "<image>\nwhat?"}, {"from": "gpt", "value": "a cat."}]


def records(path: Path, bad: BadRows | None = None, images: Path | None = None) -> list:
    """The records, after seeing that any order gives the same ones."""
    found = list(read_records(path, images, bad or BadRows()))
    if not (bad and bad.bad):
        assert list(RecordFile(path, images)) == found
    return found


def dumped(value) -> str:
    return json.dumps(value, ensure_ascii=False)


@pytest.fixture
def folder(tmp_path) -> Path:
    for name in ("0.png", "1.png"):
        (tmp_path / name).write_bytes(png((10, 20, int(name[0]))))
    return tmp_path


def write_tar(path: Path, members: dict[str, bytes | str], format: int = tarfile.PAX_FORMAT) -> Path:
    with tarfile.open(path, "w", format=format) as tar:
        for name, content in members.items():
            content = content.encode() if isinstance(content, str) else content
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def test_what_a_file_is_called_does_not_decide_what_it_is(folder):
    row = {"image": "0.png", "conversations": TURNS}
    (folder / "list.jsonl").write_text(json.dumps([row, row], indent=1))
    (folder / "lines.json").write_text("\n".join([json.dumps(row)] * 3))
    pq.write_table(pa.Table.from_pylist([{"conversations": dumped(TURNS), "image_bytes": png()}]), folder / "p.json")
    write_tar(folder / "t.jsonl", {"0.png": png(), "0.txt": "a cat."})
    (folder / "empty-list").write_text("[\n]")
    kinds = {name: recognise(folder / name) for name in ("list.jsonl", "lines.json", "p.json", "t.jsonl", "empty-list")}
    assert list(kinds.values()) == ["JSON list", "JSONL", "parquet", "webdataset tar", "JSON list"]
    assert [len(records(folder / name)) for name in list(kinds)[:4]] == [2, 3, 1, 1]


def test_llava_rows_with_and_without_pictures(folder):
    rows = [{"id": "1", "image": "0.png", "conversations": TURNS},
            {"id": "2", "conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "hello"}]},
            {"id": "3", "image": ["0.png", "1.png"],
             "conversations": [{"from": "human", "value": "<image><image> which?"}, {"from": "gpt", "value": "one"}]},
            ]  # fmt: skip
    (folder / "llava.json").write_text(json.dumps(rows))
    found = records(folder / "llava.json")
    assert [[path.name for path in record.images] for record in found] == [["0.png"], [], ["0.png", "1.png"]]
    assert found[0].turns[0].parts == (IMAGE, "\nwhat?")


def test_minimind_parquet_of_text_of_one_and_of_several_pictures(folder):
    rows = [{"conversations": dumped(conversation("猫。", tag + "?")), "image_bytes": pictures}
            for tag, pictures in (("<image>", [png()]), ("", []), ("<image>和<image>", [png(), png((1, 2, 3))]))
            ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows), folder / "d.parquet")
    assert [record.images for record in records(folder / "d.parquet")] == [(png(),), (), (png(), png((1, 2, 3)))]


def test_hugging_face_image_columns_and_turns_that_are_no_text_are_read(folder):
    rows = [{"messages": conversation("猫。"), "images": [{"bytes": png(), "path": None}], "system": "Be brief"}]
    pq.write_table(pa.Table.from_pylist(rows), folder / "d.parquet")
    (record,) = records(folder / "d.parquet")
    assert record.images == (png(),) and [turn.role for turn in record.turns] == ["system", "user", "assistant"]


def test_llama_factorys_register_names_columns_and_tags(folder):
    row = {"talk": [{"who": "Q", "says": "<image>?"}, {"who": "A", "says": "yes"}], "shots": ["0.png"], "sys": "Brief"}
    (folder / "mine.json").write_text(json.dumps([row]))
    with pytest.raises(Exception, match="row has no conversation"):
        records(folder / "mine.json")
    register = {"mine": {"file_name": "mine.json", "formatting": "sharegpt",
                         "columns": {"messages": "talk", "images": "shots", "system": "sys"},
                         "tags": {"role_tag": "who", "content_tag": "says", "user_tag": "Q", "assistant_tag": "A"}},
                "other": {"hf_hub_url": "x"}}  # fmt: skip
    (folder / "dataset_info.json").write_text(json.dumps(register))
    (record,) = records(folder / "mine.json")
    assert [turn.text for turn in record.turns] == ["Brief", "<image>?", "yes"]
    assert record.images == (folder / "0.png",)
    with pytest.raises(DataError, match="registry of files .mine.json.; name one of them"):
        records(folder / "dataset_info.json")
    (folder / "dataset_info.json").write_text("{")
    with pytest.raises(DataError, match="dataset_info.json cannot be read"):
        records(folder / "mine.json")


def test_alpaca_rows_are_text_alone(folder):
    rows = [{"instruction": "翻译", "input": "cat", "output": "猫"},
            {"instruction": "hi", "input": "", "output": "hello"}]  # fmt: skip
    (folder / "alpaca.json").write_text(dumped(rows), "utf-8")
    found = records(folder / "alpaca.json")
    assert [[turn.text for turn in record.turns] for record in found] == [["翻译\ncat", "猫"], ["hi", "hello"]]


@pytest.mark.parametrize("format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_webdataset_rows_are_files_of_one_base_name(folder, format):
    long = "深/" * 20 + "0005" if format != tarfile.USTAR_FORMAT else "0005"
    path = write_tar(folder / "0.tar", {
        "0001.jpg": png(), "0001.txt": "一只猫。\n",
        "0002.png": png(), "0002.json": json.dumps({"conversations": TURNS}),
        "a/0003.0.jpg": png((1, 1, 1)), "a/0003.1.jpg": png((2, 2, 2)), "a/0003.txt": "two pictures",
        "0004.txt": "text alone",
        f"{long}.jpg": png(), f"{long}.json": json.dumps({"caption": "a dog", "width": 3}),
        "0006.json": json.dumps(conversation("是。", "好吗？")),
    }, format)  # fmt: skip
    found = records(path)
    assert [record.id for record in found][:4] == ["0.tar:0001", "0.tar:0002", "0.tar:a/0003", "0.tar:0004"]
    assert [len(record.images) for record in found] == [1, 1, 2, 0, 1, 0]
    answers = ["一只猫。", "a cat.", "two pictures", "text alone", "a dog", "是。"]
    assert [record.turns[-1].text for record in found] == answers
    assert found[0].turns[0].text == "<image>\n描述这张图片。" and "Describe" in found[4].turns[0].text
    assert found[2].images == (png((1, 1, 1)), png((2, 2, 2)))


def test_what_is_wrong_with_a_tar_is_said(folder):
    members = {"1.jpg": png(), "2.bin": b"x", "3.json": "{", "4.txt": "", "5.jpg": png(), "5.txt": "猫"}
    path = write_tar(folder / "d.tar", members)
    bad = BadRows(1.0)
    assert [record.id for record in records(path, bad)] == ["d.tar:5"]
    for reason in ("1 × row has no conversation: d.tar:1", "neither picture nor text: d.tar:2", "not JSON: d.tar:3",
                   "1 × answer is empty: d.tar:4"):  # fmt: skip
        assert reason in bad.report()
    (folder / "cut.tar").write_bytes(path.read_bytes()[:600])
    for read in (records, RecordFile):
        with pytest.raises(DataError, match="cut.tar is damaged"):
            read(folder / "cut.tar")
    write_tar(folder / "none.tar", {".hidden": b""})
    with pytest.raises(DataError, match="holds no files"):
        records(folder / "none.tar")


@pytest.mark.parametrize("block", [1, 2, 3, 7, 64])
@pytest.mark.parametrize("indent", [None, 2])
def test_lists_and_lines_are_cut_at_the_same_places_whatever_is_read_at_once(folder, monkeypatch, block, indent):
    values = ['a "quote\\" [ { \\', "}]", "\\", '"', "line\nend", "猫", ""]
    rows = [{"conversations": conversation(f"{v}!", v + "?"), "n": [[], {}, i]} for i, v in enumerate(values)]
    (folder / "list.json").write_text(json.dumps(rows, indent=indent), "utf-8")
    (folder / "lines.jsonl").write_text("\n\n".join(map(dumped, rows)) + "\n  \n", "utf-8")
    monkeypatch.setattr(textrows, "BLOCK", block)
    for name, numbers in (("list.json", range(7)), ("lines.jsonl", range(1, 14, 2))):
        found = records(folder / name)
        assert [record.turns[1].text for record in found] == [f"{value}!" for value in values]
        assert [record.id for record in found] == [f"{name}:{number}" for number in numbers]


def test_a_string_that_never_ends_is_one_bad_row_and_is_not_read_into_memory(folder, monkeypatch):
    monkeypatch.setattr(textrows, "LONGEST", 1000)
    monkeypatch.setattr(textrows, "BLOCK", 256)
    good = json.dumps({"conversations": conversation("好。", "?")})
    (folder / "torn.json").write_text(f'[{good}, {{"conversations": "' + "x" * 5000)
    bad = BadRows(1.0)
    assert len(records(folder / "torn.json", bad)) == 1 and "a row does not end" in bad.report()


def test_two_pictures_with_three_tags_are_refused_by_name_and_a_missing_single_tag_is_put_in(folder):
    lines = [{"conversations": conversation("好。", "<image><image><image>?"), "image": "0.png, 1.png"},
             {"conversations": conversation("好。", "?"), "image": "0.png"}]  # fmt: skip
    (folder / "d.jsonl").write_text("\n".join(map(dumped, lines)), "utf-8")
    bad = BadRows(1.0)
    (record,) = records(folder / "d.jsonl", bad)
    assert record.turns[0].parts == (IMAGE, "\n", "?")
    assert "tags and images disagree: d.jsonl:1: 3 tags for 2 images" in bad.report() and "1 × repaired" in bad.report()


# A parquet file is written in pieces, then read in order and in another order by a process of its own.
MEMORY = """
import json, resource, sys
import numpy as np
import pyarrow as pa, pyarrow.parquet as pq
from dataset.formats import parquet
from dataset.bad_rows import BadRows
from dataset.formats.sources import RecordFile, read_records
path, size = sys.argv[1], int(sys.argv[2])
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "linux" else 1 << 20)
turns, rng = json.dumps([{"role": "user", "content": "<image>"}, {"role": "assistant", "content": "a"}]), None
schema = pa.schema([("conversations", pa.string()), ("image_bytes", pa.binary())])
rng, rows, each = np.random.default_rng(0), 0, 50_000
with pq.ParquetWriter(path, schema) as writer:
    while rows * each < size:
        pictures = [rng.bytes(each) for _ in range(200)]
        writer.write_table(pa.table([[turns] * 200, pictures], schema=schema))
        rows += 200
del pictures
before = peak()
assert sum(len(record.images[0]) == each for record in read_records(path)) == rows
records = RecordFile(path)
assert len(records) == rows
first = records[0].images[0][:8]
for index in rng.permutation(rows):
    assert len(records[int(index)].images[0]) == each
assert records[0].images[0][:8] == first
print(round(before), round(peak()), rows)
"""


def peak_memory(path: Path, size: int) -> tuple[int, int]:
    """MiB in use at most: before a parquet file of so many bytes was read, and after."""
    made = subprocess.run([sys.executable, "-c", MEMORY, str(path), str(size)], capture_output=True, text=True,
                          cwd=Path(__file__).resolve().parents[2], check=True)  # fmt: skip
    before, after, rows = map(int, made.stdout.split())
    assert rows * 50_000 >= size
    return before, after


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no ru_maxrss on Windows")
def test_a_parquet_file_is_read_in_any_order_in_a_fraction_of_its_size(tmp_path):
    before, after = peak_memory(tmp_path / "big.parquet", 320 << 20)
    assert after - before < 100
