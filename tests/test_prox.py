"""Proximal operators against brute-force minimisation, their laws, and Moreau's identity."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.optimize import minimize, minimize_scalar

import bmo
from bmo import prox
from bmo.errors import DomainError, MetricError, ShapeError
from bmo.metric import Dense, Diagonal, Identity, Metric, Scaled
from bmo.sets import Ball, Box, Nonnegative
from tests.instances import F64, generator, normal, spd

LAMBDA, CENTER = 0.7, 0.4


def huge_outside(f: Callable[[float], float], low: float, high: float) -> Callable[[float], float]:
    return lambda x: f(x) if low <= x <= high else math.inf


# each function of one variable again, written here
SCALAR: dict[str, tuple[prox.Prox, Callable[[float], float], tuple[float, float]]] = {
    "zero": (prox.Zero(), lambda x: 0.0, (-9, 9)),
    "l1": (prox.L1(LAMBDA), lambda x: LAMBDA * abs(x), (-9, 9)),
    "nonnegative l1": (prox.NonnegativeL1(LAMBDA), lambda x: LAMBDA * x, (0, 9)),
    "group": (prox.GroupL1(LAMBDA, group=1), lambda x: LAMBDA * abs(x), (-9, 9)),
    "squared": (prox.SquaredL2(LAMBDA, CENTER), lambda x: LAMBDA / 2 * (x - CENTER) ** 2, (-9, 9)),
    "indicator": (prox.Indicator(Box(-0.5, 1.0)), lambda x: 0.0, (-0.5, 1.0)),
    "l1 conjugate": (prox.Conjugate(prox.L1(LAMBDA)), lambda y: 0.0, (-LAMBDA, LAMBDA)),
    "squared conjugate": (
        prox.Conjugate(prox.SquaredL2(LAMBDA, CENTER)),
        lambda y: y**2 / (2 * LAMBDA) + CENTER * y,
        (-9, 9),
    ),
}


@pytest.mark.parametrize("name", SCALAR)
@pytest.mark.parametrize("weight", [0.3, 1.0, 4.0])
def test_one_variable_by_brute_force(name: str, weight: float) -> None:
    g, value, ends = SCALAR[name]
    u = torch.tensor([[-3.0], [-0.6], [0.0], [0.2], [2.5]], dtype=F64)
    found = g(u, Scaled(weight))
    for x, y in zip(found.flatten().tolist(), u.flatten().tolist(), strict=True):
        best = minimize_scalar(
            lambda z, y=y: value(z) + weight / 2 * (z - y) ** 2,
            bounds=ends,
            method="bounded",
            options={"xatol": 1e-11, "maxiter": 2000},
        )
        assert x == pytest.approx(best.x, abs=1e-6)
        assert value(x) + weight / 2 * (x - y) ** 2 <= best.fun + 1e-13


@pytest.mark.parametrize("weight", [0.5, 3.0])
def test_a_group_by_brute_force(weight: float) -> None:
    g, u = prox.GroupL1(1.1, group=2), torch.tensor([2.0, -1.0, 0.1, 0.2], dtype=F64)
    found = g(u, Scaled(weight)).numpy()

    for part in (slice(0, 2), slice(2, 4)):
        start = u[part].numpy()

        def value(x: np.ndarray, y: np.ndarray = start) -> float:
            return 1.1 * float(np.hypot(*x)) + weight / 2 * float(np.sum((x - y) ** 2))

        options = {"xatol": 1e-10, "fatol": 1e-16}
        best = minimize(value, start, method="Nelder-Mead", options=options)
        assert value(found[part]) <= best.fun + 1e-13
        np.testing.assert_allclose(found[part], best.x, atol=1e-6)
    assert found[2:].tolist() == [0.0, 0.0]


def functions() -> dict[str, prox.Prox]:
    each = torch.tensor([0.2, 1.0, 3.0, 0.5], dtype=F64)
    return {
        "zero": prox.Zero(),
        "l1": prox.L1(each),
        "learned l1": prox.L1(each, learn=True),
        "nonnegative l1": prox.NonnegativeL1(each),
        "squared": prox.SquaredL2(each, center=each.flip(0)),
        "box": prox.Indicator(Box(-1.0, 0.5)),
        "ball": prox.Indicator(Ball(1.2)),
        "group": prox.GroupL1(0.8, group=2),
    }


METRICS: dict[str, Metric] = {
    "identity": Identity(),
    "scaled": Scaled(0.37),
    "diagonal": Diagonal(torch.tensor([0.5, 1.0, 2.0, 8.0], dtype=F64)),
}


@pytest.mark.parametrize("name", functions())
@pytest.mark.parametrize("metric", METRICS)
def test_the_laws_of_proximal_operators(name: str, metric: str) -> None:
    g, H = functions()[name], METRICS[metric]
    if name == "group" and metric == "diagonal":
        with pytest.raises(MetricError, match="multiple of the identity"):
            g(torch.ones(4, dtype=F64), H)
        return
    bmo.certify.require(bmo.certify.prox_optimality(g, H, n=4, tol=1e-8))
    bmo.certify.require(bmo.certify.firmly_nonexpansive(g, H, n=4, tol=1e-8))


def test_a_threshold_for_each_group() -> None:
    u = 2 * normal(generator(4), 6, 4)
    g = prox.GroupL1(torch.tensor([0.3, 1.2], dtype=F64), group=2)
    first, second = prox.GroupL1(0.3, group=2), prox.GroupL1(1.2, group=2)
    for H in (Scaled(0.7), Scaled(torch.tensor([0.7], dtype=F64))):
        expected = torch.cat([first(u[:, :2], H), second(u[:, 2:], H)], -1)
        torch.testing.assert_close(g(u, H), expected, rtol=0, atol=0)
    values = first.value(u[:, :2]) + second.value(u[:, 2:])
    torch.testing.assert_close(g.value(u), values, rtol=1e-15, atol=0)
    bmo.certify.require(bmo.certify.prox_optimality(g, Scaled(0.7), n=4, tol=1e-7))
    one = prox.GroupL1(torch.tensor([0.3], dtype=F64), group=2)
    torch.testing.assert_close(one(u, Identity()), first(u, Identity()), rtol=0, atol=0)
    for call in (lambda g: g(u, Scaled(0.7)), lambda g: g.value(u)):
        with pytest.raises(ShapeError, match="one for each of 2 groups"):
            call(prox.GroupL1(torch.ones(3, dtype=F64), group=2))


def test_an_indicator_in_a_dense_metric() -> None:
    H, g = Dense(spd(generator(0), 4, cond=20.0)), prox.Indicator(Ball(1.0))
    bmo.certify.require(bmo.certify.prox_optimality(g, H, tol=1e-7))
    bmo.certify.require(bmo.certify.firmly_nonexpansive(g, H, tol=1e-7))


PAIRS = {
    "l1": (prox.L1(LAMBDA), prox.Indicator(Box(-LAMBDA, LAMBDA))),
    "orthant": (prox.Indicator(Nonnegative()), prox.Indicator(Box(-math.inf, 0.0))),
    "zero": (prox.Zero(), prox.Indicator(Box(0.0, 0.0))),
    "squared": (prox.SquaredL2(2.0), prox.SquaredL2(0.5)),
    "group": (prox.GroupL1(0.9, group=4), prox.Indicator(Ball(0.9))),
}


@pytest.mark.parametrize("name", PAIRS)
def test_moreau_with_conjugates_known_by_formula(name: str) -> None:
    g, dual = PAIRS[name]
    H, inverse = Scaled(2.5), Scaled(0.4)
    bmo.certify.require(bmo.certify.moreau(g, dual, H, inverse, n=4))
    u = 3 * normal(generator(1), 20, 4)
    torch.testing.assert_close(prox.Conjugate(g)(u, H), dual(u, H), rtol=1e-12, atol=1e-12)
    if name not in {"group"}:
        d = torch.tensor([0.5, 1.0, 2.0, 8.0], dtype=F64)
        H2, inverse2 = Diagonal(d), Diagonal(1 / d)
        bmo.certify.require(bmo.certify.moreau(g, dual, H2, inverse2))
        torch.testing.assert_close(prox.Conjugate(g)(u, H2), dual(u, H2), rtol=1e-12, atol=1e-12)


class Wrong(prox.L1):
    """Forgets to divide the threshold by the metric."""

    def forward(self, u, metric):
        return prox.soft(u, self.threshold())


def test_the_laws_notice_a_wrong_operator() -> None:
    g, H = Wrong(1.0), Scaled(4.0)
    assert not bmo.certify.prox_optimality(g, H, n=3)
    assert not bmo.certify.moreau(g, prox.Indicator(Box(-1.0, 1.0)), H, Scaled(0.25), n=3)

    class Doubled(prox.Zero):
        def forward(self, u, metric):
            return 1.5 * u

    assert not bmo.certify.firmly_nonexpansive(Doubled(), H, n=3)


def test_values() -> None:
    u = torch.tensor([[1.0, -2.0], [3.0, 4.0]], dtype=F64)
    assert prox.Zero().value(u).tolist() == [0.0, 0.0]
    assert prox.L1(torch.tensor([2.0, 1.0], dtype=F64)).value(u).tolist() == [4.0, 10.0]
    assert prox.NonnegativeL1(0.5).value(u).tolist() == [math.inf, 3.5]
    assert prox.GroupL1(2.0, group=2).value(u)[1].item() == 10.0
    assert prox.SquaredL2(3.0, center=1.0).value(u).tolist() == [13.5, 19.5]
    assert prox.Indicator(Box(-2.0, 2.0)).value(u).tolist() == [0.0, math.inf]
    with pytest.raises(DomainError, match="Fenchel"):
        prox.Conjugate(prox.Zero()).value(u)


@pytest.mark.parametrize("kind", ["l1", "nonnegative", "group", "groups", "squared"])
def test_learned_thresholds_have_the_right_gradient(kind: str) -> None:
    start = torch.tensor(0.6, dtype=F64)
    build = {
        "l1": lambda: prox.L1(start, learn=True),
        "nonnegative": lambda: prox.NonnegativeL1(start, learn=True),
        "group": lambda: prox.GroupL1(start, group=2, learn=True),
        "groups": lambda: prox.GroupL1(torch.tensor([0.6, 1.2], dtype=F64), group=2, learn=True),
        "squared": lambda: prox.SquaredL2(start, center=0.3, learn=True),
    }
    g, u = build[kind](), 2 * normal(generator(2), 5, 4)
    (name, raw), *rest = g.named_parameters()
    assert not rest

    def call(raw, u, d):
        return torch.func.functional_call(g, {name: raw}, (u, Scaled(d)))

    d = torch.tensor(1.7, dtype=F64)
    inputs = (raw.detach().requires_grad_(), u.requires_grad_(), d.requires_grad_())
    assert torch.autograd.gradcheck(call, inputs)


def test_numbers_keep_their_digits_and_follow_the_points() -> None:
    u = torch.tensor([1.0], dtype=F64)
    assert prox.L1(0.1)(u, Identity()).item() == 0.9
    assert prox.SquaredL2(1)(u.float(), Identity()).dtype == torch.float32
    for g in functions().values():
        assert g(torch.randn(2, 4), Scaled(0.3)).dtype in (torch.float32, F64)
    assert prox.L1(0.1)(u.float(), Scaled(0.3)).dtype == torch.float32
    assert set(prox.L1(0.1).state_dict()) == {"threshold.fixed"}


def test_compiled_as_in_eager_mode() -> None:
    g, H, u = (
        prox.L1(0.3),
        Diagonal(torch.tensor([1.0, 2.0], dtype=F64)),
        normal(generator(3), 4, 2),
    )
    compiled = torch.compile(lambda u: g(u, H), backend="aot_eager")
    torch.testing.assert_close(compiled(u), g(u, H), rtol=1e-14, atol=0)


@pytest.mark.parametrize(
    "build",
    [
        lambda: prox.L1(0.0),
        lambda: prox.L1(-1.0, learn=True),
        lambda: prox.L1(torch.tensor([1.0, 0.0])),
        lambda: prox.NonnegativeL1(math.nan),
        lambda: prox.GroupL1(-1.0, group=2),
        lambda: prox.SquaredL2(0.0),
    ],
)
def test_thresholds_that_are_not_positive_are_refused(build) -> None:
    with pytest.raises(DomainError, match="threshold > 0"):
        build()


@pytest.mark.parametrize(
    "g", [prox.L1(1.0), prox.GroupL1(1.0, 1), prox.SquaredL2(1.0), prox.Conjugate(prox.L1(1.0))]
)
def test_a_dense_metric_is_refused_with_a_way_out(g: prox.Prox) -> None:
    with pytest.raises(MetricError, match="use Scaled or Diagonal"):
        g(torch.ones(2, dtype=F64), Dense(torch.eye(2, dtype=F64)))
