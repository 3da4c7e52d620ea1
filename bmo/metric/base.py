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

from bmo.errors import MetricError, ShapeError, as_numbers


def require_positive(d: Tensor, name: str) -> None:
    """Refuse weights that are not finite and positive (``name`` says whose they are).

    Example:
        >>> import torch
        >>> from bmo.metric import require_positive
        >>> require_positive(torch.ones(2), "weights")  # nothing to refuse
    """
    if not bool((torch.isfinite(d) & (d > 0)).all()):
        bad = d[~(torch.isfinite(d) & (d > 0))].flatten()[0]
        raise MetricError(
            f"{name} finite and > 0",
            f"{float(bad.detach())}",
            "use positive weights (a softplus of a raw parameter, say)",
            d,
        )


def exact(value: float | Tensor) -> Tensor:
    """A number as a double: it is rounded only where it meets a point; tensors as they are.

    Example:
        >>> from bmo.metric import exact
        >>> exact(0.1)
        tensor(0.1000, dtype=torch.float64)
    """
    tensor = as_numbers(value, None if isinstance(value, Tensor) else torch.float64)
    return tensor if tensor.is_floating_point() else tensor.to(torch.float64)


class Metric(ABC):
    r"""A symmetric positive definite :math:`H`; the base of all metrics.

    Attributes:
        event_dims: How many trailing axes make one point (1 for vectors, 3 for images).
        size: Length of the last axis, or ``None`` where any length will do.

    An example: :class:`bmo.metric.Diagonal`.
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


def require_same_kind(u: Tensor, v: Tensor, name: str) -> None:
    """Raise :class:`~bmo.errors.ShapeError` unless dtype and device of both tensors agree.

    Example:
        >>> import torch
        >>> from bmo.metric import require_same_kind
        >>> require_same_kind(torch.ones(2), torch.zeros(3), "u0")  # nothing to refuse
    """
    if u.dtype != v.dtype or u.device != v.device:
        raise ShapeError(
            f"{name} with dtype {v.dtype} on {v.device}",
            f"{u.dtype} on {u.device}",
            f"move it: {name}.to(dtype={v.dtype}, device='{v.device}')",
            u,
        )
