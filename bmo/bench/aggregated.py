r"""P3: Algorithm 1 itself, and BMO-H, on P1 and P2 with a diagonal metric and a box.

.. math:: u^k = \mathrm{Proj}_U\big(\mu(u^{k-1} - s_kH_\omega^{-1}\nabla\ell(u^{k-1}))
          + (1-\mu)T(u^{k-1})\big)

In a diagonal metric the projection onto a box cuts each coordinate. Book: chapters 6 and 9.
"""

from __future__ import annotations

import math

from torch import Tensor

from bmo.bench.problems import Parts, Problem, Smooth, Sparse
from bmo.schedules import Schedule, as_steps, schedule


class Aggregated(Problem):
    r"""The aggregated loop on another problem.

    Args:
        base: P1 or P2: gives T, :math:`H_\omega` and :math:`\ell`.
        mu: :math:`\mu`, weight of the upper step.
        box: Half the side of the box U; ``None`` for the problem's own, ``inf`` for no box.
        plan: :math:`s_k`; ``None`` for the schedule :func:`~bmo.schedules.schedule`, a constant in
            BMO-H.
        anchored: BMO-H: :math:`w^k = (w^0 + kF(w^{k-1}))/(k+1)` with a constant s.

    Example:
        >>> P3 = Aggregated(Smooth(steps=2, m=8, n=4, diagonal=True))
        >>> P3.setting
        {'problem': 'P3', 'on': 'P1', 'K': 2, 'loop': 'bmo'}
    """

    name = "P3"

    def __init__(
        self,
        base: Smooth | Sparse,
        mu: float = 0.3,
        box: float | None = None,
        plan: Schedule | float | None = None,
        anchored: bool = False,
    ) -> None:
        self.base, self.mu, self.anchored = base, mu, anchored
        self.steps, self.omega, self.u0 = base.steps, base.omega, base.u0
        self.diagonal = base.diagonal
        self.half = base.box() if box is None else box
        default = 0.5 if anchored else schedule(0.5)
        self.plan: Schedule | float = default if plan is None else plan
        self.sizes = as_steps(self.plan, self.steps)

    @property
    def setting(self) -> dict[str, str | int]:
        """How a record names this problem."""
        loop = "bmo-h" if self.anchored else "bmo"
        return {"problem": "P3", "on": self.base.name, "K": self.steps, "loop": loop}

    def prepare(self, omega: Parts) -> Parts:
        return self.base.prepare(omega)

    def map(self, u: Tensor, at: Parts) -> Tensor:
        return self.base.map(u, at)

    def upper(self, u: Tensor) -> Tensor:
        return self.base.upper(u)

    def upper_gradient(self, u: Tensor) -> Tensor:
        return self.base.upper_gradient(u)

    def mixed(self, k: int, u: Tensor, at: Parts) -> Tensor:
        """The aggregated point before the projection."""
        v_u = u - self.sizes[k - 1] * at["inverse"] * self.base.upper_gradient(u)
        return self.mu * v_u + (1 - self.mu) * self.base.map(u, at)

    def step(self, k: int, u: Tensor, at: Parts) -> Tensor:
        u = self.mixed(k, u, at)
        if math.isfinite(self.half):
            u = u.clamp(-self.half, self.half)
        return (self.u0 + k * u) / (k + 1) if self.anchored else u
