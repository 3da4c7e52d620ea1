r"""Augmented Lagrangian steps for :math:`\min f(u)` subject to :math:`Au = b`.

Book: chapter 4, "Augmented Lagrangians". The point is :math:`z = (u, \lambda)`, concatenated. The
methods here and in ``gradient_lagrangian.py`` are :math:`(Q + M)^{-1}(Q - C)` of Lemma FB with
:math:`Q = \mathrm{blkdiag}(P, \beta^{-1}I)`; they differ in :math:`P`.
"""

from __future__ import annotations

import dataclasses
from abc import abstractmethod

import torch
from torch import Tensor

from bmo.errors import MetricError
from bmo.metric import Block, Dense, Metric, Scaled
from bmo.operators.constrained import Constrained
from bmo.operators.subproblem import (
    Solvable,
    Subproblem,
    definite,
    require_matrix,
    require_positive,
    require_tau,
    squared_norm,
    subproblem,
)


@dataclasses.dataclass(frozen=True)
class Terms:
    """What one step needs: the solved subproblem, the penalty, and the metric of u if it is one."""

    solve: Subproblem
    beta: Tensor
    P: Metric | None
    delta: float = 0.0


class AugmentedLagrangian(Constrained):
    r"""The step that all three share.

    :math:`u^+ = \arg\min f + \langle g, \cdot\rangle + \tfrac12\|\cdot - u\|_M^2` with
    :math:`g = A^\top(\lambda + \beta(Au - b)) + \nabla h(u)`, :math:`M = P + \beta A^\top A`, and
    then :math:`\lambda^+ = \lambda + \beta(Au^+ - b)`.
    """

    def __init__(self, objective: Solvable, A: Tensor, b: Tensor, check: bool) -> None:
        super().__init__()
        require_matrix(A, b)
        self.objective = objective
        self.check = check
        self.certified = "checked" if check else "none"
        self.register_buffer("A", A)
        self.register_buffer("b", b)

    @abstractmethod
    def _compute(self) -> Terms:
        """The subproblem, the penalty and the metric at the current parameters."""

    def _smooth_gradient(self, u: Tensor) -> Tensor | float:
        return 0.0

    @property
    def metric(self) -> Metric:
        r""":math:`H = \mathrm{blkdiag}(P, \beta^{-1}I)`.

        Raises:
            MetricError: P is not positive definite (possible with ``check=False`` only).
        """
        terms: Terms = self.prepare()
        if terms.P is None:
            raise MetricError("P positive definite", "P is not", "enlarge tau beyond beta ||A||^2")
        m, n = self.A.shape
        return Block([n, m], [terms.P, Scaled(1 / terms.beta, check=False)])

    @property
    def averaged(self) -> float:
        terms: Terms = self.prepare()
        return 1 / (2 - min(1.0, terms.delta))

    def forward(self, z: Tensor) -> Tensor:
        terms: Terms = self.prepare()
        m, n = self.A.shape
        u, multiplier = z.split([n, m], -1)
        ahead = multiplier + terms.beta * (u @ self.A.mT - self.b)
        u_new = terms.solve(u, ahead @ self.A + self._smooth_gradient(u))
        new = multiplier + terms.beta * (u_new @ self.A.mT - self.b)
        return torch.cat([u_new, new], -1)


