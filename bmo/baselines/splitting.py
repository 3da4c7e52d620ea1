r"""ADMM, linearised ADMM and PDHG as they are written in the literature: nothing is learned.

Book: chapters 4 and 10. Class UNH. They minimise :math:`\lambda\|u\|_1` plus
:math:`\tfrac12\|Au - b\|^2` (``fit="l2"``) or :math:`\|Au - b\|_1` (``fit="l1"``, for outliers).
"""

from __future__ import annotations

import torch
from torch import Tensor

from bmo.baselines.base import (
    State,
    Unrolled,
    like,
    require_at_most,
    require_positive,
    squared_norm,
)
from bmo.errors import DomainError
from bmo.prox import soft

FITS = ("l2", "l1")


def require_fit(fit: str) -> str:
    """Refuse a data term that is not there."""
    if fit not in FITS:
        raise DomainError("fit 'l2' or 'l1'", repr(fit), "choose one of them", fit)
    return fit


def fitting(v: Tensor, size: float | Tensor, fit: str) -> Tensor:
    r"""The proximal operator of the data term, :math:`\tfrac12\|\cdot\|^2` or the l1 norm."""
    return v / (1 + size) if fit == "l2" else soft(v, size)


class ADMM(Unrolled):
    r"""The alternating direction method with its dense solve, for the lasso.

    .. math::
        x^+ &= (A^\top A + \rho I)^{-1}(A^\top b + \rho(u - w)), \quad
        \hat x = r x^+ + (1 - r)u, \\
        u^+ &= \mathrm{soft}(\hat x + w, \lambda/\rho), \quad w^+ = w + \hat x - u^+

    The inverse is factored once, :math:`(I - A^\top(\rho I + AA^\top)^{-1}A)/\rho`; a step is then
    2 products with matrices of shape (m, n).

    Args:
        A: Dictionary, shape (..., m, n).
        penalty: :math:`\lambda > 0`, as in :class:`~bmo.baselines.ISTA`.
        rho: :math:`\rho > 0`: a number, or a tensor of shape (..., 1, 1).
        relax: r in (0, 2).
        depth: Number of steps, unless told otherwise.

    Raises:
        DomainError: A number is out of its range.

    Source: Boyd, Parikh, Chu, Peleato, Eckstein, Found. Trends Mach. Learn. 3(1), 2011,
    sections 3.4.3 and 6.4.

    Example:
        >>> method = ADMM(torch.eye(2), penalty=1.0)
        >>> method(torch.tensor([3.0, 0.5]), depth=40).round(decimals=4)
        tensor([2., 0.])
    """

    name = "unh-admm"

    def __init__(
        self,
        A: Tensor,
        penalty: float | Tensor,
        rho: float | Tensor = 1.0,
        relax: float = 1.0,
        depth: int = 16,
    ) -> None:
        super().__init__(A, depth)
        self.positive("penalty", penalty)
        self.positive("rho", rho)
        if not 0 < relax < 2:
            raise DomainError("relax in (0, 2)", f"{relax}", "1.6 is a common choice", relax)
        self.penalty: Tensor
        self.rho: Tensor
        self.relax = relax
        eye = torch.eye(A.shape[-2]).to(A)
        self.register_buffer("M", torch.linalg.solve(self.rho * eye + A @ A.mT, A))
        self.M: Tensor

    def prepare(self, b: Tensor) -> Tensor:
        return b @ self.A

    def start(self, b: Tensor) -> State:
        (u,) = super().start(b)
        return u, u

    def step(self, k: int, state: State, data: Tensor) -> State:
        u, w = state
        q = data + self.rho * (u - w)
        x = self.relax * (q - (q @ self.M.mT) @ self.A) / self.rho + (1 - self.relax) * u
        u = soft(x + w, self.penalty / self.rho)
        return u, w + x - u


