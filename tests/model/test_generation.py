from __future__ import annotations

import pytest
import torch
from engine_parts import prompt_batch

from model.config import LMConfig, ProjectorConfig, VisionConfig, VLMConfig
from model.generation import choose, generate
from model.vlm import VLM

LM = LMConfig(32, 2, 4, 2, 48, 60, max_position_embeddings=64)
CONFIG = VLMConfig(LM, VisionConfig(24, 32, 1, 2, 32, 8), ProjectorConfig("ldp", 24, 32))  # 4 image tokens
NEVER, PAD = -1, 0  # an end token that is never drawn; the padding id


def seeded(seed: int = 0) -> VLM:
    torch.manual_seed(seed)
    vlm = VLM(CONFIG)
    for parameter in vlm.llm.parameters():
        if parameter.dim() > 1:
            parameter.data.mul_(12)  # far from a tie anywhere
    return vlm


def prompt(length: int, rows: int = 1, seed: int = 3) -> torch.Tensor:
    return torch.randint(1, LM.vocab_size, (rows, length), generator=torch.Generator().manual_seed(seed))


def say(vlm, ids, mask=None, image_mask=None, new=12, end=NEVER, features=None, words=None, **given):
    mask = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask
    image_mask = torch.zeros_like(mask) if image_mask is None else image_mask
    batch = prompt_batch(ids, mask, image_mask, features=features, words=words)
    return generate(vlm, batch, max_new_tokens=new, end_id=end, **given)


def left_padded(prompts: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    length = max(each.shape[1] for each in prompts)
    ids = torch.full((len(prompts), length), PAD)
    mask = torch.zeros(len(prompts), length, dtype=torch.bool)
    for row, each in enumerate(prompts):
        ids[row, length - each.shape[1] :] = each[0]
        mask[row, length - each.shape[1] :] = True
    return ids, mask


def greedy_without_cache(vlm, ids, new, image_mask=None, features=None):
    """The likeliest token again and again, the whole text read anew each time."""
    out = []
    mask = torch.zeros_like(ids, dtype=torch.bool) if image_mask is None else image_mask
    with torch.no_grad():
        for _ in range(new):
            pictures = None if features is None else vlm.image_embeddings(features=features)
            hidden = vlm.llm(vlm.embed(ids, mask, pictures))
            token = vlm.llm.logits(hidden[:, -1]).argmax(-1, keepdim=True)
            out.append(token.item())
            ids, mask = torch.cat((ids, token), 1), torch.nn.functional.pad(mask, (0, 1))
    return out


def test_greedy_ids_equal_those_of_transformers():
    transformers = pytest.importorskip("transformers")
    vlm = seeded()
    twin = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            intermediate_size=48,
            vocab_size=60,
            rms_norm_eps=LM.rms_norm_eps,
            tie_word_embeddings=True,
            rope_parameters={"rope_type": "default", "rope_theta": LM.rope_theta},
            bos_token_id=None,
            eos_token_id=None,
            pad_token_id=PAD,
        )
    ).eval()
    twin.load_state_dict({**vlm.llm.state_dict(), "lm_head.weight": vlm.llm.model.embed_tokens.weight})
    ids, mask = left_padded([prompt(9), prompt(5, seed=8), prompt(3, seed=9)])
    for penalty in (1.0, 1.3):
        theirs = twin.generate(
            ids, attention_mask=mask.long(), max_new_tokens=12, do_sample=False, repetition_penalty=penalty
        )[:, 9:]
        if penalty == 1.0:
            assert say(vlm, ids, mask).ids == theirs.tolist()
            assert len(set(theirs.flatten().tolist())) > 10  # no loop of one token
        else:  # transformers penalises the padding's id as well, so only the unpadded row compares
            assert say(vlm, ids, mask, repetition_penalty=penalty).ids[0] == theirs[0].tolist()


def test_the_cache_changes_nothing():
    for seed in range(3):
        vlm, ids = seeded(seed), prompt(7, seed=seed)
        assert say(vlm, ids).ids[0] == greedy_without_cache(vlm, ids, 12)


def test_pictures_are_read_and_the_cache_changes_nothing():
    vlm, ids = seeded(), prompt(10)
    image_mask = torch.zeros(1, 10, dtype=torch.bool)
    image_mask[0, 2:6] = True
    features = torch.randn(2, 1, 16, 24, generator=torch.Generator().manual_seed(1)) * 4
    answers = [say(vlm, ids, image_mask=image_mask, features=each).ids[0] for each in features]
    assert answers[0] == greedy_without_cache(vlm, ids, 12, image_mask, features[0])
    assert answers[0] != answers[1]


def test_neither_padding_nor_the_batch_changes_an_answer():
    vlm = seeded()
    prompts = [prompt(9), prompt(4, seed=5), prompt(6, seed=6), prompt(1, seed=7)]
    ids, mask = left_padded(prompts)
    assert say(vlm, ids, mask).ids == [say(vlm, each).ids[0] for each in prompts]


def test_each_row_stops_at_its_own_end_token():
    vlm = seeded()
    prompts = [prompt(length, seed=length) for length in (9, 4, 6, 2, 7, 5)]
    ids, mask = left_padded(prompts)
    free = say(vlm, ids, mask, new=20).ids
    end = free[0][3]
    stopped_somewhere = say(vlm, ids, mask, new=20, end=end)
    for row, answer in enumerate(free):
        has_end = end in answer
        assert stopped_somewhere.stopped[row] == has_end
        assert stopped_somewhere.ids[row] == (answer[: answer.index(end)] if has_end else answer)
    assert sum(stopped_somewhere.stopped) > 0


