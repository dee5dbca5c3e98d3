"""python -m dataset.check: its counts are those of the file, and its page marks the supervised tokens."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path

import numpy as np
import pytest
from tiny import conversation, png, write_jsonl, write_parquet

from dataset.check import examine, main
from dataset.encoding import encode_record
from dataset.formats.sources import read_records
from dataset.record import IGNORE
from tokenizer.tokenizer import default_folder, load_tokenizer

TOKENIZER = load_tokenizer(default_folder())
BAD = ("{not json", {"conversations": conversation("")}, {"conversations": conversation("?"), "image": "gone.png"})
TEXT = {"conversations": [*conversation("秋天来了。", "写诗"), *conversation("<b>好</b>", "再来")]}


@pytest.fixture
def folder(tmp_path) -> Path:
    write_jsonl(tmp_path, 40, (*BAD, TEXT))
    (tmp_path / "images" / "5.png").write_bytes(b"no picture")
    return tmp_path


def test_counts_lengths_and_bad_rows_are_those_of_the_data(folder, capsys):
    found = examine(folder / "data.jsonl", TOKENIZER, folder / "images")
    records = [r for r in read_records(folder / "data.jsonl", folder / "images", found.bad) if r.id != "data.jsonl:10"]
    examples = [encode_record(record, TOKENIZER, 16, 10**6) for record in records]
    limit = min(len(example.ids) for example in examples)
    flags = ["--images", str(folder / "images"), "--max_seq_len", str(limit), "--image_tokens", "16"]
    main([str(folder / "data.jsonl"), *flags])
    said = capsys.readouterr().out
    assert len(found.tokens) == len(records) == 40 and found.answers == 41
    assert sorted(found.pictures) == [0] + [1] * 39 and found.opened == 39
    supervised = [int((example.labels != IGNORE).sum()) for example in examples]
    assert list(found.supervised) == supervised
    assert list(found.tokens) == [int((~example.image_mask).sum()) for example in examples]
    assert "data.jsonl: JSONL" in said and "40 rows: conversations of role and content (MiniMind-V)" in said
    assert f"{sum(supervised):,} in total" in said and f"max {max(supervised)}" in said
    assert f"p95 {np.percentile(supervised, 95):.0f}" in said
    assert "rows        44, of which 40" in said and "39; of the rows, 1 has none, 39 have 1" in said
    assert "39 opened, median 12×12" in said
    long = np.mean([len(example.ids) > limit for example in examples])
    assert 0 < long < 1 and f"too long    {long:.1%} of the rows" in said
    assert "4 of 44 rows are bad" in said and "row is not JSON: data.jsonl:1" in said
    assert "not an image: data.jsonl:10" in said and "answer is empty: data.jsonl:2" in said


def test_each_format_is_named(folder, tmp_path):
    one = conversation("红。")
    (tmp_path / "llava.json").write_text(json.dumps(
        [{"image": "0.png", "conversations": [{"from": "human", "value": "<image>"}, {"from": "gpt", "value": "a"}]}]))
    (tmp_path / "factory.json").write_text(json.dumps([{"messages": one, "images": ["0.png"]}]))
    (tmp_path / "alpaca.json").write_text(json.dumps([{"instruction": "a", "output": "b"}]))
    write_parquet(tmp_path / "m.parquet", 3)
    expected = {"llava.json": ("JSON list", "from and value (LLaVA, ShareGPT)"),
                "factory.json": ("JSON list", "messages of role and content (LLaMA-Factory)"),
                "alpaca.json": ("JSON list", "Alpaca"),
                "m.parquet": ("parquet", "role and content, as JSON text (MiniMind-V)")}  # fmt: skip
    for name, (kind, style) in expected.items():
        found = examine(tmp_path / name, TOKENIZER, tmp_path / "images")
        assert found.format == kind and style in next(iter(found.styles))


def test_the_page_marks_the_supervised_tokens_and_nothing_else(folder, tmp_path, capsys):
    main([str(folder / "data.jsonl"), "--images", str(folder / "images"), "--page", str(tmp_path / "page.html")])
    page = (tmp_path / "page.html").read_text("utf-8")
    articles = page.split("<article")[1:]
    assert len(articles) == 10 and page.count("data:image/jpeg;base64,") == sum("pictures" in a for a in articles)
    for article in articles:
        marked = "".join(re.findall(r"<mark>(.*?)</mark>", article, re.DOTALL))
        said = html.unescape(re.sub(r"<[^>]*>", "", marked))
        assert re.fullmatch(r"(.色)。它是\1的。<\|im_end\|>", said) or said == "秋天来了。<|im_end|><b>好</b><|im_end|>"
    assert "<script" not in page and "http:" not in page and "https:" not in page


def test_the_samples_follow_from_the_seed_and_need_not_be_the_first(folder):
    ids = [[record.id for record, _ in examine(folder / "data.jsonl", TOKENIZER, folder / "images", seed=seed).samples]
           for seed in (1, 1, 2)]  # fmt: skip
    assert ids[0] == ids[1] != ids[2] and len(set(ids[0])) == 10


def test_pictures_are_opened_of_so_many_rows_only(folder):
    assert examine(folder / "data.jsonl", TOKENIZER, folder / "images", opened=3).opened < 4
    assert examine(folder / "data.jsonl", TOKENIZER, folder / "images", opened=0).bad.bad == 4


def test_a_tag_in_a_text_cannot_write_html(tmp_path):
    row = {"conversations": conversation("<img src=x onerror=alert(1)>", "<script>alert(1)</script>"), "image": "0.png"}
    (tmp_path / "0.png").write_bytes(png())
    (tmp_path / "d.jsonl").write_text(json.dumps(row))
    main([str(tmp_path / "d.jsonl"), "--page", str(tmp_path / "p.html")])
    page = (tmp_path / "p.html").read_text("utf-8")
    assert "<script" not in page and "onerror=alert(1)&gt;" in page
