r"""Total variation deconvolution, by ADMM with exact Fourier solves."""

from __future__ import annotations

import torch
from torch import Tensor

from bmo.baselines.restoration.base import (
    Restorer,
    by_level,
    difference_symbols,
    multiply,
    require_positive,
    require_steps,
)


class TotalVariation(Restorer):
    r"""The minimiser of :math:`\tfrac12\|k*u - b\|^2 + \lambda(\sigma)\,\mathrm{TV}(u)`.

    .. math:: \mathrm{TV}(u) = \sum_x \Big(\sum_{c} |\nabla u_c(x)|^2\Big)^{1/2}

    isotropic, the colours coupled (``coupled=False``: one sum for each colour), with circular
    forward differences. ADMM splits :math:`w = \nabla u`:

    .. math::
        u &\leftarrow (K^\top K + \rho\nabla^\top\nabla)^{-1}(K^\top b + \rho\nabla^\top(w - y)) \\
        w &\leftarrow \mathrm{prox}_{(\lambda/\rho)\|\cdot\|_{2,1}}(\nabla u + y), \qquad
        y \leftarrow y + \nabla u - w

    with :math:`\rho = r\lambda`: the shrinkage then has the length 1/r whatever
    :math:`\lambda`. Class UNH.

    Args:
        low: :math:`\lambda` at 1 % noise; between and beyond a power of sigma.
        high: :math:`\lambda` at 3 % noise.
        coupled: Whether the colours share their edges.
        ratio: r.
        steps: Number of ADMM steps.

    Raises:
        DomainError: A number is not positive.
        ConditionError: Fewer than one step.

    Source: Rudin, Osher, Fatemi, Physica D 60, 1992; Wang, Yang, Yin, Zhang, SIAM J. Imaging
    Sciences 1(3), 2008.

    Example:
        >>> delta = torch.ones(4, 3) + 0j
        >>> flat = torch.full((1, 3, 4, 4), 0.5)
        >>> bool(torch.allclose(TotalVariation().restore(flat, delta, 0.01), flat))
        True
    """

    name = "unh-tv"

    def __init__(
        self,
        low: float = 1.5e-3,
        high: float = 7e-3,
        coupled: bool = True,
        ratio: float = 20.0,
        steps: int = 100,
    ) -> None:
        super().__init__()
        require_positive(low=low, high=high, ratio=ratio)
        self.low, self.high, self.coupled = low, high, coupled
        self.ratio, self.steps = ratio, require_steps(steps)

    def weight(self, sigma: Tensor) -> Tensor:
        r""":math:`\lambda(\sigma)`."""
        return by_level(self.low, self.high, sigma)

    def forward(self, b: Tensor, symbol: Tensor, sigma: Tensor) -> Tensor:
        rho = self.ratio * self.weight(sigma)
        slopes = difference_symbols(b)
        under = symbol.abs().square() + rho * slopes.abs().square().sum(0)
        data = symbol.conj() * torch.fft.rfft2(b)
        gap = b.new_zeros(2, *b.shape)  # w - y, the part of the split that u is drawn to
        y = gap
        for _ in range(self.steps):
            back = (slopes.conj()[:, None, None] * torch.fft.rfft2(gap)).sum(0)
            spectrum = (data + rho * back) / under
            edges = y + torch.fft.irfft2(slopes[:, None, None] * spectrum, s=b.shape[-2:])
            w = self._shrink(edges)
            y = edges - w
            gap = w - y
        return torch.fft.irfft2(spectrum, s=b.shape[-2:])

    def _shrink(self, edges: Tensor) -> Tensor:
        """Shorten each gradient by 1/r; shape (2, B, C, H, W)."""
        size = edges.square().sum((0, 2) if self.coupled else 0, keepdim=True).sqrt()
        return edges * torch.relu(1 - 1 / (self.ratio * size.clamp_min(1e-30)))

    def value(self, u: Tensor, b: Tensor, symbol: Tensor, sigma: float | Tensor) -> Tensor:
        r""":math:`\tfrac12\|k*u - b\|^2 + \lambda\mathrm{TV}(u)` of each image, shape (B,)."""
        level = torch.as_tensor(sigma, dtype=b.dtype).reshape(-1)
        slopes = torch.fft.irfft2(
            difference_symbols(b)[:, None, None] * torch.fft.rfft2(u), s=b.shape[-2:]
        )
        size = slopes.square().sum((0, 2) if self.coupled else 0).sqrt()
        fit = 0.5 * (multiply(u, symbol) - b).square().sum((-3, -2, -1))
        return fit + self.weight(level) * size.flatten(1).sum(-1)
