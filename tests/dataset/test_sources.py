from __future__ import annotations

import io
import json
import os
from pathlib import Path

import pytest
from PIL import Image

from dataset.bad_rows import BadRow, BadRows, DataError, TooManyBadRows
from dataset.formats import parquet
from dataset.formats.sources import RecordFile, read_records
from dataset.record import IMAGE

pa = pytest.importorskip("pyarrow")
import pyarrow.parquet as pq  # noqa: E402

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
GOOD = [{"role": "user", "content": "<image>\n这是什么？"}, {"role": "assistant", "content": "一只猫。"}]


def png(value: int = 0) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (2, 2), (value, value, value)).save(file, "PNG")
    return file.getvalue()


def row(question: str = "<image>\n?", answer: str = "yes", **fields) -> dict:
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"conversations": turns, **fields}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    for name in ("0.jpg", "1.jpg", "a, b.jpg"):
        (tmp_path / "images" / name).write_bytes(png())
    (tmp_path / "images" / "empty.jpg").write_bytes(b"")
    (tmp_path / "secret.jpg").write_bytes(png())
    return tmp_path


def write_lines(path: Path, lines: list) -> Path:
    path.write_text("\n".join(x if isinstance(x, str) else json.dumps(x, ensure_ascii=False) for x in lines), "utf-8")
    return path


def write_parquet(path: Path, table_rows: list[dict], **options) -> Path:
    text = [{**r, "conversations": json.dumps(r["conversations"], ensure_ascii=False)} for r in table_rows]
    pq.write_table(pa.Table.from_pylist(text), path, **options)
    return path


def read_one(folder: Path, raw: dict):
    return next(read_records(write_lines(folder / "d.jsonl", [raw]), folder / "images", BadRows(1.0)))


def reasons(folder: Path, lines: list) -> dict[str, list[str]]:
    """The reason of each bad row, with its name, of a file of these lines."""
    bad = BadRows(limit=1.0)
    list(read_records(write_lines(folder / "d.jsonl", lines), folder / "images", bad))
    bad.write(folder / "bad.json")
    report = json.loads((folder / "bad.json").read_text("utf-8"))
    return {reason: fault["examples"] for reason, fault in report["reasons"].items()}


def test_minimind_jsonl_is_read(folder):
    record = read_one(folder, {"conversations": GOOD, "image": "0.jpg", "label": "猫"})
    assert record.id == "d.jsonl:1" and record.label == "猫"
    assert record.images == (folder / "images" / "0.jpg",)
    assert [turn.parts for turn in record.turns] == [(IMAGE, "\n这是什么？"), ("一只猫。",)]


def test_the_image_folder_is_the_data_files_own_by_default(folder):
    path = write_lines(folder / "images" / "d.jsonl", [row(image="0.jpg")])
    assert next(read_records(path)).images == (folder / "images" / "0.jpg",)


@pytest.mark.parametrize("image", ["0.jpg, 1.jpg", "0.jpg,1.jpg", ["0.jpg", "1.jpg"]])
def test_a_row_may_hold_several_images(folder, image):
    record = read_one(folder, row("<image>与<image>?", image=image))
    assert [path.name for path in record.images] == ["0.jpg", "1.jpg"]


def test_a_file_name_with_a_comma_is_one_name(folder):
    assert read_one(folder, row(image="a, b.jpg")).images[0].name == "a, b.jpg"


def test_text_without_an_image_is_a_record(folder):
    for fields in ({}, {"image": ""}, {"image": None}, {"images": []}):
        assert read_one(folder, row("你好", **fields)).images == ()


def test_a_missing_tag_of_a_single_image_is_put_in_front_and_counted(folder):
    path, bad = write_lines(folder / "d.jsonl", [row("谁？", image="0.jpg")]), BadRows()
    assert next(iter(read_records(path, folder / "images", bad))).turns[0].parts == (IMAGE, "\n", "谁？")
    assert bad.bad == 0 and "1 × repaired: image tag was missing" in bad.report()


def test_a_tag_in_an_answer_is_text(folder):
    record = read_one(folder, row("write html", "put <image> here"))
    assert record.turns[1].parts == ("put <image> here",) and record.images == ()


def test_a_system_turn_is_kept(folder):
    raw = row("hi", system="Be brief")
    assert [turn.role for turn in read_one(folder, raw).turns] == ["system", "user", "assistant"]


def test_a_trailing_question_is_left_out_with_a_note(folder):
    raw = {"conversations": [*row("hi")["conversations"], {"role": "user", "content": "and?"}]}
    path, bad = write_lines(folder / "d.jsonl", [raw]), BadRows()
    assert len(next(iter(read_records(path, bad=bad))).turns) == 2
    assert "question without an answer" in bad.report()


