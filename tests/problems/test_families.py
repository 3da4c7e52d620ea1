"""The random problems of chapter 7: their solutions, and the constants that they claim."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.linalg import eigh
from scipy.optimize import brentq

import bmo
from bmo.errors import DomainError, MetricError
from bmo.operators import Operator
from bmo.problems.families import FAMILIES, SIZES, Instance, least_in_ball, random_instance
from bmo.problems.family_steps import MAKERS
from bmo.problems.family_values import possible_descent

CASES = [(f, seed, regular) for f in FAMILIES for seed in range(6) for regular in (False, True)]


def size(seed: int) -> int:
    """The last seed has 200 primal variables."""
    return 200 if seed == 5 else 6


def points(q: Instance, count: int = 200, seed: int = 0) -> torch.Tensor:
    """Random points of U, half of them on its boundary."""
    g = torch.Generator().manual_seed(seed)
    H = q.training.metric
    w = torch.randn(count, len(q.start), generator=g, dtype=torch.float64)
    radius = torch.rand(count, generator=g, dtype=torch.float64)
    radius[::2] = 1.0
    return q.domain.center + H.unfactor(w / w.norm(dim=-1, keepdim=True) * radius[:, None]) * (
        q.diameter / 2
    )


@pytest.mark.parametrize(("family", "seed", "regular"), CASES)
def test_the_training_map(family: str, seed: int, regular: bool) -> None:
    q = random_instance(family, seed, n=size(seed), regular=regular)
    T, H, u = q.training, q.training.metric, points(q)
    v = u.flip(0)
    assert bool(q.domain.contains(u, 1e-9).all() and q.domain.contains(T(u), 1e-9).all())
    kappa = (1 - T.alpha) / T.alpha
    left = H.norm(T(u) - T(v)) ** 2 + kappa * H.norm((u - T(u)) - (v - T(v))) ** 2
    assert bool((left <= H.norm(u - v) ** 2 + 1e-9).all())  # T is alpha-averaged on U


@pytest.mark.parametrize(("family", "seed", "regular"), CASES)
def test_the_constants(family: str, seed: int, regular: bool) -> None:
    q = random_instance(family, seed, n=size(seed), regular=regular)
    H, u = q.training.metric, points(q)
    v, g, value = u.roll(1, 0), H.solve(q.upper.gradient(u)), q.upper(u)
    assert float(H.norm(g).max()) <= q.slope
    assert float(value.max() - value.min()) <= q.oscillation
    dg, w = g - g.roll(1, 0), u - v
    assert bool((H.norm(dg) <= q.lipschitz * H.norm(w) * (1 + 1e-9) + 1e-12).all())
    assert bool((H.inner(dg, w) >= q.strength * H.norm(w) ** 2 * (1 - 1e-9) - 1e-12).all())
    x = u.clone().requires_grad_()
    (auto,) = torch.autograd.grad(q.upper(x).sum(), x)
    assert torch.allclose(auto, q.upper.gradient(u), rtol=1e-10, atol=1e-10)
    if q.kappa is not None:
        far = q.distance(u)
        assert bool((far <= q.kappa * q.training.residual(u) * (1 + 1e-9)).all())


@pytest.mark.parametrize(("family", "seed", "regular"), CASES)
def test_the_solution_meets_its_optimality_conditions(
    family: str, seed: int, regular: bool
) -> None:
    """No feasible direction of S descends: checked against many points of S in U."""
    q = random_instance(family, seed, n=size(seed), regular=regular)
    H, T = q.training.metric, q.training
    assert float(T.residual(q.best)) < 1e-9 and bool(q.domain.contains(q.best, 1e-9))
    assert float(q.upper(q.best)) == pytest.approx(q.value, rel=1e-9, abs=1e-10)
    assert abs(q.value_error) < 1e-10
    # points of S: the best one, moved along S, as far as they stay in U
    n = size(seed)
    rng = np.random.default_rng([seed, n, FAMILIES.index(family)])
    V = torch.from_numpy(MAKERS[family](rng, n, 0 if regular else n // 3)[2])
    t = torch.randn(400, V.shape[1], generator=torch.Generator().manual_seed(1)).double()
    others = q.best + 10.0 ** torch.linspace(-6, 0, 400)[:, None].double() * (t @ V.mT)
    others = others[q.domain.contains(others, 0.0)]
    assert float(T.residual(others).max()) < 1e-8
    assert len(others) > 20
    slopes = (others - q.best) @ q.upper.gradient(q.best)
    assert bool((slopes >= -1e-8 * (1 + H.norm(others - q.best))).all())
    assert float(q.upper(others).min()) >= q.value - 1e-8


def second_value(q: Instance, D: Operator, point: torch.Tensor) -> float:
    """The least value again: the fixed set from the Jacobian of D, the ball by a multiplier."""
    J = torch.autograd.functional.jacobian(D, point, vectorize=True).numpy()
    _, sigma, Wt = np.linalg.svd(np.eye(len(J)) - J)
    assert not ((sigma > 1e-9) & (sigma < 1e-5)).any()  # the kernel is beyond doubt
    N, p = Wt[sigma < 1e-9].T, point.numpy()
    H = q.training.metric.matrix((len(p),), like=point).numpy()
    B, d, c = q.upper.B.numpy(), q.upper.d.numpy(), q.domain.center.numpy()
    z = np.linalg.solve(N.T @ H @ N, N.T @ H @ (c - p))
    foot = p + N @ z
    radius = float(np.sqrt(q.domain.radius**2 - (foot - c) @ H @ (foot - c)))
    lam, W = eigh(N.T @ B.T @ B @ N, N.T @ H @ N)
    pull = W.T @ N.T @ B.T @ (d - B @ foot)
    lam, W, pull = (x[..., lam > 1e-10 * max(lam.max(), 1e-3)] for x in (lam, W, pull))

    def excess(weight: float) -> float:
        return float(np.linalg.norm(pull / (lam + weight))) - radius

    high = float(np.linalg.norm(pull)) / radius
    weight = brentq(excess, 0, high, xtol=1e-15, rtol=1e-14) if excess(0.0) > 0 else 0.0
    best = foot + N @ W @ (pull / (lam + weight))
    return 0.5 * float(np.sum((B @ best - d) ** 2))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_value_by_a_second_solver(family: str) -> None:
    """Both solvers agree to 1e-8 up to n = 200, and the certificate of convexity says so too."""
    worst = 0.0
    for seed, n in enumerate(SIZES):
        regular = seed % 3 == 2
        q = random_instance(family, seed, n=n, regular=regular)
        rng = np.random.default_rng([seed, n, FAMILIES.index(family)])
        D, point, V = MAKERS[family](rng, n, 0 if regular else max(1, n // 3))
        assert len(q.start) == len(point) <= 2 * n + 2 and V.shape[1] >= 1
        error = abs(second_value(q, D, torch.from_numpy(point)) - q.value)
        assert 0 <= max(q.value_error, 0.0) < 1e-8 and error < 1e-8 * max(1.0, q.value)
        worst = max(worst, error, q.value_error)
    print(f"{family}: largest error of phi {worst:.1e}")


def test_possible_descent() -> None:
    """Against many points of a ball, and against a value that is not the least one."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        B, d, c = rng.normal(size=(4, 3)), rng.normal(size=4), rng.normal(size=3)
        others = rng.normal(size=(4000, 3))
        others = c + 0.7 * others / np.linalg.norm(others, axis=1)[:, None]
        t = others[0]
        g = B.T @ (B @ t - d)
        bound = possible_descent(g, t, c, 0.7)
        assert bound == pytest.approx(float(((t - others) @ g).max()), rel=0.01)
        best = least_in_ball(B, d, c, 0.7)
        fall = 0.5 * float(np.sum((B @ t - d) ** 2) - np.sum((B @ best - d) ** 2))
        assert 1e-8 < fall <= bound


def test_least_squares_in_a_ball() -> None:
    """Against projected gradient descent."""
    for seed in range(10):
        rng = np.random.default_rng(seed)
        B, d, c = rng.normal(size=(4, 3)), 3 * rng.normal(size=4), rng.normal(size=3)
        got, t = least_in_ball(B, d, c, 0.7), c.copy()
        for _ in range(1500):
            t = t - B.T @ (B @ t - d) / np.linalg.norm(B, 2) ** 2
            t = c + (t - c) * min(1.0, 0.7 / max(1e-300, float(np.linalg.norm(t - c))))
        np.testing.assert_allclose(got, t, atol=1e-8)


def test_what_is_refused() -> None:
    with pytest.raises(DomainError):
        random_instance("simplex", 0)
    with pytest.raises(DomainError):
        random_instance("PDHG", 0, n=2)
    q = random_instance("PDHG", 0)
    with pytest.raises(MetricError):
        q.domain.project(q.start, bmo.metric.Identity())
    with pytest.raises(MetricError):
        q.domain.nearest(q.start)
