"""Random and extremal instances of the theory, written without the package's own operators.

Every map is built from its definition, so that a test compares two separate pieces of code.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from torch import Tensor, nn

import bmo

F64 = torch.float64
Map = Callable[[Tensor], Tensor]


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(g: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=g, dtype=F64)


def uniform(g: torch.Generator, low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand((), generator=g, dtype=F64))


def orthogonal(g: torch.Generator, n: int) -> Tensor:
    q, r = torch.linalg.qr(normal(g, n, n))
    return q * torch.sign(torch.diagonal(r))


def spd(g: torch.Generator, n: int, cond: float = 100.0) -> Tensor:
    """A random symmetric positive definite matrix with the given condition number."""
    q = orthogonal(g, n)
    eig = torch.logspace(0, torch.log10(torch.tensor(cond)).item(), n, dtype=F64)
    matrix = q @ torch.diag(eig) @ q.mT * uniform(g, 0.2, 2.0)
    return (matrix + matrix.mT) / 2


def square_root(matrix: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    return vectors @ torch.diag(values.sqrt()) @ vectors.mT


def set_raw(module: nn.Module, kind: str, powers: tuple[float, float] = (-2.0, 2.0)) -> None:
    """Overwrite every raw parameter: by a number, large ones of both signs, or random ones."""
    with torch.no_grad():
        for p in module.parameters():
            if kind == "random":
                p.copy_(torch.randn_like(p) * 10 ** float(torch.empty(()).uniform_(*powers)))
            elif kind == "mixed":
                p.copy_(torch.where(torch.rand_like(p) < 0.5, 1e3, -1e3))
            else:
                p.fill_(float(kind))


BENDS: list[Map] = [  # scalar maps of slope at most 1 with value 0 at 0
    lambda x: x,
    torch.relu,
    torch.abs,
    torch.sin,
    lambda x: x.clamp(-0.5, 0.7),
    lambda x: torch.sign(x) * (x.abs() - 0.3).clamp_min(0),
]


def nonexpansive_map(g: torch.Generator, H: Tensor, center: Tensor) -> Map:
    r"""A random map, nonexpansive in H, with ``center`` as a fixed point."""
    n = len(H)
    root = square_root(H)
    back = torch.linalg.inv(root)
    left, right = orthogonal(g, n), orthogonal(g, n)
    shrink = torch.diag(torch.rand(n, generator=g, dtype=F64) ** uniform(g, 0.0, 1.0))
    bend = BENDS[int(torch.randint(len(BENDS), (), generator=g))]

    def apply(u: Tensor) -> Tensor:
        z = (u - center) @ root @ right
        return center + bend(z @ shrink) @ left @ back

    return apply


@dataclass
class Upper:
    """A convex objective with its gradient and the Lipschitz constant of that gradient."""

    value: Map
    gradient: Map
    lipschitz: float
    hessian: Tensor  # an upper bound on the Hessian

    def __call__(self, u: Tensor) -> Tensor:
        return self.value(u)


def upper_objective(g: torch.Generator, n: int) -> Upper:
    """A random convex quadratic (often singular) or a sum of softplus functions."""
    A = normal(g, int(torch.randint(1, n + 1, (), generator=g)), n)
    if float(torch.rand((), generator=g)) < 0.5:
        t = 3 * normal(g, n)
        return Upper(
            lambda u: 0.5 * ((u - t) @ A.mT).square().sum(-1),
            lambda u: (u - t) @ A.mT @ A,
            float(torch.linalg.matrix_norm(A, 2) ** 2),
            A.mT @ A,
        )
    b = normal(g, len(A))
    return Upper(
        lambda u: torch.nn.functional.softplus(u @ A.mT - b).sum(-1),
        lambda u: torch.sigmoid(u @ A.mT - b) @ A,
        float(torch.linalg.matrix_norm(A, 2) ** 2) / 4,
        A.mT @ A / 4,
    )


@dataclass
class Instance:
    """All that one step of Algorithm 1 needs."""

    metric: bmo.metric.Metric
    matrix: Tensor
    domain: bmo.sets.Set
    D: Map
    center: Tensor  # a fixed point of D in the domain
    upper: Upper
    alpha: float
    mu: float

    def norm(self, u: Tensor) -> float:
        return float((u @ self.matrix @ u).clamp_min(0).sqrt())

    def T(self, u: Tensor) -> Tensor:
        return (1 - self.alpha) * u + self.alpha * self.D(u)

    def g(self, u: Tensor) -> Tensor:
        return torch.linalg.solve(self.matrix, self.upper.gradient(u))

    def F(self, u: Tensor, s: float) -> Tensor:
        v = (1 - self.mu) * self.T(u) + self.mu * (u - s * self.g(u))
        return self.domain.project(v, self.metric, 1e-12)

    def lipschitz(self) -> float:
        r""":math:`L_H`, in the metric."""
        back = torch.linalg.inv(square_root(self.matrix))
        return float(torch.linalg.matrix_norm(back @ self.upper.hessian @ back, 2))

    def inside(self, g: torch.Generator) -> Tensor:
        return self.domain.nearest(self.center + uniform(g, 0.1, 4.0) * normal(g, len(self.center)))


def instance(seed: int, into: bool = False) -> Instance:
    """A random instance of size 2 to 4; ``into`` makes D map the domain into itself."""
    g = generator(seed)
    n = int(torch.randint(2, 5, (), generator=g))
    kind = seed % 3
    matrix = torch.diag(10 ** (2 * torch.rand(n, generator=g, dtype=F64) - 1))
    metric: bmo.metric.Metric = bmo.metric.Diagonal(torch.diagonal(matrix))
    domain: bmo.sets.Set = bmo.sets.Box(-1.0, 2.0)
    if kind:
        matrix = spd(g, n, cond=10.0)
        metric = bmo.metric.Dense(matrix)
        domain = bmo.sets.Ball(1.5) if kind == 1 else domain
    center = domain.nearest(normal(g, n))
    D = plain = nonexpansive_map(g, matrix, center)
    if into:
        D = lambda u: domain.project(plain(u), metric, 1e-12)  # noqa: E731
    alpha, mu = uniform(g, 0.05, 0.95), uniform(g, 0.05, 0.95)
    return Instance(metric, matrix, domain, D, center, upper_objective(g, n), alpha, mu)


def box_by_enumeration(
    H: np.ndarray, u: np.ndarray, low: np.ndarray, high: np.ndarray
) -> np.ndarray:
    """Try every choice of free and bound coordinates; the KKT conditions pick the right one."""
    n = len(u)
    best: tuple[float, np.ndarray] | None = None
    for choice in product((-1, 0, 1), repeat=n):
        free = [i for i in range(n) if choice[i] == 0]
        fixed = [i for i in range(n) if choice[i] != 0]
        x = np.array([(low[i], 0.0, high[i])[choice[i] + 1] for i in range(n)])
        if not np.isfinite(x).all():
            continue
        if free:
            right = H[np.ix_(free, free)] @ u[free]
            if fixed:
                right -= H[np.ix_(free, fixed)] @ (x[fixed] - u[fixed])
            x[free] = np.linalg.solve(H[np.ix_(free, free)], right)
        if (x < low - 1e-12).any() or (x > high + 1e-12).any():
            continue
        value = (x - u) @ H @ (x - u)
        if best is None or value < best[0]:
            best = (value, x)
    assert best is not None
    return best[1]
