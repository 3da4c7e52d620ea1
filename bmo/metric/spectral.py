r"""Fourier multipliers on images as metrics.

Book: chapter 2, "Metrics".
"""

from __future__ import annotations

import torch
from torch import Tensor

from bmo.errors import MetricError
from bmo.metric.base import require_positive
from bmo.metric.multiplier import Multiplier


class Spectral(Multiplier):
    r""":math:`H = F^* \mathrm{diag}(h) F` on images: a circular convolution with a positive symbol.

    Args:
        symbol: :math:`h`, shape (H, W) or (C, H, W): real, positive and even
            (:math:`h(-\xi) = h(\xi)`), in the order of :func:`torch.fft.fft2`.

    Raises:
        MetricError: The symbol is not positive, or not even (then :math:`Hu` would not be real).

    Example:
        >>> import torch, bmo
        >>> H = bmo.metric.Spectral(torch.full((4, 4), 2.0))
        >>> bool(torch.allclose(H.apply(torch.ones(1, 4, 4)), 2 * torch.ones(1, 4, 4)))
        True
    """

    def __init__(self, symbol: Tensor) -> None:
        require_positive(symbol, "symbol")
        mirrored = symbol.flip(-2, -1).roll((1, 1), (-2, -1))
        gap = float((symbol - mirrored).detach().abs().max())
        if gap > 1e3 * torch.finfo(symbol.dtype).eps * float(symbol.detach().max()):
            raise MetricError(
                "an even symbol, h(-xi) = h(xi)", f"asymmetry {gap:.3g}", "symmetrise it", symbol
            )
        self.symbol = symbol
        self.size = int(symbol.shape[-1])

    def _sides(self) -> tuple[int, int]:
        return int(self.symbol.shape[-2]), self.size

    def _half(self) -> Tensor:
        return self.symbol[..., : self.size // 2 + 1]

    def bounds(self) -> tuple[float, float]:
        return float(self.symbol.detach().min()), float(self.symbol.detach().max())

    def event_shape(self) -> tuple[int, ...]:
        return (1,) * (3 - self.symbol.dim()) + tuple(self.symbol.shape)
