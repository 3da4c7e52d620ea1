r"""One operator in another guise: in another metric, or without its averaging."""

from __future__ import annotations

from torch import Tensor

from bmo.errors import ConditionError, MetricError
from bmo.metric import Metric
from bmo.operators.base import Operator


class Conjugate(Operator):
    r"""A Euclidean nonexpansive map carried into a metric.

    It is :math:`R^{-1} \circ N \circ R` with :math:`H = R^\top R`:
    :math:`\|R^{-1}N(Ru) - R^{-1}N(Rv)\|_H = \|N(Ru) - N(Rv)\| \le \|Ru - Rv\| = \|u - v\|_H`.
    Book: chapter 4, "Steps with networks".

    Args:
        operator: Nonexpansive in the Euclidean metric.
        metric: A metric, or an operator whose metric is followed while it is learned.

    Raises:
        MetricError: The operator is not claimed in the Euclidean metric.

    Example:
        >>> import torch, bmo
        >>> N = bmo.operators.Lambda(lambda u: u.flip(-1), bmo.metric.Identity())
        >>> D = bmo.operators.Conjugate(N, bmo.metric.Diagonal(torch.tensor([1.0, 4.0])))
        >>> D(torch.tensor([1.0, 0.0]))
        tensor([0.0000, 0.5000])
    """

    def __init__(self, operator: Operator, metric: Metric | Operator) -> None:
        super().__init__()
        weights = operator.metric.weights()
        if weights is None or weights.numel() != 1:
            raise MetricError(
                "an operator nonexpansive in a multiple of the identity",
                type(operator.metric).__name__,
                "conjugate the Euclidean network itself",
            )
        self.operator = operator
        self.certified = operator.certified
        self._metric = metric

    @property
    def metric(self) -> Metric:
        return self._metric.metric if isinstance(self._metric, Operator) else self._metric

    @property
    def averaged(self) -> float:
        return self.operator.averaged

    def forward(self, u: Tensor) -> Tensor:
        metric = self.metric
        return metric.unfactor(self.operator(metric.factor(u)))


class Unrelaxed(Operator):
    r"""The nonexpansive :math:`N = I + (F - I)/a` inside an a-averaged :math:`F`.

    ``GKM(Unrelaxed(F), alpha=F.averaged)`` is :math:`F` itself: this is how undamped methods
    (ISTA, say) are special cases of the scheme. Book: chapter 4.

    Args:
        operator: An averaged operator.

    Raises:
        ConditionError: The operator is nonexpansive only (a = 1), so there is nothing to undo.

    Example:
        >>> import torch, bmo
        >>> F = bmo.operators.Lambda(lambda u: 0 * u, bmo.metric.Identity(), averaged=0.5)
        >>> bmo.operators.Unrelaxed(F)(torch.ones(1))
        tensor([-1.])
    """

    def __init__(self, operator: Operator) -> None:
        super().__init__()
        if operator.averaged >= 1:
            raise ConditionError(
                "an averaged operator (a < 1)", "a = 1", "use GKM(D, alpha) with D"
            )
        self.operator = operator
        self.certified = operator.certified

    @property
    def metric(self) -> Metric:
        return self.operator.metric

    def forward(self, u: Tensor) -> Tensor:
        return u + (self.operator(u) - u) / self.operator.averaged
