r"""Plug-and-play with one map for all steps: a denoiser of fixed level, then the data prox."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from bmo.baselines.denoisers.base import Denoiser, Level
from bmo.baselines.denoisers.schedules import data_step, require_data
from bmo.errors import DomainError


@dataclass(frozen=True)
class Setting:
    r"""The two numbers of a stationary scheme.

    Attributes:
        level: :math:`s`, the level of the denoiser, in units of 1/255.
        weight: w, in :math:`\rho = w\sigma^2/s^2`; the step of the prox is
            :math:`\tau = 1/\rho`.
    """

    level: float
    weight: float


class Stationary:
    r"""The same step again and again: :math:`u \leftarrow \prox_{\tau f}(N(u; s))`. Class ENA.

    .. math:: u^{n+1} = \operatorname*{argmin}_u \|k * u - b\|^2 + \rho\|u - N(u^n; s)\|^2,
        \qquad u^0 = b, \quad \rho = w\sigma^2/s^2 = 1/\tau

    with :math:`f = \tfrac12\|k * u - b\|^2`. The map is nonexpansive where the denoiser is;
    the published denoisers are not known to be, so nothing is promised.

    Args:
        denoiser: N.
        setting: Its level and the weight of the data step.
        steps: How many.

    Raises:
        DomainError: No step, or a number that is not positive.

    Example:
        >>> from bmo.baselines.denoisers import FFDNet, Setting, Stationary
        >>> b, symbol = torch.rand(1, 3, 16, 16), torch.ones(1, 1, 16, 9, dtype=torch.complex64)
        >>> Stationary(FFDNet(3), Setting(10, 0.5), steps=3).restore(b, symbol, 0.01).shape
        torch.Size([1, 3, 16, 16])
    """

    certified = "none"

    def __init__(self, denoiser: Denoiser, setting: Setting, steps: int = 60) -> None:
        if steps < 1 or not setting.level > 0 or not setting.weight > 0:
            raise DomainError("steps, level, weight > 0", f"{steps}, {setting}", "raise it", steps)
        self.denoiser, self.setting, self.steps = denoiser, setting, steps

    def restore(self, b: Tensor, symbol: Tensor, sigma: Level) -> Tensor:
        """Deblur; see :meth:`bmo.baselines.denoisers.Scheduled.restore`.

        Raises:
            ShapeError: The symbol does not fit.
            DomainError: A noise level that is not positive.
        """
        u = b
        for u, _ in self.iterates(b, symbol, sigma):
            pass
        return u

    @torch.no_grad()
    def iterates(self, b: Tensor, symbol: Tensor, sigma: Level) -> Iterator[tuple[Tensor, Tensor]]:
        """:math:`u^{n+1}` and :math:`N(u^n; s)` for n = 0, 1, ..."""
        spectrum = require_data(b, symbol, sigma)
        level = self.setting.level / 255
        rho = self.setting.weight * (torch.as_tensor(sigma).to(b) / level) ** 2
        u = b
        for _ in range(self.steps):
            z = self.denoiser(u, level)
            u = data_step(z, spectrum, symbol, rho)
            yield u, z
