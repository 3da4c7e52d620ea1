r"""Data steps that are diagonal in the Fourier domain, :math:`f(u) = \tfrac12|Ku - b|^2`.

Book: chapter 11, "The steps and their metrics". With :math:`K = F^*\mathrm{diag}(\hat k)F` each of
them is

.. math:: \hat D(u) = \hat u + r\,\bar{\hat k}(\hat b - \hat k\hat u), \qquad r(\xi) > 0,

an affine map with the real multiplier :math:`g = 1 - r|\hat k|^2`. If :math:`0 \le r|\hat k|^2 \le
2a` with :math:`a \le 1`, it is a-averaged in *every* metric :math:`F^*\mathrm{diag}(h)F`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor

from bmo.errors import ConditionError, DomainError, NonFiniteError, ShapeError
from bmo.metric import HalfSpectral, Identity, Metric
from bmo.operators.base import Preparing
from bmo.operators.fourier_weight import FourierWeight

METRICS = ("euclidean", "weight")


class FourierStep(Preparing):
    r"""What all data steps share: the data, the weight, the metric, and the two transforms.

    Args:
        symbol: :math:`\hat k`, complex, (1, H, W//2 + 1), or (B, 1, H, W//2 + 1) for one kernel
            an image.
        b: Observation, shape (C, H, W) or (B, C, H, W).
        weight: :math:`p`: where a learned number starts, or a
            :class:`~bmo.operators.FourierWeight`.
        sigma: Noise level on [0, 1], a number or shape (B, 1, 1, 1).
        metric: :math:`H`: ``"euclidean"``, or ``"weight"`` for the weight divided by its least
            value. The step is nonexpansive in both; the choice matters for what is composed with
            it, and for the upper step.
    """

    certified = "by construction"

    def __init__(
        self,
        symbol: Tensor,
        b: Tensor,
        weight: float | FourierWeight = 0.1,
        sigma: float | Tensor = 0.01,
        metric: str = "euclidean",
    ) -> None:
        super().__init__()
        if metric not in METRICS:
            raise ConditionError(f"a metric out of {METRICS}", repr(metric), "use 'euclidean'")
        self.weight = weight if isinstance(weight, FourierWeight) else FourierWeight(weight).to(b)
        self.kind = metric
        self.register_buffer("symbol", symbol)
        self.register_buffer("b", b)
        levels = torch.as_tensor(sigma, dtype=b.dtype, device=b.device)
        one = levels.numel() == 1  # one number for all: no batch axis of its own
        self.register_buffer("sigma", levels.reshape((1, 1, 1) if one else (-1, 1, 1, 1)))
        self.symbol: Tensor
        self.b: Tensor
        self.sigma: Tensor
        require_observation(self.b, self.symbol, self.sigma)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Convert the complex symbol as pairs of reals: ``.to(dtype)`` would drop a part of it."""
        symbol = self._buffers.pop("symbol")
        super()._apply(fn, recurse)
        if symbol is not None:
            symbol = torch.view_as_complex(fn(torch.view_as_real(symbol)).contiguous())
        self._buffers["symbol"] = symbol
        return self

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the images."""
        return int(self.b.shape[-2]), int(self.b.shape[-1])

    def spectrum(self) -> Tensor:
        r""":math:`p` at the current parameters; see :class:`~bmo.operators.FourierWeight`."""
        return self.weight(self.shape, self.b, self.sigma)

    @abstractmethod
    def _reciprocal(self, power: Tensor) -> tuple[Tensor, Tensor]:
        r"""The factor :math:`r` and the weight :math:`p`, given :math:`|\hat k|^2`."""

    def _compute(self) -> tuple[Tensor, Tensor, Tensor]:
        """The multiplier g, the affine part as an image, and the weight p."""
        require_observation(self.b, self.symbol, self.sigma)
        power = self.symbol.real.square() + self.symbol.imag.square()
        r, p = self._reciprocal(power)
        right = r * self.symbol.conj() * torch.fft.rfft2(self._into(self.b))
        return 1 - r * power, self._out(torch.fft.irfft2(right, s=self.shape)), p

    def _into(self, u: Tensor) -> Tensor:
        """The channels in which the weight is diagonal: those of the image."""
        return u

    def _out(self, u: Tensor) -> Tensor:
        """The inverse of :meth:`_into`."""
        return u

    @property
    def metric(self) -> Metric:
        r""":math:`H_\omega`: I, or :math:`F^*\mathrm{diag}(p/\min p)F`, whose least weight is 1."""
        if self.kind == "euclidean":
            return Identity(3)
        p = self.prepare()[2]
        p = p / p.amin((-3, -2, -1), keepdim=True)
        half = p.expand(*p.shape[:-2], self.shape[0], self.shape[1] // 2 + 1)
        return HalfSpectral(half, self.shape[1], check=False)

    @property
    def averaged(self) -> float:
        r"""The exact constant :math:`\tfrac12\max r|\hat k|^2`, over the frequencies and images."""
        return float((1 - self.prepare()[0].detach()).max()) / 2

    @property
    def factor(self) -> float:
        r"""The exact Lipschitz constant :math:`\max|g|` in every Fourier metric."""
        return float(self.prepare()[0].detach().abs().max())

    def forward(self, u: Tensor) -> Tensor:
        g, offset, _ = self.prepare()
        if u.shape[-2:] != self.shape:
            raise ShapeError(
                f"images of {self.shape}", f"shape {tuple(u.shape)}", "bind their own b", u
            )
        return (
            self._out(torch.fft.irfft2(torch.fft.rfft2(self._into(u)) * g, s=self.shape)) + offset
        )


class FourierDataStep(FourierStep):
    r"""The proximal step of the data term in a Fourier metric :math:`P = F^*\mathrm{diag}(p)F`.

    .. math::
        D(u) = \mathrm{prox}_f^P(u) = (P + K^\top K)^{-1}(Pu + K^\top b), \qquad
        g = \frac{p}{p + |\hat k|^2}

    Firmly nonexpansive in every Fourier metric, for every :math:`p > 0`: so also in P, and in the
    Euclidean one. A constant :math:`p = 1/\tau` is the prox with step :math:`\tau`. It contracts
    by ``factor`` exactly when :math:`\hat k` has no zero at the frequencies of the image. Book:
    chapter 11, Propositions "Every Fourier metric" and "The data step".

    Args:
        symbol: :math:`\hat k`, complex, (1, H, W//2 + 1), or (B, 1, H, W//2 + 1).
        b: Observation, shape (C, H, W) or (B, C, H, W).
        weight: :math:`p`: where a learned number starts, or a
            :class:`~bmo.operators.FourierWeight`.
        sigma: Noise level on [0, 1], a number or shape (B, 1, 1, 1).
        metric: ``"euclidean"`` or ``"weight"``.

    Raises:
        ShapeError: Observation, symbol and noise level do not fit each other.
        NonFiniteError: NaN or infinity in the observation.
        DomainError: A noise level that is not positive.

    Example:
        >>> import torch, bmo
        >>> symbol = torch.ones(1, 4, 3, dtype=torch.complex64)  # no blur
        >>> D = bmo.operators.FourierDataStep(symbol, torch.ones(1, 4, 4), weight=0.25)
        >>> D(torch.zeros(1, 4, 4)).detach().mean()  # 1 / (1 + 0.25)
        tensor(0.8000)
    """

    def _reciprocal(self, power: Tensor) -> tuple[Tensor, Tensor]:
        p = self.spectrum()
        return 1 / (p + power), p


class FourierGradientStep(FourierStep):
    r"""A gradient step preconditioned in the Fourier domain, :math:`D(u) = u - P^{-1}K^\top(Ku-b)`.

    Nonexpansive in some Fourier metric, and then in all, exactly when :math:`|\hat k|^2 \le 2p` at
    every frequency of the image. Here :math:`q > 0` is free (the ``weight``) and
    :math:`p = q\max(1, \tfrac12\max|\hat k|^2/q)`, so the condition holds for every kernel and
    every raw value. Book: chapter 11, Proposition "The preconditioned gradient step".

    Args:
        symbol: As for :class:`FourierDataStep`.
        b: Observation.
        weight: :math:`q`.
        sigma: Noise level.
        metric: ``"euclidean"`` or ``"weight"``.

    Raises:
        ShapeError: Observation, symbol and noise level do not fit each other.

    Example:
        >>> import torch, bmo
        >>> symbol = torch.ones(1, 4, 3, dtype=torch.complex64)
        >>> D = bmo.operators.FourierGradientStep(symbol, torch.ones(1, 4, 4), weight=0.01)
        >>> D(torch.zeros(1, 4, 4)).detach().mean(), D.averaged  # q is too small: p = 1/2
        (tensor(2.), 1.0)
    """

    def _reciprocal(self, power: Tensor) -> tuple[Tensor, Tensor]:
        q = self.spectrum()
        half = (power / q).amax((-3, -2, -1), keepdim=True) / 2
        p = q * half.clamp_min(1.0)
        return 1 / p, p


class FourierStart(FourierStep):
    r"""The Tikhonov (Wiener) solution :math:`u^0 = (W + K^\top K)^{-1}K^\top b`, with W learned.

    It knows the observation alone: use it as the start of the loop, and as the guide of a network.
    :meth:`start` is differentiable in the weight :math:`w`.

    Example:
        >>> import torch, bmo
        >>> symbol = torch.ones(1, 4, 3, dtype=torch.complex64)
        >>> S = bmo.operators.FourierStart(symbol, torch.ones(1, 4, 4), weight=0.25)
        >>> S.start().detach().mean()
        tensor(0.8000)
    """

    def _reciprocal(self, power: Tensor) -> tuple[Tensor, Tensor]:
        w = self.spectrum()
        return 1 / (w + power), w

    def start(self) -> Tensor:
        r""":math:`u^0`, shape of the observation."""
        offset: Tensor = self.prepare()[1]
        return offset


def require_observation(b: Any, symbol: Any, sigma: Any) -> None:
    """Refuse an observation, a symbol and a noise level that do not fit each other."""
    if not b.is_floating_point() or b.dim() < 3:
        raise ShapeError(
            "b: floating point, (C, H, W) or (B, C, H, W)",
            f"{b.dtype} of shape {tuple(b.shape)}",
            "divide 8-bit images by 255",
            b,
        )
    sides = (int(b.shape[-2]), int(b.shape[-1]) // 2 + 1)
    if symbol.dtype != b.dtype.to_complex() or symbol.shape[-3:] != (1, *sides):
        raise ShapeError(
            f"symbol: {b.dtype.to_complex()}, (..., 1, {sides[0]}, {sides[1]}) for this b",
            f"{symbol.dtype} of shape {tuple(symbol.shape)}",
            "take that of a Blur for the size of b, in the precision of b",
            symbol,
        )
    for name, value in (("symbol", symbol), ("sigma", sigma)):
        lead = value.shape[:-3]
        if any(x not in (1, y) for x, y in zip(lead[::-1], b.shape[:-3][::-1], strict=False)) or (
            len(lead) > b.dim() - 3
        ):
            raise ShapeError(
                f"{name}: one, or one for each image of b {tuple(b.shape)}",
                f"shape {tuple(value.shape)}",
                "bind b, symbol and sigma together",
                value,
            )
    if not bool(torch.isfinite(b).all()):
        raise NonFiniteError("a finite b", "NaN or infinity", "clean the observation first", b)
    if not bool((sigma > 0).all()):
        raise DomainError("sigma > 0", f"{float(sigma.min())}", "give the noise level", sigma)
