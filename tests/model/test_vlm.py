from __future__ import annotations

from dataclasses import asdict
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from model.checkpoints.own import from_dict
from model.config import LMConfig, ProjectorConfig, VisionConfig, VLMConfig
from model.vision import VisionTransformer
from model.vlm import IGNORED, VLM

LM = LMConfig(32, 2, 4, 2, 48, 60, max_position_embeddings=64)
VISION = VisionConfig(24, 32, 2, 2, 32, 8)
CONFIG = VLMConfig(LM, VISION, ProjectorConfig("ldp", 24, 32))  # 16 patches, 4 image tokens


def seeded(config: VLMConfig = CONFIG, with_vision: bool = True) -> VLM:
    torch.manual_seed(0)
    vlm = VLM(config, VisionTransformer(VISION) if with_vision else None)
    for parameter in vlm.llm.parameters():
        if parameter.dim() > 1:
            parameter.data.mul_(8)
    return vlm


def batch_of(rows: int = 2, length: int = 16, pictures: int | None = None, **given) -> SimpleNamespace:
    """Row r holds one picture at positions 2 + r onwards; the labels are its last five tokens."""
    draw = torch.Generator().manual_seed(5)
    ids = torch.randint(0, LM.vocab_size, (rows, length), generator=draw)
    image_mask = torch.zeros(rows, length, dtype=torch.bool)
    for row in range(rows if pictures is None else pictures):
        image_mask[row, 2 + row : 6 + row] = True
    labels = ids.clone()
    labels[:, :-5] = IGNORED
    batch = SimpleNamespace(
        ids=ids, labels=labels, image_mask=image_mask, pixels=None, features=None, words=None
    )
    batch.attention_mask = torch.ones_like(image_mask)
    if not given:
        batch.features = torch.randn(rows if pictures is None else pictures, 16, 24, generator=draw)
    for name, value in given.items():
        setattr(batch, name, value)
    return batch


def without_pictures(batch: SimpleNamespace) -> SimpleNamespace:
    return SimpleNamespace(
        **{**vars(batch), "image_mask": torch.zeros_like(batch.image_mask), "features": None}
    )


def test_image_tokens_come_from_the_projector():
    assert VLM(CONFIG).image_tokens == 4
    with pytest.raises(ValueError, match="needs both a vision and a projector"):
        _ = VLM(VLMConfig(LM)).image_tokens


def test_pictures_land_in_their_places_in_reading_order():
    vlm, batch = seeded(), batch_of()
    pictures = torch.arange(2 * 4 * 32, dtype=torch.float32).view(2, 4, 32)
    embedded = vlm.embed(batch.ids, batch.image_mask, pictures)
    assert torch.equal(embedded[0, 2:6], pictures[0]) and torch.equal(embedded[1, 3:7], pictures[1])
    text = ~batch.image_mask
    assert torch.equal(embedded[text], vlm.llm.embed(batch.ids)[text])


def test_ids_under_a_picture_do_not_matter():
    vlm, batch = seeded(), batch_of()
    before = vlm.logits(batch)
    batch.ids = torch.where(batch.image_mask, (batch.ids + 7) % LM.vocab_size, batch.ids)
    assert torch.equal(vlm.logits(batch), before)


def test_a_wrong_number_of_image_positions_is_refused():
    vlm, batch = seeded(), batch_of()
    batch.image_mask[0, 2] = False
    with pytest.raises(ValueError, match=r"holds 7 image positions.*\(2, 4, 32\) fill 8"):
        vlm.loss(batch)
    with pytest.raises(ValueError, match="holds 8 image positions.*none fill 0"):
        vlm.loss(batch_of(features=None))
    with pytest.raises(ValueError, match="expected that of ids"):
        vlm.embed(batch.ids, batch.image_mask[:1], None)


def test_exactly_one_source_of_pictures_is_taken():
    vlm = seeded()
    with pytest.raises(ValueError, match="exactly one"):
        vlm.image_embeddings()
    with pytest.raises(ValueError, match="exactly one"):
        vlm.image_embeddings(pixels=torch.zeros(1, 3, 32, 32), features=torch.zeros(1, 16, 24))


