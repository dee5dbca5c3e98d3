"""What a model can be exported to is said before it is trained; the layer that LLaVA needs is the default."""

from __future__ import annotations

import pytest
import torch
from encoders import write_family

import train_pretrain
from engine.build import get_encoder, join
from model.checkpoints import clip_preprocess, write_json
from model.checkpoints.exports import describe_exports
from model.config import LMConfig
from model.language import LanguageModel


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoders")
    for family in ("clip", "siglip"):
        write_family(folder / family, family)
        write_json(folder / family / "preprocessor_config.json", clip_preprocess(32))
    return folder


def told(folder, projector: str, layer: int = 0) -> tuple[int, str]:
    """(the layer that features are taken from, what is said of exports)."""
    torch.manual_seed(0)
    encoder = get_encoder(str(folder), layer, projector)
    vlm = join(LanguageModel(LMConfig(32, 1, 8, 2, 48, 64)), encoder, projector)
    return encoder.module.config.feature_layer, describe_exports(vlm, in_full=True)


@pytest.mark.parametrize(
    "family, projector, given, taken, llava",
    [
        ("siglip", "mlp", 0, -2, "yes"),
        ("siglip", "linear", 0, -2, "yes"),
        ("siglip", "mlp", -1, -1, "no, this model's features are taken after the encoder's last LayerNorm"),
        ("siglip", "ldp", 0, -1, "no, found the projector 'ldp'|no, this model's features"),
        ("clip", "mlp", 0, -1, "yes"),
        ("clip", "ldp", 0, -1, "no, found the projector 'ldp'"),
    ],
)
def test_the_layer_that_llava_needs_is_the_default(folders, family, projector, given, taken, llava):
    layer, said = told(folders / family, projector, given)
    assert layer == taken
    line = next(line for line in said.splitlines() if line.startswith("export to LLaVA"))
    assert any(f": {start}" in line for start in llava.split("|")), line


def test_minimind_v_is_told_the_same_way(folders):
    assert "MiniMind-V (tools.export_minimind): no, MiniMind2-V's format holds a linear projector" in told(
        folders / "clip", "mlp"
    )[1]
    assert "CLIP ViT-B/16, this model's encoder has hidden_size 24" in told(folders / "clip", "linear")[1]


def test_a_dry_run_says_what_the_model_can_be_exported_to_and_what_to_do(tiny, capsys):
    flags = ["--data", tiny / "data.jsonl", "--images", tiny / "images", "--llm", tiny / "lm", "--vision",
             tiny / "vision", "--device", "cpu", "--dry-run"]  # fmt: skip
    train_pretrain.main([str(flag) for flag in flags])
    said = capsys.readouterr().out
    assert "export to LLaVA (tools.export_llava): no, " in said and "Train with --vision and a CLIP folder" in said
