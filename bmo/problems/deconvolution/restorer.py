"""Who restores an image before a method begins: a public denoiser, with the published weights.

Book: chapter 11, "A better reference". It is asked once, before the first step of a loop, and what
it says stands still.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from torch import Tensor

from bmo.baselines.denoisers import DPIR, Averaged, FFDNet

#: Observations, symbols and noise levels to images.
Restorer = Callable[[Tensor, Tensor, Tensor], Tensor]


@cache
def _network() -> FFDNet:
    return FFDNet.pretrained(3)


class Public:
    """FFDNet in DPIR's schedule: eight steps; the mean of several orders of turns.

    Args:
        orders: How many: 1, 2, 4 or 8.

    Raises:
        DataError: (when called) The weights are missing or altered.
    """

    def __init__(self, orders: int) -> None:
        self.orders = orders

    def __call__(self, observed: Tensor, symbol: Tensor, sigma: Tensor) -> Tensor:
        net = _network().to(observed.device)
        return Averaged(net, DPIR, self.orders).restore(observed, symbol, sigma).to(observed)
