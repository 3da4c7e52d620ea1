r"""Steps with their adjoints written by hand: they keep less for the backward pass than autograd.

Book: chapter 9, "What a step must keep". A proximal step keeps one byte for each entry (below,
inside or above its threshold) and the residual of the data, nothing else that autograd would.
:mod:`bmo.fused` runs a whole loop of them; every other operator goes through autograd.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


class Gradients:
    """Where a backward pass adds up the gradients of the tensors of a kernel."""

    def __init__(self, inputs: Sequence[Tensor], wanted: Sequence[bool]) -> None:
        self.total: list[Tensor | None] = [
            torch.zeros_like(t) if w else None for t, w in zip(inputs, wanted, strict=True)
        ]

    def wants(self, i: int) -> bool:
        """Whether tensor ``i`` is learned."""
        return self.total[i] is not None

    def add(self, i: int, part: Tensor) -> None:
        """Add ``part``, summed over the axes along which tensor ``i`` was broadcast."""
        total = self.total[i]
        if total is not None:
            total += part.sum_to_size(total.shape)

    def add_product(self, i: int, left: Tensor, right: Tensor, scale: float = 1.0) -> None:
        r"""Add ``scale`` :math:`\sum l^\top r` over the batch, without a tensor in between."""
        total = self.total[i]
        if total is not None:
            total.addmm_(left.reshape(-1, left.shape[-1]).T, right.reshape(-1, right.shape[-1]),
                         alpha=scale)  # fmt: skip


class Kernel(ABC):
    r"""A step :math:`u \mapsto D(u)` and its adjoint.

    Attributes:
        inputs: The tensors it depends on, with their graph; any of them may be learned.
    """

    inputs: tuple[Tensor, ...]

    @abstractmethod
    def forward(self, u: Tensor, values: Sequence[Tensor]) -> tuple[Tensor, Any]:
        """:math:`D(u)`, and what :meth:`adjoint` needs; ``values`` are the inputs as numbers."""

    @abstractmethod
    def adjoint(
        self, kept: Any, cotangent: Tensor, values: Sequence[Tensor], gradients: Gradients
    ) -> Tensor:
        r""":math:`(\partial_uD)^\top c`; what falls to the inputs is added to ``gradients``."""


def shrink(z: Tensor, threshold: Tensor) -> tuple[Tensor, Tensor]:
    r"""Soft thresholding of ``z``, and its sign pattern as bytes (-1, 0, 1).

    Example:
        >>> shrink(torch.tensor([3.0, -0.5]), torch.tensor(1.0))
        (tensor([2., 0.]), tensor([1, 0], dtype=torch.int8))
    """
    out = z - torch.clamp(z, -threshold, threshold)
    return out, out.sign().to(torch.int8)


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
    """

    def __init__(self, matrix: Tensor, shift: Tensor, threshold: Tensor) -> None:
        self.inputs = (matrix, shift, threshold)

    def forward(self, u: Tensor, values: Sequence[Tensor]) -> tuple[Tensor, Any]:
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
    """

    def __init__(
        self, first: Tensor, data: Tensor, second: Tensor, shift: Tensor, threshold: Tensor
    ) -> None:
        self.inputs = (first, data, second, shift, threshold)

    def forward(self, u: Tensor, values: Sequence[Tensor]) -> tuple[Tensor, Any]:
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


class ForwardBackward(Kernel):
    r""":math:`D(u) = \mathrm{prox}(u - P^{-1}(\nabla f(u) + wu))` for a quadratic f.

    Args:
        matrix: :math:`A` of shape (m, n) where :math:`\nabla f(u) = A^\top(Au - b)`, or Q of shape
            (n, n) where it is :math:`Qu - b`. Not learned.
        data: :math:`b`.
        ridge: :math:`w`, broadcasts against a point.
        weights: The diagonal of :math:`P`.
        threshold: Of soft thresholding; ``None`` for no prior.
        thin: Whether ``matrix`` is A.
        nonnegative: Whether the prior also cuts off below 0.
    """

    def __init__(
        self,
        matrix: Tensor,
        data: Tensor,
        ridge: Tensor | None,
        weights: Tensor,
        threshold: Tensor | None,
        thin: bool,
        nonnegative: bool = False,
    ) -> None:
        self.thin, self.nonnegative = thin, nonnegative
        none = weights.new_zeros(())
        self.inputs = (matrix, data, none if ridge is None else ridge, weights,
                       none if threshold is None else threshold)  # fmt: skip
        self.ridge, self.prior = ridge is not None, threshold is not None

    def forward(self, u: Tensor, values: Sequence[Tensor]) -> tuple[Tensor, Any]:
        matrix, data, ridge, weights, threshold = values
        if self.thin:
            g = torch.matmul(torch.matmul(u, matrix.mT).sub_(data), matrix)
        else:
            g = torch.matmul(u, matrix).sub_(data)
        if self.ridge:
            g.addcmul_(ridge, u)
        learned = self.inputs[3].requires_grad
        z = u - g / weights
        sign = None
        if self.prior:
            z, sign = shrink(z, threshold)
            if self.nonnegative:
                z, sign = z.relu_(), sign.clamp_min_(0)
        return z, (u if self.ridge else None, g if learned else None, sign)

    def adjoint(
        self, kept: Any, cotangent: Tensor, values: Sequence[Tensor], gradients: Gradients
    ) -> Tensor:
        matrix, _, ridge, weights, _ = values
        u, g, sign = kept
        c = cotangent if sign is None else shrink_adjoint(sign, cotangent, gradients, 4)
        q = c / weights  # minus what falls to the gradient of f
        if g is not None:
            gradients.add(3, q * g / weights)
        out = c
        if self.ridge:
            if gradients.wants(2):
                gradients.add(2, -q * u)
            out = torch.addcmul(out, ridge, q, value=-1)
        if self.thin:
            q = q @ matrix.mT
        if gradients.wants(1):
            gradients.add(1, q)
        return minus_product(out, q, matrix)


def minus_product(start: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """``start - left @ right``, in one call where the shapes allow it."""
    if left.dim() == 1:
        return torch.addmv(start, right.mT, left, alpha=-1)
    if left.dim() == 2:
        return torch.addmm(start, left, right, alpha=-1)
    return start - left @ right
