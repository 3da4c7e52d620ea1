"""Chapter 9: one test for each numbered statement, and for the tables.

Adjoints are walked here once more, with dense Jacobians of functions that are written here.
"""

from __future__ import annotations

import math
import re
from typing import Any

import methods_table
import pytest
import torch
from bookfiles import ROOT
from torch import Tensor, nn
from torch.func import jacrev  # type: ignore[attr-defined]

import bmo
from bmo import bounds
from bmo.bench.measure import peak_bytes
from bmo.errors import ConditionError
from bmo.hypergradient import (
    GMRES,
    METHODS,
    AdjointWarning,
    ConjugateGradient,
    FixedPoint,
    Neumann,
    Recompute,
    Truncated,
    hypergradient,
    validity,
)
from bmo.hypergradient.adjoint import Adjoint, asymmetry, conjugate_gradient
from bmo.hypergradient.recompute import bytes_of_step
from bmo.problems import toy
from bmo.record import Record, row


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def one(found: Any) -> Tensor:
    (gradient,) = found.gradients.values()
    result: Tensor = gradient
    return result


@pytest.mark.parametrize("mu", [0.0, 0.4])
def test_reverse_mode_walks_back(mu: float) -> None:
    """The recursion of the adjoint with dense matrices, for a metric that moves with omega."""
    problem, n, K = toy.quadratic(3, seed=1), 3, 14
    generator = torch.Generator().manual_seed(1)
    A, b = torch.randn(6, n, generator=generator) / 6**0.5, torch.randn(6, generator=generator)
    goal, norm = problem.best(problem.best_omega), torch.linalg.matrix_norm(A, 2) ** 2
    w = torch.tensor([0.7, -0.3, 0.2])
    problem.omega.data.copy_(w)

    def step(u: Tensor, w: Tensor, s: float) -> Tensor:
        h = norm + w.exp()
        v = u - 0.5 * (A.mT @ (A @ u - b) + w.exp() * u) / h
        return (1 - mu) * v + mu * (u - s * (u - goal) / h)

    inner = bmo.Inner(problem.training(0.5), mu, bmo.schedule(1.5))
    u, tape = torch.zeros(n), []
    for s in inner.sizes(K):
        tape.append(jacrev(step, argnums=(0, 1))(u, w, s))
        u = step(u, w, s)
    lam, want = u - goal, torch.zeros(n)
    for A_k, B_k in reversed(tape):
        want, lam = want + B_k.mT @ lam, A_k.mT @ lam
    for method in ("reverse", "recompute", Recompute(3), Truncated(K)):
        got = hypergradient(inner, problem.start, problem.upper, K, method=method)
        assert torch.allclose(one(got), want, rtol=1e-11, atol=1e-14)
    part = hypergradient(inner, problem.start, problem.upper, K, method=Truncated(5))
    left, short = u - goal, torch.zeros(n)
    for A_k, B_k in reversed(tape[-5:]):
        short, left = short + B_k.mT @ left, A_k.mT @ left
    assert torch.allclose(one(part), short, rtol=1e-11, atol=1e-14)
    weights = norm + w.exp()
    dual = [float((x.square() / weights).sum().sqrt()) for x in (left, u - goal)]
    assert float(part.adjoint_residual) == pytest.approx(dual[0] / dual[1], rel=1e-10)


def test_adjoint_of_soft_thresholding() -> None:
    """The five cotangents against differences of the inner product with c."""
    n, m, h = 9, 6, 1e-6
    c = draw(n, seed=7)
    at = [
        draw(n),
        2 + draw(n, seed=1).abs(),
        draw(n, m, seed=2),
        draw(m, n, seed=3),
        draw(m, seed=4),
    ]

    def value(u: Tensor, theta: Tensor, W: Tensor, A: Tensor, b: Tensor) -> float:
        z = u - W @ (A @ u - b)
        v = torch.where(z > theta, z - theta, torch.where(z < -theta, z + theta, 0.0))
        return float(c @ v)

    u, theta, W, A, b = at
    r = A @ u - b
    z = u - W @ r
    sign = torch.where(z.abs() > theta, z.sign(), 0.0)
    assert 0 < int((sign == 0).sum()) < n and float((z.abs() - theta).abs().min()) > 1e-3
    mask = sign.abs() * c
    back = W.mT @ mask
    cotangents = (mask - A.mT @ back, -sign * c, -mask.outer(r), -back.outer(u), back)
    for i, cotangent in enumerate(cotangents):
        way = draw(*at[i].shape, seed=10 + i)
        high, low = ([*at[:i], at[i] + s * h * way, *at[i + 1 :]] for s in (1, -1))
        slope = (value(*high) - value(*low)) / (2 * h)
        assert float((cotangent * way).sum()) == pytest.approx(slope, rel=1e-7, abs=1e-9)


