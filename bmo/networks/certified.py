r"""Networks that are nonexpansive for every value of their weights.

Book: chapter 5. Each layer divides its matrix (or kernel) by :math:`\max(1, \text{norm})`, the
activations are 1-Lipschitz, and the whole is averaged with the identity:
:math:`D = (1-a)I + aN`. No batch normalisation: its scale is free. The norm is the true one or a
bound above it. Normalising the kernel *as a matrix*, which is what ``spectral_norm`` of torch does,
leaves a convolution whose norm is anything between 1 and the side of the kernel.
"""

from __future__ import annotations

from abc import abstractmethod
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from bmo.errors import ConditionError, ShapeError
from bmo.metric import Identity, Metric
from bmo.networks.bound import circular_bound
from bmo.operators.base import Preparing, require_averaged
from bmo.operators.spectral import largest_eigenvalue

ACTIVATIONS = ("sort", "relu")


def sort_pairs(x: Tensor, dim: int) -> Tensor:
    r"""Sort each pair of neighbours along ``dim``: 1-Lipschitz, and it keeps the gradient's norm.

    Args:
        x: Any tensor whose axis ``dim`` (negative) has an even length.
        dim: The axis, counted from the end.

    Example:
        >>> import torch
        >>> from bmo.networks import sort_pairs
        >>> sort_pairs(torch.tensor([1.0, 3.0, 5.0, 2.0]), -1)
        tensor([3., 1., 5., 2.])
    """
    pairs = x.unflatten(dim, (x.shape[dim] // 2, 2))
    first, second = pairs.select(dim, 0), pairs.select(dim, 1)
    both = torch.stack([torch.maximum(first, second), torch.minimum(first, second)], dim)
    return both.flatten(dim - 1, dim)


class CertifiedNetwork(Preparing):
    """What both families share: normalised layers, an activation, the average with the identity.

    An example: :class:`bmo.networks.CertifiedDense`.
    """

    certified = "by construction"

    def __init__(self, hidden: int, averaged: float, activation: str) -> None:
        super().__init__()
        if activation not in ACTIVATIONS or (activation == "sort" and hidden % 2):
            raise ConditionError(
                f"an activation out of {ACTIVATIONS}, and an even width for 'sort'",
                f"{activation!r} with width {hidden}",
                "use 'sort' with an even width",
            )
        self.activation = activation
        self._averaged = require_averaged(averaged)
        self.weights = nn.ParameterList()
        self.biases = nn.ParameterList()

    @abstractmethod
    def _normalised(self, weight: Tensor) -> Tensor:
        """The weight divided by max(1, norm)."""

    def _compute(self) -> list[Tensor]:
        return [self._normalised(weight) for weight in self.weights]

    def _activate(self, x: Tensor, dim: int) -> Tensor:
        return sort_pairs(x, dim) if self.activation == "sort" else torch.relu(x)

    @property
    def averaged(self) -> float:
        return self._averaged


class CertifiedDense(CertifiedNetwork):
    r"""A dense network, nonexpansive by construction: :math:`D = (1-a)I + aN`.

    :math:`N = V_d\,\sigma(\dots\sigma(V_1u + c_1)\dots) + c_d` with each :math:`V` a free matrix
    divided by :math:`\max(1, \|V\|)`, the exact spectral norm. Book: chapter 5.

    Args:
        size: n, the length of a point.
        hidden: Width of the inner layers.
        depth: Number of layers >= 1.
        averaged: a in (0, 1]; D is a-averaged.
        activation: ``"sort"`` (pairs, needs an even width) or ``"relu"``.

    Raises:
        ConditionError: ``averaged`` or ``depth`` is outside its range, or the activation is
            unknown.

    Example:
        >>> import torch, bmo
        >>> D = bmo.networks.CertifiedDense(4, hidden=8, depth=3)
        >>> D(torch.zeros(5, 4)).shape
        torch.Size([5, 4])
    """

    def __init__(
        self,
        size: int,
        hidden: int = 64,
        depth: int = 3,
        averaged: float = 0.5,
        activation: str = "sort",
    ) -> None:
        super().__init__(hidden, averaged, activation)
        for n_in, n_out in pairwise(layer_widths(size, hidden, depth)):
            weight = torch.empty(n_out, n_in)
            nn.init.orthogonal_(weight)
            self.weights.append(nn.Parameter(weight))
            self.biases.append(nn.Parameter(torch.zeros(n_out)))

    @property
    def metric(self) -> Metric:
        return Identity()

    def _normalised(self, weight: Tensor) -> Tensor:
        gram = weight @ weight.mT if weight.shape[0] <= weight.shape[1] else weight.mT @ weight
        return weight / largest_eigenvalue(gram).clamp_min(1.0).sqrt()

    def forward(self, u: Tensor) -> Tensor:
        x, matrices = u, self.prepare()
        for k, (matrix, bias) in enumerate(zip(matrices, self.biases, strict=True), 1):
            x = functional.linear(x, matrix, bias)
            if k < len(matrices):
                x = self._activate(x, -1)
        return (1 - self._averaged) * u + self._averaged * x


class CertifiedConv(CertifiedNetwork):
    r"""A circular convolutional network, nonexpansive for every weight and every image size.

    Each kernel is divided by :math:`\max(1, \text{bound})`, the bound of :func:`circular_bound`;
    then :math:`D = (1-a)I + aN`. Book: chapter 5.

    Args:
        channels: Channels of a point (1 for grey, 3 for colour).
        hidden: Channels of the inner layers.
        depth: Number of layers >= 1.
        kernel: Side of the kernels, odd.
        averaged: a in (0, 1]; D is a-averaged.
        activation: ``"sort"`` (pairs, needs an even width) or ``"relu"``.
        grid: Frequencies along each axis for the bound.

    Raises:
        ConditionError: An argument is outside its range, or the activation is unknown.
        ShapeError: The kernel's side is even, or an image is smaller than half a kernel.

    Example:
        >>> import torch, bmo
        >>> D = bmo.networks.CertifiedConv(channels=1, hidden=8, depth=3)
        >>> D(torch.zeros(2, 1, 16, 16)).shape
        torch.Size([2, 1, 16, 16])
    """

    def __init__(
        self,
        channels: int = 1,
        hidden: int = 32,
        depth: int = 5,
        kernel: int = 3,
        averaged: float = 0.5,
        activation: str = "sort",
        grid: int = 16,
    ) -> None:
        super().__init__(hidden, averaged, activation)
        self.reach, self.grid = (kernel - 1) // 2, grid
        for c_in, c_out in pairwise(layer_widths(channels, hidden, depth)):
            weight = torch.randn(c_out, c_in, kernel, kernel)
            self.weights.append(nn.Parameter(weight / circular_bound(weight, grid)))
            self.biases.append(nn.Parameter(torch.zeros(c_out)))

    @property
    def metric(self) -> Metric:
        return Identity(3)

    def _normalised(self, weight: Tensor) -> Tensor:
        return weight / circular_bound(weight, self.grid).clamp_min(1.0)

    def forward(self, u: Tensor) -> Tensor:
        channels = self.weights[0].shape[1]
        if u.dim() < 3 or u.shape[-3] != channels:
            raise ShapeError(
                f"images (..., {channels}, H, W)",
                f"shape {tuple(u.shape)}",
                f"build the network with channels={u.shape[-3] if u.dim() > 2 else 1}",
                u,
            )
        if min(u.shape[-2:]) < max(1, self.reach):
            raise ShapeError(
                f"images of at least {self.reach} pixels a side", f"{tuple(u.shape)}", "pad them", u
            )
        x, kernels = u.flatten(0, -4) if u.dim() > 4 else u, self.prepare()
        pad = (self.reach,) * 4
        for k, (weight, bias) in enumerate(zip(kernels, self.biases, strict=True), 1):
            x = functional.conv2d(functional.pad(x, pad, mode="circular"), weight, bias)
            if k < len(kernels):
                x = self._activate(x, -3)
        return (1 - self._averaged) * u + self._averaged * x.reshape(u.shape)


def layer_widths(ends: int, hidden: int, depth: int) -> list[int]:
    """Widths of the layers of a network that maps a space to itself.

    Example:
        >>> from bmo.networks import layer_widths
        >>> layer_widths(4, 16, 3)
        [4, 16, 16, 4]
    """
    if depth < 1:
        raise ConditionError("depth >= 1", f"{depth}", "use one layer at least", depth)
    return [ends, *[hidden] * (depth - 1), ends]
