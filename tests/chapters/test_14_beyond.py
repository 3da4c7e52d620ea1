"""Chapter 14: one test for each numbered statement.

The lower bounds are held by running the package's own loop at the angle that the proof names;
Theorem H by random problems whose value comes from a separate solver.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import bmo
from bmo import bounds
from bmo.problems.families import FAMILIES, SIZES, Instance, random_instance

ALL = pytest.mark.parametrize("family", FAMILIES)
EYE = bmo.metric.Identity()
HALF = torch.tensor([0.5, 0.0], dtype=torch.float64)


def turn(y: float) -> Tensor:
    """The rotation with |1 - exp(i theta)|^2 = y, for rows."""
    c, s = 1 - y / 2, math.sqrt(max(0.0, y - y * y / 4))
    return torch.tensor([[c, s], [-s, c]], dtype=torch.float64)


def linear(eps: float, psi: float) -> Callable[[Tensor], Tensor]:
    """l(u) = eps Re(exp(-i psi) u)."""
    return lambda u: eps * (math.cos(psi) * u[..., 0] + math.sin(psi) * u[..., 1])


def disc(y: float, steps: Any, kind: type[bmo.Inner], alpha: float, mu: float) -> bmo.Inner:
    R = turn(y)
    D = bmo.operators.Lambda(lambda u: u @ R, EYE)
    return kind(bmo.GKM(D, alpha), mu, steps, bmo.sets.Ball(1.0))


@torch.no_grad()
def final(loop: bmo.Inner, start: Tensor, upper: Any, K: int) -> Tensor:
    return loop(start, upper, K)


@pytest.mark.parametrize("K", [0, 1, 7, 60])
def test_no_weights_help(K: int) -> None:
    """Any weights, at the angle of the proof; and Algorithm 1 with steps of all kinds."""
    R, g = turn(4 / (K + 1)), torch.Generator().manual_seed(K)
    for trial in range(200):
        x = torch.tensor([1.0, 0.0])
        for k in range(1, K + 1):
            a = (0.5, 1 / k, k / (k + 1), float(torch.rand((), generator=g)))[trial % 4]
            x = (1 - a) * x + a * (x @ R)
        left, bound = float((x - x @ R).norm()), bounds.memoryless_residual(K)
        assert left >= bound * (1 - 1e-12)
        if trial % 4 == 0:
            assert left == pytest.approx(bound, rel=1e-10)
    for alpha, mu, steps in ((0.3, 0.8, 1.0), (0.9, 0.1, bmo.schedule(3.0)), (0.75, 1 / 3, 0.2)):
        loop = disc(4 / (K + 1), steps, bmo.Inner, alpha, mu)
        u = final(loop, torch.tensor([1.0, 0.0]), lambda u: 0 * u.sum(-1), K)
        r = float(loop.training_map.residual(u))
        assert r >= alpha * bounds.memoryless_residual(K) * (1 - 1e-12)


def anchored(q: Instance, s: float, K: int) -> list[Tensor]:
    loop = bmo.AnchoredInner(q.training, q.mu, s, q.domain)
    with torch.no_grad():
        return [q.start, *loop.iterates(q.start, q.upper, K)]


LEAST = 0.3, 0.15, 0.1, 0.2  # of the slack: a bound that is never felt would be no test


@ALL
def test_anchored_loop(family: str) -> None:
    """Theorem H on 52 problems of each family, n up to 200; the key inequality as well."""
    seen, slack = 0, dict.fromkeys("abci", 0.0)

    def hold(part: str, measured: float, guaranteed: float) -> None:
        assert measured <= guaranteed
        slack[part] = max(slack[part], measured / guaranteed)

    for seed in range(52):
        q = random_instance(family, seed, n=SIZES[seed % 13], regular=seed % 3 == 2)
        s = (0.1, 0.5, 1.0, 2.0)[seed % 4] / q.lipschitz
        H, w = q.training.metric, anchored(q, s, 24)
        loop, R = bmo.Inner(q.training, q.mu, s, q.domain), float(H.norm(q.start - q.best))
        for k in range(1, 25, 3):
            with torch.no_grad():
                M = w[k] - loop.step(w[k], s, q.upper, H)
                free = (1 - q.mu) * q.training(w[k])
                free = free + q.mu * (w[k] - s * H.solve(q.upper.gradient(w[k])))
            E, gap = float(H.norm(M)), float(q.upper(w[k])) - q.value
            assert bool(q.domain.contains(w[k]))
            assert float(H.inner(M, q.start - w[k])) >= k / 2 * E**2 - 1e-10
            hold("a", E, bounds.anchored_move(k, q.diameter))
            right = bounds.anchored_residual(k, s, mu=q.mu, diameter=q.diameter, slope=q.slope)
            hold("b", float(q.training.residual(w[k])), right)
            have: dict[str, Any] = {"mu": q.mu, "distance": R, "slope": q.slope}
            hold("c", gap, bounds.anchored_gap(k, s, **have))
            if bool(q.domain.contains(free, 0.0)):
                seen += 1
                hold("i", gap, bounds.anchored_gap(k, s, inactive=True, **have))
    print(f"H, {family}, largest measured / guaranteed:", slack)
    assert seen > 20
    assert all(slack[part] > least for part, least in zip("abci", LEAST, strict=True))


@pytest.mark.parametrize(("K", "s"), [(16, 1.0), (100, 0.3), (400, 0.05)])
def test_the_constant_is_sharp(K: int, s: float) -> None:
    """Small angles, eps = R/(mu s K): R^2/(2 mu s K) to three digits, and never more."""
    mu, bound = 0.5, 0.25 / (2 * 0.5 * s * K)
    values = []
    for y in (1e-2 / K**2, 1e-4 / K**2, 1e-8 / K**2):
        loop, upper = disc(y, s, bmo.AnchoredInner, 0.5, mu), linear(0.5 / (mu * s * K), 0.0)
        values.append(float(upper(final(loop, HALF, upper, K))))
        assert values[-1] <= bound * (1 + 1e-9)
    assert values[-1] == pytest.approx(bound, rel=1e-3)
    assert bounds.anchored_gap(K, s, mu=mu, distance=0.5, slope=1.0, inactive=True) == (
        pytest.approx(bound, rel=1e-12)
    )


def lower_gap(steps: Sequence[float], alpha: float, mu: float) -> float:
    """The gap of Algorithm 1 at the theta, eps, psi of the proof of Theorem LB2."""
    K, y = len(steps), 4 / (len(steps) + 1)
    nu = (1 - mu) * alpha
    factor = 1 - nu + nu * complex(1 - y / 2, math.sqrt(max(0.0, y - y * y / 4)))
    power = factor**K
    eps = min(1.0, 1 / (4 * mu * bounds.memoryless_reach(steps, alpha, mu)))
    upper = linear(eps, math.atan2(power.imag, power.real))
    loop, top = disc(y, list(steps), bmo.Inner, alpha, mu), 0.0
    with torch.no_grad():
        u = HALF
        for u in loop.iterates(HALF, upper, K):
            top = max(top, float(u.norm()))
    assert top <= 0.75 + 1e-12
    return float(upper(u))


@pytest.mark.parametrize("p", [0.0, 0.25, 0.5, 1.0])
@pytest.mark.parametrize(("alpha", "mu"), [(0.5, 0.5), (0.9, 0.2), (0.2, 0.8)])
def test_last_value_on_the_disc(p: float, alpha: float, mu: float) -> None:
    for K in (1, 5, 60, 240):
        for scale in (0.05, 1.0, 8.0):
            steps = [scale / (k + 1) ** p for k in range(1, K + 1)]
            assert lower_gap(steps, alpha, mu) >= bounds.memoryless_gap(steps, alpha, mu)


def geometric(K: int, w: Any) -> Any:
    """The sum of (1 + w)^i over i < K."""
    log = np.log1p(2 * w.real + abs(w) ** 2) / 2 + 1j * np.arctan2(w.imag, 1 + w.real)
    return np.expm1(K * log) / w


def constant(K: int, s: float, anchor: bool, w: Any) -> tuple[Any, Any, Any]:
    """A, C of u^K = A u^0 + eps exp(i psi) C, and a bound on C on the way; alpha = mu = 1/2."""
    q, top = geometric(K, w), 0.5 * s * np.minimum(K, 2 / abs(w))
    if anchor:
        top = np.minimum(top, 0.25 * s * (K + 1))
        C = -0.5 * s * ((1 + w) * q - K) / w / (K + 1)
        return geometric(K + 1, w) / (K + 1), C, top
    return 1 + w * q, -0.5 * s * q, top


def falling(K: int, p: float, w: Any) -> tuple[Any, Any, Any]:
    """The same for Algorithm 1 with s_k = (k+1)^-p: first step by step, then 16 at a time."""
    f, C, top = 1 + w, 0 * w, abs(0 * w)
    steps, first = (np.arange(1, K + 1) + 1.0) ** -p, min(K, 16 * int(math.sqrt(K)))
    for s in steps[:first]:
        C = f * C - 0.5 * s
        top = np.maximum(top, abs(C))
    for row in steps[first:].reshape(-1, 16):
        top = np.maximum(top, abs(C) + 0.5 * row.sum())
        C = f**16 * C - 0.5 * row @ f ** np.arange(15, -1, -1)[:, None]
    return 1 + w * geometric(K, w), C, top


def values(parts: tuple[Any, Any, Any]) -> tuple[Any, Any, Any]:
    """The largest gap over eps and psi that keeps every iterate in the disc, and where it is."""
    A, C, top = parts
    best = abs(A) / 4 / np.maximum(-C.real, 1e-300)
    eps = np.minimum(np.minimum(1, 0.5 / top), np.where(C.real < 0, best, np.inf))
    return eps * abs(A) / 2 + eps**2 * C.real, eps, np.angle(A)


def move(K: int, low: float, high: float) -> tuple[Any, Any]:
    """Angles around |1 - exp(i theta)| = 2 / sqrt(K + 1), and nu (exp(i theta) - 1)."""
    root = np.linspace(low, high, int(300 + 2 * math.sqrt(K)))
    theta = 2 * np.arcsin(root / math.sqrt(K + 1))
    return theta, 0.25 * np.expm1(1j * theta)


@pytest.mark.parametrize("which", ["constant", "anchor", "power"])
def test_the_closed_forms_are_the_loop(which: str) -> None:
    """The gap of the package's own loop at the worst theta, eps and psi is the one computed."""
    K, p = 256, 0.25
    theta, w = move(K, 1e-4 if which == "anchor" else 0.4, 1.6)
    parts = falling(K, p, w) if which == "power" else constant(K, K**-p, which == "anchor", w)
    gap, eps, psi = values(parts)
    i = int(gap.argmax())
    steps: Any = bmo.schedule(1.0, p=p) if which == "power" else K**-p
    kind = bmo.AnchoredInner if which == "anchor" else bmo.Inner
    y = float(4 * np.sin(theta[i] / 2) ** 2)
    loop, upper = disc(y, steps, kind, 0.5, 0.5), linear(float(eps[i]), float(psi[i]))
    assert float(upper(final(loop, HALF, upper, K))) == pytest.approx(float(gap[i]), rel=1e-6)


