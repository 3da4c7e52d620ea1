r"""What a certified block may be told: free numbers, or free maps of an image that is given.

Book: chapter 5, "Potential networks". Nothing here is constrained. The block that uses the
numbers carries them into their range.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from bmo.errors import ConditionError, DomainError, ShapeError
from bmo.networks.unet import UBody

REFERENCE = 0.05
"""The noise level at which the slopes in the level count nothing."""


def to_pieces(x: Tensor, side: int) -> Tensor:
    """Cut images into ``side`` x ``side`` pieces as channels, zeros filling the last ones.

    An isometry: every value is kept once, and zeros are added.

    Example:
        >>> import torch
        >>> from bmo.networks.maps import to_pieces
        >>> to_pieces(torch.ones(1, 1, 3, 4), 2).shape
        torch.Size([1, 4, 2, 2])
    """
    more = (0, -x.shape[-1] % side, 0, -x.shape[-2] % side)
    return functional.pixel_unshuffle(functional.pad(x, more), side)


class Maps(nn.Module):
    r"""One number for each block, part and filter; with a guide, one for each pixel as well.

    :math:`r = a + \ell\,a' + U(g, \ell)` with :math:`\ell = \log(\sigma/0.05 + 0.01)`, learned
    :math:`a, a'` and a free network :math:`U` (:class:`~bmo.networks.UBody`) of the guide g.

    Args:
        start: a at the start, shape (blocks, parts, features).
        guide: Channels of the guide; 0 for none.
        widths: Widths of the guide's network.
        stride: The guide is cut into pieces of this side, as the image is.

    An example: :class:`bmo.networks.CertifiedPotential`.
    """

    def __init__(self, start: Tensor, guide: int, widths: Sequence[int], stride: int) -> None:
        super().__init__()
        self.value = nn.Parameter(start.clone())
        self.slope = nn.Parameter(torch.zeros_like(start))
        self.stride = stride
        self.network = None
        if guide:
            self.network = UBody(guide * stride**2 + 1, start.numel(), widths, last=1)
            with torch.no_grad():  # at first the guide changes little
                self.network.tail.weight.mul_(0.1)

    def forward(self, sigma: Tensor, guide: Tensor) -> Tensor:
        """The numbers, shape (B, blocks, parts, features, h, w); h = w = 1 without a guide.

        Args:
            sigma: Noise levels, shape () or (B, 1, 1, 1).
            guide: Shape (B, guide, H, W); without a guide it is not looked at.

        Raises:
            ConditionError: No guide was bound.
            ShapeError: The guide has other channels, or another batch than the noise levels.
            DomainError: A noise level is negative or not finite.
        """
        level = torch.log(require_levels(sigma).reshape(-1, 1, 1, 1) / REFERENCE + 0.01)
        column = (-1, 1, 1)
        raw = self.value.reshape(column) + self.slope.reshape(column) * level
        if self.network is not None:
            images = max(guide.shape[0], level.shape[0])
            self._require_guide(guide, level)
            pieces = to_pieces(guide, self.stride).expand(images, -1, -1, -1)
            flat = level.expand(images, 1, *pieces.shape[-2:])
            raw = raw + self.network(torch.cat([pieces, flat], 1))
        return raw.unflatten(1, self.value.shape)

    def _require_guide(self, guide: Tensor, level: Tensor) -> None:
        if not guide.numel():
            raise ConditionError("a guide", "none", "set it with bind(guide=...)")
        channels = (self.network.head.in_channels - 1) // self.stride**2 if self.network else 0
        sizes = {guide.shape[0], level.shape[0]} - {1}
        if guide.dim() != 4 or guide.shape[1] != channels or len(sizes) > 1:
            raise ShapeError(
                f"a guide (B, {channels}, H, W) and as many noise levels, or one",
                f"{tuple(guide.shape)} and {level.shape[0]} levels",
                "bind them from the same observations",
                guide,
            )


def require_levels(sigma: Tensor) -> Tensor:
    """Refuse noise levels that are negative or not finite."""
    if not torch.compiler.is_compiling() and not bool((torch.isfinite(sigma) & (sigma >= 0)).all()):
        raise DomainError(
            "noise levels >= 0", f"{sigma.flatten().tolist()}", "pass a standard deviation", sigma
        )
    return sigma
