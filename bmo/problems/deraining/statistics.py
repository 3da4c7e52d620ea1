r"""What a rain layer shows of its making: angle, length, width, brightness and density of streaks.

Book: chapter 12. A layer of streaks is shot noise, :math:`R = \sum_ia_ik(x-x_i)`: drops of
brightness :math:`a_i` fall at random places, their number in a pixel a Poisson variable of mean
:math:`\lambda`, and each draws the streak k.
By Campbell's theorem

.. math:: \mathrm{E}R = \lambda\,\mathrm{E}a\sum k, \qquad
    \mathrm{Cov}(R(x), R(x+h)) = \lambda\,\mathrm{E}a^2\,(k\star k)(h),

so the autocorrelation of the layer is that of a single streak, and mean and variance give the
density and the brightness.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from bmo.errors import DataError, ShapeError
from bmo.problems.deraining.kernels import line_kernel

#: Brightness of a drop: uniform between this part of the largest one and the largest one.
FAINTEST = 0.3
#: E a^2 / (E a)^2 for such drops.
SPREAD = (1 + FAINTEST + FAINTEST**2) / 3 / ((1 + FAINTEST) / 2) ** 2
#: Radii in pixels on which the angle is decided, and those that tell the floor across it.
ALONG, BEYOND = range(3, 25), range(8, 17)
SIDE = 121


@dataclass(frozen=True)
class Streaks:
    """The making of one layer of streaks.

    Attributes:
        angle: Degrees from the vertical; positive leans to the right at the top.
        length: Length in pixels.
        width: Standard deviation across the streak, in pixels.
        brightness: Mean brightness of a drop, on the scale of the image.
        density: Drops a pixel.

    An example: :func:`bmo.problems.deraining.fit`.
    """

    angle: float
    length: float
    width: float
    brightness: float
    density: float

    @property
    def amount(self) -> float:
        r"""The mean of the layer, :math:`\lambda\,\mathrm{E}a\sum k`."""
        k = streak(self.angle, self.length, self.width)
        return self.density * self.brightness * float(k.sum())


def streak(angle: float, length: float, width: float) -> Tensor:
    """The streak k that one drop draws: a line of largest value 1, on a square that holds it."""
    side = min(SIDE, 2 * math.ceil(length / 2 + 3 * width) + 3)
    kernel = line_kernel(side, angle, length, width)
    return kernel / kernel.max()


def rain_of(rainy: Tensor, clean: Tensor) -> tuple[Tensor, Tensor]:
    """The rain layer of a pair (3, H, W), and where it is not cut off by white.

    Rain is grey, and white cuts it off where a colour is full. The largest difference of the three
    colours is thus the rain, wherever one colour is not full.

    Returns:
        The layer and a mask, both of shape (H, W).

    Raises:
        ShapeError: The images differ in shape.

    Example:
        >>> import torch
        >>> from bmo.problems import deraining as rain
        >>> clean = torch.full((3, 4, 4), 0.5)
        >>> layer, visible = rain.rain_of(clean + 0.25, clean)
        >>> layer.max(), bool(visible.all())
        (tensor(0.2500), True)
    """
    if rainy.shape != clean.shape or rainy.dim() != 3:
        raise ShapeError(
            "two images (3, H, W)",
            f"{tuple(rainy.shape)}, {tuple(clean.shape)}",
            "check the pair",
            rainy,
        )
    return (rainy - clean).amax(0), (rainy < 1).any(0)


def autocorrelation(rain: Tensor, mask: Tensor) -> Tensor:
    """The autocorrelation of a layer over the pixels of a mask; the middle entry is 1.

    Returns:
        Shape (2H - 1, 2W - 1): no pixel is compared with one beyond the border.

    Raises:
        DataError: The layer is constant, or nothing is in the mask.
    """
    rain, mask = rain.double(), mask.double()
    count = float(mask.sum())
    centred = mask * (rain - (rain * mask).sum() / max(count, 1.0))
    variance = float(centred.square().sum()) / max(count, 1.0)
    if not variance > 1e-12:
        raise DataError("a rain layer that varies", "a constant one", "leave this pair out", rain)
    size = [2 * side - 1 for side in rain.shape]

    def lags(x: Tensor) -> Tensor:
        power = torch.fft.rfft2(x, s=size).abs().square()
        return torch.fft.fftshift(torch.fft.irfft2(power, s=size))

    return lags(centred) / lags(mask).clamp_min(1.0) / variance


def _profiles(table: Tensor, angles: Tensor, radii: Tensor) -> Tensor:
    """Values along directions from the middle, interpolated between pixels: (angles, radii)."""
    height, width = table.shape
    turned = torch.deg2rad(angles)[:, None]
    rows = -radii * turned.cos() / (height // 2)
    columns = radii * turned.sin() / (width // 2)
    grid = torch.stack([columns, rows], -1)[None]
    return functional.grid_sample(table[None, None], grid, align_corners=True)[0, 0]


def _half(profile: Tensor, radii: Tensor) -> float:
    """The first radius at which a profile falls to one half (the last one, if it never does)."""
    below = (profile < 0.5).nonzero()
    if not len(below):
        return float(radii[-1])
    at = int(below[0])
    high, low = float(profile[at - 1]), float(profile[at])
    return float(radii[at - 1]) + float(radii[at] - radii[at - 1]) * (high - 0.5) / (high - low)


def measure_rain(rain: Tensor, mask: Tensor | None = None) -> Streaks:
    r"""The making of a rain layer, as if all its streaks were alike.

    The angle has the largest mean autocorrelation. A segment of length L has the autocorrelation
    :math:`1-r/L` along itself and, with a Gaussian profile, :math:`e^{-r^2/4w^2}` across: both are
    read where they fall to one half, above the floor that is left across the streaks.

    Args:
        rain: The layer, shape (H, W), sides of 64 at least.
        mask: Which pixels count; ``None`` for all.

    Raises:
        ShapeError: Not an image (H, W) of this size.
        DataError: The layer is constant.

    Example:
        >>> from bmo.data import generator
        >>> from bmo.problems import deraining as rain
        >>> layers = [rain.Streaks(20.0, 12.0, 1.0, 0.2, 0.01)]
        >>> found = rain.measure_rain(rain.render(layers, (128, 128), generator(0)))
        >>> abs(found.angle - 20.0) < 5.0
        True
    """
    if rain.dim() != 2 or min(rain.shape) < 64:
        raise ShapeError("a layer (H, W), 64 pixels a side", f"{tuple(rain.shape)}", "enlarge it")
    mask = torch.ones_like(rain, dtype=torch.bool) if mask is None else mask
    table = autocorrelation(rain, mask)
    every = torch.arange(-90, 90, dtype=table.dtype)
    far = torch.arange(ALONG.start, ALONG.stop, dtype=table.dtype)
    angle = float(every[_profiles(table, every, far).mean(1).argmax()])
    beyond = torch.arange(BEYOND.start, BEYOND.stop, dtype=table.dtype)
    sides = torch.tensor([angle - 90, angle + 90], dtype=table.dtype)
    floor = float(_profiles(table, sides, beyond).mean())
    radii = torch.arange(0, min(60, min(rain.shape) // 2 - 4), 0.25, dtype=table.dtype)
    both = torch.tensor([angle, angle + 90], dtype=table.dtype)
    along, across = (_profiles(table, both, radii) - floor) / (1 - floor)
    length = 2 * _half(along, radii)
    width = _half(across, radii) / (2 * math.sqrt(math.log(2)))
    values = rain[mask].double()
    mean, variance = float(values.mean()), float(values.var()) * (1 - floor)
    k = streak(angle, length, width)
    brightness = variance * float(k.sum()) / (mean * float(k.square().sum()) * SPREAD)
    return Streaks(angle, length, width, brightness, mean / (brightness * float(k.sum())))
