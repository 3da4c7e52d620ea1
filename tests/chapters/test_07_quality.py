"""Chapter 7: one test for each numbered statement.

The random problems have up to 200 primal variables and :math:`\\varphi` from a separate solver
(tests/problems/test_families.py holds it against a second one, to 1e-8). Rates are measured on
problems solved by hand.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

import bmo
from bmo import bounds
from bmo.problems import toy
from bmo.problems.families import FAMILIES, SIZES, Instance, random_instance

SEEDS = range(52)  # 4 families x 52 = 208 problems


@cache
def problem(family: str, seed: int, regular: bool = False) -> Instance:
    """Thirteen sizes from 3 to 200, each four times."""
    return random_instance(family, seed, n=SIZES[seed % 13], regular=regular)


class Run:
    """The iterates of one problem with one schedule, and what the bounds ask for."""

    def __init__(self, which: Instance, steps: Any, K: int) -> None:
        self.steps = [steps(k) if callable(steps) else steps for k in range(1, K + 3)]
        u = which.iterates(steps, K + 1)
        T = which.training
        self.u, self.have = u, which.constants
        self.r = T.residual(u).tolist()
        self.e = T.metric.norm(u[1:] - u[:-1]).tolist()
        self.gap = (which.upper(u) - which.value).tolist()
        assert bool(which.domain.contains(u).all())

    def change(self, k: int, w: int) -> float:
        return float(self.steps[k - w + 1] - self.steps[k])


ALL = pytest.mark.parametrize("family", FAMILIES)


class Slack:
    """Holds a bound along many problems, and tells how close it was met."""

    def __init__(self, name: str) -> None:
        self.name, self.ratio, self.largest = name, 0.0, 0

    def hold(self, q: Instance, measured: float, guaranteed: float) -> None:
        assert measured <= guaranteed
        self.ratio = max(self.ratio, measured / guaranteed)
        self.largest = max(self.largest, len(q.start))

    def told(self, least: float) -> None:
        """Print the slack; a bound that is never felt would be no test."""
        print(f"{self.name}: largest measured / guaranteed {self.ratio:.4f}; size {self.largest}")
        assert self.largest >= 200 and self.ratio > least


@ALL
def test_frozen_map(family: str) -> None:
    """F_s is averaged on pairs; and where it contracts, so that z_s is found, the lemma itself."""
    found = 0
    for seed in SEEDS:
        q = problem(family, seed)
        s, H = 2 / q.lipschitz * (0.3 + 0.7 * (seed % 2)), q.training.metric
        weight = bounds.map_relaxation(q.training.alpha, q.mu)
        loop = bmo.Inner(q.training, q.mu, s, q.domain)
        with torch.no_grad():
            z, Fz = q.start, loop.step(q.start, s, q.upper, H)
            for _ in range(60):
                z, Fz = Fz, loop.step(Fz, s, q.upper, H)
            error = float(H.norm(z - Fz))
            found += error < 1e-6
            for u in (q.start, q.best):
                Fu = loop.step(u, s, q.upper, H)
                apart, moved = float(H.norm(u - z)), float(H.norm(u - Fu))
                both = weight * float(H.norm((u - Fu) - (z - Fz))) ** 2
                assert float(H.norm(Fu - Fz)) ** 2 + both <= apart**2 + 1e-10
                right = bounds.fixed_point_decrease(apart, moved, q.training.alpha, q.mu)
                assert right == pytest.approx(apart**2 - weight * moved**2, rel=1e-12, abs=1e-14)
                assert float(H.norm(Fu - z)) ** 2 <= right + 8 * q.diameter * error + 1e-10
    assert found >= 3


@ALL
@pytest.mark.parametrize("sharp", [True, False])
def test_uniform_residual(family: str, sharp: bool) -> None:
    slack = Slack(f"A, {family}")
    for seed in SEEDS:
        q = problem(family, seed)
        run = Run(q, bmo.schedule((1 if sharp else 2) / q.lipschitz * 2**0.6, 0.6), 12)
        M = q.oscillation
        for k in (0, 1, 4, 12):
            for w in range(1, k + 2):
                sigma = run.steps[k - w + 1]
                bound = bounds.uniform_residual(k, w, sigma, oscillation=M, sharp=sharp, **run.have)
                slack.hold(q, run.r[k], bound)
    slack.told(0.04)


@ALL
def test_harmonic_schedule(family: str) -> None:
    slack = Slack(f"A with s/(k+1), {family}")
    for seed in SEEDS:
        q = problem(family, seed)
        for sharp, s in ((True, 2 / q.lipschitz), (False, 4 / q.lipschitz)):
            run = Run(q, bmo.schedule(s), 12)
            for k in range(13):
                bound = bounds.uniform_residual_harmonic(
                    k, s, oscillation=q.oscillation, sharp=sharp, **run.have
                )
                slack.hold(q, run.r[k], bound)
    slack.told(0.05)


@ALL
def test_uniform_step_length(family: str) -> None:
    steps, right, above = (Slack(f"A+ {name}, {family}") for name in ("move", "residual", "value"))
    for seed in SEEDS:
        q = problem(family, seed)
        p = (0.3, 0.7, 1.0)[seed % 3]
        run = Run(q, bmo.schedule(2 / q.lipschitz * 2**p, p), 12)
        for k in (0, 1, 4, 12):
            for w in range(1, k + 2):
                moved, step = bounds.move_window(k, w, run.change(k, w), **run.have), run.steps[k]
                steps.hold(q, run.e[k], moved)
                right.hold(q, run.r[k], bounds.residual_from_step(moved, q.mu, q.slope, step))
                value = bounds.upper_gap(moved, q.diameter, q.mu, q.slope, step)
                above.hold(q, run.gap[k], value)
    steps.told(0.2)
    right.told(0.05)
    above.told(0.03)


@ALL
def test_constant_steps_and_blocks(family: str) -> None:
    for seed in SEEDS:
        q = problem(family, seed)
        size = {name: q.constants[name] for name in ("alpha", "mu", "diameter")}
        run = Run(q, 1.5 / q.lipschitz, 16)
        for k in range(17):
            moved = bounds.move_constant(k, **size)
            assert run.e[k] <= moved
            value = bounds.upper_gap(moved, q.diameter, q.mu, q.slope, run.steps[k])
            assert run.gap[k] <= value
        s, p = 2 / q.lipschitz, 0.25
        run = Run(q, lambda k, s=s, p=p: s * 2 ** (-p * math.floor(math.log2(k))), 31)
        for i in range(5):
            K, n = 2 ** (i + 1) - 1, 2**i
            moved, step = bounds.move_constant(n, **size), s * n**-p
            assert run.steps[K - 1] == pytest.approx(step, rel=1e-12)
            assert run.r[K] <= bounds.residual_from_step(moved, q.mu, q.slope, step)
            assert run.gap[K] <= bounds.upper_gap(moved, q.diameter, q.mu, q.slope, step)


@ALL
def test_power_schedules(family: str) -> None:
    for seed in SEEDS:
        q = problem(family, seed)
        p = (0.0, 1 / 7, 0.5, 1.0)[seed % 4]
        s = 2 ** (1 + p) / q.lipschitz
        run = Run(q, bmo.schedule(s, p), 12)
        for k in range(13):
            moved = bounds.move_power(k, s, p, **run.have)
            assert run.e[k] <= moved
            value = bounds.upper_gap(moved, q.diameter, q.mu, q.slope, run.steps[k])
            assert run.gap[k] <= value


@ALL
def test_ergodic_rate(family: str) -> None:
    slack = Slack(f"ergodic, {family}")
    for seed in SEEDS:
        q = problem(family, seed)
        rise = [0.3, 1.0, 0.6, 0.9] * 6  # the steps need not fall
        H, u, loop = q.training.metric, q.start, bmo.Inner(q.training, q.mu, 1.0, q.domain)
        total, gaps, mean = 0.0, 0.0, 0 * u
        with torch.no_grad():
            start = float(H.norm(u - q.best))
            for factor in rise:
                s = factor / q.lipschitz
                u = loop.step(u, s, q.upper, H)
                total, gaps, mean = total + s, gaps + s * float(q.upper(u) - q.value), mean + s * u
                bound = bounds.ergodic_gap(start, q.mu, total)
                slack.hold(q, gaps / total, bound)
                slack.hold(q, float(q.upper(mean / total) - q.value), bound)
    slack.told(0.1)


@pytest.mark.parametrize("family", FAMILIES)
def test_lower_side(family: str) -> None:
    for seed in list(SEEDS)[::4]:
        q = problem(family, seed, regular=True)
        run = Run(q, 1 / q.lipschitz, 12)
        assert q.kappa is not None
        for k in range(13):
            assert run.gap[k] >= -q.slope * float(q.distance(run.u[k])) - 1e-9
            assert run.gap[k] >= -bounds.gap_below(q.slope, q.kappa, run.r[k]) - 1e-9


def line(shrink: float, steps: Any, K: int, u: float = 0.0) -> tuple[float, float]:
    """D = shrink * I, l = (u - 1)^2/2, alpha = mu = 1/2: u^K and r_K, by hand."""
    for k in range(1, K + 1):
        u = 0.5 * (u - steps(k) * (u - 1)) + 0.5 * (0.5 * u + 0.5 * shrink * u)
    return u, 0.5 * abs((1 - shrink) * u)


def test_pointwise_convergence() -> None:
    """Steps that rise and fall, the first ones far too long: only s_k -> 0 and the sum matter."""

    def steps(k: int) -> float:
        return (3.0 if k % 2 else 0.3) / math.sqrt(k)

    for shrink, best in ((1.0, 1.0), (0.9, 0.0), (-1.0, 0.0)):
        far = [abs(line(shrink, steps, K)[0] - best) for K in (100, 10_000, 100_000)]
        assert far[2] < 0.1 and far[2] <= far[0] + 1e-9
    ends = [line(0.95, lambda k: 0.5 / math.sqrt(k + 1), K)[0] for K in (200, 20_000, 200_000)]
    values = [0.5 * (u - 1) ** 2 for u in ends]
    assert values[0] < values[1] < values[2] < 0.5  # tends to phi = 1/2 ...
    assert values[2] == pytest.approx(0.458, abs=1e-3)  # ... slowly
    jump = line(1.0, lambda k: 1 / (k + 1) ** 2, 20_000)[0]
    assert 0.5 * (jump - 1) ** 2 > 0.25  # without a divergent sum: not phi = 0


def spun(y: float, k: int) -> float:
    """r_k of the rotation with 2 (1 - cos) = y, alpha = mu = 1/2, nothing else acting."""
    z = complex(1 - y / 2, math.sqrt(y - y * y / 4))
    return 0.5 * abs(1 - z) * abs(1 - 0.25 * (1 - z)) ** k


def test_faster_than_root_k() -> None:
    for y in (0.01, 0.1, 1.0):
        scaled = [math.sqrt(k) * spun(y, k) for k in (10**3, 10**4, 10**5)]
        assert scaled[2] < 1e-6 and scaled[2] <= scaled[1] <= max(scaled[0], 1e-12)
    for k in (10**3, 10**4, 10**5):  # the worst angle moves with k, and stays up
        worst = max(math.sqrt(k) * spun(4 / (k + 1) * 10 ** (i / 20), k) for i in range(-20, 21))
        assert worst > 0.6
    for k in (20, 200):  # closed form against the loop itself
        turn = torch.tensor([[1 - 0.05, -math.sqrt(0.1 - 0.0025)], [0.0, 0.0]])
        turn[1] = torch.stack([-turn[0, 1], turn[0, 0]])
        D = bmo.operators.Lambda(lambda u, R=turn: u @ R.mT, bmo.metric.Identity())
        loop = bmo.Inner(bmo.GKM(D, 0.5), 0.5, bmo.schedule(1.0), bmo.sets.Ball(1.0))
        run = loop.run(torch.tensor([1.0, 0.0]), lambda u: 0 * u.sum(-1), k)
        assert float(run.residuals[-1]) == pytest.approx(spun(0.1, k), rel=1e-9)


def picture(omega: torch.Tensor, K: int, start: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
    """u^K and phi_K of the problem of the chapter's picture, for every omega."""
    u = torch.full_like(omega, start)
    for k in range(1, K + 1):
        s = (k + 1) ** -0.75
        u = 0.5 * (u - s * (u - 1)) + 0.5 * (0.5 * u + 0.5 * ((1 - omega) * u + omega**2))
    return u, 0.5 * (u - 1) ** 2 + 2 * (omega - 0.5) ** 2


