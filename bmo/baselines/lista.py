r"""The LISTA family layer by layer: every layer has matrices of its own. Class ENA.

Book: chapter 10. Each network starts as ISTA and is trained without a constraint; nothing is known
of it beyond its last layer. With ``tied=True`` all steps share one layer.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bmo.baselines.base import (
    State,
    Unrolled,
    copies,
    first_step,
    require_positive,
    thresholds,
)
from bmo.errors import DomainError
from bmo.prox import soft


class LISTA(Unrolled):
    r"""Learned ISTA, :math:`u^{k+1} = \mathrm{soft}(W_2^ku^k + W_1^kb, \theta^k)`.

    Args:
        A: Dictionary, shape (..., m, n); :math:`W_1 = \tau A^\top`,
            :math:`W_2 = I - \tau A^\top A` at the start.
        depth: Number of layers.
        penalty: :math:`\lambda > 0`; :math:`\theta = \tau\lambda` at the start. A learned
            threshold below zero acts as zero.
        step: :math:`\tau \in (0, 2/\|A\|^2]`; ``None`` for :math:`1/\|A\|^2`.
        tied: One layer for all steps.
        coordinates: A threshold for each coefficient, not one for all.

    Raises:
        DomainError: A number is out of its range.
        ConditionError: The step is too long.

    Source: Gregor, LeCun, ICML 2010; untied as in Chen, Liu, Wang, Yin, NeurIPS 2018, equation 4.

    Example:
        >>> net = LISTA(torch.eye(2), depth=3, penalty=1.0)
        >>> net(torch.tensor([3.0, 0.5])).detach(), net.name
        (tensor([2., 0.]), 'ena-lista-untied')
    """

    def __init__(
        self,
        A: Tensor,
        depth: int,
        penalty: float | Tensor,
        step: float | Tensor | None = None,
        tied: bool = False,
        coordinates: bool = False,
    ) -> None:
        super().__init__(A, depth, 1 if tied else require_layers(depth))
        require_positive("penalty", penalty)
        tau, n = first_step(A, step), A.shape[-1]
        self.name = "ena-lista-tied" if tied else "ena-lista-untied"
        self.products = n / A.shape[-2] + (not tied)
        self.W1 = copies(tau * A.mT, self.layers)
        self.W2 = copies(torch.eye(n).to(A) - tau * A.mT @ A, self.layers)
        self.theta = copies(thresholds(A, tau * penalty, coordinates), self.layers)

    def prepare(self, b: Tensor) -> list[Tensor]:
        return [b @ W.mT for W in self.W1]

    def step(self, k: int, state: State, data: list[Tensor]) -> State:
        return (soft(state[0] @ self.W2[k].mT + data[k], self.theta[k].clamp_min(0)),)


class LISTACP(Unrolled):
    r"""LISTA with coupled matrices, :math:`\mathrm{soft}(u^k + W^k(b - Au^k), \theta^k)`.

    Arguments and errors as in :class:`LISTA`; :math:`W = \tau A^\top` at the start.

    Source: Chen, Liu, Wang, Yin, NeurIPS 2018.

    Example:
        >>> net = LISTACP(torch.eye(2), depth=3, penalty=1.0)
        >>> net(torch.tensor([3.0, 0.5])).detach()
        tensor([2., 0.])
    """

    def __init__(
        self,
        A: Tensor,
        depth: int,
        penalty: float | Tensor,
        step: float | Tensor | None = None,
        tied: bool = False,
        coordinates: bool = False,
    ) -> None:
        super().__init__(A, depth, 1 if tied else require_layers(depth))
        require_positive("penalty", penalty)
        tau = first_step(A, step)
        self.name = "ena-lista-cp-tied" if tied else "ena-lista-cp"
        self.W = copies(tau * A.mT, self.layers)
        self.theta = copies(thresholds(A, tau * penalty, coordinates), self.layers)

    def shrink(self, k: int, z: Tensor) -> Tensor:
        """What follows the linear part of layer k."""
        return soft(z, self.theta[k])

    def step(self, k: int, state: State, data: Any) -> State:
        (u,) = state
        return (self.shrink(k, u + (data - u @ self.A.mT) @ self.W[k].mT),)


class LISTACPSS(LISTACP):
    r"""LISTA-CP with support selection: the largest entries are not shrunk.

    Layer k (from 1) trusts ``min(percent * k, most)`` percent of the entries: those of the largest
    size pass :func:`select` unchanged.

    Args:
        A: Dictionary, shape (..., m, n).
        depth: Number of layers.
        penalty: As in :class:`LISTA`.
        percent: The share that each layer adds, in percent.
        most: The largest share, in percent.
        options: Passed on (``step``, ``coordinates``).

    Raises:
        DomainError: A percentage is not in [0, 100].

    Source: Chen, Liu, Wang, Yin, NeurIPS 2018; the percentages are those of their program.

    Example:
        >>> net = LISTACPSS(torch.eye(2), depth=3, penalty=1.0, percent=50.0, most=50.0)
        >>> net(torch.tensor([3.0, 0.5])).detach()
        tensor([3., 0.])
    """

    def __init__(
        self,
        A: Tensor,
        depth: int,
        penalty: float | Tensor,
        percent: float = 1.2,
        most: float = 13.0,
        **options: Any,
    ) -> None:
        super().__init__(A, depth, penalty, **options)
        self.name = "ena-lista-cpss"
        self.counts = schedule(A.shape[-1], self.layers, percent, most)

    def shrink(self, k: int, z: Tensor) -> Tensor:
        return select(z, self.theta[k], self.counts[k])


def schedule(n: int, layers: int, percent: float, most: float) -> list[int]:
    """How many of n entries each layer trusts.

    Example:
        >>> schedule(500, 16, 1.2, 13.0)[:3], schedule(500, 16, 1.2, 13.0)[-1]
        ([6, 12, 18], 65)
    """
    if not (0 <= percent <= 100 and 0 <= most <= 100):
        raise DomainError("percentages in [0, 100]", f"{percent}, {most}", "1.2 and 13 are usual")
    return [round(min(percent * (k + 1), most) / 100 * n) for k in range(layers)]


def select(z: Tensor, theta: Tensor, count: int) -> Tensor:
    r"""Soft thresholding that leaves the ``count`` largest entries of a row as they are.

    An entry is left if it is also above :math:`\theta`. Which entries these are is not
    differentiated.

    Example:
        >>> select(torch.tensor([3.0, -2.0, 0.5]), torch.tensor(1.0), 1)
        tensor([ 3., -1.,  0.])
    """
    size = z.detach().abs()
    kept = size > theta.detach()
    if count < z.shape[-1]:
        kept &= size > size.topk(count + 1).values[..., -1:]
    return torch.where(kept, z, soft(z, theta))


def require_layers(depth: int) -> int:
    """Refuse a network without a layer."""
    if depth < 1:
        raise DomainError("at least one layer", f"depth = {depth}", "16 is usual", depth)
    return depth
