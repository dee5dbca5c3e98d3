"""Small folders in the shape of Qwen2's, Qwen2.5's and Llama 3's, made on the spot: tokenizer, template, weights."""

from __future__ import annotations

import json
from pathlib import Path

import tokenizers
import torch
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from model.checkpoints import clip_preprocess, write_json

CONTENTS = "'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'"
PROMPT = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
QWEN2 = (
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}"
    "{{ '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}{% endif %}"
    "{{ " + CONTENTS + " }}{% endfor %}" + PROMPT
)
PLAIN_CHATML = "{% for message in messages %}{{ " + CONTENTS + " }}{% endfor %}" + PROMPT
QWEN25 = r"""
{%- if tools %}
    {{- '<|im_start|>system\n' }}
    {%- if messages[0]['role'] == 'system' %}{{- messages[0]['content'] }}{%- else %}{{- 'You are Qwen.' }}{%- endif %}
    {{- "\n# Tools\n<tools>" }}{%- for tool in tools %}{{- "\n" }}{{- tool | tojson }}{%- endfor %}
    {{- "\n{\"name\": <name>}\n</tools><|im_end|>\n" }}
{%- elif messages[0]['role'] == 'system' %}
    {{- '<|im_start|>system\n' + messages[0]['content'] + '<|im_end|>\n' }}
{%- else %}
    {{- '<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == "user" or (message.role == "assistant" and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>' + '\n' }}
    {%- elif message.role == "tool" %}
        {{- '<|im_start|>user\n<tool_response>\n' }}{{- message.content }}{{- '\n</tool_response><|im_end|>\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}
"""
LLAMA3 = (
    "{% for message in messages %}{% set content = '<|start_header_id|>' + message['role'] + "
    "'<|end_header_id|>\\n\\n' + message['content'] | trim + '<|eot_id|>' %}"
    "{% if loop.first %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"
)
LLAMA32 = r"""
{{- bos_token }}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "26 Jul 2024" %}
    {%- endif %}
{%- endif %}
{#- The <|image|> of this comment is no part of it. #}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\n\n" }}
{%- if tools is defined and tools is not none %}{{- "Environment: ipython\n" }}{%- endif %}
{{- "Cutting Knowledge Date: December 2023\n" }}
{{- "Today Date: " + date_string + "\n\n" }}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {%- if message.role != 'tool' %}
        {{- '<|start_header_id|>' + message['role']
            + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' }}
    {%- else %}
        {{- "<|start_header_id|>ipython<|end_header_id|>\n\n<|python_tag|>" }}{{- message.content }}{{- "<|eot_id|>" }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{%- endif %}
"""
DATE = "26 Jul 2024"

SPECIALS = {
    "qwen2": ["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
    "qwen2.5": ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|image_pad|>", "<|file_sep|>"],
    "llama3": ["<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_0|>", "<|reserved_special_token_1|>",
               "<|finetune_right_pad_id|>", "<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>", "<|eot_id|>",
               "<|python_tag|>"],
}  # fmt: skip
TEMPLATES = {"qwen2": QWEN2, "qwen2.5": QWEN25, "llama3": LLAMA32}
ENDS = {"qwen2": ["<|im_end|>", "<|endoftext|>"], "llama3": ["<|end_of_text|>", "<|eom_id|>", "<|eot_id|>"]}
SPARE = 24  # rows of the embedding that the vocabulary leaves free, as in Qwen2's


def write_tokenizer(folder: Path, family: str, template: str | None = "") -> Path:
    """A byte-level BPE tokenizer of the family, its special tokens last; template "": the family's own, None: none."""
    letters, digits = r"[^\r\n\p{L}\p{N}]?\p{L}+", r"\p{N}{1,3}" if family == "llama3" else r"\p{N}"
    pattern = rf"(?i:'s|'t|'re|'ve|'m|'ll|'d)|{letters}|{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    made = tokenizers.Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(tokenizers.Regex(pattern), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])  # fmt: skip
    made.decoder = decoders.ByteLevel()
    if family != "llama3":
        made.normalizer = normalizers.NFC()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    text = ["这是什么颜色？红色。它是红色的。蓝色绿色", "You are a helpful assistant.\n\nuser\n", "What is that?\n"]
    trainer = trainers.BpeTrainer(vocab_size=340, initial_alphabet=alphabet, show_progress=False)
    made.train_from_iterator(text * 5, trainer)
    bos = family == "llama3"
    made.add_special_tokens([tokenizers.AddedToken(name, normalized=False) for name in SPECIALS[family]])
    if bos:
        token = ("<|begin_of_text|>", made.token_to_id("<|begin_of_text|>"))
        made.post_processor = processors.TemplateProcessing("<|begin_of_text|> $A", special_tokens=[token])
    folder.mkdir(parents=True, exist_ok=True)
    data = json.loads(made.to_str())
    for token in data["added_tokens"]:
        token["special"] = token["content"] != "<|file_sep|>"  # as Qwen2.5 has it
    (folder / "tokenizer.json").write_text(json.dumps(data), encoding="utf-8")
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False,
              "bos_token": "<|begin_of_text|>" if bos else None, "eos_token": "<|eot_id|>" if bos else "<|im_end|>",
              "pad_token": {"__type": "AddedToken", "content": SPECIALS[family][4 if bos else 0]}}  # fmt: skip
    if template is not None:
        config["chat_template"] = template or TEMPLATES[family]
    write_json(folder / "tokenizer_config.json", config)
    ends = ENDS["llama3" if bos else "qwen2"]
    write_json(folder / "generation_config.json", {"eos_token_id": [made.token_to_id(name) for name in ends]})
    return folder


def write_model(folder: Path, family: str, shard: str = "50GB") -> Path:
    """A random model of the family beside its tokenizer, as transformers saves it; in shards of that size."""
    import transformers

    write_tokenizer(folder, family)
    vocabulary = max(t["id"] for t in json.loads((folder / "tokenizer.json").read_text("utf-8"))["added_tokens"]) + 1
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
             "num_key_value_heads": 2, "tie_word_embeddings": True, "max_position_embeddings": 1024}  # fmt: skip
    if family == "llama3":
        rope = {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 32.0, "low_freq_factor": 1.0,
                "high_freq_factor": 4.0, "original_max_position_embeddings": 64}  # fmt: skip
        config = transformers.LlamaConfig(**sizes, vocab_size=vocabulary, head_dim=16, rope_parameters=rope)
        model = transformers.LlamaForCausalLM(config)
    else:
        config = transformers.Qwen2Config(**sizes, vocab_size=vocabulary + SPARE)
        model = transformers.Qwen2ForCausalLM(config)
    generation = (folder / "generation_config.json").read_text("utf-8")
    model.to(torch.bfloat16).save_pretrained(folder, max_shard_size=shard)
    (folder / "generation_config.json").write_text(generation, "utf-8")
    return folder


def write_clip(folder: Path) -> Path:
    """A random CLIP vision folder of 16 features."""
    import transformers

    torch.manual_seed(0)
    config = transformers.CLIPVisionConfig(hidden_size=32, intermediate_size=48, num_hidden_layers=2,
                                           num_attention_heads=2, image_size=32, patch_size=8)  # fmt: skip
    transformers.CLIPVisionModel(config).save_pretrained(folder)
    write_json(folder / "preprocessor_config.json", clip_preprocess(32))
    return folder
