"""The tokenizer: every text survives, no text forges a marker, and other tools read the same ids."""

from __future__ import annotations

import json
import pickle
import random
from pathlib import Path

import pytest
import tokenizers

from tokenizer import train_tokenizer
from tokenizer.tokenizer import (
    SPECIALS,
    TextStream,
    Tokenizer,
    TokenizerError,
    default_folder,
    load_tokenizer,
)

MINIMIND2 = Path(__file__).resolve().parents[3] / "shared/data/minimind_tokenizer"
needs_minimind2 = pytest.mark.skipif(not MINIMIND2.is_dir(), reason=f"{MINIMIND2} is absent")

TEXTS = (
    "图片里有一只红色的小狗，右边是两辆蓝色的自行车。",
    "There is a red bicycle's wheel, 12.5 m  from the sea.\n",
    "中英mixed文本 with 3只 cats——“好”",
    "é ñ ß Ω я ا か 한 😀👩‍👩‍👧 🇨🇳 𠮷 \u200d\ufe0f e\u0301",
    "\x00\x01\x1f\x7f\x85\xa0\u2028\u3000 \t\r\n \n",
    "\ufffd\ufeff\uffff\U0010ffff",
    "".join(SPECIALS) + "<|im_start|>system\n" + "@" * 5 + "<image>",
    "   leading, trailing   ",
    "",
)


@pytest.fixture(scope="module")
def ours() -> Tokenizer:
    return load_tokenizer(default_folder())


@pytest.fixture(scope="module")
def minimind2() -> Tokenizer:
    return load_tokenizer(MINIMIND2)


def token_bytes(tokenizer: Tokenizer, token: int) -> bytes:
    """The bytes that a token of the byte-level vocabulary stands for."""
    table = train_tokenizer.byte_characters()
    return bytes(table.index(character) for character in tokenizer._fast.id_to_token(token))


def random_texts(count: int, seed: int = 0) -> list[str]:
    """Texts of characters from all over Unicode without surrogates, mixed with markers and plain ASCII."""
    generator = random.Random(seed)
    spans = [(0, 0x7F), (0x80, 0x2FF), (0x2000, 0x206F), (0x3000, 0x9FFF), (0xE000, 0x10FFFF)]

    def piece() -> str:
        if generator.random() < 0.1:
            return generator.choice(SPECIALS)
        return chr(generator.randint(*generator.choice(spans)))

    return ["".join(piece() for _ in range(generator.randint(0, 40))) for _ in range(count)]


def test_the_vocabulary_is_6400_with_the_specials_first(ours):
    assert ours.vocab_size == 6400
    assert [ours.special(name) for name in SPECIALS] == [0, 1, 2, 3]
    assert (ours.pad_id, ours.start_id, ours.end_id, ours.image_id) == (0, 1, 2, 3)


def test_every_id_is_a_distinct_token_that_something_can_produce(ours):
    stands_for = [token_bytes(ours, i) for i in range(4, ours.vocab_size)]
    assert len(set(stands_for)) == 6396 and all(stands_for)
    assert {bytes([b]) for b in range(256)} <= set(stands_for)


def test_all_level_1_hanzi_are_enumerated():
    level_1 = train_tokenizer.hanzi(1)
    assert len(level_1) == len(set(level_1)) == 3755
    assert level_1[0] == "啊" and level_1[-1] == "座"
    assert len(train_tokenizer.hanzi(2)) == 3008


def test_every_level_1_hanzi_is_one_token(ours):
    assert [h for h in train_tokenizer.hanzi(1) if len(ours.encode(h)) != 1] == []


def test_level_1_hanzi_never_break_whatever_stands_beside_them(ours):
    generator = random.Random(1)
    level_1 = train_tokenizer.hanzi(1)
    beside = ["a", " ", "1", "，", "。", "\n", "é", "😀", "犇", "ﾠ", "　", "'s", " the"]
    for _ in range(2000):
        text = "".join(generator.choice(level_1 if generator.random() < 0.7 else beside) for _ in range(12))
        ids = ours.encode(text)
        for hanzi in set(text) & set(level_1):
            assert sum(ours.decode([i]).count(hanzi) for i in ids) == text.count(hanzi)


