"""The compiled passes against their formulas in double precision, and the model with them against itself without."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from test_language import SMALL
from test_vision import CLIP_SMALL, pixels_for, seeded
from torch import Tensor, nn

from model import fast
from model.fast import kernels
from model.fast.fused import add_rms_norm, causal_softmax, rms_norm, rotate, swiglu
from model.fast.vision import GELU
from model.language import LanguageModel
from model.vision import ACTIVATION

ROUNDING = {"rtol": 2**-8, "atol": 1e-6}  # half a step of bfloat16, and a little


@pytest.fixture(autouse=True)
def built():
    """There are kernels wherever they can be built, or the tests fail."""
    if shutil.which("gcc") is None or kernels._openmp() is None or os.environ.get("GLIMPSE_KERNELS") == "0":
        pytest.skip("no kernels on this machine")
    assert kernels.library() is not None


def some(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    """Normal numbers that bfloat16 holds exactly, float32."""
    return (torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * scale).bfloat16().float()


def check(compiled, exact, *inputs: Tensor) -> None:
    """The outputs, and the gradients of all inputs for some gradients of the outputs, are the rounded exact ones."""
    mine = [tensor.clone().requires_grad_() for tensor in inputs]
    theirs = [tensor.double().requires_grad_() for tensor in inputs]
    found, expected = compiled(*mine), exact(*theirs)
    along = [some(*out.shape, seed=9 + i) for i, out in enumerate(expected)]
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a.double(), b, **ROUNDING)
    for_mine = torch.autograd.grad(found, mine, [g.to(out.dtype) for g, out in zip(along, found, strict=True)])
    for_theirs = torch.autograd.grad(expected, theirs, [g.double() for g in along])
    for a, b in zip(for_mine, for_theirs, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=2**-6, atol=2**-7 * b.abs().max().item())


def in_bf16(function):
    def run(*tensors):
        with torch.autocast("cpu", torch.bfloat16):
            return function(*tensors)

    return run


def normed(x: Tensor, weight: Tensor) -> Tensor:
    return x / (x.square().mean(-1, keepdim=True) + 1e-3).sqrt() * weight


WIDTHS = [1, 7, 16, 50]  # whole vectors, parts of one, and both


def test_they_share_the_threads_of_pytorch():
    """So there is one OpenMP library in the process."""
    found = set(re.findall(r"/\S*/lib(?:gomp|iomp5|omp)\b\S*", Path("/proc/self/maps").read_text()))
    assert len(found) == 1


@pytest.mark.parametrize("width", WIDTHS)
def test_rms_norm(width):
    compiled = in_bf16(lambda x, weight: (rms_norm(x, weight, 1e-3),))
    check(compiled, lambda x, weight: (normed(x, weight),), some(3, 5, width), some(width, seed=1))


@pytest.mark.parametrize("width", WIDTHS)
def test_rms_norm_of_a_sum(width):
    @in_bf16
    def compiled(x, update, weight):
        return add_rms_norm(x, update.bfloat16(), weight, 1e-3)

    def exact(x, update, weight):
        return x + update, normed(x + update, weight)

    check(compiled, exact, some(3, 5, width), some(3, 5, width, seed=2), some(width, seed=1))


def test_the_sum_alone_or_its_norm_alone_may_be_used():
    x, update = some(4, 8).requires_grad_(), some(4, 8, seed=1).bfloat16().requires_grad_()
    total, out = in_bf16(add_rms_norm)(x, update, torch.ones(8), 1e-5)
    assert out.dtype == torch.bfloat16
    (for_x,) = torch.autograd.grad(total.sum(), x, retain_graph=True)
    assert torch.equal(for_x, torch.ones(4, 8))
    assert torch.autograd.grad(out.float().square().sum(), update)[0].isfinite().all()


@pytest.mark.parametrize("width", WIDTHS)
def test_swiglu(width):
    gate, up = some(4, width, scale=3.0), some(4, width, seed=1)

    def compiled(gate_up):
        return (kernels.SwiGLU.apply(gate_up.bfloat16()),)

    def exact(gate_up):
        gate, up = gate_up.chunk(2, -1)
        return (F.silu(gate) * up,)

    check(compiled, exact, torch.cat((gate, up), -1))


@pytest.mark.parametrize("rows", [1, 3])
def test_rotation_of_strided_heads(rows):
    angle = some(rows, 5, 1, 6, seed=2)
    cos, sin = torch.cat((angle.cos(), angle.cos()), -1), torch.cat((-angle.sin(), angle.sin()), -1)
    cos, sin = cos.bfloat16().float(), sin.bfloat16().float()

    def turned(x):
        return (x * cos + x.roll(6, -1) * sin,)

    def compiled(wide):
        return (rotate(wide[..., 1:4, :].bfloat16(), cos, sin),)

    check(compiled, lambda wide: turned(wide[..., 1:4, :]), some(3, 5, 6, 12))


@pytest.mark.parametrize("seen, keys", [(1, 5), (4, 8), (40, 44), (9, 9), (33, 33)])
def test_softmax_sees_what_it_may_see(seen, keys):
    group, queries = 3, 5

    def exact(scores):
        sees = torch.arange(keys) < (seen + torch.arange(queries))[:, None]
        scores = (scores * 0.25).unflatten(1, (queries, group)).masked_fill(~sees[:, None], -torch.inf)
        return (scores.softmax(-1).flatten(1, 2),)

    def compiled(scores):
        return (causal_softmax(scores.bfloat16(), 0.25, group, seen),)

    check(compiled, exact, some(2, queries * group, keys, scale=8.0))


def test_softmax_where_scores_are_far_apart_and_large():
    scores = torch.tensor([[[1e30, -1e30, 3e30, 0.0]]]).bfloat16()
    assert causal_softmax(scores, 1.0, 1, 4).tolist() == [[[0, 0, 1, 0]]]


def test_layer_norm_of_a_sum():
    norm = nn.LayerNorm(50, eps=1e-3)
    nn.init.normal_(norm.weight), nn.init.normal_(norm.bias)
    x, update, bias = some(3, 5, 50, scale=4.0), some(3, 5, 50, seed=1), some(50, seed=2)
    stream = x.clone()
    found = kernels.add_layer_norm_(stream, update.bfloat16(), bias, norm)
    expected = norm.double()((x + update + bias).double())
    torch.testing.assert_close(stream, x + update + bias)
    torch.testing.assert_close(found.double(), expected, rtol=2**-8, atol=1e-5)
    assert torch.equal(kernels.add_layer_norm_(stream, None, None, norm.float()), found)


@pytest.mark.parametrize("name", GELU)
def test_gelu(name):
    x, bias = some(6, 50, scale=4.0), some(50, seed=1)
    expected = ACTIVATION[name]((x + bias).double())
    found = kernels.gelu_(x.bfloat16(), bias, *GELU[name])
    torch.testing.assert_close(found.double(), expected, rtol=2**-8, atol=1e-6)


def test_heads_are_split():
    qkv, bias = some(2, 5, 3 * 4 * 6), some(3 * 4 * 6, seed=1)
    expected = (qkv + bias).bfloat16().view(2, 5, 3, 4, 6).permute(2, 0, 3, 1, 4)
    assert torch.equal(kernels.split_heads(qkv.bfloat16(), bias, 4), expected)


def test_what_is_no_number_stays_none():
    bad = some(2, 8)
    bad[0, 3] = torch.nan
    assert in_bf16(lambda x: rms_norm(x, torch.ones(8), 1e-5))(bad)[0].isnan().all()
    assert kernels.SwiGLU.apply(bad.bfloat16()).isnan().tolist() == [[False] * 3 + [True], [False] * 4]
    assert causal_softmax(bad.bfloat16()[None], 1.0, 1, 8)[0].isnan().all(-1).tolist() == [True, False]
    assert kernels.gelu_(bad.bfloat16(), torch.zeros(8), 1.702, 0.0)[0, 3].isnan()


def test_the_number_of_threads_changes_no_bit(monkeypatch):
    x, update, weight = some(7, 33).requires_grad_(), some(7, 33, seed=1).bfloat16(), some(33, seed=2).requires_grad_()
    ways = []
    for threads in (1, 2, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda count=threads: count)
        norm = kernels.RMSNorm.apply(x, update, weight, 1e-5)
        for_x, _ = torch.autograd.grad(norm, (x, weight), [out.detach() for out in norm])
        softmax = kernels.Softmax.apply(x.detach().bfloat16()[None], 0.5, 7, 1, 27)
        ways.append((*norm, softmax, kernels.SwiGLU.apply(update[:, :32]), for_x))
    for way in ways[1:]:
        assert all(map(torch.equal, way, ways[0]))


def distances(run, exact: list[Tensor], monkeypatch) -> tuple[Tensor, Tensor]:
    """How far what run() gives is from the exact, by their norms: with the kernels and without."""

    def distance():
        with torch.autocast("cpu", torch.bfloat16):
            return torch.stack([(a - b).norm() / b.norm() for a, b in zip(run(), exact, strict=True)])

    compiled = distance()
    monkeypatch.setattr(kernels, "library", lambda: None)
    return compiled, distance()


@pytest.mark.parametrize("changes", [{}, {"attention_bias": True}, {"num_key_value_heads": 4}])
def test_the_decoder_is_as_near_to_float32_as_without_them(changes, monkeypatch):
    llm = fast.enable(LanguageModel(replace(SMALL, **changes), torch.Generator().manual_seed(0)))
    ids = torch.randint(0, llm.config.vocab_size, (3, 21), generator=torch.Generator().manual_seed(0))
    along = some(3, 15, 32)

    def run():
        embeddings = llm.embed(ids).detach().requires_grad_()
        hidden = llm(embeddings, first=6)
        weights = list(llm.model.layers.parameters())
        loss = (hidden.float() * along).sum()
        return [hidden.float(), *torch.autograd.grad(loss, [embeddings, *weights])]

    exact = run()
    compiled, without = distances(run, exact, monkeypatch)
    assert compiled.max() < 0.05 and not torch.equal(compiled, without)
    assert compiled.mean() < 1.2 * without.mean()


@pytest.mark.parametrize("act", ["quick_gelu", "gelu_pytorch_tanh"])
def test_a_frozen_encoder_is_as_near_to_float32_as_without_them(act, monkeypatch):
    model = fast.enable(seeded(replace(CLIP_SMALL, hidden_act=act, feature_layer=-2)))
    pixels = pixels_for(model.config)
    with torch.no_grad():
        exact = [model(pixels)]
        compiled, without = distances(lambda: [model(pixels).float()], exact, monkeypatch)
    assert compiled < 1.2 * without and not torch.equal(compiled, without)


def test_a_source_that_does_not_compile_is_warned_of_and_done_without(tmp_path, monkeypatch):
    broken = tmp_path / "kernels.c"
    broken.write_text("not C")
    monkeypatch.setattr(kernels, "SOURCE", broken)
    with pytest.warns(UserWarning, match="could not be built, continuing without them"):
        assert kernels.library.__wrapped__() is None
    monkeypatch.setenv("GLIMPSE_KERNELS", "0")
    assert kernels.library.__wrapped__() is None


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """The cache folder of these tests, which is not there yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "glimpse"


