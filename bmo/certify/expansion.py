r"""Does a map expand? Nonexpansive, averaged and contractive maps, tested in a metric.

Book: chapter 2, "Four words, one inequality".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from bmo.certify.evidence import Evidence
from bmo.certify.search import Sample, search
from bmo.errors import DomainError, ShapeError
from bmo.metric import Metric
from bmo.sets import Set


def metric_of(D: Any, metric: Metric | None) -> Metric:
    """The metric given, or the one that the map claims."""
    found = metric if metric is not None else getattr(D, "metric", None)
    if not isinstance(found, Metric):
        raise ShapeError(
            "a metric", "a map that claims none", "pass metric=bmo.metric.Identity()", D
        )
    return found


def point_shape(metric: Metric, size: int | None, shape: tuple[int, ...] | None) -> tuple[int, ...]:
    """The shape of a trial point, from ``shape``, ``size`` or the metric itself."""
    if shape is not None:
        return tuple(shape)
    if size is not None:
        return (int(size),)
    found = metric.event_shape()
    if metric.size is None or metric.event_dims != 1:
        raise ShapeError(
            "the shape of a point", "a metric of any size", "pass size=n, or shape=(...)", metric
        )
    return found


def sample_like(D: Any, metric: Metric) -> Tensor:
    """A tensor of the dtype and device in which the map and its metric work (else doubles)."""
    tensors = [*D.parameters(), *D.buffers()] if isinstance(D, nn.Module) else []
    for tensor in (*tensors, metric.like()):
        if tensor is not None and tensor.is_floating_point() and tensor.dim():
            return tensor.detach()
    return torch.empty(0, dtype=torch.float64)


def nonexpansive(
    D: Any,
    size: int | None = None,
    shape: tuple[int, ...] | None = None,
    metric: Metric | None = None,
    trials: int = 64,
    seed: int = 0,
    scale: float = 1.0,
    domain: Set | None = None,
    ascent: int = 50,
    limit: float = 1.0,
    tol: float | None = None,
    name: str = "nonexpansive in its metric",
    dtype: torch.dtype | None = None,
) -> Evidence:
    r"""The largest :math:`\|Du-Dv\|_H/\|u-v\|_H` found, against ``limit``.

    Three searches: random pairs, gradient ascent on the ratio from the worst of them, and the
    norm of the Jacobian in the metric at random points (by power iteration; exact for points of
    at most 64 entries). With a domain, only pairs in it count.

    Args:
        D: An operator, or any differentiable map of batched points.
        size: Length of a vector; needed where the metric does not fix it.
        shape: Shape of a point instead (images), with the batch axes that ``D`` is bound to.
        metric: :math:`H`; the one that ``D`` claims by default.
        trials: Number of random pairs >= 1.
        seed: Seed of the draws.
        scale: Typical size of an entry of a point.
        domain: The set in which the claim is made.
        ascent: Steps of the ascent; the power iteration does twice as many. 0: pairs alone.
        limit: The claimed constant.
        tol: Rounding allowed, relative to max(1, limit): by default 1e-10, or 1e-3 in float32.
        name: The claim in words.
        dtype: Of the trial points; by default that of the tensors of ``D``, else double.

    Raises:
        ShapeError: The size of a point is not known, ``D`` has no metric, or it works in another
            dtype than the trial points have.
        DomainError: ``trials`` is below 1.
        NonFiniteError: ``D`` returned NaN or infinity.

    Book: chapter 2, "Four words, one inequality".

    Example:
        >>> import torch, bmo
        >>> H = bmo.metric.Diagonal(torch.tensor([1.0, 100.0], dtype=torch.float64))
        >>> quarter = bmo.operators.Lambda(lambda u: u.flip(-1) * torch.tensor([1.0, -1.0]), H)
        >>> print(round(bmo.certify.nonexpansive(quarter).measured, 6))
        10.0
    """
    metric = metric_of(D, metric)
    like = sample_like(D, metric) if dtype is None else torch.empty(0, dtype=dtype)
    if trials < 1:
        raise DomainError("trials >= 1", f"{trials}", "64 is the default", trials)
    sample = Sample(point_shape(metric, size, shape), trials, scale, domain, like, seed)
    try:
        found = search(D, metric, sample, ascent)
    except RuntimeError as error:
        if "dtype" not in str(error) and "scalar type" not in str(error):
            raise
        raise ShapeError(
            f"a map of points of {like.dtype}",
            f"{error}",
            "pass the dtype that it works in, dtype=...",
        ) from error
    worst = max(found, key=lambda w: w.ratio)
    if tol is None:
        tol = 1e-10 if like.dtype == torch.float64 else 1e-3
    holds = worst.ratio <= limit + tol * max(1.0, limit)
    methods = {w.method: w.ratio for w in found}
    return Evidence(name, worst.ratio, limit, holds, worst.where, worst.method, methods)


class Undone(nn.Module):
    r""":math:`N = I + (D-I)/a`: nonexpansive exactly when D is a-averaged."""

    def __init__(self, D: Callable[[Tensor], Tensor], a: float) -> None:
        super().__init__()
        self.D, self.a = D, a

    def forward(self, u: Tensor) -> Tensor:
        """:math:`N(u)`, same shape as ``u``."""
        return u + (self.D(u) - u) / self.a


def averaged(D: Any, a: float, metric: Metric | None = None, **options: Any) -> Evidence:
    r"""Whether D is a-averaged: the largest ratio of :math:`N = I+(D-I)/a`, against 1.

    Args:
        D: An operator, or any differentiable map of batched points.
        a: The claimed constant in (0, 1].
        metric: :math:`H`; the one that ``D`` claims by default.
        **options: As for :func:`nonexpansive`.

    Raises:
        DomainError: ``a`` is outside (0, 1].

    Book: chapter 2, "Four words, one inequality".

    Example:
        >>> import bmo
        >>> half = bmo.operators.Lambda(lambda u: 0 * u, bmo.metric.Identity())
        >>> bmo.certify.averaged(half, 0.5, size=2).measured
        1.0
        >>> bmo.certify.averaged(half, 0.4, size=2).holds
        False
    """
    if not 0 < a <= 1:
        raise DomainError("a in (0, 1]", f"a = {a}", "1 means nonexpansive only", a)
    options.setdefault("name", f"{a:g}-averaged in its metric")
    return nonexpansive(Undone(D, a), metric=metric_of(D, metric), **options)


def contraction(D: Any, factor: float | None = None, **options: Any) -> Evidence:
    r"""The Lipschitz factor :math:`\rho` of a map in its metric.

    Args:
        D: A :class:`~bmo.GKM`, an operator, or any differentiable map of batched points.
        factor: The claimed factor; ``None`` claims only that the map contracts.
        **options: As for :func:`nonexpansive`.

    Returns:
        Evidence whose ``measured`` is the factor found. Without ``factor`` it holds if that is
        below 1.

    Book: chapter 8, the assumption of Theorem 2.

    Example:
        >>> import bmo
        >>> D = bmo.operators.Lambda(lambda u: u / 2, bmo.metric.Identity())
        >>> round(bmo.certify.contraction(D, size=2).measured, 9)
        0.5
    """
    options.setdefault("name", "contraction factor")
    if factor is not None:
        return nonexpansive(D, limit=factor, **options)
    found = nonexpansive(D, limit=1.0, **options)
    return replace(found, holds=found.measured < 1 - 1e-9)