@pytest.mark.parametrize("text", TEXTS)
def test_text_survives_the_round_trip(ours, text):
    assert ours.decode(ours.encode(text)) == text


def test_random_unicode_survives_the_round_trip(ours):
    for text in random_texts(2000):
        assert ours.decode(ours.encode(text)) == text


def test_every_single_character_survives_the_round_trip(ours):
    characters = [chr(c) for c in range(0x3000)] + [chr(c) for c in range(0x4E00, 0xA000, 7)]
    assert [c for c in characters if ours.decode(ours.encode(c)) != c] == []


def test_no_text_becomes_a_special_token(ours):
    texts = [*TEXTS, *random_texts(500), *SPECIALS, "<|im_end|>\n<|im_start|>assistant\n", " <|image|>"]
    for text in texts:
        assert not {0, 1, 2, 3} & set(ours.encode(text))


@needs_minimind2
def test_no_text_becomes_a_special_token_of_minimind2(minimind2):
    for text in [*TEXTS, *SPECIALS]:
        assert not {0, 1, 2} & set(minimind2.encode(text))
        assert minimind2.decode(minimind2.encode(text)) == text


def test_a_pickled_copy_is_as_safe_as_the_original(ours):
    copy = pickle.loads(pickle.dumps(ours))
    assert copy.encode("<|im_end|>你好") == ours.encode("<|im_end|>你好")
    assert ours.end_id not in copy.encode("<|im_end|>")


def test_a_lone_surrogate_becomes_a_replacement_character(ours):
    assert ours.decode(ours.encode("好\ud83d吗")) == "好\ufffd吗"
    assert ours.decode(ours.encode("\ud83d\ude00")) == "😀"


def test_digits_are_split_and_english_words_keep_their_space(ours):
    assert [token_bytes(ours, i) for i in ours.encode("2026")] == [b"2", b"0", b"2", b"6"]
    assert [token_bytes(ours, i) for i in ours.encode("You are a helpful assistant")] == [
        b"You",
        b" are",
        b" a",
        b" helpful",
        b" assistant",
    ]


def test_words_are_not_merged_with_punctuation_or_another_script(ours):
    def kind(character: str) -> str:
        if not character.isalpha():
            return "other"
        return "word" if character.isascii() else "hanzi"

    for text in ("狗，猫。", "狗dog狗", "dog,cat.", "狗1狗", "a1b", "the，狗the"):
        for token in ours.encode(text):
            assert len({kind(character) for character in ours.decode([token])}) == 1


def test_special_tokens_are_hidden_or_shown_in_decoded_text(ours):
    ids = [1, *ours.encode("好"), 2, 0]
    assert ours.decode(ids) == "好"
    assert ours.decode(ids, skip_special=False) == "<|im_start|>好<|im_end|><|endoftext|>"


def test_an_unknown_special_name_is_named(ours):
    with pytest.raises(KeyError, match="nonsense.*im_end"):
        ours.special("nonsense")


def test_the_byte_table_is_the_library_s():
    table = train_tokenizer.byte_characters()
    assert set(table) == set(tokenizers.pre_tokenizers.ByteLevel.alphabet()) and len(table) == 256
    encode = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str
    for text in ("\x00\n\x7f ~", "é狗😀"):
        assert "".join(table[b] for b in text.encode()) == encode(text)[0][0]


def test_streamed_text_is_the_decoded_text_and_never_half_a_character(ours):
    for text in (*TEXTS, *random_texts(200, seed=3)):
        stream = TextStream(ours)
        pieces = [stream.push(i) for i in (1, *ours.encode(text), 2)]
        assert "".join(pieces) + stream.finish() == text
        if "\ufffd" not in text:
            assert "".join(pieces) == text and not any("\ufffd" in piece for piece in pieces)


def test_streamed_text_equals_decoded_text_for_ids_that_are_no_text(ours):
    generator = random.Random(4)
    for _ in range(500):
        ids = [generator.randrange(400) for _ in range(generator.randint(1, 12))]  # mostly stray bytes
        stream = TextStream(ours)
        assert "".join(stream.push(i) for i in ids) + stream.finish() == ours.decode(ids)


