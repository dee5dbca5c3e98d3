"""Optimizer and schedule: AdamW, or Muon for the weights of linear layers with AdamW for the rest."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from engine import distributed
from engine.arguments import Plan
from engine.freeze import peak_rates

BETAS = (0.9, 0.98)  # of AdamW
# X <- a X + (b A + c A²) X with A = X Xᵀ, four times: the polynomials of Polar Express (arXiv 2505.16932, l = 1e-3),
# all but the last with a margin of 1% for the largest singular value. These four steps learn more than Newton-Schulz's
# five equal ones, in a fifth less time (docs/log.md).
SAFETY = 1.01
POLYNOMIALS = (
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
    (3.3184196573706015, -2.488488024314874, 0.51004894012372),
)


def orthogonal(matrix: Tensor) -> Tensor:
    """Roughly the nearest matrix (m, n) with orthonormal rows or columns, in bfloat16.

    Singular values become 0.4 to 1.6; those below a thousandth of the norm stay smaller.
    """
    x = matrix.bfloat16()
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    x = x / (x.norm() * SAFETY + 1e-7)
    for number, (a, b, c) in enumerate(POLYNOMIALS, 1):
        margin = SAFETY if number < len(POLYNOMIALS) else 1.0
        gram = x @ x.T
        change = torch.addmm(gram, gram, gram, beta=b / margin**3, alpha=c / margin**5)
        x = torch.addmm(x, change, x, beta=a / margin)
    return x.T if tall else x


class Muon(torch.optim.Optimizer):
    """Muon (Jordan et al., 2024) for matrices (m, n), with decoupled weight decay.

    Each update is made orthogonal, which learns from far fewer tokens, and scaled to the size of AdamW's (arXiv
    2502.16982), so both take the same learning rate.
    """

    def __init__(self, params: Iterable, lr: float, momentum: float = 0.95, weight_decay: float = 0.0):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]  # no closure is ever given
        for group in self.param_groups:
            rate, momentum = group["lr"], group["momentum"]
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(parameter)
                moment = state["momentum_buffer"].lerp_(parameter.grad, 1 - momentum)
                direction = distributed.full_tensor(parameter.grad.lerp(moment, momentum))
                update = distributed.shard_like(orthogonal(direction), parameter)
                parameter.mul_(1 - rate * group["weight_decay"])
                parameter.add_(update, alpha=-0.2 * max(parameter.shape) ** 0.5 * rate)


class MuonWithAdamW:
    """Two optimizers that behave as one: Muon for the weights of linear layers, AdamW for all others."""

    def __init__(self, muon: torch.optim.Optimizer, adamw: torch.optim.Optimizer):
        self.parts = (muon, adamw)
        self.defaults = adamw.defaults

    @property
    def param_groups(self) -> list[dict]:
        return [group for part in self.parts for group in part.param_groups]

    @property
    def state(self) -> dict[Tensor, dict]:
        """Each parameter's state in its own optimizer, not a copy."""
        return {p: part.state[p] for part in self.parts for group in part.param_groups for p in group["params"]}

    def step(self) -> None:
        for part in self.parts:
            part.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        for part in self.parts:
            part.zero_grad(set_to_none)


Optimizer = torch.optim.Optimizer | MuonWithAdamW


def make_optimizer(model: nn.Module, plan: Plan) -> Optimizer:
    """The plan's optimizer over the trainable parameters; weight decay on matrices only.

    The "share" of a parameter group is its peak rate over the plan's: take_step multiplies the schedule's rate by it.
    """
    peaks = peak_rates(model, plan.learning_rate, plan.learning_rates)
    between = muon_weights(model) if plan.optimizer == "muon" else set()
    groups: dict[str, dict[float, dict]] = {"muon": {}, "matrices": {}, "vectors": {}}  # of equal shares
    for name, parameter in model.named_parameters():
        if name in peaks:
            kind = "muon" if id(parameter) in between else "matrices" if parameter.dim() >= 2 else "vectors"
            decay, share = 0.0 if kind == "vectors" else plan.weight_decay, peaks[name] / plan.learning_rate
            group = groups[kind].setdefault(share, {"params": [], "weight_decay": decay, "share": share})
            group["params"].append(parameter)
    others = [*groups["matrices"].values(), *groups["vectors"].values()] or [{"params": []}]
    fused = next(model.parameters()).device.type in ("cpu", "cuda")
    adamw = torch.optim.AdamW(others, lr=plan.learning_rate, betas=BETAS, fused=fused)
    return MuonWithAdamW(Muon(groups["muon"].values(), plan.learning_rate), adamw) if groups["muon"] else adamw


def muon_weights(model: nn.Module) -> set[int]:
    """The id() of each weight that Muon updates: those of linear layers, but for one tied to an embedding.

    Muon keeps one moment of a weight, AdamW two.
    """
    embeddings = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    return {id(m.weight) for m in model.modules() if isinstance(m, nn.Linear)} - embeddings


def learning_rate(step: int, steps: int, peak: float, warmup: int, min_ratio: float) -> float:
    """The rate at `step` of `steps` (from 0): linear warm-up to `peak` over `warmup` steps, then cosine decay to
    min_ratio * peak at the last step."""
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = (step - warmup) / max(steps - 1 - warmup, 1)
    return peak * (min_ratio + (1 - min_ratio) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0))))
