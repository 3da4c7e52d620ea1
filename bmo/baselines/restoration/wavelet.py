r"""A wavelet prior: soft thresholding of orthonormal coefficients, as an operator and a restorer.

Book: chapters 4 and 11. With W orthonormal, :math:`W^\top\mathrm{soft}_\theta W` is the proximal
operator of :math:`\theta\|Wu\|_1`, so it is firmly nonexpansive. So is a mean of shifted ones.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from bmo.baselines.restoration.base import (
    Restorer,
    by_level,
    require_positive,
    require_steps,
    solve,
)
from bmo.baselines.restoration.wiener import Wiener
from bmo.data.packages import package
from bmo.errors import DataError, DomainError, ShapeError
from bmo.metric import Identity, Metric
from bmo.operators import Operator
from bmo.prox import soft
from bmo.prox.base import threshold_parameter


def low_pass(name: str) -> list[float]:
    """The scaling filter of an orthonormal wavelet; all but Haar's come from PyWavelets.

    Args:
        name: As PyWavelets has it, such as ``"sym4"``; ``"haar"`` needs no library.

    Raises:
        DataError: PyWavelets is not installed, or knows no such wavelet.
        DomainError: The wavelet is not orthonormal.

    Example:
        >>> [round(value, 4) for value in low_pass("haar")]
        [0.7071, 0.7071]
    """
    if name == "haar":
        return [0.5**0.5, 0.5**0.5]
    remedy = "pip install 'bmo-book[wavelets]', or take 'haar'"
    pywt = package("pywt", "the package PyWavelets, for this wavelet", remedy, name)
    try:
        wavelet = pywt.Wavelet(name)
    except ValueError as problem:
        raise DataError("a wavelet of PyWavelets", name, "such as 'sym4'", name) from problem
    if not wavelet.orthogonal:
        raise DomainError("an orthonormal wavelet", name, "such as 'sym4'", name)
    return [float(value) for value in wavelet.dec_lo]


class Wavelets(nn.Module):
    r"""The circular orthonormal wavelet transform W of images, and its inverse :math:`W^\top`.

    Args:
        name: The wavelet, see :func:`low_pass`.
        levels: Number of scales; height and width are multiples of :math:`2^{levels}`, and the
            coarsest image that is filtered is no smaller than the filter.

    Source: Mallat, IEEE Trans. PAMI 11(7), 1989.

    Example:
        >>> W = Wavelets("haar", levels=1)
        >>> [tuple(part.shape) for part in W(torch.ones(1, 2, 4, 4))]
        [(1, 2, 3, 2, 2), (1, 2, 2, 2)]
    """

    def __init__(self, name: str = "sym4", levels: int = 4) -> None:
        super().__init__()
        if levels < 1:
            raise DomainError("at least one level", f"{levels}", "such as 4", levels)
        low = torch.tensor(low_pass(name), dtype=torch.float64).flip(0)  # as a correlation
        signs = torch.tensor([1.0, -1.0], dtype=torch.float64).repeat(len(low) // 2)
        self.register_buffer("filters", torch.stack([low, low.flip(0) * signs])[:, None])
        self.levels, self.side = levels, len(low)
        self.filters: Tensor

    def _check(self, u: Tensor) -> None:
        least = 2**self.levels
        small = min(u.shape[-2:]) // 2 ** (self.levels - 1) < self.side
        if u.dim() < 3 or u.shape[-2] % least or u.shape[-1] % least or small:
            raise ShapeError(
                f"sides that are multiples of {least}, filter {self.side} at each scale",
                f"{tuple(u.shape)}",
                "use fewer levels or a shorter wavelet",
                u,
            )

    def forward(self, u: Tensor) -> list[Tensor]:
        """Details from fine to coarse, each (..., C, 3, h, w), then what is left (..., C, h, w)."""
        self._check(u)
        found, lead, rest = [], u.shape[:-2], u.reshape(-1, 1, *u.shape[-2:])
        filters, before = self.filters.to(u), self.side // 2 - 1
        for _ in range(self.levels):
            padded = functional.pad(rest, (before, self.side - 2 - before) * 2, mode="circular")
            rows = functional.conv2d(padded, filters[..., None], stride=(2, 1))
            bands = functional.conv2d(
                rows.flatten(0, 1)[:, None], filters[:, :, None], stride=(1, 2)
            )
            bands = bands.reshape(len(rest), 4, *bands.shape[-2:])
            found.append(bands[:, 1:].reshape(*lead, 3, *bands.shape[-2:]))
            rest = bands[:, :1]
        return [*found, rest.reshape(*lead, *rest.shape[-2:])]

    def inverse(self, parts: Sequence[Tensor]) -> Tensor:
        r""":math:`W^\top` of what :meth:`forward` returns; also its inverse."""
        lead, filters = parts[-1].shape[:-2], self.filters.to(parts[-1])
        rest, reach = parts[-1].reshape(-1, 1, *parts[-1].shape[-2:]), self.side // 2
        start = 2 * reach + reach - 1
        for detail in reversed(parts[:-1]):
            bands = torch.cat([rest, detail.reshape(len(rest), 3, *detail.shape[-2:])], 1)
            padded = functional.pad(bands, (reach,) * 4, mode="circular")
            h, w = 2 * detail.shape[-2], 2 * detail.shape[-1]
            pairs = padded.reshape(2 * len(rest), 2, *padded.shape[-2:])
            rows = functional.conv_transpose2d(pairs, filters[:, :, None], stride=(1, 2))
            rows = rows[..., start : start + w].reshape(len(rest), 2, -1, w)
            rest = functional.conv_transpose2d(rows, filters[..., None], stride=(2, 1))
            rest = rest[..., start : start + h, :]
        return rest.reshape(*lead, *rest.shape[-2:])

    def shrink(self, u: Tensor, threshold: Tensor, shifts: int) -> Tensor:
        r"""Soft thresholding of the details, averaged over ``shifts`` diagonal shifts."""
        total = torch.zeros_like(u)
        for s in range(shifts):
            *details, rest = self(u.roll((s, s), (-2, -1)) if s else u)
            cut = threshold[..., None] if threshold.dim() else threshold
            back = self.inverse([*(soft(detail, cut) for detail in details), rest])
            total = total + (back.roll((-s, -s), (-2, -1)) if s else back)
        return total / shifts


class WaveletShrinkage(Operator):
    r"""The classical denoiser :math:`N = \tfrac1S\sum_s R_s^\top W^\top\mathrm{soft}_\theta W R_s`.

    :math:`R_s` shifts the image by s pixels along the diagonal; S = 1 is plain thresholding.
    Firmly nonexpansive in the Euclidean metric for every :math:`\theta > 0` and every size:
    each term is a proximal operator, and a mean of firmly nonexpansive maps is one.

    Args:
        threshold: :math:`\theta > 0`, on the scale of the image.
        wavelet: See :func:`low_pass`.
        levels: Number of scales.
        shifts: S, cycle spinning.
        learn: Make the threshold part of omega.

    Raises:
        DomainError: Not :math:`\theta > 0`, or fewer than one shift or level.
        DataError: As :func:`low_pass`.

    Source: Donoho, IEEE Trans. Information Theory 41(3), 1995; Coifman, Donoho, "Translation-
    invariant de-noising", 1995.

    Example:
        >>> N = WaveletShrinkage(10.0, "haar", levels=1)
        >>> u = torch.tensor([[[0.0, 1.0], [0.0, 1.0]]])
        >>> N(u)  # the mean of each square is left
        tensor([[[0.5000, 0.5000],
                 [0.5000, 0.5000]]])
    """

    certified = "by construction"

    def __init__(
        self,
        threshold: float,
        wavelet: str = "sym4",
        levels: int = 4,
        shifts: int = 1,
        learn: bool = False,
    ) -> None:
        super().__init__()
        self.threshold = threshold_parameter(threshold, learn)
        self.wavelets, self.shifts = Wavelets(wavelet, levels), require_shifts(shifts)

    @property
    def metric(self) -> Metric:
        return Identity(3)

    @property
    def averaged(self) -> float:
        return 0.5

    def forward(self, u: Tensor) -> Tensor:
        return self.wavelets.shrink(u, self.threshold().to(u), self.shifts)


def require_shifts(shifts: int) -> int:
    """Refuse fewer than one shift."""
    if shifts < 1:
        raise DomainError("at least one shift", f"{shifts}", "1: no cycle spinning", shifts)
    return shifts


class WaveletPrior(Restorer):
    r"""A fixed point of wavelet shrinkage after the data step: the classical D of chapter 4.

    .. math:: u \leftarrow N_{\theta(\sigma)}\big((K^\top K + p)^{-1}(K^\top b + p u)\big)

    Both maps are firmly nonexpansive, so their composition is 2/3-averaged in the Euclidean
    metric and the iteration converges. It starts from the Wiener filter. Class UNH.

    Args:
        low: :math:`\theta` at 1 % noise; between and beyond a power of sigma.
        high: :math:`\theta` at 3 % noise.
        pull_low: p at 1 % noise.
        pull_high: p at 3 % noise.
        wavelet: See :func:`low_pass`.
        levels: Number of scales.
        shifts: Cycle spinning.
        steps: Number of iterations.

    Raises:
        DomainError: A number is not positive.
        ConditionError: Fewer than one step.

    Example:
        >>> prior = WaveletPrior(wavelet="haar", levels=1, steps=2)
        >>> prior.restore(torch.ones(1, 1, 4, 4), torch.ones(4, 3) + 0j, 0.01)[0, 0, 0]
        tensor([1., 1., 1., 1.])
    """

    name = "unh-wavelets"

    def __init__(
        self,
        low: float = 0.008,
        high: float = 0.01,
        pull_low: float = 0.2,
        pull_high: float = 0.6,
        wavelet: str = "sym4",
        levels: int = 4,
        shifts: int = 4,
        steps: int = 30,
    ) -> None:
        super().__init__()
        require_positive(low=low, high=high, pull_low=pull_low, pull_high=pull_high)
        self.wavelets, self.shifts = Wavelets(wavelet, levels), require_shifts(shifts)
        self.thresholds, self.pulls = (low, high), (pull_low, pull_high)
        self.steps = require_steps(steps)

    def forward(self, b: Tensor, symbol: Tensor, sigma: Tensor) -> Tensor:
        u = Wiener()(b, symbol, sigma)
        threshold, pull = by_level(*self.thresholds, sigma), by_level(*self.pulls, sigma)
        for _ in range(self.steps):
            u = self.wavelets.shrink(solve(b, symbol, pull, pull * u), threshold, self.shifts)
        return u