class LinearisedADMM(Unrolled):
    r"""Linearised ADMM on :math:`Au + e = b`: no solve, 2 products a step.

    .. math::
        u^+ &= \mathrm{soft}(u - A^\top(y + \beta(Au + e - b))/\tau, \lambda/\tau), \\
        e^+ &= \mathrm{prox}_{g/\beta}(b - Au^+ - y/\beta), \quad
        y^+ = y + \beta(Au^+ + e^+ - b)

    Args:
        A: Dictionary, shape (..., m, n).
        penalty: :math:`\lambda > 0`, as in :class:`~bmo.baselines.ISTA`.
        beta: :math:`\beta > 0`.
        tau: :math:`\tau \ge \beta\|A\|^2`; ``None`` for equality.
        fit: The data term g, ``"l2"`` or ``"l1"``.
        depth: Number of steps, unless told otherwise.

    Raises:
        DomainError: A number is out of its range.
        ConditionError: :math:`\tau < \beta\|A\|^2`.

    Source: Lin, Liu, Su, NeurIPS 2011 (there with a penalty that changes).

    Example:
        >>> method = LinearisedADMM(torch.eye(2), penalty=1.0)
        >>> method(torch.tensor([3.0, 0.5]), depth=60).round(decimals=4)
        tensor([2., 0.])
    """

    name = "unh-ladmm"

    def __init__(
        self,
        A: Tensor,
        penalty: float | Tensor,
        beta: float | Tensor = 1.0,
        tau: float | Tensor | None = None,
        fit: str = "l2",
        depth: int = 16,
    ) -> None:
        super().__init__(A, depth)
        self.positive("penalty", penalty)
        self.positive("beta", beta)
        self.beta: Tensor
        self.penalty: Tensor
        top = self.beta * squared_norm(A)
        self.number("tau", top if tau is None else tau)
        self.tau: Tensor
        require_at_most("beta ||A||^2 / tau", top / self.tau, 1.0)
        self.fit = require_fit(fit)

    def start(self, b: Tensor) -> State:
        (u,) = super().start(b)
        zero = torch.zeros_like(b)
        return u, zero, zero, zero

    def step(self, k: int, state: State, data: Tensor) -> State:
        u, e, y, image = state  # the image Au is kept: it was computed for the multiplier
        slope = (y + self.beta * (image + e - data)) @ self.A
        u = soft(u - slope / self.tau, self.penalty / self.tau)
        image = u @ self.A.mT
        e = fitting(data - image - y / self.beta, 1 / self.beta, self.fit)
        return u, e, y + self.beta * (image + e - data), image


class PDHG(Unrolled):
    r"""The primal-dual hybrid gradient method, 2 products a step.

    .. math::
        y^+ = \mathrm{prox}_{\sigma g^*}(y + \sigma(A\bar u - b)), \quad
        u^+ = \mathrm{soft}(u - \tau A^\top y^+, \tau\lambda), \quad \bar u^+ = 2u^+ - u

    Args:
        A: Dictionary, shape (..., m, n).
        penalty: :math:`\lambda > 0`, as in :class:`~bmo.baselines.ISTA`.
        tau: :math:`\tau > 0`; ``None`` for :math:`1/(\sigma\|A\|^2)`.
        sigma: :math:`\sigma > 0` with :math:`\tau\sigma\|A\|^2 \le 1`; ``None`` for
            :math:`1/\|A\|`, or :math:`1/(\tau\|A\|^2)`.
        fit: The data term g, ``"l2"`` or ``"l1"``.
        depth: Number of steps, unless told otherwise.

    Raises:
        DomainError: A number is out of its range.
        ConditionError: The steps are too long.

    Source: Chambolle, Pock, J. Math. Imaging Vis. 40, 2011, Algorithm 1.

    Example:
        >>> method = PDHG(torch.eye(2), penalty=1.0)
        >>> method(torch.tensor([3.0, 0.5]), depth=60).round(decimals=4)
        tensor([2., 0.])
    """

    name = "unh-pdhg"

    def __init__(
        self,
        A: Tensor,
        penalty: float | Tensor,
        tau: float | Tensor | None = None,
        sigma: float | Tensor | None = None,
        fit: str = "l2",
        depth: int = 16,
    ) -> None:
        super().__init__(A, depth)
        self.positive("penalty", penalty)
        top = squared_norm(A)
        if sigma is None:
            sigma = top**-0.5 if tau is None else 1 / (like(tau, A) * top)
        self.number("sigma", sigma)
        self.sigma: Tensor
        self.penalty: Tensor
        require_positive("sigma", self.sigma)
        self.number("tau", 1 / (self.sigma * top) if tau is None else tau)
        self.tau: Tensor
        require_at_most("tau sigma ||A||^2", self.tau * self.sigma * top, 1.0)
        self.fit = require_fit(fit)

    def start(self, b: Tensor) -> State:
        (u,) = super().start(b)
        return u, torch.zeros_like(b), torch.zeros_like(b)

    def step(self, k: int, state: State, data: Tensor) -> State:
        u, y, ahead = state  # ahead = A(2u - the u before)
        y = y + self.sigma * (ahead - data)
        y = y / (1 + self.sigma) if self.fit == "l2" else y.clamp(-1, 1)
        new = soft(u - self.tau * (y @ self.A), self.tau * self.penalty)
        return new, y, (2 * new - u) @ self.A.mT
