"""Rows of which a format says more than that they are conversations: read as meant, or refused by name."""

from __future__ import annotations

import base64
import json
import tarfile
from io import BytesIO
from pathlib import Path

import pytest
from tiny import conversation, png

import dataset.clean
from dataset.bad_rows import BadRows
from dataset.formats.sources import RecordFile, read_records

ASK, SAY = conversation("a cat.", "what?")
TALK = [ASK, SAY]


def read(folder: Path, row: dict, register: dict | None = None) -> list | str:
    """The records of a file of this row, or the report where there are none; the same in any order and as parquet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for name in ("0.png", "1.png"):
        (folder / name).write_bytes(png((int(name[0]), 0, 0)))
    if register is not None:
        entries = {name: {"file_name": name, **register} for name in ("d.jsonl", "d.parquet")}
        (folder / "dataset_info.json").write_text(json.dumps(entries))
    (folder / "d.jsonl").write_text(json.dumps(row) + "\n", "utf-8")
    bad = BadRows(1.0)
    found = list(read_records(folder / "d.jsonl", None, bad))
    text = {name: json.dumps(value) if name in ("messages", "conversations") else value for name, value in row.items()}
    if "messages" in text or "conversations" in text:
        pq.write_table(pa.Table.from_pylist([text]), folder / "d.parquet")
        again = list(read_records(folder / "d.parquet", None, BadRows(1.0)))
        assert [record.turns for record in again] == [record.turns for record in found]
    assert not found or list(RecordFile(folder / "d.jsonl")) == found
    return found or bad.report()


@pytest.mark.parametrize("row, reason", [
    ({"messages": [{**ASK, "content": "<video>what?"}, SAY], "videos": ["a.mp4"]}, "row holds video"),
    ({"messages": [{**ASK, "content": "<audio>what?"}, SAY], "audios": ["a.mp3"]}, "row holds audio"),
    ({"conversations": TALK, "video": "a.mp4"}, "row holds video"),
    ({"messages": TALK, "label": False}, "answer is one to avoid"),
    ({"messages": TALK, "kto_tag": False}, "answer is one to avoid"),
    ({"messages": TALK, "kto_tag": "false"}, "answer is one to avoid"),
    ({"conversations": [*TALK, ASK], "chosen": SAY, "rejected": SAY}, "row holds a preference pair"),
    ({"instruction": "a", "output": "b", "history": [["q", "a"]]}, "row holds earlier turns"),
    ({"messages": TALK, "tools": '[{"name": "add"}]'}, "row holds tool calls"),
    ({"messages": [ASK, {**SAY, "tool_calls": [{"id": "1"}]}]}, "row holds tool calls"),
    ({"messages": [ASK, {"role": "assistant", "content": None, "function_call": {"name": "add"}}]}, "tool calls"),
    ({"messages": [ASK, {"role": "tool", "content": "7"}, SAY]}, "row holds tool calls"),
    ({"conversations": [{"from": "human", "value": "7?"}, {"from": "function_call", "value": "{}"},
                        {"from": "observation", "value": "7"}, {"from": "gpt", "value": "7"}]}, "row holds tool calls"),
    ({"messages": [ASK, {**SAY, "weight": 0}]}, "answer has a weight other than 1"),
    ({"messages": [ASK, {**SAY, "loss_weight": 0.0}]}, "answer has a weight other than 1"),
    ({"messages": [{"role": "user", "content": [{"type": "video_url", "video_url": "a.mp4"}]}, SAY]}, "'video_url'"),
    ({"messages": [{"role": "user", "content": ["what?"]}, SAY]}, "has a part that is not supported"),
    ({"messages": [{"role": "user", "content": [{"type": ["text"]}]}, SAY]}, "has a part that is not supported"),
    ({"messages": [ASK, {**SAY, "content": [{"type": "image"}]}], "images": ["0.png"]}, "text alone in an answer"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "0.png"}},
                                                {"type": "image"}]}, SAY], "images": ["1.png"]}, "and in a column"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,?"}},
                                                ]}, SAY]}, "image is not base64"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://a.b/c.png"}},
                                                ]}, SAY]}, "image is a URL"),
], ids=lambda value: value if isinstance(value, str) else "")  # fmt: skip
def test_what_a_row_asks_for_and_is_not_done_is_a_bad_row_that_says_so(tmp_path, row, reason):
    assert reason in read(tmp_path, row)


@pytest.mark.parametrize("row, register, reason", [
    ({"t": TALK, "films": ["a.mp4"]}, {"columns": {"messages": "t", "videos": "films"}}, "row holds video"),
    ({"t": TALK, "good": 0}, {"columns": {"messages": "t", "kto_tag": "good"}}, "answer is one to avoid"),
    ({"t": TALK, "label": False}, {"columns": {"messages": "t", "kto_tag": "label"}}, "answer is one to avoid"),
    ({"q": "a", "y": "b", "n": "c", "output": "d"}, {"columns": {"prompt": "q", "chosen": "y", "rejected": "n"}},
     "row holds a preference pair"),
    ({"conversations": TALK}, {"ranking": True}, "row holds a preference pair"),
    ({"messages": [ASK, {"role": "OBS", "content": "7"}, SAY]}, {"tags": {"observation_tag": "OBS"}}, "tool calls"),
], ids=lambda value: value if isinstance(value, str) else "")  # fmt: skip
def test_a_register_may_give_it_any_name(tmp_path, row, register, reason):
    assert reason in read(tmp_path, row, register)
    assert isinstance(read(tmp_path, {"messages": TALK}, {"columns": {"messages": "messages"}}), list)


@pytest.mark.parametrize("more", [
    {"label": True}, {"kto_tag": True}, {"videos": [], "audios": None, "tools": "[]", "history": []},
], ids=str)  # fmt: skip
def test_what_is_empty_or_marked_good_is_trained_on(tmp_path, more):
    (record,) = read(tmp_path, {"messages": TALK, **more})
    assert [turn.text for turn in record.turns] == ["what?", "a cat."] and record.label is None
    (record,) = read(tmp_path, {"messages": TALK, "label": "cat"})
    assert record.label == "cat"


def test_a_register_may_use_such_a_name_for_something_else(tmp_path):
    (record,) = read(tmp_path, {"history": TALK}, {"columns": {"messages": "history"}})
    assert record.turns[1].text == "a cat."


URL = "data:image/png;base64," + base64.b64encode(png()).decode()


@pytest.mark.parametrize("parts, more, pictures", [
    ([{"type": "image_url", "image_url": {"url": "0.png"}}, {"type": "text", "text": "what?"}], {}, ["0.png"]),
    ([{"type": "image_url", "image_url": "0.png"}, {"type": "text", "text": "what?"}], {}, ["0.png"]),
    ([{"type": "image"}, {"type": "text", "text": "what?"}], {"images": ["1.png"]}, ["1.png"]),
    ([{"type": "image", "image": "0.png"}, {"type": "image", "url": "1.png"}, {"type": "text", "text": "what?"}], {},
     ["0.png", "1.png"]),
    ([{"type": "image_url", "value": "0.png"}, {"type": "text", "value": "what?"}], {}, ["0.png"]),
    ([{"type": "text", "text": "<image>what?", "image": None}], {"image": "0.png"}, ["0.png"]),
    ([{"type": "image_url", "image_url": {"url": URL}}, {"type": "text", "text": "what?"}], {}, [png()]),
], ids=str)  # fmt: skip
def test_contents_in_parts_are_read(tmp_path, parts, more, pictures):
    answer = {"role": "assistant", "content": [{"type": "text", "text": "a "}, {"type": "text", "value": "cat."}]}
    (record,) = read(tmp_path, {"messages": [{"role": "user", "content": parts}, answer], **more})
    assert [turn.text for turn in record.turns] == ["<image>" * len(pictures) + "what?", "a cat."]
    assert [getattr(picture, "name", picture) for picture in record.images] == pictures


def test_a_film_in_a_tar_makes_its_row_bad(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name, content in (("0.mp4", b"film"), ("0.txt", b"a film"), ("1.png", png()), ("1.txt", b"a thing")):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, BytesIO(content))
    bad = BadRows(1.0)
    assert [record.id for record in read_records(tmp_path / "a.tar", bad=bad)] == ["a.tar:1"]
    assert "row holds video or audio" in bad.report()


def test_an_answer_in_parts_is_cut_as_others_are(tmp_path):
    whole = "The picture shows a dog that runs on the grass."
    parts = [{"type": "text", "text": whole}, {"type": "text", "text": " It has a ball in its mouth and looks very"}]
    (tmp_path / "in.jsonl").write_text(json.dumps({"messages": [ASK, {"role": "assistant", "content": parts}]}))
    dataset.clean.main([str(tmp_path / "in.jsonl"), str(tmp_path / "out.jsonl"), "--cut", "unfinished"])
    written = json.loads((tmp_path / "out.jsonl").read_text("utf-8"))
    assert written["messages"][1]["content"] == [{"type": "text", "text": whole}]
