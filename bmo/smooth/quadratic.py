"""Quadratic functions: least squares, a quadratic form, a ridge."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bmo.errors import ConditionError, NonFiniteError, ShapeError, require_tensor
from bmo.metric import Metric, require_same_kind
from bmo.prox.base import threshold_parameter
from bmo.smooth.base import Smooth


def require_length(u: Tensor, n: int) -> None:
    """Refuse points of another length than n."""
    if not u.dim() or u.shape[-1] != n:
        raise ShapeError(
            f"points of length {n}, shape (..., {n})",
            f"shape {tuple(u.shape)}",
            "keep the batch axes first and the point's own last",
            u,
        )


class LeastSquares(Smooth):
    r""":math:`f(u) = \tfrac12\|Au - b\|^2`.

    Args:
        A: Matrix of shape (m, n).
        b: Data, shape (m,) or (batch, m): one data vector for each point.
        check: Refuse NaN and infinity in the data.

    Raises:
        ShapeError: ``b`` does not fit ``A``, in shape, dtype or device; or ``A`` is empty.
        NonFiniteError: NaN or infinity in ``A`` or ``b``.

    Example:
        >>> import torch, bmo
        >>> f = bmo.LeastSquares(torch.eye(2), torch.tensor([1.0, 2.0]))
        >>> f(torch.zeros(2)).detach()
        tensor([-1., -2.])
        >>> float(f.curvature(bmo.metric.Scaled(2.0)))
        0.5
    """

    def __init__(self, A: Tensor, b: Tensor, check: bool = True) -> None:
        super().__init__()
        require_tensor("A", A), require_tensor("b", b)
        if A.dim() != 2 or not A.numel() or not b.dim() or b.shape[-1] != A.shape[0]:
            raise ShapeError(
                "A of shape (m, n) and b of shape (..., m)",
                f"A {tuple(A.shape)}, b {tuple(b.shape)}",
                "transpose A, or pass the data with its last axis of length m",
            )
        require_same_kind(b, A, "b")
        if check and not bool(torch.isfinite(A).all() and torch.isfinite(b).all()):
            raise NonFiniteError("finite A and b", "NaN or infinity", "clean the data first", b)
        self.register_buffer("A", A)
        self.register_buffer("b", b)
        self.A: Tensor
        self.b: Tensor

    @property
    def size(self) -> int:
        return int(self.A.shape[1])

    def value(self, u: Tensor) -> Tensor:
        return 0.5 * (u @ self.A.mT - self.b).square().sum(-1)

    def forward(self, u: Tensor) -> Tensor:
        require_length(u, self.size)
        return (u @ self.A.mT - self.b) @ self.A

    def product(self, u: Tensor, v: Tensor) -> Tensor:
        return (v @ self.A.mT) @ self.A

    def matrix(self, n: int) -> Tensor:
        return self.A.mT @ self.A

    def curvature(self, metric: Metric) -> Tensor:
        # singular values of A R^{-1}, with H = R^T R: rows of A R^{-1} solve R^T y = a
        weights = metric.weights()
        if weights is not None:
            return torch.linalg.matrix_norm(self.A / weights.to(self.A).sqrt(), 2) ** 2
        root = metric.unfactor(torch.eye(self.A.shape[1]).to(self.A))  # rows are R^{-1} e_i
        return torch.linalg.matrix_norm(self.A @ root.mT, 2) ** 2


class Quadratic(Smooth):
    r""":math:`f(u) = \tfrac12 u^\top Q u - c^\top u`, :math:`Q` symmetric positive semidefinite.

    Args:
        Q: Matrix of shape (n, n).
        c: Vector of shape (n,) or (batch, n).

    Raises:
        ShapeError: The shapes do not fit, or ``Q`` is not symmetric.
        ConditionError: ``Q`` has a negative eigenvalue: the function is not convex.

    Example:
        >>> import torch, bmo
        >>> bmo.smooth.Quadratic(torch.eye(2), torch.ones(2))(torch.ones(2))
        tensor([0., 0.])
    """

    def __init__(self, Q: Tensor, c: Tensor) -> None:
        super().__init__()
        square = Q.dim() == 2 and Q.shape[0] == Q.shape[1] == c.shape[-1]
        if not square or not torch.allclose(Q, Q.mT):
            raise ShapeError(
                "a symmetric Q of shape (n, n) and c of shape (..., n)",
                f"Q {tuple(Q.shape)}, c {tuple(c.shape)}",
                "use (Q + Q.mT) / 2",
                Q,
            )
        least, most = torch.linalg.eigvalsh(Q.detach())[[0, -1]].tolist()
        if not least >= -1e-6 * abs(most):
            raise ConditionError(
                "a positive semidefinite Q", f"eigenvalue {least:.3g}", "use Q.mT @ Q", Q
            )
        self.register_buffer("Q", Q)
        self.register_buffer("c", c)
        self.Q: Tensor
        self.c: Tensor

    @property
    def size(self) -> int:
        return int(self.Q.shape[1])

    def value(self, u: Tensor) -> Tensor:
        return 0.5 * (u * (u @ self.Q)).sum(-1) - (self.c * u).sum(-1)

    def forward(self, u: Tensor) -> Tensor:
        require_length(u, self.size)
        return u @ self.Q - self.c

    def product(self, u: Tensor, v: Tensor) -> Tensor:
        return v @ self.Q

    def matrix(self, n: int) -> Tensor:
        return self.Q

    def curvature(self, metric: Metric) -> Tensor:
        half = metric.unfactor(torch.eye(self.Q.shape[0]).to(self.Q))
        return torch.linalg.eigvalsh(half @ self.Q @ half.mT)[-1]


class Ridge(Smooth):
    r""":math:`f(u) = \tfrac12\sum_i w_iu_i^2`: one weight for all coordinates, or one for each.

    Args:
        weight: :math:`w > 0`, a number or shape (n,); or a module that returns it.
        learn: Make the weight part of omega (kept positive for every raw value).

    Raises:
        DomainError: A weight is not positive.

    Example:
        >>> import torch, bmo
        >>> bmo.smooth.Ridge(2.0)(torch.ones(2))
        tensor([2., 2.])
    """

    def __init__(self, weight: float | Tensor | nn.Module, learn: bool = False) -> None:
        super().__init__()
        if isinstance(weight, nn.Module):
            self.weight = weight
        else:
            self.weight = threshold_parameter(weight, learn)

    @property
    def size(self) -> int | None:
        weight = self.weight()
        return len(weight) if weight.dim() else None

    def value(self, u: Tensor) -> Tensor:
        return 0.5 * (self.weight().to(u) * u.square()).sum(-1)

    def forward(self, u: Tensor) -> Tensor:
        return self.weight().to(u) * u

    def product(self, u: Tensor, v: Tensor) -> Tensor:
        return self.weight().to(u) * v

    def matrix(self, n: int) -> Tensor:
        weight = self.weight()
        return torch.diag(weight.expand(n))

    def curvature(self, metric: Metric) -> Tensor:
        weight, d = self.weight(), metric.weights()
        if d is not None:
            return (weight / d.to(weight)).max()
        low, _ = metric.bounds()
        return weight.max() / low
