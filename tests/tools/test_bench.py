"""The benchmark: its reference computes what Glimpse computes, its works run, its figures mean what they say."""

from __future__ import annotations

import copy
import json
import sys
from dataclasses import dataclass, field

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from dataset.batching import collate, pixel_loader
from dataset.encoding import encode_prompt
from dataset.record import IGNORE, Batch
from engine.arguments import TrainArguments
from engine.build import get_encoder, get_tokenizer
from engine.dataloader import Feed
from engine.freeze import set_trainable
from engine.loop import gradients, take_step
from engine.optimizer import make_optimizer
from model.checkpoints import load_vlm
from model.config import LMConfig, VisionConfig
from model.generation import generate
from model.vlm import VLM
from tools.bench import reference as bench_reference
from tools.bench.__main__ import Measured, ask_peer, measure_group, parse, summary
from tools.bench.children import BrokenWork, Finished
from tools.bench.cost import encoder_flops, key_value_weights, layer_weights, training_flops
from tools.bench.data import Sizes
from tools.bench.reference import Reference, answer_one, make_step, padded_loss
from tools.bench.table import table
from tools.bench.works import START, Job, Training, asks, groups, make_feed, prepare_folder

TINY = Sizes(
    LMConfig(32, 2, 4, 2, 48, 6400, max_position_embeddings=1024), VisionConfig(64, 128, 2, 2, 32, 8), (64, 48),
    rows=12, caption_tokens=10, answer_tokens=20, pretrain_batch=4, sft_batch=2, pretrain_pad=110, sft_pad=140,
    new_tokens=6, batched=3, matmul_tokens=64, warmup=1, seconds=0.01,
)  # fmt: skip
EXACT = {"atol": 1e-4, "rtol": 0}


@dataclass
class TwoTurns:
    """Turns as a parent would give them: two measurements, then the end."""

    results: list[dict] = field(default_factory=list)

    def __call__(self, measured: dict) -> None:
        self.results += [measured] if measured else []
        if len(self.results) == 2:
            raise Finished


@pytest.fixture(scope="module")
def job(tmp_path_factory) -> Job:
    job = Job(tmp_path_factory.mktemp("bench"), TINY, "cpu", 0)
    prepare_folder(job, TwoTurns())
    return job


def load(job: Job, trained: tuple[str, ...] = ("projector", "llm")) -> tuple[VLM, Reference]:
    """The model that the works start from, its weights made larger so that no two tokens tie; and the reference."""
    vlm = load_vlm(job.folder / START, get_encoder(str(job.folder / "vision")).module)
    for parameter in vlm.llm.parameters():
        parameter.data.mul_(4 if parameter.dim() > 1 else 1)
    model = Reference(copy.deepcopy(vlm), get_tokenizer("", job.folder / "lm").image_id)
    set_trainable(vlm, trained)
    set_trainable(model, trained)
    return vlm, model


def batches(job: Job, what: str, count: int) -> tuple[Feed, list[Batch]]:
    _, feed = make_feed(Training(what), job)
    steps = feed.steps_from(0, 1)
    return feed, [next(steps)[0] for _ in range(count)]


@pytest.mark.parametrize("what, length", [("pretrain", TINY.pretrain_pad), ("sft", TINY.sft_pad)])
def test_the_reference_has_our_loss_at_any_padding(job, what, length):
    vlm, model = load(job)
    feed, some = batches(job, what, 4)
    batch = next(one for one in some if len(set(one.attention_mask.sum(1).tolist())) > 1)  # rows of different lengths
    loss_sum, count = vlm.loss(batch)
    torch.testing.assert_close(padded_loss(model, batch, length, feed.pad_id), loss_sum / count, **EXACT)


@pytest.mark.parametrize("trained", [("projector",), ("projector", "llm")])
def test_both_have_the_same_loss_curve_over_20_steps(job, trained):
    vlm, model = load(job, trained)
    plan = TrainArguments(steps=20, min_lr_ratio=1.0, optimizer="adamw", dtype="float32")
    feed, some = batches(job, "sft", 20)
    mine, theirs = make_optimizer(vlm, plan), make_optimizer(model, plan)
    step = make_step(model, theirs, TINY.sft_pad, feed.pad_id, torch.float32)
    ours, others = [], []
    for number, batch in enumerate(some):
        ours.append(gradients(vlm, mine, [batch], plan)[0])
        take_step(mine, plan, number)
        others.append(step(batch))
    assert max(ours) - min(ours) > 0.01  # it learns
    torch.testing.assert_close(torch.tensor(others), torch.tensor(ours), **EXACT)


def test_the_reference_answers_as_we_do(job):
    vlm, model = load(job)
    tokenizer, encoder = get_tokenizer("", job.folder / "lm"), get_encoder(str(job.folder / "vision"))
    prompts = [encode_prompt(ask.turns, tokenizer, vlm.image_tokens, ask.images) for ask in asks(job, 4)]
    load_pixels = pixel_loader(encoder.spec)
    batch = collate(prompts, tokenizer.pad_id, load_pixels, left=True)
    ours = generate(vlm.eval(), batch, max_new_tokens=16, end_id=tokenizer.end_id)
    for prompt, said in zip(prompts, ours.ids, strict=True):
        one = collate([prompt], tokenizer.pad_id, load_pixels, left=True)
        assert answer_one(model, one.ids, one.pixels, 16, tokenizer.end_id, len) == said
    assert len({tuple(said) for said in ours.ids}) > 1


