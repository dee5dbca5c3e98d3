"""Muon: momentum whose update of each matrix is made orthogonal (Jordan et al., 2024)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from engine import distributed

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
    def step(self) -> None:
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
