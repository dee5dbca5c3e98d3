"""Write a run as a Hugging Face LLaVA folder: python -m tools.export_llava RUN OUT

transformers 4.57 and 5 load it with no custom code (LlavaForConditionalGeneration, AutoProcessor). RUN is the folder of
a run with a CLIP or SigLIP encoder and a linear or mlp projector, or a MiniMind2-V .pth (--vision, --tokenizer).
"""

from __future__ import annotations

if __name__ == "__main__":
    from engine.start import begin

    begin()

import sys
from pathlib import Path

import torch

from engine.arguments import UsageError
from engine.build import Trained, add_arguments, load_trained
from engine.command import guarded
from engine.console import Parser
from model.checkpoints.files import save_safetensors, write_json
from model.checkpoints.llava import llava_config, llava_tensors, select_strategy
from tools.llava_card import model_card
from tools.llava_tokenizer import IMAGE, save_llava_tokenizer


def main(argv: list[str] | None = None) -> None:
    parser = Parser(__doc__.split("\n")[0])
    add_arguments(parser)
    parser.add_argument("out", help="the folder to write, new or empty")
    dtypes = ("float32", "bfloat16", "float16")
    parser.add_argument("--dtype", default="float32", choices=dtypes, help="of the weights (default: float32)")
    args = parser.parse_args(argv)
    out = Path(args.out)
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise UsageError(f"{out}: exists already and is not an empty folder; choose another, or delete it")
    trained = load_trained(args.run, args.vision, args.tokenizer)
    export(trained, out, getattr(torch, args.dtype))
    size = sum(file.stat().st_size for file in out.iterdir())
    print(f"{out}: {size:,} bytes; README.md in it says how to load it and what was not checked")


def export(trained: Trained, out: Path, dtype: torch.dtype = torch.float32) -> None:
    """The whole folder; WeightsError, with nothing written, for a model that LLaVA cannot express."""
    vlm, tokenizer, spec = trained.model, trained.tokenizer, trained.encoder.spec
    special = {"pad_token_id": tokenizer.pad_id, "bos_token_id": tokenizer.start_id, "eos_token_id": tokenizer.end_id}
    llava_config(vlm, 0, special, vlm.config.lm.vocab_size)  # raises before anything is written
    image_id = save_llava_tokenizer(out, tokenizer, vlm.config.lm.max_position_embeddings)
    rows = max(vlm.config.lm.vocab_size, image_id + 1)
    config = llava_config(vlm, image_id, special, rows)
    name = str(dtype).removeprefix("torch.")
    write_json(out / "config.json", {**config, "dtype": name, "torch_dtype": name})
    answers = {"eos_token_id": list(tokenizer.end_ids), "do_sample": False, "max_new_tokens": 256}
    write_json(out / "generation_config.json", {**special, **answers})
    processor = {"processor_class": "LlavaProcessor"}
    # crop_size even if nothing is cropped: token counts are read from it
    crop = {"crop_size": dict(zip(("height", "width"), spec.shape, strict=True))}
    write_json(out / "preprocessor_config.json", {**crop, **processor, **spec.to_settings()})
    # LlavaProcessor counts (side // patch_size)² image tokens, and the additional ones, minus one for "default"
    write_json(out / "processor_config.json", {
        **processor, "patch_size": vlm.config.vision.patch_size,
        "vision_feature_select_strategy": select_strategy(vlm.config),
        "num_additional_image_tokens": int(vlm.config.vision.class_token), "image_token": IMAGE,
    })  # fmt: skip
    tensors = llava_tensors(vlm, rows, tokenizer.pad_id)
    (out / "README.md").write_text(model_card(trained, config, name), encoding="utf-8")
    save_safetensors(out / "model.safetensors", {key: x.to(dtype) for key, x in tensors.items()})


if __name__ == "__main__":
    sys.exit(guarded(main))
