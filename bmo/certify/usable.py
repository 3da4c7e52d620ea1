r"""Can a step be iterated at all? The questions that come before nonexpansiveness.

Book: appendix C, "What a step must do". A step takes points with batch axes in front, returns
points of the same kind, leaves its input alone, gives the same answer twice, treats each point of
a batch by itself, and has the derivative that automatic differentiation reports.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bmo.errors import ConditionError, NonFiniteError, ShapeError
from bmo.metric import Metric, require_same_kind
from bmo.sets import Set

Step = Callable[[Tensor], Tensor]

TORCH_ONLY = "torch functions only: no numpy, .detach(), .item() or torch.no_grad() inside"
MATRIX = (
    "write u @ A.mT, not A @ u, and sum over the axes of a point only; torch.func.vmap(step) "
    "makes it of a step for one point"
)
BATCH_NORM = "no batch normalisation that is in training mode: call .eval()"
FITTING = "give ONE point, u0[0], that fits the data inside the step, axis by axis"
IMAGE = "give ONE image, u0[0], as the point, with the axes (channels, height, width)"
DTYPE = "give the point the dtype of the step: u0[0].to(torch.float32), or net.double()"
REMEDIES = {
    "when training": BATCH_NORM,
    "must match the size": FITTING,
    "expected size": FITTING,
    "conv2d": IMAGE,
    "channels": IMAGE,
    "numpy": TORCH_ONLY,
    "dtype": DTYPE,
    "bias type": DTYPE,
    "scalar type": DTYPE,
}
"""What to do about an error of the step's own, by a word in it."""


def usable(
    step: Step,
    point: Tensor,
    metric: Metric,
    scale: float = 1.0,
    domain: Set | None = None,
    seed: int = 0,
) -> Tensor:
    r"""Refuse a step that cannot be iterated, batched or differentiated, and say why.

    Args:
        step: :math:`u \mapsto D(u)`.
        point: One point such as the step will meet; its shape, dtype and device are taken.
        metric: Says how many axes make a point.
        scale: Typical size of an entry of a point.
        domain: The set in which the step is used.
        seed: Seed of the trial points; the global generator is left alone.

    Returns:
        The trial points, shape (count, ...).

    Raises:
        ShapeError: The result is no tensor, or one of another shape, dtype or device.
        NonFiniteError: The point or the result has NaN or infinity.
        ConditionError: The step raised an error, changed its input, gave two answers, mixed the
            points of a batch, or automatic differentiation cannot follow it.

    Book: appendix C, "What a step must do".

    Example:
        >>> import torch, bmo
        >>> H, u = bmo.metric.Identity(), torch.ones(3)
        >>> try:
        ...     bmo.certify.usable(lambda u: u.mul_(0.5), u, H)
        ... except bmo.errors.ConditionError as error:
        ...     print(error.required)
        a step that leaves its input as it is
    """
    require_point(point, metric)
    points = _trials(point, scale, domain, seed)
    with torch.no_grad():
        together = _call(step, points)
        _require_kind(together, points)
        _require_same(step, points, together)
        _require_each_alone(step, points, together)
        if point.dim() > metric.event_dims:
            _require_batch_axes(step, points, together, metric)
    _require_derivative(step, points, together, scale, seed)
    return points


def require_point(point: Tensor, metric: Metric) -> None:
    """Refuse a point that is no finite floating point tensor of the metric's size."""
    if not isinstance(point, Tensor) or not point.is_floating_point():
        kind = point.dtype if isinstance(point, Tensor) else type(point).__name__
        raise ShapeError(
            "a point as a floating point tensor", f"{kind}", "use torch.as_tensor(u).double()"
        )
    metric.check(point)
    if not bool(torch.isfinite(point).all()):
        raise NonFiniteError("a finite point", "NaN or infinity", "clean the data first", point)


def _trials(point: Tensor, scale: float, domain: Set | None, seed: int) -> Tensor:
    """The point itself and seven random ones, in the domain."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(8, *point.shape, generator=generator, dtype=torch.float64).to(point)
    noise[0] = 0
    points = point.detach() + scale * noise
    return points if domain is None else domain.nearest(points)


def _call(step: Step, points: Tensor) -> Any:
    """The step's answer; an error of its own becomes one that says what the step was given."""
    try:
        return step(points)
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        raise ConditionError(
            f"a step for points with a batch axis in front, shape {tuple(points.shape)}",
            text,
            next((r for word, r in REMEDIES.items() if word in text.lower()), MATRIX),
            points,
        ) from error


