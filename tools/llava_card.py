"""The README.md of an exported LLaVA folder: what it is, how to load it, what differs and what was not checked."""

from __future__ import annotations

from engine.build import Trained
from tokenizer.tokenizer import IMAGE_NAMES

VLLM = """- **vLLM** (read from its public source, not run): key names, `image_token_index`, `vision_feature_layer` and
  the select strategy are those that its LLaVA reads, and it leaves out the last LayerNorm, as this model needs."""
VLLM_LINEAR = """- **vLLM** (read from its public source, not run): its table of activations has no `linear`, which is
  this folder's `projector_hidden_act`, so it will refuse the folder. Train with `--projector mlp` for vLLM."""
GELU = "; and its LLaVA graph always applies a GELU, which this model's linear projector does not have"
MLP = "The projector is LLaVA's own: linear, GELU, linear."
LINEAR = "LLaVA's projector has two layers: the second is the identity here, and so is the activation."


def model_card(trained: Trained, config: dict, dtype: str) -> str:
    """The card's text. config: the config.json that it describes."""
    vlm, linear = trained.model, config["projector_hidden_act"] == "linear"
    kinds = {"clip_vision_model": "CLIP", "siglip_vision_model": "SigLIP", "llama": "Llama", "qwen2": "Qwen2"}
    lm, tower = (kinds[config[part]["model_type"]] for part in ("text_config", "vision_config"))
    size, projector = vlm.config.vision.image_size, vlm.config.projector.kind
    million = sum(p.numel() for p in vlm.parameters()) / 1e6
    return f"""---
library_name: transformers
pipeline_tag: image-text-to-text
---

# {trained.path.stem}

A vision-language model trained with Glimpse ({million:.1f} million parameters, {dtype}), in the format of
`LlavaForConditionalGeneration`: {tower} encoder at {size} pixels, projector `{projector}`, {lm} language model.
A picture takes {vlm.image_tokens} tokens.

```python
from transformers import AutoProcessor, LlavaForConditionalGeneration

model = LlavaForConditionalGeneration.from_pretrained("FOLDER").eval()
processor = AutoProcessor.from_pretrained("FOLDER")
question = [{{"type": "image", "path": "photo.jpg"}}, {{"type": "text", "text": "描述一下这个图像的内容。"}}]
inputs = processor.apply_chat_template(
    [{{"role": "user", "content": question}}],
    add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt",
)
ids = model.generate(**inputs, max_new_tokens=256)[0, inputs["input_ids"].shape[1]:]
print(processor.decode(ids, skip_special_tokens=True))
```

Made for transformers 4.57 and 5; no custom code. Answers are greedy unless you ask otherwise.

## What to know

- **Text can forge a picture.** Here `<image>` in a user's message becomes an image token, as in every LLaVA, and
  `<|im_end|>` becomes the end of the turn; in Glimpse neither does. Strip both from text that you do not trust.
- {token_note(trained, config['image_token_index'])}
- {LINEAR if linear else MLP}
- Pictures are resized by transformers, with Pillow or with torchvision, whichever it finds: the two differ slightly.

## Servers

{VLLM_LINEAR if linear else VLLM}
- **llama.cpp** (read from its public source, not run): its converter takes the language part as {lm}. It
  knows pre-tokenizers by a hash and asks for this one's to be added unless it has it. Its `--mmproj` takes only
  Pixtral towers for this architecture: the picture part needs a GGUF written by other means{GELU if linear else ''}.
"""


def token_note(trained: Trained, image_id: int) -> str:
    """What became of the tokenizer's image token."""
    ours = trained.tokenizer.image_id
    mark = trained.tokenizer.decode([ours], skip_special=False)
    if image_id == ours:
        name = next((name for name in IMAGE_NAMES if name in mark), "")
        return f"The image token is id {ours}, in Glimpse called `{name}`; prompts have the same ids in both."
    return (
        f"The image token is the new id {image_id}. In Glimpse id {ours} (`{mark}`) marks a picture's place, but "
        "text may contain it too, and LLaVA would take that for a picture. All other ids are the same."
    )
