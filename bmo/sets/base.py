"""What every set U offers: membership, the nearest point, the projection in a metric."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from bmo.metric import Metric
from bmo.sets.numerical import project_numerically


class Set(ABC):
    """A nonempty closed convex set of points (last axis = coordinates, earlier axes = batch).

    An example: :class:`bmo.sets.Box`.
    """

    @abstractmethod
    def nearest(self, u: Tensor) -> Tensor:
        """The Euclidean projection."""

    @abstractmethod
    def contains(self, u: Tensor, tol: float = 1e-9) -> Tensor:
        """For each point, whether it lies in the set up to ``tol``: bool of batch shape."""

    def diagonal(self, u: Tensor, weights: Tensor) -> Tensor | None:
        """The projection in a diagonal metric if it has a closed form, else ``None``."""
        return self.nearest(u) if weights.numel() == 1 else None

    def project(self, u: Tensor, metric: Metric, tol: float = 1e-10) -> Tensor:
        r""":math:`\mathrm{Proj}_{U,H}(u)`, shape of ``u``; differentiable in ``u`` and :math:`H`.

        Args:
            u: Points, shape (..., n).
            metric: :math:`H`.
            tol: Relative accuracy of the iterative solver, where no closed form exists.

        Raises:
            MetricError: The metric has another size, or the solver did not reach ``tol``.
        """
        metric.check(u)
        weights = metric.weights()
        if weights is not None:
            closed = self.diagonal(u, weights.to(u))
            if closed is not None:
                return closed
        if bool(self.contains(u, 0.0).all()):
            return u
        return project_numerically(self.nearest, u, metric, tol)


class Whole(Set):
    """All of space; every projection is the identity.

    Example:
        >>> import torch, bmo
        >>> bmo.sets.Whole().project(torch.tensor([9.0]), bmo.metric.Identity())
        tensor([9.])
    """

    def nearest(self, u: Tensor) -> Tensor:
        return u

    def contains(self, u: Tensor, tol: float = 1e-9) -> Tensor:
        return torch.isfinite(u).all(-1)

    def project(self, u: Tensor, metric: Metric, tol: float = 1e-10) -> Tensor:
        return u
