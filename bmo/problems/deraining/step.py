r"""D_num for rain: a proximal gradient step on background and rain maps, feasible by construction.

Book: chapter 12. The variables are :math:`u = (B, M_1, \dots, M_N)`, joined along the channels.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from bmo.errors import ConditionError, DomainError, NonFiniteError, ShapeError
from bmo.metric import Diagonal, Metric
from bmo.operators.base import Preparing
from bmo.parameters import Positive
from bmo.problems.deraining.layers import (
    curvature_bound,
    rain_adjoint,
    rain_layer,
    require_kernels,
)

LEARNABLE = ("C", "p", "theta")


@dataclasses.dataclass(frozen=True)
class Prepared:
    """What one loop needs and no step changes."""

    background: Tensor  # p_B
    rain: Tensor  # p_n, shape (N, 1, 1)
    delta: Tensor
    cut: Tensor  # theta_n / p_n times the attention, (N, 1, 1) or (batch, N, H, W)


class RainStep(Preparing):
    r"""A learned proximal gradient step for :math:`O = B + \sum_nC_n\circledast M_n`.

    .. math:: \min_{B, M}\ \tfrac12\Big\|O - B - \sum_nC_n\circledast M_n\Big\|^2
        + \iota_{[0,1]}(B) + \sum_n\theta_n\langle w, M_n\rangle + \iota_{\ge0}(M)
        \;\Big(+\ \tfrac\varepsilon2\|u - (O, 0)\|_H^2\Big)

    in the metric :math:`H_\omega = \mathrm{blkdiag}(p_BI, p_1I, \dots, p_NI)`. With the residual
    :math:`r = B + CM - O` the step is

    .. math:: B \leftarrow \mathrm{clip}\Big(\frac{B - r/p_B + \varepsilon O}{1+\varepsilon}\Big),
        \qquad M_n \leftarrow
        \frac{\max(0,\; M_n - (C_n^\top\bar r + \theta_nw)/p_n)}{1+\varepsilon}

    where :math:`\bar r` is the sum of r over the colours. It is nonexpansive in
    :math:`H_\omega` if and, without the proximal part, only if

    .. math:: \lambda = \frac1{p_B} + c\,\sup_\theta\sum_n\frac{|\hat C_n(\theta)|^2}{p_n} \le 2.

    With free positive :math:`q` this holds for :math:`p = q\max(1, \lambda(q)/2)`, whatever raw
    values an optimizer reaches, and for images of every size: :math:`\lambda(q)` is
    :func:`~bmo.problems.deraining.layers.curvature_bound`. The step is then
    :math:`1/(2-\delta)`-averaged, :math:`\delta = \min(1, \lambda(q)/2)`; with
    :math:`\varepsilon > 0` it is a contraction with the factor :math:`1/(1+\varepsilon)`.

    The attention w scales the thresholds from place to place. It may be the output of any network
    of the observation, without a constraint: it depends on no iterate. ``D.bind(b=O)`` gives the
    operator for one loop.

    Args:
        kernels: C to start from, shape (N, k, k), k odd.
        b: The observation O, shape (c, H, W) or (batch, c, H, W); replaced by ``bind(b=...)``.
        threshold: :math:`\theta > 0` at the start (number, or shape (N,)).
        share: Which part of the curvature :math:`\lambda = 1` the background has at the start.
        box: Limits of the background; ``None`` for none.
        ridge: :math:`\varepsilon \ge 0`; fixed.
        attention: A network from (batch, c, H, W) to (batch, N or 1, H, W); the softplus of its
            output, divided by its value at zero, is w. ``None`` for w = 1.
        learn: Which of ``"C"``, ``"p"``, ``"theta"`` are learned (the others stay fixed).
        grid: Frequencies along each axis for the bound.

    Raises:
        ConditionError: The kernels are zero, a name in ``learn`` is unknown, or the grid is too
            coarse.
        DomainError: ``share`` is outside (0, 1), the ridge negative, or the box empty.
        ShapeError: Kernels, observation and point do not fit.
        NonFiniteError: NaN or infinity in kernels or observation.

    Example:
        >>> import torch
        >>> kernels = torch.eye(3)[None] / 3
        >>> D = RainStep(kernels, torch.full((3, 8, 8), 0.5), threshold=0.1)
        >>> D(torch.zeros(4, 8, 8)).shape
        torch.Size([4, 8, 8])
    """

    certified = "by construction"

    def __init__(
        self,
        kernels: Tensor,
        b: Tensor,
        threshold: float | Tensor,
        share: float = 0.5,
        box: tuple[float, float] | None = (0.0, 1.0),
        ridge: float = 0.0,
        attention: nn.Module | None = None,
        learn: Sequence[str] = LEARNABLE,
        grid: int = 128,
    ) -> None:
        super().__init__()
        _require_start(kernels, b, learn)
        _require_numbers(share, box, ridge)
        self.box, self.ridge, self.grid = box, float(ridge), grid
        self.channels = int(b.shape[-3])
        self.register_buffer("b", b, persistent=False)
        self.b: Tensor
        self.C = nn.Parameter(kernels.detach().clone(), requires_grad="C" in learn)
        maps = kernels.shape[0]
        ones = torch.ones(maps).to(kernels)
        alone = torch.tensor(float("inf")).to(kernels)
        top = curvature_bound(self.C.detach(), alone, ones, self.channels, grid)
        if float(top) == 0:
            raise ConditionError(
                "kernels that are not zero", "C = 0", "start from streaks", kernels
            )
        # relative to the start, so that every raw parameter has the size of one
        scale = torch.cat([1 / alone.new_full((1,), share), (top / (1 - share)).expand(maps)])
        self.register_buffer("scale", scale)
        self.scale: Tensor
        self.weight = Positive(torch.ones(maps + 1).to(kernels), low=1e-3)
        self.weight.raw.requires_grad_("p" in learn)
        start = torch.as_tensor(threshold, dtype=kernels.dtype, device=kernels.device)
        self.theta = Positive(start.expand(maps))
        self.theta.raw.requires_grad_("theta" in learn)
        self.attention = attention

    @property
    def maps(self) -> int:
        """N, the number of rain maps."""
        return int(self.C.shape[0])

    def _compute(self) -> Prepared:
        q = self.scale * self.weight()
        half = curvature_bound(self.C, q[0], q[1:], self.channels, self.grid) / 2
        p = q * half.clamp_min(1.0)
        rain = p[1:, None, None]
        cut = self.theta()[:, None, None] / rain
        if self.attention is not None:
            raw = self.attention(self.b.reshape(-1, *self.b.shape[-3:]))
            w = functional.softplus(raw) / math.log(2)
            cut = cut * w.reshape(*self.b.shape[:-3], *raw.shape[-3:])
        return Prepared(p[0], rain, half.clamp_max(1.0), cut)

    @property
    def metric(self) -> Metric:
        r""":math:`H_\omega`, positive by construction; weights of shape (c + N, 1, 1)."""
        at: Prepared = self.prepare()
        background = at.background.expand(self.channels, 1, 1)
        return Diagonal(torch.cat([background, at.rain]), event_dims=3, check=False)

    @property
    def averaged(self) -> float:
        return 1 / (2 - float(self.prepare().delta.detach()))

    def split(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """The background (..., c, H, W) and the rain maps (..., N, H, W) of a point."""
        if u.dim() < 3 or u.shape[-3] != self.channels + self.maps:
            raise ShapeError(
                f"points (..., {self.channels} + {self.maps}, H, W)",
                f"{tuple(u.shape)}",
                "join background and rain maps along the channels",
                u,
            )
        background, maps = u.split([self.channels, self.maps], -3)
        return background, maps

    def rain(self, u: Tensor) -> Tensor:
        """The rain layer CM of a point, shape (..., 1, H, W)."""
        return rain_layer(self.C, self.split(u)[1])

    def start(self) -> Tensor:
        r""":math:`u^0 = (O, 0)`: all is background."""
        return functional.pad(self.b, (0, 0, 0, 0, 0, self.maps))

    def forward(self, u: Tensor) -> Tensor:
        at: Prepared = self.prepare()
        background, maps = self.split(u)
        residual = background + rain_layer(self.C, maps) - self.b
        step = rain_adjoint(self.C, residual.sum(-3, keepdim=True)) / at.rain
        z = background - residual / at.background
        maps = torch.relu(maps - step - at.cut)
        if self.ridge:
            z, maps = (z + self.ridge * self.b) / (1 + self.ridge), maps / (1 + self.ridge)
        return torch.cat([z if self.box is None else z.clamp(*self.box), maps], -3)


def _require_start(kernels: Tensor, b: Tensor, learn: Sequence[str]) -> None:
    """Refuse data that do not fit."""
    require_kernels(kernels)
    if b.dim() < 3:
        raise ShapeError("an observation (..., c, H, W)", f"{tuple(b.shape)}", "add axes", b)
    if not bool(torch.isfinite(kernels).all() and torch.isfinite(b).all()):
        raise NonFiniteError("finite kernels and data", "NaN or infinity", "clean them first", b)
    unknown = sorted(set(learn) - set(LEARNABLE))
    if unknown:
        raise ConditionError(f"learn out of {LEARNABLE}", f"{unknown}", "correct the name", unknown)


def _require_numbers(share: float, box: tuple[float, float] | None, ridge: float) -> None:
    """Refuse numbers outside their ranges."""
    if not (0 < share < 1 and 0 <= ridge < float("inf") and (box is None or box[0] < box[1])):
        raise DomainError(
            "share in (0, 1), ridge >= 0, a box (low, high) with low < high",
            f"share = {share}, ridge = {ridge}, box = {box}",
            "correct the number",
            (share, ridge, box),
        )
