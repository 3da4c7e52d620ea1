r"""Any symmetric positive definite matrix as a metric.

Book: chapter 2, "Metrics".
"""

from __future__ import annotations

import torch
from torch import Tensor

from bmo.errors import MetricError
from bmo.metric.base import Metric


class Dense(Metric):
    r"""Any symmetric positive definite matrix, held with its Cholesky factor :math:`H = LL^\top`.

    Args:
        matrix: :math:`H`, shape (n, n).

    Raises:
        MetricError: The matrix is not square, not symmetric, or not positive definite.

    Example:
        >>> import torch, bmo
        >>> H = bmo.metric.Dense(torch.tensor([[2.0, 1.0], [1.0, 2.0]]))
        >>> H.inner(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]))
        tensor(1.)
    """

    def __init__(self, matrix: Tensor) -> None:
        if matrix.dim() != 2 or matrix.shape[0] != matrix.shape[1]:
            raise MetricError("a square matrix", f"shape {tuple(matrix.shape)}", "pass H as (n, n)")
        scale = float(matrix.detach().abs().max())
        gap = float((matrix - matrix.mT).detach().abs().max())
        slack = 1e3 * torch.finfo(matrix.dtype).eps * max(scale, 1e-300)
        if not gap <= slack:  # written so that NaN is refused too
            raise MetricError(
                "a symmetric matrix", f"asymmetry {gap:.3g}", "use (H + H.mT) / 2", matrix
            )
        lower, info = torch.linalg.cholesky_ex(matrix)
        if int(info) != 0:
            low = float(torch.linalg.eigvalsh(matrix.detach())[0])
            raise MetricError(
                "a positive definite matrix",
                f"smallest eigenvalue {low:.3g}",
                "add a multiple of the identity, or shorten the step that H comes from",
                matrix,
            )
        self._matrix = matrix
        self._lower = lower
        self.size = int(matrix.shape[0])

    def apply(self, u: Tensor) -> Tensor:
        return u @ self._matrix

    def solve(self, u: Tensor) -> Tensor:
        return self._tri(self._tri(u, False), True)

    def _tri(self, u: Tensor, transpose: bool) -> Tensor:
        """Solve with :math:`L` (or its transpose), points as rows."""
        rows = u.reshape(-1, u.shape[-1])
        matrix = self._lower.mT if transpose else self._lower
        out = torch.linalg.solve_triangular(matrix, rows.mT, upper=transpose)
        return out.mT.reshape(u.shape)

    def factor(self, u: Tensor) -> Tensor:
        return u @ self._lower  # R = L^T, so Ru = L^T u; points are rows

    def unfactor(self, u: Tensor) -> Tensor:
        return self._tri(u, True)

    def bounds(self) -> tuple[float, float]:
        eig = torch.linalg.eigvalsh(self._matrix.detach())
        return float(eig[0]), float(eig[-1])
