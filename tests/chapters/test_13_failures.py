"""Chapter 13: one test for each item, against numbers computed by hand."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import bmo
from bmo.errors import DomainError, ScheduleError
from bmo.problems import toy

PLANE = bmo.metric.Identity()
BOX = bmo.sets.Box(-1.0, 1.0)
GOOD = bmo.schedule(0.5, p=0.5)
Step = Callable[[Tensor], Tensor]


def half(u: Tensor) -> Tensor:
    return 0.5 * (u - 1).square().sum(-1)


def loop(step: Step, mu: float = 0.5, steps: object = GOOD, domain: object = BOX) -> bmo.Inner:
    T = bmo.GKM(bmo.operators.Lambda(step, PLANE), 0.5)
    return bmo.Inner(T, mu=mu, steps=steps, domain=domain)  # type: ignore[arg-type]


def end(inner: bmo.Inner, start: Tensor, upper: Step, iterations: int) -> Tensor:
    with torch.no_grad():
        return inner(start, upper, iterations)


def train(step: Step, start: Tensor, iterations: int, alpha: float = 0.5) -> list[Tensor]:
    T = bmo.GKM(bmo.operators.Lambda(step, PLANE), alpha, check=False)
    path = [start]
    for _ in range(iterations):
        path.append(T(path[-1]))
    return path


def test_no_damping() -> None:
    """Item 1."""
    path = train(lambda u: -u, torch.ones(1), 9, alpha=1.0)
    assert [float(u) for u in path] == [(-1.0) ** k for k in range(10)]
    for alpha in (0.1, 0.5, 0.9):
        last = train(lambda u: -u, torch.ones(1), 9, alpha=alpha)[-1]
        assert float(last) == pytest.approx((1 - 2 * alpha) ** 9, rel=1e-12, abs=1e-15)
    with pytest.raises(DomainError):
        bmo.GKM(bmo.operators.Lambda(lambda u: -u, PLANE), 1.0)


def rotation(q: float, angle: float) -> Step:
    c, s = q * math.cos(angle), q * math.sin(angle)
    R = torch.tensor([[c, -s], [s, c]])
    return lambda u: u @ R.mT


def test_expansive_maps() -> None:
    """Item 2, and the threshold of the exercise."""
    start = torch.tensor([0.6, -0.8])
    factor = abs(0.5 + 0.55 * complex(math.cos(0.2), math.sin(0.2)))
    assert factor**2 > 1.09
    grown = float(train(rotation(1.1, 0.2), start, 200)[-1].norm())
    assert grown == pytest.approx(factor**200, rel=1e-10) and grown > 6000
    assert float(train(lambda u: -1.1 * u, start, 5)[-1].norm()) == pytest.approx(0.05**5, rel=1e-9)
    path = torch.cat(train(lambda u: u + 0.1 * u * (1 - u), torch.tensor([1e-3]), 400))
    assert bool((path.diff() > 0).all()) and float(path[-1]) == pytest.approx(1, abs=1e-4)
    for fixed in (0.0, 1.0):
        assert float(train(lambda u: u + 0.1 * u * (1 - u), torch.tensor([fixed]), 3)[-1]) == fixed
    for q, angle in ((1.1, math.pi), (1.3, 2.0), (1.05, 0.9)):
        c = math.cos(angle)
        edge = 2 * (1 - q * c) / (1 + q * q - 2 * q * c)
        for alpha, smaller in ((edge - 1e-3, True), (edge + 1e-3, False)):
            once = train(rotation(q, angle), start, 1, alpha)[-1]
            assert (float(once.norm()) < 1) is smaller


@pytest.mark.parametrize("s", [0.125, 0.5, 1.0])
@pytest.mark.parametrize("mu", [0.2, 0.5])
def test_constant_steps(s: float, mu: float) -> None:
    """Item 3."""
    case = toy.constant_step()
    inner = bmo.Inner(case.training(0.5), mu=mu, steps=s, domain=case.domain)
    assert case.upper is not None
    rest = float(end(inner, case.start, case.upper, 600))
    assert rest == pytest.approx(mu * s / ((1 - mu) * 0.5 + mu * s), rel=1e-10)
    assert rest > 0.05 and float(case.solution) == 0


def test_summable_steps() -> None:
    """Item 4; Euler's product gives the limit."""
    z = math.sqrt(0.5)
    limit = 1 - 2 * math.sin(math.pi * z) / (math.pi * z)
    assert limit == pytest.approx(0.2836, abs=5e-5)
    K = 2000
    inner = loop(lambda u: u, steps=lambda k: 1 / (k + 1) ** 2)
    short = float(end(inner, torch.zeros(1), half, K))
    assert 0 < limit - short < 1 / K  # the rest of the sum is below 1 / K
    assert float(end(loop(lambda u: u), torch.zeros(1), half, K)) > 0.999
    with pytest.raises(ScheduleError):
        bmo.schedule(1.0, p=2.0)


