"""python -m dataset.clean: every removed row has its reason in the report, and the rest stays as it was."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest
from PIL import Image, ImageDraw
from tiny import conversation

from dataset.bad_rows import DataError
from dataset.clean import main, parse
from dataset.curation.duplicates import NearIndex, exact_key, look, min_hashes, nearly_same, similarity
from dataset.formats.sources import read_records
from dataset.record import IMAGE, Record, Turn

pa = pytest.importorskip("pyarrow")
import pyarrow.parquet as pq  # noqa: E402

LONG = "图中有一只棕色的小狗在绿色的草地上奔跑，它看起来非常开心，远处有几棵大树和一条小河"
LOOP = "一只狗在草地上，" * 6
ROWS = [
    {"conversations": conversation(f"{LONG}。", "a?"), "label": "狗"},
    {"conversations": conversation(LOOP, "b?"), "label": "狗"},
    {"conversations": conversation("caf\u00c3\u00a9 \u00c3\u00a9", "c?"), "label": "狗"},
    {"conversations": conversation(f"{LONG}。另外还有", "d?"), "label": "狗"},
    {"conversations": conversation(LONG, "e?"), "label": "狗"},
    {"conversations": conversation(f"{LONG}。", "a?"), "label": "猫"},
    {"conversations": conversation(f"{LONG}！", "A ?"), "label": "猫"},
    {"conversations": conversation("", "g?"), "label": "猫"},
    {"conversations": conversation("一只猫", "h?"), "label": "猫"},
]
ALL = ["--drop", "looping,mojibake", "--cut", "unfinished", "--dedup", "exact,near"]


def write(folder: Path, kind: str, rows: list[dict] = ROWS) -> Path:
    path = folder / f"in.{kind}"
    if kind == "parquet":
        table = [{**row, "conversations": json.dumps(row["conversations"]), "extra": i} for i, row in enumerate(rows)]
        pq.write_table(pa.Table.from_pylist(table), path, row_group_size=4)
    elif kind == "json":
        path.write_text(json.dumps(rows, indent=1), "utf-8")
    elif kind == "jsonl":
        path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n", "utf-8")
    else:
        with tarfile.open(path, "w") as tar:
            for i, row in enumerate(rows):
                info, text = tarfile.TarInfo(f"{i}.json"), json.dumps(row).encode()
                info.size = len(text)
                tar.addfile(info, io.BytesIO(text))
    return path


def clean(path: Path, out: Path, *flags: str) -> list[dict]:
    """Run the command, see that IN is as it was, and give back the report."""
    before = hashlib.sha256(path.read_bytes()).digest()
    main([str(path), str(out), *flags])
    assert hashlib.sha256(path.read_bytes()).digest() == before
    assert not list(out.parent.glob("*.partial"))
    return [json.loads(line) for line in (out.with_name(out.name + ".report.jsonl")).read_text("utf-8").splitlines()]


@pytest.mark.parametrize("kind", ["jsonl", "json", "parquet", "tar"])
def test_every_format_loses_the_same_rows_and_each_is_told_with_its_reason(tmp_path, capsys, kind):
    path, out = write(tmp_path, kind), tmp_path / f"out.{kind}"
    report = clean(path, out, *ALL)
    name = {"jsonl": "in.jsonl:{1}", "json": "in.json:{0}", "parquet": "in.parquet:{0}", "tar": "in.tar:{0}"}[kind]
    assert [(entry["row"], entry["action"], entry["rule"]) for entry in report] == [
        (name.format(i, i + 1), action, rule) for i, action, rule in (
            (1, "removed", "looping"),
            (2, "removed", "mojibake"),
            (3, "cut", "unfinished"),
            (4, "removed", "unfinished"), (5, "removed", "exact duplicate"),
            (6, "removed", "exact duplicate"),
            (7, "removed", "bad row: answer is empty"))
    ]  # fmt: skip
    assert (report[2]["cut off"], report[2]["left"]) == ("另外还有", f"{LONG}。")
    assert report[4]["of"] == name.format(0, 1)
    kept = list(read_records(out))
    assert [record.turns[1].text for record in kept] == [f"{LONG}。", f"{LONG}。", "一只猫"]
    assert [record.label for record in kept] == ["狗", "狗", "猫"]
    said = capsys.readouterr().out
    assert "9 rows: 6 removed, 3 left, 1 of them changed" in said and "1 × looping, e.g. in." in said


def test_rows_that_stay_are_the_same_to_the_byte_and_columns_that_training_does_not_use_stay(tmp_path):
    lines = write(tmp_path, "jsonl")
    clean(lines, tmp_path / "out.jsonl", "--drop", "looping")
    before, after = (p.read_bytes().splitlines() for p in (lines, tmp_path / "out.jsonl"))
    assert after == [line for i, line in enumerate(before) if i not in (1, 7)]
    table = write(tmp_path, "parquet")
    clean(table, tmp_path / "out.parquet", *ALL)
    left = pq.read_table(tmp_path / "out.parquet")
    assert left.schema == pq.read_schema(table) and left.column("extra").to_pylist() == [0, 3, 8]


def test_nothing_is_asked_and_only_unusable_rows_go(tmp_path):
    report = clean(write(tmp_path, "jsonl"), tmp_path / "out.jsonl")
    assert [entry["row"] for entry in report] == ["in.jsonl:8"]


def test_only_answers_that_break_off_are_cut_in_a_row_that_is_changed(tmp_path):
    turns = [*conversation("红色和绿色", "颜色？"), *conversation(f"{LONG}。而且", "说说")]
    clean(write(tmp_path, "jsonl", [{"conversations": turns}]), tmp_path / "out.jsonl", "--cut", "unfinished")
    (record,) = read_records(tmp_path / "out.jsonl")
    assert [turn.text for turn in record.turns] == ["颜色？", "红色和绿色", "说说", f"{LONG}。"]


def classes(**counts: int) -> list[dict]:
    return [{"conversations": conversation(f"{name}{i}", f"{name}{i}?"), "label": name}
            for name, count in counts.items() for i in range(count)]  # fmt: skip


def test_small_classes_go_and_large_ones_are_drawn_from_after_all_other_rules(tmp_path):
    rows = classes(a=12, b=5, c=7) + classes(c=1) * 3
    path = write(tmp_path, "jsonl", rows)
    report = clean(path, tmp_path / "out.jsonl", "--balance", "label:6:8", "--dedup", "exact")
    left = [record.label for record in read_records(tmp_path / "out.jsonl")]
    assert {name: left.count(name) for name in "abc"} == {"a": 8, "b": 0, "c": 7}
    whys = {entry["why"] for entry in report if entry["rule"] == "balance"}
    assert whys == {"label 'a' has 12 rows, more than 8; chosen at random", "label 'b' has 5 rows, fewer than 6"}
    clean(path, tmp_path / "same.jsonl", "--balance", "label:6:8", "--dedup", "exact")
    clean(path, tmp_path / "other.jsonl", "--balance", "label:6:8", "--dedup", "exact", "--seed", "1")
    texts = [(tmp_path / f"{name}.jsonl").read_text() for name in ("out", "same", "other")]
    assert texts[0] == texts[1] != texts[2]


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--drop", "ugly"], "expected looping or mojibake"),
        (["--balance", "label"], "expected COLUMN:MIN"),
        (["--balance", "label:9:5"], "MIN is 9 and MAX 5"),
        (["--dedup", "fuzzy"], "expected exact or near"),
    ],
)
def test_flags_that_mean_nothing_are_refused(tmp_path, capsys, flags, message):
    with pytest.raises(SystemExit):
        parse([str(tmp_path / "a"), str(tmp_path / "b"), *flags])
    assert message in capsys.readouterr().err


def test_what_cannot_be_written_is_said_and_nothing_is_left_behind(tmp_path):
    path = write(tmp_path, "jsonl")
    for out, flags, message in (
        ("in.jsonl", [], "exists; files are never overwritten"), ("out.parquet", [], "expected .jsonl or .json"),
        ("no/out.jsonl", [], "expected a folder"), ("out.jsonl", ["--balance", "brand:5"], "row without 'brand'"),
        ("out.jsonl", ["--balance", "label:50"], "no row of .* would be left"),
    ):  # fmt: skip
        with pytest.raises(DataError, match=message):
            main([str(path), str(tmp_path / out), *flags])
    assert [file.name for file in tmp_path.iterdir()] == ["in.jsonl"]


def drawing(seed: int, size: int = 96, shift: int = 0) -> Image.Image:
    """A picture of discs that the seed places, brighter by shift."""
    image = Image.new("RGB", (96, 96), (40 + shift, 90 + shift, 120 + shift))
    pen = ImageDraw.Draw(image)
    for i in range(7):
        x, y = (seed * 37 + i * 53) % 80, (seed * 61 + i * 29) % 80
        pen.ellipse((x, y, x + 24, y + 20), fill=((seed * 91 + i * 70) % 256, (i * 40) % 256, (seed * 50) % 256))
    return image.resize((size, size))


def encoded(image: Image.Image, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, **options)
    return file.getvalue()


def record(picture: bytes | None, question: str, answer: str, name: str = "r") -> Record:
    parts = (IMAGE, "\n" + question) if picture else (question,)
    images = (picture,) if picture else ()
    return Record(name, images, (Turn("user", parts), Turn("assistant", (answer,))))


def test_a_picture_saved_again_or_scaled_looks_the_same_and_another_does_not():
    original = look(encoded(drawing(1), format="PNG"))
    for changed in (encoded(drawing(1), format="JPEG", quality=60), encoded(drawing(1, 64), format="PNG")):
        assert original.is_near(look(changed))
    for seed in range(2, 40):
        assert not original.is_near(look(encoded(drawing(seed), format="PNG")))
    images = (Image.new("RGB", (8, 8), colour) for colour in ((200, 0, 0), (0, 0, 200), (203, 2, 0)))
    flat = [look(encoded(image, format="PNG")) for image in images]
    assert not flat[0].is_near(flat[1]) and flat[0].is_near(flat[2])  # no edges, but colours


@pytest.mark.parametrize(
    "one, other, alike",
    [
        ("A dog runs over the green grass of the park with a red ball in its mouth today.",
         "a dog runs over the green grass of the park, with a red ball in its mouth!", True),
        ("A dog runs over the green grass.", "A cat sleeps on the red sofa.", False),
        ("Add 17 and 25 and then tell me what the sum of the two numbers is, please.",
         "Add 17 and 26 and then tell me what the sum of the two numbers is, please.", False),
        ("红色的小猫", "红色的小狗", False),
        (LONG, LONG.replace("非常", "十分"), True),
        (LONG, LONG.replace("棕色", "黑色").replace("草地", "雪地"), False),
        (LONG + "岸边停着一条木船，船上坐着两位老人。", LONG + "，岸边停着一条木船，船上坐着两位老人", True),
    ],
)  # fmt: skip
def test_texts_are_alike_where_their_words_in_a_row_are(one, other, alike):
    assert (similarity(one, other) >= 0.8) == alike


def test_texts_that_are_nearly_the_same_share_a_hash_and_others_hardly_do():
    words = [f"w{i}" for i in range(120)]
    for start in range(60):
        text = " ".join(words[start : start + 60])
        near = text.replace(f"w{start + 30} ", "other ")
        assert (min_hashes(text) == min_hashes(near)).any()
    alone = [min_hashes(" ".join(f"{i}x{j}" for j in range(30))) for i in range(60)]
    assert sum((a == b).any() for i, a in enumerate(alone) for b in alone[:i]) == 0


def test_a_duplicate_has_both_the_picture_and_the_text():
    a, b = (encoded(drawing(seed), format="PNG") for seed in (1, 2))
    again = encoded(drawing(1), format="JPEG")
    rows = [
        record(a, "What is it?", LONG), record(a, "what is it", LONG + "。"),  # exact
        record(again, "What is it?", LONG),  # near
        record(b, "What is it?", LONG),  # another picture
        record(a, "Which colour?", "red"),  # another question
        record(a, "Is there a dog in the picture? Answer with one word, as the others did before you.", "yes"),
        record(a, "Is there a dog in the picture? Answer with one word, as the others did before you.", "no"),
        record(None, "What is it?", LONG),
    ]  # fmt: skip
    keys = [exact_key(row) for row in rows]
    assert keys[0] == keys[1] and len(set(keys)) == len(rows) - 1
    index = NearIndex()
    for place, row in enumerate(rows):
        index.add(place, row)
    assert index.duplicates(rows.__getitem__) == {1: 0, 2: 0}
    assert not nearly_same(rows[5], rows[6])


def test_near_duplicates_are_found_as_by_comparing_all_pairs():
    rows = []
    for i in range(60):
        pictures = [encoded(drawing(i % 20), format=format) for format in ("PNG", "JPEG")]
        text = f"{LONG}，" + "".join(chr(0x4E00 + (i % 15) * 40 + j) for j in range(12 if i % 4 else 3))
        rows.append(record(pictures[i % 2], "描述图片", text))
    expected: dict[int, int] = {}
    for i, row in enumerate(rows):
        first = next((j for j in range(i) if j not in expected and nearly_same(rows[j], row)), None)
        if first is not None:
            expected[i] = first
    index = NearIndex()
    for place, row in enumerate(rows):
        index.add(place, row)
    assert expected and index.duplicates(rows.__getitem__) == expected


def test_answers_that_repeat_across_pictures_are_no_duplicates(tmp_path):
    rows = [{"conversations": conversation("一只猫。"), "image": f"{i}.png"} for i in range(5)]
    for i in range(5):
        (tmp_path / f"{i}.png").write_bytes(encoded(drawing(i), format="PNG"))
    assert clean(write(tmp_path, "jsonl", rows), tmp_path / "out.jsonl", "--dedup", "exact,near") == []
