r"""The augmented Lagrangian step with a smooth part that is linearised, too.

Book: chapter 4, "Augmented Lagrangians".
"""

from __future__ import annotations

import dataclasses

from torch import Tensor

from bmo.metric import Scaled
from bmo.operators.forward_backward import forward_backward_delta, require_delta
from bmo.operators.lagrangian import AugmentedLagrangian, LinearisedALM, Terms
from bmo.operators.subproblem import Solvable, squared_norm
from bmo.smooth import Smooth


class GradientLinearisedALM(LinearisedALM):
    r"""Linearised ALM with a gradient step: :math:`\min f(u) + g(u)`, :math:`Au = b`, f smooth.

    .. math:: u^+ = \mathrm{prox}_{g/\tau}\big(u - \tfrac1\tau(\nabla f(u)
        + A^\top(\lambda + \beta(Au - b)))\big), \quad \lambda^+ = \lambda + \beta(Au^+ - b)

    :math:`\tfrac1{2-\delta}`-averaged in :math:`\mathrm{blkdiag}(P, \beta^{-1}I)`,
    :math:`P = \tau I - \beta A^\top A \succ 0`, if :math:`\nabla^2 f \preceq 2\delta P`,
    :math:`\delta \le 1`. Book: chapter 4, "Augmented Lagrangians".

    Args:
        smooth: :math:`f`, with its curvature.
        objective: :math:`g`, a Prox or a quadratic function.
        A: Matrix of shape (m, n).
        b: Right-hand side, shape (m,) or (batch, m).
        beta: :math:`\beta > 0`.
        tau: :math:`\tau`; ``None`` for :math:`1.01\,\beta\|A\|^2 + L`.
        check: Refuse a violated condition.

    Raises:
        ConditionError: :math:`\beta \le 0`, :math:`\tau \le \beta\|A\|^2`, or the curvature is
            too large.

    Example:
        >>> import torch, bmo
        >>> f = bmo.smooth.Quadratic(torch.eye(2), torch.tensor([1.0, 0.0]))
        >>> A, b = torch.ones(1, 2), torch.ones(1)
        >>> D = bmo.operators.GradientLinearisedALM(f, bmo.prox.Zero(), A, b)
        >>> bmo.GKM(D, 0.9).iterate(torch.zeros(3), tol=1e-6).value[:2].round(decimals=4)
        tensor([1., 0.])
    """

    def __init__(
        self,
        smooth: Smooth,
        objective: Solvable,
        A: Tensor,
        b: Tensor,
        beta: float | Tensor = 1.0,
        tau: float | Tensor | None = None,
        check: bool = True,
    ) -> None:
        AugmentedLagrangian.__init__(self, objective, A, b, check)
        self.smooth = smooth
        if tau is None:
            top = float(smooth.curvature(Scaled(1.0)).detach())
            tau = 1.01 * float(beta) * squared_norm(A) + top
        self._start(beta, tau)

    def _smooth_gradient(self, u: Tensor) -> Tensor:
        return self.smooth(u)

    def _compute(self) -> Terms:
        terms = super()._compute()
        if terms.P is None:
            return dataclasses.replace(terms, delta=1.0)
        delta = forward_backward_delta(self.smooth, terms.P)
        if self.check:
            require_delta(delta, "gradient-linearised ALM, P = tau I - beta A^T A")
        return dataclasses.replace(terms, delta=delta)