def test_the_reference_stops_at_the_end_token(job):
    _, model = load(job)
    tokenizer, encoder = get_tokenizer("", job.folder / "lm"), get_encoder(str(job.folder / "vision"))
    ask = asks(job, 1)[0]
    one = collate([encode_prompt(ask.turns, tokenizer, model.image_tokens, ask.images)], tokenizer.pad_id,
                  pixel_loader(encoder.spec), left=True)  # fmt: skip
    whole = answer_one(model, one.ids, one.pixels, 8, -1, len)
    end = whole[3]
    assert answer_one(model, one.ids, one.pixels, 8, end, len) == whole[: whole.index(end)]


@pytest.mark.parametrize("trains_lm", [True, False])
def test_operations_are_those_that_torch_counts_on_separate_products(job, trains_lm, monkeypatch):
    _, model = load(job, ("projector", "llm") if trains_lm else ("projector",))
    _, [batch] = batches(job, "sft", 1)
    length, answer = int(batch.attention_mask[0].sum()), 5
    ids = batch.ids[:1, :length]
    labels = torch.full_like(ids, IGNORE)
    labels[:, -answer:] = ids[:, -answer:]
    one = Batch(ids, labels, torch.ones_like(ids, dtype=torch.bool), batch.image_mask[:1, :length])
    features = torch.randn(1, model.image_tokens, TINY.vision.hidden_size)
    monkeypatch.setattr(bench_reference, "encode", lambda vision, features: features)
    with FlopCounterMode(display=False) as counted:
        logits, _ = model(ids, features, last=answer)
        logits.sum().backward()
    lm, wanted = TINY.lm, range(length - answer, length)  # queries of the last layer that see so many keys
    pairs = lm.num_hidden_layers * length**2  # it computes masked ones in vain, and those of all queries everywhere
    pairs -= (lm.num_hidden_layers - 1) * length * (length + 1) // 2 + sum(wanted)
    a_layer = layer_weights(lm) // lm.num_hidden_layers - key_value_weights(lm)
    vain = 12 * lm.hidden_size * pairs + (6 if trains_lm else 4) * a_layer * (length - answer)
    assert counted.get_total_flops() == training_flops(job.config, one, trains_lm, False) + vain


def test_an_encoder_costs_what_papers_say():
    assert encoder_flops(Sizes().vision) == pytest.approx(2 * 17.5e9, rel=0.02)  # ViT-B/16: 17.5 GMACs
    assert layer_weights(LMConfig()) + 6400 * 512 + 17 * 512 == 25_829_888  # and norms


def test_every_work_is_measured_and_told(job, tmp_path):
    made = {}
    for group in groups(TINY):
        for name, work in group.items():
            turns = TwoTurns()
            with pytest.raises(Finished):
                work(job, turns)
            made[name] = Measured(turns.results, peak_mib=100.0)
    works = {name: summary(name, made, 1e12) for name in made if not name.startswith("reference")}
    for name, work in works.items():
        assert work["value"] > 0 and work["spread"]["value"][0] <= work["value"] <= work["spread"]["value"][1]
        assert (work["reference"] is None) == (f"reference_{name.split('_')[0]}" not in made) == name.startswith("data")
    assert works["sft"]["ratio"] > 0 and works["sft"]["peak_share"] > 0 and works["generate_b1"]["first_token_ms"] > 0
    report = {"device": "some", "matmul_bf16_gflops": 1000.0, "works": works, "others": {}}
    text = table(json.loads(json.dumps(report)))
    assert all(title in text for title in ("full SFT", "from JPEGs", "many at once", "times as fast as the reference"))
    assert Feed.steps_from.__name__ == "steps_from"  # no longer watched


def test_glimpse_and_reference_see_the_same_batches_in_the_same_order(job, monkeypatch):
    seen: dict[str, list] = {}
    for name in ("pretrain_cached", "reference_pretrain"):
        mine = seen.setdefault(name, [])
        monkeypatch.setattr("tools.bench.works.metered", lambda steps, *_, mine=mine: noted(mine, steps))
        with pytest.raises(Finished):
            groups(TINY)[1][name](job, TwoTurns())
    assert seen["pretrain_cached"] == seen["reference_pretrain"]


def noted(seen: list, steps):
    for some in steps:
        seen += [batch.example_ids for batch in some]
        if len(seen) == 6:
            raise Finished
        yield some


def two_results(job, wait) -> None:
    """A work that measures nothing."""
    wait({})
    for value in (1.0, 3.0):
        wait({"value": value, "flops_per_s": 1e9})


def no_result(job, wait) -> None:
    raise ValueError("no such thing")


def test_a_work_that_fails_in_its_process_leaves_the_others_their_figures(job, tmp_path, capsys):
    made = measure_group({"generate_b1": two_results, "sft": no_result}, job, 2, "")
    assert [r["value"] for r in made["generate_b1"].results] == [1.0, 3.0]
    assert made["generate_b1"].peak_mib > 50
    assert "no such thing" in made["sft"].error
    failed = summary("sft", made, 1e12)
    assert failed["value"] is None and failed["ratio"] is None and "no such thing" in failed["error"]


def test_a_peer_says_its_figures_as_json_or_is_told_off(tmp_path):
    script = tmp_path / "peer.py"
    script.write_text("import json, sys\nprint('loading')\nprint(json.dumps({'value': len(sys.argv[1])}))\n")
    assert ask_peer(f"{sys.executable} {script}", "sft", tmp_path) == {"value": 3.0}
    script.write_text("print('oops')\n")
    with pytest.raises(BrokenWork, match="oops"):
        ask_peer(f"{sys.executable} {script}", "sft", tmp_path)
    script.write_text("print('null')\n")
    assert ask_peer(f"{sys.executable} {script}", "sft", tmp_path) is None


def test_a_work_that_there_is_not_is_refused(capsys):
    with pytest.raises(SystemExit):
        parse(["--works", "sft,dance"])
    assert "dance" in capsys.readouterr().err
    assert parse(["--works", "sft"]).works == {"sft"}
