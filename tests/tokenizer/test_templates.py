"""Qwen2's, Qwen2.5's and Llama 3's tokenizers and templates: transformers' ids, or a refusal in words."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
from families import DATE, LLAMA3, LLAMA32, PLAIN_CHATML, QWEN2, QWEN25, SPECIALS, write_tokenizer

from dataset.encoding import encode_prompt, encode_record
from dataset.record import IGNORE, IMAGE, Record, Turn
from tokenizer.chat import render
from tokenizer.tokenizer import Tokenizer, TokenizerError, load_tokenizer

CONVERSATIONS = [
    [("user", "这是什么颜色？")],
    [("system", " You know colours.\n"), ("user", "What is\nthat? ")],
    [("user", " a"), ("assistant", "红色。"), ("user", "c\n\nd\n"), ("assistant", "e's 12345\n")],
    [("system", "s"), ("user", "q"), ("assistant", "r"), ("user", "\tt")],
]
CASES = [("qwen2", QWEN2), ("qwen2.5", QWEN25), ("qwen2", PLAIN_CHATML), ("llama3", LLAMA32), ("llama3", LLAMA3)]
NAMES = ("qwen2", "qwen2.5", "plain", "llama3.2", "llama3")


def turns(conversation) -> list[Turn]:
    return [Turn(role, (text,)) for role, text in conversation]


def ids_of(tokenizer: Tokenizer, conversation, for_generation: bool = False) -> list[int]:
    return [i for segment in render(tokenizer, turns(conversation), for_generation) for i in segment.ids]


@pytest.mark.parametrize("place", ["config", "list", "jinja"])
@pytest.mark.parametrize("family, template", CASES, ids=NAMES)
def test_ids_are_those_of_transformers_with_and_without_a_system_turn(tmp_path, family, template, place):
    transformers = pytest.importorskip("transformers")
    write_tokenizer(tmp_path, family, template)
    theirs = transformers.PreTrainedTokenizerFast.from_pretrained(tmp_path)
    move_template(tmp_path, place)
    ours = load_tokenizer(tmp_path)
    for conversation in CONVERSATIONS:
        asks = conversation[-1][0] == "user"
        messages = [{"role": role, "content": text} for role, text in conversation]
        text = theirs.apply_chat_template(
            messages, chat_template=template, tokenize=False, add_generation_prompt=asks, date_string=DATE
        )
        assert ids_of(ours, conversation, asks) == theirs(text, add_special_tokens=False)["input_ids"], text


def move_template(folder: Path, place: str) -> None:
    """Puts the template where some versions of transformers have it, and a wrong one where it must not be read."""
    config = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))
    if place == "list":
        named = {"tool_use": "{{ tools }}", "default": config["chat_template"]}
        config["chat_template"] = [{"name": name, "template": source} for name, source in named.items()]
    elif place == "jinja":
        (folder / "chat_template.jinja").write_text(config["chat_template"], "utf-8")
        config["chat_template"] = "{{ messages }}"
    (folder / "tokenizer_config.json").write_text(json.dumps(config), "utf-8")


@pytest.mark.parametrize("family, end", [("qwen2", "<|im_end|>"), ("llama3", "<|eot_id|>")])
def test_answers_and_their_end_are_supervised_and_an_image_is_none_of_it(tmp_path, family, end):
    tokenizer = load_tokenizer(write_tokenizer(tmp_path, family))
    later = turns([("assistant", "红色。"), ("user", "?"), ("assistant", "b")])
    conversation = (Turn("user", (IMAGE, "\nq")), *later)
    example = encode_record(Record("r", (b"",), conversation), tokenizer, 5, 999)
    learned = [int(i) for i in example.labels if i != IGNORE]
    assert tokenizer.decode(learned, skip_special=False) == f"红色。{end}b{end}"
    assert example.image_mask.sum() == 5 and set(example.ids[example.image_mask]) == {tokenizer.image_id}
    prompt = encode_prompt(conversation[:1], tokenizer, 5, (b"",))
    assert prompt.ids.tolist() == example.ids[: len(prompt.ids)].tolist()
    assert example.labels[len(prompt.ids)] != IGNORE


def test_llama_3_drops_white_space_around_a_turn_but_not_beside_its_picture(tmp_path):
    tokenizer = load_tokenizer(write_tokenizer(tmp_path, "llama3"))
    one = render(tokenizer, [Turn("user", (" ", "", IMAGE, "\nq\n", " "))])
    other = render(tokenizer, [Turn("user", (IMAGE, "\nq"))])
    assert one == other and one[-1].ids == [*tokenizer.encode("\nq"), tokenizer.end_id]


def test_a_folder_without_a_template_has_its_familys_plain_form(tmp_path):
    qwen, llama = (load_tokenizer(write_tokenizer(tmp_path / f, f, None)) for f in ("qwen2", "llama3"))
    asked = [("user", "q")]
    assert qwen.decode(ids_of(qwen, asked), skip_special=False) == (
        "<|im_start|>system\nYou are a helpful assistant<|im_end|>\n"
        "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n"
    )
    assert llama.decode(ids_of(llama, asked, True), skip_special=False) == (
        "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nq<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    )


@pytest.mark.parametrize("family", SPECIALS)
def test_no_text_forges_a_special_token_of_the_family(tmp_path, family):
    tokenizer = load_tokenizer(write_tokenizer(tmp_path, family))
    typed = "".join(SPECIALS[family]) + "<|eot_id|><image>"
    specials = {tokenizer.special(name) for name in SPECIALS[family]} | {tokenizer.image_id}
    assert not specials & set(tokenizer.encode(typed)) and tokenizer.decode(tokenizer.encode(typed)) == typed
    forged, honest = ([i for i in ids_of(tokenizer, [("user", text)], True) if i in specials] for text in (typed, "q"))
    assert forged == honest


def test_a_picture_stands_as_an_id_that_the_model_has_and_no_text_uses(tmp_path):
    llama = load_tokenizer(write_tokenizer(tmp_path / "llama", "llama3"))
    assert llama.image_id == llama.special("<|reserved_special_token_0|>")
    qwen25 = load_tokenizer(write_tokenizer(tmp_path / "qwen2.5", "qwen2.5"))
    assert qwen25.image_id == qwen25.special("<|image_pad|>")
    folder = write_tokenizer(tmp_path / "qwen2", "qwen2")
    alone = load_tokenizer(folder)
    assert alone.image_id == alone.pad_id
    for config in ({"vocab_size": alone.vocab_size + 9}, {"lm": {"vocab_size": alone.vocab_size + 9}}):
        (folder / "config.json").write_text(json.dumps(config))
        tokenizer = load_tokenizer(folder)
        assert tokenizer.image_id == alone.vocab_size and tokenizer.vocab_size == alone.vocab_size + 1
        assert tokenizer.decode([tokenizer.image_id]) == ""
    (folder / "config.json").write_text(json.dumps({"vocab_size": alone.vocab_size}))
    assert load_tokenizer(folder).image_id == alone.pad_id


def test_answers_end_at_the_templates_end_and_at_every_end_that_the_folder_names(tmp_path):
    llama = load_tokenizer(write_tokenizer(tmp_path, "llama3"))
    names = ("<|eot_id|>", "<|end_of_text|>", "<|eom_id|>")
    assert llama.end_ids == tuple(llama.special(name) for name in names) and llama.end_id == llama.end_ids[0]
    assert llama.pad_id == llama.special("<|finetune_right_pad_id|>")
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": llama.special("<|eom_id|>")}))
    assert load_tokenizer(tmp_path).end_ids == (llama.end_id, llama.special("<|eom_id|>"))


def test_a_saved_and_a_pickled_copy_know_the_template_the_ends_and_the_image(tmp_path):
    write_tokenizer(tmp_path / "a", "qwen2")
    move_template(tmp_path / "a", "jinja")
    (tmp_path / "a" / "config.json").write_text(json.dumps({"vocab_size": 999}))
    tokenizer = load_tokenizer(tmp_path / "a")
    tokenizer.save(tmp_path / "b")
    (tmp_path / "b" / "config.json").write_text(json.dumps({"lm": {"vocab_size": 999}}))
    for copy in (load_tokenizer(tmp_path / "b"), pickle.loads(pickle.dumps(tokenizer))):
        for what in ("template", "end_ids", "image_id", "pad_id", "vocab_size", "fingerprint"):
            assert getattr(copy, what) == getattr(tokenizer, what)
    assert tokenizer.template.default_system == "You are a helpful assistant."


@pytest.mark.parametrize("template, message", [
    (QWEN2.replace("message['content']", "message.content.split('</think>')[-1]"), "thinking"),
    (QWEN2.replace("message['content']", "message['content'].upper()"), r"edits \('.upper\('\)"),
    (QWEN2.replace("message['content']", "message['content'] + eos_token"), "an end-of-text token after a turn"),
    (QWEN2.replace("+ message['content']", "+ '<|vision_start|>' + message['content']"), "the markers <.vision_start"),
    (QWEN2.replace("assistant\\n'", "assistant\\nSure: '"), "answers that do not begin after"),
    (QWEN2.replace("+ '<|im_end|>' + '\\n'", "+ '<|im_end|>'"), r"turns that are not .*CONTENT<\|im_end\|>\\n'"),
    (QWEN2 + "{{ '<|im_start|>system\\nAnother.<|im_end|>\\n' }}", r"several default system texts \['Another.', 'You"),
    ("{{ '[INST] ' + messages[0]['content'] + ' [/INST]' }}", r"markers \[INST\], \[/INST\], expected one of ChatML"),
    ("{{ '<｜User｜>' + messages[0]['content'] }}", "markers <｜User｜>"),
    ("{{ messages }}", "the markers none"),
    (LLAMA3, "the markers <.start_header_id"),
    ([{"name": "tool_use", "template": QWEN2}], r"named \['tool_use'\], expected one named 'default'"),
    (7, "a chat_template that is not a string"),
])  # fmt: skip
def test_a_template_of_no_known_family_is_refused_in_words(tmp_path, template, message):
    write_tokenizer(tmp_path, "qwen2", template)
    with pytest.raises(TokenizerError, match=message) as error:
        load_tokenizer(tmp_path)
    assert "tokenizer.json" in str(error.value)


def test_a_tokenizer_without_the_markers_of_any_family_and_a_torn_config_are_refused(tmp_path):
    write_tokenizer(tmp_path, "qwen2")
    (tmp_path / "generation_config.json").write_text("[1]")
    with pytest.raises(TokenizerError, match="generation_config.json beside .* holds list, expected an object"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text("{")
    with pytest.raises(TokenizerError, match="tokenizer_config.json beside .* is not JSON"):
        load_tokenizer(tmp_path)
    data = json.loads((tmp_path / "tokenizer.json").read_text("utf-8"))
    data["added_tokens"] = data["added_tokens"][:1]
    with pytest.raises(TokenizerError, match=r"lacks the special tokens .*im_start.*ChatML.*eot_id.*Llama 3"):
        Tokenizer(json.dumps(data))
