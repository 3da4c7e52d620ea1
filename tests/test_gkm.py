"""T = (1 - alpha) I + alpha D, its iteration, and how the iteration ends."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
import torch

import bmo
from bmo.errors import ConditionError, DomainError, MetricError, NonFiniteError, ShapeError
from bmo.gkm import GKM
from bmo.metric import Dense, Identity
from bmo.operators import Combination, Composition, Conjugate, Lambda, Stack, Unrelaxed
from bmo.operators.base import Preparing, same_metric
from bmo.result import Status
from tests.instances import F64, generator, nonexpansive_map, normal, spd


def rotation(angle: float = 0.5) -> Lambda:
    cos, sin = math.cos(angle), math.sin(angle)
    turn = torch.tensor([[cos, sin], [-sin, cos]], dtype=F64)
    return Lambda(lambda u: u @ turn, Identity())


def lasso(batch: int | None = None, check: bool = True, step: float = 1.0) -> bmo.ProximalGradient:
    g = generator(0)
    A = normal(g, 6, 4)
    A = A / torch.linalg.matrix_norm(A, 2)
    b = normal(g, 6) if batch is None else normal(g, batch, 6)
    f = bmo.LeastSquares(A, b, check=check)
    return bmo.ProximalGradient(f, bmo.prox.L1(0.1), step=step, check=check)


@pytest.mark.parametrize("alpha", [0.1, 0.5, 0.9])
def test_one_step_is_the_formula(alpha: float) -> None:
    D, u = rotation(), normal(generator(1), 3, 2)
    T = GKM(D, alpha)
    torch.testing.assert_close(T(u), (1 - alpha) * u + alpha * D(u), rtol=1e-15, atol=0)
    torch.testing.assert_close(T.residual(u), (u - T(u)).norm(dim=-1), rtol=1e-14, atol=0)
    assert T.metric is D.metric
    assert GKM(Lambda(D, Identity(), averaged=0.4), alpha).averaged == pytest.approx(0.4 * alpha)


def test_the_iteration_is_the_power_of_a_complex_number() -> None:
    """On the plane T multiplies by z; residuals are |1 - z| |z|^k."""
    alpha, angle, K = 0.3, 0.5, 7
    z = 1 - alpha + alpha * complex(math.cos(angle), math.sin(angle))
    seen = GKM(rotation(angle), alpha).iterate(
        torch.tensor([1.0, 0.0], dtype=F64), iterations=K, observe={"u": lambda u: u}
    )
    expected = [(z**k).real for k in range(K + 1)], [(z**k).imag for k in range(K + 1)]
    np.testing.assert_allclose(seen.traced("u").T.numpy(), expected, rtol=0, atol=1e-14)
    np.testing.assert_allclose(
        seen.residuals.numpy(), [abs(1 - z) * abs(z) ** k for k in range(K)], rtol=1e-13
    )
    assert (seen.status, seen.iterations, seen.converged) == (Status.FINISHED, K, False)
    torch.testing.assert_close(seen.value, seen.traced("u")[-1], rtol=0, atol=0)


def test_residuals_are_measured_in_the_metric() -> None:
    g = generator(2)
    H = spd(g, 3)
    D = Lambda(nonexpansive_map(g, H, torch.zeros(3, dtype=F64)), Dense(H))
    T, u = GKM(D, 0.5), normal(g, 4, 3)
    first = T.iterate(u, iterations=1).residuals[0]
    gap = u - T(u)
    torch.testing.assert_close(first, (gap @ H * gap).sum(-1).sqrt(), rtol=1e-12, atol=0)


def test_it_stops_when_every_point_is_there() -> None:
    T = GKM(Lambda(lambda u: 0 * u, Identity()), 0.5)
    u0 = torch.tensor([[1.0], [1024.0]], dtype=F64)
    result = T.iterate(u0, tol=1e-3)
    steps = 19  # the residual of the second point is 512 / 2^k
    assert (result.converged, result.iterations) == (True, steps)
    assert result.residuals.shape == (steps + 1, 2)
    assert bool((result.residuals[-1] <= 1e-3).all()) and result.residuals[-2, 1] > 1e-3
    assert T.residual(result.value).max() <= 1e-3
    limit = T.iterate(u0, iterations=5, tol=1e-3)
    assert (limit.status, limit.iterations, limit.converged) == (Status.LIMIT, 5, False)
    none = T.iterate(u0, iterations=0)
    assert none.iterations == 0 and torch.equal(none.value, u0) and none.residuals.numel() == 0


def test_a_run_that_is_not_finite_keeps_all_that_was() -> None:
    def explode(u: torch.Tensor) -> torch.Tensor:
        return torch.where(u > 100, torch.nan, 21 * u)

    T = GKM(Lambda(explode, Identity()), 0.5)
    u0 = torch.ones(1, dtype=F64)
    with pytest.raises(NonFiniteError, match="NaN or infinity at step 3") as caught:
        T.iterate(u0, iterations=10, observe={"u": lambda u: u})
    kept = caught.value.value
    assert kept.status is Status.NONFINITE and kept.iterations == 2
    assert kept.value.tolist() == [121.0]
    assert kept.traced("u").flatten().tolist() == [1.0, 11.0, 121.0]
    assert kept.residuals.flatten().tolist() == [10.0, 110.0]
    quiet = T.iterate(u0, iterations=10, throw=False)
    assert quiet.value.tolist() == [121.0] and not quiet.converged


@pytest.mark.parametrize("alpha", [0.0, -0.1, 1.1, math.nan, math.inf])
def test_alpha_outside_its_range_is_refused(alpha: float) -> None:
    with pytest.raises(DomainError, match=r"open interval \(0, 1\)"):
        GKM(rotation(), alpha)


def test_alpha_one_is_refused_with_the_reason() -> None:
    with pytest.raises(DomainError, match="D = -I cycles for ever.*operators.Unrelaxed"):
        GKM(rotation(), 1.0)
    flip = Lambda(lambda u: -u, Identity())
    cycle = GKM(flip, 1.0, check=False).iterate(torch.ones(1), iterations=100)
    assert cycle.residuals.unique().tolist() == [2.0]
    assert GKM(flip, 0.5).iterate(torch.ones(1), tol=0.0).converged


def test_starts_that_do_not_fit_are_refused() -> None:
    T = GKM(lasso(), 0.5)
    with pytest.raises(ShapeError, match="float64"):
        T.iterate(torch.zeros(4))
    with pytest.raises(ShapeError, match="device"):
        T.iterate(torch.zeros(4, dtype=F64, device="meta"))
    with pytest.raises(NonFiniteError, match="finite u0"):
        T.iterate(torch.full((4,), math.nan, dtype=F64))
    with pytest.raises(ShapeError, match="floating point u0"):
        GKM(Lambda(lambda u: u, Identity()), 0.5).iterate(torch.zeros(2, dtype=torch.int64))
    with pytest.raises(MetricError, match="length 2"):
        GKM(Lambda(lambda u: u, Dense(torch.eye(2, dtype=F64))), 0.5).iterate(torch.ones(3))
    with pytest.raises(DomainError, match="iterations >= 0"):
        T.iterate(torch.zeros(4, dtype=F64), iterations=-1)


def test_no_gradient_is_kept() -> None:
    D = bmo.ProximalGradient(lasso().smooth, bmo.prox.L1(0.1, learn=True), step=1.0)
    result = GKM(D.double(), 0.5).iterate(torch.zeros(4, dtype=F64), iterations=3)
    assert not result.value.requires_grad and not result.residuals.requires_grad


def test_bind_shares_parameters_and_changes_data() -> None:
    D = bmo.ProximalGradient(lasso().smooth, bmo.prox.L1(0.1, learn=True), step=1.0).double()
    b = normal(generator(3), 5, 6)
    T = GKM(D, 0.5)
    bound = T.bind(b=b)
    u = normal(generator(4), 5, 4)
    expected = GKM(bmo.ProximalGradient(bmo.LeastSquares(D.smooth.A, b), D.prior, step=1.0), 0.5)
    torch.testing.assert_close(bound(u), expected(u), rtol=1e-14, atol=1e-14)
    assert [id(p) for p in bound.parameters()] == [id(p) for p in T.parameters()]
    assert D.smooth.b.shape == (6,)  # the original is untouched
    outer = Composition(Lambda(lambda u: u, D.metric), D)
    torch.testing.assert_close(outer.bind(b=b)(u), bound.operator(u), rtol=1e-14, atol=1e-14)
    assert outer.parts[1].smooth.b.shape == (6,)
    with pytest.raises(ConditionError, match=r"\['A', 'b'"):
        T.bind(c=b)


def test_compiled_and_float32() -> None:
    T, u = GKM(lasso(), 0.5), normal(generator(5), 3, 4)
    compiled = torch.compile(T, backend="aot_eager")
    torch.testing.assert_close(compiled(u), T(u), rtol=1e-14, atol=1e-14)
    single = GKM(lasso().float(), 0.5).iterate(u.float(), iterations=50)
    double = T.iterate(u, iterations=50)
    assert single.value.dtype == torch.float32
    torch.testing.assert_close(single.value.double(), double.value, rtol=1e-4, atol=1e-5)


# --- the building blocks that belong to the core ------------------------------------------------


def test_ista_is_a_special_case() -> None:
    """T = prox(I - tau grad) for D = I + (F - I)/a and alpha = a, against ISTA in numpy."""
    F = lasso(step=1.3)
    A, b = F.smooth.A.numpy(), F.smooth.b.numpy()
    T = GKM(Unrelaxed(F), alpha=F.averaged)
    L = np.linalg.norm(A, 2) ** 2
    assert F.averaged == pytest.approx(2 / (4 - 1.3 * L), rel=1e-12)
    u, x = torch.zeros(4, dtype=F64), np.zeros(4)
    for _ in range(30):
        y = x - 1.3 * A.T @ (A @ x - b)
        x = np.sign(y) * np.maximum(np.abs(y) - 0.13, 0)
        u = T(u)
    np.testing.assert_allclose(u.numpy(), x, rtol=0, atol=1e-13)
    assert bmo.certify.nonexpansive(Unrelaxed(F), size=4).holds


def test_a_step_that_is_too_long_is_refused() -> None:
    with pytest.raises(ConditionError, match="curvature in the metric <= 2; got: 2.02"):
        lasso(step=2.02)
    long = lasso(step=2.02, check=False)
    assert long.certified == "none"
    assert bmo.certify.nonexpansive(long, size=4).measured > 1.01
    assert lasso(step=2.0).averaged == pytest.approx(1.0, abs=1e-12)
    for wrong in ({}, {"step": 1.0, "metric": Identity()}):
        with pytest.raises(ConditionError, match="either step or metric"):
            bmo.ProximalGradient(lasso().smooth, **wrong)
    with pytest.raises(MetricError):
        bmo.ProximalGradient(lasso().smooth, step=-1.0)


def test_a_preconditioned_gradient_step() -> None:
    g = generator(6)
    Q, P = spd(g, 3), spd(g, 3)
    f = bmo.smooth.Quadratic(Q, torch.zeros(3, dtype=F64))
    half = float(f.curvature(Dense(P))) / 2
    D = bmo.ProximalGradient(f, metric=Dense(P * half))
    u = normal(g, 2, 3)
    expected = u - torch.linalg.solve(P * half, Q @ u.mT).mT
    torch.testing.assert_close(D(u), expected, rtol=1e-11, atol=1e-12)
    assert bmo.certify.nonexpansive(D).measured == pytest.approx(1.0, abs=1e-10)
    with pytest.raises(ConditionError):
        bmo.ProximalGradient(f, metric=Dense(P * half * 0.99))


def test_combining_operators() -> None:
    g = generator(7)
    H = spd(g, 3)
    zero = torch.zeros(3, dtype=F64)
    D1, D2 = (Lambda(nonexpansive_map(g, H, zero), Dense(H), averaged=a) for a in (0.5, 0.3))
    u = normal(g, 4, 3)
    both = Composition(D1, D2)
    torch.testing.assert_close(both(u), D1(D2(u)), rtol=0, atol=0)
    assert both.averaged == pytest.approx(bmo.bounds.composition_averaged(0.5, 0.3), rel=1e-14)
    assert Composition(D1, Lambda(D2, Dense(H))).averaged == 1.0
    mixed = Combination([D1, D2], [0.25, 0.75])
    torch.testing.assert_close(mixed(u), 0.25 * D1(u) + 0.75 * D2(u), rtol=1e-14, atol=1e-15)
    assert mixed.averaged == pytest.approx(0.25 * 0.5 + 0.75 * 0.3, rel=1e-14)
    stack = Stack([3, 2], [D1, rotation()])
    x = normal(g, 4, 5)
    torch.testing.assert_close(stack(x), torch.cat([D1(x[:, :3]), rotation()(x[:, 3:])], -1))
    assert stack.averaged == 1.0
    torch.testing.assert_close(stack.metric.matrix((5,))[:3, :3], H, rtol=1e-12, atol=0)
    for D in (both, mixed, stack):
        assert D.certified == "none"
        assert bmo.certify.nonexpansive(D, ascent=10).holds


def test_combining_different_metrics_is_refused() -> None:
    plain, other = rotation(), Lambda(lambda u: u, Dense(2 * torch.eye(2, dtype=F64)))
    for build in (
        lambda: Composition(plain, other),
        lambda: Combination([plain, other], [0.5, 0.5]),
    ):
        with pytest.raises(MetricError, match="one common metric"):
            build()
    assert Composition(plain, other, check=False).certified == "none"
    for weights in ([0.5, 0.6], [-0.5, 1.5], [1.0]):
        with pytest.raises(ConditionError, match="sum to 1"):
            Combination([plain, plain], weights)


def test_when_metrics_are_the_same() -> None:
    H = spd(generator(8), 3)
    assert same_metric(Dense(H), Dense(H.clone()))
    assert not same_metric(Dense(H), Dense(H * (1 + 1e-6)))
    assert not same_metric(Dense(H), Dense(H[:2, :2]))
    assert same_metric(Identity(), bmo.metric.Diagonal(torch.ones(3, dtype=F64)))
    assert not same_metric(Identity(), bmo.metric.Scaled(1.001))
    assert not same_metric(Identity(), Identity(event_dims=3))
    assert same_metric(Dense(torch.eye(3, dtype=F64)), Identity())
    assert not same_metric(Dense(2 * torch.eye(3, dtype=F64)), Identity())
    symbol = torch.full((4, 5), 2.0, dtype=F64)
    spectral = bmo.metric.Spectral(symbol)
    assert same_metric(spectral, bmo.metric.Spectral(symbol[None].repeat(2, 1, 1)))
    assert same_metric(spectral, bmo.metric.Scaled(2.0, event_dims=3))
    assert not same_metric(spectral, Identity(event_dims=3))
    single = bmo.metric.Block([1, 2], [Identity(), Dense(torch.eye(2))])
    assert same_metric(single, Dense(torch.eye(3)))


def test_conjugation_carries_a_map_into_a_metric() -> None:
    g = generator(9)
    H = spd(g, 2, cond=1e4)
    D = Conjugate(rotation(1.2), Dense(H))
    assert not bmo.certify.nonexpansive(rotation(1.2), metric=Dense(H)).holds
    assert bmo.certify.nonexpansive(D).measured == pytest.approx(1.0, abs=1e-9)
    R = torch.linalg.cholesky(H).mT
    u = normal(g, 3, 2)
    expected = torch.linalg.solve(R, rotation(1.2)((R @ u.mT).mT).mT).mT
    torch.testing.assert_close(D(u), expected, rtol=1e-10, atol=1e-10)
    follows = Conjugate(rotation(), lasso_like := Lambda(lambda u: u, Dense(H)))
    assert follows.metric is lasso_like.metric and follows.averaged == 1.0
    with pytest.raises(MetricError, match="conjugate the Euclidean network itself"):
        Conjugate(D, Identity())


def test_undoing_a_relaxation() -> None:
    half = Lambda(lambda u: 0 * u, Identity(), averaged=0.5)
    assert Unrelaxed(half)(torch.ones(1)).tolist() == [-1.0]
    assert Unrelaxed(half).metric is half.metric
    with pytest.raises(ConditionError, match="a < 1"):
        Unrelaxed(rotation())
    for a in (0.0, 1.1, math.nan):
        with pytest.raises(ConditionError, match=r"\(0, 1\]"):
            Lambda(lambda u: u, Identity(), averaged=a)


class Counting(Preparing):
    """u / (1 + w^2) with a norm that is worth computing once."""

    def __init__(self, w: torch.Tensor, learn: bool) -> None:
        super().__init__()
        self.w = torch.nn.Parameter(w, requires_grad=learn)
        self.register_buffer("b", torch.zeros_like(w))
        self.count = 0

    metric = Identity()

    def _compute(self) -> torch.Tensor:
        self.count += 1
        return 1 + self.w.square()

    def forward(self, u: torch.Tensor) -> torch.Tensor:
        return u / self.prepare() + self.b


def test_work_is_shared_by_a_loop_and_never_stale() -> None:
    w, u = torch.tensor([2.0], dtype=F64), torch.ones(1, dtype=F64)
    fixed = Counting(w.clone(), learn=False)
    GKM(fixed, 0.5).iterate(u, iterations=4)
    assert fixed.count == 1
    with torch.no_grad():
        fixed.w.fill_(3.0)
    torch.testing.assert_close(fixed(u), u / 10, rtol=1e-15, atol=0)
    assert fixed.count == 2

    learned = Counting(w.clone(), learn=True)
    learned(learned(u))
    assert learned.count == 2  # every step, so that each has its own gradient
    bound = learned.bind(b=u)
    before = bound.count
    out = bound(bound(u))
    assert bound.count == before and bound.w is learned.w
    (grad,) = torch.autograd.grad(out.sum(), bound.w)
    expected = torch.autograd.functional.jacobian(
        lambda w: ((u / (1 + w**2) + u) / (1 + w**2) + u).sum(), w
    )
    torch.testing.assert_close(grad, expected, rtol=1e-14, atol=0)
    pair = Composition(learned, learned).prepared()
    assert pair.parts[0] is pair.parts[1] and pair.parts[0] is not learned
    plain = rotation()
    assert plain.prepared() is plain
    assert pickle.loads(pickle.dumps(fixed))._ready is None
