r"""Gradient and proximal gradient steps, :math:`D = \mathrm{prox}^P_g(I - P^{-1}\nabla f)`.

Book: chapter 4, Lemma FB. With :math:`\nabla^2 f \preceq 2\delta P`, :math:`\delta \in [0, 1]`,
the step is :math:`1/(2-\delta)`-averaged in :math:`P`; at :math:`\delta = 1` it is nonexpansive,
beyond it expands.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from bmo.errors import ConditionError
from bmo.kernels import ForwardBackward, Kernel, LossStep
from bmo.metric import Metric, Scaled, exact
from bmo.operators.base import Operator, Piece
from bmo.prox import L1, NonnegativeL1, Prox, Zero
from bmo.smooth import Gradient, LeastSquares, Quadratic, Ridge, Smooth, Sum


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
        metric: :math:`P` itself, instead of ``step``; condition :math:`\nabla^2 f \preceq 2P`. A
            module that returns a metric is learned with the operator; then the condition is checked
            for its first value, and it is the module's part to keep it.
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
        metric: Metric | nn.Module | None = None,
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
            require_delta(forward_backward_delta(smooth, self.metric), "proximal gradient")

    @property
    def metric(self) -> Metric:
        found = self._metric
        return cast(Metric, found()) if isinstance(found, nn.Module) else found

    @property
    def averaged(self) -> float:
        return min(1.0, 1 / (2 - min(1.0, forward_backward_delta(self.smooth, self.metric))))

    def forward(self, u: Tensor) -> Tensor:
        metric = self.metric
        return self.prior(u - metric.solve(self.smooth(u)), metric)

    def _family(self) -> tuple[LeastSquares | Quadratic, Tensor | None] | None:
        """The quadratic part of f and a ridge weight, where the step is of the lasso family."""
        smooth, ridge = self.smooth, None
        if isinstance(smooth, Sum) and [type(f) for f in smooth.parts[1:]] == [Ridge]:
            first, second = smooth.parts
            smooth, ridge = cast(Smooth, first), cast(Ridge, second).weight()
        known = type(self.prior) in (Zero, L1, NonnegativeL1) and self.metric.weights() is not None
        if not known or not isinstance(smooth, (LeastSquares, Quadratic)):
            return None
        return smooth, ridge

    def kernel(self) -> Kernel | None:
        weights = self.metric.weights()
        if weights is None or type(self.prior) not in (Zero, L1, NonnegativeL1):
            return None
        threshold = self.prior.threshold() / weights if isinstance(self.prior, L1) else None
        positive, family = isinstance(self.prior, NonnegativeL1), self._family()
        if family is None:
            if type(self.smooth) is not Gradient:
                return None
            learned = [w for w in self.smooth.parameters() if w.requires_grad]
            return LossStep(self.smooth, learned, weights, threshold, positive)
        smooth, ridge = family
        matrix, data = quadratic_data(smooth)
        if matrix.requires_grad:
            return None
        given = (None if t is None else t.to(matrix) for t in (ridge, weights, threshold))
        ridge, weights, threshold = given
        thin = isinstance(smooth, LeastSquares)
        return ForwardBackward(
            matrix, data, ridge, cast(Tensor, weights), threshold, thin, positive
        )

    def piece(self, u: Tensor) -> Piece | None:
        family, weights = self._family(), self.metric.weights()
        if family is None or weights is None:
            return None
        smooth, ridge = family
        matrix, _ = quadratic_data(smooth)
        gram = matrix.mT @ matrix if isinstance(smooth, LeastSquares) else matrix
        if ridge is not None:
            gram = gram + torch.diag(ridge.to(gram).expand(len(gram)))
        out = self(u)
        everywhere = isinstance(self.prior, Zero)
        active = torch.ones_like(out, dtype=torch.bool) if everywhere else out != 0
        return Piece(active, weights.to(gram), gram)


def quadratic_data(smooth: LeastSquares | Quadratic) -> tuple[Tensor, Tensor]:
    """Matrix and data of a quadratic function: A and b, or Q and c."""
    if isinstance(smooth, LeastSquares):
        return smooth.A, smooth.b
    return smooth.Q, smooth.c
