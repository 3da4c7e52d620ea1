"""How much an operator expands in a metric: exact on linear pieces, and over random pairs.

Written without `bmo.certify`, so that the two can be compared.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bmo.metric import Metric
from bmo.operators import Operator


def jacobian_norm(D: Operator, u: Tensor, metric: Metric | None = None) -> float:
    """The norm of the Jacobian at u in the metric: |R J R^-1|, by a full singular value."""
    metric = D.metric if metric is None else metric
    eye = torch.eye(u.numel(), dtype=u.dtype)
    R, R_inverse = metric.factor(eye).mT, metric.unfactor(eye).mT
    J = torch.autograd.functional.jacobian(lambda x: D(x.reshape(u.shape)).flatten(), u.flatten())
    return float(torch.linalg.matrix_norm(R @ J @ R_inverse, 2).detach())


@torch.no_grad()
def pair_ratio(D: Operator, n: int, pairs: int = 64, metric: Metric | None = None) -> float:
    """The largest ratio over random pairs, near and far, small and large."""
    metric = D.metric if metric is None else metric
    u = torch.randn(pairs, n, dtype=torch.float64) * 10 ** torch.linspace(-1, 1, pairs)[:, None]
    v = u + torch.randn_like(u) * 10 ** torch.linspace(-3, 1, pairs)[:, None].flip(0)
    return float((metric.norm(D(u) - D(v)) / metric.norm(u - v)).max())


def worst_ratio(D: Operator, n: int, points: int = 2) -> float:
    """The largest expansion found, by pairs and by Jacobians at random points."""
    at = [torch.randn(n, dtype=torch.float64) * size for size in (1.0, 5.0)[:points]]
    return max(pair_ratio(D, n), *(jacobian_norm(D, u) for u in at))