def test_approximation_quality() -> None:
    """The errors of omega^K, u^K and inf phi_K fall like s_K, from three starts."""
    omega = torch.cat([torch.linspace(0, 1, 1001), torch.linspace(0.55, 0.65, 4001)])
    for start in (0.0, -1.0, 1.0):
        errors = []
        for K in (64, 512, 4096):
            u, phi = picture(omega, K, start)
            i = int(phi.argmin())
            far = omega[i] - 0.6, u[i] - 0.6, phi[i] - 0.1
            errors.append([abs(float(x)) for x in far])
        assert max(errors[2]) < 0.002
        for early, late in zip(errors[1], errors[2], strict=True):
            assert math.log(early / late) / math.log(8) == pytest.approx(0.75, abs=0.05)
    problem = toy.discontinuous_value()
    values = []
    for w in (0.0, 0.3):
        problem.omega.data.fill_(w)
        loop = bmo.Inner(problem.training(0.5), 0.5, bmo.schedule(0.5, p=0.5), problem.domain)
        with torch.no_grad():
            values.append(float(problem.upper(loop(problem.start, problem.upper, 400))))
    assert values[0] < 1e-4 and values[1] > 0.3  # inf phi_K -> 0 = phi(0), on the jump


def test_no_uniform_convergence() -> None:
    near = torch.cat([torch.zeros(1), torch.logspace(-9, 0, 400)])
    for K in (1, 10, 100, 1000):
        phi = torch.tensor([0.5 * (line(1 - float(w), lambda k: 0.5 / k**0.5, K)[0] - 1) ** 2
                            for w in near[::20]])  # fmt: skip
        truth = torch.where(near[::20] == 0, 0.0, 0.5)
        assert float((phi - truth).abs().max()) >= 0.25 - 1e-6
    omega = torch.cat([torch.zeros(1), torch.logspace(-9, 0, 400)])
    truth = torch.where(omega == 0, 0.5, 0.5 * (omega - 1) ** 2 + 2 * (omega - 0.5) ** 2)
    sides = [picture(omega, K)[1] - truth for K in (16, 256, 4096)]
    assert all(float(d.abs().max()) >= 0.25 - 1e-6 for d in sides)
    above = [float(d.max()) for d in sides]
    assert above[0] > above[1] and above[2] < 1e-3  # the one-sided distance does vanish