@pytest.mark.parametrize("indent", [None, 2])
def test_llava_json_lists_are_read(folder, indent):
    turns = [{"from": "human", "value": 'a "quote\\" [ { \\ <image>'}, {"from": "gpt", "value": "}]"}]
    items = [{"id": i, "image": "0.jpg", "conversations": turns} for i in range(3)]
    (folder / "llava.json").write_text(json.dumps(items, indent=indent), "utf-8")
    records = list(read_records(folder / "llava.json", folder / "images"))
    assert [record.id for record in records] == ["llava.json:0", "llava.json:1", "llava.json:2"]
    assert records[0].turns[0].parts == ('a "quote\\" [ { \\ ', IMAGE) and records[0].turns[1].text == "}]"


def test_sharegpt_messages_and_images_are_read(folder):
    record = read_one(folder, {"messages": GOOD, "images": ["0.jpg"]})
    assert record.images == (folder / "images" / "0.jpg",) and record.turns[1].text == "一只猫。"


def test_a_torn_json_list_names_its_last_row(folder):
    text = json.dumps([row("a"), row("b"), row("c")])
    (folder / "torn.json").write_text(text[:-30], "utf-8")
    bad = BadRows(1.0)
    assert len(list(read_records(folder / "torn.json", bad=bad))) == 2
    assert "1 × row is not JSON: torn.json:2" in bad.report()


def test_parquet_holds_bytes_or_lists_of_bytes(folder):
    one = write_parquet(folder / "one.parquet", [{"conversations": GOOD, "image_bytes": png(1), "label": "猫"}])
    many = [{**row("<image><image>"), "image_bytes": [png(1), png(2)]}, {**row("text only"), "image_bytes": []}]
    record = next(read_records(one))
    assert (record.id, record.images, record.label) == ("one.parquet:0", (png(1),), "猫")
    records = list(read_records(write_parquet(folder / "many.parquet", many)))
    assert [record.images for record in records] == [(png(1), png(2)), ()]


def test_every_kind_of_bad_row_is_named_with_its_line(folder):
    found = reasons(folder, [
        row(image="0.jpg"),
        "{not json",
        "",
        '{"conversations": [{"role": "user", "content": "no answ',
        "[1, 2]",
        {"conversations": [{"role": "user", "content": "?"}]},
        {"text": "?"},
        row("?", "  \n"),
        row("?", None),
        {"conversations": [{"role": "narrator", "content": "?"}]},
        {"conversations": "not json either"},
        {"conversations": 7},
        {"conversations": ["hello"]},
        {"conversations": [*row("a")["conversations"], {"role": "assistant", "content": "twice"}]},
        row("<image><image><image>", image="0.jpg, 1.jpg"),
        row("<image>"),
        row(image="missing.jpg"),
        row(image="empty.jpg"),
        row(image="../secret.jpg"),
        row(image="/etc/passwd"),
        row(image=7),
    ])  # fmt: skip
    lines = {reason: [int(text.split(":")[1]) for text in examples] for reason, examples in found.items()}
    assert lines == {
        "row is not JSON": [2, 4], "row is not an object": [5], "row has no answer": [6],
        "row has no conversation": [7], "answer is empty": [8], "turn has no text": [9], "role is unknown": [10],
        "conversations is not JSON": [11], "conversations is not a list": [12], "turn is not an object": [13],
        "turns do not alternate": [14], "image tags and images disagree": [15, 16],
        "image file is missing": [17], "image has zero bytes": [18],
        "image path leaves the image folder": [19, 20], "image is neither a name nor bytes": [21],
    }  # fmt: skip
    assert "3 tags for 2 images" in found["image tags and images disagree"][0]


def test_bad_parquet_rows_are_named_with_their_row(folder):
    broken = [{**row(), "image_bytes": png()}, {**row(), "image_bytes": b""}, {**row(), "image_bytes": None}]
    bad = BadRows(1.0)
    assert len(list(read_records(write_parquet(folder / "d.parquet", broken), bad=bad))) == 1
    assert "d.parquet:1" in bad.report() and "1 tags for 0 images" in bad.report()


def test_reading_stops_with_the_report_once_too_many_rows_are_bad(folder):
    good = [row("hi")] * 500
    few = write_lines(folder / "few.jsonl", [*good, *["nonsense"] * 5])
    many = write_lines(folder / "many.jsonl", [*good, *["nonsense"] * 6])
    assert len(list(read_records(few))) == 500
    with pytest.raises(TooManyBadRows, match=r"(?s)6 of 506 .*many.jsonl:501: .*1.00% allowed.*--max_bad"):
        list(read_records(many))
    with pytest.raises(TooManyBadRows, match="1 of 501"):
        list(read_records(few, bad=BadRows(0)))


def test_bad_rows_are_judged_from_the_hundredth_row_or_at_the_end():
    bad = BadRows(0.1)
    bad.seen(50)
    for number in range(20):
        bad.add(f"f:{number}", BadRow("broken"))
    with pytest.raises(TooManyBadRows):
        bad.finish()
    late = BadRows(0.1)
    late.seen(100)
    late.finish()
    for number in range(10):
        late.add(f"f:{number}", BadRow("broken"))
        late.add(f"f:{number}", BadRow("broken, met again in the next epoch"))
    with pytest.raises(TooManyBadRows, match="11 of 100"):
        late.add("f:10", BadRow("broken"))