H = torch.tensor([[2.0, 1.0], [1.0, 2.0]], dtype=torch.float64)
GOAL = torch.tensor([0.0, 1.0], dtype=torch.float64)


def other_metric(T: Step, start: Tensor, direction: Tensor, cut: Step, s: float) -> Tensor:
    """The end of the loop written out, with the upper direction ``direction @ gradient``."""
    u = start
    for _ in range(4000):
        v = u - s * direction @ (u - GOAL)
        u = cut(0.5 * v + 0.5 * T(u))
    return u


@pytest.mark.parametrize("s", [0.5, 0.1, 0.03])
def test_wrong_gradient(s: float) -> None:
    """Item 5: where the loop rests with a constant s, solved by hand; let s tend to 0."""
    case = toy.wrong_metric()
    assert case.upper is not None
    inner = bmo.Inner(case.training(0.5), mu=0.5, steps=s)
    right = end(inner, case.start, case.upper, 4000)
    wrong = other_metric(case.training(0.5), case.start, torch.eye(2).double(), lambda v: v, s)
    assert torch.allclose(right, torch.tensor([0.0, 4 * s / (3 + 4 * s)]), atol=1e-9)
    assert torch.allclose(wrong, torch.tensor([1.0, 4 * s]) / (2 + 4 * s), atol=1e-9)
    assert torch.equal(case.solution, torch.zeros(2))


def test_wrong_projection() -> None:
    """Item 6; the H-projection on u_2 <= 0 by hand: add a multiple of (-1/2, 1)."""
    case = toy.wrong_projection()
    assert case.upper is not None

    def plain(v: Tensor) -> Tensor:
        return torch.stack([v[0], v[1].clamp(max=0.0)])

    def in_H(v: Tensor) -> Tensor:
        return v - v[1].clamp(min=0.0) * torch.tensor([-0.5, 1.0])

    T, start = case.training(0.5), case.start
    right = other_metric(T, start, torch.linalg.inv(H), in_H, 0.3)
    wrong = other_metric(T, start, torch.linalg.inv(H), plain, 0.3)
    assert float((right - case.solution).abs().max()) < 1e-9
    assert float((wrong - torch.tensor([-0.5, 0.0])).abs().max()) < 1e-9
    assert float(case.upper(right)) == pytest.approx(0.5)
    assert float(case.upper(wrong)) == pytest.approx(0.625)


def concave(u: Tensor) -> Tensor:
    return (-0.5 * u.square() + 0.1 * u).sum(-1)


def test_concave_upper_objective() -> None:
    """Item 7."""
    for start, stop, value in ((0.5, 1.0, -0.4), (0.11, 1.0, -0.4), (0.0, -1.0, -0.6)):
        last = end(loop(lambda u: u), torch.tensor([start]), concave, 500)
        assert float(last) == stop
        assert float(concave(last)) == pytest.approx(value, rel=1e-12)
    line = torch.linspace(-1, 1, 2001)[:, None]
    assert float(concave(line).min()) == pytest.approx(-0.6)


def test_the_residual_needs_no_convexity() -> None:
    """The exercise: D a rotation, a concave objective; r_{k+1} <= r_k + 2 mu s G, and r -> 0."""
    turn = rotation(1.0, 1.0)
    inner = loop(turn, steps=bmo.schedule(0.5), domain=bmo.sets.Ball(1.0))
    start = torch.tensor([0.6, 0.3])
    r = inner.run(start, lambda u: -0.5 * u.square().sum(-1), 2000).residuals
    growth = r.diff()
    steps = torch.tensor([0.5 / (k + 1) for k in range(1, 2001)])
    assert bool((growth <= 2 * 0.5 * steps + 1e-12).all())
    assert float(r[-1]) < 1e-2 < float(r[0])


def test_not_a_singleton() -> None:
    """Item 8: with mu = 0 the value is known in closed form, with its minimum at c / (1 + c^2)."""
    case = toy.singleton_failure()

    def value(w: float, mu: float, K: int) -> float:
        case.omega.data.fill_(w)
        inner = bmo.Inner(case.training(0.5), mu=mu, steps=GOOD, domain=case.domain)
        return float(case.upper(end(inner, case.start, case.upper, K)).detach())

    for K in (5, 40):
        c = 1 - 0.5**K
        for w in (0.0, 0.5, 1.0, 1.5):
            by_hand = 0.5 * w**2 + 0.5 * (c * w - 1) ** 2
            assert value(w, 0.0, K) == pytest.approx(by_hand, rel=1e-12)
    assert value(0.5, 0.0, 60) == pytest.approx(0.25, rel=1e-12)
    assert value(0.45, 0.0, 60) > 0.25 < value(0.55, 0.0, 60)
    assert value(1.0, 0.5, 300) < 1e-6 < value(0.9, 0.5, 300)