def _require_kind(out: Any, points: Tensor) -> None:
    """Refuse an answer that is no point."""
    if not isinstance(out, Tensor):
        raise ShapeError("a tensor D(u)", type(out).__name__, "return the new point alone", out)
    if out.shape != points.shape:
        raise ShapeError(
            f"D(u) of the shape of u, {tuple(points.shape)}",
            f"{tuple(out.shape)}",
            "a step maps a space to itself: put several variables into one tensor",
            out,
        )
    require_same_kind(out, points, "D(u)")
    if not bool(torch.isfinite(out).all()):
        raise NonFiniteError(
            "a finite D(u)", "NaN or infinity", "guard divisions and roots; set scale or domain"
        )


def _far(first: Tensor, second: Tensor) -> bool:
    """Whether two answers differ by more than rounding."""
    tol = 1e-8 if first.dtype == torch.float64 else 1e-3
    size = torch.maximum(first.abs().max(), second.abs().max())
    return bool((first - second).abs().max() > tol * size)


def _require_same(step: Step, points: Tensor, answer: Tensor) -> None:
    """Refuse a step that changes its input, or that answers differently when asked again."""
    given = points.clone()
    again = _call(step, given)
    if not torch.equal(given, points):
        raise ConditionError(
            "a step that leaves its input as it is",
            "one that changes it in place",
            "write u = u - ..., not u -= ..., and relu, not relu_",
        )
    if _far(again, answer):
        raise ConditionError(
            "a step with one answer for each point",
            "two answers for the same point",
            "no dropout and no random numbers inside; call .eval() on a network",
        )


def _require_each_alone(step: Step, points: Tensor, together: Tensor) -> None:
    """Refuse a step in which one point of a batch changes the answer for another."""
    alone = torch.cat([_call(step, p[None]) for p in points])
    if alone.shape != together.shape or _far(alone, together):
        raise ConditionError(
            "a step that treats each point of a batch by itself",
            "another answer in a batch than alone",
            f"sum over the axes of a point only; {BATCH_NORM}",
        )


def _require_batch_axes(step: Step, points: Tensor, together: Tensor, metric: Metric) -> None:
    """Refuse a step that mixes axes of ``point`` which the metric takes for batch."""
    last = points.dim() - metric.event_dims - 1
    moved = points.clone()
    moved.flatten(1, last)[:, -1] += 1  # the last point of each bound batch
    after = _call(step, moved).flatten(1, last)[:, :-1]
    if after.numel() and _far(after, together.flatten(1, last)[:, :-1]):
        raise ConditionError(
            f"a step on points of {metric.event_dims} axes, the axes in front being batch",
            f"one that mixes the axes in front of a point of shape {tuple(points.shape[1:])}",
            "give a metric with more event_dims, bmo.metric.Identity(3) for images",
        )


def _require_derivative(
    step: Step, points: Tensor, together: Tensor, scale: float, seed: int
) -> None:
    """Refuse a step whose derivative is not the one that automatic differentiation reports."""
    u = points.detach().clone().requires_grad_()
    with torch.enable_grad():
        out = _call(step, u)
    generator = torch.Generator().manual_seed(seed + 1)
    w, d = torch.randn(2, *u.shape, generator=generator, dtype=torch.float64).to(u)
    if out.requires_grad:
        (pulled,) = torch.autograd.grad((out * w).sum(), u, materialize_grads=True)
    else:
        pulled = torch.zeros_like(u)
    h = scale * torch.finfo(u.dtype).eps ** (1 / 3)
    with torch.no_grad():
        slope = (_call(step, points + h * d) - _call(step, points - h * d)) / (2 * h)
    expected = (slope * w).flatten(1).sum(1)
    length = slope.flatten(1).norm(dim=1) * w.flatten(1).norm(dim=1)
    rounding = torch.finfo(u.dtype).eps / h * together.flatten(1).norm(dim=1) * w[0].norm()
    gap = ((pulled * d).flatten(1).sum(1) - expected).abs() - 10 * rounding
    share = gap / length.clamp_min(torch.finfo(u.dtype).tiny)
    wrong = share[torch.isfinite(share)] > 0.01
    if int(wrong.sum()) > wrong.numel() / 2:  # a few points may lie at a kink
        raise ConditionError(
            "a step that automatic differentiation can follow",
            "a derivative that differs from the quotient of differences",
            TORCH_ONLY,
        )
