"""Norms whose proximal operator is a formula in a diagonal metric."""

from __future__ import annotations

import torch
from torch import Tensor

from bmo.errors import MetricError, ShapeError, require_whole
from bmo.metric import Metric
from bmo.prox.base import Fixed, Prox, diagonal_weights, threshold_parameter


def soft(u: Tensor, threshold: Tensor | float) -> Tensor:
    r"""Soft thresholding, :math:`\mathrm{sign}(u)\max(|u| - \theta, 0)`, entry by entry.

    Example:
        >>> import torch
        >>> from bmo.prox import soft
        >>> soft(torch.tensor([3.0, -0.5]), 1.0)
        tensor([2., -0.])
    """
    return torch.sign(u) * torch.relu(u.abs() - threshold)


class L1(Prox):
    r""":math:`g(u) = \sum_i \lambda_i |u_i|`.

    The thresholds are :math:`\lambda_i / d_i` in :math:`H = \mathrm{diag}(d)`.

    Args:
        threshold: :math:`\lambda > 0`, one number or one for each coordinate.
        learn: Make it part of omega (kept positive for every raw value).

    Raises:
        DomainError: A threshold is not positive.
        MetricError: The metric is not diagonal.

    Example:
        >>> import torch, bmo
        >>> g = bmo.prox.L1(1.0)
        >>> g(torch.tensor([3.0, -0.2]), bmo.metric.Scaled(2.0))
        tensor([2.5000, -0.0000])
    """

    def __init__(self, threshold: float | Tensor, learn: bool = False) -> None:
        super().__init__()
        self.threshold = threshold_parameter(threshold, learn)

    def value(self, u: Tensor) -> Tensor:
        return (self.threshold().to(u) * u.abs()).sum(-1)

    def forward(self, u: Tensor, metric: Metric) -> Tensor:
        return soft(u, self.threshold().to(u) / diagonal_weights(metric, "L1").to(u))


class NonnegativeL1(L1):
    r""":math:`g(u) = \sum_i \lambda_i u_i` for :math:`u \ge 0`, and :math:`+\infty` otherwise.

    Example:
        >>> import torch, bmo
        >>> bmo.prox.NonnegativeL1(1.0)(torch.tensor([3.0, -4.0]), bmo.metric.Identity())
        tensor([2., 0.])
    """

    def value(self, u: Tensor) -> Tensor:
        inside = (u >= 0).all(-1)
        return torch.where(inside, super().value(u), torch.inf)

    def forward(self, u: Tensor, metric: Metric) -> Tensor:
        return torch.relu(u - self.threshold().to(u) / diagonal_weights(metric, "L1").to(u))


class GroupL1(Prox):
    r""":math:`g(u) = \sum_j \lambda_j \|u_{G_j}\|_2` over consecutive groups of equal size.

    Args:
        threshold: :math:`\lambda > 0`, one number or one for each group.
        group: Size of a group; divides the size of a point.
        learn: Make the threshold part of omega.

    Raises:
        DomainError: A threshold is not positive, or the group is empty.
        ShapeError: The group does not divide the size of a point, or there are more or fewer
            thresholds than groups.
        MetricError: The metric is not a multiple of the identity.

    Example:
        >>> import torch, bmo
        >>> bmo.prox.GroupL1(5.0, group=2)(torch.tensor([6.0, 8.0]), bmo.metric.Identity())
        tensor([3., 4.])
    """

    def __init__(self, threshold: float | Tensor, group: int, learn: bool = False) -> None:
        super().__init__()
        self.threshold = threshold_parameter(threshold, learn)
        self.group = require_whole("group", group, 1)

    def _grouped(self, u: Tensor) -> Tensor:
        if u.shape[-1] % self.group:
            raise ShapeError(
                f"points of a length that {self.group} divides",
                f"shape {tuple(u.shape)}",
                "choose another group",
                u,
            )
        return u.reshape(*u.shape[:-1], -1, self.group)

    def _thresholds(self, groups: Tensor) -> Tensor:
        """One threshold, or one for each of the groups, shape (..., groups, size)."""
        found: Tensor = self.threshold().to(groups)
        if found.numel() != 1 and found.shape != groups.shape[-2:-1]:
            raise ShapeError(
                f"one threshold, or one for each of {groups.shape[-2]} groups",
                f"shape {tuple(found.shape)}",
                "give as many as there are groups, in their order",
                found,
            )
        return found

    def value(self, u: Tensor) -> Tensor:
        groups = self._grouped(u)
        return (self._thresholds(groups) * groups.norm(dim=-1)).sum(-1)

    def forward(self, u: Tensor, metric: Metric) -> Tensor:
        weight = diagonal_weights(metric, "GroupL1")
        if weight.numel() != 1:
            raise MetricError("a multiple of the identity", "a diagonal metric", "use Scaled")
        groups = self._grouped(u)
        length = groups.norm(dim=-1, keepdim=True)
        cut = (self._thresholds(groups) / weight.to(u))[..., None]
        tiny = torch.finfo(u.dtype).tiny
        return (groups * torch.relu(1 - cut / length.clamp_min(tiny))).reshape(u.shape)


class SquaredL2(Prox):
    r""":math:`g(u) = \tfrac{\lambda}{2}\|u - c\|^2`; solved entry by entry in a diagonal metric.

    Args:
        weight: :math:`\lambda > 0`.
        center: :math:`c`, broadcasts against a point.
        learn: Make the weight part of omega.

    Example:
        >>> import torch, bmo
        >>> bmo.prox.SquaredL2(1.0)(torch.tensor([4.0]), bmo.metric.Identity())
        tensor([2.])
    """

    def __init__(
        self, weight: float | Tensor, center: Tensor | float = 0.0, learn: bool = False
    ) -> None:
        super().__init__()
        self.weight = threshold_parameter(weight, learn)
        self.center = Fixed(center)

    def value(self, u: Tensor) -> Tensor:
        return (self.weight().to(u) / 2 * (u - self.center().to(u)) ** 2).sum(-1)

    def forward(self, u: Tensor, metric: Metric) -> Tensor:
        d, w = diagonal_weights(metric, "SquaredL2").to(u), self.weight().to(u)
        return (d * u + w * self.center().to(u)) / (d + w)
