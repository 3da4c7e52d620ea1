r"""The learned weight :math:`p(\xi) > 0` of a data step: a number, or a spectrum for every size.

Book: chapter 11, "The steps and their metrics".
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from bmo.errors import ConditionError, DomainError, ShapeError

#: The noise level at which an exponent of sigma counts nothing: between 1 % and 3 %.
REFERENCE = 0.02


def radius(shape: tuple[int, int], like: Tensor) -> Tensor:
    r"""The radius of a frequency, :math:`\sqrt{\tfrac12(\sin^2\pi\xi_1 + \sin^2\pi\xi_2)}`.

    It is 0 for a constant image and 1 for a chessboard, even and periodic in :math:`\xi`, and
    knows no image size: :math:`\xi_1 = m/H`, :math:`\xi_2 = n/W`.

    Args:
        shape: Height and width (H, W) of the image.
        like: A tensor whose dtype and device are taken.

    Returns:
        Shape (1, H, W//2 + 1), in the order of :func:`torch.fft.rfft2`.

    Example:
        >>> radius((2, 2), torch.zeros(()))[0, 1, 1]
        tensor(1.)
    """
    rows = torch.fft.fftfreq(shape[0], dtype=like.dtype, device=like.device)
    columns = torch.fft.rfftfreq(shape[1], dtype=like.dtype, device=like.device)
    down, right = (torch.sin(math.pi * xi) ** 2 for xi in (rows, columns))
    return ((down[:, None] + right[None, :]) / 2).clamp_max(1.0).sqrt()[None]


class FourierWeight(nn.Module):
    r"""A positive even function of frequency, learned; it is valid for images of every size.

    .. math::
        \log p(\xi, \sigma) = l + (h - l)\,S\Big(\sum_j\varphi_j(\rho(\xi))
            \big(z_j + e_j\log\tfrac{\sigma}{0.02}\big)\Big)

    S is the sigmoid, so :math:`e^l < p < e^h` for every value of the parameters z and e. The
    :math:`\varphi_j` are the hat functions of equidistant knots on [0, 1]: between knots the sum is
    linear in the :func:`radius`. One knot is one number. Book: chapter 11.

    Args:
        value: Where p starts: one number, or one for each knot.
        knots: Number of knots J >= 1.
        per_sigma: Learn the exponents e too (they start at 0).
        low: :math:`e^l`.
        high: :math:`e^h`.

    Raises:
        ConditionError: No knot.
        ShapeError: Another number of start values than knots.
        DomainError: A start value outside (low, high).

    Example:
        >>> p = FourierWeight(0.1)
        >>> round(float(p((8, 8), torch.zeros(())).detach()), 6)
        0.1
        >>> FourierWeight(0.1, knots=5)((8, 6), torch.zeros(())).shape
        torch.Size([1, 8, 4])
    """

    def __init__(
        self,
        value: float | Tensor = 0.1,
        knots: int = 1,
        per_sigma: bool = False,
        low: float = 1e-6,
        high: float = 1e3,
    ) -> None:
        super().__init__()
        if knots < 1:
            raise ConditionError("at least one knot", f"{knots}", "1 is one number", knots)
        start = torch.as_tensor(value, dtype=torch.float64).detach()
        if start.numel() not in (1, knots):
            raise ShapeError(
                f"one start value, or {knots}", f"{start.numel()}", "one for each knot", start
            )
        if not bool(((start > low) & (start < high)).all()) or not 0 < low < high:
            raise DomainError(
                f"start values in ({low:g}, {high:g})",
                f"{float(start.min()):g} .. {float(start.max()):g}",
                "start inside the range",
                start,
            )
        self.knots, self.low, self.span = knots, math.log(low), math.log(high / low)
        raw = torch.logit((start.log() - self.low) / self.span).expand(knots)
        self.raw = nn.Parameter(raw.to(torch.get_default_dtype()).clone())
        self.exponent = nn.Parameter(torch.zeros_like(self.raw)) if per_sigma else None

    def forward(self, shape: tuple[int, int], like: Tensor, sigma: Tensor | None = None) -> Tensor:
        r""":math:`p` on the frequencies of an image.

        Args:
            shape: Height and width (H, W) of the image.
            like: A tensor whose dtype and device are taken.
            sigma: Noise level, shape (B, 1, 1, 1) or (1, 1, 1); needed with ``per_sigma``.

        Returns:
            Shape (1, 1, 1) for one number, (1, H, W//2 + 1) for a spectrum; with ``per_sigma``
            the axes of ``sigma`` before the last three come in front.

        Raises:
            ConditionError: ``per_sigma`` without ``sigma``.
        """
        raw = self.raw.to(like)
        if self.exponent is not None:
            if sigma is None:
                raise ConditionError(
                    "a noise level", "none", "bind(sigma=...), or learn no exponent"
                )
            raw = raw + self.exponent.to(like) * (sigma.to(like) / REFERENCE).log()
        else:
            raw = raw.reshape(1, 1, -1)
        return (self.low + self.span * torch.sigmoid(self._between(raw, shape))).exp()

    def _between(self, raw: Tensor, shape: tuple[int, int]) -> Tensor:
        """Values of the knots (..., 1, 1, J), linear in the radius between them."""
        if self.knots == 1:
            return raw
        at = radius(shape, raw) * (self.knots - 1)
        left = at.floor().long().clamp_max(self.knots - 2)
        share = at - left
        return raw[..., 0, 0, :][..., left] * (1 - share) + raw[..., 0, 0, :][..., left + 1] * share
