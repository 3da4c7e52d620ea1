r"""IRCNN: 25 dilated networks, one for every second noise level. Class ENA."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from bmo.baselines.denoisers.base import Denoiser, fill
from bmo.baselines.denoisers.reading import keras_layers
from bmo.data import locate
from bmo.errors import DomainError

DILATIONS = (1, 2, 3, 4, 3, 2, 1)
HIDDEN = 64
NETS = 25


class IRCNNGray(Denoiser):
    r"""The gray denoisers of IRCNN: net k removes noise of level 2k/255.

    Each has seven convolutions with dilations 1, 2, 3, 4, 3, 2, 1, with ReLU between them, and
    gives the noise: :math:`u - N_k(u)`. For a level :math:`\sigma` the net
    :math:`k = \lceil 255\sigma/2 \rceil` is taken, between 1 and 25. The channels of a colour
    image are denoised one by one.

    Args:
        nets: Which nets to make, out of 1 to 25; the others cannot be used.

    Raises:
        DomainError: Another net.

    Source: Zhang, Zuo, Gu, Zhang, "Learning Deep CNN Denoiser Prior for Image Restoration",
    CVPR 2017.

    Example:
        >>> net = IRCNNGray(nets=[13])
        >>> net(torch.rand(1, 3, 8, 8), 25 / 255).shape
        torch.Size([1, 3, 8, 8])
    """

    name = "ircnn-gray"

    def __init__(self, nets: Sequence[int] | None = None) -> None:
        super().__init__()
        chosen = range(1, NETS + 1) if nets is None else nets
        if not chosen or not set(chosen) <= set(range(1, NETS + 1)):
            raise DomainError(f"nets out of 1 to {NETS}", f"{nets}", "net k is for 2k/255", nets)
        ends = (1, *[HIDDEN] * (len(DILATIONS) - 1), 1)
        shapes = list(zip(ends, ends[1:], strict=False))
        self.nets = nn.ModuleDict({str(k): self.layers(shapes) for k in chosen})

    @classmethod
    def pretrained(cls, nets: Sequence[int] | None = None) -> IRCNNGray:
        """The published weights, verified by sha256.

        Raises:
            DataError: No package h5py, or a file is missing or altered.
        """
        net = cls(nets)
        for k in net.nets:
            file = f"ircnn_gray/net{k}.hdf5"
            fill(net.layers_of(k), keras_layers(locate(file)), file)
        return net

    def net_of(self, sigma: float) -> str:
        r"""The name of the net for a level: :math:`\lceil 255\sigma/2\rceil` in 1, ..., 25.

        Raises:
            DomainError: This net was not made.

        Example:
            >>> IRCNNGray(nets=[7, 8]).net_of(15 / 255)
            '8'
        """
        # 1e-6: a level that was computed (49/255 times 255) is not pushed into the next net
        k = str(min(max(-int(-(sigma * 255 / 2 - 1e-6) // 1), 1), NETS))
        if k not in self.nets:
            raise DomainError(f"net {k} for level {sigma:.4g}", "not made", "make it too", sigma)
        return k

    def layers_of(self, k: str) -> nn.ModuleList:
        """The convolutions of one net."""
        return cast(nn.ModuleList, self.nets[k])

    def estimate(self, u: Tensor, sigma: Tensor) -> Tensor:
        names = [self.net_of(level) for level in sigma.flatten().tolist()]
        if len(set(names)) > 1:
            return torch.cat(
                [self.estimate(a[None], b[None]) for a, b in zip(u, sigma, strict=True)]
            )
        flat = u.reshape(-1, 1, *u.shape[-2:])
        x, layers = flat, self.layers_of(names[0])
        for at, (layer, dilation) in enumerate(zip(layers, DILATIONS, strict=True)):
            conv = cast(nn.Conv2d, layer)
            x = functional.conv2d(x, conv.weight, conv.bias, padding=dilation, dilation=dilation)
            x = functional.relu(x) if at < len(DILATIONS) - 1 else x
        return (flat - x).reshape(u.shape)
