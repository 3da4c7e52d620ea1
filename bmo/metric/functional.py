r"""A metric that is known only by what it does to a point.

Book: chapter 2, "Metrics".
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from bmo.errors import MetricError
from bmo.metric.base import Metric


class Functional(Metric):
    r"""A metric given only by the function :math:`u \mapsto Hu`; solved by conjugate gradients.

    The function must be linear, symmetric and positive definite; symmetry and positivity are
    tested on random points by :func:`bmo.certify.metric_is_spd`, not here.

    Args:
        function: :math:`u \mapsto Hu` on batched points.
        lower: A lower bound on the spectrum, > 0.
        upper: An upper bound on the spectrum.
        event_dims: Trailing axes of one point.
        tol: Relative residual at which conjugate gradients stop.

    Raises:
        MetricError: The bounds are not ``0 < lower <= upper``, or the solve did not reach ``tol``.

    Example:
        >>> import torch, bmo
        >>> H = bmo.metric.Functional(lambda u: 2 * u, lower=2.0, upper=2.0)
        >>> H.solve(torch.ones(2))
        tensor([0.5000, 0.5000])
    """

    def __init__(
        self,
        function: Callable[[Tensor], Tensor],
        lower: float,
        upper: float,
        event_dims: int = 1,
        tol: float = 1e-12,
    ) -> None:
        if not 0 < lower <= upper < math.inf:
            raise MetricError("0 < lower <= upper", f"{lower}, {upper}", "bound the spectrum of H")
        self.function = function
        self.lower, self.upper, self.tol = lower, upper, tol
        self.event_dims = event_dims

    def apply(self, u: Tensor) -> Tensor:
        return self.function(u)

    def _sum(self, u: Tensor) -> Tensor:
        return u.sum(dim=tuple(range(-self.event_dims, 0)), keepdim=True)

    def solve(self, u: Tensor) -> Tensor:
        steps = int(20 + 4 * math.sqrt(self.upper / self.lower) * math.log(2 / self.tol))
        x = torch.zeros_like(u)
        r = p = u
        rho = start = self._sum(r * r)
        for _ in range(steps):
            if bool((rho <= self.tol**2 * start).all()):
                return x
            hp = self.function(p)
            step = rho / self._sum(p * hp).clamp_min(torch.finfo(u.dtype).tiny)
            x, r = x + step * p, r - step * hp
            new = self._sum(r * r)
            p = r + (new / rho.clamp_min(torch.finfo(u.dtype).tiny)) * p
            rho = new
        worst = float((rho / start.clamp_min(torch.finfo(u.dtype).tiny)).max().sqrt())
        raise MetricError(
            f"conjugate gradients to reach {self.tol:g}",
            f"relative residual {worst:.3g} after {steps} steps",
            "widen the bounds of the spectrum, loosen tol, or use a dense metric",
        )

    def factor(self, u: Tensor) -> Tensor:
        raise MetricError("a factor H = R^T R", "a metric known only as a function", "use norm()")

    unfactor = factor

    def norm(self, u: Tensor) -> Tensor:
        return self.inner(u, u).clamp_min(0).sqrt()

    def bounds(self) -> tuple[float, float]:
        return self.lower, self.upper
