r"""Laws that every proximal operator and every projection obeys, as checks.

They need no formula for the operator, only what defines it, so that tests and notebooks can
hold any implementation to them. Book: chapter 2,
"Projections and proximal steps see the metric".
"""

from __future__ import annotations

import torch
from torch import Tensor

from bmo.certify.evidence import Evidence
from bmo.certify.expansion import point_shape, sample_like
from bmo.metric import Metric
from bmo.prox import Prox
from bmo.sets import Set


def _draw(metric: Metric, n: int | None, trials: int, seed: int, scale: float) -> Tensor:
    """Random points of three sizes, shape (trials, n)."""
    shape, like = point_shape(metric, n, None), sample_like(metric, metric)
    generator = torch.Generator().manual_seed(seed)
    u = torch.randn(trials, *shape, generator=generator, dtype=torch.float64)
    sizes = torch.tensor([0.1, 1.0, 10.0], dtype=torch.float64)[torch.arange(trials) % 3]
    return (scale * sizes[:, None] * u).to(like)


def _worst(name: str, tol: float, method: str, excess: Tensor, **where: Tensor) -> Evidence:
    """The largest excess over pairs (i, j), against 0."""
    value = float(excess.max())
    row, col = divmod(int(excess.argmax()), excess.shape[1])
    points = {k: x[row] if k.endswith("u") else x[col] for k, x in where.items()}
    return Evidence(name, value, 0.0, value <= tol, points, method)


@torch.no_grad()
def prox_optimality(
    g: Prox,
    metric: Metric,
    n: int | None = None,
    trials: int = 48,
    seed: int = 0,
    scale: float = 1.0,
    tol: float = 1e-10,
) -> Evidence:
    r"""Whether :math:`x = \mathrm{prox}^H_g(u)` is the minimiser that defines it.

    For all y: :math:`g(x)+\tfrac12\|x-u\|_H^2+\tfrac12\|y-x\|_H^2 \le g(y)+\tfrac12\|y-u\|_H^2`.
    The y are random points, values of the operator (so that they lie in the domain of g), and
    points near x. The excess is relative to the right side (plus one).

    Args:
        g: The function with its proximal operator.
        metric: :math:`H`.
        n: Length of a vector; needed where the metric does not fix it.
        trials: Number of random points.
        seed: Seed of the draws.
        scale: Typical size of an entry.
        tol: Relative excess allowed.

    Example:
        >>> import bmo
        >>> bmo.certify.prox_optimality(bmo.prox.L1(1.0), bmo.metric.Scaled(2.0), n=3).holds
        True
    """
    u = _draw(metric, n, trials, seed, scale)
    x = g(u, metric)
    other = _draw(metric, n, trials, seed + 1, scale)
    y = torch.cat([other, g(other, metric), x, g(x + 0.01 * other, metric), x + 1e-3 * other])
    left = g.value(x) + metric.distance(x, u).square() / 2
    left = left[:, None] + metric.distance(y[None], x[:, None]).square() / 2
    right = g.value(y)[None] + metric.distance(y[None], u[:, None]).square() / 2
    excess = torch.where(torch.isinf(right), -1.0, (left - right) / (1 + right.abs()))
    return _worst("the minimiser of g + |.-u|^2/2", tol, "pairs (u, y)", excess, u=u, y=y)


@torch.no_grad()
def firmly_nonexpansive(
    g: Prox,
    metric: Metric,
    n: int | None = None,
    trials: int = 48,
    seed: int = 0,
    scale: float = 1.0,
    tol: float = 1e-10,
) -> Evidence:
    r"""Whether :math:`\|Pu-Pv\|_H^2 \le \langle Pu-Pv, u-v\rangle_H`, P the proximal operator.

    Example:
        >>> import bmo
        >>> g = bmo.prox.Indicator(bmo.sets.Ball(1.0))
        >>> bmo.certify.firmly_nonexpansive(g, bmo.metric.Identity(), n=3).holds
        True
    """
    u = _draw(metric, n, trials, seed, scale)
    p = g(u, metric)
    dp, du = p[:, None] - p[None], u[:, None] - u[None]
    excess = metric.inner(dp, dp - du) / (1 + metric.norm(du).square())
    return _worst("firmly nonexpansive", tol, "pairs (u, v)", excess, u=u, v=u)


@torch.no_grad()
def moreau(
    g: Prox,
    conjugate: Prox,
    metric: Metric,
    inverse: Metric,
    n: int | None = None,
    trials: int = 48,
    seed: int = 0,
    scale: float = 1.0,
    tol: float = 1e-10,
) -> Evidence:
    r"""Moreau's identity in a metric.

    .. math:: u = \mathrm{prox}^H_g(u) + H^{-1}\mathrm{prox}^{H^{-1}}_{g^*}(Hu)

    Args:
        g: The function.
        conjugate: :math:`g^*`.
        metric: :math:`H`.
        inverse: The metric :math:`H^{-1}`.
        n: Length of a vector; needed where the metric does not fix it.
        trials: Number of random points.
        seed: Seed of the draws.
        scale: Typical size of an entry.
        tol: Relative deviation allowed.

    Example:
        >>> import bmo
        >>> g, dual = bmo.prox.L1(1.0), bmo.prox.Indicator(bmo.sets.Box(-1.0, 1.0))
        >>> one = bmo.metric.Identity()
        >>> bmo.certify.moreau(g, dual, one, one, n=3).holds
        True
    """
    u = _draw(metric, n, trials, seed, scale)
    rest = u - g(u, metric) - metric.solve(conjugate(metric.apply(u), inverse))
    excess = metric.norm(rest) / (1 + metric.norm(u))
    return _worst("Moreau's identity", tol, "random points", excess[:, None], u=u)


@torch.no_grad()
def projection(
    domain: Set,
    metric: Metric,
    n: int | None = None,
    trials: int = 48,
    seed: int = 0,
    scale: float = 1.0,
    tol: float = 1e-8,
) -> Evidence:
    r"""Whether :math:`x=\mathrm{Proj}_{U,H}(u)` is in U and :math:`\langle u-x,y-x\rangle_H\le 0`.

    The inequality for all y in U is what defines the projection.

    Args:
        domain: :math:`U`.
        metric: :math:`H`.
        n: Length of a vector; needed where the metric does not fix it.
        trials: Number of random points.
        seed: Seed of the draws.
        scale: Typical size of an entry.
        tol: Excess allowed, relative to the lengths of both factors (plus one).

    Example:
        >>> import bmo
        >>> U, H = bmo.sets.Box(0.0, 1.0), bmo.metric.Identity()
        >>> bmo.certify.projection(U, H, n=3).holds
        True
    """
    u = _draw(metric, n, trials, seed, scale)
    x = domain.project(u, metric)
    y = torch.cat([domain.nearest(_draw(metric, n, trials, seed + 1, scale)), x])
    away, along = (u - x)[:, None], y[None] - x[:, None]
    excess = metric.inner(away, along) / (1 + metric.norm(away) * metric.norm(along))
    outside = ~domain.contains(x, tol)
    excess = torch.where(outside[:, None], torch.inf, excess)
    return _worst("the nearest point of the set", tol, "pairs (u, y)", excess, u=u, y=y)
