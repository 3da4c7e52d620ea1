r"""Wiener deconvolution: the best linear restorer when the image's spectrum is known."""

from __future__ import annotations

import torch
from torch import Tensor

from bmo.baselines.restoration.base import Restorer, require_positive, solve


class Wiener(Restorer):
    r"""The Wiener filter for an image with power spectrum S.

    .. math:: \hat u(f) = \frac{\bar{\hat k}(f)\,\hat b(f)}{|\hat k(f)|^2 + \sigma^2/S(f)},
              \qquad S(f) = c\,|f|^{-\gamma}

    f is the frequency in cycles per pixel; :math:`S(0) = \infty`, the mean is kept, unless
    :math:`\gamma = 0`, where the spectrum is constant. Class UNH.

    Args:
        power: :math:`c > 0`: what :math:`|\hat u(f)|^2/(HW)` is on average at :math:`|f| = 1`.
        decay: :math:`\gamma \ge 0`.

    Raises:
        DomainError: Not c > 0, or :math:`\gamma < 0`.

    Source: Wiener, "Extrapolation, Interpolation, and Smoothing of Stationary Time Series", 1949.

    Example:
        >>> delta = torch.ones(4, 3) + 0j
        >>> Wiener(power=1.0, decay=0.0).restore(torch.ones(1, 1, 4, 4), delta, 1.0)[0, 0, 0]
        tensor([0.5000, 0.5000, 0.5000, 0.5000])
    """

    name = "unh-wiener"

    def __init__(self, power: float = 2.2e-4, decay: float = 2.49) -> None:
        super().__init__()
        require_positive(power=power)
        if decay != 0:
            require_positive(decay=decay)
        self.power, self.decay = power, decay

    def spectrum(self, b: Tensor) -> Tensor:
        """:math:`1/S` at the frequencies of an image, shape (H, W//2+1)."""
        return squared_frequency(b) ** (self.decay / 2) / self.power

    def forward(self, b: Tensor, symbol: Tensor, sigma: Tensor) -> Tensor:
        return solve(b, symbol, sigma**2 * self.spectrum(b))


def squared_frequency(b: Tensor) -> Tensor:
    r""":math:`|f|^2` in cycles per pixel, shape (H, W//2+1)."""
    h, w = b.shape[-2:]
    down = torch.fft.fftfreq(h, device=b.device).to(b.dtype)
    right = torch.fft.rfftfreq(w, device=b.device).to(b.dtype)
    return down[:, None].square() + right.square()


def fit_spectrum(images: list[Tensor]) -> tuple[float, float]:
    r"""The power law :math:`c|f|^{-\gamma}` through the mean spectrum of some images.

    The mean of S in rings of half an octave, and a line through their logarithms by least squares.

    Args:
        images: Images of one size, shape (C, H, W).

    Returns:
        :math:`(c, \gamma)`.

    Example:
        >>> noise = torch.randn(3, 64, 64, generator=torch.Generator().manual_seed(0))
        >>> c, decay = fit_spectrum([noise])
        >>> abs(c - 1) < 0.1, abs(decay) < 0.05
        (True, True)
    """
    whole = torch.stack(images).double()
    power = torch.fft.rfft2(whole).abs().square().mean((0, 1)) / whole[0, 0].numel()
    squared = squared_frequency(whole)
    inside = squared > 0
    octave = 0.5 * squared[inside].log2()
    ring = (2 * octave).round().long()
    ring, count = ring - ring.min(), torch.bincount(ring - ring.min())
    x = torch.bincount(ring, octave)[count > 0] / count[count > 0]
    y = (torch.bincount(ring, power[inside])[count > 0] / count[count > 0]).log2()
    across = x - x.mean()
    slope = (across * y).sum() / across.square().sum()
    return float(2 ** (y.mean() - slope * x.mean())), float(-slope)