def test_a_row_stops_at_the_first_of_several_end_tokens():
    vlm = seeded()
    ids = prompt(9, rows=4)
    free = say(vlm, ids, new=20)
    ends = (free.ids[0][4], free.ids[1][2])
    done = say(vlm, ids, new=20, end=ends)
    cut = [next((i for i, token in enumerate(row) if token in ends), 20) for row in free.ids]
    assert done.ids == [row[:at] for row, at in zip(free.ids, cut, strict=True)]
    assert done.stopped == [at < 20 for at in cut] and cut[0] <= 4 and cut[1] <= 2


def test_no_row_ends_before_the_shortest_answer():
    vlm, ids = seeded(), prompt(5, rows=3)
    free = say(vlm, ids, new=8).ids
    end = free[0][2]  # which the first row would say third
    shorter, longer = (say(vlm, ids, new=8, end=end, min_new_tokens=least) for least in (0, 5))
    assert len(shorter.ids[0]) == 2 and shorter.stopped[0]
    assert len(longer.ids[0]) >= 5 and longer.ids[0][:2] == free[0][:2] and end not in longer.ids[0]
    assert say(vlm, ids, new=8, end=end, min_new_tokens=1).ids[0] == shorter.ids[0]  # its first two were no end


def test_generation_ends_when_every_row_has(monkeypatch):
    vlm, ids = seeded(), prompt(5)
    first = say(vlm, ids, new=1).ids[0][0]
    calls = []
    step = vlm.llm.next_logits
    monkeypatch.setattr(vlm.llm, "next_logits", lambda *given: calls.append(1) or step(*given))
    done = say(vlm, ids, new=50, end=first)
    assert done.ids == [[]] and done.stopped == [True] and not calls
    assert say(vlm, ids, new=50).stopped == [False] and len(calls) == 49


def test_finished_rows_leave_the_batch(monkeypatch):
    vlm, ids = seeded(), prompt(5, rows=4)
    free = say(vlm, ids).ids
    end = free[0][2]
    sizes = []
    step = vlm.llm.next_logits
    monkeypatch.setattr(vlm.llm, "next_logits", lambda t, *given: sizes.append(len(t)) or step(t, *given))
    say(vlm, torch.cat((ids[:1], ids[:1], ids[:1], ids[3:])), end=end)
    assert sizes[0] == 4 and sizes[-1] < 4


def test_the_stream_tells_every_token_as_it_comes():
    vlm = seeded()
    ids, mask = left_padded([prompt(9), prompt(4, seed=5)])
    heard = []
    done = say(vlm, ids, mask, stream=lambda row, token: heard.append((row, token)))
    assert [[token for row, token in heard if row == each] for each in (0, 1)] == done.ids
    assert [row for row, _ in heard[:4]] == [0, 1, 0, 1]


def test_sampling_repeats_with_its_generator_and_varies_with_another():
    vlm, ids = seeded(), prompt(6, rows=2)

    def draw(seed):
        generator = torch.Generator().manual_seed(seed)
        return say(vlm, ids, temperature=5.0, top_p=0.95, generator=generator).ids

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)


def test_sampling_at_a_tiny_temperature_or_top_p_is_greedy():
    vlm, ids = seeded(), prompt(6)
    generator = torch.Generator().manual_seed(0)
    assert say(vlm, ids, temperature=1e-4, generator=generator).ids == say(vlm, ids).ids
    assert say(vlm, ids, temperature=1.0, top_p=1e-6, generator=generator).ids == say(vlm, ids).ids


def test_top_p_draws_only_among_the_tokens_that_hold_it():
    logits = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log().expand(4000, 4)
    generator = torch.Generator().manual_seed(0)
    drawn = choose(logits, None, 1.0, 0.7, generator=generator).bincount(minlength=4) / 4000
    assert drawn[2] == 0 and drawn[3] == 0
    assert drawn[0].item() == pytest.approx(0.625, abs=0.03)


def test_temperature_divides_the_logits():
    logits = torch.tensor([[2.0, 0.0]]).expand(4000, 2)
    drawn = choose(logits, None, 2.0, generator=torch.Generator().manual_seed(0)).float().mean()
    assert drawn.item() == pytest.approx(1 - torch.sigmoid(torch.tensor(1.0)).item(), abs=0.03)


def test_the_penalty_divides_positive_and_multiplies_negative_logits():
    logits = torch.tensor([[4.0, 3.0, -1.0], [-1.0, -1.9, -5.0]])
    seen = torch.tensor([[True, False, True], [True, False, False]])
    assert choose(logits, seen, repetition_penalty=1.5).tolist() == [1, 0]
    assert choose(logits, seen, repetition_penalty=2.0).tolist() == [1, 1]


def test_a_strong_penalty_says_nothing_twice():
    vlm, ids = seeded(), prompt(3)
    assert len(set(say(vlm, ids, new=20, repetition_penalty=1e6).ids[0])) == 20


@pytest.mark.parametrize(
    "given, message",
    [
        ({"temperature": -1.0}, "temperature: found -1.0"),
        ({"temperature": float("nan")}, "temperature: found nan"),
        ({"temperature": 1.0}, "needs a torch.Generator"),
        ({"top_p": 0.0}, "top_p: found 0.0"),
        ({"repetition_penalty": 0.0}, "repetition_penalty: found 0.0"),
        ({"new": 0}, "max_new_tokens: found 0"),
        ({"new": 60}, "exceed the model's 64 positions"),
    ],
)
def test_impossible_requests_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        say(seeded(), prompt(6), **given)


def test_right_padding_is_refused():
    mask = torch.tensor([[True, True, False]])
    with pytest.raises(ValueError, match="pad prompts on the left"):
        say(seeded(), prompt(3), mask)


def test_bfloat16_autocast_generates():
    with torch.autocast("cpu", torch.bfloat16):
        assert len(say(seeded(), prompt(6)).ids[0]) == 12
