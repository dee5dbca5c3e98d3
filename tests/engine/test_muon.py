from __future__ import annotations

import pytest
import torch
from torch.optim import _muon as torchs

from engine.optimizer import Muon, orthogonal


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(64, 64), (48, 160), (160, 48)])
def test_a_matrix_keeps_its_singular_vectors_and_its_singular_values_become_about_one(shape):
    u, _, v = torch.linalg.svd(noise(*shape), full_matrices=False)
    values = torch.logspace(0, -2, min(shape))
    for scale in (1e-4, 1.0, 1e4):
        found = u.T @ orthogonal(scale * u @ torch.diag(values) @ v).float() @ v.T
        assert ((found.diagonal() > 0.4) & (found.diagonal() < 1.6)).all()
        assert (found - torch.diag(found.diagonal())).abs().max() < 0.1


def test_zeros_stay_zeros():
    assert not orthogonal(torch.zeros(4, 6)).any()


def test_steps_are_those_of_torchs_muon_given_the_same_orthogonal_update(monkeypatch):
    monkeypatch.setattr(torchs, "_zeropower_via_newtonschulz", lambda matrix, *settings: orthogonal(matrix))
    ours, theirs = ([torch.nn.Parameter(noise(8, 20)), torch.nn.Parameter(noise(20, 8))] for _ in range(2))
    settings = {"momentum": 0.9, "weight_decay": 0.1}
    optimizers = [
        Muon([{"params": ours, "muon": True}], 0.02, **settings),
        torch.optim.Muon(theirs, lr=0.02, adjust_lr_fn="match_rms_adamw", **settings),
    ]
    for step in range(3):
        for parameters, optimizer in zip((ours, theirs), optimizers, strict=True):
            for number, parameter in enumerate(parameters):
                parameter.grad = noise(*parameter.shape, seed=10 * step + number)
            optimizer.step()
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-6, rtol=1e-5)
