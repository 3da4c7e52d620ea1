"""The Euclidean ball."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bmo.errors import DomainError, require_number
from bmo.metric import exact
from bmo.sets.base import Set


class Ball(Set):
    r"""The Euclidean ball :math:`\{u : |u - c| \le r\}`.

    Args:
        radius: :math:`r > 0`.
        center: :math:`c`, broadcasts against a point.

    Raises:
        DomainError: The radius is not finite and positive, or the centre is not finite.

    Example:
        >>> import torch, bmo
        >>> bmo.sets.Ball(1.0).project(torch.tensor([3.0, 4.0]), bmo.metric.Identity())
        tensor([0.6000, 0.8000])
    """

    def __init__(self, radius: float, center: float | Tensor = 0.0) -> None:
        if not 0 < require_number("radius", radius) < math.inf:
            raise DomainError("a radius > 0", f"{radius}", "use Whole for no bound", radius)
        self.radius, self.center = float(radius), exact(center)
        if not bool(torch.isfinite(self.center).all()):
            raise DomainError("a finite centre", "NaN or infinity", "0.0 is the origin", center)

    def nearest(self, u: Tensor) -> Tensor:
        offset = u - self.center.to(u)
        length = offset.norm(dim=-1, keepdim=True).clamp_min(self.radius)
        return torch.where(
            length > self.radius, self.center.to(u) + offset * self.radius / length, u
        )

    def contains(self, u: Tensor, tol: float = 1e-9) -> Tensor:
        return (u - self.center.to(u)).norm(dim=-1) <= self.radius + tol
