"""The optimizers: AdamW, or Muon for the matrices between layers with AdamW for all else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from engine.freeze import peak_rates
from engine.muon import Muon

if TYPE_CHECKING:
    from engine.loop import Plan

BETAS = (0.9, 0.98)


class MuonWithAdamW:
    """Two optimizers that behave as one: step, zero_grad, param_groups, state.

    Muon (Jordan et al., 2024) makes each matrix's update orthogonal, which learns from far fewer tokens; embeddings,
    norms, biases and convolutions are AdamW's. The update is scaled as AdamW's would be (arXiv 2502.16982), so
    both take the same learning rate.
    """

    def __init__(self, muon: torch.optim.Optimizer, adamw: torch.optim.Optimizer):
        self.parts = (muon, adamw)
        self.defaults = adamw.defaults

    @property
    def param_groups(self) -> list[dict]:
        return [group for part in self.parts for group in part.param_groups]

    @property
    def state(self) -> dict[Tensor, dict]:
        """What each parameter's own optimizer keeps of it; changing an entry changes it there."""
        return {p: part.state[p] for part in self.parts for group in part.param_groups for p in group["params"]}

    def step(self) -> None:
        for part in self.parts:
            part.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        for part in self.parts:
            part.zero_grad(set_to_none)


def make_optimizer(model: nn.Module, plan: Plan) -> torch.optim.Optimizer | MuonWithAdamW:
    """The plan's optimizer over what trains in model; only matrices decay.

    A group's "share" is its peak rate over the plan's: take_step multiplies the schedule's rate by it.
    """
    rate, weight_decay = plan.learning_rate, plan.weight_decay
    peaks = peak_rates(model, rate, plan.learning_rates)
    trained = [p for p in model.parameters() if p.requires_grad]
    shares = {id(p): peaks[name] / rate for name, p in model.named_parameters() if name in peaks}
    between = muon_weights(model) if plan.optimizer == "muon" else set()
    matrices = [p for p in trained if id(p) in between]
    others = [p for p in trained if id(p) not in between]
    groups = [
        *by_share([p for p in others if p.dim() >= 2], shares, weight_decay),
        *by_share([p for p in others if p.dim() < 2], shares, 0.0),
    ]
    fused = trained[0].device.type in ("cpu", "cuda")
    adamw = torch.optim.AdamW(groups or [{"params": []}], lr=rate, betas=BETAS, fused=fused)
    if not matrices:
        return adamw
    muon = Muon(by_share(matrices, shares, weight_decay), rate)
    return MuonWithAdamW(muon, adamw)


def by_share(parameters: Iterable[nn.Parameter], shares: dict[int, float], weight_decay: float) -> list[dict]:
    """An optimizer's groups of parameters whose learning rates are the same share of the schedule's."""
    groups: dict[float, dict] = {}
    for parameter in parameters:
        share = shares[id(parameter)]
        group = groups.setdefault(share, {"params": [], "weight_decay": weight_decay, "share": share})
        group["params"].append(parameter)
    return list(groups.values())


def muon_weights(model: nn.Module) -> set[int]:
    """The id() of each weight that is Muon's; it keeps one moment of them, AdamW two of all others."""
    return {id(p) for p in linear_weights(model)}


def linear_weights(model: nn.Module) -> Iterator[nn.Parameter]:
    """The weights of linear layers, those that are embeddings too (a tied head) left out."""
    embeddings = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    for module in model.modules():
        if isinstance(module, nn.Linear) and id(module.weight) not in embeddings:
            yield module.weight
