r"""Convex sets U and the projection :math:`\mathrm{Proj}_{U,H}` in a metric.

.. math:: \mathrm{Proj}_{U,H}(u) = \arg\min_{x \in U} \tfrac12\|x - u\|_H^2

Book: chapter 2, "Projections see the metric", and Algorithm 1, step 7. Closed forms are
used where they exist; otherwise an accelerated projected gradient method with a stated
tolerance, differentiated through its optimality condition.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from bmo.errors import DomainError, MetricError
from bmo.metric import Block, Metric, exact


class Set(ABC):
    """A nonempty closed convex set of points (last axis = coordinates, earlier axes = batch)."""

    @abstractmethod
    def nearest(self, u: Tensor) -> Tensor:
        """The Euclidean projection."""

    @abstractmethod
    def contains(self, u: Tensor, tol: float = 1e-9) -> Tensor:
        """For each point, whether it lies in the set up to ``tol``: bool of batch shape."""

    def diagonal(self, u: Tensor, weights: Tensor) -> Tensor | None:
        """The projection in a diagonal metric if it has a closed form, else ``None``."""
        return self.nearest(u) if weights.numel() == 1 else None

    def project(self, u: Tensor, metric: Metric, tol: float = 1e-10) -> Tensor:
        r""":math:`\mathrm{Proj}_{U,H}(u)`, shape of ``u``; differentiable in ``u`` and :math:`H`.

        Args:
            u: Points, shape (..., n).
            metric: :math:`H`.
            tol: Relative accuracy of the iterative solver, where no closed form exists.

        Raises:
            MetricError: The metric has another size, or the solver did not reach ``tol``.
        """
        metric.check(u)
        weights = metric.weights()
        if weights is not None:
            closed = self.diagonal(u, weights.to(u))
            if closed is not None:
                return closed
        if bool(self.contains(u, 0.0).all()):
            return u
        return project_numerically(self, u, metric, tol)


class Whole(Set):
    """All of space; every projection is the identity.

    Example:
        >>> import torch, bmo
        >>> bmo.sets.Whole().project(torch.tensor([9.0]), bmo.metric.Identity())
        tensor([9.])
    """

    def nearest(self, u: Tensor) -> Tensor:
        return u

    def contains(self, u: Tensor, tol: float = 1e-9) -> Tensor:
        return torch.isfinite(u).all(-1)

    def project(self, u: Tensor, metric: Metric, tol: float = 1e-10) -> Tensor:
        return u


class Box(Set):
    r""":math:`\{u : \text{low} \le u \le \text{high}\}`, entry by entry; infinite ends are allowed.

    Args:
        low: Lower ends (number, or tensor that broadcasts against a point).
        high: Upper ends.

    Raises:
        DomainError: Some lower end is above its upper end, or an end is NaN.

    Example:
        >>> import torch, bmo
        >>> bmo.sets.Box(-1.0, 1.0).project(torch.tensor([3.0, 0.5]), bmo.metric.Identity())
        tensor([1.0000, 0.5000])
    """

    def __init__(self, low: float | Tensor, high: float | Tensor) -> None:
        self.low, self.high = exact(low), exact(high)
        if not bool((self.low <= self.high).all()):
            raise DomainError("low <= high in every entry", f"{low}, {high}", "swap the ends")

    def nearest(self, u: Tensor) -> Tensor:
        return torch.minimum(torch.maximum(u, self.low.to(u)), self.high.to(u))

    def contains(self, u: Tensor, tol: float = 1e-9) -> Tensor:
        return ((u >= self.low.to(u) - tol) & (u <= self.high.to(u) + tol)).all(-1)

    def diagonal(self, u: Tensor, weights: Tensor) -> Tensor:
        return self.nearest(u)  # separable, so the weights do not matter


class Nonnegative(Box):
    r"""The nonnegative orthant :math:`\{u : u \ge 0\}`.

    Example:
        >>> import torch, bmo
        >>> bmo.sets.Nonnegative().project(torch.tensor([-1.0, 2.0]), bmo.metric.Identity())
        tensor([0., 2.])
    """

    def __init__(self) -> None:
        super().__init__(0.0, math.inf)


class Ball(Set):
    r"""The Euclidean ball :math:`\{u : |u - c| \le r\}`.

    Args:
        radius: :math:`r > 0`.
        center: :math:`c`, broadcasts against a point.

    Raises:
        DomainError: The radius is not finite and positive.

    Example:
        >>> import torch, bmo
        >>> bmo.sets.Ball(1.0).project(torch.tensor([3.0, 4.0]), bmo.metric.Identity())
        tensor([0.6000, 0.8000])
    """

    def __init__(self, radius: float, center: float | Tensor = 0.0) -> None:
        if not 0 < radius < math.inf:
            raise DomainError("a radius > 0", f"{radius}", "use Whole for no bound", radius)
        self.radius, self.center = float(radius), exact(center)

    def nearest(self, u: Tensor) -> Tensor:
        offset = u - self.center.to(u)
        length = offset.norm(dim=-1, keepdim=True).clamp_min(self.radius)
        return torch.where(
            length > self.radius, self.center.to(u) + offset * self.radius / length, u
        )

    def contains(self, u: Tensor, tol: float = 1e-9) -> Tensor:
        return (u - self.center.to(u)).norm(dim=-1) <= self.radius + tol


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


def project_numerically(domain: Set, u: Tensor, metric: Metric, tol: float) -> Tensor:
    r"""Minimise :math:`\tfrac12\|x - u\|_H^2` over the set by accelerated projected gradients.

    The result solves :math:`x = P_U(x - t H (x - u))` with :math:`t = 1/\lambda_{ub}`; its
    derivative is that of this equation (implicit differentiation), so no iterate is stored.

    Args:
        domain: The set; only its Euclidean projection is used.
        u: Points, shape (..., n).
        metric: :math:`H`.
        tol: Stop when a step moves no point by more than ``tol`` times its length (plus ``tol``).

    Raises:
        MetricError: Not reached within the number of steps that the condition number warrants.
    """
    low, high = metric.bounds()
    step = 1.0 / high
    ratio = math.sqrt(low / high)
    momentum = (1 - ratio) / (1 + ratio)

    def move(x: Tensor) -> Tensor:
        return domain.nearest(x - step * metric.apply(x - u))

    with torch.no_grad():
        x = previous = domain.nearest(u)
        for _ in range(200 + int(20 * math.log(1 / tol) / ratio)):
            ahead = x + momentum * (x - previous)
            previous, x = x, move(ahead)
            moved = torch.maximum((x - ahead).norm(dim=-1), (x - previous).norm(dim=-1))
            if bool((moved <= tol * ratio**2 * (1 + x.norm(dim=-1))).all()):
                break
        else:
            raise MetricError(
                f"the projection to reach {tol:g}",
                f"a last step of {float(moved.max()):.3g}",
                "loosen tol, or use a better conditioned metric",
            )
    return _differentiable_fixed_point(move, x, ratio**2)


def _differentiable_fixed_point(move: Callable[[Tensor], Tensor], x: Tensor, gap: float) -> Tensor:
    """Attach to a solved ``x = move(x)`` the derivative that this equation defines."""
    if not torch.is_grad_enabled():
        return x
    point = x.detach().requires_grad_()
    once = move(point)
    out = move(x)
    if not out.requires_grad:
        return out
    limit = 100 + int(60 / gap)

    def adjoint(grad: Tensor) -> Tensor:
        total = grad
        for _ in range(limit):
            (pulled,) = torch.autograd.grad(
                once, point, total, retain_graph=True, create_graph=torch.is_grad_enabled()
            )
            new = grad + pulled
            size = 1e-13 * new.abs().max()
            # a zero that is to be differentiated once more still needs the whole sum
            if bool((new - total).abs().max() <= size and (size > 0 or not grad.requires_grad)):
                return new
            total = new
        return total

    out.register_hook(adjoint)
    # A hook also changes the gradient of whoever differentiates with respect to ``out`` itself,
    # as the upper step does at its current point; a copy has no hook.
    return out.clone()
