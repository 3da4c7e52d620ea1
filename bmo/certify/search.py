r"""The search for the worst pair: :math:`\sup \|Du-Dv\|_H/\|u-v\|_H` from below, three ways.

Random pairs see the average, the power iteration on :math:`RJR^{-1}` sees the worst direction at
a point, and the ascent moves both points. Every number returned is the ratio of a pair, or the
norm of a derivative along one direction, so none of them can exceed the true constant.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from bmo.certify.jacobian import column, jacobian
from bmo.errors import NonFiniteError
from bmo.metric import Metric
from bmo.sets import Set

Map = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Sample:
    """Where to look: the shape of a point, how many trials, and in which set.

    Attributes:
        shape: Shape of a point, with any batch axes in front that the map itself is bound to.
        trials: Number of random pairs.
        scale: Typical size of an entry; sizes from a tenth to ten times of it are drawn.
        domain: The set in which the claim is made (``None``: everywhere).
        like: A tensor whose dtype and device are taken.
        seed: Seed of the draws; the global generator is left alone.
    """

    shape: tuple[int, ...]
    trials: int
    scale: float
    domain: Set | None
    like: Tensor
    seed: int

    def inside(self, u: Tensor) -> Tensor:
        """The points, carried into the domain."""
        return u if self.domain is None else self.domain.nearest(u)

    def pairs(self) -> tuple[Tensor, Tensor]:
        """Random pairs: a third independent, a third close, a third along one coordinate."""
        generator = torch.Generator().manual_seed(self.seed)

        def draw(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        rest = [1] * len(self.shape)
        size = self.scale * 10 ** (2 * torch.rand(self.trials, *rest, generator=generator) - 1)
        u = size * draw(self.trials, *self.shape)
        v = size * draw(self.trials, *self.shape)
        close = u + 0.01 * v
        spike = torch.zeros_like(u).flatten(1)
        at = torch.randint(spike.shape[1], (self.trials, 1), generator=generator)
        spike = u + spike.scatter(1, at, 1.0).reshape(u.shape) * size
        kind = torch.arange(self.trials).reshape(-1, *rest) % 3
        v = torch.where(kind == 0, v, torch.where(kind == 1, close, spike))
        return self.inside(u.to(self.like)), self.inside(v.to(self.like))


@dataclass(frozen=True)
class Worst:
    """The largest ratio that one method found, and its place (one point, not a batch)."""

    ratio: float
    where: dict[str, Tensor]
    method: str


def ratios(D: Map, metric: Metric, u: Tensor, v: Tensor) -> Tensor:
    r""":math:`\|Du-Dv\|_H/\|u-v\|_H` for each pair, and 0 where the pair is one point."""
    below = metric.distance(u, v)
    ratio = metric.distance(D(u), D(v)) / below.clamp_min(torch.finfo(u.dtype).tiny)
    return torch.where(below > 0, ratio, torch.zeros_like(ratio))


def pick(values: Tensor, metric: Metric, method: str, **where: Tensor) -> Worst:
    """The worst of a batch as a :class:`Worst`; NaN counts as an error, not as a number."""
    flat = values.detach().flatten()
    if not bool(torch.isfinite(flat).all()):
        raise NonFiniteError(
            "finite values of the map", f"NaN or infinity ({method})", "narrow scale or domain"
        )
    at = int(flat.argmax())
    axes = metric.event_dims
    points = {k: x.detach().reshape(-1, *x.shape[x.dim() - axes :])[at] for k, x in where.items()}
    return Worst(float(flat[at]), points, method)


def best_of(values: Tensor, count: int, *points: Tensor) -> list[Tensor]:
    """The trials with the largest values (the worst member of a trial's own batch decides)."""
    score = values.detach().reshape(values.shape[0], -1).amax(1)
    order = score.argsort(descending=True)[:count]
    return [x.detach()[order] for x in points]


def ascent(D: Map, metric: Metric, u: Tensor, v: Tensor, steps: int, sample: Sample) -> Worst:
    """Gradient ascent on the ratio over both points, in the geometry of the metric.

    A step moves a point by at most a third of the pair's distance, less and less. Pairs are
    kept apart, so that what is found is not rounding.
    """
    floor = column(0.01 * torch.maximum(metric.norm(u), metric.norm(v)), metric)
    worst = Worst(0.0, {}, "ascent")
    for step in range(steps):
        a, b = u.detach().requires_grad_(), v.detach().requires_grad_()
        with torch.enable_grad():
            value = ratios(D, metric, a, b)
            grads = torch.autograd.grad(value.sum(), [a, b], materialize_grads=True)
        found = pick(value, metric, "ascent", u=a, v=b)
        worst = max(worst, found, key=lambda w: w.ratio)
        reach = column(metric.distance(u, v), metric) / (3 + 0.3 * step)
        u, v = (
            sample.inside(_climb(metric, x, g, reach)) for x, g in zip((u, v), grads, strict=True)
        )
        apart = column(metric.distance(u, v), metric)
        tiny = torch.finfo(u.dtype).tiny
        v = u + (v - u) * (floor / apart.clamp_min(tiny)).clamp_min(1.0)
        v = sample.inside(v)
    return worst


def _climb(metric: Metric, x: Tensor, grad: Tensor, reach: Tensor) -> Tensor:
    """Move along the gradient in the metric by ``reach``."""
    way = metric.solve(grad)
    length = column(metric.norm(way), metric).clamp_min(torch.finfo(x.dtype).tiny)
    return (x + reach * way / length).detach()


def search(D: Map, metric: Metric, sample: Sample, ascent_steps: int) -> list[Worst]:
    """The worst case of each of the three methods."""
    u, v = sample.pairs()
    with torch.no_grad():
        values = ratios(D, metric, u, v)
    found = [pick(values, metric, "random pairs", u=u, v=v)]
    if ascent_steps < 1:
        return found
    bound_batch = len(sample.shape) > metric.event_dims
    few = sample.trials if bound_batch else 8
    a, b = best_of(values, few, u, v)
    found.append(ascent(D, metric, a, b, ascent_steps, sample))
    starts, ways = torch.cat([u[: 2 * few], a]), torch.cat([(u - v)[: 2 * few], a - b])
    norms, ways = jacobian(D, metric, starts, ways, 2 * ascent_steps)
    if sample.domain is None:
        found.append(pick(norms, metric, "Jacobian", u=starts, direction=ways))
        return found
    # in a set only pairs count: the derivative may look out of it
    ends = sample.inside(starts + 0.01 * sample.scale * ways)
    with torch.no_grad():
        values = ratios(D, metric, starts, ends)
    found.append(pick(values, metric, "Jacobian", u=starts, v=ends))
    return found
