r"""Networks of gradient steps: nonexpansive for every weight, and free in what they are told.

Book: chapter 5, "Potential networks". A block subtracts the gradient of a convex potential. Its
filters are normalised; its thresholds, masks and biases need not be: they may be anything that
does not depend on the iterate, the output of a network without any constraint among them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from bmo.errors import ConditionError, ShapeError
from bmo.metric import Identity, Metric
from bmo.networks.bound import circular_bound
from bmo.networks.maps import Maps, to_pieces
from bmo.operators.base import Preparing, require_averaged

START = {"threshold": -1.0, "mask": 2.0, "bias": 0.0}
"""The parts of an activation, and the raw value that each starts from."""
THRESHOLDS = {"parts": ("threshold",)}
PRESETS: dict[str, dict[str, Any]] = {
    "small": {"features": 32, "blocks": 3, "kernel": 3, "guide_widths": (16, 24), **THRESHOLDS},
    "medium": {"features": 48, "blocks": 5, "kernel": 3, "guide_widths": (24, 32), **THRESHOLDS},
    "large": {"features": 48, "blocks": 6, "kernel": 5, "guide_widths": (32, 48), **THRESHOLDS},
}
"""Keyword arguments of :class:`CertifiedPotential` for three sizes."""


class Layer(NamedTuple):
    """What a block needs for one loop: filters, their adjoint, and the maps of its activation."""

    filters: Tensor
    adjoint: Tensor
    threshold: Tensor
    mask: Tensor | None
    bias: Tensor | None


class CertifiedPotential(Preparing):
    r"""Gradient steps of convex potentials, nonexpansive for every weight and every image size.

    Each block is, with a circular convolution :math:`V`, :math:`\|V\| \le 1`,

    .. math:: x \mapsto x - 2\,V^\top\big(m \odot \mathrm{clip}(Vx + c, -t, t)\big),
              \qquad t \ge 0,\; 0 \le m \le 1 .

    :math:`V^\top(m \odot \mathrm{clip}(\cdot))` is the gradient of a sum of Huber functions of the
    filtered image: a response below the threshold t is removed, a larger one is only reduced by t.
    Filters are free kernels divided by :math:`\max(1, \text{bound})` (:func:`circular_bound`).
    Thresholds, masks and biases are numbers for each filter that move with the noise level; with
    ``guide`` channels they are maps, computed by a free network from an image that the caller
    binds. They are computed once a loop. Before the blocks the image is cut into ``stride`` x
    ``stride`` pieces (an isometry), and zeros are appended up to ``width`` channels (another).

    Data, set by ``D.bind(sigma=..., guide=...)``: ``sigma``, shape () or (B, 1, 1, 1), the noise
    level on the scale of the image; ``guide``, shape (B, guide, H, W), H x W the size of the image.
    **The guide must not depend on the iterate.** Computed from the observation alone it is a
    constant of the loop.

    Args:
        channels: Channels of a point (1 for grey, 3 for colour).
        features: Filters of each block.
        blocks: Number of blocks >= 1.
        kernel: Side of the kernels, odd.
        stride: Side of the pieces; a side of the image that is no multiple is continued by zeros.
        width: Channels between the blocks, at least channels * stride**2 (the default).
        guide: Channels of the guide; 0 for none.
        guide_widths: Widths of the guide's network (:class:`UBody`).
        parts: ``"threshold"`` (always), and ``"mask"`` or ``"bias"`` where they are wanted: without
            them m = 1 and c = 0. Thresholds alone, as in ``PRESETS``, train fastest at first.
        firm: Blocks with the factor 1 instead of 2; each is then firmly nonexpansive.
        averaged: a in (0, 1]; :math:`D = (1-a)I + aN`, N the chain of the blocks.
        sigma: Noise level before any is bound.
        grid: Frequencies along each axis for the bound.

    Raises:
        ConditionError: An argument is outside its range.
        ShapeError: Image, guide and noise levels do not fit each other.
        DomainError: A noise level is negative or not finite.

    Book: chapter 5, Proposition "Potential steps".

    Example:
        >>> import torch, bmo
        >>> D = bmo.networks.CertifiedPotential(channels=1, features=8, blocks=2, guide=1)
        >>> u = torch.zeros(2, 1, 16, 16)
        >>> D.bind(sigma=torch.tensor(0.1), guide=u)(u).shape
        torch.Size([2, 1, 16, 16])
    """

    certified = "by construction"
    sigma: Tensor
    guide: Tensor

    def __init__(
        self,
        channels: int = 3,
        features: int = 48,
        blocks: int = 5,
        kernel: int = 3,
        stride: int = 2,
        width: int | None = None,
        guide: int = 0,
        guide_widths: Sequence[int] = (24, 32),
        parts: Sequence[str] = tuple(START),
        firm: bool = False,
        averaged: float = 1.0,
        sigma: float = 0.05,
        grid: int = 16,
    ) -> None:
        super().__init__()
        pieces = channels * stride**2
        self.channels, self.stride, self.width = channels, stride, width or pieces
        self.features, self.reach, self.grid = features, (kernel - 1) // 2, grid
        self.parts = tuple(part for part in START if part in parts or part == "threshold")
        self.firm, self._averaged = firm, require_averaged(averaged)
        self._require(blocks, pieces, parts)
        self.kernels = nn.ParameterList(
            nn.Parameter(self._filters(pieces, kernel)) for _ in range(blocks)
        )
        start = torch.stack([torch.full((features,), START[part]) for part in self.parts])
        self.maps = Maps(start.repeat(blocks, 1, 1), guide, guide_widths, stride)
        self.register_buffer("sigma", torch.tensor(float(sigma)), persistent=False)
        # no pixels yet; a buffer all the same, so that ``bind`` finds it inside of other operators
        self.register_buffer("guide", torch.zeros(1, guide, 0, 0), persistent=False)

    def _require(self, blocks: int, pieces: int, parts: Sequence[str]) -> None:
        if blocks < 1 or self.width < pieces or not set(parts) <= set(START):
            raise ConditionError(
                f"blocks >= 1, width >= {pieces} and parts out of {tuple(START)}",
                f"{blocks}, {self.width} and {tuple(parts)}",
                "enlarge them, or take the defaults",
            )

    def _filters(self, pieces: int, kernel: int) -> Tensor:
        """Random filters of norm 1; those of the image see no constant colour."""
        weight = torch.randn(self.features, self.width, kernel, kernel)
        colours = weight[:, :pieces].unflatten(1, (self.channels, self.stride**2))
        colours = colours - colours.mean((2, 3, 4), keepdim=True)
        weight[:, :pieces] = colours.flatten(1, 2)
        return weight / circular_bound(weight, self.grid)

    @property
    def metric(self) -> Metric:
        return Identity(3)

    @property
    def averaged(self) -> float:
        blocks = len(self.kernels)
        return self._averaged * (blocks / (blocks + 1) if self.firm else 1.0)

    def _compute(self) -> list[Layer]:
        sigma = self.sigma.to(self.maps.value)
        free = self.maps(sigma, self.guide.to(self.maps.value))
        if self.maps.network is not None:  # continued, as the responses will be
            free = functional.pad(free.flatten(1, 3), (self.reach,) * 4, mode="circular")
            free = free.unflatten(1, self.maps.value.shape)
        found = []
        for k, weight in enumerate(self.kernels):
            filters = weight / circular_bound(weight, self.grid).clamp_min(1.0)
            of = {part: free[:, k, i] for i, part in enumerate(self.parts)}
            threshold = sigma.reshape(-1, 1, 1, 1) * functional.softplus(of["threshold"])
            mask = torch.sigmoid(of["mask"]) if "mask" in of else None
            adjoint = filters.flip(2, 3).transpose(0, 1).contiguous()
            found.append(Layer(filters, adjoint, threshold, mask, of.get("bias")))
        return found

    def forward(self, u: Tensor) -> Tensor:
        layers = self.prepare()
        self._require_fit(u)
        height, width = u.shape[-2:]
        x = to_pieces(u.reshape(-1, *u.shape[-3:]), self.stride)
        kept = x.shape[1]
        x = functional.pad(x, (0, 0, 0, 0, 0, self.width - kept))
        for layer in layers:
            x = x - (1.0 if self.firm else 2.0) * self._gradient(x, layer)
        x = functional.pixel_shuffle(x[:, :kept], self.stride)[..., :height, :width]
        x = x.reshape(u.shape)
        return x if self._averaged == 1 else (1 - self._averaged) * u + self._averaged * x

    def _gradient(self, x: Tensor, layer: Layer) -> Tensor:
        """The gradient of a block's potential.

        The image is continued once, for both convolutions: the responses come out continued.
        """
        y = functional.conv2d(
            functional.pad(x, (2 * self.reach,) * 4, mode="circular"), layer.filters
        )
        images = layer.threshold.shape[0]
        y = y.unflatten(0, (-1, images))
        y = y if layer.bias is None else y + layer.bias
        y = torch.clamp(y, -layer.threshold, layer.threshold)
        y = y if layer.mask is None else layer.mask * y
        return functional.conv2d(y.flatten(0, 1), layer.adjoint)

    def _require_fit(self, u: Tensor) -> None:
        least = max(1, 2 * self.reach * self.stride)
        if u.dim() < 3 or u.shape[-3] != self.channels or min(u.shape[-2:]) < least:
            raise ShapeError(
                f"images (..., {self.channels}, H, W) of at least {least} pixels a side",
                f"{tuple(u.shape)}",
                "pad them, or match the channels",
                u,
            )
        bound = self.guide.shape if self.maps.network is not None else (1, 1, *u.shape[-2:])
        images = max(self.sigma.numel(), bound[0])
        batch = u.shape[-4] if u.dim() > 3 else 1
        if bound[-2:] != u.shape[-2:] or images not in (1, batch):
            raise ShapeError(
                f"{images} images of {tuple(bound[-2:])}, as the bound data",
                f"{tuple(u.shape)}",
                "bind sigma and guide of the same observations",
                u,
            )