@ALL
def test_linear_error_bound(family: str) -> None:
    for seed in list(SEEDS)[::2]:
        q = problem(family, seed, regular=True)
        p = (0.3, 0.5, 1.0)[seed % 3]
        s = 2**p / q.lipschitz
        run = Run(q, bmo.schedule(s, p), 12)
        assert q.kappa is not None
        for k in range(13):
            far = bounds.error_bound_distance(k, s, p, kappa=q.kappa, **run.have)
            dist = float(q.distance(run.u[k]))
            assert dist <= q.kappa * run.r[k] * (1 + 1e-9) + 1e-12  # the hypothesis
            assert dist <= far and run.r[k] <= 2 * q.training.alpha * far
            assert run.gap[k] >= -q.slope * far
            if k:
                above = bounds.error_bound_gap(k, s, p, kappa=q.kappa, **run.have)
                assert run.gap[k] <= above


def test_linear_error_bound_where_its_constants_are_small() -> None:
    """D(u) = (0, u_2): kappa = 2, eta = 1/sqrt(1.25...); the bound is then within a factor 100."""
    eta = bounds.error_bound_factor(0.5, 0.5, 2.0)
    assert eta == pytest.approx(math.sqrt(1 - 0.75 / 4), rel=1e-12)
    have = {"alpha": 0.5, "mu": 0.5, "kappa": 2.0, "diameter": math.sqrt(8), "slope": 1.0}
    u, worst = 0.0, 0.0
    for k in range(1, 2000):
        u = 0.75 * u + 0.5 / math.sqrt(k + 1)
        worst = max(worst, u / bounds.error_bound_distance(k, 1.0, 0.5, **have))
    assert 0.01 < worst <= 1


