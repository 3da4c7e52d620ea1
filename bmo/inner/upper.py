r"""The upper objective :math:`\ell` in the loop: its values and its gradient in the metric."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from bmo.errors import ConditionError, DomainError, ShapeError, require_number, require_tensor
from bmo.metric import Metric

Upper = Callable[[Tensor], Tensor]


def require_mu(mu: float) -> float:
    r"""Refuse :math:`\mu` outside [0, 1).

    Example:
        >>> from bmo.inner import require_mu
        >>> require_mu(0.5)
        0.5
    """
    if not 0 <= require_number("mu", mu) < 1:
        raise DomainError(
            "mu in [0, 1)",
            f"mu = {mu}",
            "0 is plain training, 0.3 a start; at 1 the training map would be ignored",
            mu,
        )
    return float(mu)


def upper_values(upper: Upper, u: Tensor, metric: Metric) -> Tensor:
    r""":math:`\ell(u)`, one value for each point, or a clear error.

    A single mean over the batch would divide every point's gradient by the batch size, so a
    scalar is accepted for a single point only.

    Example:
        >>> import torch, bmo
        >>> from bmo.inner import upper_values
        >>> upper = lambda u: 0.5 * (u - 1).square().sum(-1)
        >>> upper_values(upper, torch.zeros(3, 1), bmo.metric.Identity())
        tensor([0.5000, 0.5000, 0.5000])
    """
    values = require_tensor("upper(u)", upper(u))
    batch = u.shape[: u.dim() - metric.event_dims]
    if values.shape != batch:
        raise ShapeError(
            f"an upper objective with one value for each point, shape {tuple(batch)} (a point has "
            f"{metric.event_dims} axes in this metric)",
            f"shape {tuple(values.shape)}",
            "sum over the axes of a point only; take the mean after the loop",
            values,
        )
    return values


def upper_gradient(upper: Upper, u: Tensor, metric: Metric) -> Tensor:
    r""":math:`g(u) = H^{-1}\nabla_u\ell(u)`, differentiable where gradients are on.

    Args:
        upper: :math:`\ell(\cdot;\omega)`; an object with a method ``gradient(u)`` is asked for it,
            otherwise automatic differentiation is used.
        u: Points, shape (..., n).
        metric: :math:`H_\omega`.

    Raises:
        ConditionError: The objective does not depend on u.

    Example:
        >>> import torch, bmo
        >>> from bmo.inner import upper_gradient
        >>> upper = lambda u: 0.5 * (u - 1).square().sum(-1)
        >>> upper_gradient(upper, torch.zeros(1), bmo.metric.Scaled(2.0)).detach()
        tensor([-0.5000])
    """
    if hasattr(upper, "gradient"):
        return metric.solve(upper.gradient(u))
    keep = torch.is_grad_enabled()
    with torch.enable_grad():
        point = u if u.requires_grad else u.detach().requires_grad_()
        total = upper_values(upper, point, metric).sum()
        if not total.requires_grad:
            raise ConditionError(
                "an upper objective that depends on u, by operations of torch",
                "one that ignores u, or detaches it",
                "take mu = 0 for plain training",
                upper,
            )
        (grad,) = torch.autograd.grad(total, point, create_graph=keep, materialize_grads=True)
    return metric.solve(grad)