@pytest.mark.parametrize("p", [0.0, 0.25, 0.5])
@pytest.mark.parametrize("anchor", [False, True])
def test_slopes_of_the_value(p: float, anchor: bool) -> None:
    """1/2 - p for Algorithm 1, 1 - p for BMO-H, with s = K^-p; theta, eps and psi move with K."""
    rows = []
    for K in (4**7, 4**8, 4**9):
        _, w = move(K, 1e-3 if anchor else 0.3, 1.6)
        rows.append(float(values(constant(K, K**-p, anchor, w))[0].max()))
    for early, late in zip(rows, rows[1:], strict=False):
        want = 1 - p if anchor else 0.5 - p
        assert math.log(early / late, 4) == pytest.approx(want, abs=0.001 if anchor else 0.003)


@pytest.mark.parametrize("p", [0.25, 0.5, 0.75])
def test_slopes_of_power_schedules(p: float) -> None:
    """1/gap is nearly a + b K^((1-p)/2): its increments have that exponent, the gap not yet."""
    rows = [float(values(falling(K, p, move(K, 0.4, 1.6)[1]))[0].max()) for K in (4**6, 4**7, 4**8)]
    rise = [1 / b - 1 / a for a, b in zip(rows, rows[1:], strict=False)]
    assert math.log(rise[1] / rise[0], 4) == pytest.approx((1 - p) / 2, abs=0.008)
    assert math.log(rows[1] / rows[2], 4) > (1 - p) / 2 + 0.002


