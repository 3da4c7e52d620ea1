r"""The problems that hypergradients are timed on: P1 (smooth) and P2 (nonsmooth).

Both come twice: with one step length, and with a diagonal metric that is part of
:math:`\omega` (for P3, :mod:`bmo.bench.aggregated`). Everything is float64 and seeded, and written
in plain torch: these steps are the clock that every method is measured by.
Book: chapter 9.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from bmo.errors import DomainError

Parts = dict[str, Tensor]


class Problem(ABC):
    r"""A loop of K steps, its upper objective, and the hyper-parameters :math:`\omega`.

    Attributes:
        name: ``"P1"``, ``"P2"`` or ``"P3"``.
        steps: K.
        omega: Name → value; no gradients are asked for.
        u0: The start.
        diagonal: Whether the metric is diagonal and part of omega, or a number.
    """

    name: str
    steps: int
    omega: Parts
    u0: Tensor
    diagonal: bool

    @property
    def setting(self) -> dict[str, str | int]:
        """How a record names this problem."""
        return {"problem": self.name, "K": self.steps}

    def prepare(self, omega: Parts) -> Parts:
        """What all steps share, computed from omega once; ``inverse`` is :math:`H^{-1}`."""
        return omega

    @abstractmethod
    def map(self, u: Tensor, at: Parts) -> Tensor:
        """One step :math:`T(u)`, with what :meth:`prepare` gave."""

    @abstractmethod
    def upper(self, u: Tensor) -> Tensor:
        r""":math:`\ell(u)`, one value for each point."""

    @abstractmethod
    def upper_gradient(self, u: Tensor) -> Tensor:
        r""":math:`\nabla\ell(u)`, written by hand."""

    def value(self, u: Tensor) -> Tensor:
        """The mean of the upper objective over the points."""
        return self.upper(u).mean()

    def step(self, k: int, u: Tensor, at: Parts) -> Tensor:
        """Step k = 1, ..., K of the loop; here always :meth:`map`."""
        return self.map(u, at)

    def run(self, at: Parts) -> Tensor:
        r""":math:`u^K`, by plain torch."""
        u = self.u0
        for k in range(1, self.steps + 1):
            u = self.step(k, u, at)
        return u

    @torch.no_grad()
    def forward(self) -> Tensor:
        """The K steps without gradients: what all times are divided by."""
        return self.run(self.prepare(self.omega))

    def box(self) -> float:
        r"""Half the side of a box that cuts one in five of the entries of :math:`u^K`, if not 0."""
        entries = self.forward().abs().flatten()
        return float(entries[entries > 0].quantile(0.8))

    def leaves(self) -> Parts:
        """Omega as fresh leaves that ask for gradients."""
        return {name: value.clone().requires_grad_() for name, value in self.omega.items()}


class Smooth(Problem):
    r"""P1: :math:`\min_u f(u) = \tfrac12\|Au-b\|^2 + \tfrac12\sum_i e^{\omega_i}u_i^2`, stepwise.

    .. math:: T(u) = u - H^{-1}\nabla f(u), \qquad \ell(u) = \tfrac12\|A_vu - b_v\|^2

    :math:`H = \|A\|^2 + \max_i e^{\omega_i}` (a number, fixed at the start), or with ``diagonal``
    :math:`H_\omega = \|A\|^2I + \mathrm{diag}(e^{\omega})`.

    Args:
        steps: K.
        m: Rows of A.
        n: Unknowns.
        diagonal: Take the diagonal metric.
        seed: Of all data.

    Example:
        >>> problem = Smooth(steps=3, m=8, n=4)
        >>> problem.forward().shape
        torch.Size([4])
    """

    name = "P1"

    def __init__(
        self, steps: int, m: int = 2000, n: int = 500, diagonal: bool = False, seed: int = 0
    ) -> None:
        self.steps, self.diagonal = _require_steps(steps), diagonal
        draw = torch.Generator().manual_seed(seed)
        self.A, self.A_v = _matrix(m, n, draw), _matrix(n, n, draw)
        self.truth = _normal((n,), draw)
        self.b = self.A @ self.truth + 0.1 * _normal((m,), draw)
        self.b_v = self.A_v @ self.truth + 0.1 * _normal((n,), draw)
        self.omega = {"omega": 0.5 * _normal((n,), draw)}
        self.norm = float(torch.linalg.matrix_norm(self.A, 2)) ** 2
        self.tau = 1 / (self.norm + float(self.omega["omega"].exp().max()))
        self.u0 = torch.zeros(n, dtype=torch.float64)

    def prepare(self, omega: Parts) -> Parts:
        e = omega["omega"].exp()
        inverse = 1 / (self.norm + e) if self.diagonal else torch.as_tensor(self.tau, dtype=e.dtype)
        return {"e": e, "inverse": inverse}

    def gradient(self, u: Tensor, at: Parts) -> Tensor:
        r""":math:`\nabla f(u) = A^\top(Au - b) + e^\omega u`."""
        return self.A.mT @ (self.A @ u - self.b) + at["e"] * u

    def loss(self, u: Tensor, omega: Parts) -> Tensor:
        """The lower objective f itself, for those who take steps from a loss."""
        fit = 0.5 * (self.A @ u - self.b).square().sum()
        return fit + 0.5 * (omega["omega"].exp() * u.square()).sum()

    def map(self, u: Tensor, at: Parts) -> Tensor:
        return u - at["inverse"] * self.gradient(u, at)

    def upper(self, u: Tensor) -> Tensor:
        return 0.5 * (u @ self.A_v.mT - self.b_v).square().sum(-1)

    def upper_gradient(self, u: Tensor) -> Tensor:
        return self.A_v.mT @ (self.A_v @ u - self.b_v)


class Sparse(Problem):
    r"""P2: tied LISTA with a learned matrix, at its start ISTA.

    .. math:: T(u) = \mathrm{soft}(u + s\,W(y - Qu), \theta), \qquad \ell(u) = \|u - \bar u\|^2

    :math:`\omega = (s, \theta, W)`: the step (a number, or with ``diagonal`` one for each
    coordinate, :math:`H_\omega = \mathrm{diag}(1/s)`), the n thresholds, the n × m matrix. The
    signals :math:`\bar u` are seen with noise of 1 %.

    Args:
        steps: K.
        m: Rows of Q.
        n: Unknowns.
        batch: Signals.
        diagonal: Take one step length for each coordinate.
        penalty: Threshold over step at the start.
        density: Share of the entries of a signal that are not zero.
        seed: Of all data.

    Example:
        >>> Sparse(steps=2, m=5, n=10, batch=3).forward().shape
        torch.Size([3, 10])
    """

    name = "P2"

    def __init__(
        self,
        steps: int,
        m: int = 250,
        n: int = 500,
        batch: int = 256,
        diagonal: bool = False,
        penalty: float = 0.4,
        density: float = 0.08,
        seed: int = 0,
    ) -> None:
        self.steps, self.diagonal = _require_steps(steps), diagonal
        draw = torch.Generator().manual_seed(seed)
        raw = _normal((m, n), draw)
        self.Q = raw / raw.norm(dim=0)
        chosen = torch.rand((batch, n), generator=draw, dtype=torch.float64) < density
        self.truth = chosen * _normal((batch, n), draw)
        clean = self.truth @ self.Q.mT
        self.y = clean + 0.01 * clean.square().mean().sqrt() * _normal((batch, m), draw)
        s = torch.tensor(1 / float(torch.linalg.matrix_norm(self.Q, 2)) ** 2, dtype=torch.float64)
        self.omega = {
            "step": s.expand(n).clone() if diagonal else s,
            "threshold": (penalty * s).expand(n).clone(),
            "W": self.Q.mT.contiguous(),
        }
        self.u0 = torch.zeros_like(self.truth)

    def prepare(self, omega: Parts) -> Parts:
        return {**omega, "inverse": omega["step"]}

    def map(self, u: Tensor, at: Parts) -> Tensor:
        z = u + at["step"] * ((self.y - u @ self.Q.mT) @ at["W"].mT)
        # of the four usual ways to write it, the one with the cheapest derivative in plain torch
        return (z - at["threshold"]).relu() - (-z - at["threshold"]).relu()

    def upper(self, u: Tensor) -> Tensor:
        return (u - self.truth).square().sum(-1)

    def upper_gradient(self, u: Tensor) -> Tensor:
        return 2 * (u - self.truth)


def _require_steps(steps: int) -> int:
    if steps < 1:
        raise DomainError("K >= 1", f"{steps}", "count steps of the loop", steps)
    return steps


def _normal(shape: tuple[int, ...], draw: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=draw, dtype=torch.float64)


def _matrix(m: int, n: int, draw: torch.Generator) -> Tensor:
    return _normal((m, n), draw) / m**0.5
