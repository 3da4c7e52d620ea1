r"""One metric for each block of variables.

Book: chapter 2, "Metrics"; chapter 4, augmented Lagrangian methods.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bmo.errors import MetricError
from bmo.metric.base import Metric


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
