"""Files that no honest program wrote: each is a bad row with its reason, or an error in words."""

from __future__ import annotations

import io
import json
import struct
import tarfile
import tracemalloc
import zlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from tiny import conversation, png, write_jsonl, write_parquet

import dataset.check
import dataset.clean
from dataset.atomic import encoded
from dataset.bad_rows import BadImage, BadRow, BadRows, DataError
from dataset.formats.rows import open_rows, stream_rows
from dataset.pictures import open_picture
from model.checkpoints import WeightsError, read_json, write_json
from tokenizer.tokenizer import Tokenizer, TokenizerError, default_folder

HALF = "what \ud83d is it?"  # half a surrogate pair


def test_half_an_emoji_is_trained_on_reported_and_copied(tmp_path, capsys):
    odd = json.dumps({"conversations": conversation(HALF, "<image>\n?"), "image": "0.png", "\ud800": 1})
    data = write_jsonl(tmp_path, 5, (odd, json.dumps({"\ud800": 1})))
    dataset.check.main([str(data), "--images", str(tmp_path / "images"), "--page", str(tmp_path / "page.html")])
    assert "1 of 7 rows are bad" in capsys.readouterr().out
    out = tmp_path / "out.jsonl"
    dataset.clean.main([str(data), str(out), "--images", str(tmp_path / "images"), "--dedup", "exact"])
    copied = [json.loads(line) for line in out.read_text("utf-8").splitlines()]
    assert copied[0]["conversations"][1]["content"] == HALF


def test_what_is_written_is_utf8_and_reads_back(tmp_path):
    assert encoded("狗 " + HALF).decode() == "狗 what \\ud83d is it?"
    write_json(tmp_path / "a.json", {"text": HALF})
    assert read_json(tmp_path / "a.json") == {"text": HALF}
    bad = BadRows(1.0)
    bad.seen()
    bad.add("rows:\udcff", BadRow("reason \ud800", HALF))
    bad.write(tmp_path / "bad.json")
    assert "reason \ud800" in json.loads((tmp_path / "bad.json").read_text("utf-8"))["reasons"]


@pytest.mark.parametrize("odd", [
    pa.array([2**62 + 1] * 6, pa.duration("ns")),
    pa.array([-(2**62)] * 6, pa.timestamp("us")),
    pa.array([1] * 6, pa.timestamp("s", tz="Nowhere/None")),
    pa.array([2**30] * 6, pa.date32()),
    pa.array([2**62 + 1] * 6, pa.timestamp("ns", tz="+99:99")),
    pa.StringArray.from_buffers(6, *pa.array([b"\xff\xed\xa0"] * 6, pa.binary()).buffers()[1:]),
], ids=lambda odd: str(odd.type))  # fmt: skip
def test_a_cell_that_python_has_no_form_for_makes_its_row_bad(tmp_path, odd):
    """In a column that is used; another is not read at all, and copied as it is."""
    cut = "The picture shows a dog that runs on the grass. It has a ball in its mouth and looks very happy because it"
    turns = json.dumps(conversation(cut), ensure_ascii=False)
    extra = {"conversations": turns, "image_bytes": [png()], "label": "dog"}
    good = pq.read_table(write_parquet(tmp_path / "good.parquet", 5, (extra,)))
    pq.write_table(good.append_column("created", odd), tmp_path / "unused.parquet")
    assert len([row for _, row in stream_rows(tmp_path / "unused.parquet") if not isinstance(row, BadRow)]) == 6
    clean = [str(tmp_path / "unused.parquet"), str(tmp_path / "copy.parquet"), "--cut", "unfinished"]
    dataset.clean.main([*clean, "--balance", "label:1"])
    before, copy = (pq.read_table(tmp_path / f"{name}.parquet") for name in ("unused", "copy"))
    assert copy["created"].equals(before["created"]) and "happy" not in copy["conversations"][0].as_py()
    place = good.schema.get_field_index("conversations")
    pq.write_table(good.set_column(place, "conversations", odd), tmp_path / "used.parquet")
    rows = open_rows(tmp_path / "used.parquet")
    for index, (_, row) in enumerate(stream_rows(tmp_path / "used.parquet")):
        assert isinstance(row, BadRow) and "column cannot be read" in str(row) and "conversations" in str(row)
        with pytest.raises(BadRow, match="column cannot be read"):
            rows.read(index)


