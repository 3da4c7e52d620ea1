r"""Potential steps around a reference image: :math:`D_{net}` of chapter 11.

Book: chapter 11. The blocks of :class:`~bmo.networks.CertifiedPotential` penalise filter responses
of :math:`u`. Here they penalise those of :math:`u - r`, where r is a reference image that a free
network computes from the guide: the bias is :math:`\sigma c - Vr`. As r does not depend on the
iterate, the bound stays what it was.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from bmo.networks import CertifiedPotential, UBody, circular_bound
from bmo.networks.maps import to_pieces
from bmo.networks.potential import START, Layer


class CentredPotential(CertifiedPotential):
    r"""Gradient steps of convex potentials of :math:`u - r`, r a denoised guide.

    .. math:: x \mapsto x - 2V^\top\big(m \odot \mathrm{clip}(V(x - r) + \sigma c, -t, t)\big),
              \qquad r = g - R(g, \sigma)

    R is a free network (:class:`~bmo.networks.UBody`) that reads the guide g and the noise level;
    t, m and c are maps of g as in :class:`~bmo.networks.CertifiedPotential`. At the start V holds
    the unit filters and m = 1/2: a block carries x to r where they differ by less than t, so D is
    the free denoiser where g = x.

    Args:
        features: Filters of each block, at least 12.
        blocks: Number of blocks.
        widths: Widths of R; none: R = 0, and r is the guide itself.
        map_widths: Widths of the network of the maps; none: t, m and c are numbers that move with
            the noise level.
        certified: ``False``: filters are not divided by their norm, and nothing is claimed.
        parts: As of :class:`~bmo.networks.CertifiedPotential`; without ``"bias"`` c = 0.

    Example:
        >>> D = CentredPotential(features=12, blocks=1, widths=(4,), map_widths=(4,))
        >>> g = torch.rand(2, 3, 16, 16)
        >>> D.bind(sigma=torch.full((2, 1, 1, 1), 0.1), guide=g)(g).shape
        torch.Size([2, 3, 16, 16])
    """

    def __init__(
        self,
        features: int = 24,
        blocks: int = 2,
        widths: Sequence[int] = (32, 48, 64),
        map_widths: Sequence[int] = (16, 24),
        certified: bool = True,
        parts: Sequence[str] = tuple(START),
    ) -> None:
        guide = 3 if map_widths else 0  # what the maps read; r is the bound guide in any case
        super().__init__(3, features, blocks, guide=guide, guide_widths=map_widths, parts=parts)
        self.certified = "by construction" if certified else "none"
        pieces = 3 * self.stride**2
        self.reference = UBody(3 + 1, 3, widths) if widths else None
        with torch.no_grad():
            if self.reference is not None:
                self.reference.tail.weight.mul_(0.1)
            for part, value in {"threshold": 3.0, "mask": 0.0}.items():
                if part in self.parts:
                    self.maps.value[:, self.parts.index(part)] = value
            if self.maps.network is not None:
                for free in self.maps.network.tail.parameters():  # constant maps at first
                    free.zero_()
            for kernel in self.kernels:
                kernel.mul_(0.1)
                nn.init.dirac_(kernel[:pieces])

    def _compute(self) -> list[Layer]:
        guide = self.guide.to(self.maps.value)
        r = to_pieces(self.centre(guide), self.stride)
        r = functional.pad(r, (2 * self.reach,) * 4, mode="circular")
        return [
            self._centred(layer, weight, r)
            for layer, weight in zip(super()._compute(), self.kernels, strict=True)
        ]

    def centre(self, guide: Tensor) -> Tensor:
        """The image r at the bound noise level, shape of the guide (B, 3, H, W)."""
        if self.reference is None:
            return guide
        level = self.sigma.to(guide).reshape(-1, 1, 1, 1).expand(len(guide), 1, *guide.shape[2:])
        found: Tensor = guide - self.reference(torch.cat([guide, level], 1))
        return found

    def _centred(self, layer: Layer, weight: Tensor, r: Tensor) -> Layer:
        r"""The layer with the bias :math:`\sigma c - Vr`; free filters if nothing is claimed."""
        filters, adjoint = layer.filters, layer.adjoint
        if self.certified == "none":
            size = circular_bound(weight, self.grid).clamp_min(1.0)
            filters, adjoint = filters * size, adjoint * size
        bias = -functional.conv2d(r, filters)
        if layer.bias is not None:
            bias = bias + self.sigma.to(r).reshape(-1, 1, 1, 1) * layer.bias
        return layer._replace(filters=filters, adjoint=adjoint, bias=bias)
