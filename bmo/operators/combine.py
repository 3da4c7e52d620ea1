r"""New operators from several: composition, convex combination, stacking.

Book: chapter 2, "Building with blocks".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self, cast

import torch
from torch import Tensor, nn

from bmo.errors import ConditionError, MetricError
from bmo.metric import Block, Metric
from bmo.operators.base import Operator, _shallow, same_metric


def _parts(module: nn.ModuleList) -> list[Operator]:
    return [cast(Operator, part) for part in module]


def _weakest(operators: Sequence[Operator]) -> str:
    order = ["none", "tested", "checked", "by construction"]
    return order[min(order.index(op.certified) for op in operators)]


class _Joined(Operator):
    """Maps of one point that see one observation: ``bind`` reaches each part that has the data."""

    parts: nn.ModuleList

    def bind(self, **data: Any) -> Self:
        names = [{n.rsplit(".", 1)[-1] for n, _ in part.named_buffers()} for part in self.parts]
        if not set(data) <= set().union(*names):
            return super().bind(**data)  # which says what is missing
        clone = _shallow(self)
        clone.parts = nn.ModuleList(
            part.bind(**{key: value for key, value in data.items() if key in known})
            for part, known in zip(_parts(self.parts), names, strict=True)
        )
        return clone

    @property
    def metric(self) -> Metric:
        return _parts(self.parts)[0].metric


class Composition(_Joined):
    r""":math:`D_1 \circ D_2 \circ \dots`, all nonexpansive in the *same* metric.

    The averaged constants combine by :math:`\kappa = \kappa_1\kappa_2/(\kappa_1+\kappa_2)`,
    :math:`\kappa_i = (1-a_i)/a_i`. Book: chapter 4. Note that fixed points change.

    Args:
        operators: The first is applied last, as in the formula.
        check: Refuse operators with different metrics.

    Raises:
        ConditionError: There is no operator.
        MetricError: Two metrics differ; conjugate one of them (:class:`Conjugate`).

    Example:
        >>> import torch, bmo
        >>> half = bmo.operators.Lambda(lambda u: u / 2, bmo.metric.Identity())
        >>> bmo.operators.Composition(half, half)(torch.ones(1))
        tensor([0.2500])
    """

    def __init__(self, *operators: Operator, check: bool = True) -> None:
        super().__init__()
        if not operators:
            raise ConditionError("at least one operator", "none", "name one")
        self.parts = nn.ModuleList(operators)
        self.certified = _weakest(operators) if check else "none"
        if check:
            require_one_metric(operators)

    @property
    def averaged(self) -> float:
        total = 0.0
        for a in (part.averaged for part in _parts(self.parts)):
            if a == 1:
                return 1.0
            total += a / (1 - a)
        return total / (1 + total)

    def forward(self, u: Tensor) -> Tensor:
        for part in reversed(self.parts):
            u = part(u)
        return u


def require_one_metric(operators: Sequence[Operator]) -> None:
    """Raise :class:`~bmo.errors.MetricError` if two operators have different metrics."""
    for other in operators[1:]:
        if not same_metric(operators[0].metric, other.metric):
            raise MetricError(
                "operators that are nonexpansive in one common metric",
                f"{type(operators[0]).__name__} and {type(other).__name__} with different metrics",
                "conjugate the second into the metric of the first (operators.Conjugate)",
            )


class Combination(_Joined):
    r"""A convex combination :math:`\sum_i w_i D_i` of maps nonexpansive in the same metric.

    Args:
        operators: The maps.
        weights: Nonnegative numbers that sum to one.
        check: Refuse different metrics and bad weights.

    Raises:
        ConditionError: Weights are negative or do not sum to one.
        MetricError: Two metrics differ.

    Example:
        >>> import torch, bmo
        >>> I = bmo.operators.Lambda(lambda u: u, bmo.metric.Identity())
        >>> R = bmo.operators.Lambda(lambda u: -u, bmo.metric.Identity())
        >>> bmo.operators.Combination([I, R], [0.75, 0.25])(torch.ones(1))
        tensor([0.5000])
    """

    def __init__(
        self, operators: Sequence[Operator], weights: Sequence[float], check: bool = True
    ) -> None:
        super().__init__()
        if check:
            bad = len(weights) != len(operators) or min(weights) < 0 or abs(sum(weights) - 1) > 1e-9
            if bad:
                raise ConditionError(
                    "nonnegative weights that sum to 1", f"{list(weights)}", "normalise them"
                )
            require_one_metric(operators)
        self.parts = nn.ModuleList(operators)
        self.weights = [float(w) for w in weights]
        self.certified = _weakest(operators) if check else "none"

    @property
    def averaged(self) -> float:
        return sum(w * p.averaged for w, p in zip(self.weights, _parts(self.parts), strict=True))

    def forward(self, u: Tensor) -> Tensor:
        return sum((w * p(u) for w, p in zip(self.weights, self.parts, strict=True)), 0 * u)


class Stack(Operator):
    r"""Operators on separate blocks of coordinates; nonexpansive in the block-diagonal metric.

    Args:
        sizes: Length of each block on the last axis.
        operators: One operator for each block.

    Example:
        >>> import torch, bmo
        >>> R = bmo.operators.Lambda(lambda u: -u, bmo.metric.Identity())
        >>> bmo.operators.Stack([1, 1], [R, R])(torch.ones(2))
        tensor([-1., -1.])
    """

    def __init__(self, sizes: Sequence[int], operators: Sequence[Operator]) -> None:
        super().__init__()
        self.sizes = list(sizes)
        self.parts = nn.ModuleList(operators)
        self.certified = _weakest(operators)

    @property
    def metric(self) -> Metric:
        return Block(self.sizes, [p.metric for p in _parts(self.parts)])

    @property
    def averaged(self) -> float:
        return max(p.averaged for p in _parts(self.parts))

    def forward(self, u: Tensor) -> Tensor:
        blocks = zip(self.parts, u.split(self.sizes, -1), strict=True)
        return torch.cat([part(x) for part, x in blocks], -1)
