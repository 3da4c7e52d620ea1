r"""A data step and a denoiser in turn, the denoiser weaker from step to step: DPIR and IRCNN.

Half-quadratic splitting of :math:`\tfrac{1}{2\sigma^2}\|k * u - b\|^2 + g(u)`: with a penalty
for :math:`\|u - z\|^2`, the step in z is denoising at level :math:`\sigma_n`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.fft import irfft2, rfft2

from bmo.baselines.denoisers.base import Denoiser, Level
from bmo.errors import DomainError, ShapeError


@dataclass(frozen=True)
class Schedule:
    r"""How strong the denoiser and how heavy the data step is, step by step.

    .. math:: \sigma_n = \sigma_{\text{first}}
        \Bigl(\frac{\sigma_{\text{last}}}{\sigma_{\text{first}}}\Bigr)^{n/(N-1)}, \qquad
        \rho_n = w\sigma^2/\sigma_n^2, \qquad n = 0, \dots, N - 1

    Attributes:
        steps: N.
        first: :math:`\sigma_{\text{first}}`, in units of 1/255.
        last: :math:`\sigma_{\text{last}}`, likewise; ``None`` for the noise level of the data.
        weight: w.
        turns: Turn or flip the image before the denoiser, another way at each step, and back
            after it.

    Raises:
        DomainError: No step, or a number that is not positive.
    """

    steps: int
    first: float
    last: float | None
    weight: float
    turns: bool = False

    def __post_init__(self) -> None:
        last = self.first if self.last is None else self.last
        if self.steps < 1 or not min(self.first, last, self.weight) > 0:
            raise DomainError("steps, levels and weight > 0", f"{self}", "raise it", self)

    def levels(self, sigma: Level) -> list[Tensor]:
        r""":math:`\sigma_n` on the scale of the image.

        Args:
            sigma: Noise level of the data on that scale, a number or a tensor.

        Example:
            >>> [round(float(s) * 255, 2) for s in DPIR.levels(2.55 / 255)][::7]
            [49.0, 2.55]
        """
        noise = torch.as_tensor(sigma, dtype=torch.float64)
        last = noise if self.last is None else torch.full_like(noise, self.last / 255)
        ratio, top = last / (self.first / 255), max(self.steps - 1, 1)
        return [self.first / 255 * ratio ** (n / top) for n in range(self.steps)]


#: Zhang, Li, Zuo, Zhang, Van Gool, Timofte, IEEE TPAMI 44(10), 2022: eight steps.
DPIR = Schedule(steps=8, first=49, last=None, weight=0.23, turns=True)
#: Zhang, Zuo, Gu, Zhang, CVPR 2017: thirty steps, ending at level 13 in their program.
IRCNN = Schedule(steps=30, first=49, last=13, weight=1 / 3)


def stationary(level: float, weight: float, steps: int = 60) -> Schedule:
    r"""The same level in every step: plug-and-play as a fixed-point iteration.

    Then :math:`z^{n+1} = T(z^n)` with :math:`T = N(\cdot; s) \circ \prox_{\tau f}`,
    :math:`f = \tfrac12\|k * u - b\|^2` and :math:`\tau = 1/\rho = s^2/(w\sigma^2)`. T is
    nonexpansive if N is; of the denoisers here that is not known, so nothing is promised.

    Args:
        level: s, in units of 1/255.
        weight: w.
        steps: How many.

    Example:
        >>> [round(float(s) * 255, 6) for s in stationary(10, 0.3, steps=2).levels(0.01)]
        [10.0, 10.0]
    """
    return Schedule(steps, level, level, weight)


class Scheduled:
    r"""Plug-and-play restoration along a schedule. Class ENA, no certificate.

    .. math::
        u^n &= \operatorname*{argmin}_u \|k * u - b\|^2 + \rho_n\|u - z^n\|^2, \\
        z^{n+1} &= N(u^n; \sigma_n), \qquad z^0 = b

    The result is :math:`z^N`.

    Args:
        denoiser: N.
        schedule: :data:`DPIR`, :data:`IRCNN`, or one of your own.
        shift: Where the order of the turns begins; see :class:`Averaged`.

    Example:
        >>> from bmo.baselines.denoisers import DPIR, FFDNet, Scheduled
        >>> b, symbol = torch.rand(1, 3, 16, 16), torch.ones(1, 1, 16, 9, dtype=torch.complex64)
        >>> Scheduled(FFDNet(3), DPIR).restore(b, symbol, 0.01).shape
        torch.Size([1, 3, 16, 16])
    """

    def __init__(self, denoiser: Denoiser, schedule: Schedule, shift: int = 0) -> None:
        self.denoiser, self.schedule, self.shift = denoiser, schedule, shift

    def restore(self, b: Tensor, symbol: Tensor, sigma: Level) -> Tensor:
        r"""Deblur.

        Args:
            b: Blurred and noisy images, shape (B, C, H, W), on [0, 1] (and beyond: noise).
            symbol: ``rfft2`` of the kernel, centred at the origin, (..., 1, H, W // 2 + 1).
            sigma: Noise level of b on the same scale: a number, or shape (B, 1, 1, 1).

        Raises:
            ShapeError: The symbol does not fit.
            DomainError: A noise level that is not positive.
        """
        z = b
        for new in self.iterates(b, symbol, sigma):
            z = new
        return z

    @torch.no_grad()
    def iterates(self, b: Tensor, symbol: Tensor, sigma: Level) -> Iterator[Tensor]:
        """:math:`z^1, z^2, ...`; see :meth:`restore`."""
        spectrum = require_data(b, symbol, sigma)
        noise = torch.as_tensor(sigma, dtype=b.dtype, device=b.device)
        z = b
        for n, level in enumerate(self.schedule.levels(sigma)):
            level = level.to(b)
            rho = self.schedule.weight * (noise / level) ** 2
            u = data_step(z, spectrum, symbol, rho)
            way = (n + self.shift) % 8 if self.schedule.turns else 0
            z = turn_back(self.denoiser(turn(u, way), level), way)
            yield z


class Averaged:
    r"""The mean of several runs of a schedule with turns, each with another order of the turns.

    Run m of M turns the image at step n in the way :math:`n + 8m/M` (modulo 8). A network is not
    quite the same for a turned image; the mean of the runs has less of this error. Class ENA.

    Args:
        denoiser: N.
        schedule: One with turns.
        orders: M, the number of runs: 1, 2, 4 or 8.

    Raises:
        DomainError: Another number of runs, or a schedule without turns.

    Example:
        >>> from bmo.baselines.denoisers import DPIR, Averaged, FFDNet
        >>> b, symbol = torch.rand(1, 3, 16, 16), torch.ones(1, 1, 16, 9, dtype=torch.complex64)
        >>> Averaged(FFDNet(3), DPIR, orders=2).restore(b, symbol, 0.01).shape
        torch.Size([1, 3, 16, 16])
    """

    def __init__(self, denoiser: Denoiser, schedule: Schedule, orders: int = 8) -> None:
        if orders not in (1, 2, 4, 8) or not schedule.turns:
            raise DomainError(
                "1, 2, 4 or 8 orders of a schedule with turns",
                f"{orders}, turns={schedule.turns}",
                "use DPIR",
                orders,
            )
        self.runs = [Scheduled(denoiser, schedule, m * 8 // orders) for m in range(orders)]

    def restore(self, b: Tensor, symbol: Tensor, sigma: Level) -> Tensor:
        """Deblur; arguments and errors as of :meth:`Scheduled.restore`."""
        found = [run.restore(b, symbol, sigma) for run in self.runs]
        return torch.stack(found).mean(0)


def data_step(z: Tensor, spectrum: Tensor, symbol: Tensor, rho: Level) -> Tensor:
    r"""The image nearest to z that explains the data: one division for each frequency.

    .. math:: \operatorname*{argmin}_u \|k * u - b\|^2 + \rho\|u - z\|^2
        = F^{-1}\frac{\overline{Fk}\,Fb + \rho Fz}{|Fk|^2 + \rho}

    Args:
        z: Shape (B, C, H, W).
        spectrum: ``rfft2`` of b.
        symbol: ``rfft2`` of the kernel.
        rho: :math:`\rho > 0`, broadcasts against z.
    """
    top = symbol.conj() * spectrum + rho * rfft2(z)
    found: Tensor = irfft2(top / (symbol.abs().square() + rho), s=z.shape[-2:])
    return found


def require_data(b: Tensor, symbol: Tensor, sigma: Level) -> Tensor:
    """The spectrum of b, once shapes and noise level are known to fit."""
    if b.dim() != 4 or not b.is_floating_point():
        raise ShapeError("b of shape (B, C, H, W)", f"{tuple(b.shape)}, {b.dtype}", "convert it", b)
    half = (b.shape[-2], b.shape[-1] // 2 + 1)
    if not symbol.is_complex() or symbol.shape[-2:] != half:
        raise ShapeError(
            f"a complex symbol (..., {half[0]}, {half[1]})",
            f"{tuple(symbol.shape)}, {symbol.dtype}",
            "take rfft2 of the kernel, padded to the image",
            symbol,
        )
    if not bool((torch.as_tensor(sigma) > 0).all()):
        raise DomainError("a noise level > 0", f"{sigma}", "2.55 / 255 is one percent", sigma)
    return rfft2(b)


#: Quarter turns, and whether a flip follows: the eight symmetries of the square, in DPIR's order.
WAYS = (
    (0, False), (1, True), (0, True), (3, False), (2, True), (1, False), (2, False), (3, True),
)  # fmt: skip


def turn(u: Tensor, way: int) -> Tensor:
    """The image turned or flipped in one of eight ways; way 0 leaves it.

    Example:
        >>> u = torch.arange(6.0).reshape(1, 1, 2, 3)
        >>> all(bool((turn_back(turn(u, way), way) == u).all()) for way in range(8))
        True
    """
    quarters, flipped = WAYS[way]
    turned = torch.rot90(u, quarters, (-2, -1))
    return turned.flip(-2) if flipped else turned


def turn_back(u: Tensor, way: int) -> Tensor:
    """The inverse of :func:`turn`."""
    quarters, flipped = WAYS[way]
    return torch.rot90(u.flip(-2) if flipped else u, -quarters, (-2, -1))