def late_slope(values: Any, power: float = 1.0) -> float:
    """q from v^(-power) = a + b K^(q power) at K, 4K, 16K: the increments do not see a."""
    z = [v**-power for v in values[-3:]]
    return math.log((z[2] - z[1]) / (z[1] - z[0])) / math.log(4) / power


@pytest.mark.parametrize(("p", "rho"), [(0.25, 4), (0.5, 2), (0.5, 4), (0.75, 3), (1.0, 3)])
def test_one_half_is_best(p: float, rho: int) -> None:
    s, first, second, total = 2**p / (2 * rho), 0.0, 1.0, 0.0
    seen: list[tuple[float, float]] = []
    for k in range(1, 4**8 + 1):
        step = s / (k + 1) ** p
        first = min(1.0, 0.75 * first + 0.5 * step)
        second -= 0.5 * step * second ** (2 * rho - 1)
        total += step
        if k in (4, 4**6, 4**7, 4**8):
            value = second ** (2 * rho) / (2 * rho)
            low, high = ((1 + x * total) ** (-rho / (rho - 1)) for x in (2 * rho, rho - 1))
            assert low <= 2 * rho * value <= high
            assert first >= 0.5 * step
            seen.append((first, value))
    assert math.log(seen[2][0] / seen[3][0]) / math.log(4) == pytest.approx(p, abs=1e-3)
    late = late_slope([value for _, value in seen], (rho - 1) / rho)
    assert late == pytest.approx((1 - p) * rho / (rho - 1), abs=1e-3)


