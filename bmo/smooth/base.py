r"""Smooth convex functions f: value, gradient, and the curvature that limits the step.

Book: chapter 4. A forward step :math:`u - H^{-1}\nabla f(u)` is nonexpansive in :math:`H` exactly
when :math:`\nabla^2 f \preceq 2H`, so what matters is the curvature *in the metric*,
:math:`\lambda_{\max}(H^{-1/2}\nabla^2 f H^{-1/2})`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from bmo.metric import Metric


class Smooth(nn.Module, ABC):
    """A convex function with Lipschitz gradient. Calling it returns the gradient.

    An example: :class:`bmo.LeastSquares`.
    """

    @property
    def size(self) -> int | None:
        """Length of a point, or ``None`` where any length will do."""
        return None

    @abstractmethod
    def value(self, u: Tensor) -> Tensor:
        """:math:`f(u)`, shape = batch shape."""

    @abstractmethod
    def forward(self, u: Tensor) -> Tensor:
        r""":math:`\nabla f(u)`, same shape as ``u``."""

    def product(self, u: Tensor, v: Tensor) -> Tensor:
        r""":math:`\nabla^2f(u)\,v`, same shape as ``v``; by automatic differentiation here."""
        with torch.enable_grad():
            point = u.detach().requires_grad_()
            total = (self(point) * v).sum()
            (out,) = torch.autograd.grad(total, point, materialize_grads=True)
        return out

    def matrix(self, n: int) -> Tensor | None:
        """The Hessian on points of length n, where it is the same everywhere; else ``None``."""
        return None

    @abstractmethod
    def curvature(self, metric: Metric) -> Tensor:
        r""":math:`\sup_u \lambda_{\max}(H^{-1/2}\nabla^2 f(u)H^{-1/2})`, or an upper bound."""
