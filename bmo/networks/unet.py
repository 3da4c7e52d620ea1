r"""A residual U-Net that knows the noise level. No certificate.

Book: chapter 5. It is the opponent of the certified networks: free weights, skip connections,
several resolutions, and nothing that bounds its Lipschitz constant.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from bmo.errors import ConditionError, ShapeError
from bmo.metric import Identity, Metric
from bmo.operators.base import Operator


class Residual(nn.Module):
    r""":math:`x + W_2\,\mathrm{ReLU}(W_1 x)` with two 3x3 convolutions of one width."""

    def __init__(self, width: int, bias: bool) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1, bias=bias)
        self.second = nn.Conv2d(width, width, 3, padding=1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(torch.relu(self.first(x)))


class UBody(nn.Module):
    r"""The U: residual blocks at several resolutions, joined by sums. From any channels to any.

    Down by a 2x2 convolution of stride 2, up by its transpose; what goes down on the left is added
    on the right. Sides that are no multiple of :math:`2^{L-1}`, with L the number of widths, are
    continued by their last pixel and cut again.

    Args:
        channels_in: Channels of the input.
        channels_out: Channels of the output.
        widths: Channels of each resolution, the finest first.
        blocks: Residual blocks of each resolution on each side.
        bias: With biases in the convolutions.
        last: Side of the last kernel, odd; 1 keeps many output channels cheap.

    Raises:
        ConditionError: There is no width, or one below 1, or fewer than one block.

    Example:
        >>> import torch
        >>> from bmo.networks import UBody
        >>> UBody(3, 5, widths=(4, 6), blocks=1)(torch.zeros(2, 3, 7, 9)).shape
        torch.Size([2, 5, 7, 9])
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        widths: Sequence[int] = (32, 48, 64),
        blocks: int = 1,
        bias: bool = True,
        last: int = 3,
    ) -> None:
        super().__init__()
        if not widths or min(widths) < 1 or blocks < 1:
            raise ConditionError(
                "widths >= 1 and at least one block", f"{tuple(widths)}, {blocks}", "enlarge them"
            )

        def stage(width: int) -> nn.Sequential:
            return nn.Sequential(*(Residual(width, bias) for _ in range(blocks)))

        pairs = list(zip(widths, widths[1:], strict=False))
        self.head = nn.Conv2d(channels_in, widths[0], 3, padding=1, bias=bias)
        self.left = nn.ModuleList(stage(width) for width in widths[:-1])
        self.down = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2, bias=bias) for a, b in pairs)
        self.bottom = stage(widths[-1])
        self.up = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, stride=2, bias=bias) for a, b in pairs)
        self.right = nn.ModuleList(stage(width) for width in widths[:-1])
        self.tail = nn.Conv2d(widths[0], channels_out, last, padding=last // 2, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        step = 2 ** len(self.down)
        more = (0, -width % step, 0, -height % step)
        x = functional.pad(x, more, mode="replicate") if any(more) else x
        # channels last: a third less time on a CPU, and the same numbers up to rounding
        x = self.head(x.contiguous(memory_format=torch.channels_last))
        kept = []
        for stage, down in zip(self.left, self.down, strict=True):
            kept.append(stage(x))
            x = down(kept[-1])
        x = self.bottom(x)
        for stage, up, skip in zip(
            reversed(self.right), reversed(self.up), reversed(kept), strict=True
        ):
            x = stage(up(x) + skip)
        return cast(Tensor, self.tail(x)[..., :height, :width])


def level_of(sigma: Tensor, u: Tensor) -> Tensor:
    """The noise levels, one for each image of ``u``: shape (images, 1, 1, 1).

    Raises:
        ShapeError: ``sigma`` has neither one entry nor one for each image.
    """
    try:
        each = sigma.expand(*u.shape[:-3], 1, 1, 1)
    except RuntimeError:
        raise ShapeError(
            "one noise level, or one for each image, shape (B, 1, 1, 1)",
            f"sigma {tuple(sigma.shape)} for images {tuple(u.shape)}",
            "reshape sigma",
            sigma,
        ) from None
    return each.reshape(-1, 1, 1, 1)


class UNet(Operator):
    r"""A denoiser without a certificate: :math:`D(u) = u - U(u, \sigma)`.

    U is a small U-Net (:class:`UBody`) that reads the image and a constant map of the noise level.
    No batch normalisation, no attention. Nothing is known about its Lipschitz constant, so
    ``certified`` is ``"none"``: a loop with it has no guarantee.

    Data: ``sigma``, shape () or (B, 1, 1, 1), the noise level on the scale of the image; set it
    with ``D.bind(sigma=...)``.

    Args:
        channels: Channels of a point (1 for grey, 3 for colour).
        widths: Channels of each resolution, the finest first.
        blocks: Residual blocks of each resolution on each side.
        bias: With biases. Without, D(su; s sigma) = s D(u; sigma) for s > 0.
        sigma: Noise level before any is bound.

    Raises:
        ConditionError: There is no width, or one below 1, or fewer than one block.
        ShapeError: The channels or the noise levels do not fit the image.

    Book: chapter 5, "Potential networks".

    Example:
        >>> import torch, bmo
        >>> D = bmo.networks.UNet(channels=1, widths=(8, 12), blocks=1)
        >>> D.bind(sigma=torch.tensor(0.1))(torch.zeros(2, 1, 15, 17)).shape
        torch.Size([2, 1, 15, 17])
    """

    certified = "none"
    sigma: Tensor

    def __init__(
        self,
        channels: int = 3,
        widths: Sequence[int] = (32, 48, 64),
        blocks: int = 1,
        bias: bool = True,
        sigma: float = 0.05,
    ) -> None:
        super().__init__()
        self.channels = channels
        self.body = UBody(channels + 1, channels, widths, blocks, bias)
        with torch.no_grad():  # D starts near the identity
            self.body.tail.weight.mul_(0.1)
        self.register_buffer("sigma", torch.tensor(float(sigma)), persistent=False)

    @property
    def metric(self) -> Metric:
        return Identity(3)

    def forward(self, u: Tensor) -> Tensor:
        if u.dim() < 3 or u.shape[-3] != self.channels:
            raise ShapeError(
                f"images (..., {self.channels}, H, W)", f"{tuple(u.shape)}", "match them", u
            )
        x = u.reshape(-1, *u.shape[-3:])
        levels = level_of(self.sigma.to(u), u).expand(-1, 1, *u.shape[-2:])
        return u - self.body(torch.cat([x, levels], 1)).reshape(u.shape)