def builds(monkeypatch) -> int:
    """How often the compiler runs when a process needs the kernels."""
    ran, run = [], subprocess.run
    monkeypatch.setattr(subprocess, "run", lambda command, **options: (ran.append(command), run(command, **options))[1])
    assert kernels.library.__wrapped__() is not None
    monkeypatch.setattr(subprocess, "run", run)
    return sum("-o" in command for command in ran)


def test_they_are_built_once_and_kept_for_the_user_alone(cache, monkeypatch, tmp_path):
    assert (builds(monkeypatch), builds(monkeypatch)) == (1, 0)
    assert cache.stat().st_mode & 0o777 == 0o700
    (kept,) = cache.iterdir()
    changed = tmp_path / "kernels.c"
    changed.write_bytes(kernels.SOURCE.read_bytes() + b"\n")
    monkeypatch.setattr(kernels, "SOURCE", changed)
    assert builds(monkeypatch) == 1 and len(list(cache.iterdir())) == 2
    monkeypatch.setattr(kernels, "FLAGS", ("-O2", *kernels.FLAGS[1:]))
    assert builds(monkeypatch) == 1 and len(list(cache.iterdir())) == 3
    monkeypatch.undo()
    other = tmp_path / "other" / "glimpse"
    other.mkdir(0o700, parents=True)
    (other / kept.name).write_bytes(b"damaged")
    monkeypatch.setenv("XDG_CACHE_HOME", str(other.parent))
    assert (builds(monkeypatch), builds(monkeypatch)) == (1, 0) and len(list(other.iterdir())) == 1