def test_pixels_without_an_encoder_or_a_projector_are_refused():
    with pytest.raises(ValueError, match="no encoder"):
        seeded(with_vision=False).image_embeddings(pixels=torch.zeros(1, 3, 32, 32))
    with pytest.raises(ValueError, match="no projector"):
        seeded(VLMConfig(LM, VISION)).image_embeddings(features=torch.zeros(1, 16, 24))


def test_features_computed_before_give_what_pixels_give():
    vlm = seeded()
    pixels = torch.randn(2, 3, 32, 32)
    features = vlm.vision(pixels)
    assert torch.equal(vlm.image_embeddings(pixels=pixels), vlm.image_embeddings(features=features))


def test_word_pictures_are_sums_of_token_embeddings():
    vlm = seeded()
    words = torch.tensor([[[3, 5, -1], [7, -1, -1], [-1, -1, -1], [3, 3, 9]]])
    table = vlm.llm.model.embed_tokens.weight
    expected = torch.stack([table[3] + table[5], table[7], torch.zeros(32), 2 * table[3] + table[9]])
    assert torch.allclose(vlm.image_embeddings(words=words)[0], expected, atol=1e-6)
    loss_sum, _ = seeded(VLMConfig(LM), with_vision=False).loss(batch_of(words=words.expand(2, -1, -1)))
    assert loss_sum.isfinite()


def test_loss_is_the_masked_sum_by_hand():
    vlm, batch = seeded(), batch_of()
    batch.labels[0, -3] = IGNORED
    loss_sum, supervised = vlm.loss(batch)
    log_probabilities = vlm.logits(batch).log_softmax(-1)
    expected, counted = 0.0, 0
    for row in range(2):
        for position in range(1, 16):
            if batch.labels[row, position] != IGNORED:
                expected -= log_probabilities[row, position - 1, batch.labels[row, position]].item()
                counted += 1
    assert counted == 9 and supervised == 9
    assert loss_sum.item() == pytest.approx(expected, rel=1e-5)


def test_loss_of_an_untrained_model_is_that_of_guessing():
    vlm = VLM(CONFIG)
    loss_sum, supervised = vlm.loss(batch_of())
    assert (loss_sum / supervised).item() == pytest.approx(torch.tensor(60.0).log().item(), abs=0.1)


def test_right_padding_leaves_loss_and_gradients_alone():
    vlm, batch = seeded(), batch_of()
    padded = SimpleNamespace(**vars(batch))
    padded.ids, padded.labels = F.pad(batch.ids, (0, 6)), F.pad(batch.labels, (0, 6), value=IGNORED)
    padded.image_mask, padded.attention_mask = (
        F.pad(batch.image_mask, (0, 6)),
        F.pad(batch.attention_mask, (0, 6)),
    )
    gradients = []
    for each in (batch, padded):
        vlm.zero_grad()
        loss_sum, supervised = vlm.loss(each)
        loss_sum.backward()
        gradients.append((loss_sum, supervised, vlm.projector.linear_1.weight.grad.clone()))
    assert gradients[0][1] == gradients[1][1]
    assert torch.allclose(gradients[0][0], gradients[1][0], rtol=1e-5)
    assert torch.allclose(gradients[0][2], gradients[1][2], atol=1e-5)


def test_loss_of_a_batch_is_the_sum_of_its_rows():
    vlm, batch = seeded(), batch_of()
    rows = []
    for row in range(2):
        one = {name: value[row : row + 1] for name, value in vars(batch).items() if value is not None}
        rows.append(vlm.loss(SimpleNamespace(**{**vars(batch), **one}))[0])
    assert torch.allclose(vlm.loss(batch)[0], rows[0] + rows[1], rtol=1e-5)


def test_a_left_padded_batch_is_refused():
    batch = batch_of()
    batch.attention_mask[0, 0] = False
    with pytest.raises(ValueError, match="right-padded"):
        seeded().loss(batch)


