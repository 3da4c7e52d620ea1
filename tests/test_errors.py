"""Every error of the core: the right class, and what was required, given, and to be done."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable

import pytest
import torch

import bmo
from bmo import errors
from tests.instances import F64

ONE = torch.ones(2, dtype=F64)
EYE = torch.eye(2, dtype=F64)
INDEFINITE = torch.tensor([[1.0, 2.0], [2.0, 1.0]], dtype=F64)


def identity() -> bmo.operators.Lambda:
    return bmo.operators.Lambda(lambda u: u, bmo.metric.Identity())


def least_squares(step: float = 1.0) -> bmo.ProximalGradient:
    return bmo.ProximalGradient(bmo.LeastSquares(EYE, ONE), bmo.prox.L1(0.1), step=step)


def inner(**options) -> bmo.Inner:
    return bmo.Inner(bmo.GKM(least_squares(), 0.5), **options)


def upper(u: torch.Tensor) -> torch.Tensor:
    return 0.5 * u.square().sum(-1)


def growing(u: torch.Tensor) -> torch.Tensor:
    return 1e200 * u


CASES: dict[str, tuple[type[errors.BMOError], Callable[[], object], str]] = {
    "metric not positive": (
        errors.MetricError,
        lambda: bmo.metric.Dense(INDEFINITE),
        "eigenvalue -1",
    ),
    "metric not symmetric": (
        errors.MetricError,
        lambda: bmo.metric.Dense(torch.triu(torch.ones(2, 2))),
        "asymmetry",
    ),
    "metric of another size": (
        errors.MetricError,
        lambda: bmo.metric.Dense(EYE).norm(torch.ones(3, dtype=F64)),
        "length 2",
    ),
    "weights not positive": (
        errors.MetricError,
        lambda: bmo.metric.Diagonal(torch.tensor([1.0, -1.0])),
        "finite and > 0",
    ),
    "alpha = 1": (errors.DomainError, lambda: bmo.GKM(identity(), 1.0), "need not converge"),
    "alpha = 0": (errors.DomainError, lambda: bmo.GKM(identity(), 0.0), r"interval \(0, 1\)"),
    "mu = 1": (errors.DomainError, lambda: inner(mu=1.0), "would be ignored"),
    "mu < 0": (errors.DomainError, lambda: inner(mu=-0.1), r"\[0, 1\)"),
    "schedule grows": (
        errors.ScheduleError,
        lambda: inner(steps=[0.1, 0.2])(ONE, upper, 2),
        "s_2 = 0.2 after s_1 = 0.1",
    ),
    "schedule not positive": (
        errors.ScheduleError,
        lambda: inner(steps=[0.1, 0.0])(ONE, upper, 2),
        "positive steps",
    ),
    "u0 outside U": (
        errors.DomainError,
        lambda: inner(domain=bmo.sets.Box(-0.5, 0.5))(ONE, upper, 1),
        r"project it first",
    ),
    "u0 of wrong shape": (
        errors.MetricError,
        lambda: bmo.GKM(bmo.operators.Lambda(lambda u: u, bmo.metric.Dense(EYE)), 0.5).iterate(
            torch.ones(3, dtype=F64)
        ),
        "length 2",
    ),
    "u0 of wrong dtype": (
        errors.ShapeError,
        lambda: inner()(ONE.float(), upper, 1),
        "torch.float64",
    ),
    "u0 on another device": (
        errors.ShapeError,
        lambda: inner()(torch.ones(2, dtype=F64, device="meta"), upper, 1),
        "on cpu",
    ),
    "u0 of integers": (
        errors.ShapeError,
        lambda: bmo.GKM(identity(), 0.5).iterate(torch.ones(2, dtype=torch.int64)),
        "floating point",
    ),
    "NaN in the data": (
        errors.NonFiniteError,
        lambda: bmo.LeastSquares(EYE, ONE * math.nan),
        "clean the data",
    ),
    "inf in the data": (
        errors.NonFiniteError,
        lambda: bmo.LeastSquares(EYE * math.inf, ONE),
        "clean the data",
    ),
    "NaN in the start": (
        errors.NonFiniteError,
        lambda: bmo.GKM(identity(), 0.5).iterate(ONE * math.nan),
        "finite u0",
    ),
    "an iterate overflows": (
        errors.NonFiniteError,
        lambda: bmo.GKM(bmo.operators.Lambda(growing, bmo.metric.Identity()), 0.5).iterate(ONE),
        "at step 2",
    ),
    "an iterate of Algorithm 1 overflows": (
        errors.NonFiniteError,
        lambda: bmo.Inner(bmo.GKM(bmo.operators.Lambda(growing, bmo.metric.Identity()), 0.5)).run(
            ONE, upper, 5
        ),
        "at step 2",
    ),
    "tau > 2 / L": (errors.ConditionError, lambda: least_squares(2.02), "got: 2.02"),
    "s_1 too long": (
        errors.ConditionError,
        lambda: inner(steps=3.0, upper_lipschitz=1.0)(ONE, upper, 1),
        "s_1 <= 2 lambda_lb / L_upper = 2",
    ),
    "a metric that is not the operator's": (
        errors.CertificateError,
        lambda: bmo.certify.require(
            bmo.certify.nonexpansive(
                bmo.operators.Lambda(
                    lambda u: u.flip(-1), bmo.metric.Diagonal(torch.tensor([1.0, 100.0]))
                )
            )
        ),
        "claim another metric",
    ),
    "a relation that is no metric": (
        errors.CertificateError,
        lambda: bmo.certify.require(
            bmo.certify.metric_is_spd(bmo.metric.Functional(lambda u: -u, 0.5, 1.0), n=2)
        ),
        "positivity",
    ),
    "an unknown name of data": (
        errors.ConditionError,
        lambda: least_squares().bind(c=ONE),
        "use a name of this operator",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_each_error(name: str) -> None:
    kind, call, says = CASES[name]
    with pytest.raises(errors.BMOError, match=says) as caught:
        call()
    error = caught.value
    assert type(error) is kind
    assert error.required and error.got and error.remedy
    assert str(error) == f"required: {error.required}; got: {error.got}; remedy: {error.remedy}"


def test_an_overflow_keeps_the_last_finite_iterate_and_the_trace() -> None:
    T = bmo.GKM(bmo.operators.Lambda(growing, bmo.metric.Identity()), 0.5)
    with pytest.raises(errors.NonFiniteError) as caught:
        T.iterate(ONE, observe={"u": lambda u: u})
    kept = caught.value.value
    assert kept.iterations == 1 and bool(torch.isfinite(kept.value).all())
    assert torch.equal(kept.value, 0.5 * ONE + 0.5e200 * ONE)
    assert len(kept.trace["u"]) == 2 and len(kept.residuals) == 1


def test_all_errors_are_value_errors_and_travel() -> None:
    kinds = [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.BMOError)
    ]
    assert len(kinds) >= 11
    for kind in kinds:
        error = kind("this", "that", "do so", 3)
        assert isinstance(error, ValueError)
        back = pickle.loads(pickle.dumps(error))
        assert type(back) is kind and str(back) == str(error) and back.value == 3