def test_slope_of_the_uniform_residual() -> None:
    """Algorithm 1 on the rotations, the angles moving with K: one half."""
    rows = []
    for K in (1000, 4000, 16000):
        theta, w = move(K, 0.3, 4.0)
        size = np.sqrt(1 + 2 * w.real + abs(w) ** 2)  # of 1 - nu + nu exp(i theta)
        rows.append(float((0.5 * 2 * np.sin(theta / 2) * size**K).max()))
        best = bounds.memoryless_residual(K)
        assert rows[-1] >= 0.5 * best
    for early, late in zip(rows, rows[1:], strict=False):
        assert math.log(early / late, 4) == pytest.approx(0.5, abs=0.002)


@pytest.mark.parametrize("p", [0.0, 1 / 3, 1.0])
def test_residual_and_value(p: float) -> None:
    """The third coordinate and the disc by hand; with constant steps the bound for both."""
    alpha, mu, R = 0.6, 0.4, {}
    nu = (1 - mu) * alpha
    for K in (1, 20, 300):
        R[K] = turn(4 / (K + 1))
        for scale in (0.02, 0.3, 2.0):
            steps = [scale / (k + 1) ** p for k in range(1, K + 1)]
            third, x = 0.0, HALF
            for s in steps:
                third = min(1.0, (1 - nu) * third + mu * s)
                x = (1 - nu) * x + nu * (x @ R[K])
            residual = alpha * max(third, float((x - x @ R[K]).norm()))
            assert residual >= bounds.memoryless_drift(K, steps[-1], alpha, mu) * (1 - 1e-12)
            if p == 0:
                gap = lower_gap(steps, alpha, mu)
                assert max(residual, gap) >= bounds.memoryless_both(K, alpha, mu)


