"""Soft thresholding after an affine map: bytes instead of points."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bmo.kernels.base import Gradients, Kernel


def shrink(z: Tensor, threshold: Tensor) -> tuple[Tensor, Tensor]:
    r"""Soft thresholding of ``z``, and its sign pattern as bytes (-1, 0, 1).

    Example:
        >>> shrink(torch.tensor([3.0, -0.5]), torch.tensor(1.0))
        (tensor([2., 0.]), tensor([1, 0], dtype=torch.int8))
    """
    out = z - torch.clamp(z, -threshold, threshold)
    return out, out.sign().to(torch.int8)


def cut(z: Tensor, threshold: Tensor, nonnegative: bool) -> tuple[Tensor, Tensor]:
    """Soft thresholding, cut off below 0 if asked, and its sign pattern."""
    z, sign = shrink(z, threshold)
    return (z.relu_(), sign.clamp_min_(0)) if nonnegative else (z, sign)


def shrink_adjoint(sign: Tensor, c: Tensor, gradients: Gradients, threshold: int) -> Tensor:
    """The adjoint of :func:`shrink`: the sign pattern decides; ``threshold`` is its index."""
    if gradients.wants(threshold):
        signed = sign * c
        gradients.add(threshold, -signed)
        return signed.mul_(sign)  # the sign squared is the mask
    return c * sign.abs()


class AffineSoft(Kernel):
    r""":math:`D(u) = \mathrm{soft}(uF + h, t)`, points in rows. Keeps the point and bytes.

    Args:
        matrix: :math:`F`, shape (n, n).
        shift: :math:`h`, shape (n,) or (batch, n).
        threshold: :math:`t`, shape () or (n,).

    Example:
        >>> import torch
        >>> from bmo import kernels
        >>> step = kernels.AffineSoft(torch.eye(2), torch.zeros(2), torch.tensor(0.5))
        >>> step.forward(torch.tensor([2.0, 0.1]), step.inputs)[0]
        tensor([1.5000, 0.0000])
    """

    def __init__(self, matrix: Tensor, shift: Tensor, threshold: Tensor) -> None:
        self.inputs = (matrix, shift, threshold)

    def forward(self, u: Tensor, values: Sequence[Tensor], keep: bool = True) -> tuple[Tensor, Any]:
        matrix, shift, threshold = values
        out, sign = shrink(torch.matmul(u, matrix).add_(shift), threshold)
        return out, (u, sign)

    def adjoint(
        self, kept: Any, cotangent: Tensor, values: Sequence[Tensor], gradients: Gradients
    ) -> Tensor:
        u, sign = kept
        c = shrink_adjoint(sign, cotangent, gradients, 2)
        gradients.add_product(0, u, c)
        gradients.add(1, c)
        return c @ values[0].mT


class ResidualSoft(Kernel):
    r""":math:`D(u) = \mathrm{soft}(u + (uF - b)S + h, t)`: two thin products.

    Keeps the residual :math:`uF - b` and bytes; the point only where :math:`F` is learned.

    Args:
        first: :math:`F`, shape (n, m).
        data: :math:`b`, shape (m,) or (batch, m).
        second: :math:`S`, shape (m, n).
        shift: :math:`h`, broadcasts against a point.
        threshold: :math:`t`, shape () or (n,).

    Example:
        >>> import torch
        >>> from bmo import kernels
        >>> F, b, S = torch.eye(2), torch.zeros(2), -0.5 * torch.eye(2)
        >>> step = kernels.ResidualSoft(F, b, S, torch.zeros(2), torch.tensor(0.5))
        >>> step.forward(torch.tensor([2.0, 0.1]), step.inputs)[0]
        tensor([0.5000, 0.0000])
    """

    def __init__(
        self, first: Tensor, data: Tensor, second: Tensor, shift: Tensor, threshold: Tensor
    ) -> None:
        self.inputs = (first, data, second, shift, threshold)

    def forward(self, u: Tensor, values: Sequence[Tensor], keep: bool = True) -> tuple[Tensor, Any]:
        first, data, second, shift, threshold = values
        r = torch.matmul(u, first).sub_(data)
        z = torch.matmul(r, second).add_(u)
        out, sign = shrink(z.add_(shift), threshold)
        return out, (u if self.inputs[0].requires_grad else None, r, sign)

    def adjoint(
        self, kept: Any, cotangent: Tensor, values: Sequence[Tensor], gradients: Gradients
    ) -> Tensor:
        u, r, sign = kept
        c = shrink_adjoint(sign, cotangent, gradients, 4)
        gradients.add(3, c)
        gradients.add_product(2, r, c)
        back = c @ values[2].mT
        if gradients.wants(1):
            gradients.add(1, -back)
        if u is not None:
            gradients.add_product(0, u, back)
        return torch.matmul(back, values[0].mT).add_(c)
