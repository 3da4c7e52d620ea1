r"""Training pairs: random patches, random motion kernels, random noise levels; each from its seed.

Book: chapter 11. :math:`b = k \circledast u + \sigma\varepsilon`, circular on the patch. The eight
kernels of Levin et al. and every test image are left to the test.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from bmo.errors import DataError
from bmo.problems.deconvolution.blur import Blur
from bmo.problems.deconvolution.kernels import motion_kernels


class Pairs(NamedTuple):
    r"""Clean images and what is observed of them.

    Attributes:
        clean: :math:`u`, shape (B, C, H, W).
        observed: :math:`b`, the same shape.
        symbol: :math:`\hat k`, shape (B, 1, H, W//2 + 1).
        sigma: :math:`\sigma`, shape (B, 1, 1, 1).

    An example: :class:`bmo.problems.deconvolution.ImageBank`.
    """

    clean: Tensor
    observed: Tensor
    symbol: Tensor
    sigma: Tensor


class ImageBank:
    """Colour images of which random patches are drawn, turned and mirrored at random.

    Args:
        images: uint8, shape (C, H, W) each, of any sizes.
        side: Side of a patch.

    Raises:
        DataError: No image, or one smaller than a patch.

    Example:
        >>> bank = ImageBank([torch.zeros(3, 8, 9, dtype=torch.uint8)], side=8)
        >>> bank.draw(2, torch.Generator().manual_seed(0)).shape
        torch.Size([2, 3, 8, 8])
    """

    def __init__(self, images: Sequence[Tensor], side: int) -> None:
        wrong = [tuple(i.shape) for i in images if i.dim() != 3 or min(i.shape[1:]) < side]
        if not images or wrong:
            raise DataError(
                f"images (C, H, W) of at least {side}x{side} pixels",
                f"shapes {wrong}" if images else "no image",
                "use larger images or smaller patches",
                wrong,
            )
        self.images, self.side = list(images), side

    def draw(self, count: int, generator: Generator) -> Tensor:
        """``count`` patches on [0, 1], shape (count, C, side, side), float32."""
        return torch.stack([self._one(generator) for _ in range(count)]).float() / 255

    def _one(self, generator: Generator) -> Tensor:
        def below(limit: int) -> int:
            return int(torch.randint(limit, (), generator=generator))

        image = self.images[below(len(self.images))]
        top, left = (below(length - self.side + 1) for length in image.shape[1:])
        patch = image[:, top : top + self.side, left : left + self.side]
        patch = torch.rot90(patch, below(4), (1, 2))
        return patch.flip(2) if below(2) else patch


def spread(count: int, low: float, high: float, generator: Generator) -> Tensor:
    """Levels between two ends, uniform in their logarithm; shape (count, 1, 1, 1)."""
    share = torch.rand(count, 1, 1, 1, generator=generator)
    return low * (share * math.log(high / low)).exp()


def noisy(clean: Tensor, sigma: Tensor, generator: Generator) -> Tensor:
    """White noise added; nothing is clipped."""
    return clean + sigma * torch.randn(clean.shape, generator=generator)


def blurred(clean: Tensor, sigma: Tensor, generator: Generator) -> Pairs:
    """Observe each image through a motion kernel of its own."""
    kernels = motion_kernels(generator, len(clean)).to(clean)
    kernels = kernels / kernels.sum((1, 2), keepdim=True)
    blur = Blur(kernels, (clean.shape[-2], clean.shape[-1]))
    return Pairs(clean, noisy(blur(clean), sigma, generator), blur.symbol, sigma)


def held_out(
    images: Sequence[Tensor], side: int, percents: Sequence[float], seed: int = 77
) -> Pairs:
    """The middle parts of held-out images, once for each noise level: every choice is made here."""
    middles = []
    for image in images:
        top, left = ((length - side) // 2 for length in image.shape[1:])
        middles.append(image[:, top : top + side, left : left + side].float() / 255)
    clean = torch.stack(middles * len(percents))
    sigma = torch.tensor([p / 100 for p in percents]).repeat_interleave(len(middles))
    draws = torch.Generator().manual_seed(seed)
    return blurred(clean, sigma[:, None, None, None], draws)
