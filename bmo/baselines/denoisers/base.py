r"""What every denoiser of the comparison is: a noisy image and its noise level to an image.

None of them is nonexpansive by construction: ``certified`` is ``"none"``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bmo.errors import DataError, DomainError, ShapeError

Level = float | Tensor


class Denoiser(nn.Module, ABC):
    """A network that removes Gaussian noise of a known level from images on [0, 1].

    Its weights are fixed (they have no gradient), in float32. Points of another precision are
    converted on the way in and on the way out.

    Attributes:
        name: Its name in tables.
        channels: Channels of an image that it takes; ``None`` for any number, one by one.
        certified: How its nonexpansiveness is known: ``"none"``.

    An example: :class:`bmo.baselines.denoisers.SimpleCNN`.
    """

    name: str
    channels: int | None = None
    certified = "none"

    def layers(self, shapes: Sequence[tuple[int, int]], bias: bool = True) -> nn.ModuleList:
        """Convolutions 3×3 with these channels in and out."""
        found = nn.ModuleList([nn.Conv2d(a, b, 3, padding=1, bias=bias) for a, b in shapes])
        return found.requires_grad_(False)

    @abstractmethod
    def estimate(self, u: Tensor, sigma: Tensor) -> Tensor:
        """The clean image, for ``u`` (B, C, H, W) in the precision of the weights."""

    def forward(self, u: Tensor, sigma: Level) -> Tensor:
        r"""Denoise.

        Args:
            u: Noisy images, shape (B, C, H, W).
            sigma: Standard deviation of the noise on the scale of u (25/255, say): a number, or
                one for each image, shape (B, 1, 1, 1).

        Raises:
            ShapeError: Another shape, or other channels.
            DomainError: A negative noise level.
        """
        wanted = "C" if self.channels is None else str(self.channels)
        if u.dim() != 4 or u.shape[1] != (self.channels or u.shape[1]):
            raise ShapeError(
                f"images of shape (B, {wanted}, H, W)", f"{tuple(u.shape)}", "add the axes", u
            )
        weight = next(self.parameters())
        level = torch.as_tensor(sigma, dtype=weight.dtype, device=u.device)
        if not bool((level >= 0).all()):
            raise DomainError("a noise level >= 0", f"{sigma}", "it is a deviation", sigma)
        if level.numel() not in (1, len(u)):
            raise ShapeError(f"1 or {len(u)} noise levels", f"{level.numel()}", "one an image", u)
        levels = level.reshape(-1, 1, 1, 1).expand(len(u), 1, 1, 1)
        return self.estimate(u.to(weight.dtype), levels).to(u.dtype)


def fill(layers: nn.ModuleList, weights: Sequence[Sequence[Tensor]], source: str) -> None:
    """Copy kernels (and biases) into convolutions.

    Raises:
        DataError: Another number of layers, or another shape.
    """
    wanted = [[tuple(p.shape) for p in layer.parameters()] for layer in layers]
    found = [[tuple(w.shape) for w in pair] for pair in weights]
    if wanted != found:
        raise DataError(
            f"{len(wanted)} layers, from {wanted[0]} to {wanted[-1]}",
            f"{len(found)}, from {found[:1]} to {found[-1:]}",
            "take the weights of this architecture",
            source,
        )
    with torch.no_grad():
        for layer, pair in zip(layers, weights, strict=True):
            for parameter, value in zip(layer.parameters(), pair, strict=True):
                parameter.copy_(value)
