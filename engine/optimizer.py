"""Optimizer and schedule: AdamW, or Muon (Jordan et al., 2024) for the matrices between layers and AdamW beside."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from engine import distributed
from engine.arguments import Plan
from engine.freeze import peak_rates

BETAS = (0.9, 0.98)  # of AdamW
# X <- a X + (b A + c A²) X with A = X Xᵀ, four times: the polynomials of Polar Express (arXiv 2505.16932, l = 1e-3),
# each but the last for singular values up to 1 % too large. Four of them learn more from a step than Newton-Schulz's
# five equal ones, and take a fifth less time (docs/log.md).
SAFETY = 1.01
POLYNOMIALS = (
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
    (3.3184196573706015, -2.488488024314874, 0.51004894012372),
)


def orthogonal(matrix: Tensor) -> Tensor:
    """About the nearest matrix (m, n) with orthonormal rows or columns, in bfloat16: singular values become 0.4 to 1.6.

    Those below a thousandth of the norm stay smaller.
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
    """For the matrices (m, n) between layers. An update is as large as AdamW's would be (arXiv 2502.16982), so both
    take the same learning rate. Weight decay is decoupled."""

    def __init__(self, params: Iterable, lr: float, momentum: float = 0.95, weight_decay: float = 0.0):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.dim() != 2:
                    raise ValueError(f"Muon takes matrices, found a parameter of shape {tuple(parameter.shape)}")

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
    """Parameter groups by their share of the schedule's learning rate."""
    groups: dict[float, dict] = {}
    for parameter in parameters:
        share = shares[id(parameter)]
        group = groups.setdefault(share, {"params": [], "weight_decay": weight_decay, "share": share})
        group["params"].append(parameter)
    return list(groups.values())


def muon_weights(model: nn.Module) -> set[int]:
    """The id() of each weight that Muon updates; it keeps one moment of each, AdamW two of all others."""
    return {id(p) for p in linear_weights(model)}


def linear_weights(model: nn.Module) -> Iterator[Tensor]:
    """The weights of linear layers, those that are embeddings too (a tied head) left out."""
    embeddings = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    for module in model.modules():
        if isinstance(module, nn.Linear) and id(module.weight) not in embeddings:
            yield module.weight


def learning_rate(step: int, steps: int, peak: float, warmup: int, min_ratio: float) -> float:
    """The rate at `step` of `steps` (from 0): linear to `peak` over `warmup` steps, then half a cosine down to
    min_ratio * peak at the last step."""
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = (step - warmup) / max(steps - 1 - warmup, 1)
    return peak * (min_ratio + (1 - min_ratio) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0))))