def anchored_on_a_line(K: int, s: float) -> float:
    """u^K of BMO-H for D = 0, l = -u, alpha = mu = 1/2, from 0: (k+1) u^k is a geometric sum."""
    q = 0.75
    return 0.5 * s * (K - q * (1 - q**K) / (1 - q)) / (1 - q) / (K + 1)


@pytest.mark.parametrize("p", [0.5, 0.75])
def test_rates_with_known_length(p: float) -> None:
    """The loop on a line and the disc within the bounds; closed forms for the slopes p, 1 - p."""
    for K in (16, 128):
        s, residual, gap = K**-p, 0.0, -math.inf
        for scale in (1e-8, 0.1, 1.0, 10.0):
            y, eps = min(4.0, 4 * scale / (K + 1)), min(1.0, 0.5 / (0.5 * s * K))
            loop, upper = disc(y, s, bmo.AnchoredInner, 0.5, 0.5), linear(eps, 0.0)
            u = final(loop, HALF, upper, K)
            residual = max(residual, float(loop.training_map.residual(u)))
            gap = max(gap, float(upper(u)))
        line = bmo.AnchoredInner(
            bmo.GKM(bmo.operators.Lambda(lambda u: 0 * u, EYE), 0.5), 0.5, s, bmo.sets.Box(-1, 1)
        )
        u = final(line, torch.zeros(1), lambda u: -u.sum(-1), K)
        assert float(u) == pytest.approx(anchored_on_a_line(K, s), rel=1e-10)
        residual = max(residual, float(line.training_map.residual(u)))
        assert residual <= bounds.anchored_residual(K, s, mu=0.5, diameter=2.0, slope=1.0)
        assert gap <= bounds.anchored_gap(K, s, mu=0.5, distance=0.5, slope=1.0)
    rows = []
    for K in (4**8, 4**9):
        theta, w = move(K, 1e-3, 40.0)
        parts = constant(K, K**-p, True, w)
        turned = float((0.5 * np.sin(theta / 2) * abs(parts[0])).max())  # alpha |1 - e| |A| / 2
        residual = max(turned, 0.5 * anchored_on_a_line(K, K**-p))
        rows.append((residual, float(values(parts)[0].max())))
    slopes = [math.log(a / b, 4) for a, b in zip(*rows, strict=True)]
    assert slopes == pytest.approx([p, 1 - p], abs=0.002)


