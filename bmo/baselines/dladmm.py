r"""D-LADMM: linearised ADMM with learned matrices, penalties and thresholds. Class ENA.

Book: chapter 10.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bmo.baselines.base import (
    State,
    Unrolled,
    copies,
    like,
    require_at_most,
    require_positive,
    squared_norm,
    thresholds,
)
from bmo.baselines.lista import require_layers
from bmo.baselines.splitting import fitting, require_fit
from bmo.prox import soft


class DLADMM(Unrolled):
    r"""Differentiable linearised ADMM for :math:`\min \lambda\|z\|_1 + g(e)`, :math:`Az + e = b`.

    .. math::
        z^+ &= \mathrm{soft}(z - W(y + \beta\circ(Az + e - b)), \theta), \\
        e^+ &= \eta(b - Az^+ - \epsilon\circ y; \vartheta), \qquad
        y^+ = y + \beta\circ(Az^+ + e^+ - b)

    :math:`\eta` is the soft threshold for the l1 norm g and :math:`v/(1 + \vartheta)` for
    :math:`g = \tfrac12\|e\|^2`. Learned in each layer: W (n, m), :math:`\beta` and :math:`\epsilon`
    (m,), the numbers :math:`\theta` and :math:`\vartheta`. At the start it is linearised ADMM:
    :math:`W = A^\top/\tau`, :math:`\epsilon = \vartheta = 1/\beta`, :math:`\theta = \lambda/\tau`.
    A state is (z, e, y, Az).

    Args:
        A: Dictionary, shape (..., m, n).
        depth: Number of layers.
        penalty: :math:`\lambda > 0`.
        beta: :math:`\beta > 0` at the start.
        tau: :math:`\tau \ge \beta\|A\|^2` at the start; ``None`` for equality.
        fit: g, ``"l1"`` or ``"l2"``.
        tied: One layer for all steps.

    Raises:
        DomainError: A number is out of its range.
        ConditionError: :math:`\tau < \beta\|A\|^2`.

    Source: Xie, Wu, Liu, Zhong, Lin, ICML 2019, with the parameters of their program.

    Example:
        >>> net = DLADMM(torch.eye(2), depth=60, penalty=1.0, fit="l2", tied=True)
        >>> net(torch.tensor([3.0, 0.5])).detach().round(decimals=4)
        tensor([2., 0.])
    """

    def __init__(
        self,
        A: Tensor,
        depth: int,
        penalty: float | Tensor,
        beta: float = 1.0,
        tau: float | Tensor | None = None,
        fit: str = "l1",
        tied: bool = False,
    ) -> None:
        super().__init__(A, depth, 1 if tied else require_layers(depth))
        require_positive("penalty", penalty)
        require_positive("beta", beta)
        top = beta * squared_norm(A)
        first = top if tau is None else like(tau, A) * torch.ones_like(top)
        require_at_most("beta ||A||^2 / tau", top / first, 1.0)
        self.name, self.fit = "ena-dladmm-tied" if tied else "ena-dladmm", require_fit(fit)
        self.W = copies(A.mT / first, self.layers)
        self.beta = copies(thresholds(A.mT, beta, True), self.layers)
        self.epsilon = copies(thresholds(A.mT, 1 / beta, True), self.layers)
        self.theta = copies(thresholds(A, penalty / first, False), self.layers)
        self.vartheta = copies(thresholds(A, 1 / beta, False), self.layers)

    def start(self, b: Tensor) -> State:
        (z,) = super().start(b)
        zero = torch.zeros_like(b)
        return z, zero, zero, zero

    def step(self, k: int, state: State, data: Tensor) -> State:
        z, e, y, image = state
        beta = self.beta[k]
        z = soft(z - (y + beta * (image + e - data)) @ self.W[k].mT, self.theta[k])
        image = z @ self.A.mT
        e = fitting(data - image - self.epsilon[k] * y, self.vartheta[k], self.fit)
        return z, e, y + beta * (image + e - data), image
