r"""Synthetic rain: layers of motion-blurred streaks, seeded, in ranges fitted to real pairs.

Book: chapter 12. A rainy image is :math:`O = \min(1, X + R)`, the rain R grey and a sum of layers.
A layer is shot noise (:mod:`~bmo.problems.deraining.statistics`): drops at random places, each
drawn out to a line by its fall during the exposure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor

from bmo.errors import DomainError
from bmo.problems.deraining.statistics import FAINTEST, Streaks, streak

Range = tuple[float, float]
NAMES = ("angle", "length", "width", "brightness", "amount")


@dataclass(frozen=True)
class Ranges:
    """From where the makings of streaks are drawn: each uniformly.

    Attributes:
        angle: Degrees from the vertical.
        length: Pixels.
        width: Pixels.
        brightness: On the scale of the image.
        amount: The mean of the rain, of all layers together, on the scale of the image.
        layers: The largest number of layers; each number from 1 on is as likely.
        turn: How far the angle of a further layer differs from the first one's, in degrees.

    Raises:
        DomainError: A range is empty or negative, or there is no layer.

    An example: :func:`bmo.problems.deraining.fit`.
    """

    angle: Range
    length: Range
    width: Range
    brightness: Range
    amount: Range
    layers: int = 3
    turn: float = 6.0

    def __post_init__(self) -> None:
        for name in NAMES:
            low, high = getattr(self, name)
            if not (low <= high and (name == "angle" or low > 0)):
                raise DomainError(
                    f"a range of {name} (low, high), positive but for the angle",
                    f"{(low, high)}",
                    "correct it",
                    (low, high),
                )
        if self.layers < 1 or self.turn < 0:
            raise DomainError(
                "layers >= 1, turn >= 0", f"{self.layers}, {self.turn}", "correct it", self.layers
            )


def fit(found: Sequence[Streaks], **options: float) -> Ranges:
    r"""The ranges from which given rain layers were drawn, as far as they tell.

    n draws from a uniform law leave, on average, 1/(n+1) of its range free at each end. So the
    range that the draws span is widened by :math:`1/(n-1)` of itself at each end (but not below
    half of the smallest draw). Wind blows from both sides: the range of angles is symmetric, with
    the end :math:`\tfrac{n+1}{n}\max|\text{angle}|`.

    Args:
        found: What :func:`~bmo.problems.deraining.statistics.measure_rain` says of real layers.
        options: ``layers`` and ``turn``.

    Raises:
        DomainError: Fewer than two layers were given.

    Example:
        >>> fit([Streaks(0.0, 8.0, 1.0, 0.2, 0.01), Streaks(4.0, 16.0, 1.0, 0.3, 0.01)]).length
        (4.0, 24.0)
    """
    n = len(found)
    if n < 2:
        raise DomainError("at least two rain layers", f"{n}", "measure some pairs", found)
    ranges = {}
    for name in NAMES[1:]:
        values = [getattr(streaks, name) for streaks in found]
        low, high = min(values), max(values)
        more = (high - low) / (n - 1)
        ranges[name] = (max(low - more, low / 2), high + more)
    end = max(abs(streaks.angle) for streaks in found) * (n + 1) / n
    return Ranges(angle=(-end, end), **ranges, **options)  # type: ignore[arg-type]


def draw(ranges: Ranges, rng: Generator) -> list[Streaks]:
    """The layers of one image; the amount is shared out among them at random.

    Example:
        >>> from bmo.data import generator
        >>> 1 <= len(draw(HEAVY, generator(0))) <= HEAVY.layers
        True
    """

    def uniform(low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=rng, dtype=torch.float64))

    count = int(torch.randint(1, ranges.layers + 1, (), generator=rng))
    shares = [uniform(0.2, 1.0) for _ in range(count)]
    amount, angle = uniform(*ranges.amount), uniform(*ranges.angle)
    layers = []
    for k, share in enumerate(shares):
        turn = uniform(-ranges.turn, ranges.turn) if k else 0.0
        length, width = uniform(*ranges.length), uniform(*ranges.width)
        brightness = uniform(*ranges.brightness)
        one = brightness * float(streak(angle + turn, length, width).sum())  # of one drop
        density = amount * share / sum(shares) / one
        layers.append(Streaks(angle + turn, length, width, brightness, density))
    return layers


def render(layers: Sequence[Streaks], shape: tuple[int, int], rng: Generator) -> Tensor:
    """The rain of given layers on a circular image.

    Args:
        layers: Their makings.
        shape: (H, W).
        rng: Where the drops come from.

    Returns:
        float64, shape (H, W), nonnegative.

    Example:
        >>> from bmo.data import generator
        >>> from bmo.problems import deraining as rain
        >>> layers = [rain.Streaks(0.0, 8.0, 1.0, 0.2, 0.01)]
        >>> rain.render(layers, (64, 64), generator(0)).shape
        torch.Size([64, 64])
    """
    rain = torch.zeros(shape, dtype=torch.float64)
    for one in layers:
        drops = torch.poisson(torch.full_like(rain, one.density), generator=rng)
        heights = torch.zeros_like(rain)
        for already in range(int(drops.max())):  # some pixels meet several drops
            sizes = torch.rand(shape, generator=rng, dtype=torch.float64)
            sizes = (FAINTEST + (1 - FAINTEST) * sizes) / ((1 + FAINTEST) / 2)
            heights += torch.where(drops > already, one.brightness * sizes, 0.0)
        rain += _convolved(heights, streak(one.angle, one.length, one.width))
    return rain


def _convolved(image: Tensor, kernel: Tensor) -> Tensor:
    """Circular convolution; a kernel larger than the image wraps around."""
    height, width = image.shape
    side = kernel.shape[0]
    index = torch.arange(side) - side // 2
    wrapped = torch.zeros_like(image)
    rows, columns = torch.meshgrid(index % height, index % width, indexing="ij")
    wrapped.index_put_((rows, columns), kernel, accumulate=True)
    product = torch.fft.rfft2(image) * torch.fft.rfft2(wrapped)
    return torch.fft.irfft2(product, s=(height, width)).clamp_min(0.0)  # rounding below zero


def add_rain(
    clean: Tensor, rng: Generator, ranges: Ranges | None = None, eight_bits: bool = True
) -> Tensor:
    """Rainy versions of clean images, each with rain of its own.

    Args:
        clean: Shape (..., 3, H, W) on [0, 1].
        rng: Where the randomness comes from.
        ranges: ``None`` for :data:`HEAVY`.
        eight_bits: Round to multiples of 1/255, as stored images are.

    Returns:
        Same shape and dtype; :math:`X + R`, cut off at white.

    Example:
        >>> from bmo.data import generator
        >>> X = torch.full((2, 3, 32, 32), 0.2)
        >>> O = add_rain(X, generator(0))
        >>> bool((O >= 0.19).all()), bool(O.max() <= 1)
        (True, True)
    """
    images = clean.reshape(-1, *clean.shape[-3:])
    shape = (clean.shape[-2], clean.shape[-1])
    rain = [render(draw(ranges or HEAVY, rng), shape, rng) for _ in images]
    rainy = (images.double() + torch.stack(rain)[:, None]).clamp_max(1.0)  # as white cuts it off
    if eight_bits:
        rainy = torch.floor(rainy * 255 + 0.5) / 255
    return rainy.to(clean).reshape(clean.shape)


#: White cuts off the brightest parts of the rain, so the measured brightness is too small: by this
#: factor, found by measuring synthetic rain over the same backgrounds.
CUT_OFF = 1.25
#: Fitted to twelve training pairs of Rain100H; a test fits them again.
HEAVY = Ranges(
    angle=(-17.33, 17.33),
    length=(4.7, 58.77),
    width=(0.5185, 0.8267),
    brightness=(CUT_OFF * 0.0832, CUT_OFF * 0.1661),
    amount=(0.013, 0.35),
)
#: Layers in an image of Rain100H, by its published description; Rain100L has one.
LAYERS_OF_HEAVY = 5
#: Light rain: one layer of five, so with a fifth of the amount. No light training pair was at hand,
#: and no test image was asked.
LIGHT = replace(
    HEAVY,
    amount=(HEAVY.amount[0] / LAYERS_OF_HEAVY, HEAVY.amount[1] / LAYERS_OF_HEAVY),
    layers=1,
)
