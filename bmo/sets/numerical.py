r"""The projection in any metric, from the Euclidean projection alone.

Book: chapter 2, "Projections and proximal steps see the metric".
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from bmo.errors import MetricError
from bmo.metric import Metric


def project_numerically(
    nearest: Callable[[Tensor], Tensor], u: Tensor, metric: Metric, tol: float
) -> Tensor:
    r"""Minimise :math:`\tfrac12\|x - u\|_H^2` over the set by accelerated projected gradients.

    The result solves :math:`x = P_U(x - t H (x - u))` with :math:`t = 1/\lambda_{ub}`; its
    derivative is that of this equation (implicit differentiation), so no iterate is stored.

    Args:
        nearest: The Euclidean projection on the set; nothing else of it is used.
        u: Points, shape (..., n).
        metric: :math:`H`.
        tol: Stop when a step moves no point by more than ``tol`` times its length (plus ``tol``).

    Raises:
        MetricError: Not reached within the number of steps that the condition number warrants.

    Example:
        >>> import torch, bmo
        >>> from bmo.sets import project_numerically
        >>> box = lambda u: u.clamp(0, 1)
        >>> project_numerically(box, torch.tensor([2.0, 0.5]), bmo.metric.Identity(), 1e-6)
        tensor([1.0000, 0.5000])
    """
    low, high = metric.bounds()
    step = 1.0 / high
    ratio = math.sqrt(low / high)
    momentum = (1 - ratio) / (1 + ratio)

    def move(x: Tensor) -> Tensor:
        return nearest(x - step * metric.apply(x - u))

    with torch.no_grad():
        x = previous = nearest(u)
        for _ in range(200 + int(20 * math.log(1 / tol) / ratio)):
            ahead = x + momentum * (x - previous)
            previous, x = x, move(ahead)
            moved = torch.maximum((x - ahead).norm(dim=-1), (x - previous).norm(dim=-1))
            if bool((moved <= tol * ratio**2 * (1 + x.norm(dim=-1))).all()):
                break
        else:
            raise MetricError(
                f"the projection to reach {tol:g}",
                f"a last step of {float(moved.max()):.3g}",
                "loosen tol, or use a better conditioned metric",
            )
    return _differentiable_fixed_point(move, x, ratio**2)


def _differentiable_fixed_point(move: Callable[[Tensor], Tensor], x: Tensor, gap: float) -> Tensor:
    """Attach to a solved ``x = move(x)`` the derivative that this equation defines."""
    if not torch.is_grad_enabled():
        return x
    point = x.detach().requires_grad_()
    once = move(point)
    out = move(x)
    if not out.requires_grad:
        return out
    limit = 100 + int(60 / gap)

    def adjoint(grad: Tensor) -> Tensor:
        total = grad
        for _ in range(limit):
            (pulled,) = torch.autograd.grad(
                once, point, total, retain_graph=True, create_graph=torch.is_grad_enabled()
            )
            new = grad + pulled
            size = 1e-13 * new.abs().max()
            # a zero that is to be differentiated once more still needs the whole sum
            if bool((new - total).abs().max() <= size and (size > 0 or not grad.requires_grad)):
                return new
            total = new
        return total

    out.register_hook(adjoint)
    # A hook also changes the gradient of whoever differentiates with respect to ``out`` itself,
    # as the upper step does at its current point; a copy has no hook.
    return out.clone()