def test_save_writes_the_same_files_and_the_fingerprint_stays(ours, tmp_path):
    ours.save(tmp_path / "copy")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / "copy" / name).read_bytes() == (default_folder() / name).read_bytes()
    assert load_tokenizer(tmp_path / "copy").fingerprint == ours.fingerprint
    assert len(ours.fingerprint) == 16


def test_the_fingerprint_tells_vocabularies_apart(ours):
    data = json.loads((default_folder() / "tokenizer.json").read_text(encoding="utf-8"))
    data["model"]["merges"].pop()
    assert Tokenizer(json.dumps(data)).fingerprint != ours.fingerprint


def test_the_fingerprint_does_not_depend_on_how_merges_are_spelled(ours):
    data = json.loads((default_folder() / "tokenizer.json").read_text(encoding="utf-8"))
    data["model"]["merges"] = [" ".join(pair) for pair in data["model"]["merges"]]
    assert Tokenizer(json.dumps(data)).fingerprint == ours.fingerprint


@needs_minimind2
def test_minimind2_has_its_at_sign_for_an_image(minimind2):
    assert minimind2.image_id == 34 and minimind2.decode([34]) == "@"
    assert (minimind2.vocab_size, minimind2.pad_id, minimind2.start_id, minimind2.end_id) == (6400, 0, 1, 2)


def test_another_tokenizer_s_image_token_is_used_and_none_falls_back_to_padding():
    data = json.loads((default_folder() / "tokenizer.json").read_text(encoding="utf-8"))
    data["added_tokens"][3]["content"] = "<|image_pad|>"
    data["model"]["vocab"]["<|image_pad|>"] = data["model"]["vocab"].pop("<|image|>")
    assert Tokenizer(json.dumps(data)).image_id == 3
    data["added_tokens"].pop()
    assert Tokenizer(json.dumps(data)).image_id == 0


def test_markers_that_a_foreign_file_does_not_call_special_cannot_be_forged_either():
    data = json.loads((default_folder() / "tokenizer.json").read_text(encoding="utf-8"))
    for token in data["added_tokens"]:
        token["special"] = False
    tokenizer = Tokenizer(json.dumps(data))
    assert not {0, 1, 2, 3} & set(tokenizer.encode("".join(SPECIALS)))


@pytest.mark.parametrize("folder", [default_folder(), pytest.param(MINIMIND2, marks=needs_minimind2)])
def test_transformers_gives_the_same_ids(folder):
    transformers = pytest.importorskip("transformers")
    theirs, mine = transformers.AutoTokenizer.from_pretrained(folder), load_tokenizer(folder)
    for text in (*TEXTS, *random_texts(300, seed=5)):
        if not any(name in text for name in SPECIALS):  # theirs takes a marker's name for the marker
            assert theirs(text, add_special_tokens=False)["input_ids"] == mine.encode(text)
    assert theirs.convert_tokens_to_ids("<|im_end|>") == theirs.eos_token_id == mine.end_id
    assert theirs.pad_token_id == mine.pad_id
    assert theirs.decode(mine.encode(TEXTS[0])) == TEXTS[0]


def test_bad_folders_are_named_with_what_to_do(tmp_path):
    with pytest.raises(TokenizerError, match=r"absent does not exist\. Expected a folder with"):
        load_tokenizer(tmp_path / "absent")
    with pytest.raises(TokenizerError, match=r"has no tokenizer\.json \(found: nothing\)"):
        load_tokenizer(tmp_path)
    file = tmp_path / "tokenizer.json"
    file.write_text("{}")
    with pytest.raises(TokenizerError, match="is a file.*give the folder"):
        load_tokenizer(file)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not JSON"),
        (b"\xff\xfe\x00", "is not text"),
        (b"[1]", "holds no BPE vocabulary"),
        (b'{"model": {"type": "WordLevel", "vocab": {}}}', "holds no BPE vocabulary"),
        (b'{"model": {"vocab": {}, "merges": []}, "decoder": {"type": "Fuse"}}', "'Fuse', not 'ByteLevel'"),
        (b'{"model": {"vocab": {}, "merges": [["a", "b"]]}, "decoder": {"type": "ByteLevel"}}', "be read"),
    ],
)
def test_files_that_are_no_tokenizer_are_refused(tmp_path, content, message):
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(TokenizerError, match=message):
        load_tokenizer(tmp_path)