def test_a_batch_without_labels_gives_zero_of_zero_and_no_nan():
    vlm, batch = seeded(), batch_of()
    batch.labels.fill_(IGNORED)
    loss_sum, supervised = vlm.loss(batch)
    assert loss_sum.item() == 0 and supervised == 0
    loss_sum.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in vlm.parameters())


def test_a_batch_without_pictures_trains_the_language_model():
    vlm = seeded()
    loss_sum, _ = vlm.loss(without_pictures(batch_of()))
    loss_sum.backward()
    assert vlm.llm.model.norm.weight.grad is not None and vlm.projector.linear_1.weight.grad is None


@pytest.mark.parametrize("trained", ["projector.", "llm.", "vision.", "llm.model.layers.0."])
def test_gradients_flow_only_into_what_is_trained(trained):
    vlm = seeded()
    for name, parameter in vlm.named_parameters():
        parameter.requires_grad_(name.startswith(trained))
    batch = batch_of(pixels=torch.randn(2, 3, 32, 32))
    vlm.loss(batch)[0].backward()
    for name, parameter in vlm.named_parameters():
        assert (parameter.grad is not None) == name.startswith(trained), name
        assert parameter.grad is None or parameter.grad.abs().sum() > 0, name


def test_gradients_of_the_projector_are_those_of_finite_differences():
    vlm = seeded().double()
    batch = batch_of()
    batch.features = batch.features.double()
    weight = vlm.projector.depthwise.weight
    (gradient,) = torch.autograd.grad(_loss64(vlm, batch), weight)
    step = 1e-5
    with torch.no_grad():
        weight[3, 0, 1, 1] += step
        up = _loss64(vlm, batch)
        weight[3, 0, 1, 1] -= 2 * step
        down = _loss64(vlm, batch)
    assert ((up - down) / (2 * step)).item() == pytest.approx(gradient[3, 0, 1, 1].item(), rel=1e-4)


def _loss64(vlm: VLM, batch) -> torch.Tensor:
    """The loss from whole logits in double precision."""
    logits = vlm.logits(batch)[:, :-1].flatten(0, 1)
    return F.cross_entropy(logits, batch.labels[:, 1:].flatten(), ignore_index=IGNORED, reduction="sum")


def test_loss_under_bfloat16_autocast_is_fp32_and_near():
    vlm, batch = seeded(), batch_of()
    exact, _ = vlm.loss(batch)
    with torch.autocast("cpu", torch.bfloat16):
        rough, _ = vlm.loss(batch)
    assert rough.dtype == torch.float32
    assert rough.item() == pytest.approx(exact.item(), rel=0.05)
    rough.backward()
    assert vlm.projector.linear_1.weight.grad.dtype == torch.float32


def test_a_frozen_bfloat16_language_model_trains_an_fp32_projector():
    vlm = seeded()
    vlm.llm.to(torch.bfloat16).requires_grad_(False)
    with torch.autocast("cpu", torch.bfloat16):
        vlm.loss(batch_of())[0].backward()
    assert vlm.projector.linear_1.weight.grad.abs().sum() > 0


def test_parts_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="projector gives width 31, the language model takes 32"):
        VLMConfig(LM, VISION, ProjectorConfig("linear", 24, 31))
    with pytest.raises(ValueError, match="projector takes width 23, the encoder gives 24"):
        VLMConfig(LM, VISION, ProjectorConfig("linear", 23, 32))
    with pytest.raises(ValueError, match="the encoder given is"):
        VLM(VLMConfig(LM, None, ProjectorConfig("linear", 24, 32)), VisionTransformer(VISION))


def test_the_order_of_weights_does_not_depend_on_when_the_encoder_comes():
    late = seeded(with_vision=False)
    late.vision = VisionTransformer(VISION)
    assert list(late.state_dict()) == list(seeded().state_dict())


def test_the_config_round_trips():
    assert from_dict(VLMConfig, asdict(CONFIG)) == CONFIG
    with pytest.raises(ValueError, match="vision"):
        from_dict(VLMConfig, {"lm": asdict(LM), "projector": None})
