r"""Reverse mode that keeps the starts of segments and computes the steps between them again.

Book: chapter 9. Memory grows with the root of K, or fits a given budget.
"""

from __future__ import annotations

import math
import weakref
from dataclasses import dataclass
from itertools import accumulate, pairwise

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from bmo.errors import DomainError
from bmo.fused import held
from bmo.hypergradient.base import Estimate, register
from bmo.hypergradient.unrolled import cotangents, differentiate, nothing, require_steps
from bmo.inner import Inner, Upper
from bmo.inner.by_hand import by_hand


@register(
    "recompute",
    "exact for the K steps that were taken, as reverse mode. Memory grows with the root of K; "
    "each step is computed twice.",
)
@dataclass(frozen=True)
class Recompute:
    r"""Reverse mode that keeps only the starts of segments and computes the rest again.

    Args:
        segments: How many; ``None`` for about :math:`\sqrt K`.
        budget: Instead: bytes that the kept tensors may take. The number of segments follows from
            the size of one step, which is measured.

    Raises:
        DomainError: ``segments`` is below 1, both are given, or no number of segments fits the
            budget.

    Source: Griewank, Optim. Methods Softw. 1992.

    Example:
        >>> import bmo
        >>> from bmo.hypergradient import Recompute, hypergradient
        >>> problem = bmo.problems.toy.quadratic(3)
        >>> inner = bmo.Inner(problem.training(0.9))
        >>> got = hypergradient(inner, problem.start, problem.upper, 16, method=Recompute(4))
        >>> float(got.adjoint_residual)
        0.0
    """

    segments: int | None = None
    budget: int | None = None

    def __post_init__(self) -> None:
        if self.segments is not None:
            require_steps("segments", self.segments)
            if self.budget is not None:
                raise DomainError("segments or budget", "both", "give one of them")

    def lengths(self, inner: Inner, u0: Tensor, upper: Upper, iterations: int) -> list[int]:
        """How many steps each segment has."""
        if iterations == 0:
            return [0]
        if self.budget is None:
            count = self.segments or round(math.sqrt(iterations))
        else:
            step = bytes_of_step(inner, u0, upper)
            count = fitting(self.budget, iterations, u0.nbytes, step)
        count = min(count, iterations)
        base, more = divmod(iterations, count)
        return [base + (i < more) for i in range(count)]

    def __call__(
        self, inner: Inner, u0: Tensor, upper: Upper, iterations: int, tensors: list[Tensor]
    ) -> Estimate:
        lengths = self.lengths(inner, u0, upper, iterations)
        inner.start(u0)
        if nested(inner, u0, upper):
            return by_segments(inner, u0, upper, lengths, tensors)
        u = inner.advance(u0, u0, upper, inner.sizes(iterations), segments=lengths)
        inner.require_finite(u)
        value, gradients = differentiate(inner, u, upper, tensors)
        return Estimate(u, value, gradients, nothing(inner, u))


def nested(inner: Inner, u0: Tensor, upper: Upper) -> bool:
    """Whether a step differentiates the upper objective itself.

    Within ``torch.utils.checkpoint`` each such derivative would compute its segment again.
    """
    if not inner.mu or hasattr(upper, "gradient"):
        return False
    return by_hand(inner.prepared(), u0, upper, [], None) is None


def by_segments(
    inner: Inner, u0: Tensor, upper: Upper, lengths: list[int], tensors: list[Tensor]
) -> Estimate:
    """Reverse mode, one segment after the other."""
    sizes, ends = inner.sizes(sum(lengths)), [0, *accumulate(lengths)]
    starts, u = [], u0.detach()
    with torch.no_grad():
        for a, b in pairwise(ends):
            starts.append(u)
            u = inner.advance(u, u0, upper, sizes[a:b], a)
    inner.require_finite(u)
    point, anchor = u.detach().requires_grad_(), u0.detach().requires_grad_()
    value, (lam, *total) = differentiate(inner, point, upper, [point, *tensors])
    back = torch.zeros_like(u0)
    for a, b in reversed(list(pairwise(ends))):
        begin = starts.pop().detach().requires_grad_()
        end = inner.advance(begin, anchor, upper, sizes[a:b], a)
        lam, more, *through = cotangents(end, [begin, anchor, *tensors], lam)
        back = back + more
        total = [x + y for x, y in zip(total, through, strict=True)]
    through = list(cotangents(u0, tensors, lam + back))  # the start may depend on them
    gradients = tuple(x + y for x, y in zip(total, through, strict=True))
    return Estimate(u, value, gradients, nothing(inner, u))


class Saved:
    """A tensor that a graph keeps."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


def bytes_of_step(inner: Inner, u0: Tensor, upper: Upper) -> int:
    """Bytes that reverse mode keeps for one step: those that a third step adds.

    The first one meets a start without gradients, the second one the matrices that all share.
    """

    def kept(steps: int) -> int:
        alive: weakref.WeakSet[Saved] = weakref.WeakSet()

        def save(t: Tensor) -> Saved:
            saved = Saved(t.detach())  # or tensor and graph would hold each other
            alive.add(saved)  # it stays there as long as the graph holds it
            return saved

        with torch.enable_grad(), saved_tensors_hooks(save, lambda saved: saved.tensor):
            u = inner.advance(u0, u0, upper, inner.sizes(1) * steps)
        # a loop with adjoints by hand keeps its tensors itself
        storages = [t.untyped_storage() for t in [*held(u), *(saved.tensor for saved in alive)]]
        return sum({s.data_ptr(): s.nbytes() for s in storages}.values())

    return max(1, kept(3) - kept(2))


def fitting(budget: int, iterations: int, point: int, step: int) -> int:
    """The least number of segments that fits the budget."""
    counts = range(1, iterations + 1)
    needs = [count * point + math.ceil(iterations / count) * step for count in counts]
    fits = next((count for count, need in zip(counts, needs, strict=True) if need <= budget), None)
    if fits is None:
        raise DomainError(
            f"a budget of at least {min(needs)} bytes for {iterations} steps",
            f"{budget}",
            "raise it, or use 'truncated', or an implicit method at constant memory",
            budget,
        )
    return fits
