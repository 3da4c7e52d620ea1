"""The statements whose cells are in the notebook of chapter 15: one test for each."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

import bmo
from bmo import bounds
from bmo.problems.families import FAMILIES, random_instance

EYE = bmo.metric.Identity()


def rotation(angle: float) -> Tensor:
    c, s = math.cos(angle), math.sin(angle)
    return torch.tensor([[c, -s], [s, c]])


@pytest.mark.parametrize("angle", [0.01, 0.5, 1.5, 3.1])
def test_more_general(angle: float) -> None:
    """(a) fixed points are minimisers; (b) the field of a rotation does work, a gradient none."""
    R = rotation(angle)
    assert float(torch.linalg.matrix_norm(R, 2)) == pytest.approx(1.0, abs=1e-14)
    t = 2 * math.pi * torch.arange(4000) / 4000
    at, along = torch.stack([t.cos(), t.sin()]), torch.stack([-t.sin(), t.cos()])
    field, gradient = at - R @ at, torch.stack([at[0] * at[1] ** 2, at[0] ** 2 * at[1]])
    work = [float((f * along).sum()) * 2 * math.pi / 4000 for f in (field, gradient)]
    assert work[0] == pytest.approx(-2 * math.pi * math.sin(angle), rel=1e-10)
    assert abs(work[1]) < 1e-12
    draw = torch.Generator().manual_seed(int(100 * angle))
    A, b = torch.randn(9, 4, generator=draw), torch.randn(9, generator=draw)
    tau = 1.5 / float(torch.linalg.matrix_norm(A, 2)) ** 2
    lasso = bmo.ProximalGradient(bmo.LeastSquares(A, b), bmo.prox.L1(0.3), step=tau)
    x = bmo.GKM(lasso, alpha=0.9).iterate(torch.zeros(4), 4000).value

    def value(u: Tensor) -> Tensor:
        return 0.5 * (u @ A.mT - b).square().sum(-1) + 0.3 * u.abs().sum(-1)

    near = x + 10.0 ** -torch.arange(7.0).repeat(300)[:, None] * torch.randn(
        2100, 4, generator=draw
    )
    assert float((value(x) - value(near)).max()) <= 1e-12


def test_impossible_is_too_strong() -> None:
    """mu = 0 and a uniform contraction: omega and u both converge, from several starts."""
    for start in (-1.2, 0.2, 1.2):
        w = torch.tensor(start, requires_grad=True)
        for _ in range(300):
            u = torch.zeros(())
            for _ in range(60):
                u = 0.6 * u + 0.4 * w.sin()
            (slope,) = torch.autograd.grad(0.5 * (u - 0.5) ** 2, w)
            w = (w - 0.5 * slope).detach().requires_grad_()
        assert float(w.detach()) == pytest.approx(math.pi / 6, abs=1e-9)
        assert float(u.detach()) == pytest.approx(0.5, abs=1e-9)


@pytest.mark.parametrize("mu", [0.2, 0.5])
def test_undamped_training(mu: float) -> None:
    """alpha = 1: a reflection cycles alone; with mu in (0, 1) and small steps it converges."""
    flip = bmo.GKM(bmo.operators.Lambda(lambda u: -u, EYE), 1.0, check=False)
    assert float(flip.iterate(torch.ones(1), 401, throw=False).value.abs()) == 1.0
    loop = bmo.Inner(flip, mu, bmo.schedule(0.1), bmo.sets.Box(-1.0, 1.0))
    u = loop(torch.ones(1), lambda u: 0.5 * (u - 1).square().sum(-1), 4000)
    assert float(u.detach().abs()) < 1e-3


def test_piecewise_affine_training() -> None:
    """The lasso with two equal columns: the quotient is bounded; for u - u^3/4 it is not."""
    twin = bmo.ProximalGradient(
        bmo.LeastSquares(torch.ones(1, 2), torch.ones(1)), bmo.prox.L1(0.2), step=0.4
    )
    T = bmo.GKM(twin, alpha=0.5)
    draw = torch.Generator().manual_seed(1)
    first, last = torch.tensor([0.8, 0.0]), torch.tensor([0.0, 0.8])
    worst = []
    for size in (1e-1, 1e-3, 1e-5):
        t = (3 * torch.rand(60000, 1, generator=draw) - 1).clamp(0, 1)
        u = first + t * (last - first) + size * (2 * torch.rand(60000, 2, generator=draw) - 1)
        t = ((u - first) @ (last - first) / 1.28).clamp(0, 1)[:, None]
        distance = (u - first - t * (last - first)).norm(dim=-1)
        far = distance > 1e-3 * size
        worst.append(float((distance[far] / T.residual(u)[far]).max()))
    assert max(worst) < 3.5 and max(worst) / min(worst) < 1.05
    bent = bmo.GKM(bmo.operators.Lambda(lambda u: u - u**3 / 4, EYE), alpha=0.5)
    small = torch.tensor([[1e-1], [1e-3]])
    assert (small[:, 0] / bent.residual(small)).tolist() == pytest.approx([8e2, 8e6], rel=1e-6)


def test_regularised_objective() -> None:
    """phi rises, by at most sigma/2 times the squared diameter; an instance with equality."""
    draw = torch.Generator().manual_seed(2)
    for sigma in (0.01, 0.3, 5.0):
        for _ in range(20):
            ends = 2 * torch.rand(2, generator=draw) - 1  # S = [low, high] inside U = [-1, 1]
            S = torch.linspace(float(ends.min()), float(ends.max()), 501)
            start, slope = 2 * torch.rand(2, generator=draw) - 1
            plain = (S - slope).abs()
            rise = float((plain + sigma / 2 * (S - start) ** 2).min() - plain.min())
            assert -1e-15 <= rise <= sigma / 2 * 4
    assert 0.3 / 2 * (1.0 - (-1.0)) ** 2 == pytest.approx(0.6)  # S = {1}, u0 = -1


@pytest.mark.parametrize(("mu", "alpha"), [(0.3, 0.6), (0.7, 0.9), (0.5, 0.5)])
@pytest.mark.parametrize("K", [5, 50])
def test_exact_residual_of_the_rotations(mu: float, alpha: float, K: int) -> None:
    """The loop of the package over many angles; the maximum is the formula of the exercise."""
    nu = (1 - mu) * alpha
    assert 4 * nu * (1 - nu) * (K + 1) >= 1
    best = 1 / (nu * (1 - nu) * (K + 1))
    seen = []
    for y in (0.5 * best, 0.9 * best, best, min(4.0, 1.1 * best), min(4.0, 2 * best)):
        R = rotation(2 * math.asin(math.sqrt(y) / 2))
        T = bmo.GKM(bmo.operators.Lambda(lambda u, R=R: u @ R, EYE), alpha)
        loop = bmo.Inner(T, mu, bmo.schedule(1.0), bmo.sets.Ball(1.0))
        u = loop(torch.tensor([1.0, 0.0]), lambda u: 0 * u.sum(-1), K)
        seen.append(float(T.residual(u)) ** 2)
    exact = alpha / ((1 - mu) * (1 - nu)) * K**K / (K + 1) ** (K + 1)
    assert max(seen) == seen[2] == pytest.approx(exact, rel=1e-10)


def test_an_objective_that_acts_on_the_disc() -> None:
    """Slopes of the largest residual: one half without the term, clearly more with it."""
    y = torch.cat([torch.zeros(1), torch.logspace(-6, math.log10(4), 500)])
    turn = torch.complex(1 - y / 2, (y - y * y / 4).clamp_min(0).sqrt())
    slopes = {}
    for acting in (0.0, 0.1):
        x, seen = torch.ones_like(turn), {}
        for k in range(1, 2049):
            x = 0.25 * x + 0.25 * turn * x + 0.5 * (x - 4 / (k + 1) * acting)
            x = x / x.abs().clamp_min(1)
            seen[k] = float((x - turn * x).abs().max())
        slopes[acting] = math.log(seen[128] / seen[2048]) / math.log(16)
    assert slopes[0.0] == pytest.approx(0.5, abs=0.01)
    assert 0.6 < slopes[0.1] < 0.75


@torch.no_grad()
def free(q: Any, p: float, s: float, K: int) -> list[Tensor]:
    """The anchored loop without blocks, from its formula."""
    loop = bmo.Inner(q.training, q.mu, s, q.domain).prepared()
    path = [q.start]
    for k in range(1, K + 2):
        weight = k ** (-(1 + p) / 2)
        moved = loop.step(path[-1], s * k**-p, q.upper, loop.training_map.metric)
        path.append(weight * q.start + (1 - weight) * moved)
    return path


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("p", [0.0, 1 / 3, 0.6])
def test_an_anchor_without_blocks(family: str, p: float) -> None:
    """Moves, defects, residuals and gaps on random problems: every bound of the statement."""
    K = 24
    for seed in range(10):
        q = random_instance(family, seed)
        s, metric = 2 / q.lipschitz, q.training.metric
        path = free(q, p, s, K)
        loop = bmo.Inner(q.training, q.mu, s, q.domain).prepared()
        for k in range(K + 1):
            here, later = path[k], s * (k + 1) ** -p
            have = {"mu": q.mu, "slope": q.slope}
            right = bounds.free_anchor_move(k, s, p, diameter=q.diameter, **have)
            assert float(metric.norm(path[k + 1] - here)) <= right
            with torch.no_grad():
                defect = metric.norm(here - loop.step(here, later, q.upper, metric))
            E = right + q.diameter / (k + 1) ** ((1 + p) / 2)
            assert float(defect) <= E
            residual = float(q.training.residual(here))
            assert residual <= bounds.residual_from_step(E, step=later, **have)
            gap = float(q.upper(here)) - q.value
            assert gap <= bounds.upper_gap(E, q.diameter, step=later, **have) + 1e-9


def test_the_moves_of_the_anchor_have_the_order_of_the_bound() -> None:
    """A rotation keeps k^a times the move between two constants: the exponent a is right."""
    for p in (0.0, 1 / 3, 0.6):
        a, seen = (1 + p) / 2, {}
        for K in (64, 512):
            theta = 3 * K**-a
            w = [complex(1.0)]
            for k in range(1, K + 2):
                F = w[-1] * (0.75 + 0.25 * complex(math.cos(theta), math.sin(theta)))
                w.append(k**-a + (1 - k**-a) * F)
            seen[K] = K**a * abs(w[K + 1] - w[K])
            assert abs(w[K + 1] - w[K]) <= bounds.free_anchor_move(K, 1.0, p, 0.5, 2.0, 0.0)
        assert 0.2 < seen[512] / seen[64] < 3


class Curved:
    """T(u) = c + rho tanh(u - c), c = sin(w) v, in H = exp(w) diag(h): u* = c, p = 1."""

    h, v = torch.tensor([0.5, 1.0, 3.0]), torch.tensor([1.0, -0.5, 2.0])
    goal, rho, mu = torch.tensor([2.0, 0.0, -1.0]), 0.6, 0.4

    def step(self, u: Tensor, w: Tensor, s: float) -> Tensor:
        c = w.sin() * self.v
        g = (u - self.goal) / (w.exp() * self.h)
        return (1 - self.mu) * (c + self.rho * torch.tanh(u - c)) + self.mu * (u - s * g)

    def run(self, w: Tensor, s: float, K: int) -> list[Tensor]:
        path = [torch.zeros(3)]
        for k in range(1, K + 1):
            path.append((k * self.step(path[-1], w, s)) / (k + 1))
        return path

    def size(self, x: Tensor, w: float) -> float:
        return float((math.exp(w) * self.h * x * x).sum().sqrt())


@pytest.mark.parametrize("value", [-0.7, 0.4, 1.1])
def test_stationarity_with_an_anchor(value: float) -> None:
    """Point and derivative against the bounds, with a metric that moves; then the order."""
    case, q = Curved(), bounds.inner_contraction(Curved.rho, Curved.mu)
    limit = 2 * math.exp(value) * 0.5  # 2 lambda_lb / L_l
    star, J = math.sin(value) * case.v, math.cos(value) * case.v
    flat = torch.tensor(value)
    bend = 0.77 * case.rho / math.sqrt(math.exp(value) * 0.5)  # Lipschitz constant of tanh'
    errors = []
    for K in (4, 32, 256, 2048):
        s = min(limit, 1.0) * K**-0.5
        w = flat.clone().requires_grad_()
        path = case.run(w, s, K)
        slopes = [torch.autograd.grad(x, w, retain_graph=True)[0] for x in path[-1]]
        point, slope = path[-1].detach(), torch.stack(slopes)
        g = [(u.detach() - case.goal) / (math.exp(value) * case.h) for u in [*path, star]]
        steep, start = case.size(g[-1], value), case.size(star, value)
        lip = 1 / (math.exp(value) * 0.5)
        push = lip * case.size(J, value) + max(case.size(x, value) for x in g)
        common = {"q": q, "mu": case.mu, "start": start, "slope": steep}
        near = bounds.anchored_distance(K, s, **common)
        assert case.size(point - star, value) <= near
        assert case.size(slope - J, value) <= bounds.anchored_jacobian(
            K,
            s,
            start_jacobian=case.size(J, value),
            variation=2 * bend * case.size(J, value),
            push=push,
            **common,
        )
        errors.append(case.size(slope - J, value))
    assert errors[-1] < errors[-2] < errors[0]
    assert math.log(errors[-2] / errors[-1]) / math.log(8) == pytest.approx(0.45, abs=0.1)


def test_a_product_is_no_measure() -> None:
    """Nesterov's method on l alone: K times the product falls, the residual does not."""
    weights = torch.logspace(-6, 0, 50)
    seen = {}
    for K in (32, 128, 512):
        u = v = torch.zeros(50)
        for k in range(1, K + 1):
            old, u = u, v - weights * (v - 0.5)
            v = u + (k - 1) / (k + 2) * (u - old)
        gap, residual = 0.5 * float((weights * (u - 0.5) ** 2).sum()), float(u.norm())
        assert gap <= 2 * 50 * 0.25 / (K + 1) ** 2 and residual > 1
        seen[K] = K * gap * residual
    assert seen[512] < 0.5 * seen[128] < 0.25 * seen[32]
