r"""D = D_num after D_net: networks on background and rain, each certified in its block's metric.

Book: chapter 12.
"""

from __future__ import annotations

from typing import Any, Self, cast

import torch
from torch import Tensor

from bmo.metric import Metric
from bmo.operators import Operator
from bmo.operators.base import _shallow
from bmo.operators.splitting import require_euclidean
from bmo.problems.deraining.step import RainStep

PARTS = ("step", "background", "rain")
ORDER = ("none", "checked", "by construction")


class Derainer(Operator):
    r""":math:`D = D_{num}\circ D_{net}`, nonexpansive in the metric of :math:`D_{num}`.

    .. math:: D_{net}(B, M) = \big(N_B(B),\; P^{-1/2}N_M(P^{1/2}M)\big),
        \qquad P = \mathrm{diag}(p_1, \dots, p_N)

    :math:`N_B` and :math:`N_M` are nonexpansive in the Euclidean metric. On the background the
    metric is a multiple of the identity, and a multiple changes no ratio of norms, so
    :math:`N_B` needs no change; on the maps it has a weight for each map, hence the conjugation.

    ``D.bind(b=O)`` binds the observation, and gives it to networks that take a ``guide``.

    Args:
        step: :math:`D_{num}`.
        background: :math:`N_B` on (..., c, H, W); ``None`` for the identity.
        rain: :math:`N_M` on (..., N, H, W); ``None`` for the identity.

    Raises:
        MetricError: A network is not claimed in the Euclidean metric.

    Example:
        >>> import bmo
        >>> step = RainStep(torch.eye(3)[None] / 3, torch.zeros(3, 8, 8), threshold=0.1)
        >>> D = Derainer(step, bmo.networks.CertifiedConv(channels=3, hidden=4, depth=2))
        >>> D.bind(b=torch.ones(2, 3, 8, 8))(torch.zeros(2, 4, 8, 8)).shape
        torch.Size([2, 4, 8, 8])
    """

    def __init__(
        self, step: RainStep, background: Operator | None = None, rain: Operator | None = None
    ) -> None:
        super().__init__()
        for network in (background, rain):
            if network is not None:
                require_euclidean(network)
        self.step, self.background, self.rain = step, background, rain
        parts = [step.certified, *(n.certified for n in (background, rain) if n is not None)]
        self.certified = min(parts, key=ORDER.index)

    def bind(self, **data: Any) -> Self:
        """The same operator on other data, for every part that has data of that name.

        The observation ``b`` is the guide of the networks, too.

        Raises:
            ConditionError: No part has data of that name.
        """
        clone = _shallow(self)
        for name, value in data.items():
            found = [part for part in PARTS if name in _data(getattr(clone, part))]
            if not found:
                self.step.bind(**{name: value})  # says which names there are
            for part in found:
                setattr(clone, part, getattr(clone, part).bind(**{name: value}))
            for part in PARTS if name == "b" else ():
                if "guide" in _data(getattr(clone, part)):
                    setattr(clone, part, getattr(clone, part).bind(guide=_batch(value)))
        return clone.prepared()

    @property
    def metric(self) -> Metric:
        return self.step.metric

    @property
    def averaged(self) -> float:
        """Of the composition: the networks act on separate blocks, so the weaker one counts."""
        networks = [n.averaged for n in (self.background, self.rain) if n is not None]
        if not networks:
            return self.step.averaged
        if max(*networks, self.step.averaged) == 1:
            return 1.0
        total = sum(a / (1 - a) for a in (max(networks), self.step.averaged))
        return total / (1 + total)

    def forward(self, u: Tensor) -> Tensor:
        background, maps = self.step.split(u)
        if self.background is not None:
            background = self.background(background)
        if self.rain is not None:
            root = cast(Tensor, self.step.prepare().rain).sqrt()
            maps = self.rain(root * maps) / root
        return self.step(torch.cat([background, maps], -3))


def _data(part: Operator | None) -> set[str]:
    """The names of an operator's data."""
    return set() if part is None else {n.rsplit(".", 1)[-1] for n, _ in part.named_buffers()}


def _batch(observation: Tensor) -> Tensor:
    return observation if observation.dim() > 3 else observation[None]
