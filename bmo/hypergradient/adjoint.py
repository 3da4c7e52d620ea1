r"""The adjoint equation :math:`(I - (\partial_uF)^\top)\lambda = \nabla_u\ell`, and its solvers.

Book: chapter 9. Points are independent, so a batch is solved point by point, side by side. Sizes
are measured in the dual norm :math:`\|\lambda\|_{H^{-1}}`: the map is nonexpansive in :math:`H`,
hence its transpose is in :math:`H^{-1}`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from bmo.errors import ConditionError, DomainError
from bmo.metric import Metric

Transpose = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Adjoint:
    r"""The equation :math:`\lambda - F'^\top\lambda = g` at one point of each problem.

    Attributes:
        transpose: :math:`v \mapsto (\partial_uF)^\top v`.
        right: :math:`g`.
        metric: :math:`H_\omega`.
    """

    transpose: Transpose
    right: Tensor
    metric: Metric

    def apply(self, v: Tensor) -> Tensor:
        r""":math:`v - F'^\top v`."""
        return v - self.transpose(v)

    def inner(self, a: Tensor, b: Tensor) -> Tensor:
        r""":math:`\langle a, b\rangle_{H^{-1}}`, one number for each point, ready to multiply."""
        dims = tuple(range(-self.metric.event_dims, 0))
        return (a * self.metric.solve(b)).sum(dims, keepdim=True)

    def norm(self, a: Tensor) -> Tensor:
        r""":math:`\|a\|_{H^{-1}}`."""
        return self.inner(a, a).clamp_min(0).sqrt()

    def relative(self, rest: Tensor) -> Tensor:
        r""":math:`\|\mathrm{rest}\|/\|g\|`, shape = batch shape; 0 where both vanish."""
        top, below = self.norm(rest), self.norm(self.right)
        ratio = torch.where(below > 0, over(top, below), top)
        return ratio.flatten(-self.metric.event_dims)[..., 0]

    def residual(self, lam: Tensor) -> Tensor:
        r"""The relative residual of :math:`\lambda`, shape = batch shape."""
        return self.relative(self.right - self.apply(lam))


def over(a: Tensor, b: Tensor) -> Tensor:
    """``a / b``, and 0 where b is 0: a point that is done stays where it is."""
    return torch.where(b == 0, 0, a / torch.where(b == 0, 1, b))


@dataclass(frozen=True)
class Solved:
    r"""What a solver returned: :math:`\lambda`, its relative residual, whether that is enough."""

    value: Tensor
    residual: Tensor
    enough: bool


def neumann(adjoint: Adjoint, terms: int) -> Solved:
    r""":math:`\lambda_m = \sum_{j<m}(F'^\top)^jg`; its residual is the first term left out."""
    term = lam = adjoint.right
    for _ in range(terms - 1):
        term = adjoint.transpose(term)
        lam = lam + term
    return Solved(lam, adjoint.relative(adjoint.transpose(term)), True)


def fixed_point(adjoint: Adjoint, tol: float, limit: int) -> Solved:
    r""":math:`\lambda \leftarrow g + F'^\top\lambda` until its residual is below ``tol``."""
    lam = adjoint.right
    rest = adjoint.transpose(lam)  # the residual of lambda, for which no product is wasted
    for _ in range(limit):
        size = adjoint.relative(rest)
        if bool((size <= tol).all()):
            return Solved(lam, size, True)
        lam, rest = lam + rest, adjoint.transpose(rest)
    return finished(adjoint, lam, tol)


def conjugate_gradient(adjoint: Adjoint, tol: float, limit: int) -> Solved:
    r"""Conjugate gradients in :math:`\langle\cdot,\cdot\rangle_{H^{-1}}`, from 0."""
    lam, r = torch.zeros_like(adjoint.right), adjoint.right
    p, square = r, adjoint.inner(r, r)
    stop = tol**2 * square
    for _ in range(limit):
        if bool((square <= stop).all()):
            break
        image = adjoint.apply(p)
        a = over(square, adjoint.inner(p, image))
        lam, r = lam + a * p, r - a * image
        new = adjoint.inner(r, r)
        p, square = r + over(new, square) * p, new
    return finished(adjoint, lam, tol)


def gmres(adjoint: Adjoint, tol: float, limit: int, restart: int) -> Solved:
    r"""GMRES, started again after ``restart`` steps; needs no symmetry.

    Source: Saad, Schultz, SIAM J. Sci. Stat. Comput. 1986.
    """
    lam, left = torch.zeros_like(adjoint.right), limit
    while left > 0:
        rest = adjoint.right - adjoint.apply(lam)
        if bool((adjoint.relative(rest) <= tol).all()):
            break
        more, taken = krylov(adjoint, rest, min(restart, left), tol)
        lam, left = lam + more, left - taken
    return finished(adjoint, lam, tol)


def krylov(adjoint: Adjoint, rest: Tensor, steps: int, tol: float) -> tuple[Tensor, int]:
    """The correction with the smallest residual in the Krylov space of ``rest``, and its size."""
    size = adjoint.norm(rest)
    basis, columns = [over(rest, size)], []
    # H y cannot reach its left null vector: this part of the residual is left
    null, left = [torch.ones_like(size)], size
    for _ in range(steps):
        column, w = orthogonal(adjoint, basis, adjoint.apply(basis[-1]))
        length = adjoint.norm(w)
        columns.append([*column, length])
        basis.append(over(w, length))
        null.append(-sum(c * h for c, h in zip(null, column, strict=True)) / length)
        # a point that was done before the others divides by 0: it stays done
        left = torch.fmin(left, size / torch.cat(null, -1).norm(dim=-1, keepdim=True))
        if bool((left <= tol * adjoint.norm(adjoint.right)).all()):
            break
    return least(columns, basis, size), len(columns)


def orthogonal(adjoint: Adjoint, basis: list[Tensor], w: Tensor) -> tuple[list[Tensor], Tensor]:
    """The coefficients of w along the basis, and the rest of w."""
    total = [torch.zeros_like(adjoint.norm(w)) for _ in basis]
    for _ in range(2):  # twice is enough to keep the basis orthogonal
        parts = [adjoint.inner(v, w) for v in basis]
        for v, h in zip(basis, parts, strict=True):
            w = w - h * v
        total = [a + b for a, b in zip(total, parts, strict=True)]
    return total, w


def least(columns: list[list[Tensor]], basis: list[Tensor], size: Tensor) -> Tensor:
    r"""The combination of the basis with the least :math:`|\,|r|e_1 - Hy|`."""
    count, batch = len(columns), size.shape
    H = size.new_zeros(*size.flatten().shape, count + 1, count)
    for j, column in enumerate(columns):
        for i, h in enumerate(column):
            H[:, i, j] = h.flatten()
    # a point that was done before the others has columns of zeros
    y = torch.linalg.pinv(H)[..., 0] * size.reshape(-1, 1)
    return sum(y[:, j].reshape(batch) * basis[j] for j in range(count))


def finished(adjoint: Adjoint, lam: Tensor, tol: float) -> Solved:
    """The end of a solver: the residual is computed from the equation, not carried along."""
    size = adjoint.residual(lam)
    # the recurrences of the solvers drift from the true residual by a few roundings
    return Solved(lam, size, bool((size <= 2 * tol).all()))


def asymmetry(adjoint: Adjoint, seed: int = 0) -> float:
    r"""How far :math:`F'^\top` is from self-adjoint in :math:`H^{-1}`, on two random vectors."""
    generator = torch.Generator().manual_seed(seed)
    a, b = (
        torch.randn(adjoint.right.shape, generator=generator, dtype=torch.float64).to(adjoint.right)
        for _ in range(2)
    )
    gap = adjoint.inner(a, adjoint.transpose(b)) - adjoint.inner(adjoint.transpose(a), b)
    return float((gap.abs() / (adjoint.norm(a) * adjoint.norm(b))).max())


def require_self_adjoint(adjoint: Adjoint) -> None:
    """Refuse conjugate gradients where they would return a wrong answer without a word."""
    # rounding makes a gap of about ten eps, at every size and condition number; a single entry
    # that is cut off makes one of order 1/n
    gap = asymmetry(adjoint)
    if gap > 100 * torch.finfo(adjoint.right.dtype).eps:
        raise ConditionError(
            "a map whose derivative is self-adjoint in its metric, for conjugate gradients",
            f"asymmetry {gap:.1e} (a proximal step cuts off rows, not columns)",
            "use 'gmres', 'fixed-point', or 'active-set' for a lasso",
            gap,
        )


def require_tolerance(tol: float) -> None:
    """Refuse a tolerance outside (0, 1)."""
    if not 0 < tol < 1:
        raise DomainError("a tolerance in (0, 1)", f"{tol}", "1e-8 is a start in float64", tol)
