"""A tokenizer for Hugging Face's LlavaProcessor: one id for "<image>", and a chat template with pictures."""

from __future__ import annotations

import re
from pathlib import Path

from model.checkpoints.files import read_json, write_json
from tokenizer.template import ChatTemplate
from tokenizer.tokenizer import CONFIG_FILE, IMAGE_NAMES, TEMPLATE_FILE, TOKENIZER_FILE, Tokenizer

IMAGE = "<image>"  # the placeholder for a picture in LLaVA's processor and the tools around it

# One turn's content: a text, or parts. A picture followed by text gets a line break after it, as in our prompts.
CONTENT = (
    "{%- set turn = namespace(text='') -%}"
    "{%- if message['content'] is string -%}{%- set turn.text = message['content'] -%}"
    "{%- else -%}"
    "{%- for part in message['content'] -%}"
    "{%- if part['type'] == 'text' -%}{%- set turn.text = turn.text + part['text'] -%}"
    "{%- elif part['type'] in ['image', 'image_url'] -%}"
    "{%- set turn.text = turn.text + '" + IMAGE + "' -%}"
    "{%- if not loop.last and loop.nextitem['type'] == 'text' and not loop.nextitem['text'].startswith('\\n') -%}"
    "{%- set turn.text = turn.text + '\\n' -%}"
    "{%- endif -%}"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- endif -%}"
)


def chat_template(template: ChatTemplate) -> str:
    """The Jinja source that renders what tokenizer/chat.py renders for this template."""
    opening = literal(template.start) + "{{- message['role'] -}}" + literal(template.after_role + template.gap)
    content = CONTENT + ("{{- turn.text | trim -}}" if template.trims else "{{- turn.text -}}")
    answer = literal(template.opening("assistant"))
    system, after_user, at_the_end = "", "", when("add_generation_prompt", answer)
    if template.opens_answers:
        opening = when("message['role'] != 'assistant'", opening)
        after_user, at_the_end = when("message['role'] == 'user'", answer), ""
    if template.default_system is not None:
        block = template.opening("system") + template.system_prefix + template.default_system + template.closing
        system = when("messages[0]['role'] != 'system'", literal(block))
    prefix = when("message['role'] == 'system'", literal(template.system_prefix))
    turn = opening + prefix + content + literal(template.closing) + after_user
    return literal(template.begin) + system + "{%- for message in messages -%}" + turn + "{%- endfor -%}" + at_the_end


def when(condition: str, code: str) -> str:
    return "{%- if " + condition + " -%}" + code + "{%- endif -%}"


def literal(text: str) -> str:
    """Jinja code that writes this text; empty for an empty text."""
    quoted = text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n")
    return "{{- '" + quoted + "' -}}" if text else ""


def save_llava_tokenizer(folder: Path, tokenizer: Tokenizer, max_length: int) -> int:
    """Write tokenizer.json, its config and the template into `folder`; returns the id of "<image>".

    A tokenizer with an image token keeps its id under the new name. One that marks pictures with an ordinary token
    (MiniMind2's "@") or its padding token gets a new last token: LLaVA takes every image id for a picture.
    """
    tokenizer.save(folder)
    data = read_json(folder / TOKENIZER_FILE)
    added = data["added_tokens"]
    names = {token["id"]: token["content"] for token in added}
    old, image_id = names.get(tokenizer.image_id), tokenizer.image_id
    if IMAGE in names.values():
        image_id = next(i for i, name in names.items() if name == IMAGE)
    elif old in IMAGE_NAMES:
        next(token for token in added if token["id"] == image_id)["content"] = IMAGE
        if old in data["model"]["vocab"]:
            data["model"]["vocab"] = {IMAGE if name == old else name: i for name, i in data["model"]["vocab"].items()}
    else:
        named = old is not None or image_id in data["model"]["vocab"].values()
        image_id = tokenizer.vocab_size if named else image_id  # Qwen2's is an unused id
        added.append({"id": image_id, "content": IMAGE, "single_word": False, "lstrip": False, "rstrip": False,
                      "normalized": False, "special": True})  # fmt: skip
    for token in added:
        token["special"] = token["special"] or bool(re.fullmatch(r"<\|.*\|>", token["content"]))
    write_json(folder / TOKENIZER_FILE, data)
    write_json(folder / CONFIG_FILE, tokenizer_config(tokenizer, added, max_length))
    (folder / TEMPLATE_FILE).write_text(chat_template(tokenizer.template), encoding="utf-8")
    return image_id


def tokenizer_config(tokenizer: Tokenizer, added: list[dict], max_length: int) -> dict:
    """tokenizer_config.json for a tokenizer.json with these added tokens."""
    names = {token["id"]: token["content"] for token in added}
    template = tokenizer.template
    flags = ("add_bos_token", "add_eos_token", "add_prefix_space", "clean_up_tokenization_spaces")
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": names[tokenizer.pad_id], "bos_token": template.begin or template.start, "eos_token": template.end,
        "additional_special_tokens": [IMAGE],
        "added_tokens_decoder": {str(t["id"]): {key: t[key] for key in t if key != "id"} for t in added},
        **dict.fromkeys(flags, False),
        "padding_side": "left",  # for batched generation
        "model_input_names": ["input_ids", "attention_mask"],  # transformers 4 would add token_type_ids
        "model_max_length": max_length,
        "processor_class": "LlavaProcessor",
        "chat_template": chat_template(template),
    }  # fmt: skip
