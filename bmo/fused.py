r"""The inner loop as one differentiable function: hand-written adjoints, and less to keep.

.. math:: u^k = a_ku^0 + b_k\,\mathrm{Proj}_U\bigl(\mu(u - s_kP^{-1}\nabla\ell(u))
          + (1-\mu)((1-\alpha)u + \alpha D(u))\bigr),\quad u = u^{k-1}

Book: chapter 9, "What a step must keep". :class:`~bmo.inner.Inner` uses it by itself where the
operator has a :class:`~bmo.kernels.Kernel`, the metric is diagonal and U is a box or all of space.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.autograd.function import once_differentiable

from bmo.errors import ConditionError
from bmo.kernels import Gradients, Kernel, reaches_only

Upper = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Loop:
    r"""One loop of Algorithm 1, or of BMO-H, as numbers and a kernel.

    Attributes:
        kernel: :math:`D`.
        alpha: The relaxation.
        mu: The weight of the upper step.
        steps: :math:`(s_k, a_k, b_k)` for each step: its length, the weights of anchor and step.
        weights: The diagonal of :math:`P`, or ``None`` for the identity.
        box: The ends of :math:`U`, or ``None``.
        gradient: :math:`u \mapsto \nabla\ell(u)` with a graph that reaches nothing but u.
        hessian: :math:`(u, v) \mapsto \nabla^2\ell(u)v`, if it is known in closed form.
        segments: Lengths of the parts whose starts alone are kept; ``None`` keeps every step.
    """

    kernel: Kernel
    alpha: float
    mu: float
    steps: Sequence[tuple[float, float, float]]
    weights: Tensor | None
    box: tuple[Tensor, Tensor] | None
    gradient: Upper
    hessian: Callable[[Tensor, Tensor], Tensor] | None = None
    segments: Sequence[int] | None = None

    @property
    def rest(self) -> float:
        """The weight of u itself in the next iterate, beside what D and the upper step give."""
        return self.mu + (1 - self.mu) * (1 - self.alpha)

    def inputs(self) -> tuple[Tensor, ...]:
        """What the loop may be differentiated in, besides its start and anchor."""
        return self.kernel.inputs + (() if self.weights is None else (self.weights,))

    def run(self, u: Tensor, anchor: Tensor) -> Tensor:
        """:math:`u^K`, differentiable once."""
        inputs = (u, anchor, *self.inputs())
        if not (torch.is_grad_enabled() and any(t.requires_grad for t in inputs)):
            values = [t.detach() for t in self.inputs()]
            for k in range(len(self.steps)):
                u, _ = taken(self, k, u, anchor, values)
            return u
        return _Run.apply(self, u, anchor, *self.inputs())


@dataclass
class Kept:
    """What one step keeps for its adjoint."""

    operator: tuple[Any, ...]
    upper: tuple[Tensor, Tensor] | None
    free: Tensor | None


def taken(
    loop: Loop, k: int, u: Tensor, anchor: Tensor, values: Sequence[Tensor], keep: bool = False
) -> tuple[Tensor, Kept]:
    """One step forward; ``keep`` what its adjoint needs."""
    count = len(loop.kernel.inputs)
    s, back, on = loop.steps[k]
    v, operator = loop.kernel.forward(u, values[:count], keep)
    if not loop.mu:
        v = torch.lerp(u, v, loop.alpha) if loop.alpha != 1 else v
    else:
        v = torch.add(loop.rest * u, v, alpha=(1 - loop.mu) * loop.alpha)
    upper = None
    if loop.mu:
        upper = upper_part(loop.gradient, u, keep and loop.hessian is None)
        g = upper[1].detach()
        v.sub_(g if loop.weights is None else g / values[count], alpha=loop.mu * s)
    free = None
    if loop.box is not None:
        low, high = loop.box
        inside = torch.clamp(v, low, high)
        free, v = inside == v, inside
    if back:
        v = torch.add(back * anchor, v, alpha=on)
    return v, Kept(operator, upper, free)


def upper_part(gradient: Upper, u: Tensor, keep: bool = True) -> tuple[Tensor, Tensor]:
    """The point as a leaf, and the upper gradient there with its graph (if it is to be kept)."""
    if not keep:
        return u, gradient(u)
    with torch.enable_grad():
        point = u.detach().requires_grad_()
        return point, gradient(point)


def undone(
    loop: Loop, k: int, kept: Kept, lam: Tensor, values: Sequence[Tensor], gradients: Gradients
) -> tuple[Tensor, Tensor | None]:
    """One step backward: the cotangents of u and of the anchor."""
    count = len(loop.kernel.inputs)
    s, back, on = loop.steps[k]
    anchor = None
    if back:
        anchor, lam = back * lam, on * lam
    if kept.free is not None:
        lam = lam * kept.free
    weight = (1 - loop.mu) * loop.alpha
    scaled = lam if weight == 1 else weight * lam
    out = loop.kernel.adjoint(kept.operator, scaled, values[:count], gradients)
    if loop.rest:
        out = torch.add(out, lam, alpha=loop.rest)
    if kept.upper is not None:
        point, g = kept.upper
        c = -loop.mu * s * lam
        if loop.weights is not None:
            c = c / values[count]
            if gradients.wants(count):
                gradients.add(count, -c * g.detach() / values[count])
        if loop.hessian is not None:
            out = out + loop.hessian(point, c)
        elif g.requires_grad:
            (through,) = torch.autograd.grad(g, point, c, materialize_grads=True)
            out = out + through
    return out, anchor


class _Run(torch.autograd.Function):
    """The loop; its backward pass walks through the steps in reverse order."""

    @staticmethod
    def forward(ctx: Any, loop: Loop, u: Tensor, anchor: Tensor, *inputs: Tensor) -> Tensor:
        values = [t.detach() for t in inputs]
        lengths = list(loop.segments) if loop.segments else [len(loop.steps)]
        starts, tape, k = [], [], 0
        for part, length in enumerate(lengths):
            starts.append(u)
            last = part == len(lengths) - 1
            for _ in range(length):
                u, kept = taken(loop, k, u, anchor, values, last)
                if last:
                    tape.append(kept)
                k += 1
        ctx.loop, ctx.values, ctx.anchor = loop, values, anchor
        ctx.starts, ctx.lengths, ctx.tape = starts, lengths, tape
        ctx.given = (ctx.starts[0], anchor, *values)
        ctx.versions = [t._version for t in ctx.given]
        return u if k else u.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, lam: Tensor) -> tuple[Tensor | None, ...]:
        loop, values = ctx.loop, ctx.values
        require_unchanged(ctx)
        gradients = Gradients(values, ctx.needs_input_grad[3:])
        toward = torch.zeros_like(ctx.anchor) if ctx.needs_input_grad[2] else None
        k, tape = len(loop.steps), ctx.tape
        ctx.tape = None  # consumed below; a second backward pass computes it again
        for part in reversed(range(len(ctx.lengths))):
            if tape is None:
                tape = again(ctx, part, k - ctx.lengths[part])
            while tape:
                k -= 1
                lam, anchor = undone(loop, k, tape.pop(), lam, values, gradients)
                if toward is not None and anchor is not None:
                    toward += anchor
            tape = None
        return (None, lam, toward, *gradients.total)


def held(u: Tensor) -> list[Tensor]:
    """The tensors that the loop behind ``u`` keeps itself, for its backward pass."""
    tape: list[Kept] = getattr(u.grad_fn, "tape", None) or []
    parts = [(kept.operator, kept.upper, kept.free) for kept in tape]
    return tensors_in(parts)


def tensors_in(value: Any) -> list[Tensor]:
    """All tensors in nested tuples and lists."""
    if isinstance(value, (tuple, list)):
        return [t for part in value for t in tensors_in(part)]
    return [value] if isinstance(value, Tensor) else []


def require_unchanged(ctx: Any) -> None:
    """Refuse a backward pass after start or parameters were changed in place, as autograd does."""
    if any(t._version != v for t, v in zip(ctx.given, ctx.versions, strict=True)):
        raise ConditionError(
            "a start and parameters that are unchanged between the loop and its backward pass",
            "one that was changed in place",
            "call backward() before optimizer.step(), or run the loop again",
        )


def again(ctx: Any, part: int, first: int) -> list[Kept]:
    """The steps of one segment, computed a second time."""
    u, tape = ctx.starts[part], []
    for k in range(first, first + ctx.lengths[part]):
        u, kept = taken(ctx.loop, k, u, ctx.anchor, ctx.values, True)
        tape.append(kept)
    return tape


def fusable() -> bool:
    """Whether a hand-written adjoint can serve: not in a compiler or a functional transform."""
    transforms = getattr(torch._C, "_are_functorch_transforms_active", lambda: False)()
    forwards = getattr(forward_ad, "_current_level", -1) >= 0
    return not (torch.compiler.is_compiling() or transforms or forwards)


def captures_nothing(gradient: Upper, u: Tensor) -> bool:
    """Whether the upper gradient depends on no learned tensor but the point."""
    point, g = upper_part(gradient, u)
    return reaches_only(g, [point])
