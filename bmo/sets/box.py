"""Boxes and the nonnegative orthant: projected coordinate by coordinate."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bmo.errors import DomainError
from bmo.metric import exact
from bmo.sets.base import Set


class Box(Set):
    r""":math:`\{u : \text{low} \le u \le \text{high}\}`, entry by entry; infinite ends are allowed.

    Args:
        low: Lower ends (number, or tensor that broadcasts against a point).
        high: Upper ends.

    Raises:
        DomainError: Some lower end is above its upper end, or an end is NaN.

    Example:
        >>> import torch, bmo
        >>> bmo.sets.Box(-1.0, 1.0).project(torch.tensor([3.0, 0.5]), bmo.metric.Identity())
        tensor([1.0000, 0.5000])
    """

    def __init__(self, low: float | Tensor, high: float | Tensor) -> None:
        self.low, self.high = exact(low), exact(high)
        if not bool((self.low <= self.high).all()):
            raise DomainError("low <= high in every entry", f"{low}, {high}", "swap the ends")

    def nearest(self, u: Tensor) -> Tensor:
        return torch.clamp(u, self.low.to(u), self.high.to(u))

    def contains(self, u: Tensor, tol: float = 1e-9) -> Tensor:
        return ((u >= self.low.to(u) - tol) & (u <= self.high.to(u) + tol)).all(-1)

    def diagonal(self, u: Tensor, weights: Tensor) -> Tensor:
        return self.nearest(u)  # separable, so the weights do not matter


class Nonnegative(Box):
    r"""The nonnegative orthant :math:`\{u : u \ge 0\}`.

    Example:
        >>> import torch, bmo
        >>> bmo.sets.Nonnegative().project(torch.tensor([-1.0, 2.0]), bmo.metric.Identity())
        tensor([0., 2.])
    """

    def __init__(self) -> None:
        super().__init__(0.0, math.inf)
