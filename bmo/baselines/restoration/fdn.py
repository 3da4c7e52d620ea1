r"""FDN: a Fourier deconvolution network, stages of an exact Fourier solve after a small CNN."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from bmo.baselines.restoration.base import Restorer, require_steps, solve
from bmo.errors import ConditionError, ShapeError


class Pull(nn.Module):
    r"""The symbol :math:`s\,\sigma^2\,\omega(\sigma)\sum_l|\hat f_l|^2` of learned filters, even and >= 0.

    The filters start as a small point and the two differences, and :math:`\omega = 1`: with s = 50
    that is what a Wiener filter for natural images takes.

    Args:
        scale: s.
        filters: Number of filters, at least 3.
        side: Of a filter; odd.
    """

    def __init__(self, scale: float, filters: int, side: int) -> None:
        super().__init__()
        self.scale = scale
        self.level = nn.Sequential(nn.Linear(1, 16), nn.Softplus(), nn.Linear(16, 1))
        last = self.level[2]
        nn.init.zeros_(last.weight)  # type: ignore[arg-type]
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]
        start, half = 0.02 * torch.randn(filters, side, side), side // 2
        start[:3, half, half] = torch.tensor([0.2, -1.0, -1.0])
        start[1, half + 1, half] = start[2, half, half + 1] = 1.0
        self.filters = nn.Parameter(start)

    def forward(self, b: Tensor, sigma: Tensor) -> Tensor:
        """The symbol at the size of b, shape (1 or B, 1, H, W//2+1)."""
        symbols = torch.fft.rfft2(self.filters, s=b.shape[-2:]).abs().square().sum(0)
        omega = torch.exp(self.level(_centred(sigma).reshape(-1, 1))).reshape(-1, 1, 1, 1)
        return self.scale * sigma**2 * omega * symbols


class Stage(nn.Module):
    r"""One stage, :math:`u \mapsto (K^\top K + Q)^{-1}(K^\top b + Q(u + r(u)))`.

    Q is a :class:`Pull`, r a CNN on the pixels of each 2x2 square that also sees the noise level.

    Args:
        channels: Of the image.
        width: Of the CNN.
        layers: Convolutions of the CNN, at least 2.
        filters: Number of filters of Q, at least 3.
        side: Of a filter; odd.
    """

    def __init__(self, channels: int, width: int, layers: int, filters: int, side: int) -> None:
        super().__init__()
        sizes = [4 * channels + 1, *[width] * (layers - 1), 4 * channels]
        convs = [
            nn.Conv2d(m, n, 3, padding=1, padding_mode="circular")
            for m, n in zip(sizes, sizes[1:], strict=False)
        ]
        nn.init.zeros_(convs[-1].weight)
        nn.init.zeros_(convs[-1].bias)  # type: ignore[arg-type]
        self.convs = nn.ModuleList(convs)
        self.pull = Pull(200.0, filters, side)

    def correction(self, u: Tensor, sigma: Tensor) -> Tensor:
        """The CNN r, shape of u; zero before training."""
        x = functional.pixel_unshuffle(u, 2)
        x = torch.cat([x, _centred(sigma).expand(len(x), 1, *x.shape[-2:])], 1)
        for conv in self.convs[:-1]:
            x = functional.relu(conv(x))
        return functional.pixel_shuffle(self.convs[-1](x), 2)

    def forward(self, u: Tensor, b: Tensor, symbol: Tensor, sigma: Tensor) -> Tensor:
        weight = self.pull(b, sigma)
        ahead = torch.fft.rfft2(u + self.correction(u, sigma))
        over = symbol.conj() * torch.fft.rfft2(b) + weight * ahead
        return torch.fft.irfft2(over / (symbol.abs().square() + weight), s=b.shape[-2:])


def _centred(sigma: Tensor) -> Tensor:
    """The logarithm of the noise level, 0 at 1.7 %, shape kept."""
    return torch.log(sigma / math.sqrt(3e-4))


class FDN(Restorer):
    r"""A network of unlike stages, each an exact Fourier solve after a CNN; trained, class ENA.

    The first image is the Tikhonov solution with a :class:`Pull`; then every :class:`Stage` acts
    once. Nothing says what more stages would do: there is no certificate. Two
    things differ from the paper: the blur is circular, so no borders are treated, and the
    colours are restored together.

    Args:
        stages: Number of stages, each with parameters of its own.
        channels: Of the image.
        width: Of the CNNs.
        layers: Convolutions of each CNN.
        filters: Number of filters of each stage.
        side: Their side.

    Raises:
        ConditionError: Fewer than one stage, or sizes out of range.

    Source: Kruse, Rother, Schmidt, "Learning to push the limits of efficient FFT-based image
    deconvolution", ICCV 2017.

    Example:
        >>> net = FDN(stages=1, channels=1, width=4)
        >>> net.restore(torch.ones(1, 1, 8, 8), torch.ones(8, 5) + 0j, 0.01).shape
        torch.Size([1, 1, 8, 8])
    """

    name = "ena-fdn"

    def __init__(
        self,
        stages: int = 3,
        channels: int = 3,
        width: int = 32,
        layers: int = 4,
        filters: int = 8,
        side: int = 5,
    ) -> None:
        super().__init__()
        if layers < 2 or filters < 3 or side < 3 or side % 2 == 0:
            raise ConditionError(
                "2 layers, 3 filters, an odd side of 3 at least",
                f"{layers}, {filters}, {side}",
                "enlarge the network",
            )
        self.stages = nn.ModuleList(
            Stage(channels, width, layers, filters, side) for _ in range(require_steps(stages))
        )
        self.start, self.channels = Pull(50.0, filters, side), channels

    def forward(self, b: Tensor, symbol: Tensor, sigma: Tensor) -> Tensor:
        return self.states(b, symbol, sigma)[-1]

    def states(self, b: Tensor, symbol: Tensor, sigma: Tensor) -> list[Tensor]:
        """The Tikhonov start and the image after each stage; each shape (B, C, H, W).

        Raises:
            ShapeError: Another number of colours, or an odd side.
        """
        if b.shape[1] != self.channels or b.shape[-2] % 2 or b.shape[-1] % 2:
            raise ShapeError(
                f"images of {self.channels} channels and even sides",
                f"{tuple(b.shape)}",
                "crop them, or train a network for them",
                b,
            )
        found = [solve(b, symbol, self.start(b, sigma))]
        for stage in self.stages:
            found.append(stage(found[-1], b, symbol, sigma))
        return found