@ALL
def test_blocks(family: str) -> None:
    """Blocks of 2^i steps, each anchored at its start: the bound at every block end."""
    for seed in range(12):
        q = random_instance(family, seed)
        w, p = q.start, (0.5, 0.75)[seed % 2]
        for i in range(5):
            n = 2**i
            s = 2 / q.lipschitz * n**-p
            loop = bmo.AnchoredInner(q.training, q.mu, s, q.domain)
            w = final(loop, w, q.upper, n)
            have: dict[str, Any] = {"mu": q.mu, "slope": q.slope}
            right = bounds.anchored_residual(n, s, diameter=q.diameter, **have)
            assert float(q.training.residual(w)) <= right
            gap = float(q.upper(w)) - q.value
            assert gap <= bounds.anchored_gap(n, s, distance=q.diameter, **have)


def test_quantitative_theorem() -> None:
    """D = (1 - w) u + w^2 on [1/4, 1]: kappa = 1/(alpha w) <= 8 there; minimum 0.1 at 0.6."""
    omega = torch.linspace(0.25, 1, 3001)[:, None]
    mu = alpha = 0.5

    def upper(u: Tensor) -> Tensor:
        return (0.5 * (u - 1) ** 2 + 2 * (omega - 0.5) ** 2).sum(-1)

    D = bmo.operators.Lambda(lambda u: (1 - omega) * u + omega**2, EYE)
    phi = 0.5 * (omega - 1) ** 2 + 2 * (omega - 0.5) ** 2
    errors = []
    for K in (16, 256, 4096):
        s = K**-0.5
        loop = bmo.AnchoredInner(bmo.GKM(D, alpha), mu, s, bmo.sets.Box(-1.0, 1.0))
        found = upper(final(loop, torch.zeros_like(omega), upper, K))
        above = bounds.anchored_gap(K, s, mu=mu, distance=2.0, slope=2.0)
        right = bounds.anchored_residual(K, s, mu=mu, diameter=2.0, slope=2.0)
        below = bounds.gap_below(2.0, 8.0, right)
        assert float((found - phi[:, 0]).max()) <= above
        assert float((phi[:, 0] - found).max()) <= below
        errors.append(float(phi[int(found.argmin())]) - 0.1)
        assert -1e-9 <= errors[-1] <= above + below + 1e-6
    assert errors[2] < errors[1] < errors[0] and errors[2] < 1e-3


def test_the_product_is_not_smaller() -> None:
    """The product of residual and gap on the disc and a line stays above a multiple of 1/K."""
    for K in (16, 64, 256):
        for p in (0.1, 0.5, 0.9):
            s = K**-p
            residual, gap = 0.25 * s * K / (K + 1), 0.25 / (s * K)
            loop, upper = disc(1e-8 / K**2, s, bmo.AnchoredInner, 0.5, 0.5), linear(1 / (s * K), 0)
            measured = float(upper(final(loop, HALF, upper, K)))
            assert measured == pytest.approx(gap, rel=1e-2)
            third = 0.0
            for k in range(1, K + 1):
                third = k / (k + 1) * min(1.0, 0.75 * third + 0.5 * s)
            assert 0.5 * third >= residual
            assert K * 0.5 * third * measured > 0.05


def test_no_logarithm_is_seen() -> None:
    """sqrt(K) times the gap, largest over rho, does not grow on the second instance of EB."""
    seen: dict[int, float] = {}
    for rho in (2, 4, 8, 16):
        u, s = 1.0, 2**0.5 / (2 * rho)
        for k in range(1, 20_001):
            u -= 0.5 * s / math.sqrt(k + 1) * u ** (2 * rho - 1)
            if k in (200, 2000, 20_000):
                seen[k] = max(seen.get(k, 0.0), math.sqrt(k) * u ** (2 * rho) / (2 * rho))
    assert seen[20_000] <= seen[2000] <= seen[200]


def test_contractive_case() -> None:
    """D = u/2: the anchor leaves an error of order 1/K, plain training a power of 3/4."""
    D = bmo.operators.Lambda(lambda u: 0.5 * u, EYE)

    def upper(u: Tensor) -> Tensor:
        return 0 * u.sum(-1)

    for K in (10, 100):
        plain = bmo.Inner(bmo.GKM(D, 0.5), 0.0, 1.0)
        held = bmo.AnchoredInner(bmo.GKM(D, 0.5), 0.0, 1.0)
        start = torch.ones(1)
        assert float(final(plain, start, upper, K)) == pytest.approx(0.75**K, rel=1e-12)
        assert 1 / (K + 1) <= float(final(held, start, upper, K)) <= 4 / (K + 1)
