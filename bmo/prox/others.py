"""Functions made from a set, and from another function."""

from __future__ import annotations

import torch
from torch import Tensor

from bmo.errors import DomainError
from bmo.metric import Diagonal, Metric, Scaled
from bmo.prox.base import Prox, diagonal_weights
from bmo.sets import Set


class Indicator(Prox):
    r""":math:`g(u) = 0` on a set, :math:`+\infty` outside.

    The proximal operator is the projection in the metric.

    Args:
        domain: A set of :mod:`bmo.sets`.

    Example:
        >>> import torch, bmo
        >>> bmo.prox.Indicator(bmo.sets.Box(0.0, 1.0))(torch.tensor([2.0]), bmo.metric.Identity())
        tensor([1.])
    """

    def __init__(self, domain: Set) -> None:
        super().__init__()
        self.domain = domain

    def value(self, u: Tensor) -> Tensor:
        return torch.where(self.domain.contains(u), 0.0, torch.inf).to(u)

    def forward(self, u: Tensor, metric: Metric) -> Tensor:
        return self.domain.project(u, metric)


class Conjugate(Prox):
    r"""The convex conjugate :math:`g^*`, by Moreau's identity in the metric.

    .. math:: \mathrm{prox}^H_{g^*}(u) = u - H^{-1}\,\mathrm{prox}^{H^{-1}}_g(Hu)

    Args:
        function: :math:`g`; its proximal operator must accept the inverse metric (diagonal here).

    Example:
        >>> import torch, bmo
        >>> g = bmo.prox.Conjugate(bmo.prox.L1(1.0))  # the indicator of |u| <= 1
        >>> g(torch.tensor([3.0, 0.5]), bmo.metric.Identity())
        tensor([1.0000, 0.5000])
    """

    def __init__(self, function: Prox) -> None:
        super().__init__()
        self.function = function

    def value(self, u: Tensor) -> Tensor:
        raise DomainError(
            "a function whose conjugate has a closed form",
            type(self.function).__name__,
            "evaluate the primal function and use the Fenchel inequality",
        )

    def forward(self, u: Tensor, metric: Metric) -> Tensor:
        d = diagonal_weights(metric, "a conjugate").to(u)
        return u - self.function(d * u, inverse_diagonal(metric)) / d


def inverse_diagonal(metric: Metric) -> Metric:
    """The metric :math:`H^{-1}` of a diagonal :math:`H`."""
    d = diagonal_weights(metric, "a conjugate")
    if d.dim() == 0:
        return Scaled(1 / d, metric.event_dims, check=False)
    return Diagonal(1 / d, metric.event_dims, check=False)