def lasso(A: Tensor, b: Tensor, threshold: float, **more: Any) -> bmo.ProximalGradient:
    f, prior = bmo.LeastSquares(A, b), bmo.prox.L1(torch.tensor(threshold), learn=True)
    return bmo.ProximalGradient(f, prior, **(more or {"step": 1 / float(A.norm(2) ** 2)}))


def square(goal: Tensor) -> Any:
    return lambda u: 0.5 * (u - goal).square().sum(-1)


def test_what_a_step_keeps() -> None:
    A, u = draw(6, 10) / 4, torch.zeros(5, 10)
    upper = square(draw(10, seed=1))
    kept = [
        bytes_of_step(
            bmo.Inner(bmo.GKM(lasso(A, draw(5, 6, seed=2), 0.1), 0.9), 0.0, fuse=fuse), u, upper
        )
        for fuse in (True, False)
    ]
    assert kept == [u.numel(), 24 * u.numel()]  # a sign in a byte; three copies in doubles


@pytest.mark.parametrize(("a", "b", "K"), [(1.0, 1.0, 64), (8.0, 9.0, 1000), (1.0, 50.0, 300)])
def test_number_of_segments(a: float, b: float, K: int) -> None:
    best, least = math.sqrt(K * b / a), 2 * math.sqrt(a * b * K)
    assert best * a + K / best * b == pytest.approx(least)
    for c in range(1, K + 1):
        assert c * a + K / c * b >= least * (1 - 1e-12)
        assert (c * a + K / c * b) / least > 1 + 1e-9 or abs(c - best) < 1e-3


