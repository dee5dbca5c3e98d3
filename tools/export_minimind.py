"""Write a run as MiniMind2-V's own checkpoint: python -m tools.export_minimind RUN OUT.pth

RUN is a run's folder, or a MiniMind2-V .pth (with --vision and --tokenizer). OUT.pth is what MiniMind-V's scripts read:
fp16, no encoder, the embedding twice. A model that its code would load but compute differently is an error.
"""

from __future__ import annotations

if __name__ == "__main__":
    from engine.start import begin

    begin()

import sys
from pathlib import Path

from engine.arguments import UsageError
from engine.build import Trained, add_arguments, load_trained
from engine.command import guarded
from engine.console import Parser
from model.checkpoints import save_minimind_v
from model.checkpoints.minimind import check_minimind_encoder
from tokenizer.tokenizer import MINIMIND2_IMAGE_ID


def main(argv: list[str] | None = None) -> None:
    parser = Parser(__doc__.split("\n")[0])
    add_arguments(parser)
    parser.add_argument("out", help="the file to write, named as MiniMind-V names it: sft_vlm_512.pth")
    args = parser.parse_args(argv)
    out = Path(args.out)
    if out.suffix != ".pth":
        raise UsageError(f"{out}: expected a file that ends in .pth, as MiniMind-V's do")
    trained = load_trained(args.run, args.vision, args.tokenizer)
    check_minimind_encoder(trained.encoder.module.config)
    save_minimind_v(out, trained.model)
    print(f"{out}: {out.stat().st_size:,} bytes")
    print_how_to_load(trained, out)


def print_how_to_load(trained: Trained, out: Path) -> None:
    """What MiniMind-V needs to be told to load the file; a tokenizer of the model's own is written beside it."""
    lm, image, tokens = trained.model.config.lm, trained.tokenizer.image_id, trained.model.image_tokens
    print(
        f"MiniMind-V reads it with --hidden_size {lm.hidden_size} --num_hidden_layers {lm.num_hidden_layers}, under "
        f"the name sft_vlm_{lm.hidden_size}.pth or pretrain_vlm_{lm.hidden_size}.pth"
    )
    if image == MINIMIND2_IMAGE_ID:
        return
    folder = out.parent / "tokenizer"
    trained.tokenizer.save(folder)
    name = trained.tokenizer.decode([image], skip_special=False)
    print(
        f"this model has a tokenizer of its own, written to {folder}: give MiniMind-V that one, and in its VLMConfig "
        f"image_special_token={name!r} * {tokens} and image_ids=[{image}] * {tokens}"
    )


if __name__ == "__main__":
    sys.exit(guarded(main))
