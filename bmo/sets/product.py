"""Products of sets on concatenated coordinates."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bmo.errors import DomainError
from bmo.metric import Block, Metric
from bmo.sets.base import Set


class Product(Set):
    """A product of sets on concatenated coordinates.

    In a block metric with the same blocks it is projected block by block.

    Args:
        sizes: Number of coordinates of each factor.
        factors: The sets.

    Raises:
        DomainError: Numbers of sizes and sets differ.

    Example:
        >>> import torch, bmo
        >>> U = bmo.sets.Product([1, 1], [bmo.sets.Whole(), bmo.sets.Box(0.0, 1.0)])
        >>> U.project(torch.tensor([5.0, 5.0]), bmo.metric.Identity())
        tensor([5., 1.])
    """

    def __init__(self, sizes: Sequence[int], factors: Sequence[Set]) -> None:
        if len(sizes) != len(factors) or not factors:
            raise DomainError(
                "one size for each set", f"{len(sizes)} sizes, {len(factors)} sets", "match them"
            )
        self.sizes, self.factors = list(sizes), list(factors)

    def _split(self, u: Tensor) -> tuple[Tensor, ...]:
        if u.shape[-1] != sum(self.sizes):
            raise DomainError(
                f"points with {sum(self.sizes)} coordinates", f"{tuple(u.shape)}", "match the sizes"
            )
        return u.split(self.sizes, -1)

    def nearest(self, u: Tensor) -> Tensor:
        parts = zip(self.factors, self._split(u), strict=True)
        return torch.cat([s.nearest(p) for s, p in parts], -1)

    def contains(self, u: Tensor, tol: float = 1e-9) -> Tensor:
        parts = zip(self.factors, self._split(u), strict=True)
        return torch.stack([s.contains(p, tol) for s, p in parts]).all(0)

    def diagonal(self, u: Tensor, weights: Tensor) -> Tensor | None:
        if weights.numel() == 1:
            return self.nearest(u)
        cut = weights.split(self.sizes, -1)
        done = [s.diagonal(p, w) for s, p, w in zip(self.factors, self._split(u), cut, strict=True)]
        return (
            None
            if any(d is None for d in done)
            else torch.cat([d for d in done if d is not None], -1)
        )

    def project(self, u: Tensor, metric: Metric, tol: float = 1e-10) -> Tensor:
        if isinstance(metric, Block) and metric.sizes == self.sizes:
            parts = zip(self.factors, self._split(u), metric.metrics, strict=True)
            return torch.cat([s.project(p, m, tol) for s, p, m in parts], -1)
        return super().project(u, metric, tol)
