"""What Fourier multipliers on images share, however their symbol is given."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from bmo.errors import MetricError
from bmo.metric.base import Metric


class Multiplier(Metric):
    r""":math:`H = F^* \mathrm{diag}(h) F` on images of one size.

    Subclasses give the sides of an image and :math:`h` on the half spectrum of
    :func:`torch.fft.rfft2`.
    """

    event_dims = 3
    size: int

    @abstractmethod
    def _sides(self) -> tuple[int, int]:
        """Height and width."""

    @abstractmethod
    def _half(self) -> Tensor:
        """The symbol on the half spectrum, shape (..., H, W//2 + 1)."""

    def _multiply(self, u: Tensor, power: float) -> Tensor:
        sides = self._sides()
        if u.shape[-2:] != sides:
            raise MetricError(
                f"images of {sides}",
                f"shape {tuple(u.shape)}",
                "build the metric for this image size",
                u,
            )
        return torch.fft.irfft2(torch.fft.rfft2(u) * self._half().to(u) ** power, s=sides)

    def apply(self, u: Tensor) -> Tensor:
        return self._multiply(u, 1.0)

    def solve(self, u: Tensor) -> Tensor:
        return self._multiply(u, -1.0)

    def factor(self, u: Tensor) -> Tensor:
        return self._multiply(u, 0.5)

    def unfactor(self, u: Tensor) -> Tensor:
        return self._multiply(u, -0.5)
