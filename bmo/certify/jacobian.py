r"""The norm of a derivative in a metric, :math:`\|J\|_H = \|RJR^{-1}\|_2`, :math:`H = R^\top R`."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from bmo.metric import Metric

SMALL = 64
"""Up to this many entries of a point, the Jacobian is built and its norm is exact."""

Linear = Callable[[Tensor], Tensor]


def jacobian(
    D: Linear, metric: Metric, u: Tensor, d: Tensor, steps: int, small: int = SMALL
) -> tuple[Tensor, Tensor]:
    r"""The norm of :math:`J = D'(u)` in the metric, and a direction that attains it.

    Args:
        D: The map.
        metric: :math:`H`.
        u: Points, shape (count, ...).
        d: Starting directions, same shape.
        steps: Steps of the power iteration, where a point has more than ``small`` entries.
        small: Largest number of entries for which the whole Jacobian is built.

    Returns:
        :math:`\|Jd\|_H` and :math:`d`, :math:`\|d\|_H = 1`, for each point.
    """
    point = u.detach().requires_grad_()
    with torch.enable_grad():
        value = D(point)
        if not value.requires_grad:  # a constant map
            return metric.norm(torch.zeros_like(u)), d
        # J^T is linear in `dual`, whatever its value; differentiating it once more gives J itself
        dual = value.detach().clone().requires_grad_()
        (pulled,) = torch.autograd.grad(
            value, point, dual, create_graph=True, materialize_grads=True
        )

    def forward(d: Tensor) -> Tensor:
        return _pull(pulled, dual, d)

    if u.shape[u.dim() - metric.event_dims :].numel() <= small:
        return whole(forward, metric, u)

    def adjoint(d: Tensor) -> Tensor:
        return metric.solve(_pull(value, point, metric.apply(d)))

    return power_iteration(forward, adjoint, metric, d, steps)


def power_iteration(
    forward: Linear, adjoint: Linear, metric: Metric, d: Tensor, steps: int
) -> tuple[Tensor, Tensor]:
    r"""Iterate :math:`d \leftarrow J^*Jd` with the adjoint in the metric, :math:`H^{-1}J^\top H`.

    The norms are those of :math:`J` along one direction, so they are never too large.
    """
    at, best = d, metric.norm(torch.zeros_like(d))
    for _ in range(steps):
        d = d / column(metric.norm(d), metric).clamp_min(torch.finfo(d.dtype).tiny)
        moved = forward(d)
        norm = metric.norm(moved)
        at = torch.where(column(norm > best, metric), d, at)
        best = torch.maximum(best, norm)
        d = adjoint(moved)
    return best, at


def whole(forward: Linear, metric: Metric, u: Tensor) -> tuple[Tensor, Tensor]:
    r"""Build :math:`RJR^{-1}` column by column and take its largest singular value."""
    shape = u.shape[u.dim() - metric.event_dims :]
    n, batch = shape.numel(), u.shape[: u.dim() - metric.event_dims]
    units = torch.eye(n, dtype=u.dtype, device=u.device).reshape(n, *shape)
    J = torch.stack([forward(e.expand_as(u)).reshape(*batch, n) for e in units], -1)
    H = metric.matrix(shape, u).detach()
    R = torch.linalg.cholesky((H + H.mT) / 2).mT
    M = R @ torch.linalg.solve_triangular(R, J, upper=True, left=False)
    _, singular, rows = torch.linalg.svd(M)
    ways = torch.linalg.solve_triangular(R, rows[..., :1, :].mT, upper=True)
    return singular[..., 0], ways.reshape(u.shape)


def _pull(value: Tensor, point: Tensor, dual: Tensor) -> Tensor:
    """The vector-Jacobian product, without a graph of its own."""
    if not value.requires_grad:
        return torch.zeros_like(point)
    (out,) = torch.autograd.grad(
        value, point, dual.detach(), retain_graph=True, materialize_grads=True
    )
    return out.detach()


def column(x: Tensor, metric: Metric) -> Tensor:
    """One number for each point, with axes added so that it multiplies points."""
    return x.reshape(*x.shape, *([1] * metric.event_dims))