def tar_with(path: Path, change) -> Path:
    """A tar of a picture and its text, the header of the picture changed by change(bytearray of 512)."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in (("0.png", png()), ("0.txt", b"a thing")):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    content = bytearray(file.getvalue())
    change(content)
    content[148:156] = b" " * 8
    content[148:156] = b"%06o\0 " % sum(content[:512])
    path.write_bytes(content)
    return path


def test_a_column_whose_name_is_not_utf8_is_damage(tmp_path):
    table = pa.table({"conversations": [json.dumps(conversation("hi"))], "described": ["x"]})
    pq.write_table(table, tmp_path / "rows.parquet")
    content = (tmp_path / "rows.parquet").read_bytes()
    (tmp_path / "rows.parquet").write_bytes(content.replace(b"described", b"descr\xeebed"))
    with pytest.raises(DataError, match="rows.parquet is damaged"):
        list(stream_rows(tmp_path / "rows.parquet"))


@pytest.mark.parametrize("size", [-512, -1, 5 << 40])
def test_a_member_of_an_impossible_size_is_an_error_not_a_loop(tmp_path, size):
    def change(header):
        header[124:136] = b"\x80" + size.to_bytes(11, "big") if size > 0 else (2**96 + size).to_bytes(12, "big")

    with pytest.raises(DataError, match="is damaged"):
        open_rows(tar_with(tmp_path / "a.tar", change))


def test_a_sparse_member_is_an_error_not_gigabytes_of_zeros(tmp_path):
    def change(header):
        header[156:157] = b"S"  # GNU's sparse file
        header[257:265] = b"ustar  \0"
        header[386:410] = b"%011o\0%011o\0" % (0, 0)
        header[483:495] = b"\x80" + (5 << 30).to_bytes(11, "big")

    with pytest.raises(DataError, match="is damaged"):
        open_rows(tar_with(tmp_path / "a.tar", change))


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 100_000, '{"a": ' + "9" * 5000 + "}"], ids=["list", "dict", "digits"]
)
def test_json_beyond_the_parser_is_an_error_in_words(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(WeightsError, match="no valid JSON"):
        read_json(tmp_path / "config.json")
    with pytest.raises(TokenizerError, match="is not JSON"):
        Tokenizer(text)
    for name in ("generation_config.json", "tokenizer_config.json"):
        with pytest.raises(TokenizerError, match=f"{name} beside .* is not JSON"):
            Tokenizer((default_folder() / "tokenizer.json").read_text("utf-8"), {name: text})
    (tmp_path / "dataset_info.json").write_text(text)
    (tmp_path / "data.jsonl").write_text('{"a": 1}\n')
    with pytest.raises(DataError, match="dataset_info.json cannot be read"):
        open_rows(tmp_path / "data.jsonl").read(0)
        dataset.check.main([str(tmp_path / "data.jsonl")])


def test_a_jpeg_that_lies_about_its_size_is_not_decoded():
    file = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(file, "JPEG", progressive=True)
    honest = file.getvalue()
    assert open_picture(honest).size == (64, 64)
    place = honest.index(b"\xff\xc2") + 5
    for side in (30_000, 8_000):
        lying = honest[:place] + side.to_bytes(2, "big") * 2 + honest[place + 4 :]
        with pytest.raises(BadImage, match="image is too large" if side == 30_000 else "image is damaged"):
            open_picture(lying)


def jpeg(**options) -> bytes:
    file = io.BytesIO()
    Image.new("L", (2000, 2000), 99).save(file, "JPEG", **options)
    return file.getvalue()


@pytest.mark.parametrize("options", [{}, {"optimize": True}, {"progressive": True, "optimize": True}], ids=str)
def test_a_jpeg_without_pixel_data_is_damaged_and_one_that_needs_little_is_not(options):
    whole = jpeg(**options)
    assert open_picture(whole).getextrema() == ((99, 99),) * 3
    start = whole.index(b"\xff\xda")
    header = start + 2 + int.from_bytes(whole[start + 2 : start + 4], "big")
    for content in (whole[:start], whole[:header]):
        with pytest.raises(BadImage, match="image is damaged"):
            open_picture(content + b"\xff\xd9")


def test_a_jpeg_of_very_many_scans_is_not_decoded():
    """Each scan of a few bytes is a pass over all pixels."""
    whole = jpeg(progressive=True)
    last = whole.rindex(b"\xff\xda")
    with pytest.raises(BadImage, match="image is too large.* 30.. scans"):
        open_picture(whole[:last] + whole[last:-2] * 3000 + whole[-2:])


def png_with(kind: bytes, content: bytes) -> bytes:
    chunk = len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")
    whole = png()
    return whole[:33] + chunk + whole[33:]  # after the header


@pytest.mark.parametrize("kind, start", [(b"zTXt", b"a\0\0"), (b"iTXt", b"a\0\1\0\0\0"), (b"iCCP", b"a\0\0")])
def test_a_png_whose_texts_unpack_to_very_much_is_damaged(kind, start):
    bomb = zlib.compress(bytes(8 << 20), 9)
    with pytest.raises(BadImage, match="Decompressed data too large"):
        open_picture(png_with(kind, start + bomb))


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_of_thousands_of_frames_one_is_decoded(kind, monkeypatch):
    file, frames = io.BytesIO(), [Image.new("RGB", (8, 8), (i % 256, i // 256, 0)) for i in range(2000)]
    frames[0].save(file, kind, save_all=True, append_images=frames[1:], lossless=True)
    loads = []
    load = Image.Image.load
    monkeypatch.setattr(Image.Image, "load", lambda image: loads.append(image) or load(image))
    assert open_picture(file.getvalue()).size == (8, 8) and len(loads) < 20


@pytest.mark.parametrize("tag", [(273, 4, 0x3FFFFFFF), (700, 1, 0xFFFFFFF0), (256, 4, 1), (33434, 5, 0x1FFFFFFF)])
def test_a_tiff_that_claims_huge_tags_reads_no_more_than_there_is(tag):
    """Strips, metadata, a width of 200 million pixels, and exposure times beyond the end of the file."""
    tags = {256: (4, 1, 8), 257: (4, 1, 8), 258: (3, 1, 8), 259: (3, 1, 1), 262: (3, 1, 1), 273: (4, 1, 300),
            277: (3, 1, 1), 278: (3, 1, 8), 279: (4, 1, 64), tag[0]: (*tag[1:], 200_000_000)}  # fmt: skip
    entries = b"".join(struct.pack("<HHII", number, *entry) for number, entry in sorted(tags.items()))
    content = b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + bytes(500)
    tracemalloc.start()
    try:
        assert open_picture(content).size == (8, 8)
    except BadImage as error:
        assert error.reason in ("image is damaged", "image is too large", "not an image")
    finally:
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert most < 10 << 20


@pytest.mark.parametrize("change", [
    {"added_tokens": [5]}, {"added_tokens": 5}, {"added_tokens": [{"id": 1}]}, {"decoder": 5}, {"decoder": [1]},
], ids=str)  # fmt: skip
def test_a_tokenizer_with_parts_of_another_kind_is_refused(change):
    data = json.loads((default_folder() / "tokenizer.json").read_text("utf-8"))
    with pytest.raises(TokenizerError, match="tokenizer.json has the"):
        Tokenizer(json.dumps({**data, **change}))


def test_a_file_beyond_the_largest_row_makes_its_row_bad_and_no_other(tmp_path, monkeypatch):
    """As a film beside pictures."""
    monkeypatch.setattr("dataset.formats.shards.LONGEST", 4000)
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as tar:
        for name, content in (("0.mp4", bytes(9000)), ("1.png", png()), ("1.txt", b"a thing")):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    first, second = (row for _, row in stream_rows(path))
    assert isinstance(first, BadRow) and "4,000 are supported" in str(first)
    assert second["image_bytes"] == [png()]