class ProximalALM(AugmentedLagrangian):
    r"""The proximal method of multipliers.

    .. math::
        u^+ = \arg\min_x f(x) + \langle\lambda, Ax\rangle + \tfrac\beta2|Ax - b|^2
            + \tfrac12\|x - u\|_P^2, \quad \lambda^+ = \lambda + \beta(Au^+ - b)

    Firmly nonexpansive in :math:`\mathrm{blkdiag}(P, \beta^{-1}I)`, with no further condition than
    :math:`P \succ 0`. Fixed points are the pairs that solve the optimality system. Book: chapter 4,
    "Augmented Lagrangians".

    Args:
        objective: :math:`f`: quadratic (one Cholesky solve a step), or a Prox that accepts the
            dense metric :math:`P + \beta A^\top A` (an indicator, say).
        A: Matrix of shape (m, n).
        b: Right-hand side, shape (m,) or (batch, m).
        beta: :math:`\beta > 0`.
        metric: :math:`P`, as a metric or as one number.
        check: Refuse a violated condition.

    Raises:
        ConditionError: :math:`\beta \le 0`.
        MetricError: :math:`P` is not positive definite, or the Prox has no closed form in the
            metric.

    Example:
        >>> import torch, bmo
        >>> f = bmo.smooth.Quadratic(torch.eye(2), torch.zeros(2))
        >>> D = bmo.operators.ProximalALM(f, torch.ones(1, 2), torch.ones(1), beta=1.0, metric=1.0)
        >>> bmo.GKM(D, 0.9).iterate(torch.zeros(3), tol=1e-6).value
        tensor([ 0.5000,  0.5000, -0.5000])
    """

    def __init__(
        self,
        objective: Solvable,
        A: Tensor,
        b: Tensor,
        beta: float | Tensor = 1.0,
        metric: Metric | float = 1.0,
        check: bool = True,
    ) -> None:
        super().__init__(objective, A, b, check)
        self._number("beta", beta)
        self.beta: Tensor
        self.P = metric if isinstance(metric, Metric) else Scaled(metric)
        self.prepare()

    def _compute(self) -> Terms:
        if self.check:
            require_positive(self.beta, "beta")
        n = self.A.shape[1:]
        M = Dense(self.P.matrix(n, self.A) + self.beta * self.A.mT @ self.A)
        return Terms(subproblem(self.objective, M), self.beta, self.P)


class LinearisedALM(AugmentedLagrangian):
    r"""The linearised method of multipliers: one proximal step, and no system to solve.

    The choice :math:`P = \tau I - \beta A^\top A` makes :math:`M = \tau I`:

    .. math:: u^+ = \mathrm{prox}_{f/\tau}\big(u - \tfrac1\tau A^\top(\lambda + \beta(Au - b))\big),
        \quad \lambda^+ = \lambda + \beta(Au^+ - b)

    Firmly nonexpansive in :math:`\mathrm{blkdiag}(P, \beta^{-1}I)` if :math:`\tau > \beta\|A\|^2`.
    Book: chapter 4, "Augmented Lagrangians".

    Args:
        objective: :math:`f`, a Prox or a quadratic function.
        A: Matrix of shape (m, n).
        b: Right-hand side, shape (m,) or (batch, m).
        beta: :math:`\beta > 0`.
        tau: :math:`\tau`; ``None`` for :math:`1.01\,\beta\|A\|^2`.
        check: Refuse a violated condition. With ``False`` and a :math:`\tau` too small the step
            still runs, but ``metric`` raises: there is none.

    Raises:
        ConditionError: :math:`\beta \le 0` or :math:`\tau \le \beta\|A\|^2`.

    Example:
        >>> import torch, bmo
        >>> A, b = torch.tensor([[1.0, 2.0]]), torch.tensor([2.0])
        >>> D = bmo.operators.LinearisedALM(bmo.prox.L1(1.0), A, b)  # basis pursuit
        >>> bmo.GKM(D, 0.9).iterate(torch.zeros(3), tol=1e-6).value[:2].abs()
        tensor([0., 1.])
    """

    def __init__(
        self,
        objective: Solvable,
        A: Tensor,
        b: Tensor,
        beta: float | Tensor = 1.0,
        tau: float | Tensor | None = None,
        check: bool = True,
    ) -> None:
        super().__init__(objective, A, b, check)
        self._start(beta, 1.01 * float(beta) * squared_norm(A) if tau is None else tau)

    def _start(self, beta: float | Tensor, tau: float | Tensor) -> None:
        """Keep the two numbers, and check them."""
        self._number("beta", beta)
        self._number("tau", tau)
        self.beta: Tensor
        self.tau: Tensor
        self.prepare()

    def _numbers(self) -> tuple[Tensor, Tensor]:
        r""":math:`\beta` and :math:`\tau` at the current parameters."""
        return self.beta, self.tau

    def _compute(self) -> Terms:
        beta, tau = self._numbers()
        if self.check:
            require_positive(beta, "beta")
            require_tau(tau, beta, self.A, "tau > beta ||A||^2")
        P = definite(tau, beta, self.A)
        return Terms(subproblem(self.objective, Scaled(tau, check=False)), beta, P)
