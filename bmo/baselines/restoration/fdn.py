r"""FDN: a Fourier deconvolution network, stages of an exact Fourier solve after a small CNN."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from bmo.baselines.restoration.base import Restorer, require_steps, solve
from bmo.errors import ConditionError, ShapeError


class Filters(nn.Module):
    r"""The prior of one solve: filters :math:`F_l`, weight :math:`s\,\sigma^2\omega(\sigma)`.

    The filters start as a small point, the two differences and a little noise, and
    :math:`\omega`, a network of the noise level, as 1.

    Args:
        scale: s.
        count: Number of filters, at least 3.
        side: Of a filter; odd.
    """

    def __init__(self, scale: float, count: int, side: int) -> None:
        super().__init__()
        self.scale = scale
        self.level = nn.Sequential(nn.Linear(1, 16), nn.Softplus(), nn.Linear(16, 1))
        for part in self.level[2].parameters():
            nn.init.zeros_(part)
        start, half = 0.02 * torch.randn(count, side, side), side // 2
        start[:3] = 0.0
        start[:3, half, half] = torch.tensor([0.2, -1.0, -1.0])
        start[1, half + 1, half] = start[2, half, half + 1] = 1.0
        self.filters = nn.Parameter(start)

    def weight(self, sigma: Tensor) -> Tensor:
        r""":math:`s\,\sigma^2\omega(\sigma)`, shape (B, 1, 1, 1)."""
        omega = torch.exp(self.level(_centred(sigma).reshape(-1, 1))).reshape(-1, 1, 1, 1)
        return self.scale * sigma**2 * omega

    def power(self, b: Tensor) -> Tensor:
        r""":math:`\sum_l|\hat f_l|^2` at the size of b, shape (H, W//2+1)."""
        return torch.fft.rfft2(self.filters, s=b.shape[-2:]).abs().square().sum(0)

    def apply_filters(self, u: Tensor) -> Tensor:
        """Every :math:`F_lu`, shape (B, C, L, H, W)."""
        half = self.filters.shape[-1] // 2
        padded = functional.pad(u.flatten(0, 1)[:, None], (half,) * 4, mode="circular")
        return functional.conv2d(padded, self.filters[:, None]).unflatten(0, u.shape[:2])

    def adjoint(self, z: Tensor) -> Tensor:
        r""":math:`\sum_lF_l^\top z_l`, shape (B, C, H, W)."""
        half = self.filters.shape[-1] // 2
        padded = functional.pad(z.flatten(0, 1), (half,) * 4, mode="circular")
        back = functional.conv2d(padded, self.filters.flip(-2, -1)[None])
        return back[:, 0].unflatten(0, z.shape[:2])


class Stage(nn.Module):
    r"""One stage: shrink the filters' responses, correct by a CNN, solve in the Fourier domain.

    .. math:: u \leftarrow \Big(K^\top K + w\sum_lF_l^\top F_l\Big)^{-1}
              \Big(K^\top b + w\sum_l F_l^\top\big(\psi_l(F_lu) + F_lr(u)\big)\Big)

    with :math:`w = s\,\sigma^2\omega(\sigma)`; :math:`\psi_l` soft thresholding of the length of a
    response over the colours, r a CNN on the pixels of each 2x2 square that also sees the noise
    level. Before training r = 0, and the stage is a step for total variation.

    Args:
        sharpness: One over the first threshold of the differences.
        channels: Of the image.
        width: Of the CNN.
        layers: Convolutions of the CNN, at least 2.
        filters: Number of filters, at least 3.
        side: Of a filter; odd.
    """

    def __init__(
        self, sharpness: float, channels: int, width: int, layers: int, filters: int, side: int
    ) -> None:
        super().__init__()
        sizes = [4 * channels + 1, *[width] * (layers - 1), 4 * channels]
        convs = [
            nn.Conv2d(m, n, 3, padding=1, padding_mode="circular")
            for m, n in zip(sizes, sizes[1:], strict=False)
        ]
        for part in convs[-1].parameters():
            nn.init.zeros_(part)
        self.convs = nn.ModuleList(convs)
        self.prior = Filters(12 * sharpness, filters, side)
        thresholds = torch.full((filters,), 1e-4)
        thresholds[1:3] = 1 / sharpness
        self.thresholds = nn.Parameter(thresholds.log())

    def correction(self, u: Tensor, sigma: Tensor) -> Tensor:
        """The CNN r, shape of u; zero before training."""
        x = functional.pixel_unshuffle(u, 2)
        x = torch.cat([x, _centred(sigma).expand(len(x), 1, *x.shape[-2:])], 1)
        for conv in self.convs[:-1]:
            x = functional.relu(conv(x))
        return functional.pixel_shuffle(self.convs[-1](x), 2)

    def shrink(self, responses: Tensor) -> Tensor:
        r""":math:`\psi_l`, shape (B, C, L, H, W)."""
        size = (responses.square().sum(1, keepdim=True) + 1e-12).sqrt()
        cut = self.thresholds.exp()[:, None, None]
        return responses * torch.relu(1 - cut / size)

    def forward(self, u: Tensor, b: Tensor, symbol: Tensor, sigma: Tensor) -> Tensor:
        weight, power = self.prior.weight(sigma), self.prior.power(b)
        shrunk = self.prior.adjoint(self.shrink(self.prior.apply_filters(u)))
        ahead = torch.fft.rfft2(shrunk) + power * torch.fft.rfft2(self.correction(u, sigma))
        over = symbol.conj() * torch.fft.rfft2(b) + weight * ahead
        under = symbol.abs().square() + weight * power
        return torch.fft.irfft2(over / under, s=b.shape[-2:])


def _centred(sigma: Tensor) -> Tensor:
    """The logarithm of the noise level, 0 at 1.7 %, shape kept."""
    return torch.log(sigma / math.sqrt(3e-4))


class FDN(Restorer):
    r"""A network of unlike stages, each an exact Fourier solve after a CNN; trained, class ENA.

    The first image is a Tikhonov solution; then every :class:`Stage` acts once. Nothing says what
    more stages would do: there is no certificate. Three things differ from the paper: the blur is
    circular, so no borders are treated; the colours are restored together; and beside the CNN
    the filters' responses are shrunk, so that an untrained network is a good start.

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
        stages: int = 4,
        channels: int = 3,
        width: int = 24,
        layers: int = 3,
        filters: int = 4,
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
            Stage(8.0 * 2.5**t, channels, width, layers, filters, side)
            for t in range(require_steps(stages))
        )
        self.start, self.channels = Filters(50.0, filters, side), channels

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
        found = [solve(b, symbol, self.start.weight(sigma) * self.start.power(b))]
        for stage in self.stages:
            found.append(stage(found[-1], b, symbol, sigma))
        return found
