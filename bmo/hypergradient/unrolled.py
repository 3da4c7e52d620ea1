r"""Estimators that differentiate the steps that were taken.

Book: chapter 9. They need no fixed point: the aggregated loop (mu > 0) is differentiated as it
is, through :math:`v_u`, :math:`H_\omega^{-1}` with its derivative, and the projections.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from bmo.errors import DomainError
from bmo.fused import Kept
from bmo.hypergradient.base import Estimate, register
from bmo.inner import Inner, Upper, upper_values


def require_steps(name: str, value: int) -> None:
    """Refuse a count below 1."""
    if value < 1:
        raise DomainError(f"{name} >= 1", f"{value}", "one step is the least", value)


def differentiate(
    inner: Inner, u: Tensor, upper: Upper, tensors: list[Tensor]
) -> tuple[Tensor, tuple[Tensor, ...]]:
    r"""Value and gradients of the mean of :math:`\ell(u)`, by whatever graph ``u`` has."""
    value = upper_values(upper, u, inner.training_map.metric).mean()
    if not value.requires_grad:  # nothing depends on omega: the derivative is zero
        return value, tuple(torch.zeros_like(w) for w in tensors)
    return value, torch.autograd.grad(value, tensors, materialize_grads=True)


@register(
    "reverse",
    "exact for the K steps that were taken: automatic differentiation of the loop itself. Memory "
    "grows with K. Where T or a projection has a kink, one generalised derivative is taken.",
)
@dataclass(frozen=True)
class Reverse:
    r"""Reverse mode through all K steps, including :math:`dH_\omega^{-1}` and the projections.

    Example:
        >>> import bmo
        >>> from bmo.hypergradient import Reverse, hypergradient
        >>> problem = bmo.problems.toy.quadratic(3)
        >>> inner = bmo.Inner(problem.training())
        >>> hypergradient(inner, problem.start, problem.upper, 9, method=Reverse()).solved
        True
    """

    def __call__(
        self, inner: Inner, u0: Tensor, upper: Upper, iterations: int, tensors: list[Tensor]
    ) -> Estimate:
        u = inner(u0, upper, iterations)
        value, gradients = differentiate(inner, u, upper, tensors)
        return Estimate(u, value, gradients, nothing(inner, u))


def nothing(inner: Inner, u: Tensor) -> Tensor:
    """The adjoint residual of a method that leaves nothing out."""
    return u.new_zeros(u.shape[: u.dim() - inner.training_map.metric.event_dims])


@register(
    "truncated",
    "a contraction: it stops after the last h steps, and what it leaves out is of order q^h, "
    "q = (1-mu) rho + mu. Without a contraction the error need not vanish. Memory grows with h.",
)
@dataclass(frozen=True)
class Truncated:
    r"""Reverse mode through the last ``steps`` of K steps; the others are not differentiated.

    The adjoint residual is :math:`\|\lambda_{K-h}\|/\|\nabla_u\ell\|`, the part of the adjoint
    that would have gone on to earlier steps.

    Args:
        steps: :math:`h \ge 1`; from K on this is reverse mode.

    Raises:
        DomainError: ``steps`` is below 1.

    Source: Shaban, Cheng, Hatch, Boots, AISTATS 2019. Error: :func:`bmo.bounds.truncation`.

    Example:
        >>> import bmo
        >>> from bmo.hypergradient import Truncated, hypergradient
        >>> problem = bmo.problems.toy.quadratic(3)
        >>> inner = bmo.Inner(problem.training(0.9), mu=0.0)
        >>> got = hypergradient(inner, problem.start, problem.upper, 99, method=Truncated(50))
        >>> float(got.adjoint_residual) < 1e-3
        True
    """

    steps: int = 10

    def __post_init__(self) -> None:
        require_steps("steps", self.steps)

    def __call__(
        self, inner: Inner, u0: Tensor, upper: Upper, iterations: int, tensors: list[Tensor]
    ) -> Estimate:
        if self.steps >= iterations:
            return Reverse()(inner, u0, upper, iterations, tensors)
        sizes, done = inner.sizes(iterations), iterations - self.steps
        inner.start(u0)
        with torch.no_grad():
            before = inner.advance(u0, u0, upper, sizes[:done])
        begin = before.detach().requires_grad_()
        u = inner.advance(begin, u0, upper, sizes[done:], done)
        inner.require_finite(u)
        point = u.detach().requires_grad_()
        value, (g, *direct) = differentiate(inner, point, upper, [point, *tensors])
        lam, *through = torch.autograd.grad(u, [begin, *tensors], g, materialize_grads=True)
        gradients = tuple(a + b for a, b in zip(direct, through, strict=True))
        return Estimate(u, value, gradients, relative(inner, lam, g))


def relative(inner: Inner, lam: Tensor, g: Tensor) -> Tensor:
    r""":math:`\|\lambda\|/\|g\|` in the dual norm :math:`\|\cdot\|_{H^{-1}}`; 0 where g is 0."""
    metric = inner.training_map.metric
    with torch.no_grad():
        top, below = (
            (x * metric.solve(x)).flatten(-metric.event_dims).sum(-1).clamp_min(0).sqrt()
            for x in (lam, g)
        )
        return torch.where(below > 0, top / below.clamp_min(torch.finfo(g.dtype).tiny), top)


@register(
    "one-step",
    "T that forgets its start at once (rho near 0, as Newton's method): it differentiates the "
    "last step alone. The error, of order rho, does not vanish as K grows. Memory: one step.",
)
@dataclass(frozen=True)
class OneStep:
    r"""The derivative of the last step, as if the iterate before it did not depend on omega.

    Source: Bolte, Pauwels, Vaiter, NeurIPS 2023. Error: :func:`bmo.bounds.one_term`.

    Example:
        >>> import bmo
        >>> from bmo.hypergradient import hypergradient
        >>> problem = bmo.problems.toy.quadratic(3)
        >>> inner = bmo.Inner(problem.training(0.9), mu=0.0)
        >>> got = hypergradient(inner, problem.start, problem.upper, 99, method="one-step")
        >>> 0 < float(got.adjoint_residual) < 1
        True
    """

    def __call__(
        self, inner: Inner, u0: Tensor, upper: Upper, iterations: int, tensors: list[Tensor]
    ) -> Estimate:
        return Truncated(1)(inner, u0, upper, iterations, tensors)


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
        if self.budget is None:
            count = self.segments or max(1, round(math.sqrt(iterations)))
        else:
            step = bytes_of_step(inner, u0, upper, min(3, max(iterations, 1)))
            count = fitting(self.budget, iterations, u0.nbytes, step)
        count = min(count, max(iterations, 1))
        base, more = divmod(iterations, count)
        return [base + (i < more) for i in range(count)]

    def __call__(
        self, inner: Inner, u0: Tensor, upper: Upper, iterations: int, tensors: list[Tensor]
    ) -> Estimate:
        lengths = self.lengths(inner, u0, upper, iterations)
        inner.start(u0)
        u = inner.advance(u0, u0, upper, inner.sizes(iterations), segments=lengths)
        inner.require_finite(u)
        value, gradients = differentiate(inner, u, upper, tensors)
        return Estimate(u, value, gradients, nothing(inner, u))


@dataclass(frozen=True, eq=False)
class Saved:
    """A tensor that autograd keeps, for as long as it does."""

    tensor: Tensor


def bytes_of_step(inner: Inner, u0: Tensor, upper: Upper, at: int = 3) -> int:
    """Bytes that reverse mode keeps for one step: those that step ``at`` adds.

    The first two also bring in what all steps share, for instance a matrix.
    """

    def kept(steps: int) -> int:
        notes: list[weakref.ref[Saved]] = []

        def note(t: Tensor) -> Saved:
            saved = Saved(t)
            notes.append(weakref.ref(saved))
            return saved

        with torch.enable_grad(), saved_tensors_hooks(note, lambda saved: saved.tensor):
            u = inner(u0, upper, steps)
        # what no later step can reach is gone by now
        alive = [saved.tensor for saved in (ref() for ref in notes) if saved is not None]
        alive += on_tape(getattr(u.grad_fn, "tape", None))
        storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in alive}
        return sum(storages.values())

    return max(1, kept(at) - kept(at - 1))


def on_tape(kept: object) -> Iterator[Tensor]:
    """The tensors that a fused loop keeps: they are no saved tensors of autograd's."""
    if isinstance(kept, Tensor):
        yield kept
    elif isinstance(kept, list | tuple):
        for part in kept:
            yield from on_tape(part)
    elif isinstance(kept, Kept):
        yield from on_tape((kept.operator, kept.upper, kept.free))


def fitting(budget: int, iterations: int, point: int, step: int) -> int:
    """The number of segments that needs least memory, or fewer if the budget allows."""
    for count in range(1, iterations + 1):
        if count * point + math.ceil(iterations / count) * step <= budget:
            return count
    best = max(1, round(math.sqrt(iterations * step / point)))
    least = best * point + math.ceil(iterations / best) * step
    raise DomainError(
        f"a budget of at least {least} bytes for {iterations} steps",
        f"{budget}",
        "raise it, or use 'truncated', or an implicit method at constant memory",
        budget,
    )
