"""Files of captions: each form is told by content, captions of a picture stay together, an epoch takes one of them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

import train_vision
from dataset.bad_rows import BadRows, DataError
from dataset.batching import Examples
from dataset.clean import main as clean
from dataset.encoding import encode_record
from dataset.formats.captions import COCO, FOLDER, KARPATHY, TABLE, TOKENS, default_subset
from dataset.formats.rows import open_rows, recognise
from dataset.formats.sources import RecordFile, read_records
from dataset.mixture import open_sources, read_names
from dataset.record import without_pictures
from dataset.splits import stage_data
from engine.arguments import TrainArguments
from engine.dataloader import Feed
from tokenizer.tokenizer import default_folder, load_tokenizer

SAID = {"1.jpg": ("一只狗。", "草地上的狗。"), "a b.jpg": ("两个人。", "人们在走。", "街上的人。"), "3.jpg": ("雪。",)}
TRAIN = {"1.jpg": "train", "a b.jpg": "restval", "3.jpg": "val"}


def pictures(folder, names=SAID):
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        Image.new("RGB", (16, 16), (number * 40 % 256, 90, 30)).save(folder / name)
    return folder


def token_lines(said=SAID):
    return "".join(f"{name}#{k}\t{text}\n" for name, texts in said.items() for k, text in enumerate(texts))


def table(delimiter=",", split=False):
    head = delimiter.join(("comment_number", "Caption", "image_name", *(["split"] if split else [])))
    said = [(f'"{text}, {text}"' if delimiter == "," else text, name) for name, texts in SAID.items() for text in texts]
    rows = [delimiter.join(("0", text, name, *([TRAIN[name]] if split else []))) for text, name in said]
    return "\n".join([head, *rows, ""])


COCO_FILE = json.dumps({
    "info": {}, "images": [{"id": i, "file_name": name} for i, name in enumerate(SAID)],
    "annotations": [{"image_id": i, "caption": text} for i, texts in enumerate(SAID.values()) for text in texts],
}, indent=1)  # fmt: skip
KARPATHY_FILE = json.dumps({"images": [
    {"filename": name, "filepath": "sub", "split": TRAIN[name], "sentences": [{"raw": text} for text in texts]}
    for name, texts in SAID.items()], "dataset": "mine"})  # fmt: skip
FILES = {TOKENS: token_lines(), TABLE: table("|"), COCO: COCO_FILE, KARPATHY: KARPATHY_FILE}


@pytest.mark.parametrize("kind", [*FILES, FOLDER])
def test_every_form_is_told_by_content_and_keeps_the_captions_of_a_picture_together(tmp_path, kind):
    pictures(tmp_path)
    pictures(tmp_path / "sub")
    path = tmp_path / "captions.data"
    if kind == FOLDER:
        path = tmp_path
        for name, texts in SAID.items():
            (tmp_path / name).with_suffix(".txt").write_text("\n".join(texts), "utf-8")
    else:
        path.write_text("\ufeff" + FILES[kind] if kind in (TOKENS, TABLE) else FILES[kind], "utf-8")
    assert recognise(path) == kind
    records = list(read_records(path))
    found = {record.images[0].name: record.references for record in records}
    assert found == SAID
    assert [record.turns[-1].text for record in records] == [record.references[0] for record in records]
    assert {record.turns[0].text for record in records} == {"<image>\n描述这张图片。"}
    assert len(RecordFile(path)) == 3


def test_a_table_may_quote_its_fields_and_one_document_may_stand_in_one_line(tmp_path):
    pictures(tmp_path)
    (tmp_path / "captions.txt").write_text(table(), "utf-8")
    first = next(read_records(tmp_path / "captions.txt"))
    assert first.references == ("一只狗。, 一只狗。", "草地上的狗。, 草地上的狗。")
    (tmp_path / "split.tsv").write_text(table("\t", split=True), "utf-8")
    assert [record.images[0].name for record in read_records(tmp_path / "split.tsv", subset="restval")] == ["a b.jpg"]
    (tmp_path / "coco.json").write_text(json.dumps(json.loads(COCO_FILE)), "utf-8")
    assert recognise(tmp_path / "coco.json") == COCO


@pytest.mark.parametrize("line", [
    '{"images": ["1.jpg"], "messages": []}', '{"dataset": "x", "conversations": []}', "not JSON\n{}",
])  # fmt: skip
def test_lines_of_json_are_not_taken_for_a_document_of_captions(tmp_path, line):
    (tmp_path / "rows.jsonl").write_text(f"{line}\n{line}\n")
    assert recognise(tmp_path / "rows.jsonl") == "JSONL"


def test_text_of_no_known_shape_is_refused_with_a_row_as_it_should_look(tmp_path):
    (tmp_path / "x.txt").write_text("1.jpg A dog runs.\n")
    with pytest.raises(DataError, match=r"1\.jpg A dog.*1\.jpg#0<TAB>A dog runs"):
        open_rows(tmp_path / "x.txt")


def test_what_is_wrong_with_a_line_is_counted_with_its_place(tmp_path):
    pictures(tmp_path, ["1.jpg"])
    lines = b"1.jpg#0\tA dog.|no tab|1.jpg#1\t |\xff\xfe.jpg#0\tA cat.|gone.jpg#0\tA cow.||1.jpg#2\tTwo."
    (tmp_path / "c.token").write_bytes(lines.replace(b"|", b"\n"))
    bad = BadRows(1.0)
    (record,) = read_records(tmp_path / "c.token", bad=bad)
    assert record.references == ("A dog.", "Two.") and record.turns[0].text.endswith("Describe the picture.")
    report = bad.report()
    assert bad.bad == 4 and "c.token:2" in report and "c.token:3" in report and "row is not UTF-8: c.token:4" in report
    assert "image file is missing" in report and "c.token:5" in report


def test_broken_documents_are_counted_or_refused(tmp_path):
    pictures(tmp_path)
    said = [{"image_id": i, "caption": text} for i, text in ((1, "A dog."), (9, "x"), (1, None))]
    wrong = {"images": [{"id": 1, "file_name": "1.jpg"}, 5, {"id": []}], "annotations": [*said, 7]}
    (tmp_path / "coco.json").write_text(json.dumps(wrong))
    bad = BadRows(1.0)
    assert [record.references for record in read_records(tmp_path / "coco.json", bad=bad)] == [("A dog.",)]
    assert bad.bad == 3
    (tmp_path / "cut.json").write_text(COCO_FILE[: len(COCO_FILE) // 2])
    with pytest.raises(DataError, match="is not JSON"):
        recognise(tmp_path / "cut.json")


def test_splits_are_heeded_by_name_by_list_and_by_default(tmp_path, capsys):
    pictures(tmp_path)
    pictures(tmp_path / "sub")
    path = tmp_path / "dataset.json"
    path.write_text(KARPATHY_FILE)
    (tmp_path / "list.txt").write_text("sub/3.jpg\n")
    sources = read_names(f"{path}@restval+val:0.5,{path}@{tmp_path / 'list.txt'}:0.5")
    assert [source.subset for source in sources] == ["restval+val", str(tmp_path / "list.txt")]
    _, (first, second) = open_sources(f"{path}@restval+val,{path}@{tmp_path / 'list.txt'}", "", BadRows())
    assert [record.images[0].name for record in (first[0], first[1], second[0])] == ["a b.jpg", "3.jpg", "3.jpg"]
    data = stage_data(TrainArguments(data=str(path)), "sft1", 0)
    assert [len(data.train), len(data.val)] == [2, 1] and data.val[0].images[0].name == "3.jpg"
    assert "dataset.json: train+restval trains;" in capsys.readouterr().out
    assert [record.images[0].name for record in read_records(path, use="test")] == ["3.jpg"]
    with pytest.raises(DataError, match=r"has no picture: it has train, restval, val"):
        open_sources(f"{path}@tset", "", BadRows())
    (tmp_path / "rows.jsonl").write_text('{"conversations": []}')
    with pytest.raises(DataError, match="only files of captions have subsets"):
        open_sources(f"{tmp_path / 'rows.jsonl'}@train", "", BadRows())


def test_restval_trains_too_and_val_is_tested_where_there_is_no_test():
    assert default_subset(["test", "train", "val", "restval"], "train") == "train+restval"
    assert [default_subset(["train", "dev"], use) for use in ("train", "val", "test")] == ["train", "dev", "dev"]
    assert default_subset([], "train") == default_subset(["train"], "val") == ""


def many(tmp_path, count=40):
    said = {f"{i}.jpg": tuple(f"picture {i}, caption {k}" for k in range(1 + i % 5)) for i in range(count)}
    pictures(tmp_path, said)
    (tmp_path / "c.token").write_text(token_lines(said))
    return said


def feed_of(records, seed=3):
    tokenizer = load_tokenizer(default_folder())
    examples = Examples(records, lambda record: encode_record(without_pictures(record), tokenizer, 1, 99))
    return Feed(examples, 8, seed, tokenizer.pad_id, None, BadRows())


def test_an_epoch_has_one_caption_of_each_picture_and_the_epochs_together_have_all(tmp_path):
    said = many(tmp_path)
    feed = feed_of(RecordFile(tmp_path / "c.token"))
    assert len(feed.examples) == sum(map(len, said.values())) == 120
    epochs = [np.concatenate(feed.plan(epoch)) for epoch in range(60)]
    for chosen in epochs:
        assert sorted(feed.examples.rows[chosen]) == list(range(40))
    for row, texts in enumerate(said.values()):
        numbers = [int(feed.examples.captions[i]) for chosen in epochs for i in chosen if feed.examples.rows[i] == row]
        for start in range(0, 60, len(texts)):
            assert sorted(numbers[start : start + len(texts)]) == list(range(len(texts)))
    again = feed_of(RecordFile(tmp_path / "c.token"))
    assert all((a == b).all() for a, b in zip(feed.plan(7), again.plan(7), strict=True))
    assert any((a != b).any() for a, b in zip(feed.plan(7), feed.plan(8), strict=True))


def test_an_example_has_the_caption_of_its_number(tmp_path):
    said = many(tmp_path, 10)
    feed, tokenizer = feed_of(RecordFile(tmp_path / "c.token")), load_tokenizer(default_folder())
    for i, text in enumerate(text for captions in said.values() for text in captions):
        labels = feed.examples[i].labels
        assert tokenizer.decode(labels[labels >= 0].tolist()[: len(tokenizer.encode(text))]) == text


def test_no_picture_is_both_trained_and_validated_on_and_samples_count_pictures(tmp_path):
    many(tmp_path, 100)
    args = TrainArguments(data=str(tmp_path / "c.token"), samples=30)
    data = stage_data(args, "sft1", 0)
    names = [{data_[i].images[0].name for i in range(len(data_))} for data_ in (data.train, data.val)]
    assert [len(some) for some in names] == [30, 5] and not names[0] & names[1]


def test_weights_of_a_mixture_count_pictures(tmp_path):
    many(tmp_path, 20)
    turns = [[{"role": "user", "content": "hi"}, {"role": "assistant", "content": f"text {i}"}] for i in range(20)]
    rows = [{"conversations": each} for each in turns]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    args = TrainArguments(data=f"{tmp_path / 'c.token'}:0.75,{tmp_path / 'rows.jsonl'}:0.25")
    feed = feed_of(stage_data(args, "sft1", 0).train)
    chosen = np.concatenate(feed.plan(0))
    assert len(chosen) == 38 and (feed.examples.rows[chosen] < 19).sum() in (28, 29)


def test_clean_writes_captions_as_rows_that_are_read_again(tmp_path):
    pictures(tmp_path)
    said = {**SAID, "3.jpg": ("没完没了没完没了没完没了没完没了没完没了没完没了",)}
    (tmp_path / "c.token").write_text(token_lines(said), "utf-8")
    clean([str(tmp_path / "c.token"), str(tmp_path / "out.jsonl"), "--drop", "looping"])
    again = {record.images[0].name: record.references for record in read_records(tmp_path / "out.jsonl")}
    assert again == {name: texts for name, texts in SAID.items() if name != "3.jpg"}


def test_an_encoder_trains_on_captions(tmp_path, capsys):
    many(tmp_path, 24)
    train_vision.main(
        ["--data", str(tmp_path / "c.token"), "--image_size", "16", "--patch_size", "8", "--hidden_size", "64",
         "--layers", "1", "--batch_size", "8", "--steps", "2", "--augment", "crop", "--out", str(tmp_path / "out")]
    )  # fmt: skip
    assert "samples: 23 with" in capsys.readouterr().out and (tmp_path / "out" / "finished.json").is_file()


def test_an_encoder_learns_the_words_of_all_captions_of_a_picture(tmp_path):
    pictures(tmp_path)
    several = {name: texts for name, texts in SAID.items() if len(texts) > 1}
    (tmp_path / "c.token").write_text(token_lines(several), "utf-8")
    tokenizer = load_tokenizer(default_folder())
    data = stage_data(TrainArguments(data=str(tmp_path / "c.token")), "vision", 0)
    captions = train_vision.captions_of_pictures(data, tokenizer)
    found = {path.name: tuple(tokenizer.decode(ids[:-1]) for ids in texts) for path, texts in captions.items()}
    assert found == several
    assert {ids[-1] for several in captions.values() for ids in several} == {tokenizer.end_id}
    (tmp_path / "d.token").write_text(token_lines(several), "utf-8")
    data = stage_data(TrainArguments(data=f"{tmp_path / 'c.token'},{tmp_path / 'd.token'}"), "vision", 0)
    both = train_vision.captions_of_pictures(data, tokenizer)  # of two files about the same pictures
    assert both == {path: texts * 2 for path, texts in captions.items()}
    rows = train_vision.padded([[5, 6], [7]], most=3, longest=4)
    assert rows.tolist() == [[5, 6, -1, -1, 7, -1, -1, -1, -1, -1, -1, -1]]
    (tmp_path / "c.token").write_text(token_lines(), "utf-8")  # one picture has a single caption
    data = stage_data(TrainArguments(data=str(tmp_path / "c.token")), "vision", 0)
    assert train_vision.captions_of_pictures(data, tokenizer) == {}
