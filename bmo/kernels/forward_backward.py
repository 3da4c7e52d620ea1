"""Forward-backward steps on quadratic functions, and on any smooth function given by its value."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from bmo.kernels.base import Gradients, Kernel, reaches_only
from bmo.kernels.soft import cut, shrink_adjoint


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

    Example:
        >>> import torch
        >>> from bmo import kernels
        >>> A, b, P = torch.eye(2), torch.ones(2), torch.ones(2)
        >>> step = kernels.ForwardBackward(A, b, None, P, torch.tensor(0.25), thin=True)
        >>> step.forward(torch.zeros(2), step.inputs)[0]
        tensor([0.7500, 0.7500])
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

    def forward(self, u: Tensor, values: Sequence[Tensor], keep: bool = True) -> tuple[Tensor, Any]:
        matrix, data, ridge, weights, threshold = values
        if self.thin:
            g = torch.matmul(torch.matmul(u, matrix.mT).sub_(data), matrix)
        else:
            g = torch.matmul(u, matrix).sub_(data)
        if self.ridge:
            g.addcmul_(ridge, u)
        learned = self.inputs[3].requires_grad
        z, sign = torch.addcdiv(u, g, weights, value=-1), None
        if self.prior:
            z, sign = cut(z, threshold, self.nonnegative)
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
            gradients.add_entries(2, q, u, scale=-1.0)
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


class LossStep(Kernel):
    r""":math:`D(u) = \mathrm{prox}(u - P^{-1}\nabla f(u))` for a smooth f given by its value.

    The gradient comes from automatic differentiation, and its graph is kept for each step; what
    is around it is not.

    Args:
        gradient: :math:`u \mapsto \nabla f(u)`, with a graph to u and to ``learned``.
        learned: The leaves that f depends on.
        weights: The diagonal of :math:`P`.
        threshold: Of soft thresholding; ``None`` for no prior.
        nonnegative: Whether the prior also cuts off below 0.

    Example:
        >>> import torch
        >>> from bmo import kernels
        >>> step = kernels.LossStep(lambda u: u - 1, [], torch.ones(2), torch.tensor(0.25))
        >>> step.forward(torch.zeros(2), step.inputs)[0]
        tensor([0.7500, 0.7500])
    """

    def __init__(
        self,
        gradient: Callable[[Tensor], Tensor],
        learned: Sequence[Tensor],
        weights: Tensor,
        threshold: Tensor | None,
        nonnegative: bool = False,
    ) -> None:
        self.gradient, self.learned, self.nonnegative = gradient, list(learned), nonnegative
        self.prior = threshold is not None
        last = weights.new_zeros(()) if threshold is None else threshold
        self.inputs = (weights, last, *learned)

    def serves(self, u: Tensor) -> bool:
        with torch.enable_grad():
            point = u.detach().requires_grad_()
            return reaches_only(self.gradient(point), [point, *self.learned])

    def forward(self, u: Tensor, values: Sequence[Tensor], keep: bool = True) -> tuple[Tensor, Any]:
        with torch.set_grad_enabled(keep):
            point = u.detach().requires_grad_(keep)
            g = self.gradient(point)
        z, sign = torch.addcdiv(u, g.detach(), values[0], value=-1), None
        if self.prior:
            z, sign = cut(z, values[1], self.nonnegative)
        return z, (point, g, sign)

    def adjoint(
        self, kept: Any, cotangent: Tensor, values: Sequence[Tensor], gradients: Gradients
    ) -> Tensor:
        point, g, sign = kept
        c = cotangent if sign is None else shrink_adjoint(sign, cotangent, gradients, 1)
        q = c / values[0]
        if gradients.wants(0):
            gradients.add(0, q * g.detach() / values[0])
        if not g.requires_grad:
            return c
        wanted = [i for i, _ in enumerate(self.learned) if gradients.wants(i + 2)]
        back, *parts = torch.autograd.grad(
            g,
            [point, *(self.learned[i] for i in wanted)],
            q,
            retain_graph=True,  # the steps may share a part of their graphs
            materialize_grads=True,
        )
        for i, part in zip(wanted, parts, strict=True):
            gradients.add(i + 2, -part)
        return c - back
