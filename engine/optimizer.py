"""Optimizer and schedule: AdamW, or Muon for the weights of linear layers with AdamW for the rest."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from engine import distributed
from engine.arguments import TrainArguments, rates_of
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


class Muon(torch.optim.AdamW):
    """Muon (Jordan et al., 2024) for the matrices (m, n) in groups with "muon" set, AdamW for all other parameters.

    Muon makes each update orthogonal, which learns from far fewer tokens. It is scaled to the size of AdamW's (arXiv
    2502.16982), so both take the same learning rate. Weight decay is decoupled.
    """

    def __init__(self, params: Iterable, lr: float, momentum: float = 0.95, **adamw):
        super().__init__(params, lr, **adamw)
        self.momentum = momentum

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]  # no closure is ever given
        group_of = {p: group for group in self.param_groups if group.get("muon") for p in group["params"]}
        for parameters in distributed.buckets(p for p in group_of if p.grad is not None):
            directions = [distributed.full_tensor(self.direction(parameter)) for parameter in parameters]
            updates = distributed.divided_work(orthogonal, directions)
            for parameter, update in zip(parameters, updates, strict=True):
                rate = group_of[parameter]["lr"]
                parameter.mul_(1 - rate * group_of[parameter]["weight_decay"])
                part = distributed.shard_like(update, parameter)
                parameter.add_(part, alpha=-0.2 * max(parameter.shape) ** 0.5 * rate)
                parameter.grad = None  # so that AdamW leaves it alone
        super().step()

    def direction(self, parameter: Tensor) -> Tensor:
        """The gradient with Nesterov momentum."""
        assert parameter.grad is not None
        state = self.state[parameter]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        moment = state["momentum_buffer"].lerp_(parameter.grad, 1 - self.momentum)
        return parameter.grad.lerp(moment, self.momentum)


def make_optimizer(model: nn.Module, plan: TrainArguments) -> Optimizer:
    """The plan's optimizer over the trainable parameters; weight decay on matrices only.

    The "share" of a parameter group is its peak rate over the plan's: take_step multiplies the schedule's rate by it.
    """
    peaks = peak_rates(model, plan.learning_rate, rates_of(plan.learning_rates))
    between = muon_weights(model) if plan.optimizer == "muon" else set()
    groups: dict[tuple[int, float], dict] = {}  # one for each kind of parameter and share
    for name, parameter in model.named_parameters():
        if name in peaks:
            kind = 0 if id(parameter) in between else 1 if parameter.dim() >= 2 else 2
            decay, share = plan.weight_decay if kind < 2 else 0.0, peaks[name] / plan.learning_rate
            group = {"params": [], "muon": kind == 0, "weight_decay": decay, "share": share}
            groups.setdefault((kind, share), group)["params"].append(parameter)
    ordered = [groups[key] for key in sorted(groups, key=lambda key: key[0])]
    fused = next(model.parameters()).device.type in ("cpu", "cuda")
    return (Muon if between else torch.optim.AdamW)(ordered, plan.learning_rate, betas=BETAS, fused=fused)


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
