"""Sums, functions given by their value, and smooth functions as upper objectives."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import cast

import torch
from torch import Tensor, nn

from bmo.errors import ConditionError, DomainError, require_number
from bmo.metric import Metric, exact
from bmo.smooth.base import Smooth


class Sum(Smooth):
    r""":math:`f = f_1 + f_2 + \dots`.

    The curvature is exact where every part is quadratic, else bounded by the sum of those of the
    parts.

    Args:
        parts: Smooth functions, at least one.

    Raises:
        ConditionError: There is no part.

    Example:
        >>> import torch, bmo
        >>> f = bmo.smooth.Sum(bmo.smooth.Ridge(1.0), bmo.smooth.Ridge(2.0))
        >>> f(torch.ones(1)), float(f.curvature(bmo.metric.Identity()))
        (tensor([3.]), 3.0)
    """

    def __init__(self, *parts: Smooth) -> None:
        super().__init__()
        if not parts:
            raise ConditionError("at least one function", "none", "use prox or Ridge alone")
        self.parts = nn.ModuleList(parts)

    def value(self, u: Tensor) -> Tensor:
        return torch.stack([f.value(u) for f in cast(Iterable[Smooth], self.parts)]).sum(0)

    def forward(self, u: Tensor) -> Tensor:
        first, *rest = [f(u) for f in self.parts]
        for g in rest:
            first = first + g
        return first

    def product(self, u: Tensor, v: Tensor) -> Tensor:
        parts = cast(Iterable[Smooth], self.parts)
        return torch.stack([f.product(u, v) for f in parts]).sum(0)

    def matrix(self, n: int) -> Tensor | None:
        total: Tensor | None = None
        for f in cast(Iterable[Smooth], self.parts):
            one = f.matrix(n)
            if one is None:
                return None
            total = one if total is None else total + one
        return total

    def curvature(self, metric: Metric) -> Tensor:
        parts = list(cast(Iterable[Smooth], self.parts))
        n = next((f.size for f in parts if f.size is not None), None)
        matrix = None if n is None else self.matrix(n)
        if matrix is None:
            return torch.stack([f.curvature(metric) for f in parts]).sum()
        half = metric.unfactor(torch.eye(len(matrix)).to(matrix))
        return torch.linalg.eigvalsh(half @ matrix @ half.mT)[-1]


class Gradient(Smooth):
    r"""A smooth function given by its value, with a bound :math:`L` on :math:`\|\nabla^2 f\|`.

    The gradient comes from automatic differentiation.

    Args:
        function: Maps points (..., n) to values (...).
        lipschitz: :math:`L > 0`, in the Euclidean metric.

    Raises:
        DomainError: L is not finite and positive.

    Example:
        >>> import torch, bmo
        >>> f = bmo.smooth.Gradient(lambda u: u.cos().sum(-1), lipschitz=1.0)
        >>> f(torch.zeros(2)).detach()
        tensor([-0., -0.])
    """

    def __init__(self, function: Callable[[Tensor], Tensor], lipschitz: float) -> None:
        super().__init__()
        if not 0 < require_number("L", lipschitz) < float("inf"):
            raise DomainError(
                "L finite and > 0", f"L = {lipschitz}", "bound the curvature", lipschitz
            )
        self.function = function
        self.lipschitz = lipschitz

    def value(self, u: Tensor) -> Tensor:
        return self.function(u)

    def forward(self, u: Tensor) -> Tensor:
        keep = torch.is_grad_enabled()
        with torch.enable_grad():
            point = u if u.requires_grad else u.detach().requires_grad_()
            (grad,) = torch.autograd.grad(self.value(point).sum(), point, create_graph=keep)
        return grad

    def curvature(self, metric: Metric) -> Tensor:
        low, _ = metric.bounds()
        return exact(self.lipschitz / low)


class Objective(nn.Module):
    r"""A smooth function as an upper objective :math:`\ell`: called, it returns the value.

    The inner loop asks it for the gradient and for products with the Hessian in closed form,
    which is quicker than differentiating a function twice.

    Args:
        smooth: :math:`\ell`, which must not depend on omega to be used in closed form.

    Example:
        >>> import torch, bmo
        >>> upper = bmo.smooth.Objective(bmo.LeastSquares(torch.eye(2), torch.ones(2)))
        >>> upper(torch.zeros(2)), upper.gradient(torch.zeros(2))
        (tensor(1.), tensor([-1., -1.]))
    """

    def __init__(self, smooth: Smooth) -> None:
        super().__init__()
        self.smooth = smooth

    @property
    def closed(self) -> bool:
        """Whether nothing in it is learned, so that gradient and Hessian tell everything."""
        tensors = [*self.smooth.parameters(), *self.smooth.buffers()]
        return not any(t.requires_grad for t in tensors)

    def forward(self, u: Tensor) -> Tensor:
        r""":math:`\ell(u)`, one value for each point."""
        return self.smooth.value(u)

    def gradient(self, u: Tensor) -> Tensor:
        r""":math:`\nabla\ell(u)`."""
        return self.smooth(u)

    def hessian(self, u: Tensor, v: Tensor) -> Tensor:
        r""":math:`\nabla^2\ell(u)v`."""
        return self.smooth.product(u, v)
