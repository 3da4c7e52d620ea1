"""Chapter 8: one test for each numbered statement.

A smooth nonlinear map with a known fixed point, a metric that moves with omega, and dense
Jacobians by automatic differentiation: the recursions are written here once more.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import jacrev  # type: ignore[attr-defined]

import bmo
from bmo import bounds
from bmo.hypergradient import hypergradient
from bmo.problems import toy

N, P = 4, 2
Steps = list[float]


class Smooth:
    """T(u) = c + rho R^-1 O (s(R (u - c)) - s(0)), s softplus at a shift, R^2 = H, O orthogonal."""

    def __init__(self, seed: int, rho: float = 0.7) -> None:
        draw = torch.Generator().manual_seed(seed)
        self.rho = rho
        self.O, _ = torch.linalg.qr(torch.randn(N, N, generator=draw))
        self.c0, self.goal = torch.randn(2, N, generator=draw)
        self.c1, self.e = torch.randn(2, N, P, generator=draw)
        self.w = torch.rand(P, generator=draw) - 0.5
        self.slope = jacrev(self.upper)

    def metric(self, w: Tensor) -> Tensor:
        return torch.exp(0.5 * self.e @ w)

    def centre(self, w: Tensor) -> Tensor:
        return self.c0 + self.c1 @ w.sin()

    def train(self, u: Tensor, w: Tensor) -> Tensor:
        root, c = self.metric(w).sqrt(), self.centre(w)
        x = torch.nn.functional.softplus(root * (u - c) + 1.0) - math.log1p(math.e)
        return c + self.rho * (self.O @ x) / root

    def upper(self, u: Tensor, w: Tensor) -> Tensor:
        return 0.5 * (u - self.goal).square().sum() + 0.2 * u[0] * w[0]

    def direction(self, u: Tensor, w: Tensor, v: Tensor) -> Tensor:
        result: Tensor = self.slope(u, w) / self.metric(v)
        return result

    def step(self, u: Tensor, w: Tensor, v: Tensor, s: float, mu: float) -> Tensor:
        return (1 - mu) * self.train(u, w) + mu * (u - s * self.direction(u, w, v))

    def size(self, x: Tensor) -> float:
        return float((self.metric(self.w).sqrt() * x).norm())

    def stretch(self, J: Tensor) -> float:
        return float(torch.linalg.matrix_norm(self.metric(self.w).sqrt()[:, None] * J, 2))

    def operator_norm(self, A: Tensor) -> float:
        root = self.metric(self.w).sqrt()
        return float(torch.linalg.matrix_norm(root[:, None] * A / root, 2))

    def run(self, mu: float, steps: Steps, term: bool = True) -> list[tuple[Tensor, Tensor]]:
        """u^k and J_k for k = 0, 1, ...; ``term`` keeps the derivative of the metric."""
        u, J, w = torch.zeros(N), torch.zeros(N, P), self.w
        path = [(u, J)]
        for s in steps:
            A, B, extra = jacrev(self.step, argnums=(0, 1, 2))(u, w, w, s, mu)
            J = A @ J + B + (extra if term else 0)
            u = self.step(u, w, w, s, mu)
            path.append((u, J))
        return path

    def gradient(self, u: Tensor, J: Tensor) -> Tensor:
        z, cross = jacrev(self.upper, argnums=(0, 1))(u, self.w)
        result: Tensor = J.mT @ z + cross
        return result


def power(s: float, k: int, p: float = 1.0) -> Steps:
    return [s / (j + 1) ** p for j in range(1, k + 1)]


def limits(case: Smooth) -> tuple[Tensor, Tensor, Tensor]:
    """u*, J* and the gradient of phi, in closed form: u* is the centre."""
    star = case.centre(case.w)
    J: Tensor = jacrev(case.centre)(case.w)
    return star, J, case.gradient(star, J)


def constants(case: Smooth, path: list[tuple[Tensor, Tensor]]) -> tuple[float, float, float]:
    """Lambda, Lambda_omega and C along a run."""
    star, J, _ = limits(case)
    at = jacrev(case.train, argnums=(0, 1))
    M, B = at(star, case.w)
    du = dw = push = 0.0
    lip = 1 / float(case.metric(case.w).min())
    for u, _ in path:
        far = case.size(u - star)
        Mu, Bu = at(u, case.w)
        if far > 1e-6:
            du = max(du, case.operator_norm(Mu - M) / far)
            dw = max(dw, case.stretch(Bu - B) / far)
        one, two = jacrev(case.direction, argnums=(1, 2))(u, case.w, case.w)
        push = max(push, case.stretch(one + two))
    size = case.stretch(J)
    return du * size + dw, dw, lip * size + push


@pytest.mark.parametrize("q", [0.0, 0.3, 0.9, 0.99])
@pytest.mark.parametrize("p", [0.0, 0.5, 1.0])
def test_memory(q: float, p: float) -> None:
    s, lag, memory = 0.7, 0.0, 0.0
    for k, step in enumerate(power(s, 300, p), 1):
        lag, memory = q * lag + memory, q * memory + step  # lag: sum of q^(k-j) m_(j-1)
        direct = sum(q ** (k - j) * t for j, t in enumerate(power(s, k, p), 1))
        assert memory == pytest.approx(direct, rel=1e-12)
        assert bounds.step_memory(q, power(s, k, p)) == pytest.approx(memory, rel=1e-12)
        assert memory <= bounds.step_memory_limit(q, step) * (1 + 1e-12)
        assert lag <= 2 * step / (1 - q) ** 3 * (1 + 1e-12)
        assert q**k <= step / (s * (1 - q)) * (1 + 1e-12)
        assert k * q ** (k - 1) <= 2 * step / (s * (1 - q) ** 3) * (1 + 1e-12)
    steep = sum((1 + i) ** (p + 1) * q**i for i in range(3000))  # steps that fall faster than 1/k
    for k in (1, 7, 60):
        steps = power(s, k, p + 1)
        assert bounds.step_memory(q, steps) <= steep * steps[-1] * (1 + 1e-12)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("mu", [0.0, 0.5])
def test_theorem(seed: int, mu: float) -> None:
    case = Smooth(seed)
    star, J, truth = limits(case)
    assert case.size(case.train(star, case.w) - star) < 1e-14
    s1 = float(case.metric(case.w).min())  # s_1 = s/2 <= 2 lambda_lb / L_l, L_l = 1
    steps = power(s1, 80)
    path = case.run(mu, steps)
    lam, _, push = constants(case, path)
    q = bounds.inner_contraction(case.rho, mu)
    start, size = case.size(star), case.stretch(J)
    slope = case.size(case.direction(star, case.w, case.w))
    lip = 1 / float(case.metric(case.w).min())
    cross = 0.2 / float(case.metric(case.w)[0]) ** 0.5
    used = 0.0
    for k in (1, 2, 5, 10, 20, 40, 80):
        u, Jk = path[k]
        d = bounds.fixed_point_distance(start, q, mu, slope, steps[:k])
        D = bounds.jacobian_distance(size, start, q, mu, slope, steps[:k], lam, push)
        closed = bounds.jacobian_distance_limit(
            k, size, start, q, mu, slope, steps[k - 1], lam, push
        )
        error = float((case.gradient(u, Jk) - truth).norm())
        assert case.size(u - star) <= d * (1 + 1e-9) + 1e-13
        assert case.stretch(Jk - J) <= D * (1 + 1e-9) + 1e-13
        assert D <= closed * (1 + 1e-9)
        assert error <= bounds.hypergradient_distance(D, d, slope, size, lip, cross) + 1e-13
        used = max(used, case.size(u - star) / d)
    assert used > 0.05  # the bound is felt
    if mu:  # the first-order bias, an exercise
        M = jacrev(case.train)(star, case.w)
        g = case.direction(star, case.w, case.w)
        bias = -torch.linalg.solve(torch.eye(N) - M, g) * mu / (1 - mu)
        u = case.run(mu, power(s1, 600))[-1][0]
        assert float(((u - star) / (s1 / 601) - bias).norm() / bias.norm()) < 0.03


def ridge(mu: float, lengths: tuple[int, ...]) -> tuple[list[float], float]:
    """sup over a grid of |grad phi_K - grad phi| for learned ridge weights, and the largest rho.

    The metric diag(|A|^2 + exp(w)) moves with w. Recursions by hand, the truth by the package.
    """
    toy_ridge, draw = toy.quadratic(3, seed=1), torch.Generator().manual_seed(1)
    A, b = torch.randn(6, 3, generator=draw) / 6**0.5, torch.randn(6, generator=draw)
    goal, eye = toy_ridge.best(toy_ridge.best_omega), torch.eye(3)
    worst, rho = torch.zeros(len(lengths)), 0.0
    for w in torch.cartesian_prod(*3 * [torch.tensor([-1.0, 0.0, 1.0])]):
        h, Q = torch.linalg.matrix_norm(A, 2) ** 2 + w.exp(), A.mT @ A + torch.diag(w.exp())
        M = eye - 0.5 * Q / h[:, None]
        rho, truth = max(rho, float(torch.linalg.eigvals(M).abs().max())), toy_ridge.gradient(w)
        u, J = torch.zeros(3), torch.zeros(3, 3)
        for k in range(1, lengths[-1] + 1):
            s, down, g = 1 / (k + 1), (Q @ u - A.mT @ b) / h, (u - goal) / h
            push = -0.5 * (1 - mu) * (u - down) + mu * s * g  # of T, and of 1/h in g
            J = ((1 - mu) * M + mu * (eye - s * torch.diag(1 / h))) @ J
            J = J + torch.diag(w.exp() / h * push)
            u = (1 - mu) * (u - 0.5 * down) + mu * (u - s * g)
            if k in lengths:
                i = lengths.index(k)
                worst[i] = max(worst[i], (J.mT @ (u - goal) - truth).norm())
    return worst.tolist(), rho


def test_uniform_orders() -> None:
    """The largest error over omega is (a + b K) rho^K for mu = 0, and of order s_K for mu > 0."""
    errors, rho = ridge(0.0, (64, 96, 128))
    line = [e / rho**K for e, K in zip(errors, (64, 96, 128), strict=True)]
    rises = [b - a for a, b in zip(line, line[1:], strict=False)]
    assert rises[0] > 32e-4 / 2 and rises[1] / rises[0] == pytest.approx(1.0, abs=0.03)
    errors, _ = ridge(0.5, (256, 512))
    assert math.log2(errors[0] / errors[1]) == pytest.approx(1.0, abs=0.02)


def test_the_factor_k_is_attained() -> None:
    w = torch.tensor(0.8, requires_grad=True)
    u = torch.zeros(())
    for _ in range(30):
        u = w * u + 1 - w
    (J,) = torch.autograd.grad(u, w)
    roof = bounds.jacobian_distance(0.0, 1.0, 0.8, 0.0, 0.0, [1.0] * 30, 1.0, 0.0)
    assert abs(float(J)) == pytest.approx(roof, rel=1e-12)


def test_derivative_of_the_metric() -> None:
    problem = toy.quadratic(3, seed=1)
    problem.omega.data.copy_(torch.tensor([1.0, -0.5, -1.0]))
    loop = bmo.Inner(problem.training(0.5), mu=0.5, steps=bmo.schedule(2.0))
    (got,) = hypergradient(loop, problem.start, problem.upper, 16).gradients.values()
    centre, h, fd = problem.omega.detach().clone(), 1e-5, []
    for e in torch.eye(3):
        ends = []
        for sign in (1, -1):
            problem.omega.data.copy_(centre + sign * h * e)
            with torch.no_grad():
                ends.append(float(problem.upper(loop(problem.start, problem.upper, 16))))
        fd.append((ends[0] - ends[1]) / (2 * h))
    assert float((got - torch.tensor(fd)).norm() / got.norm()) < 1e-7

    case, steps = Smooth(0), power(1.0, 16)  # the recursion, with the term and without it

    def value(w: Tensor) -> Tensor:
        u = torch.zeros(N)
        for s in steps:
            u = case.step(u, w, w, s, 0.5)
        return case.upper(u, w)

    ends = [(value(case.w + h * e), value(case.w - h * e)) for e in torch.eye(P)]
    slopes = torch.stack([(high - low) / (2 * h) for high, low in ends])
    off = [
        float((case.gradient(*case.run(0.5, steps, term)[-1]) - slopes).norm() / slopes.norm())
        for term in (True, False)
    ]
    assert off[0] < 1e-7 and off[1] > 0.05

    steps = power(1.0, 400)
    full, less = case.run(0.5, steps), case.run(0.5, steps, term=False)
    q = bounds.inner_contraction(case.rho, 0.5)
    push = max(case.stretch(jacrev(case.direction, argnums=2)(u, case.w, case.w)) for u, _ in full)
    for k in (1, 10, 100):
        gap = case.stretch(full[k][1] - less[k][1])
        assert 0 < gap <= bounds.metric_term(0.5, push, q, steps[:k]) * (1 + 1e-12)
    star, _, _ = limits(case)
    M = jacrev(case.train)(star, case.w)
    W = -jacrev(case.direction, argnums=2)(star, case.w, case.w)  # H^-1 (dH) g
    expected = torch.linalg.solve(torch.eye(N) - M, W)
    found = (full[400][1] - less[400][1]) / steps[399]
    assert float((found - expected).norm() / expected.norm()) < 0.03


def conjugate(B: Tensor, g: Tensor, H: Tensor, m: int) -> Tensor:
    y, r, p = torch.zeros_like(g), g, g
    for _ in range(m):
        a = (r @ H @ r) / (p @ H @ B @ p)
        y, new = y + a * p, r - a * B @ p
        p, r = new + (new @ H @ new) / (r @ H @ r) * p, new
    return y


@pytest.mark.parametrize("seed", range(3))
def test_estimators(seed: int) -> None:
    case = Smooth(seed)
    star, J, _ = limits(case)
    at, w, eye = jacrev(case.train, argnums=(0, 1)), case.w, torch.eye(N)
    for mu in (0.0, 0.5):
        steps = power(0.2, 25)
        path = case.run(mu, steps)
        lam, lam_w, _ = constants(case, path)
        u, JK = path[-1]
        d, size = case.size(u - star), case.stretch(J)
        M, B = at(u, w)
        exact = torch.linalg.solve(eye - M, B)
        assert case.stretch(exact - J) <= bounds.implicit(case.rho, lam, d) * (1 + 1e-9)
        assert case.stretch(B - J) <= bounds.one_term(case.rho, size, lam_w, d) * (1 + 1e-9)
        total = torch.zeros(N, P)
        for m in range(1, 12):
            total = B + M @ total
            roof = bounds.neumann(m, case.rho, size, lam, d)
            assert case.stretch(total - J) <= roof * (1 + 1e-9)
        q = bounds.inner_contraction(case.rho, mu)
        for h in (1, 3, 8):
            part = torch.zeros(N, P)
            for k in range(25 - h, 25):
                A, one, two = jacrev(case.step, argnums=(0, 1, 2))(path[k][0], w, w, steps[k], mu)
                part = A @ part + one + two
            roof = bounds.truncation(h, q, case.stretch(path[25 - h][1]))
            assert case.stretch(part - JK) <= roof * (1 + 1e-9)


@pytest.mark.parametrize("rho", [0.3, 0.9, 0.99])
def test_conjugate_gradients(rho: float) -> None:
    draw = torch.Generator().manual_seed(0)
    n = 30
    Q, _ = torch.linalg.qr(torch.randn(n, n, generator=draw))
    h = torch.rand(n, generator=draw) + 0.5
    S = Q @ torch.diag(torch.linspace(-rho, rho, n)) @ Q.mT
    M, H = S * h.sqrt()[None, :] / h.sqrt()[:, None], torch.diag(h)
    z, B = torch.randn(n, generator=draw), torch.randn(n, 3, generator=draw)
    exact = B.mT @ torch.linalg.solve(torch.eye(n) - M.mT, z)
    slope = float((z / h.sqrt()).norm())
    jump = float(torch.linalg.matrix_norm(h.sqrt()[:, None] * B, 2))
    for m in range(1, 15):
        y = conjugate(torch.eye(n) - M, z / h, H, m)
        roof = bounds.conjugate_gradient(m, rho, slope, jump)
        assert float((B.mT @ (H @ y) - exact).norm()) <= roof
        c = math.cosh(m * math.acosh(1 / rho))  # Chebyshev's T_m(1/rho)
        assert bounds.cg_factor(m, rho) == pytest.approx(1 / c, rel=1e-9)


def test_conjugate_gradients_need_symmetry() -> None:
    M = 0.9 * torch.tensor([[0.0, 1.0], [-1.0, 0.0]])
    g, eye = torch.tensor([1.0, 0.3]), torch.eye(2)
    exact = torch.linalg.solve(eye - M, g)
    for m in (2, 5, 20):
        assert float((conjugate(eye - M, g, eye, m) - exact).norm() / exact.norm()) > 0.5


def test_early_projection() -> None:
    """T = (u + w)/2 on U = [-1, 1]; the upper objective pulls far out of U."""
    w = torch.tensor([0.2], requires_grad=True)
    operator = bmo.operators.Lambda(lambda u: w.expand_as(u), bmo.metric.Identity())
    loop = bmo.Inner(
        bmo.GKM(operator, 0.5), mu=0.5, steps=bmo.schedule(2.0), domain=bmo.sets.Box(-1.0, 1.0)
    )

    def upper(u: Tensor) -> Tensor:
        return 0.5 * (u - 10).square().sum(-1)

    path = list(loop.iterates(torch.zeros(1), upper, 800))
    felt = [k for k, u in enumerate(path, 1) if float(u.detach()) == 1.0]
    assert felt and max(felt) < 200  # the projection is felt, early only
    errors = []
    for u in (path[399], path[799]):
        (got,) = torch.autograd.grad(upper(u), w, retain_graph=True)
        errors.append(abs(float(got) - (0.2 - 10)))  # phi = (w - 10)^2 / 2
    assert errors[1] < 0.1 and errors[0] / errors[1] == pytest.approx(2, rel=0.1)


def test_slopes_without_bound() -> None:
    limit = 2 * math.exp(-1) * (1 - math.exp(-1))
    for K, tol in ((100, 0.02), (1600, 0.002)):
        w = torch.tensor(K**-0.5, requires_grad=True)
        u = torch.ones(())
        for _ in range(K):
            u = (1 - w**2) * u
        (slope,) = torch.autograd.grad(0.5 * (u - 1) ** 2, w)
        assert float(slope) / math.sqrt(K) == pytest.approx(limit, rel=tol)


def lasso(mu: float, K: int, lam: Tensor, B: Tensor, b: Tensor, grad: Callable[[Tensor], Tensor]):  # type: ignore[no-untyped-def]
    tau = 1 / torch.linalg.matrix_norm(B, 2) ** 2
    u, branches = torch.ones(B.shape[1]), []
    for k in range(1, K + 1):
        v = u - tau * (B.mT @ (B @ u - b))
        D = torch.nn.functional.relu(v.abs() - tau * lam) * v.sign()
        branches.append(torch.where(v.detach().abs() > tau * lam, v.detach().sign(), 0.0))
        u = (1 - mu) * (0.5 * u + 0.5 * D) + mu * (u - grad(u) / (k + 1))
    return u, D, branches


@pytest.mark.parametrize("mu", [0.0, 0.5])
def test_lasso_branch(mu: float) -> None:
    draw = torch.Generator().manual_seed(5)
    B = torch.randn(12, 8, generator=draw) / 12**0.5
    true = torch.tensor([1.5, 0.0, 0.0, -1.0, 0.0, 0.0, 0.8, 0.0])
    b = B @ true + 0.05 * torch.randn(12, generator=draw)
    far = torch.full((8,), 0.5)
    lam = torch.tensor(0.15, requires_grad=True)
    u, D, branches = lasso(mu, 600, lam, B, b, lambda u: u - far)
    sign = branches[-1]
    on = sign != 0
    assert 0 < int(on.sum()) < 8 and all(bool((s == sign).all()) for s in branches[200:])
    gram = B[:, on].mT @ B[:, on]
    star, J = torch.zeros(8), torch.zeros(8)
    star[on] = torch.linalg.solve(gram, B[:, on].mT @ b - 0.15 * sign[on])
    J[on] = -torch.linalg.solve(gram, sign[on])
    v = B.mT @ (b - B @ star)  # the optimality conditions of the lasso
    assert (v[on] - 0.15 * sign[on]).abs().max() < 1e-10 and v[~on].abs().max() < 0.15
    z = torch.arange(1.0, 9.0)
    (got,) = torch.autograd.grad((z * u).sum(), lam)
    assert float(got) == pytest.approx(float(z @ J), rel=0.05 if mu else 1e-9)
    assert int((u == 0).sum()) == 0 and bool((D[~on] == 0).all())
    if mu:
        off = (u.detach() * 601)[~on]
        assert torch.allclose(off, (0.5 / 0.25) * 0.5 * torch.ones_like(off), rtol=0.05)


def test_fast_schedules_keep_the_start() -> None:
    u, q = 1.0, 0.75
    for k in range(1, 30):
        u = q * u - 0.5 * 0.3**k * (u - 1)
    assert u >= q**29 > 1e4 * 0.3**29


def test_wrong_sign_of_one_step() -> None:
    rho, t = 0.8, 2.0
    M: Any = rho * torch.tensor([[0.0, -1.0], [1.0, 0.0]])
    J = torch.linalg.solve(torch.eye(2) - M, torch.tensor([1.0, 0.0]))
    assert float(J @ torch.tensor([1.0, -t])) == pytest.approx((1 - rho * t) / (1 + rho**2))
    assert float(J @ torch.tensor([1.0, -t])) < 0
