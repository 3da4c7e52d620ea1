r"""What every restorer of blurred images shares: its interface, and the Fourier algebra.

Book: chapter 11. The data model is :math:`b = k * u + \sigma n` with a circular convolution, so
:math:`K = F^*\mathrm{diag}(\hat k)F` and every quadratic step is solved exactly by two FFTs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from bmo.errors import ConditionError, DomainError, NonFiniteError, ShapeError


class Restorer(nn.Module, ABC):
    r"""A method that restores an image from what a camera saw, :math:`(b, \hat k, \sigma)`.

    Attributes:
        name: The class of the method (``unh``: only numbers, ``ena``: a network) and its name.

    An example: :class:`bmo.baselines.restoration.Wiener`.
    """

    name: str

    @abstractmethod
    def forward(self, b: Tensor, symbol: Tensor, sigma: Tensor) -> Tensor:
        """The restored image; what :meth:`restore` calls after its checks."""

    @torch.no_grad()
    def restore(self, b: Tensor, symbol: Tensor, sigma: float | Tensor) -> Tensor:
        r"""Restore without gradients.

        Args:
            b: What was seen, shape (B, C, H, W), on the scale [0, 1], not clipped.
            symbol: :math:`\hat k`, the :func:`torch.fft.rfft2` of the kernel, shape
                (1, H, W//2+1) or (B, 1, H, W//2+1).
            sigma: Standard deviation of the noise on the same scale: a number, or one for each
                image, shape (B, 1, 1, 1).

        Returns:
            Shape of b; not clipped.

        Raises:
            ShapeError: Shapes or kinds do not fit.
            NonFiniteError: NaN or infinity.
            DomainError: Not sigma > 0.
        """
        require_observation(b, symbol)
        level = torch.as_tensor(sigma, dtype=b.dtype, device=b.device)
        if not bool((torch.isfinite(level) & (level > 0)).all()):
            raise DomainError("sigma > 0", f"{float(level.min())}", "state the noise", sigma)
        if level.dim() not in (0, 4):
            raise ShapeError(
                "one sigma, or one for each image", f"{tuple(level.shape)}", "(B, 1, 1, 1)", sigma
            )
        return self(b, symbol, level.reshape(-1, 1, 1, 1))


def require_observation(b: Tensor, symbol: Tensor) -> None:
    """Refuse an observation and a symbol that do not belong together."""
    if b.dim() != 4 or not b.is_floating_point():
        raise ShapeError(
            "floating-point images (B, C, H, W)", f"{tuple(b.shape)}, {b.dtype}", "convert them", b
        )
    half = (b.shape[-2], b.shape[-1] // 2 + 1)
    leads = [(), (1,), (1, 1), (b.shape[0], 1)]
    if not symbol.is_complex() or symbol.shape[-2:] != half or symbol.shape[:-2] not in leads:
        raise ShapeError(
            f"a complex symbol (..., {half[0]}, {half[1]}), one or one for each image",
            f"{tuple(symbol.shape)}, {symbol.dtype}",
            "take the rfft2 of the kernel at the image's size",
            symbol,
        )
    if not bool(torch.isfinite(b).all()) or not bool(torch.isfinite(symbol).all()):
        raise NonFiniteError("a finite observation", "NaN or infinity", "clean it first", b)


def multiply(u: Tensor, symbol: Tensor) -> Tensor:
    r"""A circular convolution, :math:`F^*\mathrm{diag}(\hat k)F u`.

    Example:
        >>> twice = torch.full((4, 3), 2.0 + 0j)
        >>> bool(torch.allclose(multiply(torch.ones(1, 1, 4, 4), twice), 2 * torch.ones(4, 4)))
        True
    """
    return torch.fft.irfft2(torch.fft.rfft2(u) * symbol, s=u.shape[-2:])


def solve(b: Tensor, symbol: Tensor, weight: Tensor | float, pull: Tensor | None = None) -> Tensor:
    r"""The minimiser of :math:`\tfrac12\|k*u - b\|^2 + \tfrac12 u^\top Q u - \langle v, u\rangle`.

    .. math:: u = F^*\,\frac{\bar{\hat k}\,\hat b + \hat v}{|\hat k|^2 + q}

    Args:
        b: Data, shape (B, C, H, W).
        symbol: :math:`\hat k`.
        weight: :math:`q \ge 0`, the symbol of Q; broadcasts against (B, C, H, W//2+1).
        pull: :math:`v`, shape of b; zero by default.

    Example:
        >>> delta = torch.ones(4, 3) + 0j
        >>> solve(torch.ones(1, 1, 4, 4), delta, 1.0)[0, 0, 0]
        tensor([0.5000, 0.5000, 0.5000, 0.5000])
    """
    over = symbol.conj() * torch.fft.rfft2(b)
    if pull is not None:
        over = over + torch.fft.rfft2(pull)
    return torch.fft.irfft2(over / (symbol.abs().square() + weight), s=b.shape[-2:])


def difference_symbols(b: Tensor) -> Tensor:
    r"""Symbols of the two forward differences, :math:`e^{2\pi i f} - 1`; shape (2, H, W//2+1).

    Example:
        >>> difference_symbols(torch.zeros(1, 1, 4, 4))[0, :, 0].real
        tensor([ 0., -1., -2., -1.])
    """
    h, w = b.shape[-2:]
    kind = {"dtype": torch.complex64 if b.dtype == torch.float32 else torch.complex128}
    down = torch.exp(2j * torch.pi * torch.fft.fftfreq(h, device=b.device).to(**kind)) - 1
    right = torch.exp(2j * torch.pi * torch.fft.rfftfreq(w, device=b.device).to(**kind)) - 1
    return torch.stack([down[:, None].expand(h, len(right)), right.expand(h, len(right))])


def require_positive(**numbers: float) -> None:
    """Refuse numbers that are not positive and finite."""
    for name, value in numbers.items():
        if not 0 < value < float("inf"):
            raise DomainError(f"{name} > 0", f"{value}", "choose a positive one", value)


def by_level(low: float, high: float, sigma: Tensor) -> Tensor:
    r"""A number for each noise level: a power of sigma through its values at 1 % and at 3 %.

    Example:
        >>> by_level(1.0, 3.0, torch.tensor([0.01, 0.02, 0.03]))
        tensor([1., 2., 3.])
    """
    require_positive(low=low, high=high)
    power = torch.log(torch.tensor(high / low)) / torch.log(torch.tensor(3.0))
    return low * (sigma / 0.01) ** power.to(sigma)


def require_steps(steps: int) -> int:
    """Refuse fewer than one step."""
    if steps < 1:
        raise ConditionError("at least one step", f"{steps}", "ask for more", steps)
    return steps