def test_jump() -> None:
    """Item 9: on every scale some omega is wrong by a quarter or more."""
    case = toy.discontinuous_value()
    w = torch.cat([torch.zeros(1), torch.logspace(-9, 0, 181)])[:, None]
    phi = torch.stack([case.value(x) for x in w]).flatten()
    assert phi[0] == 0 and bool((phi[1:] == 0.5).all())
    for K in (10, 100, 1000):
        got = half(end(loop(lambda u: (1 - w) * u), torch.zeros_like(w), half, K))
        assert float((got - phi).abs().max()) >= 0.25


@pytest.mark.parametrize(("K", "tol"), [(50, 0.03), (800, 0.003)])
def test_slopes(K: int, tol: float) -> None:
    """Item 10."""
    w = torch.tensor([K**-0.5], requires_grad=True)
    T = bmo.GKM(bmo.operators.Lambda(lambda u: (1 - 2 * w**2) * u, PLANE), 0.5)  # T = (1 - w^2) u
    (slope,) = torch.autograd.grad(half(bmo.Inner(T, mu=0.0)(torch.ones(1), half, K)), w)
    q = 1 - 1 / K
    assert float(slope) == pytest.approx(2 * K**0.5 * q ** (K - 1) * (1 - q**K), rel=1e-10)
    assert float(slope) / K**0.5 == pytest.approx(2 / math.e * (1 - 1 / math.e), rel=tol)


@pytest.mark.parametrize("K", [1, 7, 100])
def test_no_common_error_bound(K: int) -> None:
    """Item 11."""
    w = torch.cat([torch.logspace(-8, 0, 800), torch.tensor([2 / (K + 1)])])[:, None]
    T = bmo.GKM(bmo.operators.Lambda(lambda u: (1 - w) * u, PLANE), 0.5)
    u = torch.ones_like(w)
    for _ in range(K):
        u = T(u)
    r = T.residual(u)
    assert torch.allclose(r * (2 / w[:, 0]), u[:, 0], rtol=1e-7)  # kappa = 1 / (alpha omega)
    assert float(r.max()) <= 1 / (K + 1)
    assert float(r.max()) == pytest.approx(K**K / (K + 1) ** (K + 1), rel=1e-9)
    assert math.exp(-1) <= float(u[-1]) < float(u.max()) <= 1
    tiny = torch.tensor([1e-12])
    joint = float(end(loop(lambda u: (1 - tiny) * u), torch.zeros(1), half, 50 * K))
    product = math.prod(1 - 0.25 / math.sqrt(k + 1) for k in range(1, 50 * K + 1))
    assert joint == pytest.approx(1 - product, rel=1e-8)
    assert joint > 0.9


@pytest.mark.parametrize("p", [0.3, 0.5, 0.7])
def test_exponents(p: float) -> None:
    """Item 12, rho = 4: the worse of the two exponents stays below rho / (2 rho - 1)."""
    x, y, s, seen = 0.0, 1.0, 2**p / 8, {}
    for k in range(1, 40_001):
        step = s / (k + 1) ** p
        x, y = min(1.0, 0.75 * x + 0.5 * step), y - 0.5 * step * y**7
        if k in (10_000, 40_000):
            seen[k] = (x, y**8 / 8)
    first, second = (math.log(seen[10_000][i] / seen[40_000][i]) / math.log(4) for i in (0, 1))
    assert first == pytest.approx(p, rel=0.01)
    assert second == pytest.approx((1 - p) * 4 / 3, rel=0.04)
    assert min(first, second) < 4 / 7


@pytest.mark.parametrize("mu", [0.0, 0.5])
def test_lasso_zeros(mu: float) -> None:
    """Item 13, with A = I: u* is the soft threshold of b, and D = S(b) for the full step."""
    b = torch.tensor([1.5, 0.05, -0.02, -1.0])
    star = torch.tensor([1.4, 0.0, 0.0, -0.9])
    D = bmo.ProximalGradient(bmo.LeastSquares(torch.eye(4), b), bmo.prox.L1(0.1), step=1.0)
    inner = bmo.Inner(
        bmo.GKM(D, 0.5), mu=mu, steps=bmo.schedule(0.5), domain=bmo.sets.Box(-5.0, 5.0)
    )
    u = end(inner, torch.ones(4), lambda u: 0.5 * (u - 0.5).square().sum(-1), 40)
    assert torch.allclose(D(u).detach(), star, atol=1e-12)
    assert bool((D(u)[1:3] == 0).all()) and bool((u[1:3] != 0).all())
    if mu == 0:
        assert torch.allclose(u[1:3], torch.full((2,), 0.5**40), rtol=1e-12)
    else:  # u_i / s_k tends to -mu g_i / ((1 - mu) alpha) = 1
        late = end(inner, torch.ones(4), lambda u: 0.5 * (u - 0.5).square().sum(-1), 3000)
        assert torch.allclose(late[1:3] * 3001 / 0.5, torch.ones(2), rtol=5e-3)
