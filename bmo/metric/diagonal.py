r"""Metrics that treat each coordinate by itself: one weight for all, or one for each.

Book: chapter 2, "Metrics". A step length is such a metric: :math:`H = \tau^{-1}I`.
"""

from __future__ import annotations

from torch import Tensor

from bmo.errors import MetricError
from bmo.metric.base import Metric, exact, require_positive


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
            require_positive(self.weight, "weight")
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
            require_positive(d, "diagonal weights")
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
