r"""Metrics: the inner product :math:`\langle u, v\rangle_H = u^\top H v` of the iteration.

Book: chapter 2. A metric acts on the last ``event_dims`` axes of a tensor; all axes
before them are batch. Every metric offers ``apply`` (:math:`Hu`), ``solve``
(:math:`H^{-1}u`), ``factor`` (:math:`Ru` with :math:`H = R^\top R`) and ``unfactor``
(:math:`R^{-1}u`), so that :math:`\|u\|_H = \|Ru\|`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from bmo.errors import MetricError, ShapeError


def _require_positive(d: Tensor, name: str) -> None:
    """Refuse weights that are not finite and positive (``name`` says whose they are)."""
    if not bool((torch.isfinite(d) & (d > 0)).all()):
        bad = d[~(torch.isfinite(d) & (d > 0))].flatten()[0]
        raise MetricError(
            f"{name} finite and > 0",
            f"{float(bad.detach())}",
            "use positive weights (a softplus of a raw parameter, say)",
            d,
        )


def exact(value: float | Tensor) -> Tensor:
    """A number as a double: it is rounded only where it meets a point; tensors as they are."""
    tensor = torch.as_tensor(value, dtype=None if isinstance(value, Tensor) else torch.float64)
    return tensor if tensor.is_floating_point() else tensor.to(torch.float64)


class Metric(ABC):
    r"""A symmetric positive definite :math:`H`; the base of all metrics.

    Attributes:
        event_dims: How many trailing axes make one point (1 for vectors, 3 for images).
        size: Length of the last axis, or ``None`` where any length will do.
    """

    event_dims: int = 1
    size: int | None = None

    @abstractmethod
    def apply(self, u: Tensor) -> Tensor:
        """:math:`Hu`, same shape as ``u``."""

    @abstractmethod
    def solve(self, u: Tensor) -> Tensor:
        """:math:`H^{-1}u`, same shape as ``u``."""

    @abstractmethod
    def factor(self, u: Tensor) -> Tensor:
        r""":math:`Ru` for one fixed :math:`R` with :math:`H = R^\top R`."""

    @abstractmethod
    def unfactor(self, u: Tensor) -> Tensor:
        """:math:`R^{-1}u`."""

    @abstractmethod
    def bounds(self) -> tuple[float, float]:
        r"""The smallest and largest eigenvalue, :math:`\lambda_{lb}` and :math:`\lambda_{ub}`."""

    def weights(self) -> Tensor | None:
        """The diagonal of :math:`H` (broadcasts against a point), or ``None`` if there is none."""
        return None

    def event_shape(self) -> tuple[int, ...]:
        """The shape of a point that :math:`H` can act on; 1 where any length will do."""
        return (1,) * (self.event_dims - 1) + (self.size or 1,)

    def like(self) -> Tensor | None:
        """A tensor of the dtype and device in which :math:`H` works, ``None`` if in any."""
        found = (t for t in vars(self).values() if isinstance(t, Tensor) and t.dim())
        return next(found, None)

    def check(self, u: Tensor) -> None:
        """Raise :class:`~bmo.errors.MetricError` unless ``u`` has a size this metric can act on."""
        if u.dim() < self.event_dims:
            raise MetricError(
                f"a tensor with at least {self.event_dims} axes",
                f"shape {tuple(u.shape)}",
                "keep the batch axes first and the axes of one point last",
                u,
            )
        if self.size is not None and u.shape[-1] != self.size:
            raise MetricError(
                f"last axis of length {self.size}",
                f"shape {tuple(u.shape)}",
                "build the metric for this size, or pass the points it was built for",
                u,
            )

    def inner(self, u: Tensor, v: Tensor) -> Tensor:
        r""":math:`\langle u, v\rangle_H`, one number for each point: shape = batch shape."""
        self.check(u)
        return (u * self.apply(v)).flatten(-self.event_dims).sum(-1)

    def norm(self, u: Tensor) -> Tensor:
        r""":math:`\|u\|_H`, computed as :math:`\|Ru\|`: never the root of a negative number."""
        self.check(u)
        return self.factor(u).flatten(-self.event_dims).norm(dim=-1)

    def distance(self, u: Tensor, v: Tensor) -> Tensor:
        r""":math:`\|u - v\|_H`."""
        return self.norm(u - v)

    def matrix(self, shape: Sequence[int], like: Tensor | None = None) -> Tensor:
        r"""The dense matrix of :math:`H` on points of the given event shape (for small sizes).

        Args:
            shape: Event shape, of length ``event_dims``.
            like: A tensor whose dtype and device are taken (float64 on the CPU otherwise).

        Returns:
            Matrix of shape (n, n), n the number of entries of a point.
        """
        n = int(torch.Size(shape).numel())
        dtype, device = (like.dtype, like.device) if like is not None else (torch.float64, None)
        eye = torch.eye(n, dtype=dtype, device=device).reshape(n, *shape)
        return self.apply(eye).reshape(n, n).mT


class Scaled(Metric):
    r""":math:`H = wI`. ``Scaled(1 / tau)`` is the metric of a proximal gradient step of length tau.

    Args:
        weight: The number :math:`w > 0` (float or 0-dimensional tensor).
        event_dims: Trailing axes of one point.
        check: Refuse :math:`w \le 0`; leave on unless the weight is positive by construction.

    Raises:
        MetricError: ``weight`` is not finite and positive.

    Example:
        >>> import torch, bmo
        >>> bmo.metric.Scaled(4.0).norm(torch.tensor([3.0, 4.0]))
        tensor(10.)
    """

    def __init__(self, weight: float | Tensor, event_dims: int = 1, check: bool = True) -> None:
        self.weight = exact(weight)
        if check:
            _require_positive(self.weight, "weight")
        self.event_dims = event_dims

    def _w(self, u: Tensor) -> Tensor:
        return self.weight.to(u)

    def apply(self, u: Tensor) -> Tensor:
        return self._w(u) * u

    def solve(self, u: Tensor) -> Tensor:
        return u / self._w(u)

    def factor(self, u: Tensor) -> Tensor:
        return self._w(u).sqrt() * u

    def unfactor(self, u: Tensor) -> Tensor:
        return u / self._w(u).sqrt()

    def bounds(self) -> tuple[float, float]:
        w = float(self.weight.detach())
        return w, w

    def weights(self) -> Tensor:
        return self.weight


class Identity(Scaled):
    r""":math:`H = I`: the Euclidean metric.

    Example:
        >>> import torch, bmo
        >>> bmo.metric.Identity().norm(torch.tensor([3.0, 4.0]))
        tensor(5.)
    """

    def __init__(self, event_dims: int = 1) -> None:
        super().__init__(1.0, event_dims, check=False)

    def apply(self, u: Tensor) -> Tensor:
        return u

    solve = factor = unfactor = apply


class Diagonal(Metric):
    r""":math:`H = \mathrm{diag}(d)`.

    Args:
        d: Positive weights; shape (n,) for vectors, or any shape that broadcasts against one point.
        event_dims: Trailing axes of one point.
        check: Refuse weights that are not positive; leave on unless they are so by construction.

    Raises:
        MetricError: A weight is not finite and positive, or a point has another size.

    Example:
        >>> import torch, bmo
        >>> H = bmo.metric.Diagonal(torch.tensor([1.0, 4.0]))
        >>> H.inner(torch.ones(2), torch.ones(2))
        tensor(5.)
    """

    def __init__(self, d: Tensor, event_dims: int = 1, check: bool = True) -> None:
        if d.dim() == 0 or d.dim() > event_dims:
            raise MetricError(
                f"weights with 1 to {event_dims} axes",
                f"shape {tuple(d.shape)}",
                "use Scaled for one number; batched metrics are not supported",
                d,
            )
        if check:
            _require_positive(d, "diagonal weights")
        self.d = d
        self.event_dims = event_dims
        self.size = int(d.shape[-1]) if d.shape[-1] > 1 or event_dims == 1 else None

    def apply(self, u: Tensor) -> Tensor:
        return self.d * u

    def solve(self, u: Tensor) -> Tensor:
        return u / self.d

    def factor(self, u: Tensor) -> Tensor:
        return self.d.sqrt() * u

    def unfactor(self, u: Tensor) -> Tensor:
        return u / self.d.sqrt()

    def bounds(self) -> tuple[float, float]:
        return float(self.d.detach().min()), float(self.d.detach().max())

    def weights(self) -> Tensor:
        return self.d

    def event_shape(self) -> tuple[int, ...]:
        return (1,) * (self.event_dims - self.d.dim()) + tuple(self.d.shape)


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


class Block(Metric):
    r"""Block-diagonal :math:`H = \mathrm{blkdiag}(H_1, \dots, H_r)` on concatenated variables.

    Args:
        sizes: Length of each block along axis ``dim``.
        metrics: One metric for each block, all with the same ``event_dims``.
        dim: The axis along which the blocks are joined (-1 for vectors, -3 for image channels).

    Raises:
        MetricError: Numbers of sizes and metrics differ, or a metric has another size.

    Example:
        >>> import torch, bmo
        >>> H = bmo.metric.Block([2, 1], [bmo.metric.Scaled(2.0), bmo.metric.Scaled(3.0)])
        >>> H.apply(torch.ones(3))
        tensor([2., 2., 3.])
    """

    def __init__(self, sizes: Sequence[int], metrics: Sequence[Metric], dim: int = -1) -> None:
        if len(sizes) != len(metrics) or not metrics:
            raise MetricError(
                "one metric for each block",
                f"{len(sizes)} sizes, {len(metrics)} metrics",
                "pass two lists of the same length",
            )
        if len({m.event_dims for m in metrics}) != 1:
            raise MetricError(
                "blocks with equal event_dims",
                f"{[m.event_dims for m in metrics]}",
                "give every block the same number of trailing axes",
            )
        self.sizes = list(sizes)
        self.metrics = list(metrics)
        self.dim = dim
        self.event_dims = metrics[0].event_dims
        self.size = sum(sizes) if dim == -1 else None

    def split(self, u: Tensor) -> tuple[Tensor, ...]:
        """The blocks of ``u``, as views."""
        if u.shape[self.dim] != sum(self.sizes):
            raise MetricError(
                f"axis {self.dim} of length {sum(self.sizes)}",
                f"shape {tuple(u.shape)}",
                "concatenate the blocks in the order of the metric",
                u,
            )
        return u.split(self.sizes, self.dim)

    def _each(self, name: str, u: Tensor) -> Tensor:
        parts = zip(self.metrics, self.split(u), strict=True)
        return torch.cat([getattr(m, name)(part) for m, part in parts], self.dim)

    def apply(self, u: Tensor) -> Tensor:
        return self._each("apply", u)

    def solve(self, u: Tensor) -> Tensor:
        return self._each("solve", u)

    def factor(self, u: Tensor) -> Tensor:
        return self._each("factor", u)

    def unfactor(self, u: Tensor) -> Tensor:
        return self._each("unfactor", u)

    def bounds(self) -> tuple[float, float]:
        low, high = zip(*(m.bounds() for m in self.metrics), strict=True)
        return min(low), max(high)

    def event_shape(self) -> tuple[int, ...]:
        sides = [max(side) for side in zip(*(m.event_shape() for m in self.metrics), strict=True)]
        sides[self.dim] = sum(self.sizes)
        return tuple(sides)

    def like(self) -> Tensor | None:
        return next((t for t in (m.like() for m in self.metrics) if t is not None), None)

    def weights(self) -> Tensor | None:
        if self.event_dims != 1:
            return None
        parts = [m.weights() for m in self.metrics]
        if any(p is None for p in parts):
            return None
        wide = [p.expand(n) for p, n in zip(parts, self.sizes, strict=True) if p is not None]
        return torch.cat([w.to(wide[0]) for w in wide])


def require_same_kind(u: Tensor, v: Tensor, name: str) -> None:
    """Raise :class:`~bmo.errors.ShapeError` unless dtype and device of both tensors agree."""
    if u.dtype != v.dtype or u.device != v.device:
        raise ShapeError(
            f"{name} with dtype {v.dtype} on {v.device}",
            f"{u.dtype} on {u.device}",
            f"move it: {name}.to(dtype={v.dtype}, device='{v.device}')",
            u,
        )
