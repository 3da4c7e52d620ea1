r"""A small network of four layers for one noise level. Class ENA."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from bmo.baselines.denoisers.base import Denoiser, fill
from bmo.baselines.denoisers.reading import locate_torch
from bmo.errors import DataError, DomainError

#: Noise levels of the published weights, in units of 1/255.
LEVELS = (5, 15, 40)


class SimpleCNN(Denoiser):
    r"""Four convolutions without bias that give the noise: :math:`N(u) = u - R(u)`.

    These are the weights that were trained without a constraint. The condition of the source,
    that R be 1-Lipschitz, is for other weights (their names begin with ``RealSN``); here the
    derivative of R has norms near 2. Nor would the condition make N nonexpansive: :math:`R = -I`
    fulfils it, and then :math:`N = 2I`. The net is made for one level; the level given is
    ignored. The channels of a colour image are denoised one by one.

    Source: Ryu, Liu, Wang, Chen, Wang, Yin, "Plug-and-Play Methods Provably Converge with
    Properly Trained Denoisers", ICML 2019.

    Example:
        >>> import torch
        >>> SimpleCNN()(torch.rand(1, 3, 8, 8), 15 / 255).shape
        torch.Size([1, 3, 8, 8])
    """

    name = "simplecnn"

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = self.layers([(1, 64), (64, 64), (64, 64), (64, 1)], bias=False)

    @classmethod
    def pretrained(cls, level: int = 15) -> SimpleCNN:
        """The published weights for one noise level, verified by sha256.

        Args:
            level: 5, 15 or 40, in units of 1/255.

        Raises:
            DomainError: Another level.
            DataError: The file is missing or altered.
        """
        if level not in LEVELS:
            raise DomainError(f"a level of {LEVELS}", f"{level}", "choose one of them", level)
        file = f"weights/pnp_simplecnn/SimpleCNN_noise{level}.pth"
        net, named = cls(), locate_torch(file)
        wanted = [f"dncnn.{2 * k}.weight" for k in range(len(net.convolutions))]
        if set(named) != set(wanted):
            raise DataError(f"{wanted}", f"{sorted(named)}", "replace it", file)
        fill(net.convolutions, [[named[name]] for name in wanted], file)
        return net

    def estimate(self, u: Tensor, sigma: Tensor) -> Tensor:
        flat = u.reshape(-1, 1, *u.shape[-2:])
        x = flat
        for layer in self.convolutions[:-1]:
            x = functional.relu(layer(x))
        return (flat - self.convolutions[-1](x)).reshape(u.shape)
