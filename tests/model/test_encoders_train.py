"""The training commands take every family's folder as it is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from encoders import FAMILIES, write_family
from tiny import QUICK, files_in

import train_pretrain
from engine.build import get_encoder, run_encoder
from model.checkpoints import load_vlm

pytestmark = pytest.mark.filterwarnings("ignore:.*no preprocessor_config.json:UserWarning")
FEATURES = {"internvl": (4, 96), "intern_vit": (4, 96)}  # number and width; of the others (16, 24)


def pretrain(tiny: Path, vision: Path, *flags) -> None:
    """Run the command on the tiny data with this encoder."""
    given = ["--data", tiny / "data.jsonl", "--images", tiny / "images", "--llm", tiny / "lm", "--vision", vision,
             "--projector", "linear", *flags, *QUICK]  # fmt: skip
    train_pretrain.main([str(flag) for flag in given])


@pytest.mark.parametrize("family", FAMILIES)
def test_a_dry_run_counts_the_familys_encoder_and_a_projector_that_fits_it(tiny, tmp_path, monkeypatch, capsys, family):
    write_family(tmp_path / family, family, whole=True)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    pretrain(tiny, tmp_path / family, "--dry-run")
    said = capsys.readouterr().out
    encoder = get_encoder(str(tmp_path / family))
    number, width = FEATURES.get(family, (16, 24))
    assert (encoder.module.config.num_features, encoder.module.config.feature_size) == (number, width)
    assert f"{32 * (width + 1):,}" in said  # the projector's parameters
    assert f"{sum(p.numel() for p in encoder.module.parameters()):,}" in said
    assert not files_in(tmp_path / "here")


@pytest.mark.parametrize("family, trained", [("intern_vit", "projector"), ("clip", "projector,vision")])
def test_a_run_with_the_familys_encoder_finishes_and_loads(tiny, tmp_path, family, trained):
    write_family(tmp_path / family, family)
    pretrain(tiny, tmp_path / family, "--out", tmp_path / "run", "--steps", 2, "--batch_size", 4, "--train", trained)
    encoder = run_encoder(tmp_path / "run")
    model = load_vlm(tmp_path / "run", encoder.module)
    before = get_encoder(str(tmp_path / family)).module.state_dict()
    changed = {name for name, weight in encoder.module.state_dict().items() if not torch.equal(weight, before[name])}
    assert bool(changed) == ("vision" in trained) and not any(name.startswith("post_layernorm") for name in changed)
    assert model.image_tokens == encoder.module.config.num_features
    assert encoder.spec == get_encoder(str(tmp_path / family)).spec
