r"""Primal-dual steps for :math:`\min_x f(x) + g(Kx)`, and with a smooth :math:`h(x)` added.

Book: chapter 4, "Primal-dual methods". The point is :math:`z = (x, y)`, concatenated. The order is
"primal first, extrapolate the primal"; its metric has the sign :math:`-K` off the diagonal. The
other order has :math:`+K`, and in the wrong one the step expands.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from bmo.errors import ConditionError, MetricError, NonFiniteError, ShapeError
from bmo.metric import Metric, PrimalDual, Scaled
from bmo.operators.base import Preparing
from bmo.operators.forward_backward import forward_backward_delta, require_delta
from bmo.operators.subproblem import (
    Solvable,
    Subproblem,
    definite,
    require_positive,
    squared_norm,
    subproblem,
)
from bmo.prox import Conjugate, Prox
from bmo.smooth import Smooth


@dataclasses.dataclass(frozen=True)
class Steps:
    """What one step needs: the primal subproblem, both lengths, the metric if it is one."""

    solve: Subproblem
    tau: Tensor
    sigma: Tensor
    metric: Metric | None
    delta: float = 0.0


class PDHG(Preparing):
    r"""The primal-dual hybrid gradient step (Chambolle and Pock).

    .. math::
        x^+ = \mathrm{prox}_{\tau f}(x - \tau K^\top y), \quad
        y^+ = \mathrm{prox}_{\sigma g^*}\big(y + \sigma K(2x^+ - x)\big)

    Firmly nonexpansive in
    :math:`H = \begin{pmatrix}\tau^{-1}I & -K^\top\\ -K & \sigma^{-1}I\end{pmatrix}` if
    :math:`\tau\sigma\|K\|^2 < 1`, which is when H is positive definite. Book: chapter 4,
    "Primal-dual methods".

    Args:
        f: A Prox or a quadratic function.
        g: A Prox (of the primal function g; its conjugate is taken by Moreau's identity).
        K: Matrix of shape (m, n).
        tau: Primal step; ``None`` for :math:`0.99/\|K\|`.
        sigma: Dual step; ``None`` for :math:`0.99/\|K\|`.
        check: Refuse a violated condition. With ``False`` and steps too long the step still runs,
            but ``metric`` raises: there is none.

    Raises:
        ConditionError: A step is not positive, or :math:`\tau\sigma\|K\|^2 \ge 1`.

    Example:
        >>> import torch, bmo
        >>> f = bmo.prox.SquaredL2(1.0, center=torch.tensor([3.0, 0.0]))
        >>> D = bmo.operators.PDHG(f, bmo.prox.L1(1.0), torch.tensor([[1.0, -1.0]]))
        >>> bmo.GKM(D, 0.9).iterate(torch.zeros(3), tol=1e-6).value.round(decimals=4)
        tensor([2., 1., 1.])
    """

    def __init__(
        self,
        f: Solvable,
        g: Prox,
        K: Tensor,
        tau: float | Tensor | None = None,
        sigma: float | Tensor | None = None,
        check: bool = True,
    ) -> None:
        super().__init__()
        self._parts(f, g, K, check)
        self._start(tau, sigma)

    def _parts(self, f: Solvable, g: Prox, K: Tensor, check: bool) -> None:
        """Keep the functions and the matrix."""
        if K.dim() != 2:
            raise ShapeError(
                "a matrix K of shape (m, n)", f"shape {tuple(K.shape)}", "reshape it", K
            )
        if not bool(torch.isfinite(K).all()):
            raise NonFiniteError("a finite K", "NaN or infinity", "clean the matrix first", K)
        self.f, self.dual, self.check = f, Conjugate(g), check
        self.certified = "checked" if check else "none"
        self.register_buffer("K", K)
        self.K: Tensor

    def _start(self, tau: float | Tensor | None, sigma: float | Tensor | None) -> None:
        """Keep the two lengths, and check them."""
        default = 0.99 / squared_norm(self.K) ** 0.5 if tau is None or sigma is None else 0.0
        for name, value in (("tau", tau), ("sigma", sigma)):
            number = default if value is None else value
            kind = {"dtype": self.K.dtype, "device": self.K.device}
            self.register_buffer(name, torch.as_tensor(number, **kind))  # type: ignore[arg-type]
        self.tau: Tensor
        self.sigma: Tensor
        self.prepare()

    def _lengths(self) -> tuple[Tensor, Tensor]:
        r""":math:`\tau` and :math:`\sigma` at the current parameters."""
        return self.tau, self.sigma

    def _compute(self) -> Steps:
        tau, sigma = self._lengths()
        if self.check:
            require_positive(tau, "tau")
            require_positive(sigma, "sigma")
            _require_product(tau, sigma, self.K)
        try:
            metric = PrimalDual(self.K, tau, sigma)
        except MetricError:
            if self.check:
                raise
            metric = None
        return Steps(subproblem(self.f, Scaled(1 / tau, check=False)), tau, sigma, metric)

    @property
    def metric(self) -> Metric:
        r""":math:`H`.

        Raises:
            MetricError: H is not positive definite (possible with ``check=False`` only).
        """
        at: Steps = self.prepare()
        if at.metric is None:
            raise MetricError("tau * sigma * ||K||^2 < 1", "longer steps", "shorten tau or sigma")
        return at.metric

    @property
    def averaged(self) -> float:
        at: Steps = self.prepare()
        return 1 / (2 - min(1.0, at.delta))

    def _smooth_gradient(self, x: Tensor) -> Tensor | float:
        return 0.0

    def forward(self, z: Tensor) -> Tensor:
        at: Steps = self.prepare()
        m, n = self.K.shape
        x, y = z.split([n, m], -1)
        x_new = at.solve(x, y @ self.K + self._smooth_gradient(x))
        ahead = y + at.sigma * ((2 * x_new - x) @ self.K.mT)
        return torch.cat([x_new, self.dual(ahead, Scaled(1 / at.sigma, check=False))], -1)


def _require_product(tau: Tensor, sigma: Tensor, K: Tensor) -> None:
    product = float((tau * sigma).detach()) * squared_norm(K)
    if not product < 1:
        raise ConditionError(
            "tau * sigma * ||K||^2 < 1", f"{product:.6g}", "shorten tau or sigma", product
        )


class CondatVu(PDHG):
    r"""The step of Condat and Vu for :math:`\min_x f(x) + g(Kx) + h(x)`, h smooth.

    .. math::
        x^+ = \mathrm{prox}_{\tau f}\big(x - \tau(K^\top y + \nabla h(x))\big), \quad
        y^+ = \mathrm{prox}_{\sigma g^*}\big(y + \sigma K(2x^+ - x)\big)

    :math:`\tfrac1{2-\delta}`-averaged in the metric of :class:`PDHG` if
    :math:`\tau\sigma\|K\|^2 < 1` and
    :math:`\nabla^2 h \preceq 2\delta(\tau^{-1}I - \sigma K^\top K)`, :math:`\delta \le 1`. Book:
    chapter 4, "Primal-dual methods".

    Args:
        h: The smooth function, with its curvature.
        f: A Prox or a quadratic function.
        g: A Prox.
        K: Matrix of shape (m, n).
        tau: Primal step; ``None`` for :math:`1/(\|K\| + L_h/2)`.
        sigma: Dual step; ``None`` for :math:`0.99/\|K\|`.
        check: Refuse a violated condition.

    Raises:
        ConditionError: A step is not positive, :math:`\tau\sigma\|K\|^2 \ge 1`, or the curvature is
            too large.

    Example:
        >>> import torch, bmo
        >>> h = bmo.LeastSquares(torch.eye(2), torch.tensor([3.0, 0.0]))
        >>> g, K = bmo.prox.L1(1.0), torch.tensor([[1.0, -1.0]])
        >>> D = bmo.operators.CondatVu(h, bmo.prox.Zero(), g, K)
        >>> bmo.GKM(D, 0.9).iterate(torch.zeros(3), tol=1e-6).value.round(decimals=4)
        tensor([2., 1., 1.])
    """

    def __init__(
        self,
        h: Smooth,
        f: Solvable,
        g: Prox,
        K: Tensor,
        tau: float | Tensor | None = None,
        sigma: float | Tensor | None = None,
        check: bool = True,
    ) -> None:
        Preparing.__init__(self)
        self._parts(f, g, K, check)
        self.h = h
        if tau is None:
            top = float(h.curvature(Scaled(1.0)).detach())
            tau = 1 / (squared_norm(K) ** 0.5 + top / 2)
        self._start(tau, sigma)

    def _smooth_gradient(self, x: Tensor) -> Tensor:
        return self.h(x)

    def _compute(self) -> Steps:
        steps = super()._compute()
        P = definite(1 / steps.tau, steps.sigma, self.K)
        if P is None:
            return dataclasses.replace(steps, delta=1.0)
        delta = forward_backward_delta(self.h, P)
        if self.check:
            require_delta(delta, "Condat-Vu, P = I / tau - sigma K^T K")
        return dataclasses.replace(steps, delta=delta)
