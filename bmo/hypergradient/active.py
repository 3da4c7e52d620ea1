r"""The implicit hypergradient of the lasso family: dense solves on the support of each signal.

Book: chapter 9. With the derivative :math:`\partial_uD = E(I - P^{-1}Q)`, :math:`E` the diagonal
0-1 matrix of the active entries S, only :math:`y = E\lambda` reaches the parameters, and

.. math:: Q_{SS}^\top\,(P^{-1}y)_S = g_S/\alpha

The matrix is small: no iteration, no rate, the answer to rounding.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bmo.errors import ConditionError
from bmo.hypergradient.adjoint import Adjoint, Solved
from bmo.hypergradient.base import Estimate, register
from bmo.hypergradient.implicit import implicit, tolerance
from bmo.inner import Inner, Upper
from bmo.operators.base import Piece
from bmo.sets import Box, Whole

CHUNK = 2**24  # entries of the small matrices that are held at a time


@register(
    "active-set",
    "forward-backward steps with quadratic f and an l1 prior, a diagonal metric, mu = 0, U a box "
    "or all of space, u^K with its final support, and active columns that are independent. "
    "Memory: the small matrices.",
)
@dataclass(frozen=True)
class ActiveSet:
    r"""The implicit hypergradient by dense solves on each signal's support.

    Raises:
        ConditionError: The loop is not of this family, or active columns are dependent.

    Source: Bertrand et al., ICML 2020 (implicit differentiation of the lasso on its support).

    Example:
        >>> import torch, bmo
        >>> from bmo.hypergradient import hypergradient
        >>> f = bmo.LeastSquares(torch.eye(2).double(), torch.tensor([3.0, 0.5]).double())
        >>> D = bmo.ProximalGradient(f, bmo.prox.L1(torch.tensor(1.0).double(), True), step=1.0)
        >>> inner = bmo.Inner(bmo.GKM(D, 0.9), mu=0.0)
        >>> upper = lambda u: 0.5 * (u - 1).square().sum(-1)
        >>> got = hypergradient(inner, torch.zeros(2).double(), upper, 99, method="active-set")
        >>> float(got.adjoint_residual) < 1e-12
        True
    """

    def __call__(
        self, inner: Inner, u0: Tensor, upper: Upper, iterations: int, tensors: list[Tensor]
    ) -> Estimate:
        T = inner.training_map
        if inner.mu or not isinstance(inner.domain, (Box, Whole)):
            raise refused(f"mu = {inner.mu}, U = {type(inner.domain).__name__}")
        with torch.no_grad():
            u = inner(u0, upper, iterations)
            piece = T.operator.prepared().piece(u)
            if piece is None:
                raise refused(type(T.operator).__name__)
            free = unclipped(inner, u)

        def solve(adjoint: Adjoint) -> Solved:
            y = on_support(adjoint.right / T.alpha, piece.active & free, piece)
            # off the support lambda follows from y; it is needed to check the equation
            rest = adjoint.right + adjoint.transpose(y) - (1 - T.alpha) * y
            lam = torch.where(free, rest / T.alpha, rest)
            size = adjoint.residual(lam)
            return Solved(lam, size, bool((size <= tolerance(None, u)).all()))

        return implicit(inner, u, upper, 0, tensors, solve)


def refused(got: str) -> ConditionError:
    """The error for a loop of another family."""
    return ConditionError(
        "a forward-backward step with quadratic f and an l1 prior in a diagonal metric, mu = 0, "
        "U a box or all of space",
        got,
        "use 'gmres' or 'fixed-point'",
    )


def unclipped(inner: Inner, u: Tensor) -> Tensor:
    """Which entries the projection onto U leaves free; on an end, as automatic differentiation."""
    if not isinstance(inner.domain, Box):
        return torch.ones_like(u, dtype=torch.bool)
    v = inner.training_map(u)
    return (v >= inner.domain.low.to(u)) & (v <= inner.domain.high.to(u))


def on_support(right: Tensor, active: Tensor, piece: Piece) -> Tensor:
    r""":math:`y` with :math:`Q_{SS}(P^{-1}y)_S = g_S`, 0 off the support; shape of ``right``."""
    n = right.shape[-1]
    rows, masks = right.reshape(-1, n), active.reshape(-1, n)
    size = max(1, int(masks.sum(-1).max()))
    step = max(1, CHUNK // size**2)
    parts = [
        solve_rows(rows[i : i + step], masks[i : i + step], piece, size)
        for i in range(0, len(rows), step)
    ]
    return piece.weights * torch.cat(parts).reshape(right.shape)


def solve_rows(rows: Tensor, masks: Tensor, piece: Piece, size: int) -> Tensor:
    """The solves of some signals, padded to the largest support by rows of the identity."""
    order = masks.to(torch.int8).argsort(dim=-1, descending=True, stable=True)[:, :size]
    there = masks.gather(1, order)
    small = piece.gram.mT[order[:, :, None], order[:, None, :]]
    small = small * (there[:, :, None] & there[:, None, :])
    small.diagonal(dim1=1, dim2=2).add_((~there).to(small))
    right = (rows.gather(1, order) * there).unsqueeze(-1)
    if piece.symmetric:
        factor, info = torch.linalg.cholesky_ex(small)
        found = torch.cholesky_solve(right, factor)
        # what is left of a column after the others: rounding alone, if they are dependent
        left = factor.diagonal(dim1=1, dim2=2).square() / small.diagonal(dim1=1, dim2=2)
        lost = (info > 0) | ~(left.amin(-1) > 10 * size * torch.finfo(small.dtype).eps)
    else:
        found, info = torch.linalg.solve_ex(small, right)
        lost = info > 0
    if bool(lost.any()):
        raise ConditionError(
            "active columns that are independent, so that the solution is unique",
            f"{int(lost.sum())} signals with dependent ones",
            "add a ridge, raise the threshold, or use an unrolled method",
        )
    return torch.zeros_like(rows).scatter_(1, order, found.squeeze(-1) * there)