@ALL
@pytest.mark.parametrize("p", [0.0, 0.5, 1.0])
def test_strongly_convex_upper_objective(family: str, p: float) -> None:
    used = []
    for seed in SEEDS:
        q = problem(family, seed)
        if q.strength < 1e-3:
            continue
        used.append(len(q.start))
        have = {"strength": q.strength, "lipschitz": q.lipschitz, "mu": q.mu}
        run = Run(q, lambda k, have=have: bounds.strong_step(k, p, **have), 12)
        for k in range(13):
            moved = bounds.strong_move(k, p, diameter=q.diameter, slope=q.slope, **have)
            assert run.e[k] <= moved
            step = run.steps[k]
            assert run.r[k] <= bounds.residual_from_step(moved, q.mu, q.slope, step)
            assert run.gap[k] <= bounds.upper_gap(moved, q.diameter, q.mu, q.slope, step)
    assert len(used) > 10 and max(used) >= 50


def strong_rotation(K: int, p: float) -> tuple[float, float, float]:
    """Largest e_K, r_K and phi_K - phi; l = |u - 1|^2/2 on the disc of radius 2.

    The angles move with K, from far below K^(-1/2) up to pi.
    """
    y = np.clip(4 / (K + 1) * np.logspace(-4, math.log10(K + 1), 161), 0, 4)
    turn = np.exp(2j * np.arcsin(np.sqrt(y) / 2))
    u = before = np.full_like(turn, -1.0)
    for k in range(1, K + 2):
        s = bounds.strong_step(k, p, strength=1.0, lipschitz=1.0, mu=0.5)
        before, u = u, 0.5 * (u - s * (u - 1)) + 0.5 * (0.5 * u + 0.5 * turn * u)
        u = u / np.maximum(1, abs(u) / 2)
    gap = 0.5 * abs(before - 1) ** 2 - 0.5
    r = 0.5 * abs(before - turn * before)
    return float(abs(u - before).max()), float(r.max()), float(gap.max())


@pytest.mark.parametrize("p", [0.25, 0.5, 0.75, 1.0])
def test_slopes_of_the_strongly_convex_case(p: float) -> None:
    """p for the residual, at least 1 - p for the value: it is negative, but at p = 1 it stays."""
    e, r, gap = zip(*(strong_rotation(K, p) for K in (512, 2048, 8192)), strict=True)
    assert late_slope(r) == pytest.approx(p, abs=0.002 if p < 1 else 0.01)
    assert late_slope(e) == pytest.approx(1.0, abs=0.05)
    assert max(gap) < 0 if p < 1 else gap[0] < gap[1] < gap[2] and gap[1] > 0.05
