"""Which loops have their adjoint by hand: an operator with a kernel, a diagonal metric, a box."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from bmo.fused import Loop, captures_nothing, fusable
from bmo.gkm import GKM
from bmo.inner.upper import Upper, upper_gradient
from bmo.metric import Identity
from bmo.operators.base import kernel_of
from bmo.sets import Box, Nonnegative, Set, Whole


class Loopable(Protocol):
    """What is asked of a loop: its map, its set, and whether its steps are the book's."""

    training_map: GKM
    domain: Set
    mu: float
    fuse: bool

    @property
    def plain(self) -> bool:
        """Whether the step is that of Algorithm 1, not one of a subclass."""


def by_hand(
    inner: Loopable,
    u: Tensor,
    upper: Upper,
    steps: Sequence[tuple[float, float, float]],
    segments: Sequence[int] | None,
) -> Loop | None:
    """The loop with hand-written adjoints, or ``None`` where there is none for it.

    Args:
        inner: The loop, prepared.
        u: A point, for its dtype and device.
        upper: The upper objective; it must not depend on learned tensors that are hidden in it.
        steps: Length, weight of the anchor and weight of the step, for each step.
        segments: Lengths of parts whose starts alone are kept; ``None`` keeps every step.
    """
    T, domain = inner.training_map, inner.domain
    if not (inner.fuse and inner.plain and fusable() and type(T) is GKM):
        return None
    metric, box = T.metric, None
    weights = metric.weights()
    if type(domain) in (Box, Nonnegative):
        box = domain.low.to(u), domain.high.to(u)  # type: ignore[attr-defined]
    learned = box is not None and any(end.requires_grad for end in box)
    if weights is None or learned or (box is None and type(domain) is not Whole):
        return None
    kernel = kernel_of(T.operator)
    if kernel is None or not kernel.serves(u) or not all(alike(t, u) for t in kernel.inputs):
        return None
    free = Identity(metric.event_dims)

    def gradient(point: Tensor) -> Tensor:
        return upper_gradient(upper, point, free)

    hessian = getattr(upper, "hessian", None) if getattr(upper, "closed", False) else None
    if inner.mu and hessian is None and not captures_nothing(gradient, u):
        return None
    diagonal = None if type(metric) is Identity else weights.to(u)
    return Loop(kernel, T.alpha, inner.mu, steps, diagonal, box, gradient, hessian, segments)


def alike(t: Tensor, u: Tensor) -> bool:
    """Whether a tensor can meet the point without a conversion; numbers follow the point."""
    return t.device == u.device and (t.dtype == u.dtype or not t.dim())
