r"""Learned numbers that stay in their range for every raw value an optimizer may reach.

Book: chapter 4, "Feasible by construction".
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from bmo.errors import DomainError, as_numbers

__all__ = ["Interval", "Positive"]


def _as_float(value: float | Tensor) -> Tensor:
    tensor = as_numbers(value).detach().clone()
    return tensor if tensor.is_floating_point() else tensor.to(torch.get_default_dtype())


def inverse_softplus(y: Tensor) -> Tensor:
    r"""The :math:`x` with :math:`\log(1 + e^x) = y`, stable for small and large :math:`y > 0`."""
    # torch's softplus is the identity above 20
    return torch.where(y > 20, y, y + torch.log(-torch.expm1(-y)))


class Positive(nn.Module):
    r"""A positive tensor, :math:`\text{low} + \epsilon + \log(1 + e^{\text{raw}})`.

    The :math:`\epsilon` (1e-19 in float32, 1e-154 in float64) keeps the value and its inverse
    finite and positive where the exponential of a very negative raw value is zero.

    Args:
        value: Initial value, every entry > ``low``.
        low: Lower limit (>= 0).

    Raises:
        DomainError: An initial entry is not finite or not above ``low``.

    Example:
        >>> import torch
        >>> from bmo.parameters import Positive
        >>> Positive(torch.tensor(0.5, dtype=torch.float64))().item()
        0.5
    """

    def __init__(self, value: float | Tensor, low: float = 0.0) -> None:
        super().__init__()
        start = _as_float(value)
        self.low = low
        self.floor = torch.finfo(start.dtype).tiny ** 0.5
        above = start - low - self.floor
        if not bool((torch.isfinite(start) & (above > 0)).all()):
            raise DomainError(
                f"initial values finite and > {low}",
                f"{float(start.min())} .. {float(start.max())}",
                "start inside the range",
                start,
            )
        self.raw = nn.Parameter(inverse_softplus(above))

    def forward(self) -> Tensor:
        """The current value, same shape as the initial one."""
        return self.low + (self.floor + nn.functional.softplus(self.raw))


class Interval(nn.Module):
    r"""A tensor with entries between ``low`` and ``high``: a scaled sigmoid of a raw parameter.

    Args:
        value: Initial value, strictly inside.
        low: Lower end.
        high: Upper end.

    Raises:
        DomainError: ``low >= high``, or an initial entry is not strictly inside.

    Example:
        >>> import torch
        >>> from bmo.parameters import Interval
        >>> step = Interval(torch.tensor(0.3), 0.0, 2.0)
        >>> round(step().item(), 6)
        0.3
    """

    def __init__(self, value: float | Tensor, low: float, high: float) -> None:
        super().__init__()
        start = _as_float(value)
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise DomainError("low < high, both finite", f"{low}, {high}", "swap or widen them")
        inside = (start > low) & (start < high)
        if not bool(inside.all()):
            raise DomainError(
                f"initial values in the open interval ({low}, {high})",
                f"{float(start.min())} .. {float(start.max())}",
                "start inside the range",
                start,
            )
        self.low, self.high = low, high
        self.raw = nn.Parameter(torch.logit((start - low) / (high - low)))

    def forward(self) -> Tensor:
        """The current value, same shape as the initial one."""
        return self.low + (self.high - self.low) * torch.sigmoid(self.raw)
