r"""What the loop is made of: a free network that reads the observation once, and certified steps.

Book: chapter 12. The free network G reads O before the loop starts. It says a reference background
r, attention w, thresholds t, masks m, biases c, and where streaks are likely. None of these depends
on the iterate, so nothing has to be asked of G.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from bmo.metric import Identity, Metric
from bmo.networks import UBody, circular_bound
from bmo.networks.maps import to_pieces
from bmo.operators.base import Preparing
from bmo.problems.deraining.step import Prepared, RainStep

#: Side of the pieces that the free network and the step on the background work on.
STRIDE = 2
COLOURS = 3
#: Axes that are reversed in each mirror image.
MIRRORS: tuple[tuple[int, ...], ...] = ((), (3,), (2,), (2, 3))
#: Size of a threshold and of a bias on the scale of the image, where their raw values are 1.
UNIT = 0.05


class Told(NamedTuple):
    """What the free network says of a batch of observations.

    Attributes:
        reference: r, shape (B, 3, H, W).
        gain: Raw strength of streaks at the start, shape (B, N, H, W).
        attention: Raw w, shape (B, 1, H, W).
        parts: Raw thresholds, masks and biases, shape (B, 3F, h, w): one for each piece.
    """

    reference: Tensor
    gain: Tensor
    attention: Tensor
    parts: Tensor


class Guide(nn.Module):
    r"""The free network G: a U-Net (:class:`~bmo.networks.UBody`) on pieces of the observation.

    Args:
        maps: N, the number of rain maps.
        features: F, the filters of the step on the background.
        widths: Widths of the U-Net.
        blocks: Its residual blocks of each resolution on each side.
        bfloat16: Compute in bfloat16 while gradients are recorded.

    Example:
        >>> told = Guide(maps=2, features=12, widths=(4, 6))(torch.zeros(1, 3, 9, 8))
        >>> told.reference.shape, told.parts.shape
        (torch.Size([1, 3, 9, 8]), torch.Size([1, 36, 5, 4]))
    """

    def __init__(
        self,
        maps: int,
        features: int,
        widths: Sequence[int] = (32, 48, 64),
        blocks: int = 1,
        bfloat16: bool = False,
    ) -> None:
        super().__init__()
        self.coarse = bfloat16
        fine = STRIDE**2
        self.sizes = [COLOURS * fine, maps * fine, fine, 3 * features]
        self.body = UBody(COLOURS * fine, sum(self.sizes), widths, blocks)
        with torch.no_grad():  # r starts near O, and every map is constant
            tail = self.body.tail
            tail.weight[: self.sizes[0]].mul_(0.1)
            tail.weight[self.sizes[0] :].zero_()
            tail.bias.zero_()  # type: ignore[union-attr]

    def forward(self, rainy: Tensor) -> Told:
        pieces = to_pieces(rainy, STRIDE).contiguous(memory_format=torch.channels_last)
        low = self.coarse and torch.is_grad_enabled()
        with torch.autocast(rainy.device.type, torch.bfloat16, enabled=low):
            out = self.body(pieces)
        reference, gain, attention, parts = out.to(rainy.dtype).split(self.sizes, 1)
        height, width = rainy.shape[-2:]

        def whole(x: Tensor) -> Tensor:
            return functional.pixel_shuffle(x, STRIDE)[..., :height, :width]

        return Told(rainy - whole(reference), whole(gain), whole(attention), parts)

    def mirrored(self, rainy: Tensor) -> Told:
        """The mean over four mirror images of the observation, each mirrored back.

        Rain that is mirrored is rain. The parts, which belong to pieces, are those of the
        observation as it is: a mirror image of odd size has other pieces.
        """
        each = self(torch.cat([rainy.flip(axes) if axes else rainy for axes in MIRRORS]))
        count = len(rainy)

        def mean(x: Tensor) -> Tensor:
            views = zip(x.split(count), MIRRORS, strict=True)
            return torch.stack([v.flip(axes) if axes else v for v, axes in views]).mean(0)

        told = Told(mean(each.reference), mean(each.gain), mean(each.attention), each.parts)
        return told._replace(parts=each.parts[:count])


class Pull(Preparing):
    r""":math:`N_B`: one step towards the reference background, nonexpansive for every weight.

    .. math:: x \mapsto x - 2V^\top\big(m \odot \mathrm{clip}(V(x - r) + c, -t, t)\big),
        \qquad t \ge 0,\; 0 \le m \le 1,\; \|V\| \le 1

    A gradient step of a convex potential of :math:`x - r` ({doc}`05-networks`): where x and r
    differ by less than t in the filters, x is carried to r; a larger difference is an edge that r
    has missed, and stays. V are free filters divided by a bound of their norm. r, t, m and c are
    data: ``D.bind(reference=r, parts=...)``.

    Args:
        features: F, the filters, at least 12.
        certified: ``False``: the filters are not divided, and nothing is claimed.
        kernel: Side of the filters, odd.
        grid: Frequencies along each axis for the bound.

    Example:
        >>> D, r = Pull(), torch.rand(1, 3, 8, 8)
        >>> near = D.bind(reference=r, parts=torch.zeros(1, 48, 4, 4))(r + 0.01)
        >>> bool((near - r).abs().max() < 0.01)
        True
    """

    reference: Tensor
    parts: Tensor

    def __init__(
        self, features: int = 16, certified: bool = True, kernel: int = 3, grid: int = 16
    ) -> None:
        super().__init__()
        self.certified = "by construction" if certified else "none"
        self.features, self.reach, self.grid = features, kernel // 2, grid
        pieces = COLOURS * STRIDE**2
        self.filters = nn.Parameter(0.02 * torch.randn(features, pieces, kernel, kernel))
        with torch.no_grad():
            nn.init.dirac_(self.filters[:pieces])
        start = torch.tensor([3.0, 0.0, 0.0])  # thresholds, masks, biases
        self.numbers = nn.Parameter(start[:, None].repeat(1, features))
        # no pixels yet
        self.register_buffer("reference", torch.zeros(1, COLOURS, 0, 0), persistent=False)
        self.register_buffer("parts", torch.zeros(1, 3 * features, 0, 0), persistent=False)

    @property
    def metric(self) -> Metric:
        return Identity(3)

    @property
    def averaged(self) -> float:
        return 1.0

    def _compute(self) -> tuple[Tensor, ...]:
        bound = circular_bound(self.filters, self.grid).clamp_min(1.0)
        filters = self.filters if self.certified == "none" else self.filters / bound
        if not self.reference.numel():
            return (filters,)
        raw = self.parts + self.numbers.reshape(-1, 1, 1)
        raw = functional.pad(raw, (self.reach,) * 4, mode="circular")
        threshold, mask, bias = raw.unflatten(1, (3, self.features)).unbind(1)
        reference = functional.pad(
            to_pieces(self.reference, STRIDE), (2 * self.reach,) * 4, mode="circular"
        )
        shift = UNIT * bias - functional.conv2d(reference, filters)
        adjoint = filters.flip(2, 3).transpose(0, 1).contiguous()
        return filters, adjoint, UNIT * functional.softplus(threshold), 2 * mask.sigmoid(), shift

    def forward(self, u: Tensor) -> Tensor:
        filters, adjoint, threshold, mask, shift = self.prepare()
        height, width = u.shape[-2:]
        x = to_pieces(u.reshape(-1, *u.shape[-3:]), STRIDE)
        y = functional.conv2d(functional.pad(x, (2 * self.reach,) * 4, mode="circular"), filters)
        y = mask * torch.clamp(y + shift, -threshold, threshold)
        x = x - functional.conv2d(y, adjoint)
        return functional.pixel_shuffle(x, STRIDE)[..., :height, :width].reshape(u.shape)


class GuidedStep(RainStep):
    r""":class:`~bmo.problems.deraining.step.RainStep` whose attention is data, ``D.bind(w=...)``.

    The softplus of raw values w (batch, 1, H, W), divided by its value at zero, scales the
    thresholds. ``free``: the weights q are taken as they are, and nothing is claimed.

    An example: :func:`bmo.problems.deraining.build`.
    """

    w: Tensor

    def __init__(self, *args: object, free: bool = False, **options: object) -> None:
        super().__init__(*args, **options)  # type: ignore[arg-type]
        self.certified = "none" if free else "by construction"
        self.register_buffer("w", torch.zeros(1, 1, 0, 0), persistent=False)

    @property
    def averaged(self) -> float:
        return 1.0 if self.certified == "none" else super().averaged

    def _compute(self) -> Prepared:
        at = super()._compute()
        background, rain, cut = at.background, at.rain, at.cut
        if self.certified == "none":
            q = self.scale * self.weight()
            background, rain = q[0], q[1:, None, None]
            cut = self.theta()[:, None, None] / rain
        if self.w.numel():
            cut = cut * functional.softplus(self.w) / math.log(2)
        return Prepared(background, rain, at.delta, cut)
