from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from model.config import PROJECTORS, LMConfig, ProjectorConfig, VisionConfig, VLMConfig
from model.projector import build_projector
from model.vlm import VLM


def count(module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def projector_of(kind: str, width_in: int = 12, width_out: int = 8):
    torch.manual_seed(0)
    return build_projector(ProjectorConfig(kind, width_in, width_out))


@pytest.mark.parametrize("kind, total, tokens", [("linear", 26_223_616, 196), ("ldp", 26_491_392, 49)])
def test_parameters_without_a_768_wide_encoder_are_those_of_the_reference(kind, total, tokens):
    vision = VisionConfig(768, 3072, 12, 12, 224, 16)
    with torch.device("meta"):
        vlm = VLM(VLMConfig(LMConfig(), vision, ProjectorConfig(kind, 768, 512)))
    assert count(vlm) == total
    assert vlm.image_tokens == tokens


def test_parameters_include_every_bias():
    assert count(projector_of("linear")) == 12 * 8 + 8
    assert count(projector_of("mlp")) == 12 * 8 + 8 + 8 * 8 + 8
    assert count(projector_of("ldp")) == 12 * 8 + 8 + 8 * 8 + 8 + 8 * 9 + 8


@pytest.mark.parametrize("kind", PROJECTORS)
@pytest.mark.parametrize("side", [1, 2, 3, 5, 8, 14])
def test_tokens_out_is_what_comes_out(kind, side):
    projector = projector_of(kind)
    out = projector(torch.randn(2, side * side, 12))
    assert out.shape == (2, projector.config.tokens_out(side * side), 8)


def test_ldp_halves_each_side_and_rounds_up():
    tokens_out = projector_of("ldp").config.tokens_out
    assert [tokens_out(n) for n in (196, 64, 16, 9, 1)] == [49, 16, 4, 4, 1]
    assert projector_of("linear").config.tokens_out(50) == 50
    with pytest.raises(ValueError, match="square grid of features, found 50"):
        tokens_out(50)


@pytest.mark.parametrize("kind", PROJECTORS)
def test_in_bands_the_same_tokens_come_in_another_order(kind):
    torch.manual_seed(0)
    rows, banded = (VLM(VLMConfig(LMConfig(8, 1, 2, 1, 16, 20), None, ProjectorConfig(kind, 12, 8, band=band)))
                    for band in (1, 2))  # fmt: skip
    banded.load_state_dict(rows.state_dict())
    features = torch.randn(2, 36 if kind == "ldp" else 9, 12)  # either way 3 x 3 tokens
    in_rows, in_bands = (model.image_embeddings(features=features) for model in (rows, banded))
    assert torch.equal(in_bands, in_rows[:, [0, 3, 1, 4, 2, 5, 6, 7, 8]])
    assert torch.equal(in_rows, rows.projector(features))


def test_linear_and_mlp_are_their_formulas():
    features = torch.randn(1, 4, 12)
    linear, mlp = projector_of("linear"), projector_of("mlp")
    assert torch.allclose(
        linear(features), features @ linear.linear_1.weight.T + linear.linear_1.bias, atol=1e-6
    )
    hidden = F.gelu(features @ mlp.linear_1.weight.T + mlp.linear_1.bias)
    assert torch.allclose(mlp(features), hidden @ mlp.linear_2.weight.T + mlp.linear_2.bias, atol=1e-6)


def test_ldp_averages_two_by_two_and_adds_its_neighbours():
    projector = projector_of("ldp")
    features = torch.randn(1, 16, 12)
    grid = projector.linear_2(F.gelu(projector.linear_1(features))).view(4, 4, 8)
    pooled = torch.stack(
        [grid[2 * r : 2 * r + 2, 2 * c : 2 * c + 2].mean((0, 1)) for r in (0, 1) for c in (0, 1)]
    )
    weight, bias = projector.depthwise.weight[:, 0], projector.depthwise.bias  # (8, 3, 3)
    corner = pooled[0] + bias
    for row in (0, 1):
        for column in (0, 1):
            corner = corner + weight[:, 1 + row, 1 + column] * pooled[2 * row + column]
    assert torch.allclose(projector(features)[0, 0], corner, atol=1e-5)


def test_features_of_another_width_are_refused():
    with pytest.raises(ValueError, match=r"found shape \(1, 4, 7\), expected \(images, patches, 12\)"):
        projector_of("mlp")(torch.zeros(1, 4, 7))


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="kind: found 'ldpnet'"):
        ProjectorConfig("ldpnet", 12, 8)
