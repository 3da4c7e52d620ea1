r"""Gradient and proximal gradient steps, :math:`D = \mathrm{prox}^P_g(I - P^{-1}\nabla f)`.

Book: chapter 4, Lemma FB. With :math:`\nabla^2 f \preceq 2\delta P`, :math:`\delta \in [0, 1]`,
the step is :math:`1/(2-\delta)`-averaged in :math:`P`; at :math:`\delta = 1` it is nonexpansive,
beyond it expands.
"""

from __future__ import annotations

from typing import cast

from torch import Tensor

from bmo.errors import ConditionError
from bmo.metric import Metric, Scaled, exact
from bmo.operators.base import Operator
from bmo.prox import Prox, Zero
from bmo.smooth import Smooth


def forward_backward_delta(smooth: Smooth, metric: Metric) -> float:
    r"""The :math:`\delta` of Lemma FB: half the curvature of f in the metric.

    Example:
        >>> import torch, bmo
        >>> f = bmo.LeastSquares(torch.eye(2), torch.zeros(2))
        >>> bmo.operators.forward_backward_delta(f, bmo.metric.Scaled(0.5))
        1.0
    """
    return float(smooth.curvature(metric).detach()) / 2


def require_delta(delta: float, what: str, limit: float = 1.0) -> None:
    r"""Refuse :math:`\delta` above its limit; rounding of the curvature itself is allowed for."""
    if not delta <= limit * (1 + 1e-12):
        raise ConditionError(
            f"{what}: the gradient's curvature in the metric <= {2 * limit:g}",
            f"{2 * delta:.6g}",
            "shorten the step (enlarge the metric) by this ratio",
            delta,
        )


class ProximalGradient(Operator):
    r"""ISTA's step :math:`D(u) = \mathrm{prox}^P_g(u - P^{-1}\nabla f(u))`.

    Args:
        smooth: :math:`f`, with its curvature.
        prior: :math:`g` (``None`` for plain gradient descent).
        step: :math:`\tau`, for the metric :math:`P = \tau^{-1}I`; condition :math:`\tau \le 2/L`.
        metric: :math:`P` itself, instead of ``step``; condition :math:`\nabla^2 f \preceq 2P`.
        check: Refuse a violated condition. ``False`` exists to show what then happens.

    Raises:
        ConditionError: The condition is violated, or not exactly one of ``step`` and
            ``metric`` is given.

    Example:
        >>> import torch, bmo
        >>> f = bmo.LeastSquares(torch.eye(2), torch.tensor([3.0, 0.5]))
        >>> D = bmo.ProximalGradient(f, bmo.prox.L1(1.0), step=1.0)
        >>> D(torch.zeros(2))
        tensor([2., 0.])
    """

    def __init__(
        self,
        smooth: Smooth,
        prior: Prox | None = None,
        step: float | Tensor | None = None,
        metric: Metric | None = None,
        check: bool = True,
    ) -> None:
        super().__init__()
        if (step is None) == (metric is None):
            raise ConditionError(
                "either step or metric", "both or none", "give exactly one of them"
            )
        self.smooth = smooth
        self.prior = prior if prior is not None else Zero()
        self._metric = metric or Scaled(1 / exact(cast(Tensor, step)))
        self.certified = "checked" if check else "none"
        if check:
            require_delta(forward_backward_delta(smooth, self._metric), "proximal gradient")

    @property
    def metric(self) -> Metric:
        return self._metric

    @property
    def averaged(self) -> float:
        return min(1.0, 1 / (2 - min(1.0, forward_backward_delta(self.smooth, self._metric))))

    def forward(self, u: Tensor) -> Tensor:
        metric = self.metric
        return self.prior(u - metric.solve(self.smooth(u)), metric)
