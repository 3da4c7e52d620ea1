"""Chapter 6: one test for each numbered statement.

The inner step is written here once more, in numpy, for a map and a metric that are not diagonal;
the lemmas are held against it, and `bmo.Inner` against it, too.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

import bmo
from bmo import bounds
from bmo.hypergradient import hypergradient
from bmo.problems import toy
from bmo.solve import solve

Vector = np.ndarray[Any, np.dtype[np.float64]]
CASES = range(60)


class Case(NamedTuple):
    """A random instance: U the unit ball of H, D nonexpansive and linear, S a line through U."""

    H: Vector
    D: Vector
    A: Vector
    d: Vector
    alpha: float
    mu: float
    target: Vector
    start: Vector

    def norm(self, u: Vector) -> float:
        return math.sqrt(u @ self.H @ u)

    def train(self, u: Vector) -> Vector:
        return (1 - self.alpha) * u + self.alpha * self.D @ u

    def upper(self, u: Vector) -> float:
        return 0.5 * float(np.sum((self.A @ u - self.d) ** 2))

    def direction(self, u: Vector) -> Vector:
        solved: Vector = np.linalg.solve(self.H, self.A.T @ (self.A @ u - self.d))
        return solved

    def step(self, u: Vector, s: float) -> Vector:
        mixed = self.mu * (u - s * self.direction(u)) + (1 - self.mu) * self.train(u)
        return mixed / max(1.0, self.norm(mixed))  # the H-projection onto the H-ball

    @property
    def lipschitz(self) -> float:
        whitened = self.A @ np.linalg.inv(np.linalg.cholesky(self.H).T)
        return float(np.linalg.norm(whitened, 2) ** 2)

    @property
    def slope(self) -> float:
        """At least the largest norm of g on the ball: |g(u)|_H <= |g(0)|_H + L_H."""
        return self.norm(self.direction(np.zeros(len(self.d)))) + self.lipschitz

    def residual(self, u: Vector) -> float:
        return self.norm(u - self.train(u))


def case(seed: int, n: int = 5) -> Case:
    """D turns two planes through random angles and keeps one axis, seen through H^(1/2)."""
    rng = np.random.default_rng(seed)
    planes, axes = (np.linalg.qr(rng.normal(size=(n, n)))[0] for _ in range(2))
    turn = np.eye(n)
    for i in (0, 2):
        c, s = math.cos(a := rng.uniform(0.1, math.pi)), math.sin(a)
        turn[i : i + 2, i : i + 2] = [[c, -s], [s, c]]
    scales = 10 ** rng.uniform(-0.5, 0.5, n)
    root, back = axes * scales @ axes.T, axes / scales @ axes.T
    kept = back @ planes[:, 4]
    H = root @ root
    H = (H + H.T) / 2
    ball = back @ rng.normal(size=n)
    return Case(
        H=H,
        D=back @ planes @ turn @ planes.T @ root,
        A=rng.normal(size=(n, n)),
        d=3 * rng.normal(size=n),
        alpha=rng.uniform(0.1, 0.9),
        mu=rng.uniform(0.1, 0.9),
        target=rng.uniform(-1, 1) * kept / math.sqrt(kept @ H @ kept),
        start=ball / math.sqrt(ball @ H @ ball) * rng.uniform(0, 1),
    )


def path(c: Case, steps: list[float]) -> list[Vector]:
    points = [c.start]
    for s in steps:
        points.append(c.step(points[-1], s))
    return points


def test_the_instances_satisfy_the_assumptions_and_use_them() -> None:
    projected = 0
    for seed in CASES:
        c = case(seed)
        assert c.residual(c.target) < 1e-12 and c.norm(c.target) <= 1
        rng = np.random.default_rng(seed)
        w = rng.normal(size=5)
        assert abs(c.norm(c.D @ w) / c.norm(w) - 1) < 1e-12  # an isometry of H ...
        points = path(c, [1 / c.lipschitz] * 5)
        projected += any(abs(c.norm(u) - 1) < 1e-12 for u in points[1:])
    assert max(np.linalg.norm(case(seed).D, 2) for seed in CASES) > 2  # ... and of no other
    assert projected > 10  # U is felt


def test_inner_step_is_the_one_written_here() -> None:
    class HBall(bmo.sets.Set):
        def nearest(self, u: torch.Tensor) -> torch.Tensor:
            raise AssertionError("the Euclidean projection was asked for")

        def contains(self, u: torch.Tensor, tol: float = 1e-9) -> torch.Tensor:
            return torch.ones(u.shape[:-1], dtype=torch.bool)

        def project(
            self, u: torch.Tensor, metric: bmo.metric.Metric, tol: float = 1e-10
        ) -> torch.Tensor:
            return u / metric.norm(u).clamp_min(1.0)[..., None]

    for seed in CASES:
        c = case(seed)
        A, d, D = torch.tensor(c.A), torch.tensor(c.d), torch.tensor(c.D)
        H = bmo.metric.Dense(torch.tensor(c.H))
        operator = bmo.operators.Lambda(lambda u, D=D: u @ D.mT, H)
        loop = bmo.Inner(bmo.GKM(operator, c.alpha), c.mu, bmo.schedule(0.5), HBall())

        def upper(u: torch.Tensor, A: torch.Tensor = A, d: torch.Tensor = d) -> torch.Tensor:
            return 0.5 * (u @ A.mT - d).square().sum(-1)

        got = loop(torch.tensor(c.start), upper, 6).detach().numpy()
        expected = path(c, [0.5 / (k + 1) for k in range(1, 7)])[-1]
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-12)


def test_bilevel_problem_is_solvable_although_its_value_jumps() -> None:
    problem = toy.discontinuous_value()

    def reached(w: float) -> float:
        problem.omega.data.fill_(w)
        T = problem.training(0.9)
        ends = [T.iterate(torch.tensor([x]).double(), 600).value for x in (-1.0, 0.2, 1.0)]
        return min(float(problem.upper(u)) for u in ends)

    at, near = reached(0.0), [reached(w) for w in (0.05, 0.1, 1.0)]
    assert at == 0.0 and all(abs(value - 0.5) < 1e-9 for value in near)
    assert at <= min(near)  # lower semicontinuous, and the minimum is attained at the jump
    assert float(problem.value(problem.best_omega)) == at


@pytest.mark.parametrize("stretch", [0.3, 1.0, 10.0])
def test_one_step(stretch: float) -> None:
    for seed in CASES:
        c, u = case(seed), case(seed).start
        for k in range(1, 8):
            s = stretch / (k * c.lipschitz)
            new = c.step(u, s)
            right = bounds.one_step(
                c.norm(u - c.target),
                c.residual(u),
                c.upper(u) - c.upper(c.target),
                s,
                c.alpha,
                c.mu,
                c.norm(c.direction(u)),
            )
            assert c.norm(new - c.target) ** 2 <= right + 1e-12 * (1 + abs(right))
            u = new


def test_one_step_is_attained() -> None:
    """D a reflection with u orthogonal to g, no curvature: each estimate becomes an equality."""
    alpha, mu, s = 0.4, 1e-6, 0.7
    after = (1 - 2 * alpha * (1 - mu)) ** 2 + (mu * s) ** 2  # u = (1, 0), D = -I, g = (0, 1)
    right = bounds.one_step(1.0, 2 * alpha, 0.0, s, alpha, mu, slope=1.0)
    assert 0 <= right - after < 3 * mu


def test_one_step_sharp() -> None:
    for seed in CASES:
        c, u = case(seed), case(seed).start
        for k in range(1, 8):
            s = 1 / (k * c.lipschitz)
            new = c.step(u, s)
            gap = c.upper(new) - c.upper(c.target)
            common = (c.norm(u - c.target), c.residual(u), gap, s, c.alpha, c.mu, c.lipschitz)
            right = bounds.one_step_sharp(*common)
            proved = bounds.one_step_sharp(*common, moved=c.norm(new - u))
            assert c.norm(new - c.target) ** 2 <= proved + 1e-12 * (1 + abs(right))
            assert proved <= right
            u = new


def test_one_step_sharp_needs_its_condition() -> None:
    """D = I, l = u^2/2, from 1, target 0: with s = 2 the left side is 0.64, the right negative."""
    after = 1 - 0.9 * 2.0
    right = 1 - 2 * 0.9 * 2.0 * 0.5 * after**2
    assert after**2 > right + 0.7
    assert after**2 <= bounds.one_step(1.0, 0.0, 0.5, 2.0, 0.5, 0.9, slope=1.0)
    # with the target at u^{k-1} = 1 itself it fails exactly beyond s = 1/(mu L)
    for mu in (0.5, 0.9, 0.999):
        for s, holds in ((0.999 / mu, True), (1.001 / mu, False)):
            after = 1 - mu * s
            assert ((1 - after) ** 2 <= -2 * mu * s * 0.5 * (after**2 - 1)) is holds
    with pytest.raises(bmo.errors.ConditionError):
        bounds.one_step_sharp(1.0, 0.0, 0.5, 2.0, 0.5, 0.9, lipschitz=1.0)


def test_step_drift() -> None:
    for seed in CASES:
        c = case(seed)
        steps = [2 / (k * c.lipschitz) for k in range(1, 12)]
        points = path(c, steps)
        G = max(c.norm(c.direction(u)) for u in points)
        e = [c.norm(v - u) for u, v in zip(points[:-1], points[1:], strict=True)]
        r = [c.residual(u) for u in points]
        for k in range(len(e)):
            assert abs(e[k] - (1 - c.mu) * r[k]) <= c.mu * G * steps[k] + 1e-12
            assert r[k] <= bounds.residual_from_step(e[k], c.mu, G, steps[k]) + 1e-12
            for j in range(k + 1):
                assert e[k] <= bounds.step_drift(e[j], c.mu, G, steps[j], steps[k]) + 1e-12
                assert r[k] <= bounds.residual_drift(r[j], c.mu, G, steps[j]) + 1e-12


def test_aggregated_map_is_nonexpansive_up_to_the_limit_and_not_beyond() -> None:
    worst = 0.0
    for seed in CASES:
        c, rng = case(seed), np.random.default_rng(seed)
        u, v = c.start, 0.1 * rng.normal(size=5)
        v = v / max(1.0, c.norm(v))
        for s in (2 / c.lipschitz, 0.5 / c.lipschitz):
            assert c.norm(c.step(u, s) - c.step(v, s)) <= c.norm(u - v) * (1 + 1e-12)
        far = 40 / c.lipschitz
        worst = max(worst, c.norm(c.step(u, far) - c.step(v, far)) / c.norm(u - v))
    assert worst > 1


def test_upper_gap() -> None:
    positive = 0
    for seed in CASES:
        c, u = case(seed), case(seed).start
        for s in (0.1 / c.lipschitz, 1 / c.lipschitz, 20 / c.lipschitz):  # no limit on s
            move = u - c.step(u, s)
            E, G = c.norm(move), c.norm(c.direction(u))
            gap = c.upper(u) - c.upper(c.target)
            inner = float(move @ c.H @ (u - c.target))
            sharp = bounds.upper_gap_sharp(E, inner, c.mu, G, s)
            assert gap <= sharp + 1e-10 * (1 + abs(gap))
            assert sharp <= bounds.upper_gap(E, c.norm(u - c.target), c.mu, G, s) + 1e-9
            assert c.norm(u - c.target) <= 2  # the diameter of U
            positive += gap > 0
            u = c.step(u, s)
    assert positive > 20


def joint(problem: toy.Bilevel, mu: float) -> bmo.Inner:
    return bmo.Inner(problem.training(0.5), mu, bmo.schedule(0.5, p=0.5), problem.domain)


@pytest.mark.parametrize(("mu", "K", "expected"), [(0.0, 60, 0.5), (0.5, 150, 1.0)])
def test_lower_level_singleton(mu: float, K: int, expected: float) -> None:
    problem = toy.singleton_failure()
    solve(joint(problem, mu), problem.start, problem.upper, K, outer=15, gamma=0.8)
    assert abs(problem.omega.item() - expected) < 1e-3
    if mu == 0:
        with torch.no_grad():
            u = joint(problem, mu)(problem.start, problem.upper, K)
        assert abs(float(problem.upper(u).detach()) - 0.25) < 1e-6


@pytest.mark.parametrize("s", [0.2, 1.0])
def test_constant_step_does_no_harm_where_the_upper_gradient_vanishes(s: float) -> None:
    """Exercise: u_1 = (omega + 2 s)/(1 + 2 s), and the minimiser is 1 all the same."""
    problem = toy.singleton_failure()
    loop = bmo.Inner(problem.training(0.5), 0.5, s, problem.domain)
    values = []
    for w in (0.2, 0.75, 1.3):
        problem.omega.data.fill_(w)
        with torch.no_grad():
            u = loop(problem.start, problem.upper, 300)
            values.append(float(problem.upper(u)))
        assert np.allclose(u.numpy(), [(w + 2 * s) / (1 + 2 * s), w], rtol=0, atol=1e-10)
    vertex = np.polyfit([0.2, 0.75, 1.3], values, 2)
    assert abs(-vertex[1] / (2 * vertex[0]) - 1) < 1e-9


def scalar(shrink: float, start: float, steps: list[float]) -> float:
    """Algorithm 1 on the line by hand: D = shrink * I, l = (u - 1)^2/2, alpha = mu = 1/2."""
    u = start
    for s in steps:
        u = 0.5 * (u - s * (u - 1)) + 0.5 * (0.5 * u + 0.5 * shrink * u)
        u = min(1.0, max(-1.0, u))
    return u


def test_constant_step_leaves_a_bias() -> None:
    problem = toy.constant_step()
    assert problem.upper is not None
    loop = bmo.Inner(problem.training(0.5), 0.5, 0.5, problem.domain)
    end = float(loop.run(problem.start, problem.upper, 60).value)
    assert abs(end - 0.5) < 1e-12 and abs(scalar(0.0, 1.0, [0.5] * 60) - 0.5) < 1e-12
    assert float(problem.training(0.5).residual(torch.tensor([end]).double())) > 0.2
    falling = [0.5 / (k + 1) for k in range(1, 4000)]
    assert abs(scalar(0.0, 1.0, falling)) < 1e-3


def test_summable_steps_stop_short() -> None:
    T = bmo.GKM(bmo.operators.Lambda(lambda u: u, bmo.metric.Identity()), 0.5)
    loop = bmo.Inner(T, 0.5, lambda k: 1 / (k + 1) ** 2, bmo.sets.Box(-1.0, 1.0))
    start = torch.zeros(1, dtype=torch.float64)
    end = float(loop.run(start, lambda u: 0.5 * (u - 1).square().sum(-1), 3000).value)
    # prod_{n >= 1} (1 - z^2/n^2) = sin(pi z)/(pi z) with z^2 = 1/2, without its first factor 1/2
    z = math.sqrt(0.5)
    limit = 1 - 2 * math.sin(math.pi * z) / (math.pi * z)
    assert abs(end - limit) < 2e-4 and abs(limit - 0.2836) < 1e-4
    with pytest.raises(bmo.errors.ScheduleError):
        bmo.schedule(1.0, p=2.0)


def twice(problem: toy.Training, wrong: str, iterations: int = 1500) -> tuple[Vector, Vector]:
    """The ends of the right loop (`bmo.Inner`) and of a loop with one wrong metric, by hand."""
    assert problem.upper is not None
    loop = bmo.Inner(problem.training(0.5), 0.5, bmo.schedule(1.0, p=0.5), problem.domain)
    with torch.no_grad():
        right = loop(problem.start, problem.upper, iterations).numpy()
    H = np.array([[2.0, 1.0], [1.0, 2.0]])
    u = problem.start.numpy()
    for k in range(1, iterations + 1):
        d = u - np.array([0.0, 1.0])
        d = d if wrong == "gradient" else np.linalg.solve(H, d)
        D = np.array([u[0] + u[1] / 2, 0.0]) if wrong == "gradient" else u
        u = 0.5 * (u - d / math.sqrt(k + 1)) + 0.25 * (u + D)
        if wrong == "projection":
            u = np.array([u[0], min(u[1], 0.0)])
    return right, u


def test_wrong_gradient_metric() -> None:
    right, wrong = twice(toy.wrong_metric(), "gradient")
    assert np.abs(right).max() < 0.06  # of the order of s_K = 0.026
    assert np.abs(wrong - [0.5, 0.0]).max() < 0.06


def test_wrong_projection_metric() -> None:
    right, wrong = twice(toy.wrong_projection(), "projection", 400)
    assert np.abs(right).max() < 1e-3
    assert np.abs(wrong - [-0.5, 0.0]).max() < 1e-3


def test_hypergradient_is_the_whole_derivative() -> None:
    """At omega = 1 the whole derivative vanishes in the limit; the partial one does not."""
    problem = toy.singleton_failure()
    problem.omega.data.fill_(1.0)
    got = hypergradient(joint(problem, 0.5), problem.start, problem.upper, 5)
    pi = math.prod(1 - 0.25 / math.sqrt(k + 1) for k in range(1, 6))
    (whole,) = got.gradients.values()
    assert abs((1 - float(got.u[1])) - pi) < 1e-12  # the partial derivative
    h, values = 1e-5, []
    for w in (1 - h, 1 + h):
        problem.omega.data.fill_(w)
        with torch.no_grad():
            u = joint(problem, 0.5)(problem.start, problem.upper, 5)
            values.append(float(problem.upper(u)))
    assert abs(float(whole) - (values[1] - values[0]) / (2 * h)) < 1e-9
    assert abs(float(whole) - pi) > 0.05


def test_anchored_step() -> None:
    """D = -I, mu = 0, alpha = 1/2: F = 0, so w^k = w^0/(k + 1)."""
    T = bmo.GKM(bmo.operators.Lambda(lambda u: -u, bmo.metric.Identity()), 0.5)
    loop = bmo.AnchoredInner(T, mu=0.0, steps=0.5)
    seen = [float(w) for w in loop.iterates(torch.ones(1), lambda u: 0 * u.sum(-1), 6)]
    assert seen == pytest.approx([1 / (k + 1) for k in range(1, 7)], abs=1e-7)


def test_scale_of_the_metric_does_not_matter() -> None:
    """Exercise: metric wH with steps ws gives the same iterates."""
    for seed in list(CASES)[:10]:
        c = case(seed)
        one = path(c, [0.4 / k for k in range(1, 6)])
        w = 7.0
        other = c._replace(H=w * c.H)
        u = c.start
        for k in range(1, 6):
            mixed = c.mu * (u - w * 0.4 / k * other.direction(u)) + (1 - c.mu) * c.train(u)
            u = mixed / max(1.0, other.norm(mixed) / math.sqrt(w))
        np.testing.assert_allclose(u, one[-1], rtol=0, atol=1e-12)


def test_average_of_the_upper_values() -> None:
    """Exercise: the weighted mean gap is at most |u^0 - target|^2/(2 mu sum s)."""
    for seed in CASES:
        c = case(seed)
        steps = [1 / (k * c.lipschitz) for k in range(1, 20)]
        points = path(c, steps)[1:]
        gaps = [c.upper(u) - c.upper(c.target) for u in points]
        total = sum(steps)
        mean = sum(s * gap for s, gap in zip(steps, gaps, strict=True)) / total
        assert mean <= c.norm(c.start - c.target) ** 2 / (2 * c.mu * total) + 1e-12
