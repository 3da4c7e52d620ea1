r"""Training pairs: a clean patch, and a piece of a rain layer over it; each from its seed.

Book: chapter 12. :math:`O = \min(1, X + gR)`, rounded to 8 bits. Most layers are synthetic
(:mod:`~bmo.problems.deraining.synthesis`); some are taken from real training pairs, where white
does not cut them off.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Generator, Tensor
from torch.nn import functional

from bmo.errors import DataError
from bmo.problems.deconvolution.draws import ImageBank
from bmo.problems.deraining.settings import Settings
from bmo.problems.deraining.statistics import rain_of
from bmo.problems.deraining.synthesis import NAMES, Ranges, draw, render

#: Seed of the synthetic layers, and of those over held-out images.
LAYERS, HELD_OUT = 2**33, 2**34
#: How much of a borrowed piece must not be cut off by white.
WHOLE = 0.97


class Pairs(NamedTuple):
    """Clean images X and rainy ones O, both of shape (B, 3, H, W).

    Example:
        >>> pair = Pairs(torch.zeros(1, 3, 8, 8), torch.ones(1, 3, 8, 8))
        >>> float((pair.rainy - pair.clean).mean())
        1.0
    """

    clean: Tensor
    rainy: Tensor


class RainBank:
    """Rain layers of which random pieces are cut, mirrored at random.

    Args:
        layers: Shape (H, W) each, nonnegative.
        side: Side of a piece.
        masks: For each layer, which pixels of it are known; ``None`` for all.

    Raises:
        DataError: No layer has a piece of this side that is known.

    Example:
        >>> bank = RainBank([torch.ones(8, 9)], side=8)
        >>> float(bank.draw(torch.Generator().manual_seed(0), (0.5, 0.5)).mean())
        0.5
    """

    def __init__(
        self, layers: Sequence[Tensor], side: int, masks: Sequence[Tensor] | None = None
    ) -> None:
        self.side, found = side, []
        for k, layer in enumerate(layers):
            if min(layer.shape) < side:
                continue
            free = torch.ones([length - side + 1 for length in layer.shape], dtype=torch.bool)
            if masks is not None:
                known = functional.avg_pool2d(masks[k].float()[None, None], side, stride=1)
                free = known[0, 0] >= WHOLE
            if bool(free.any()):
                found.append((layer, free.nonzero()))
        if not found:
            raise DataError(
                f"a rain layer that is known on {side}x{side} pixels",
                f"{len(layers)} layers without one",
                "use larger layers or smaller pieces",
                len(layers),
            )
        self.layers = found

    def draw(self, generator: Generator, gain: tuple[float, float]) -> Tensor:
        """One piece, shape (side, side), times a random gain."""

        def below(limit: int) -> int:
            return int(torch.randint(limit, (), generator=generator))

        layer, corners = self.layers[below(len(self.layers))]
        top, left = corners[below(len(corners))].tolist()
        piece = layer[top : top + self.side, left : left + self.side]
        factor = gain[0] + (gain[1] - gain[0]) * float(torch.rand((), generator=generator))
        return factor * (piece.flip(1) if below(2) else piece)


def ranges_of(numbers: Sequence[object]) -> Ranges:
    """The ranges that the settings list: five ranges and the largest number of layers."""
    *five, layers = numbers
    return Ranges(**dict(zip(NAMES, five, strict=True)), layers=layers)  # type: ignore[arg-type]


def synthetic(ranges: Ranges, count: int, side: int, seed: int) -> list[Tensor]:
    """Synthetic rain layers, float32, (side, side) each; layer k depends on the seed and k."""
    found = []
    for k in range(count):
        rng = Generator().manual_seed(seed + k)
        found.append(render(draw(ranges, rng), (side, side), rng).float())
    return found


def borrowed(pairs: Sequence[tuple[Tensor, Tensor]], side: int) -> RainBank:
    """The rain layers of real (rainy, clean) pairs, where they are known."""
    layers = [rain_of(rainy, clean) for rainy, clean in pairs]
    return RainBank([r.clamp_min(0.0) for r, _ in layers], side, [m for _, m in layers])


def wet(clean: Tensor, rain: Tensor) -> Tensor:
    """X + R, cut off at white, rounded to 8 bits.

    Example:
        >>> wet(torch.full((3, 1, 1), 0.9), torch.full((1, 1), 0.2)).max()
        tensor(1.)
    """
    rainy = (clean + rain[..., None, :, :]).clamp_max(1.0)
    return torch.floor(rainy * 255 + 0.5) / 255


def make_layers(settings: Settings) -> dict[str, Tensor]:
    """The synthetic rain layers that patches are cut of: kind → (layers, side, side)."""
    s = settings
    kinds = (("light", s.light, LAYERS), ("heavy", s.strong, LAYERS + s.layers))
    return {
        kind: torch.stack(synthetic(ranges_of(numbers), s.layers, s.layer_side, seed))
        for kind, numbers, seed in kinds
    }


class Weather:
    """Draws training pairs: clean patches with rain of several kinds.

    Args:
        images: Clean images, uint8 (3, H, W).
        real: Real training pairs (rainy, clean) whose layers may be borrowed.
        settings: Of the experiment.
        layers: What :func:`make_layers` makes of the settings.

    An example: :class:`bmo.problems.deraining.RainBank`.
    """

    def __init__(
        self,
        images: Sequence[Tensor],
        real: Sequence[tuple[Tensor, Tensor]],
        settings: Settings,
        layers: Mapping[str, Tensor],
    ) -> None:
        s = self.settings = settings
        self.images = ImageBank(images, s.side)
        self.banks = {name: RainBank(list(found), s.side) for name, found in layers.items()}
        if s.borrowed:
            self.banks["borrowed"] = borrowed(real, s.side)

    def draw(self, count: int, generator: Generator) -> Pairs:
        """``count`` pairs, shape (count, 3, side, side), float32."""
        clean = self.images.draw(count, generator)
        rain = torch.stack([self._rain(generator) for _ in range(count)])
        return Pairs(clean, wet(clean, rain))

    def _rain(self, generator: Generator) -> Tensor:
        first, second = torch.rand(2, generator=generator).tolist()
        kind = "light"
        if first < self.settings.heavy:
            kind = "borrowed" if second < self.settings.borrowed else "heavy"
        return self.banks[kind].draw(generator, self.settings.gain)


def held_out(images: Sequence[Tensor], settings: Settings) -> dict[str, Pairs]:
    """The middle parts of held-out images, each with light and with heavy rain of its own."""
    side, found = settings.side_held_out, {}
    middles = []
    for image in images:
        top, left = ((length - side) // 2 for length in image.shape[1:])
        middles.append(image[:, top : top + side, left : left + side].float() / 255)
    clean = torch.stack(middles)
    for k, (name, numbers) in enumerate((("light", settings.light), ("heavy", settings.strong))):
        seed = HELD_OUT + k * len(images)
        rain = torch.stack(synthetic(ranges_of(numbers), len(images), side, seed))
        found[name] = Pairs(clean, wet(clean, rain))
    return found
