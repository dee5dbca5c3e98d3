"""A tokenizer's folder for Hugging Face's LlavaProcessor: one id for "<image>", and our chat template in Jinja."""

from __future__ import annotations

from pathlib import Path

from model.tensors import read_json, write_json
from tokenizer.chat import DEFAULT_SYSTEM
from tokenizer.tokenizer import CONFIG_FILE, END, IMAGE_NAMES, PAD, REQUIRED, START, TOKENIZER_FILE, Tokenizer

IMAGE = "<image>"  # what LLaVA's processor, and the tools around it, write for a picture
TEMPLATE_FILE = "chat_template.jinja"

# What tokenizer/chat.py writes. A picture that text follows gets a line break after it, as our own prompts have.
CHAT_TEMPLATE = (
    "{%- if messages[0]['role'] != 'system' -%}"
    "{{- '<|im_start|>system\\n" + DEFAULT_SYSTEM + "<|im_end|>\\n' -}}"
    "{%- endif -%}"
    "{%- for message in messages -%}"
    "{%- if message['role'] != 'assistant' -%}{{- '<|im_start|>' + message['role'] + '\\n' -}}{%- endif -%}"
    "{%- if message['content'] is string -%}{{- message['content'] -}}"
    "{%- else -%}"
    "{%- for part in message['content'] -%}"
    "{%- if part['type'] == 'text' -%}{{- part['text'] -}}"
    "{%- elif part['type'] in ['image', 'image_url'] -%}{{- '" + IMAGE + "' -}}"
    "{%- if not loop.last and loop.nextitem['type'] == 'text' and not loop.nextitem['text'].startswith('\\n') -%}"
    "{{- '\\n' -}}"
    "{%- endif -%}"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- endif -%}"
    "{{- '<|im_end|>\\n' -}}"
    "{%- if message['role'] == 'user' -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
    "{%- endfor -%}"
)


def save_llava_tokenizer(folder: Path, tokenizer: Tokenizer, max_length: int) -> int:
    """Write tokenizer.json, its config and the template into `folder`; returns the id of "<image>".

    A tokenizer with an image token keeps its id under the new name. One that marks pictures with a token of its text
    (MiniMind2's "@") or with its padding gets a new token after its last: LLaVA takes every such id for a picture.
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
        image_id = tokenizer.vocab_size
        added.append({"id": image_id, "content": IMAGE, "single_word": False, "lstrip": False, "rstrip": False,
                      "normalized": False, "special": True})  # fmt: skip
    for token in added:
        token["special"] = token["special"] or token["content"] in (IMAGE, *REQUIRED)
    write_json(folder / TOKENIZER_FILE, data)
    write_json(folder / CONFIG_FILE, tokenizer_config(added, max_length))
    (folder / TEMPLATE_FILE).write_text(CHAT_TEMPLATE, encoding="utf-8")
    return image_id


def tokenizer_config(added: list[dict], max_length: int) -> dict:
    """tokenizer_config.json for a tokenizer.json with these added tokens."""
    decoder = {str(token["id"]): {name: value for name, value in token.items() if name != "id"} for token in added}
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": PAD,
        "bos_token": START,
        "eos_token": END,
        "unk_token": PAD,
        "additional_special_tokens": [IMAGE],
        "added_tokens_decoder": decoder,
        "add_bos_token": False,
        "add_eos_token": False,
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "padding_side": "left",  # of a batch to generate from
        "model_input_names": ["input_ids", "attention_mask"],  # transformers 4 would add token_type_ids
        "model_max_length": max_length,
        "processor_class": "LlavaProcessor",
        "chat_template": CHAT_TEMPLATE,
    }
