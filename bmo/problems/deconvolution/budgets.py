"""Settings of the parts of the experiment: how long, and around what. Book: chapter 11.

They never follow the hardware.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Budget:
    """How long a method is trained.

    Attributes:
        denoising: Steps of Adam on denoising alone.
        steps: Steps of Adam on deblurring, through K steps of Algorithm 1; of ``corrected``, on
            its start alone.
        deep: Steps of Adam after those, through many more steps of it: near the fixed point.
    """

    denoising: int
    steps: int
    deep: int = 0


@dataclass(frozen=True)
class Correcting:
    """How the restoration of a public denoiser is corrected.

    Attributes:
        widths: Widths of the free network that corrects it.
        parts: Files of training crops with their restorations, made once.
        count: Crops in each.
        side: Their side in pixels.
        weight: Of the data step in the loop.
    """

    widths: tuple[int, ...] = (64, 96, 128)
    parts: int = 200
    count: int = 64
    side: int = 96
    weight: float = 30.0


@dataclass(frozen=True)
class Referring:
    """How a loop is built around the restoration of a public denoiser, and trained.

    Attributes:
        orders: Runs of the public denoiser that the restoration is the mean of.
        parts: Files of training crops with their restorations, made once.
        count: Crops in each.
        side: Their side in pixels.
        percents: Their noise: the least and the largest level in percent.
        luma: Where the weight of the data step starts, for brightness.
        chroma: The same for the two colour differences.
        iterations: K of hyper-training.
        back: The last steps of the loop that the gradient goes through.
        rate: Learning rate.
        number_rate: The same for the weights.
    """

    orders: int = 4
    parts: int = 100
    count: int = 64
    side: int = 96
    percents: tuple[float, float] = (0.4, 6.0)
    luma: float = 0.35
    chroma: float = 10.0
    iterations: int = 12
    back: int = 5
    rate: float = 1e-2
    number_rate: float = 2e-2
