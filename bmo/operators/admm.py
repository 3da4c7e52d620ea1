r"""Two-block ADMM for :math:`\min f(u) + g(v)` subject to :math:`Au + Bv = b`.

Book: chapter 4, "Two blocks: ADMM and its linearised forms". The point is
:math:`z = (u, v, \lambda)`, concatenated. The second block sees the new first
one, so the step is no resolvent, and its metric is
:math:`H = \mathrm{blkdiag}(P_u, P_v + \beta B^\top B, \beta^{-1}I)`: without
:math:`\beta B^\top B` the step expands.
"""

from __future__ import annotations

from torch import Tensor

from bmo.metric import Dense, Metric, Scaled
from bmo.operators.forward_backward import forward_backward_delta, require_delta
from bmo.operators.subproblem import (
    Solvable,
    definite,
    require_positive,
    require_tau,
    squared_norm,
    subproblem,
)
from bmo.operators.two_block import Blocks, TwoBlock
from bmo.smooth import Smooth


def _require_curvature(smooth: Smooth | None, P: Metric | None) -> None:
    if smooth is not None and P is not None:
        require_delta(forward_backward_delta(smooth, P), "two-block ADMM with linearised f, P_u")


class LinearisedADMM(TwoBlock):
    r"""Linearised two-block ADMM: both subproblems become proximal steps.

    With :math:`P_u = \tau_uI - \beta A^\top A` and :math:`P_v = \tau_vI - \beta B^\top B`,

    .. math::
        u^+ &= \mathrm{prox}_{f/\tau_u}\big(u - \tfrac1{\tau_u}A^\top(\lambda + \beta(Au + Bv -
        b))\big),\\ v^+ &= \mathrm{prox}_{g/\tau_v}\big(v - \tfrac1{\tau_v}B^\top(\lambda +
        \beta(Au^+ + Bv - b))\big),\\ \lambda^+ &= \lambda + \beta(Au^+ + Bv^+ - b)

    Nonexpansive in :math:`\mathrm{blkdiag}(P_u, \tau_vI, \beta^{-1}I)` if
    :math:`\tau_u > \beta\|A\|^2` and :math:`\tau_v \ge \beta\|B\|^2`. A smooth part :math:`h(u)`
    may be linearised too; then also :math:`\nabla^2 h \preceq 2P_u`. Book: chapter 4,
    "Two blocks: ADMM and its linearised forms".

    Args:
        first: :math:`f`, a Prox or a quadratic function.
        second: :math:`g`, a Prox or a quadratic function.
        A: Matrix of shape (m, n).
        B: Matrix of shape (m, p).
        b: Right-hand side, shape (m,) or (batch, m).
        beta: :math:`\beta > 0`.
        tau_u: :math:`\tau_u`; ``None`` for :math:`1.01\,\beta\|A\|^2 + L_h`.
        tau_v: :math:`\tau_v`; ``None`` for :math:`\beta\|B\|^2`.
        smooth: :math:`h`, with its curvature.
        check: Refuse a violated condition.

    Raises:
        ConditionError: :math:`\beta \le 0`, :math:`\tau_u \le \beta\|A\|^2`,
            :math:`\tau_v < \beta\|B\|^2`, or the curvature of h is too large.

    Example:
        >>> import torch, bmo
        >>> I, b = torch.eye(2), torch.tensor([3.0, 0.5])
        >>> f, g = bmo.prox.SquaredL2(1.0, center=b), bmo.prox.L1(1.0)
        >>> D = bmo.operators.LinearisedADMM(f, g, I, -I, torch.zeros(2))  # u = v
        >>> bmo.GKM(D, 0.9).iterate(torch.zeros(6), tol=1e-7).value[:2].round(decimals=4)
        tensor([2., 0.])
    """

    def __init__(
        self,
        first: Solvable,
        second: Solvable,
        A: Tensor,
        B: Tensor,
        b: Tensor,
        beta: float | Tensor = 1.0,
        tau_u: float | Tensor | None = None,
        tau_v: float | Tensor | None = None,
        smooth: Smooth | None = None,
        check: bool = True,
    ) -> None:
        super().__init__(first, second, A, B, b, smooth, check)
        if tau_u is None:
            top = 0.0 if smooth is None else float(smooth.curvature(Scaled(1.0)).detach())
            tau_u = 1.01 * float(beta) * squared_norm(A) + top
        tau_v = float(beta) * squared_norm(B) if tau_v is None else tau_v
        for name, value in (("beta", beta), ("tau_u", tau_u), ("tau_v", tau_v)):
            self._number(name, value)
        self.beta: Tensor
        self.tau_u: Tensor
        self.tau_v: Tensor
        self.prepare()

    def _numbers(self) -> tuple[Tensor, Tensor, Tensor]:
        r""":math:`\beta, \tau_u, \tau_v` at the current parameters."""
        return self.beta, self.tau_u, self.tau_v

    def _compute(self) -> Blocks:
        beta, tau_u, tau_v = self._numbers()
        if self.check:
            require_positive(beta, "beta")
            require_tau(tau_u, beta, self.A, "tau_u > beta ||A||^2")
            require_tau(tau_v, beta, self.B, "tau_v >= beta ||B||^2", strict=False)
        P = definite(tau_u, beta, self.A)
        if self.check:
            _require_curvature(self.smooth, P)
        first = subproblem(self.first, Scaled(tau_u, check=False))
        return Blocks(first, subproblem(self.second, Scaled(tau_v, check=False)), beta, P)


