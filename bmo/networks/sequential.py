r"""Your own sequential network, made nonexpansive: each weight is divided by max(1, its norm).

Book: appendix C, "A network of your own", and chapter 5. The layers are used as they are; what
has no known Lipschitz constant is refused by name.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import cast

from torch import Tensor, nn
from torch.func import functional_call

from bmo.errors import ConditionError, ShapeError
from bmo.metric import Identity, Metric
from bmo.networks.bound import circular_bound
from bmo.operators.base import Preparing, require_averaged
from bmo.operators.spectral import largest_eigenvalue

#: Layers without weights that never expand.
FIXED = (
    *(nn.Identity, nn.ReLU, nn.ReLU6, nn.Tanh, nn.Sigmoid, nn.Hardtanh, nn.Softplus),
    *(nn.Softshrink, nn.Flatten, nn.Unflatten),
)
REMEDIES = {
    "Norm": "leave it out: its scale is free, and in training it mixes the batch",
    "Dropout": "leave it out: it answers differently each time",
    "GELU": "its slope exceeds 1: use ReLU, Tanh or Softplus",
    "SiLU": "its slope exceeds 1: use ReLU, Tanh or Softplus",
    "Conv": "use Conv2d with stride 1, groups 1 and padding 'same', zeros or circular",
}


class CertifiedSequential(Preparing):
    r"""Your ``nn.Sequential`` as a step: :math:`D = (1-a)I + aN`, nonexpansive for every weight.

    :math:`N` is your network with each weight divided by :math:`\max(1, \text{norm})`: for
    ``nn.Linear`` the exact norm, for ``nn.Conv2d`` the bound of :func:`circular_bound`, which
    holds for zero padding as well. A composition of nonexpansive maps is nonexpansive. Your
    network itself is not changed; its parameters are those of the step, and are learned with it.

    Args:
        network: Layers out of ``nn.Linear``, ``nn.Conv2d`` (square kernel of odd side, stride 1,
            one group, padding that keeps the size), activations with slope at most 1, and
            ``nn.Sequential`` of such.
        averaged: a in (0, 1]; D is a-averaged.
        axes: How many axes make a point: by default 3 if the first weight is a convolution's,
            else 1.
        grid: Frequencies along each axis for the bound.

    Raises:
        ConditionError: A layer's Lipschitz constant is not known, or ``averaged`` is outside its
            range.
        ShapeError: The network does not map points to points of the same shape.

    Example:
        >>> import torch, bmo
        >>> net = torch.nn.Sequential(torch.nn.Linear(4, 9), torch.nn.Tanh(), torch.nn.Linear(9, 4))
        >>> D = bmo.networks.CertifiedSequential(net)
        >>> D(torch.zeros(5, 4)).shape, D.certified
        (torch.Size([5, 4]), 'by construction')
    """

    certified = "by construction"

    def __init__(
        self,
        network: nn.Sequential,
        averaged: float = 0.5,
        axes: int | None = None,
        grid: int = 16,
    ) -> None:
        super().__init__()
        weighted = [layer for name, layer in _layers(network) if _require_known(name, layer)]
        self.network, self.grid = network, grid
        self._averaged = require_averaged(averaged)
        first = 3 if weighted and isinstance(weighted[0], nn.Conv2d) else 1
        self.axes = first if axes is None else axes

    @property
    def metric(self) -> Metric:
        return Identity(self.axes)

    @property
    def averaged(self) -> float:
        return self._averaged

    def _compute(self) -> dict[str, Tensor]:
        return {
            f"{name}.weight": self._normalised(layer)
            for name, layer in _layers(self.network)
            if isinstance(layer, (nn.Linear, nn.Conv2d))
        }

    def _normalised(self, layer: nn.Linear | nn.Conv2d) -> Tensor:
        weight = layer.weight
        if isinstance(layer, nn.Conv2d):
            grid = max(self.grid, 4 * weight.shape[-1])  # a kernel of side k needs more than k - 1
            return weight / circular_bound(weight, grid).clamp_min(1.0)
        gram = weight @ weight.mT if weight.shape[0] <= weight.shape[1] else weight.mT @ weight
        return weight / largest_eigenvalue(gram).clamp_min(1.0).sqrt()

    def forward(self, u: Tensor) -> Tensor:
        batched = u.flatten(0, -1 - self.axes) if u.dim() > self.axes else u[None]
        out = functional_call(self.network, self.prepare(), (batched,))
        if out.shape != batched.shape:
            raise ShapeError(
                f"a network from {tuple(batched.shape[1:])} to the same shape",
                f"{tuple(out.shape[1:])}",
                "let the last layer have as many outputs as the first has inputs",
                out,
            )
        return (1 - self._averaged) * u + self._averaged * out.reshape(u.shape)


def _layers(network: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """The layers by name, in the order in which they act."""
    if not isinstance(network, nn.Sequential):
        raise ConditionError(
            "an nn.Sequential, whose layers act one after the other",
            type(network).__name__,
            "write it so, or prove a bound L and give operators.Own a module of net(u) / L",
            network,
        )
    for key, layer in network.named_children():
        if isinstance(layer, nn.Sequential):
            yield from _layers(layer, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", layer


def _require_known(name: str, layer: nn.Module) -> bool:
    """Refuse a layer that might expand; tell whether it has a weight to be divided."""
    if isinstance(layer, nn.Linear) or (isinstance(layer, nn.Conv2d) and _keeps_size(layer)):
        return True
    slope = getattr(layer, "negative_slope", getattr(layer, "alpha", math.inf))
    bounded = isinstance(layer, (nn.LeakyReLU, nn.ELU)) and 0 <= slope <= 1
    if not bounded and type(layer) not in FIXED:
        kind = type(layer).__name__
        remedy = next((text for part, text in REMEDIES.items() if part in kind), "")
        raise ConditionError(
            "layers with a known Lipschitz constant: Linear, Conv2d, ReLU, Tanh, ...",
            f"layer {name!r}: {layer}",
            remedy or "replace it, or prove a bound and use operators.Own",
            layer,
        )
    return False


def _keeps_size(layer: nn.Conv2d) -> bool:
    """Whether the bound holds: a square kernel of odd side, stride 1, no groups, same size."""
    side, other = layer.kernel_size
    plain = side == other and side % 2 == 1 and layer.stride == (1, 1) and layer.groups == 1
    same = layer.padding == "same" or all(
        2 * p == d * (side - 1)
        for p, d in zip(cast(tuple[int, int], layer.padding), layer.dilation, strict=True)
    )
    return plain and same and layer.padding_mode in ("zeros", "circular")