def test_a_share_that_is_none_is_refused():
    with pytest.raises(ValueError, match="0.01 for 1%"):
        BadRows(5)


def test_files_that_are_no_data_set_say_what_was_found(folder):
    for name, content, message in (
        ("empty.jsonl", b"", "is empty"), ("blank.jsonl", b"\n \n", "is empty"),
        ("empty.parquet", b"", "is empty"), ("fake.parquet", b"<html>", r"starts with b'<html>'"),
        ("cut.parquet", b"PAR1" + b"x" * 100, "is damaged"), ("x.gz", b"\x1f\x8b\x08", "unpack"),
        ("lfs.parquet", b"version https://git-lfs.github.com/spec/v1", "git lfs pull"),
        ("list.json", b"[]", "no rows"), ("utf16.jsonl", '{"a": 1}'.encode("utf-16"), "starts with"),
    ):  # fmt: skip
        (folder / name).write_bytes(content)
        for read in (lambda path: next(read_records(path)), RecordFile):
            with pytest.raises(DataError, match=message):
                read(folder / name)
    for read in (lambda path: next(read_records(path)), RecordFile):
        with pytest.raises(DataError, match="does not exist.*--data"):
            read(folder / "absent.jsonl")
        with pytest.raises(DataError, match="is a folder"):
            read(folder)
    pq.write_table(pa.table({"text": ["a"]}), folder / "columns.parquet")
    with pytest.raises(DataError, match="has the columns text; expected one named conversations"):
        next(read_records(folder / "columns.parquet"))


def test_a_byte_order_mark_and_windows_line_ends_are_read(folder):
    text = "\r\n".join(json.dumps(row("hi")) for _ in range(2))
    (folder / "bom.jsonl").write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert len(list(read_records(folder / "bom.jsonl"))) == 2


def random_access_files(folder: Path) -> list[Path]:
    plain = [row(f"question {i}", "x" * (i % 7 + 1)) for i in range(600)]
    (folder / "list.json").write_text(json.dumps(plain), "utf-8")
    return [
        write_lines(folder / "lines.jsonl", [*plain[:300], "", *plain[300:]]),
        folder / "list.json",
        write_parquet(folder / "rows.parquet", plain, row_group_size=130),
    ]


@pytest.mark.parametrize("kind", [0, 1, 2])
@pytest.mark.parametrize("in_memory", [True, False])
def test_any_order_gives_the_records_that_reading_in_order_does(folder, kind, in_memory, monkeypatch):
    monkeypatch.setattr(parquet, "IN_MEMORY", 1 << 20 if in_memory else 0)
    path = random_access_files(folder)[kind]
    records, in_order = RecordFile(path), list(read_records(path))
    assert len(records) == len(in_order) == 600
    for index in (599, 0, 300, 299, 130, 129, 256, 512):
        assert records[index] == in_order[index]
    assert list(records) == in_order
    with pytest.raises(IndexError):
        records[600]


def test_the_copy_of_a_large_parquet_file_leaves_nothing_behind(folder, monkeypatch):
    (folder / "tmp").mkdir()
    monkeypatch.setattr(parquet, "IN_MEMORY", 0)
    monkeypatch.setattr("tempfile.tempdir", str(folder / "tmp"))
    records = RecordFile(random_access_files(folder)[2])
    assert records[5].turns[0].text == "question 5"
    assert os.name != "posix" or list((folder / "tmp").iterdir()) == []


def test_parquet_is_streamed(folder):
    conversation, noise = json.dumps(row()["conversations"]), os.urandom(2000)
    pictures = [number.to_bytes(4, "big") + noise for number in range(15_000)]  # 30 MB in one row group
    table = pa.table({"conversations": [conversation] * len(pictures), "image_bytes": pictures})
    path = folder / "big.parquet"
    pq.write_table(table, path, row_group_size=len(pictures))
    del table, pictures
    before = pa.total_allocated_bytes()
    for count, _ in enumerate(read_records(path)):
        if count % 1000 == 0:
            assert pa.total_allocated_bytes() - before < 10e6


def test_a_bad_row_asked_for_by_number_is_named(folder):
    records = RecordFile(write_lines(folder / "d.jsonl", [row("hi"), "", "nonsense"]))
    with pytest.raises(BadRow, match="not JSON") as caught:
        records[1]
    assert caught.value.row_id == "d.jsonl:3"


def test_repairs_are_counted_once_however_often_a_row_is_read(folder):
    bad = BadRows()
    records = RecordFile(write_lines(folder / "d.jsonl", [row("谁？", image="0.jpg")]), folder / "images", bad)
    assert records[0] == records[0]
    assert "1 × repaired" in bad.report()


@pytest.mark.skipif(not DATA.is_dir(), reason=f"{DATA} is absent")
def test_real_photographs_in_parquet_are_read():
    bad = BadRows()
    records = list(read_records(DATA / "cifar10_val.parquet", bad=bad))
    assert len(records) == bad.total == 2000 and bad.bad == 0
    assert all(record.label in record.turns[1].text and len(record.images) == 1 for record in records)
