r"""Fourier multipliers as metrics, from the half spectrum that real images need.

Book: chapter 2, "Metrics", and chapter 11.
"""

from __future__ import annotations

from torch import Tensor

from bmo.errors import MetricError
from bmo.metric.base import require_positive
from bmo.metric.multiplier import Multiplier


class HalfSpectral(Multiplier):
    r""":math:`H = F^* \mathrm{diag}(h) F` from the half spectrum of :func:`torch.fft.rfft2`.

    As :class:`~bmo.metric.Spectral`, but :math:`h` may differ from image to image of a batch, and
    is not searched for asymmetry: only half of it is given. In the first column and, for an even
    width, in the last one, :math:`h(-\xi)` is also there; whoever builds :math:`h` from even
    functions of the frequency has it even.

    Args:
        half: :math:`h > 0`, shape (..., 1, H, W//2 + 1); axes before these three are batch.
        width: W, which the half spectrum does not tell.
        check: Refuse a symbol that is not positive.

    Raises:
        MetricError: The symbol is not positive, or does not belong to this width.

    Example:
        >>> import torch, bmo
        >>> H = bmo.metric.HalfSpectral(torch.full((1, 4, 3), 4.0), width=4)
        >>> H.norm(torch.ones(1, 4, 4))
        tensor(8.)
    """

    def __init__(self, half: Tensor, width: int, check: bool = True) -> None:
        if half.dim() < 3 or half.shape[-1] != width // 2 + 1:
            raise MetricError(
                f"half a spectrum (..., 1, H, {width // 2 + 1}) for the width {width}",
                f"shape {tuple(half.shape)}",
                "take the order of torch.fft.rfft2",
                half,
            )
        if check:
            require_positive(half, "symbol")
        self.half, self.size = half, int(width)

    def _sides(self) -> tuple[int, int]:
        return int(self.half.shape[-2]), self.size

    def _half(self) -> Tensor:
        return self.half

    def bounds(self) -> tuple[float, float]:
        return float(self.half.detach().min()), float(self.half.detach().max())

    def event_shape(self) -> tuple[int, ...]:
        return (1, int(self.half.shape[-2]), self.size or 1)
