r"""What an instance of the families is: its set U, its :math:`\ell`, and every constant.

Book: chapter 7.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from bmo.errors import MetricError
from bmo.gkm import GKM
from bmo.inner import Inner
from bmo.metric import Metric
from bmo.schedules import Schedule
from bmo.sets import Set


class MetricBall(Set):
    r""":math:`\{u : \|u-c\|_H \le R\}`, with the projection in its own metric H only.

    Example:
        >>> import torch, bmo
        >>> from bmo.problems.families import MetricBall
        >>> U = MetricBall(bmo.metric.Identity(), torch.zeros(1), 2.0)
        >>> U.project(torch.tensor([5.0]), bmo.metric.Identity())
        tensor([2.])
    """

    def __init__(self, metric: Metric, center: Tensor, radius: float) -> None:
        self.metric, self.center, self.radius = metric, center, radius

    def nearest(self, u: Tensor) -> Tensor:
        raise MetricError("the projection in H", "the Euclidean one", "use project(u, metric)", u)

    def contains(self, u: Tensor, tol: float = 1e-9) -> Tensor:
        return self.metric.norm(u - self.center) <= self.radius + tol

    def project(self, u: Tensor, metric: Metric, tol: float = 1e-10) -> Tensor:
        if type(metric) is not type(self.metric):
            raise MetricError("the metric of the ball", "another one", "use its own metric", metric)
        w = u - self.center
        return self.center + w * (self.radius / self.metric.norm(w)).clamp_max(1.0)[..., None]


class HalfSquares:
    r""":math:`\ell(u) = \tfrac12|Bu-d|^2` as an upper objective with its gradient.

    Example:
        >>> import torch
        >>> from bmo.problems.families import HalfSquares
        >>> HalfSquares(torch.eye(2), torch.ones(2))(torch.zeros(2))
        tensor(1.)
    """

    def __init__(self, B: Tensor, d: Tensor) -> None:
        self.B, self.d = B, d

    def __call__(self, u: Tensor) -> Tensor:
        return 0.5 * (u @ self.B.mT - self.d).square().sum(-1)

    def gradient(self, u: Tensor) -> Tensor:
        r""":math:`B^\top(Bu-d)`."""
        return (u @ self.B.mT - self.d) @ self.B


@dataclass(frozen=True)
class Instance:
    r"""One problem and its constants, all in the metric H of ``training``.

    Attributes:
        family: One of ``FAMILIES``.
        training: :math:`T`, a self-map of U.
        domain: :math:`U`.
        upper: :math:`\ell`.
        start: :math:`u^0`, shape (n,).
        mu: :math:`\mu`.
        diameter: :math:`\Delta`.
        slope: A bound on :math:`G = \max_U\|g\|`.
        oscillation: A bound on :math:`M`.
        lipschitz: :math:`L_H`.
        strength: The modulus m of strong convexity of :math:`\ell`, 0 if there is none.
        value: :math:`\varphi`, by a singular value decomposition and bisection.
        value_error: A bound on ``value`` minus the true :math:`\varphi`, from convexity alone.
        best: A minimiser of :math:`\ell` over :math:`S`, shape (n,).
        kappa: With :math:`\mathrm{dist}(u,S) \le \kappa\,r(u)` on U, where it is known.
        distance: :math:`u \mapsto \mathrm{dist}(u, S)` where kappa is known.

    An example: :func:`bmo.problems.families.random_instance`.
    """

    family: str
    training: GKM
    domain: MetricBall
    upper: HalfSquares
    start: Tensor
    mu: float
    diameter: float
    slope: float
    oscillation: float
    lipschitz: float
    strength: float
    value: float
    value_error: float
    best: Tensor
    kappa: float | None
    distance: Callable[[Tensor], Tensor]

    @torch.no_grad()
    def iterates(self, steps: Schedule | float, count: int) -> Tensor:
        r""":math:`u^0, \dots, u^{count}` of Algorithm 1, shape (count + 1, n)."""
        loop = Inner(self.training, self.mu, steps, self.domain)
        return torch.stack([self.start, *loop.iterates(self.start, self.upper, count)])

    @property
    def constants(self) -> dict[str, float]:
        """What the bounds of :mod:`bmo.bounds` ask for, by name."""
        return {
            "alpha": self.training.alpha,
            "mu": self.mu,
            "diameter": self.diameter,
            "slope": self.slope,
        }