def test_missing_special_tokens_are_named(tmp_path):
    data = json.loads((default_folder() / "tokenizer.json").read_text(encoding="utf-8"))
    data["added_tokens"] = [t for t in data["added_tokens"] if t["content"] != "<|im_end|>"]
    (tmp_path / "tokenizer.json").write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(TokenizerError, match=r"lacks the special tokens <\|im_end\|> \(found: <\|end"):
        load_tokenizer(tmp_path)


SMALL_TEXT = (
    "一只\x1f红色\x1f的\x1f小狗\n红色\x1f的\x1f小狗\x1f在\x1f草地\x1f上\n" * 5
    + "the red dog\nthe red cat\n犇犇\x1f吃\n" * 5
)


def train_on(folder: Path, text: str, *flags: str) -> Tokenizer:
    folder.mkdir(exist_ok=True)
    (folder / "text.txt").write_text(text, encoding="utf-8")
    train_tokenizer.main(["--text", str(folder / "text.txt"), "--out", str(folder), *flags])
    return load_tokenizer(folder)


@pytest.mark.parametrize("text", ["好\n", SMALL_TEXT])
def test_the_vocabulary_is_6400_however_small_the_text(tmp_path, text):
    tokenizer = train_on(tmp_path, text)
    assert tokenizer.vocab_size == 6400
    assert all(len(tokenizer.encode(h)) == 1 for h in train_tokenizer.hanzi(1))


def test_a_small_vocabulary_holds_what_its_text_uses_and_spells_all_else_in_bytes(tmp_path):
    tokenizer = train_on(tmp_path, SMALL_TEXT, "--vocab_size", "290")
    assert tokenizer.vocab_size == 290
    tokens = {tokenizer.decode([i]) for i in range(260, 290)}
    used = {character for character in SMALL_TEXT if "\u4e00" <= character <= "\u9fff"} - {"犇"}  # beyond level 1
    known = {*SMALL_TEXT, *train_tokenizer.TEMPLATE_WORDS, "\ufffd"}
    assert used <= tokens and known.issuperset("".join(tokens))
    for text in TEXTS:
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_a_vocabulary_without_room_for_all_bytes_is_refused(tmp_path):
    with pytest.raises(SystemExit, match="--vocab_size 260, expected more than 4 special tokens and 256 bytes"):
        train_on(tmp_path, SMALL_TEXT, "--vocab_size", "260")


def test_learned_words_apply_to_running_text_and_separators_hold(tmp_path):
    tokenizer = train_on(tmp_path, SMALL_TEXT)
    words = [tokenizer.decode([i]) for i in tokenizer.encode("一只红色的小狗在草地上")]
    assert words == ["一只", "红色", "的", "小狗", "在", "草地", "上"]
    assert [tokenizer.decode([i]) for i in tokenizer.encode("the red dog")] == ["the", " red", " dog"]
    assert len(tokenizer.encode("犇")) == 1  # beyond level 2, but frequent here


def test_training_twice_gives_the_same_file(tmp_path):
    generator = random.Random(6)
    characters = "红蓝绿的一只小狗猫在草地上abc ，"
    lines = ["".join(generator.choice(characters) for _ in range(30)) for _ in range(3000)]
    train_on(tmp_path / "a", "\n".join(lines))
    train_on(tmp_path / "b", "\n".join(lines))
    assert (tmp_path / "a/tokenizer.json").read_bytes() == (tmp_path / "b/tokenizer.json").read_bytes()
    tokenizer = load_tokenizer(tmp_path / "a")
    assert max(len(token_bytes(tokenizer, i)) for i in range(4, 6400)) <= train_tokenizer.MAX_TOKEN_BYTES


@pytest.mark.parametrize(
    ("content", "message"), [(None, "no training text"), (b" \n", "no text"), (b"\xff", "UTF-8")]
)
def test_bad_training_text_is_named(tmp_path, content, message):
    file = tmp_path / "text.txt"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SystemExit, match=message):
        train_tokenizer.main(["--text", str(file), "--out", str(tmp_path)])
