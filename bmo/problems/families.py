r"""Random bilevel problems on four families of operators, with :math:`\varphi` solved separately.

For one :math:`\omega` each: a training map :math:`T: U\to U` whose fixed points form an affine set
cut by U, a least squares :math:`\ell`, and U a ball of the metric H. There every constant of the
theorems has a closed form, and so has :math:`\varphi = \min_S\ell`, up to one scalar equation that
bisection solves; convexity says how far off it can be. Book: chapter 7.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from bmo.errors import DomainError
from bmo.gkm import GKM
from bmo.metric import Dense, Metric
from bmo.operators import Lambda, Operator, Unrelaxed
from bmo.problems.family_instance import HalfSquares, Instance, MetricBall
from bmo.problems.family_steps import FAMILIES, MAKERS, SHRINK, Array, tensor
from bmo.problems.family_values import least_in_ball, possible_descent

__all__ = [
    "FAMILIES",
    "SIZES",
    "HalfSquares",
    "Instance",
    "MetricBall",
    "least_in_ball",
    "random_instance",
]

SIZES = (3, 4, 5, 6, 7, 8, 10, 20, 30, 50, 80, 120, 200)
"""Sizes n of the primal variable that the checks of the book go through, seed by seed."""


def _known_kappa(family: str, D: Operator, alpha: float, n: int, metric: Metric) -> float:
    """The constant of the error bound of an affine D, or of the network."""
    if family == "certified network":
        return 1 / (alpha * (1 - SHRINK))
    eye = torch.eye(n, dtype=torch.float64)
    linear = D(eye) - D(0 * eye)  # row i is the image of the i-th unit vector
    whole = metric.factor(metric.unfactor(eye) @ (eye - linear))
    sigma = torch.linalg.svdvals(whole)
    return 1 / (alpha * float(sigma[sigma > 1e-8].min()))


def random_instance(family: str, seed: int, n: int = 6, regular: bool = False) -> Instance:
    r"""A random problem of a family.

    U is a ball around a random point, T is the step followed by the projection onto U. With
    ``regular`` the ball is centred at a fixed point, so T maps U into itself without a projection,
    no constraint is active, and the constant kappa of the error bound is known.

    Args:
        family: One of ``FAMILIES``.
        seed: Seed of all random choices.
        n: Size of the primal variable, >= 3; PDHG and ADMM have further variables, u has at most
            2n + 2 coordinates.
        regular: As said above.

    Raises:
        DomainError: The family is unknown or n is too small.

    Example:
        >>> from bmo.problems import families
        >>> problem = families.random_instance("PDHG", seed=0)
        >>> bool(problem.training.residual(problem.best) < 1e-9)
        True
    """
    if family not in MAKERS or n < 3:
        raise DomainError(f"a family of {FAMILIES}, n >= 3", f"{family}, {n}", "choose one", family)
    rng = np.random.default_rng([seed, n, FAMILIES.index(family)])
    with torch.no_grad():
        D, point, V = MAKERS[family](rng, n, 0 if regular else max(1, n // 3))
        D = D.prepared()
        size = len(point)
        metric = Dense(D.metric.matrix((size,), like=tensor(point)))
        return _assemble(family, rng, D, metric, point, V, regular)


def _training(D: Operator, metric: Dense, alpha: float, ball: MetricBall, regular: bool) -> GKM:
    r"""T, or :math:`\mathrm{Proj}_{U,H}\circ T` as a scheme of its own."""
    if regular:
        return GKM(Lambda(D, metric), alpha)
    plain = GKM(D, alpha)
    averaged = 1 / (2 - plain.averaged)
    projected = Lambda(lambda u: ball.project(plain(u), metric), metric, averaged)
    return GKM(Unrelaxed(projected), averaged)


def _ball_in(S: Array, center: Array, radius: float) -> tuple[Array, float]:
    """Where the ball cuts the subspace with basis S: centre and radius there."""
    t = S.T @ center
    return t, float(np.sqrt(radius**2 - np.sum((center - S @ t) ** 2)))


def _assemble(
    family: str,
    rng: np.random.Generator,
    D: Operator,
    metric: Dense,
    point: Array,
    V: Array,
    regular: bool,
) -> Instance:
    """Choose U, l, alpha, mu and u^0, and compute every constant, in the coordinates of H."""
    size, radius, alpha = len(point), float(rng.uniform(1, 3)), float(rng.uniform(0.2, 0.9))
    eye = torch.eye(size, dtype=torch.float64)
    y0, Q = metric.factor(tensor(point)).numpy(), _basis(metric, V)
    away, start = rng.normal(size=(2, size))
    away *= 0.0 if regular else 0.6 * radius / np.linalg.norm(away)
    start *= radius * rng.uniform(0.3, 1) / np.linalg.norm(start)
    center = y0 + Q @ rng.normal(size=Q.shape[1]) + away
    ball = MetricBall(metric, metric.unfactor(tensor(center)), radius)

    rows = size if rng.uniform() < 0.5 else max(1, size // 2)
    B = rng.normal(size=(rows, size)) / np.sqrt(size) + (np.eye(size) if rows == size else 0.0)
    d = B @ center + 2 * rng.normal(size=rows)
    inner = _ball_in(Q, center - y0, radius)
    t = least_in_ball(B @ Q, d - B @ y0, *inner)
    best = y0 + Q @ t
    descent = possible_descent(Q.T @ B.T @ (B @ best - d), t, *inner)
    sigma, miss = np.linalg.svd(B, compute_uv=False), B @ center - d
    first, L = float(np.linalg.norm(B.T @ miss)), float(sigma[0] ** 2)
    return Instance(
        family=family,
        training=_training(D, metric, alpha, ball, regular),
        domain=ball,
        upper=HalfSquares((metric.factor(eye) @ tensor(B.T)).mT, tensor(d)),
        start=metric.unfactor(tensor(center + start)),
        mu=float(rng.uniform(0.2, 0.8)),
        diameter=2 * radius,
        slope=first + L * radius,
        oscillation=first * radius + L * radius**2 / 2 + min(first * radius, miss @ miss / 2),
        lipschitz=L,
        strength=float(sigma[-1] ** 2) if rows == size else 0.0,
        value=0.5 * float(np.sum((B @ best - d) ** 2)),
        value_error=descent,
        best=metric.unfactor(tensor(best)),
        kappa=_known_kappa(family, D, alpha, size, metric) if regular else None,
        distance=_distance(metric, tensor(y0), tensor(Q)),
    )


def _basis(metric: Dense, V: Array) -> Array:
    """An orthonormal basis of the directions V in the coordinates of H, as columns."""
    Q: Array = np.linalg.qr(metric.factor(tensor(V.T)).numpy().T)[0]
    return Q


def _distance(metric: Dense, y0: Tensor, Q: Tensor) -> Callable[[Tensor], Tensor]:
    """The distance to the affine set y0 + range(Q)."""

    def distance(u: Tensor) -> Tensor:
        w = metric.factor(u) - y0
        return (w - w @ Q @ Q.mT).norm(dim=-1)

    return distance
