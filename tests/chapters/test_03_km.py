"""Each numbered statement of chapter 3, with iterations written out here."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import bmo
from bmo import bounds
from bmo.metric import Identity
from bmo.operators import Lambda
from bmo.problems import toy

GRID = [(a, k) for a in (0.05, 0.2, 0.5, 0.7, 0.95) for k in (0, 1, 2, 5, 13)]


def fold(n: int, seed: int) -> Callable[[Tensor], Tensor]:
    """A Euclidean nonexpansive map with D(0) = 0 and kinks."""
    draw = torch.Generator().manual_seed(seed)
    Q1, Q2 = torch.linalg.qr(torch.randn(2, n, n, generator=draw))[0]
    c = torch.randn(n, generator=draw)
    return lambda x: ((x @ Q1.mT + c).abs() - c.abs()) @ Q2.mT


def iterate(D: Callable[[Tensor], Tensor], u: Tensor, alpha: float, steps: int) -> list[Tensor]:
    points = [u]
    for _ in range(steps):
        points.append((1 - alpha) * points[-1] + alpha * D(points[-1]))
    return points


def test_fixed_points_exist_and_are_convex() -> None:
    ball = bmo.sets.Ball(1.0)
    shift = torch.tensor([0.4, -0.2, 0.1])
    inner = fold(3, 0)

    def T(u: Tensor) -> Tensor:
        return ball.nearest(0.5 * u + 0.5 * ball.nearest(inner(u) + shift))

    z = torch.tensor([0.0, 1.0, 0.0])
    for t in (0.3, 0.1, 0.02):  # the contractions of the proof
        u = z
        for _ in range(int(30 / t)):
            u = t * z + (1 - t) * T(u)
        assert float((u - (t * z + (1 - t) * T(u))).norm()) < 1e-12
        assert float((u - T(u)).norm()) <= t * 2  # t times the diameter
    # reflections in a plane and in a box: the fixed points are the plane and the box
    box = bmo.sets.Box(-1.0, 1.0)
    points = 2 * torch.rand(200, 3) - 1
    mixed = 0.3 * points[:100] + 0.7 * points[100:]
    assert torch.equal(2 * box.nearest(mixed) - mixed, mixed)
    # dropped: u + u(1-u)/10 fixes 0 and 1 and nothing between
    between = torch.linspace(0.01, 0.99, 50)
    assert float((0.1 * between * (1 - between)).min()) > 0


def test_each_step_costs() -> None:
    A = torch.randn(4, 4)
    H = A @ A.mT + torch.eye(4)
    R = torch.linalg.cholesky(H).mT
    N = fold(4, 1)
    u, v = torch.randn(2, 3000, 4)
    for alpha in (0.1, 0.5, 0.9):
        Du, Dv = (N(x @ R.mT) @ torch.linalg.inv(R).mT for x in (u, v))
        Tu, Tv = (1 - alpha) * u + alpha * Du, (1 - alpha) * v + alpha * Dv
        left = ((Tu - Tv) @ R.mT).norm(dim=-1)
        distance = ((u - v) @ R.mT).norm(dim=-1)
        moved = (((u - Tu) - (v - Tv)) @ R.mT).norm(dim=-1)
        for i in range(0, 3000, 100):
            limit = bounds.averagedness_decrease(float(distance[i]), float(moved[i]), alpha)
            assert float(left[i]) ** 2 <= limit + 1e-10
        # with equality for an isometry
        Q = torch.linalg.qr(A)[0]
        w = u - v
        t, b = (1 - alpha) * w + alpha * w @ Q, alpha * (w - w @ Q)
        exact = bounds.averagedness_decrease(float(w[0].norm()), float(b[0].norm()), alpha)
        assert float(t[0].norm()) ** 2 == pytest.approx(exact, rel=1e-10)


@pytest.mark.parametrize("alpha", [0.1, 0.5, 0.9])
def test_rate_and_convergence(alpha: float) -> None:
    for seed in range(20):
        D = fold(4, seed)
        u0 = torch.randn(4, generator=torch.Generator().manual_seed(100 + seed))
        points = iterate(D, u0, alpha, 400)
        r = torch.stack([alpha * (u - D(u)).norm() for u in points])
        distance = torch.stack(points).norm(dim=-1)
        assert float(r.diff().max()) <= 1e-12
        assert float(distance.diff().max()) <= 1e-12
        limit = [bounds.km_residual(alpha, k, float(distance[0])) for k in range(len(r))]
        assert bool((r <= torch.tensor(limit) + 1e-13).all())
        assert float((1 - alpha) / alpha * (r**2).sum()) <= float(distance[0]) ** 2 + 1e-10
    # the same in a metric, by the package
    problem = toy.skewed_rotation(6, seed=1)
    run = problem.training(alpha).iterate(problem.start, 300)
    first = float(problem.operator.metric.norm(problem.start))
    for k in (0, 10, 300 - 1):
        assert float(run.residuals[k]) <= bounds.km_residual(alpha, k, first)


def test_value_is_lower_semicontinuous_and_jumps() -> None:
    starts = torch.linspace(-1, 1, 101)
    phi = {}
    for omega in (0.0, 0.05, 0.2):
        u = starts
        for _ in range(3000):
            u = 0.5 * u + 0.5 * (1 - omega) * u
        phi[omega] = float((0.5 * (u - 1) ** 2).min())
        exact = toy.discontinuous_value().value(torch.tensor([omega]))
        assert phi[omega] == pytest.approx(float(exact), abs=1e-9)
    assert phi[0.0] < phi[0.05] == pytest.approx(phi[0.2], abs=1e-9)


@pytest.mark.parametrize(("alpha", "k"), GRID)
def test_extremal_instances(alpha: float, k: int) -> None:
    sigma, x = 1 / (1 + 2 * alpha * k), 1.0
    for _ in range(k):
        x = (1 - alpha) * x + alpha * (x - 2 * sigma if x >= sigma else -x)
    d = x - 2 * sigma if x >= sigma else -x
    assert (alpha * (x - d)) ** 2 == pytest.approx(bounds.km_line(alpha, k), rel=1e-12)
    # the worst angle by brute force, not by the formula
    theta = torch.linspace(0, math.pi, 200_001)
    z = 1 - alpha + alpha * torch.polar(torch.ones(()), theta)
    r2 = (alpha * (1 - torch.polar(torch.ones(()), theta)).abs() * z.abs() ** k) ** 2
    assert float(r2.max()) == pytest.approx(bounds.km_rotation(alpha, k), rel=1e-8)
    worst = max(bounds.km_line(alpha, k), float(r2.max()))
    assert bounds.km_worst(alpha, k) == pytest.approx(worst, rel=1e-8)
    assert bounds.km_worst(alpha, k) <= bounds.km_residual(alpha, k, 1.0) ** 2 * (1 + 1e-12)


def test_toy_instances_attain_the_worst_case() -> None:
    for alpha, k in GRID:
        y = min(4.0, 1 / (alpha * (1 - alpha) * (k + 1)))
        turn = toy.rotation(math.acos(1 - y / 2))
        found = []
        for problem in (toy.line(alpha, k), turn):
            residuals = problem.training(alpha).iterate(problem.start, k + 1).residuals
            found.append(float(residuals[k]) ** 2)
        assert max(found) == pytest.approx(bounds.km_worst(alpha, k), abs=1e-13)


def test_lieder_bound_and_the_conjecture_are_not_refuted() -> None:
    # W is stated for every instance: rotations of several planes, folds, and mixtures of them
    for seed in range(30):
        D1, D2 = fold(3, seed), fold(3, 50 + seed)
        u0 = torch.randn(3, generator=torch.Generator().manual_seed(seed))
        for alpha in (0.1, 0.3, 0.5, 0.8):
            points = iterate(lambda u, D1=D1, D2=D2: D2(D1(u)), u0, alpha, 12)
            for k, u in enumerate(points):
                r2 = float((alpha * (u - D2(D1(u)))).norm()) ** 2
                limit = bounds.km_worst(alpha, k) * float(u0.norm()) ** 2
                assert r2 <= limit * (1 + 1e-10)
    assert bounds.km_tight(0.6, 9, 1.0) ** 2 == pytest.approx(bounds.km_worst(0.6, 9), rel=1e-13)


def test_rotation_is_the_slower_branch_from_one_half_on() -> None:
    for alpha in torch.linspace(0.5, 0.999, 60).tolist():
        for k in [*range(0, 60), 200, 1000]:
            assert bounds.km_rotation(alpha, k) >= bounds.km_line(alpha, k) * (1 - 1e-12)
            if k > 0:  # the gain over (c): at least 2, at most e where the second form holds
                gain = bounds.km_residual(alpha, k, 1.0) ** 2 / bounds.km_worst(alpha, k)
                assert gain >= 2 * (1 - 1e-12)
                if 4 * alpha * (1 - alpha) * (k + 1) >= 1:
                    assert gain <= math.e
    assert bounds.km_residual(0.99, 1, 1.0) ** 2 / bounds.km_worst(0.99, 1) > 10
    assert bounds.km_line(0.2, 5) > bounds.km_rotation(0.2, 5)
    assert bounds.km_line(0.2, 6) < bounds.km_rotation(0.2, 6)


def test_dropped_assumptions() -> None:
    mirror = Lambda(lambda u: -u, Identity())
    with pytest.raises(bmo.errors.DomainError):
        bmo.GKM(mirror, alpha=1.0)
    run = bmo.GKM(mirror, 1.0, check=False).iterate(torch.ones(1), 50)
    assert bool((run.residuals == 2).all())
    growth = abs(0.5 + 0.55 * complex(math.cos(0.2), math.sin(0.2)))
    turn = torch.tensor([[math.cos(0.2), -math.sin(0.2)], [math.sin(0.2), math.cos(0.2)]])
    points = iterate(lambda u: 1.1 * u @ turn.mT, torch.tensor([1.0, 0.0]), 0.5, 200)
    assert float(points[-1].norm()) == pytest.approx(growth**200, rel=1e-9) and growth > 1
    shrinking = iterate(lambda u: -1.1 * u, torch.ones(1), 0.5, 10)
    assert float(shrinking[-1].abs()) == pytest.approx(0.05**10, rel=1e-6)