@pytest.mark.parametrize("mode", [0o777, 0o750])
def test_a_folder_that_others_may_use_is_not_trusted(cache, monkeypatch, mode):
    cache.mkdir(parents=True)
    cache.chmod(mode)
    assert (builds(monkeypatch), builds(monkeypatch)) == (1, 1) and not list(cache.iterdir())


def test_a_folder_of_another_user_or_none_at_all_is_done_without(cache, monkeypatch):
    cache.parent.write_text("")  # in the way
    assert (builds(monkeypatch), builds(monkeypatch)) == (1, 1)
    cache.parent.unlink()
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    assert (builds(monkeypatch), builds(monkeypatch)) == (1, 1) and not list(cache.iterdir())


def test_where_nothing_can_be_kept_they_are_built_all_the_same(cache, monkeypatch):
    def full(source, target):
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "replace", full)
    assert builds(monkeypatch) == 2 and not list(cache.iterdir())


@pytest.mark.parametrize("gate", [nn.Sequential(nn.Linear(8, 6)), nn.Linear(8, 6)])
def test_adapters_and_biases_go_their_own_way(gate):
    """What is not a plain linear layer without a bias is called as it is."""
    x, up = some(3, 8).requires_grad_(), nn.Linear(8, 6, bias=False)
    found = in_bf16(swiglu)(x, gate, up)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(found, F.silu(gate(x)) * up(x))
