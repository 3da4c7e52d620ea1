r"""Estimators that differentiate the fixed-point equation instead of the steps.

.. math:: u = F(u, \omega) \;\Rightarrow\; \nabla\varphi = (\partial_\omega F)^\top\lambda
          + \nabla_\omega\ell, \qquad (I - (\partial_uF)^\top)\lambda = \nabla_u\ell

Book: chapter 9. Their memory does not grow with K. They speak of the limit, so they are as
accurate as :math:`u^K` is near it (:func:`bmo.bounds.implicit`), and they need a loop that
repeats one map: mu = 0, or a constant step s.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from bmo.hypergradient.adjoint import (
    Adjoint,
    Solved,
    conjugate_gradient,
    fixed_point,
    gmres,
    neumann,
    require_self_adjoint,
    require_tolerance,
)
from bmo.hypergradient.base import Estimate, register
from bmo.hypergradient.unrolled import cotangents, differentiate, require_steps
from bmo.inner import Inner, Upper

Solver = Callable[[Adjoint], Solved]


def implicit(
    inner: Inner, u0: Tensor, upper: Upper, iterations: int, tensors: list[Tensor], solve: Solver
) -> Estimate:
    r"""Train without gradients, then solve the adjoint equation at :math:`u^K`."""
    s = inner.one_map(iterations)
    with torch.no_grad():
        u = inner(u0, upper, iterations)
    point = u.detach().requires_grad_()
    loop = inner.prepared()
    metric = loop.training_map.metric
    image = loop.step(point, s, upper, metric)
    value, (g, *direct) = differentiate(inner, point, upper, [point, *tensors])

    def transpose(v: Tensor) -> Tensor:
        (out,) = cotangents(image, [point], v, keep=True)
        return out

    with torch.no_grad():
        solved = solve(Adjoint(transpose, g, metric))
    through = cotangents(image, tensors, solved.value)
    gradients = tuple(a + b for a, b in zip(direct, through, strict=True))
    return Estimate(u, value, gradients, solved.residual, solved.enough)


def tolerance(tol: float | None, like: Tensor) -> float:
    """The relative residual that counts as solved: given, or what the dtype allows."""
    if tol is not None:
        return tol
    return 1e-10 if like.dtype == torch.float64 else 1e-4


@register(
    "neumann",
    "a contraction and u^K near the fixed point: m terms of the Neumann series leave out an error "
    "of order rho^m. Needs mu = 0 or a constant step. Memory: one step.",
)
@dataclass(frozen=True)
class Neumann:
    r"""The implicit hypergradient with ``terms`` terms of the Neumann series.

    Args:
        terms: :math:`m \ge 1`; 1 is the one-step estimator at :math:`u^K`.

    Raises:
        DomainError: ``terms`` is below 1.

    Source: Lorraine, Vicol, Duvenaud, AISTATS 2020. Error: :func:`bmo.bounds.neumann`.

    Example:
        >>> import bmo
        >>> from bmo.hypergradient import Neumann, hypergradient
        >>> problem = bmo.problems.toy.quadratic(3)
        >>> inner = bmo.Inner(problem.training(0.9), mu=0.0)
        >>> got = hypergradient(inner, problem.start, problem.upper, 99, method=Neumann(50))
        >>> float(got.adjoint_residual) < 1e-3
        True
    """

    terms: int = 20

    def __post_init__(self) -> None:
        require_steps("terms", self.terms)

    def __call__(
        self, inner: Inner, u0: Tensor, upper: Upper, iterations: int, tensors: list[Tensor]
    ) -> Estimate:
        return implicit(
            inner, u0, upper, iterations, tensors, lambda adjoint: neumann(adjoint, self.terms)
        )


@dataclass(frozen=True)
class Iterative:
    """Settings of the iterative solvers.

    Args:
        tol: Relative residual of the adjoint equation, in (0, 1); ``None`` for
            1e-10 in float64 and 1e-4 in float32.
        limit: Largest number of products with the transposed derivative.

    Raises:
        DomainError: ``tol`` is outside (0, 1), or ``limit`` is below 1.
    """

    tol: float | None = None
    limit: int = 1000

    def __post_init__(self) -> None:
        if self.tol is not None:
            require_tolerance(self.tol)
        require_steps("limit", self.limit)

    def solve(self, adjoint: Adjoint) -> Solved:
        r"""Solve for :math:`\lambda`."""
        return fixed_point(adjoint, tolerance(self.tol, adjoint.right), self.limit)

    def __call__(
        self, inner: Inner, u0: Tensor, upper: Upper, iterations: int, tensors: list[Tensor]
    ) -> Estimate:
        return implicit(inner, u0, upper, iterations, tensors, self.solve)


@register(
    "fixed-point",
    "a contraction and u^K near the fixed point: the adjoint is iterated like u, at the same rate. "
    "Needs mu = 0 or a constant step. Memory: one step.",
)
@dataclass(frozen=True)
class FixedPoint(Iterative):
    r"""The implicit hypergradient by :math:`\lambda \leftarrow g + F'^\top\lambda`.

    Args:
        tol: Relative residual of the adjoint equation, in (0, 1); ``None`` for
            1e-10 in float64 and 1e-4 in float32.
        limit: Largest number of iterations.

    Source: Grazzi, Franceschi, Pontil, Salzo, ICML 2020.

    Example:
        >>> import bmo
        >>> from bmo.hypergradient import hypergradient
        >>> problem = bmo.problems.toy.quadratic(3)
        >>> inner = bmo.Inner(problem.training(0.9), mu=0.0)
        >>> hypergradient(inner, problem.start, problem.upper, 99, method="fixed-point").solved
        True
    """


@register(
    "cg",
    "a contraction whose derivative is self-adjoint in its metric (a gradient step, a linear "
    "solve; a proximal step that cuts entries off is refused), and u^K near the fixed point. "
    "Needs mu = 0 or a constant step. Memory: one step.",
)
@dataclass(frozen=True)
class ConjugateGradient(Iterative):
    r"""The implicit hypergradient by conjugate gradients in the metric.

    Two random vectors test whether the derivative is self-adjoint; if not, it is refused.

    Args:
        tol: Relative residual of the adjoint equation, in (0, 1); ``None`` for
            1e-10 in float64 and 1e-4 in float32.
        limit: Largest number of steps.

    Raises:
        ConditionError: The derivative is not self-adjoint in the metric.

    Source: Pedregosa, ICML 2016. Rate: :func:`bmo.bounds.cg_factor`.

    Example:
        >>> import bmo
        >>> from bmo.hypergradient import hypergradient
        >>> problem = bmo.problems.toy.quadratic(3)
        >>> inner = bmo.Inner(problem.training(0.9), mu=0.0)
        >>> hypergradient(inner, problem.start, problem.upper, 99, method="cg").solved
        True
    """

    def solve(self, adjoint: Adjoint) -> Solved:
        require_self_adjoint(adjoint)
        return conjugate_gradient(adjoint, tolerance(self.tol, adjoint.right), self.limit)


@register(
    "gmres",
    "I - dF/du invertible and u^K near the fixed point; no symmetry and no contraction is needed. "
    "Needs mu = 0 or a constant step. Memory: as many points as its restart.",
)
@dataclass(frozen=True)
class GMRES(Iterative):
    r"""The implicit hypergradient by GMRES.

    Args:
        tol: Relative residual of the adjoint equation, in (0, 1); ``None`` for
            1e-10 in float64 and 1e-4 in float32.
        limit: Largest number of steps.
        restart: Steps after which it starts again; it keeps so many points.

    Source: Saad, Schultz, SIAM J. Sci. Stat. Comput. 1986.

    Example:
        >>> import bmo
        >>> from bmo.hypergradient import hypergradient
        >>> problem = bmo.problems.toy.quadratic(3)
        >>> inner = bmo.Inner(problem.training(0.9), mu=0.0)
        >>> hypergradient(inner, problem.start, problem.upper, 99, method="gmres").solved
        True
    """

    restart: int = 30

    def __post_init__(self) -> None:
        super().__post_init__()
        require_steps("restart", self.restart)

    def solve(self, adjoint: Adjoint) -> Solved:
        return gmres(adjoint, tolerance(self.tol, adjoint.right), self.limit, self.restart)
