"""Algorithm 1's inner loop against its listing in numpy, and its derivative."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import bmo
from bmo.errors import ConditionError, DomainError, NonFiniteError, ScheduleError, ShapeError
from bmo.gkm import GKM
from bmo.inner import AnchoredInner, Inner, upper_gradient
from bmo.metric import Dense, Diagonal, Identity, Metric
from bmo.operators import Lambda, Operator
from bmo.result import Status
from bmo.sets import Ball, Box, Whole
from tests.instances import F64, box_by_enumeration, generator, nonexpansive_map, normal, spd

LOW, HIGH = -0.6, 0.9


class Target:
    """l(u) = w |u - t|^2 / 2, one value for each point."""

    def __init__(self, t: Tensor, w: float = 1.0) -> None:
        self.t, self.w = t, w

    def __call__(self, u: Tensor) -> Tensor:
        return self.w / 2 * (u - self.t).square().sum(-1)


def listing(D, H, grad, u, alpha, mu, steps, project) -> list[np.ndarray]:
    """The inner loop of Algorithm 1 as printed: v_l, v_u, and the projected aggregation."""
    path = [u]
    for s in steps:
        v_l = (1 - alpha) * u + alpha * D(u)
        v_u = u - s * np.linalg.solve(H, grad(u))
        u = project(mu * v_u + (1 - mu) * v_l)
        path.append(u)
    return path


def problem(seed: int, n: int = 3):
    g = generator(seed)
    H, center = spd(g, n, cond=20.0), 0.3 * normal(g, n)
    D = nonexpansive_map(g, H, center)
    return g, H, Lambda(D, Dense(H)), Target(2 * normal(g, n))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("boxed", [False, True])
def test_algorithm_1_as_printed(seed: int, boxed: bool) -> None:
    g, H, D, upper = problem(seed)
    alpha, mu, K = 0.7, 0.4, 8
    u0 = normal(g, 3).clamp(LOW, HIGH)
    steps = bmo.schedule(0.3, p=0.7)

    def project(v: np.ndarray) -> np.ndarray:
        if not boxed:
            return v
        return box_by_enumeration(H.numpy(), v, np.full(3, LOW), np.full(3, HIGH))

    path = listing(
        lambda u: D(torch.from_numpy(u)).numpy(),
        H.numpy(),
        lambda u: u - upper.t.numpy(),
        u0.numpy(),
        alpha,
        mu,
        [0.3 / (k + 1) ** 0.7 for k in range(1, K + 1)],
        project,
    )
    domain = Box(LOW, HIGH) if boxed else None
    inner = Inner(GKM(D, alpha), mu, steps, domain)
    run = inner.run(u0, upper, K, observe={"u": lambda u: u})
    np.testing.assert_allclose(run.traced("u").numpy(), path, rtol=0, atol=1e-9)
    torch.testing.assert_close(inner(u0, upper, K), run.value, rtol=0, atol=1e-9)
    T = GKM(D, alpha)
    expected = torch.stack([T.residual(torch.from_numpy(u)) for u in path])
    torch.testing.assert_close(run.residuals, expected, rtol=0, atol=1e-8)
    assert run.status is Status.FINISHED and run.iterations == K
    if boxed:
        assert all(LOW - 1e-9 <= u.min() and u.max() <= HIGH + 1e-9 for u in path)
    together = inner.run(torch.stack([u0, -0.5 * u0]), upper, K).value[0]
    torch.testing.assert_close(together, run.value, rtol=0, atol=1e-8)


@pytest.mark.parametrize("seed", range(3))
def test_the_anchored_loop_is_its_formula(seed: int) -> None:
    g, H, D, upper = problem(seed)
    alpha, mu, s, u0 = 0.6, 0.3, 0.2, normal(g, 3)
    w = u0.numpy()
    for k in range(1, 9):
        (_, F) = listing(
            lambda u: D(torch.from_numpy(u)).numpy(),
            H.numpy(),
            lambda u: u - upper.t.numpy(),
            w,
            alpha,
            mu,
            [s],
            lambda v: v,
        )
        w = u0.numpy() / (k + 1) + k / (k + 1) * F
    inner = AnchoredInner(GKM(D, alpha), mu, s)
    np.testing.assert_allclose(inner(u0, upper, 8).detach().numpy(), w, rtol=0, atol=1e-12)


def test_without_the_upper_step_it_is_plain_training() -> None:
    g, _, D, _ = problem(1)
    u0 = normal(g, 4, 3)

    def forbidden(u: Tensor) -> Tensor:
        raise AssertionError("mu = 0 must not look at the upper objective")

    inner = Inner(GKM(D, 0.5), mu=0.0)
    plain = GKM(D, 0.5).iterate(u0, iterations=5)
    torch.testing.assert_close(inner(u0, forbidden, 5), plain.value, rtol=0, atol=1e-14)


class Moving(Operator):
    """A learned map in a learned metric: a rotation carried into diag(exp(w))."""

    def __init__(self, w: Tensor, angle: Tensor) -> None:
        super().__init__()
        self.w, self.angle = nn.Parameter(w), nn.Parameter(angle)

    @property
    def metric(self) -> Metric:
        return Diagonal(self.w.exp())

    def forward(self, u: Tensor) -> Tensor:
        root = (self.w / 2).exp()
        x, y = (root * u).unbind(-1)
        turned = torch.stack(
            [
                self.angle.cos() * x - self.angle.sin() * y,
                self.angle.sin() * x + self.angle.cos() * y,
            ],
            -1,
        )
        return turned / root


def numpy_loss(w: np.ndarray, angle: float, u0: np.ndarray, t: np.ndarray, anchored: bool) -> float:
    """The same bilevel objective in numpy, projection on a ball-free box included."""
    H, root = np.diag(np.exp(w)), np.exp(w / 2)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    u = u0
    for k in range(1, 7):
        s = 0.4 / (k + 1) if not anchored else 0.2
        D = turn @ (root * u) / root
        v_l, v_u = 0.3 * u + 0.7 * D, u - s * np.linalg.solve(H, u - t)
        F = np.clip(0.4 * v_u + 0.6 * v_l, -1.0, 1.1)
        u = u0 / (k + 1) + k / (k + 1) * F if anchored else F
    return float(0.5 * np.sum((u - t) ** 2))


@pytest.mark.parametrize("anchored", [False, True])
def test_the_hypergradient_against_finite_differences(anchored: bool) -> None:
    """Including the change of H^{-1} with omega: w enters the metric."""
    w, angle = torch.tensor([0.3, -0.4], dtype=F64), torch.tensor(0.9, dtype=F64)
    u0, t = torch.tensor([1.0, -0.8], dtype=F64), torch.tensor([0.5, 1.5], dtype=F64)
    D, upper = Moving(w, angle), Target(t)
    kind, steps = (AnchoredInner, 0.2) if anchored else (Inner, bmo.schedule(0.4))
    inner = kind(GKM(D, 0.7), 0.4, steps, Box(-1.0, 1.1))
    loss = upper(inner(u0, upper, 6))
    loss.backward()
    assert loss.item() == pytest.approx(
        numpy_loss(w.numpy(), 0.9, u0.numpy(), t.numpy(), anchored), rel=1e-13
    )
    h, found = 1e-6, []
    for i in range(3):
        e = np.eye(3)[i] * h
        sides = [
            numpy_loss(w.numpy() + q * e[:2], 0.9 + q * e[2], u0.numpy(), t.numpy(), anchored)
            for q in (1, -1)
        ]
        found.append((sides[0] - sides[1]) / (2 * h))
    assert D.w.grad is not None and D.angle.grad is not None
    np.testing.assert_allclose([*D.w.grad.tolist(), D.angle.grad.item()], found, atol=2e-9)


def test_the_change_of_the_metric_matters() -> None:
    """With H held fixed the derivative in w is another number."""

    class Frozen(Moving):
        @property
        def metric(self) -> Metric:
            return Diagonal(self.w.detach().exp())

    grads = []
    for kind in (Moving, Frozen):
        D = kind(torch.tensor([0.3, -0.4], dtype=F64), torch.tensor(0.9, dtype=F64))
        upper = Target(torch.tensor([0.5, 1.5], dtype=F64))
        u0 = torch.tensor([1.0, -0.8], dtype=F64)
        upper(Inner(GKM(D, 0.7), 0.4, 0.3)(u0, upper, 6)).backward()
        assert D.w.grad is not None
        grads.append(D.w.grad)
    assert float((grads[0] - grads[1]).abs().max()) > 1e-2


def test_derivatives_through_a_numerical_projection() -> None:
    g, H, _, upper = problem(3, n=2)
    u0 = torch.tensor([0.2, -0.1], dtype=F64)
    turn = torch.tensor([[0.0, 1.0], [-1.0, 0.0]], dtype=F64)

    def last(H: Tensor, t: Tensor) -> Tensor:
        metric = Dense((H + H.mT) / 2)
        D = Lambda(lambda u: metric.unfactor(metric.factor(u) @ turn), metric)
        inner = Inner(GKM(D, 0.5), 0.5, 0.4, Ball(0.3))
        return inner(u0, Target(t, 3.0), 4)

    inputs = (H.requires_grad_(), upper.t.requires_grad_())
    assert float(last(*inputs).detach().norm()) == pytest.approx(0.3, abs=1e-6)  # it is active
    assert torch.autograd.gradcheck(last, inputs, atol=1e-5, check_undefined_grad=False)


def test_the_upper_gradient_in_the_metric() -> None:
    g, H, _, upper = problem(4)
    u = normal(g, 5, 3)
    expected = torch.linalg.solve(H, (u - upper.t).mT).mT
    torch.testing.assert_close(upper_gradient(upper, u, Dense(H)), expected, rtol=1e-12, atol=1e-12)

    class Known(Target):
        def __call__(self, u: Tensor) -> Tensor:
            raise AssertionError("the gradient is known")

        def gradient(self, u: Tensor) -> Tensor:
            return u - self.t

    found = upper_gradient(Known(upper.t), u, Dense(H))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    flat = upper_gradient(lambda u: u.detach().sum(-1).requires_grad_(), u, Identity())
    assert torch.equal(flat, torch.zeros_like(u))


@pytest.mark.parametrize("mu", [1.0, -0.1, 1.5, math.nan])
def test_mu_outside_its_range_is_refused(mu: float) -> None:
    with pytest.raises(DomainError, match=r"mu in \[0, 1\)"):
        Inner(GKM(Lambda(lambda u: u, Identity()), 0.5), mu)
    assert Inner(GKM(Lambda(lambda u: u, Identity()), 0.5), 1.0, check=False).mu == 1.0


def test_bad_schedules_are_refused_when_the_loop_runs() -> None:
    _, _, D, upper = problem(5)
    u0 = torch.zeros(3, dtype=F64)
    for steps in ([0.1, 0.2], [0.1, -0.1], lambda k: float(k), [0.1]):
        with pytest.raises(ScheduleError):
            Inner(GKM(D, 0.5), 0.5, steps)(u0, upper, 2)
    with pytest.raises(ScheduleError, match="number of steps"):
        Inner(GKM(D, 0.5), 0.5)(u0, upper, -1)
    assert torch.equal(Inner(GKM(D, 0.5), 0.5)(u0, upper, 0), u0)


def test_a_first_step_that_is_too_long_is_refused() -> None:
    D = Lambda(lambda u: u, Diagonal(torch.tensor([0.5, 4.0], dtype=F64)))
    upper = Target(torch.zeros(2, dtype=F64), 5.0)
    u0 = torch.ones(2, dtype=F64)
    limit = 2 * 0.5 / 5.0
    ok = Inner(GKM(D, 0.5), 0.5, limit, upper_lipschitz=5.0)
    assert bool(torch.isfinite(ok(u0, upper, 3)).all())
    long = Inner(GKM(D, 0.5), 0.5, 1.01 * limit, upper_lipschitz=5.0)
    with pytest.raises(ConditionError, match="2 lambda_lb / L_upper = 0.2; got: s_1 = 0.202"):
        long(u0, upper, 3)
    for harmless in (
        Inner(GKM(D, 0.5), 0.0, 1.01 * limit, upper_lipschitz=5.0),
        Inner(GKM(D, 0.5), 0.5, 1.01 * limit, upper_lipschitz=5.0, check=False),
        Inner(GKM(D, 0.5), 0.5, 1.01 * limit),
    ):
        assert harmless.sizes(2) == [1.01 * limit] * 2


def test_starts_that_do_not_fit_are_refused() -> None:
    _, _, D, upper = problem(6)
    f = bmo.LeastSquares(torch.eye(3, dtype=F64), torch.zeros(3, dtype=F64))
    inner = Inner(GKM(bmo.ProximalGradient(f, step=1.0), 0.5), domain=Box(LOW, HIGH))
    for call in (inner, inner.run):
        with pytest.raises(DomainError, match="u0 inside U"):
            call(torch.ones(3, dtype=F64), upper, 1)
        with pytest.raises(ShapeError, match="float64"):
            call(torch.zeros(3), upper, 1)
        with pytest.raises(NonFiniteError, match="finite u0"):
            call(torch.full((3,), math.nan, dtype=F64), upper, 1)
    with pytest.raises(bmo.errors.MetricError, match="length 3"):
        Inner(GKM(D, 0.5))(torch.zeros(4, dtype=F64), upper, 1)
    free = Inner(GKM(bmo.ProximalGradient(f, step=1.0), 0.5), domain=Box(LOW, HIGH), check=False)
    assert float(free(torch.ones(3, dtype=F64), upper, 1).detach().max()) <= HIGH


def test_an_objective_that_averages_over_the_batch_is_refused() -> None:
    _, _, D, upper = problem(7)
    inner = Inner(GKM(D, 0.5))
    with pytest.raises(ShapeError, match="one value for each point"):
        inner(torch.zeros(2, 3, dtype=F64), lambda u: upper(u).mean(), 1)
    alone = inner(torch.zeros(3, dtype=F64), lambda u: upper(u).mean(), 1)
    torch.testing.assert_close(alone, inner(torch.zeros(3, dtype=F64), upper, 1), rtol=0, atol=0)


def test_a_run_that_is_not_finite_keeps_all_that_was() -> None:
    def explode(u: Tensor) -> Tensor:
        return torch.where(u > 100, math.nan, 21 * u)

    inner = Inner(GKM(Lambda(explode, Identity()), 0.5), mu=0.0)
    u0 = torch.ones(1, dtype=F64)
    with pytest.raises(NonFiniteError, match="at step 3") as caught:
        inner.run(u0, Target(u0), 9, observe={"u": lambda u: u})
    kept = caught.value.value
    assert kept.status is Status.NONFINITE and kept.iterations == 2
    assert kept.traced("u").flatten().tolist() == [1.0, 11.0, 121.0]
    assert inner.run(u0, Target(u0), 9, throw=False).value.tolist() == [121.0]
    with pytest.raises(NonFiniteError, match="use run"):
        inner(u0, Target(u0), 9)
    free = Inner(GKM(Lambda(explode, Identity()), 0.5), mu=0.0, check=False)
    assert math.isnan(free(u0, Target(u0), 9).item())


def test_float32_and_compiled() -> None:
    _, _, D, upper = problem(8)
    inner = Inner(GKM(D, 0.5), 0.4, 0.2)
    u0 = normal(generator(9), 4, 3)
    metric = inner.training_map.metric
    compiled = torch.compile(
        lambda u: inner.step(u, 0.2, Known(upper.t), metric), backend="aot_eager"
    )
    expected = inner.step(u0, 0.2, upper, metric)
    torch.testing.assert_close(compiled(u0), expected, rtol=0, atol=1e-13)
    f = bmo.LeastSquares(torch.eye(3), torch.ones(3))
    single = Inner(GKM(bmo.ProximalGradient(f, bmo.prox.L1(0.1), step=1.0), 0.5), 0.4, 0.2)
    out = single(u0.float(), Target(upper.t.float()), 5)
    assert out.dtype == torch.float32 and bool(torch.isfinite(out).all())


class Known(Target):
    def gradient(self, u: Tensor) -> Tensor:
        return self.w * (u - self.t)


def test_images() -> None:
    D = Lambda(lambda u: u.flip(-1), Identity(event_dims=3))
    u0, t = normal(generator(10), 2, 1, 3, 3), normal(generator(11), 2, 1, 3, 3)
    inner = Inner(GKM(D, 0.5), 0.5, 0.5)

    def upper(u: Tensor) -> Tensor:
        return 0.5 * (u - t).square().sum((-3, -2, -1))

    expected = 0.5 * (u0 - 0.5 * (u0 - t)) + 0.5 * (u0 + u0.flip(-1)) / 2
    torch.testing.assert_close(inner(u0, upper, 1), expected, rtol=1e-13, atol=1e-14)
    assert isinstance(inner.domain, Whole)
    assert inner.run(u0, upper, 2).residuals.shape == (3, 2)
