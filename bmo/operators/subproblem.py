r"""The one subproblem of all splitting methods.

.. math:: \arg\min_x f(x) + \langle g, x\rangle + \tfrac12\|x - u\|_M^2

Book: chapter 4. For a function with a proximal operator it is
:math:`\mathrm{prox}^M_f(u - M^{-1}g)`; for a quadratic function it is a linear system, solved
with a Cholesky factor that is computed once.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from bmo.errors import ConditionError, MetricError, NonFiniteError, ShapeError
from bmo.metric import Dense, Metric
from bmo.prox import Prox
from bmo.smooth import LeastSquares, Quadratic

Solvable = Prox | Quadratic | LeastSquares


@dataclasses.dataclass(frozen=True)
class Subproblem:
    r"""A function :math:`f` with a metric :math:`M`, ready to be minimised again and again.

    Args:
        function: A :class:`~bmo.prox.Prox`, a :class:`~bmo.smooth.Quadratic` or a
            :class:`~bmo.smooth.LeastSquares`.
        metric: :math:`M`.
        lower: The Cholesky factor of :math:`\nabla^2 f + M` for a quadratic function.

    Example:
        >>> import torch, bmo
        >>> from bmo.operators.subproblem import subproblem
        >>> step = subproblem(bmo.prox.L1(1.0), bmo.metric.Scaled(2.0))
        >>> step(torch.tensor([3.0]), torch.tensor([1.0]))  # soft(3 - 1/2, 1/2)
        tensor([2.])
    """

    function: Solvable
    metric: Metric
    lower: Tensor | None = None

    def __call__(self, u: Tensor, g: Tensor | None = None) -> Tensor:
        r"""The minimiser :math:`x`, for points ``u`` and linear terms ``g`` (``None``: zero)."""
        if isinstance(self.function, Prox):
            return self.function(u if g is None else u - self.metric.solve(g), self.metric)
        right = self.metric.apply(u) + _linear_term(self.function)
        rows = right if g is None else right - g
        if self.lower is None:
            raise ConditionError("a factor", "none", "build it with subproblem(function, metric)")
        flat = rows.reshape(-1, rows.shape[-1]).mT
        return torch.cholesky_solve(flat, self.lower).mT.reshape(rows.shape)


def _linear_term(function: Quadratic | LeastSquares) -> Tensor:
    """The vector c of a quadratic function with gradient Qu - c."""
    return function.c if isinstance(function, Quadratic) else function.b @ function.A


def subproblem(function: Solvable, metric: Metric) -> Subproblem:
    """Prepare the subproblem: factor its matrix if the function is quadratic.

    Raises:
        ConditionError: The function has neither a proximal operator nor a constant Hessian.
    """
    if isinstance(function, Prox):
        return Subproblem(function, metric)
    if not isinstance(function, Quadratic | LeastSquares):
        raise ConditionError(
            "a Prox, a Quadratic or a LeastSquares",
            type(function).__name__,
            "linearise it: pass it as the smooth part instead",
            function,
        )
    Q = function.Q if isinstance(function, Quadratic) else function.A.mT @ function.A
    return Subproblem(function, metric, torch.linalg.cholesky(Q + metric.matrix(Q.shape[:1], Q)))


def require_matrix(A: Tensor, b: Tensor, names: str = "A and b") -> None:
    """Refuse a matrix and a right-hand side that do not fit each other, or are not finite."""
    if A.dim() != 2 or b.shape[-1:] != A.shape[:1]:
        raise ShapeError(
            f"{names} of shape (m, n) and (..., m)",
            f"{tuple(A.shape)} and {tuple(b.shape)}",
            "transpose the matrix, or pass data with a last axis of length m",
        )
    if not bool(torch.isfinite(A).all() and torch.isfinite(b).all()):
        raise NonFiniteError(f"finite {names}", "NaN or infinity", "clean the data first", b)


def require_positive(value: Tensor, name: str) -> None:
    """Refuse a penalty or a step that is not finite and positive."""
    number = float(value.detach())
    if not (number > 0 and number < float("inf")):
        raise ConditionError(
            f"{name} finite and > 0", f"{name} = {number:g}", "make it positive", number
        )


def squared_norm(A: Tensor) -> float:
    r""":math:`\|A\|^2`, the largest eigenvalue of :math:`A^\top A`."""
    return float(torch.linalg.matrix_norm(A.detach(), 2)) ** 2


def require_tau(tau: Tensor, beta: Tensor, A: Tensor, condition: str, strict: bool = True) -> None:
    r"""Refuse :math:`\tau \le \beta\|A\|^2` (or :math:`<`, where equality is allowed)."""
    limit, got = float(beta.detach()) * squared_norm(A), float(tau.detach())
    if got > limit or (not strict and got >= limit * (1 - 1e-12)):
        return
    raise ConditionError(
        f"{condition} = {limit:.6g}", f"{got:.6g}", "enlarge tau, or lower beta", got
    )


def definite(tau: Tensor, beta: Tensor, A: Tensor) -> Metric | None:
    r""":math:`\tau I - \beta A^\top A` as a metric, or ``None`` if it is not positive definite."""
    eye = torch.eye(A.shape[1], dtype=A.dtype, device=A.device)
    try:
        return Dense(tau * eye - beta * (A.mT @ A))
    except MetricError:
        return None
