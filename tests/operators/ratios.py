"""How much an operator expands in a metric: Jacobians, exact on linear pieces, and random pairs.

Written without `bmo.certify`, so that the two can be compared.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bmo.metric import Metric
from bmo.operators import Operator


def jacobian(D: Operator, u: Tensor) -> Tensor:
    """The Jacobian at u, row i from copy i of the point: one forward and one backward pass."""
    copies = u.expand(u.numel(), -1).clone().requires_grad_()
    (rows,) = torch.autograd.grad(D(copies).diagonal().sum(), copies)
    return rows


def norm_in(J: Tensor, metric: Metric) -> float:
    """The norm of a matrix in a metric, |R J R^-1| with H = R^T R."""
    eye = torch.eye(J.shape[0], dtype=J.dtype)
    R, R_inverse = metric.factor(eye).mT, metric.unfactor(eye).mT
    return float(torch.linalg.matrix_norm(R @ J @ R_inverse, 2).detach())


@torch.no_grad()
def pair_ratio(D: Operator, n: int, pairs: int = 64, metric: Metric | None = None) -> float:
    """The largest ratio over random pairs, near and far, small and large."""
    metric = D.metric if metric is None else metric
    u = torch.randn(pairs, n, dtype=torch.float64) * 10 ** torch.linspace(-1, 1, pairs)[:, None]
    v = u + torch.randn_like(u) * 10 ** torch.linspace(1, -2, pairs)[:, None]
    return float((metric.norm(D(u) - D(v)) / metric.norm(u - v)).max())


def worst_ratio(D: Operator, n: int, metric: Metric | None = None) -> float:
    """The largest expansion found, by pairs and by Jacobians at points of three sizes."""
    metric = D.metric if metric is None else metric
    at = [torch.randn(n, dtype=torch.float64) * size for size in (0.3, 1.0, 5.0)]
    pairs = pair_ratio(D, n, metric=metric)
    return max(pairs, *(norm_in(jacobian(D, u), metric) for u in at))