def test_no_step_is_computed_more_than_twice() -> None:
    calls = 0

    def count(u: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return w * u

    w = nn.Parameter(torch.tensor([0.5]))
    inner = bmo.Inner(bmo.GKM(bmo.operators.Lambda(count, bmo.metric.Identity()), 0.5), 0.0)
    for segments, steps in ((1, 16), (4, 16 + 12), (16, 16 + 15)):
        calls = 0
        hypergradient(inner, torch.ones(1), square(torch.zeros(1)), 16, [w], Recompute(segments))
        assert calls - 1 == steps  # one more call measures the residual


def test_memory_against_the_number_of_steps() -> None:
    """By the allocator's own account; the notebook counts tensors."""
    D = bmo.operators.LearnedForwardBackward(draw(25, 50) / 5, draw(4, 25, seed=1), threshold=0.1)
    inner, u0 = bmo.Inner(bmo.GKM(D, 0.9), 0.0), torch.zeros(4, 50)
    upper = square(draw(4, 50, seed=2))

    def peak(method: Any, K: int) -> int:
        return peak_bytes(lambda: hypergradient(inner, u0, upper, K, method=method))

    step = bytes_of_step(inner, u0, upper)
    assert step == u0.nbytes + u0.numel()
    ways = {"reverse": "reverse", "recompute": "recompute", "implicit": Neumann(5)}
    grown = {n: [peak(way, K) for K in (64, 256, 1024)] for n, way in ways.items()}
    reverse, segments, implicit = ([b - a, c - b] for a, b, c in grown.values())
    assert reverse == [192 * step, 768 * step]
    assert segments == [8 * (step + u0.nbytes), 16 * (step + u0.nbytes)]
    assert implicit == [0, 0]


@pytest.mark.parametrize("mu", [0.0, 0.5])
def test_truncation_forgets_like_q(mu: float) -> None:
    """The error is q^h times the Jacobian that is left, in closed form."""
    rho, K = 0.95, 120
    w = nn.Parameter(torch.tensor([0.3]))
    D = bmo.operators.Lambda(lambda u: (2 * rho - 1) * u + 2 * (1 - rho) * w, bmo.metric.Identity())
    inner, q = bmo.Inner(bmo.GKM(D, 0.5), mu), bounds.inner_contraction(rho, mu)
    for h in (1, 10, 40):
        short, full = (
            hypergradient(inner, torch.zeros(1), lambda u: u.sum(-1), K, [w], Truncated(steps))
            for steps in (h, K)
        )
        error, left = float((one(full) - one(short)).abs()), 1 - q ** (K - h)
        assert error == pytest.approx(bounds.truncation(h, q, left), rel=1e-9)
        assert float(short.adjoint_residual) == pytest.approx(q**h)
        assert mu == 0 or error > 1.02**h * 0.9 * rho**h


class Exp(nn.Module):
    def __init__(self, raw: Tensor) -> None:
        super().__init__()
        self.raw = nn.Parameter(raw)

    def forward(self) -> Tensor:
        return self.raw.exp()


class RidgeCase:
    """Learned ridge weights: closed forms of the solution, its Jacobian and the hypergradient."""

    def __init__(self, n: int = 8) -> None:
        A, b, self.goal = draw(2 * n, n) / (2 * n) ** 0.5, draw(2 * n, seed=1), draw(n, seed=2)
        raw = 0.5 * draw(n, seed=3)
        self.w, self.M = raw.exp(), A.mT @ A + torch.diag(raw.exp())
        self.tau = 1 / float(torch.linalg.matrix_norm(self.M, 2))
        f = bmo.smooth.Sum(bmo.LeastSquares(A, b), bmo.smooth.Ridge(Exp(raw)))
        D = bmo.ProximalGradient(f, step=self.tau)
        self.inner, self.upper = bmo.Inner(bmo.GKM(D, 0.9), 0.0), square(self.goal)
        self.star = torch.linalg.solve(self.M, A.mT @ b)
        self.J = -torch.linalg.solve(self.M, torch.diag(self.w * self.star))
        self.truth = self.J.mT @ (self.star - self.goal)
        self.rho = float(torch.linalg.matrix_norm(torch.eye(n) - 0.9 * self.tau * self.M, 2))
        self.lag = 0.9 * self.tau * float(self.w.max())

    def error(self, K: int, method: Any) -> float:
        found = hypergradient(self.inner, torch.zeros(len(self.w)), self.upper, K, method=method)
        return float((one(found) - self.truth).norm())


def test_implicit_methods_keep_their_bounds() -> None:
    case = RidgeCase()
    J, G = float(torch.linalg.matrix_norm(case.J, 2)), float((case.star - case.goal).norm())
    for K in (3, 10, 30):
        d = bounds.fixed_point_distance(float(case.star.norm()), case.rho, 0, 0, [1.0] * K)
        for method in ("gmres", "cg", "fixed-point", "active-set"):
            roof = bounds.hypergradient_distance(bounds.implicit(case.rho, case.lag, d), d, G, J, 1)
            assert case.error(K, method) <= roof
        for m in (1, 5, 20):
            roof = bounds.neumann(m, case.rho, J, case.lag, d)
            assert case.error(K, Neumann(m)) <= bounds.hypergradient_distance(roof, d, G, J, 1)
    assert case.error(400, "gmres") < 1e-12 < 1e-3 < case.error(400, Neumann(3))
    with pytest.warns(AdjointWarning):  # an unsolved equation is no secret
        case.error(400, FixedPoint(limit=3))


@pytest.mark.parametrize("rho", [0.3, 0.95])
def test_conjugate_gradients_in_the_metric(rho: float) -> None:
    n = 20
    V, _ = torch.linalg.qr(draw(n, n))
    h, right = draw(n, seed=1).abs() + 0.5, draw(n, seed=2)
    root, eye = h.sqrt(), torch.eye(n)
    M = (V * torch.linspace(-rho, rho, n)) @ V.mT * root[None, :] / root[:, None]
    metric = bmo.metric.Diagonal(h)
    adjoint = Adjoint(lambda v: M.mT @ v, right, metric)
    assert asymmetry(adjoint) < 1e-14
    flat = Adjoint(lambda v: M.mT @ v, right, bmo.metric.Identity())
    assert asymmetry(flat) > 1e-2  # the same map is not self-adjoint in another metric
    exact = torch.linalg.solve(eye - M.mT, right)
    size = float((right / root).norm())
    y, r = torch.zeros(n), right / h  # chapter 8: conjugate gradients in H, for (I - M)y = g
    p = r
    for m in range(1, 12):
        image = p - M @ p
        a = float((r * h) @ r) / float((p * h) @ image)
        y, new = y + a * p, r - a * image
        p, r = new + float((new * h) @ new) / float((r * h) @ r) * p, new
        got = conjugate_gradient(adjoint, 1e-15, m).value
        assert torch.allclose(got, h * y, rtol=1e-9, atol=1e-11)
        error = float(((got - exact) / root).norm())
        assert error <= bounds.cg_factor(m, rho) * size / (1 - rho)


class LassoCase:
    """A lasso at its solution, with dense Jacobians from automatic differentiation."""

    def __init__(self, box: float | None = None, alpha: float = 0.9) -> None:
        A, code = draw(30, 40) / 30**0.5, draw(40, seed=1) * (draw(40, seed=2) > 1.0)
        self.D = lasso(A, A @ code, 0.05)
        domain = None if box is None else bmo.sets.Box(-box, box)
        self.inner = bmo.Inner(bmo.GKM(self.D, alpha, check=False), 0.0, domain=domain)
        self.goal, self.Q = code + 0.1 * draw(40, seed=4), A.mT @ A
        self.upper = square(self.goal)
        self.u = self.inner(torch.zeros(40), self.upper, 4000).detach()
        T, U = self.inner.training_map, self.inner.domain
        self.F = jacrev(lambda u: U.project(T(u), T.metric))(self.u).detach()

    def gradient(self, method: Any) -> float:
        return float(one(hypergradient(self.inner, self.u, self.upper, 0, method=method)))

    def dense(self) -> float:
        lam = torch.linalg.solve(torch.eye(40) - self.F.mT, self.u - self.goal)
        T, U = self.inner.training_map, self.inner.domain
        image = U.project(T(self.u), T.metric)
        ((_, raw),) = T.named_parameters()
        (found,) = torch.autograd.grad(image, raw, lam)
        return float(found)


def test_conjugate_gradients_fail_on_a_proximal_step() -> None:
    case = LassoCase()
    matrix, right = torch.eye(40) - case.F.mT, case.u - case.goal
    exact, x, r = torch.linalg.solve(matrix, right), torch.zeros(40), right
    p, steps = r, int((case.D(case.u) != 0).sum()) + 1  # degree of the minimal polynomial
    assert 5 < steps < 30
    for _ in range(steps):
        image = matrix @ p
        a = float(r @ r) / float(p @ image)
        x, new = x + a * p, r - a * image
        p, r = new + float(new @ new) / float(r @ r) * p, new
        assert torch.allclose(r, right - matrix @ x, rtol=1e-6, atol=1e-9)  # the truth, for any map
    assert float((x - exact).norm() / exact.norm()) > 1e-2
    with pytest.raises(ConditionError, match="self-adjoint"):
        case.gradient("cg")
    with pytest.raises(ConditionError):
        case.gradient(ConjugateGradient(tol=1e-2))
    for limit in (steps + 2, 1000):  # GMRES is done; rounding costs it a step or two
        assert case.gradient(GMRES(1e-9, limit, 100)) == pytest.approx(case.dense(), rel=1e-7)


@pytest.mark.parametrize("box", [None, 0.6])
@pytest.mark.parametrize("alpha", [0.3, 0.9, 1.0])
def test_active_set(box: float | None, alpha: float) -> None:
    case = LassoCase(box, alpha)
    got, out = case.gradient("active-set"), case.D(case.u).detach()
    assert got == pytest.approx(case.dense(), rel=1e-10) and abs(got) > 1e-3
    free = (case.u.abs() < 0.6) if box else torch.ones(40, dtype=torch.bool)
    S = (out != 0) & free
    assert box is None or int((~free).sum()) > 0  # the projection is felt
    y = torch.linalg.solve(case.Q[S][:, S].mT, (case.u - case.goal)[S])
    threshold = case.D.prior.threshold()  # type: ignore[operator]
    ((_, raw),) = case.inner.named_parameters()
    (chain,) = torch.autograd.grad(threshold, raw)
    assert got == pytest.approx(-float(chain) * float(out.sign()[S] @ y), rel=1e-9)  # no alpha


def test_dependent_active_columns_are_refused() -> None:
    A = draw(6, 4)
    A = torch.cat([A, A[:, :1]], 1)
    inner = bmo.Inner(bmo.GKM(lasso(A, draw(6, seed=1) * 5, 0.01), 0.9), 0.0)
    u = inner(torch.zeros(5), square(torch.zeros(5)), 3000).detach()
    assert bool((u[[0, 4]] != 0).all())
    with pytest.raises(ConditionError, match="independent"):
        hypergradient(inner, u, square(torch.zeros(5)), 0, method="active-set")


def test_decoupled_entries_are_self_adjoint() -> None:
    V, _ = torch.linalg.qr(draw(8, 8))
    A = V * torch.linspace(0.5, 1, 8)
    code, upper = 3 * draw(8, seed=1) * (draw(8, seed=2) > 0), square(draw(8, seed=3))
    inner = bmo.Inner(bmo.GKM(lasso(A, A @ code, 0.1), 0.9), 0.0)
    both = [
        one(hypergradient(inner, torch.zeros(8), upper, 400, method=m))
        for m in ("cg", "active-set")
    ]
    out = inner.training_map.operator(inner(torch.zeros(8), upper, 400))
    assert 0 < int((out == 0).sum()) < 8
    assert torch.allclose(both[0], both[1], rtol=1e-9) and float(both[0].abs()) > 1e-3


def test_the_metric_does_not_matter_in_the_limit() -> None:
    A, b, goal = draw(12, 8) / 12**0.5, draw(12, seed=1), draw(8, seed=2)
    found = []
    for scale in (2.0, 5.0):
        p = nn.Parameter(scale * (2 + draw(8, seed=3).abs()))
        D = lasso(A, b, 0.05, metric=bmo.metric.Diagonal(p))
        inner, (threshold,) = bmo.Inner(bmo.GKM(D, 0.9), 0.0), D.prior.parameters()
        u = inner(torch.zeros(8), square(goal), 4000).detach()
        got = hypergradient(inner, u, square(goal), 0, {"p": p, "t": threshold}, "active-set")
        assert float(got.gradients["p"].abs().max()) < 1e-12
        found.append(float(got.gradients["t"]))
    assert found[0] == pytest.approx(found[1], rel=1e-9) and abs(found[0]) > 1e-3


IMPLICIT = ("neumann", "fixed-point", "cg", "gmres", "active-set")


@pytest.mark.parametrize("method", IMPLICIT)
def test_without_a_fixed_point_equation(method: str) -> None:
    case = RidgeCase()
    T, u0 = case.inner.training_map, torch.zeros(8)
    for loop in (bmo.Inner(T, 0.5, bmo.schedule(1.0)), bmo.AnchoredInner(T, 0.0)):
        with pytest.raises(ConditionError):
            hypergradient(loop, u0, case.upper, 20, method=method)


def test_every_step_as_the_last_one() -> None:
    """Under a contraction the derivative of the last step's fixed point misses by o(s_K)."""
    case, gaps, limits = RidgeCase(), [], []
    T, u0 = case.inner.training_map, torch.zeros(8)
    for K in (100, 200, 400):
        falling = bmo.Inner(T, 0.5, bmo.schedule(1.0))
        exact = one(hypergradient(falling, u0, case.upper, K))
        frozen = bmo.Inner(T, 0.5, falling.sizes(K)[-1])
        instead = one(hypergradient(frozen, u0, case.upper, 3000, method="gmres"))
        gaps.append(float((instead - exact).norm()))
        limits.append(float((case.truth - exact).norm()))
    assert gaps[1] / gaps[2] > 3.5 and limits[1] / limits[2] == pytest.approx(2, rel=0.1)


def test_a_line_of_fixed_points_has_no_adjoint() -> None:
    problem = toy.singleton_failure()
    problem.omega.data.fill_(0.8)
    inner = bmo.Inner(problem.training(0.5), 0.0, domain=problem.domain)
    with pytest.warns(AdjointWarning, match="not solved"):
        found = hypergradient(inner, problem.start, problem.upper, 60, method="fixed-point")
    assert not found.solved
    # g = (u_1 - 1, u_2 - w); only its second part, which nothing contracts, is left
    g = torch.tensor([0.8 - 1, 0 - 0.8])
    assert float(found.adjoint_residual) == pytest.approx(float(g[1].abs() / g.norm()), rel=1e-6)


def test_the_tables_are_what_their_sources_give() -> None:
    for path, text in methods_table.tables().items():
        assert (ROOT / path).read_text("utf8") == text, "make book writes it again"
        for name in METHODS if path.stem != "hyper-bench" else ():
            assert text.count(f"| `{name}` |") == 1
    text = methods_table.tables()[methods_table.GENERATED / "hyper-validity.txt"]
    assert all(validity(name) in text for name in METHODS)
    page = (ROOT / "book/09-hypergradients.md").read_text("utf8")
    for path in methods_table.tables():
        assert f"{{include}} _generated/{path.name}" in page


def test_the_code_on_the_page_runs() -> None:
    page = (ROOT / "book/09-hypergradients.md").read_text("utf8")
    one, many = re.findall(r"```\{code-block\} python\n(.*?)```", page, re.DOTALL)
    names: dict[str, Any] = {}
    exec(one, names)
    ridge, found = names["ridge"], names["found"]
    exact = ridge.gradient(ridge.omega.detach())
    (gradient,) = found.gradients.values()
    assert found.solved and torch.allclose(gradient, exact, rtol=1e-6, atol=1e-9)
    target = torch.ones(4, 30)
    names |= {
        **{"batch": target, "start": torch.zeros_like, "K": 20},
        "upper": lambda part: lambda u: 0.5 * (u - part).square().sum(-1),
    }
    exec(many, names)  # one process: the slice is the batch
    alone = hypergradient(names["inner"], 0 * target, names["upper"](target), 20)
    ((name, mean),) = names["mean"].items()
    assert torch.equal(mean, alone.gradients[name]) and names["weight"] == 1


def test_times_come_from_the_record() -> None:
    rows = [
        row("bmo cg", {"problem": "P1", "K": 200}, "ratio", 1.234, n=9),
        row("bmo cg", {"problem": "P1", "K": 50}, "ratio", 9.0, n=9),
        row("torch", {"problem": "P1", "K": 200}, "ratio", 2.5, n=9),
        row("bmo reverse", {"problem": "P2", "K": 256}, "ratio", 2.6, n=9),
        row("bmo reverse", {"problem": "P2", "K": 256}, "peak MiB", 99.0),
    ]
    made = Record(
        "bench", "full", "2026-01-31T12:00:00Z", "x", {}, [0], [], "CPU", {}, None, 1.0, rows
    )
    columns = methods_table.times(made)
    assert columns == {
        "time, P1, K = 200": {"cg": "1.23"},
        "time, P2, K = 256": {"reverse": "2.60"},
    }
    assert methods_table.times(None) == {}


def test_the_benchmark_is_shown_as_it_was_recorded() -> None:
    setting = {"problem": "P1", "K": 200, "kind": "unrolled"}
    figures = {"ratio": 2.04, "ratio low": 1.98, "ratio high": 2.1, "error": 3e-16, "peak MiB": 1.5}
    rows = [row("bmo reverse", setting, metric, value) for metric, value in figures.items()]
    rows += [row("torch", setting, m, 1 + v) for m, v in figures.items() if m != "peak MiB"]
    rows += [row("bmo reverse", setting, "ratio target", 2.1)]
    rows += [row("forward", setting, "seconds", 0.1)]
    made = Record(
        *("bench", "full", "2026-01-31T12:00:00Z", "python -m bmo bench", {"missing": {"x": "no"}}),
        *([0], [], "CPU", {}, None, 1.0, rows),
    )
    text = methods_table.benchmark(made)
    assert "| bmo reverse | 2.04 | 1.98 – 2.10 | 1.5 | 3e-16 | 2.10 |\n| torch | 3.04 |" in text
    assert "**P1, K 200, kind unrolled**" in text and "| forward" not in text
    assert "*missing*: x: no" in text and "Recorded 2026-01-31 on CPU" in text
