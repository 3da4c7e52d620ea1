r"""Estimators that differentiate the steps that were taken.

Book: chapter 9. They need no fixed point: the aggregated loop (mu > 0) is differentiated as it
is, through :math:`v_u`, :math:`H_\omega^{-1}` with its derivative, and the projections.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bmo.errors import DomainError
from bmo.hypergradient.base import Estimate, register
from bmo.inner import Inner, Upper, upper_values


def require_steps(name: str, value: int) -> None:
    """Refuse a count below 1."""
    if value < 1:
        raise DomainError(f"{name} >= 1", f"{value}", "one step is the least", value)


def differentiate(
    inner: Inner, u: Tensor, upper: Upper, tensors: list[Tensor]
) -> tuple[Tensor, tuple[Tensor, ...]]:
    r"""Value and gradients of the mean of :math:`\ell(u)`, by whatever graph ``u`` has."""
    value = upper_values(upper, u, inner.training_map.metric).mean()
    if not value.requires_grad:  # nothing depends on omega: the derivative is zero
        return value, tuple(torch.zeros_like(w) for w in tensors)
    return value, torch.autograd.grad(value, tensors, materialize_grads=True)


def cotangents(
    image: Tensor, tensors: list[Tensor], lam: Tensor, keep: bool = False
) -> tuple[Tensor, ...]:
    r""":math:`(\partial_\omega F)^\top\lambda`, one for each tensor; 0 where F is constant."""
    if not image.requires_grad:
        return tuple(torch.zeros_like(w) for w in tensors)
    return torch.autograd.grad(image, tensors, lam, retain_graph=keep, materialize_grads=True)


@register(
    "reverse",
    "exact for the K steps that were taken: automatic differentiation of the loop itself. Memory "
    "grows with K. Where T or a projection has a kink, one generalised derivative is taken.",
)
@dataclass(frozen=True)
class Reverse:
    r"""Reverse mode through all K steps, including :math:`dH_\omega^{-1}` and the projections.

    Example:
        >>> import bmo
        >>> from bmo.hypergradient import Reverse, hypergradient
        >>> problem = bmo.problems.toy.quadratic(3)
        >>> inner = bmo.Inner(problem.training())
        >>> hypergradient(inner, problem.start, problem.upper, 9, method=Reverse()).solved
        True
    """

    def __call__(
        self, inner: Inner, u0: Tensor, upper: Upper, iterations: int, tensors: list[Tensor]
    ) -> Estimate:
        u = inner(u0, upper, iterations)
        value, gradients = differentiate(inner, u, upper, tensors)
        return Estimate(u, value, gradients, nothing(inner, u))


def nothing(inner: Inner, u: Tensor) -> Tensor:
    """The adjoint residual of a method that leaves nothing out."""
    return u.new_zeros(u.shape[: u.dim() - inner.training_map.metric.event_dims])


@register(
    "truncated",
    "a contraction: it stops after the last h steps, and what it leaves out is of order q^h, "
    "q = (1-mu) rho + mu. Without a contraction the error need not vanish. Memory grows with h.",
)
@dataclass(frozen=True)
class Truncated:
    r"""Reverse mode through the last ``steps`` of K steps; the others are not differentiated.

    The adjoint residual is :math:`\|\lambda_{K-h}\|/\|\nabla_u\ell\|`, the part of the adjoint
    that would have gone on to earlier steps.

    Args:
        steps: :math:`h \ge 1`; from K on this is reverse mode.

    Raises:
        DomainError: ``steps`` is below 1.

    Source: Shaban, Cheng, Hatch, Boots, AISTATS 2019. Error: :func:`bmo.bounds.truncation`.

    Example:
        >>> import bmo
        >>> from bmo.hypergradient import Truncated, hypergradient
        >>> problem = bmo.problems.toy.quadratic(3)
        >>> inner = bmo.Inner(problem.training(0.9), mu=0.0)
        >>> got = hypergradient(inner, problem.start, problem.upper, 99, method=Truncated(50))
        >>> float(got.adjoint_residual) < 1e-3
        True
    """

    steps: int = 10

    def __post_init__(self) -> None:
        require_steps("steps", self.steps)

    def __call__(
        self, inner: Inner, u0: Tensor, upper: Upper, iterations: int, tensors: list[Tensor]
    ) -> Estimate:
        if self.steps >= iterations:
            return Reverse()(inner, u0, upper, iterations, tensors)
        sizes, done = inner.sizes(iterations), iterations - self.steps
        inner.start(u0)
        with torch.no_grad():
            before = inner.advance(u0, u0, upper, sizes[:done])
        begin = before.detach().requires_grad_()
        u = inner.advance(begin, u0, upper, sizes[done:], done)
        inner.require_finite(u)
        point = u.detach().requires_grad_()
        value, (g, *direct) = differentiate(inner, point, upper, [point, *tensors])
        lam, *through = cotangents(u, [begin, *tensors], g)
        gradients = tuple(a + b for a, b in zip(direct, through, strict=True))
        return Estimate(u, value, gradients, relative(inner, lam, g))


def relative(inner: Inner, lam: Tensor, g: Tensor) -> Tensor:
    r""":math:`\|\lambda\|/\|g\|` in the dual norm :math:`\|\cdot\|_{H^{-1}}`; 0 where g is 0."""
    metric = inner.training_map.metric
    with torch.no_grad():
        top, below = (
            (x * metric.solve(x)).flatten(-metric.event_dims).sum(-1).clamp_min(0).sqrt()
            for x in (lam, g)
        )
        return torch.where(below > 0, top / below.clamp_min(torch.finfo(g.dtype).tiny), top)


@register(
    "one-step",
    "T that forgets its start at once (rho near 0, as Newton's method): it differentiates the "
    "last step alone. The error, of order rho, does not vanish as K grows. Memory: one step.",
)
@dataclass(frozen=True)
class OneStep:
    r"""The derivative of the last step, as if the iterate before it did not depend on omega.

    Source: Bolte, Pauwels, Vaiter, NeurIPS 2023. Error: :func:`bmo.bounds.one_term`.

    Example:
        >>> import bmo
        >>> from bmo.hypergradient import hypergradient
        >>> problem = bmo.problems.toy.quadratic(3)
        >>> inner = bmo.Inner(problem.training(0.9), mu=0.0)
        >>> got = hypergradient(inner, problem.start, problem.upper, 99, method="one-step")
        >>> 0 < float(got.adjoint_residual) < 1
        True
    """

    def __call__(
        self, inner: Inner, u0: Tensor, upper: Upper, iterations: int, tensors: list[Tensor]
    ) -> Estimate:
        return Truncated(1)(inner, u0, upper, iterations, tensors)
