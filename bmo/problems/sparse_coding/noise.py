r"""The two kinds of noise, and the part of a patch that is not coded.

Book: chapter 10. ``gaussian``: :math:`b = x + \sigma\varepsilon`, :math:`\sigma = 25/255`.
``salt-pepper``: one pixel in ten becomes 0 or 1, each with equal probability.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bmo.errors import DomainError

SIGMA = 25 / 255
FRACTION = 0.10
NOISES = ("gaussian", "salt-pepper")


def require_noise(noise: str) -> str:
    """Refuse a name that is not one of :data:`NOISES`."""
    if noise not in NOISES:
        raise DomainError(f"a noise of {', '.join(NOISES)}", repr(noise), "choose one", noise)
    return noise


def corrupt(clean: Tensor, noise: str, generator: torch.Generator) -> Tensor:
    r"""The observation of ``clean``; a different draw each time the generator is used.

    Args:
        clean: Values on [0, 1], any shape.
        noise: ``"gaussian"`` (not cut to [0, 1]) or ``"salt-pepper"``.
        generator: Where the draw comes from.

    Raises:
        DomainError: Another name of a noise.

    Example:
        >>> y = corrupt(torch.full((10_000,), 0.5), "salt-pepper", torch.Generator().manual_seed(0))
        >>> sorted(set(y.tolist()))
        [0.0, 0.5, 1.0]
    """
    if require_noise(noise) == "gaussian":
        draw = torch.randn(clean.shape, generator=generator, dtype=clean.dtype)
        return clean + SIGMA * draw
    draw = torch.rand(clean.shape, generator=generator, dtype=clean.dtype)
    struck = torch.where(draw < FRACTION / 2, 0.0, torch.where(draw < FRACTION, 1.0, clean))
    return struck.to(clean)


def centre(observed: Tensor, noise: str) -> Tensor:
    r"""The level of each patch, computed from the observation alone; it is not coded.

    The mean for Gaussian noise. Salt and pepper would drag the mean, so there it is the median.

    Args:
        observed: Patches, shape (..., m).
        noise: One of :data:`NOISES`.

    Returns:
        Shape (..., 1).

    Example:
        >>> centre(torch.tensor([0.2, 0.2, 0.2, 1.0, 0.0]), "salt-pepper")
        tensor([0.2000])
    """
    if require_noise(noise) == "gaussian":
        return observed.mean(-1, keepdim=True)
    return observed.median(-1, keepdim=True).values
