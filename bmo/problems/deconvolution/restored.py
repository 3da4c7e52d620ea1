r"""Training crops that were restored once and for all: what the correcting network learns from.

Book: chapter 11, "A better reference". A restoration costs more than a step of training. So each
crop is restored once, and used in eight ways: a circular convolution commutes with quarter turns
and reflections if the kernel is turned as well.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Generator, Tensor

from bmo.baselines.denoisers.schedules import turn
from bmo.problems.deconvolution.blur import Blur
from bmo.problems.deconvolution.draws import ImageBank, noisy, spread
from bmo.problems.deconvolution.kernels import motion_kernels
from bmo.problems.deconvolution.restorer import Restorer


class Restored(NamedTuple):
    r"""Clean images, what is observed of them, and what others made of that.

    Attributes:
        clean: :math:`u`, shape (B, C, H, W).
        observed: :math:`b`, the same shape.
        symbol: :math:`\hat k`, shape (B, 1, H, W//2 + 1).
        sigma: :math:`\sigma`, shape (B, 1, 1, 1).
        restored: z, the shape of b.
    """

    clean: Tensor
    observed: Tensor
    symbol: Tensor
    sigma: Tensor
    restored: Tensor


def make(
    bank: ImageBank, count: int, levels: tuple[float, float], restorer: Restorer, draws: Generator
) -> dict[str, Tensor]:
    """Crops, observed through random motion kernels and restored: in the least space.

    Args:
        bank: Of the training images.
        count: How many crops.
        levels: The least and the largest noise level.
        restorer: Observations, symbols and levels to images.
        draws: Decides everything.

    Returns:
        By name: ``clean`` (uint8), ``observed`` and ``restored`` (float16), ``kernels``, ``sigma``.
    """
    clean = bank.draw(count, draws)
    sigma = spread(count, *levels, draws)
    kernels = motion_kernels(draws, count).float()
    kernels = kernels / kernels.sum((1, 2), keepdim=True)
    blur = Blur(kernels, (clean.shape[-2], clean.shape[-1]))
    observed = noisy(blur(clean), sigma, draws).half()
    some = [slice(k, k + 8) for k in range(0, count, 8)]  # small batches stay in the cache
    found = [restorer(observed[k].float(), blur.symbol[k], sigma[k]) for k in some]
    return {
        "clean": (255 * clean).round().to(torch.uint8),
        "observed": observed,
        "restored": torch.cat(found).half(),
        "kernels": kernels,
        "sigma": sigma,
    }


def draw(known: dict[str, Tensor], count: int, draws: Generator) -> Restored:
    """Some of the crops, all turned in one of the eight ways.

    Args:
        known: As :func:`make` returns them.
        count: How many, with repetition.
        draws: Decides which, and how they are turned.
    """
    at = torch.randint(len(known["sigma"]), (count,), generator=draws)
    way = int(torch.randint(8, (), generator=draws))
    clean, observed, restored = (
        turn(known[name][at].float(), way) for name in ("clean", "observed", "restored")
    )
    blur = Blur(turn(known["kernels"][at], way), (clean.shape[-2], clean.shape[-1]))
    return Restored(clean / 255, observed, blur.symbol, known["sigma"][at], restored)