class ProximalADMM(TwoBlock):
    r"""Two-block ADMM with proximal terms :math:`P_u \succ 0` and :math:`P_v \succeq 0`.

    .. math::
        u^+ &= \arg\min_x f(x) + \langle\lambda, Ax\rangle + \tfrac\beta2|Ax + Bv - b|^2
            + \tfrac12\|x - u\|_{P_u}^2,\\
        v^+ &= \arg\min_y g(y) + \langle\lambda, By\rangle + \tfrac\beta2|Au^+ + By - b|^2
            + \tfrac12\|y - v\|_{P_v}^2,\\
        \lambda^+ &= \lambda + \beta(Au^+ + Bv^+ - b)

    Nonexpansive in :math:`\mathrm{blkdiag}(P_u, P_v + \beta B^\top B, \beta^{-1}I)` where that is
    positive definite. Book: chapter 4, "Two blocks: ADMM and its linearised forms".

    Args:
        first: :math:`f`: quadratic, or a Prox that accepts :math:`P_u + \beta A^\top A`.
        second: :math:`g`: quadratic, or a Prox that accepts :math:`P_v + \beta B^\top B`.
        A: Matrix of shape (m, n).
        B: Matrix of shape (m, p).
        b: Right-hand side, shape (m,) or (batch, m).
        beta: :math:`\beta > 0`.
        P_u: A metric, or one number.
        P_v: A metric, one number, or ``None`` for zero (then :math:`B^\top B` must be definite).
        smooth: A smooth part :math:`h(u)`, linearised; condition :math:`\nabla^2 h \preceq 2P_u`.
        check: Refuse a violated condition.

    Raises:
        ConditionError: :math:`\beta \le 0`, or the curvature of h is too large.
        MetricError: A block of H is not positive definite, or a Prox refuses its metric.

    Example:
        >>> import torch, bmo
        >>> I, b = torch.eye(2), torch.tensor([3.0, 0.5])
        >>> f, g = bmo.smooth.Quadratic(I, b), bmo.smooth.Quadratic(I, torch.zeros(2))
        >>> D = bmo.operators.ProximalADMM(f, g, I, -I, torch.zeros(2))  # u = v
        >>> bmo.GKM(D, 0.9).iterate(torch.zeros(6), tol=1e-7).value[:2].round(decimals=4)
        tensor([1.5000, 0.2500])
    """

    def __init__(
        self,
        first: Solvable,
        second: Solvable,
        A: Tensor,
        B: Tensor,
        b: Tensor,
        beta: float | Tensor = 1.0,
        P_u: Metric | float = 1.0,
        P_v: Metric | float | None = None,
        smooth: Smooth | None = None,
        check: bool = True,
    ) -> None:
        super().__init__(first, second, A, B, b, smooth, check)
        self._number("beta", beta)
        self.beta: Tensor
        self.P_u = P_u if isinstance(P_u, Metric) else Scaled(P_u)
        self.P_v = P_v if isinstance(P_v, Metric) or P_v is None else Scaled(P_v)
        self.prepare()

    def _compute(self) -> Blocks:
        if self.check:
            require_positive(self.beta, "beta")
            _require_curvature(self.smooth, self.P_u)
        M_u = Dense(self.P_u.matrix(self.A.shape[1:], self.A) + self.beta * self.A.mT @ self.A)
        H_v = self.beta * self.B.mT @ self.B
        if self.P_v is not None:
            H_v = H_v + self.P_v.matrix(self.B.shape[1:], self.B)
        second = subproblem(self.second, Dense(H_v))
        return Blocks(subproblem(self.first, M_u), second, self.beta, self.P_u)
