"""What every function with a proximal operator is, and its numbers: learned or fixed."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from bmo.errors import DomainError, MetricError
from bmo.metric import Metric, exact
from bmo.parameters import Positive


class Prox(nn.Module, ABC):
    r"""A convex function :math:`g`; calling it computes :math:`\mathrm{prox}^H_g(u)`.

    Subclasses give ``value(u)`` (one number for each point) and ``forward(u, metric)``.

    An example: :class:`bmo.prox.L1`.
    """

    @abstractmethod
    def value(self, u: Tensor) -> Tensor:
        """:math:`g(u)`, shape = batch shape (last axis summed)."""

    @abstractmethod
    def forward(self, u: Tensor, metric: Metric) -> Tensor:
        r""":math:`\mathrm{prox}^H_g(u)`, same shape as ``u``."""


class Zero(Prox):
    r""":math:`g = 0`; the proximal operator is the identity in every metric.

    Example:
        >>> import torch, bmo
        >>> bmo.prox.Zero()(torch.ones(2), bmo.metric.Identity())
        tensor([1., 1.])
    """

    def value(self, u: Tensor) -> Tensor:
        return u.new_zeros(u.shape[:-1])

    def forward(self, u: Tensor, metric: Metric) -> Tensor:
        return u


def diagonal_weights(metric: Metric, name: str) -> Tensor:
    """The diagonal of the metric, or a :class:`~bmo.errors.MetricError` that names the function."""
    weights = metric.weights()
    if weights is None:
        raise MetricError(
            f"a diagonal metric for the proximal operator of {name}",
            type(metric).__name__,
            "use Scaled or Diagonal, or split the function off (PDHG, ADMM)",
            metric,
        )
    return weights


def threshold_parameter(value: float | Tensor, learn: bool) -> nn.Module:
    """A positive threshold: learned (softplus) or fixed."""
    start = exact(value)
    if not bool((start > 0).all()):
        raise DomainError(
            "a threshold > 0", f"{float(start.min())}", "use Zero for no penalty", value
        )
    return Positive(value) if learn else Fixed(start)


class Fixed(nn.Module):
    """A value that is not learned; moves with the module and is saved with it."""

    def __init__(self, value: float | Tensor) -> None:
        super().__init__()
        self.register_buffer("fixed", exact(value).detach().clone())

        self.fixed: Tensor

    def forward(self) -> Tensor:
        """The value."""
        return self.fixed
