"""What estimators refuse, what they warn of, and their edges."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import bmo
from bmo.errors import ConditionError, DomainError
from bmo.hypergradient import (
    GMRES,
    METHODS,
    VALIDITY,
    ActiveSet,
    AdjointWarning,
    ConjugateGradient,
    FixedPoint,
    Neumann,
    Recompute,
    Truncated,
    hypergradient,
    validity,
)
from bmo.problems import toy
from bmo.sets import Ball, Box, Nonnegative, Set, Whole
from tests.instances import F64, generator, normal

IMPLICIT = ("neumann", "fixed-point", "cg", "gmres", "active-set")
UNROLLED = ("reverse", "recompute", "truncated", "one-step")
N = 6


def upper(u: Tensor) -> Tensor:
    return 0.5 * (u - 1).square().sum(-1)


def lasso(
    mu: float = 0.0, domain: Set | None = None, kind: Any = bmo.Inner, steps: Any = 0.3,
    A: Tensor | None = None, dtype: torch.dtype = F64,
) -> bmo.Inner:  # fmt: skip
    g = generator(0)
    A = normal(g, 8, N) / 3 if A is None else A
    b = (A.sum(-1) + 0.1 * normal(g, 8)).to(dtype)
    A = A.to(dtype)
    prior = bmo.prox.L1(torch.tensor(0.3, dtype=dtype), learn=True)
    step = 1 / float(torch.linalg.matrix_norm(A, 2)) ** 2
    D = bmo.ProximalGradient(bmo.LeastSquares(A, b), prior, step=step)
    inner: bmo.Inner = kind(bmo.GKM(D, 0.9), mu, steps, domain)
    return inner


START = torch.zeros(N, dtype=F64)


def test_the_registry_holds_them_all_and_says_when() -> None:
    assert set(METHODS) == set(VALIDITY) == {*IMPLICIT, *UNROLLED}
    assert all("emory" in validity(name) or name == "one-step" for name in METHODS)


@pytest.mark.parametrize("method", IMPLICIT)
def test_a_loop_that_repeats_no_map_has_no_equation(method: str) -> None:
    if method != "active-set":  # which refuses every mu > 0
        with pytest.raises(ConditionError, match="repeats one map"):
            hypergradient(lasso(0.3, steps=bmo.schedule(0.5)), START, upper, 9, method=method)
    anchored = lasso(kind=bmo.AnchoredInner)
    with pytest.raises(ConditionError, match="AnchoredInner"):
        hypergradient(anchored, START, upper, 9, method=method)
    for ready in UNROLLED:
        assert hypergradient(anchored, START, upper, 9, method=ready).solved


def test_active_set_refuses_what_is_not_of_its_family() -> None:
    tied = torch.cat([normal(generator(1), 8, 3)] * 2, 1)
    faults: list[tuple[str, Any]] = [
        ("mu = 0.3", lasso(0.3)),
        ("Ball", lasso(domain=Ball(9.0))),
        ("Lambda", bmo.Inner(bmo.GKM(bmo.operators.Lambda(nn.Linear(N, N).double(),
                                                          bmo.metric.Identity()), 0.5), 0.0)),
        ("dependent", lasso(A=tied)),
    ]  # fmt: skip
    for match, inner in faults:
        with pytest.raises(ConditionError, match=match):
            hypergradient(inner, START, upper, 99, method="active-set")


@pytest.mark.parametrize("domain", [Whole(), Nonnegative(), Box(-0.2, 0.2), Box(0.05, 9.0)])
def test_active_set_on_the_ends_of_a_box(domain: Set) -> None:
    """Also where entries sit at 0, which is an end of the orthant: the residual is rounding."""
    inner = lasso(domain=domain)
    u0 = domain.nearest(START)
    got = hypergradient(inner, u0, upper, 2000, method="active-set")
    want = hypergradient(inner, u0, upper, 2000)
    assert got.solved and float(got.adjoint_residual.max()) < 1e-12
    for name, g in want.gradients.items():
        assert torch.allclose(got.gradients[name], g, rtol=1e-9, atol=1e-14)


def test_active_set_warns_before_the_support_is_final() -> None:
    class Twice(bmo.Inner):
        def step(self, u: Tensor, s: float, upper: Any, metric: Any) -> Tensor:
            return super().step(super().step(u, s, upper, metric), s, upper, metric)

    with pytest.warns(AdjointWarning):  # a step that its closed form does not know
        got = hypergradient(lasso(kind=Twice), START, upper, 50, method=ActiveSet())
    assert not got.solved


@pytest.mark.parametrize("make", [FixedPoint, ConjugateGradient, GMRES])
def test_settings_out_of_range(make: Any) -> None:
    for tol in (0.0, 1.0, -1.0, float("nan")):
        with pytest.raises(DomainError, match="tolerance"):
            make(tol)
    with pytest.raises(DomainError, match="limit"):
        make(limit=0)
    with pytest.raises(DomainError, match="restart"):
        GMRES(restart=0)
    for wrong in (lambda: Truncated(0), lambda: Neumann(0), lambda: Recompute(0),
                  lambda: Recompute(2, budget=9)):  # fmt: skip
        with pytest.raises(DomainError):
            wrong()


@pytest.mark.parametrize("method", [FixedPoint(limit=3), GMRES(limit=2), GMRES(1e-14, 4, 2)])
def test_a_limit_that_is_reached_warns(method: Any) -> None:
    with pytest.warns(AdjointWarning, match="relative residual"):
        got = hypergradient(lasso(), START, upper, 300, method=method)
    assert not got.solved and float(got.adjoint_residual) > 1e-10


def test_single_precision_has_its_own_tolerance() -> None:
    inner, exact = lasso(dtype=torch.float32), lasso()
    for method in ("fixed-point", "gmres", "active-set"):
        got = hypergradient(inner, START.float(), upper, 500, method=method)
        want = hypergradient(exact, START, upper, 500, method=method)
        assert got.solved and float(got.adjoint_residual) < 2e-4
        for one, two in zip(got.gradients.values(), want.gradients.values(), strict=True):
            assert one.dtype == torch.float32
            assert torch.allclose(one.double(), two, rtol=1e-3)


@pytest.mark.parametrize("method", [*UNROLLED, *IMPLICIT, Recompute(budget=10)])
def test_no_step_at_all(method: Any) -> None:
    """The unrolled ones see no parameter; the implicit ones take the start for the limit."""
    if method == "cg":
        inner: Any = bmo.Inner(toy.quadratic(3).training(0.9), 0.0)
        got = hypergradient(inner, torch.zeros(3, dtype=F64), upper, 0, method=method)
        assert got.solved
        return
    got = hypergradient(lasso(), START + 1.0, upper, 0, method=method)
    assert torch.equal(got.u, START + 1.0) and float(got.value) == 0.0
    assert got.norm() == 0.0


class Weighted(nn.Module):
    """An upper objective with a parameter, for loops that have none."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(2.0, dtype=F64))

    def forward(self, u: Tensor) -> Tensor:
        return self.weight * u.square().sum(-1)


@pytest.mark.parametrize("method", [*UNROLLED, *IMPLICIT[:4]])
def test_a_step_that_forgets_everything(method: str) -> None:
    """T is constant: no graph reaches the point, and the direct part is all there is."""
    goal = torch.tensor([1.0, 2.0], dtype=F64)
    D = bmo.operators.Lambda(lambda u: goal.expand_as(u), bmo.metric.Identity())
    T = bmo.GKM(D, 1.0, check=False)

    class Forgets(bmo.Inner):
        def step(self, u: Tensor, s: float, upper: Any, metric: Any) -> Tensor:
            return goal.expand_as(u)

    for kind in (bmo.Inner, Forgets):
        inner, objective = kind(T, 0.0), Weighted()
        got = hypergradient(inner, torch.zeros(2, dtype=F64), objective, 12, method=method)
        assert got.gradients == {"upper.weight": torch.tensor(5.0, dtype=F64)}


@pytest.mark.parametrize("kind", [bmo.Inner, bmo.AnchoredInner])
def test_recomputing_with_a_start_and_an_upper_objective_that_are_learned(kind: Any) -> None:
    objective = Weighted()
    w = torch.tensor(0.3, dtype=F64, requires_grad=True)
    inner = lasso(0.3, kind=kind)
    wanted = {"w": w, "upper": objective.weight, **dict(inner.named_parameters())}
    one, two, last = (
        hypergradient(inner, w * torch.ones(N, dtype=F64), objective, 9, wanted, method)
        for method in ("reverse", Recompute(4), Truncated(9))
    )
    for name, g in one.gradients.items():
        assert float(g.abs().max()) > 1e-6
        assert torch.allclose(two.gradients[name], g, rtol=1e-11)
        assert torch.allclose(last.gradients[name], g, rtol=1e-11)
    # the start belongs to what a truncated gradient leaves out, an anchor does not
    part = hypergradient(inner, w * torch.ones(N, dtype=F64), objective, 9, wanted, Truncated(8))
    assert (float(part.gradients["w"].abs()) > 0) == (kind is bmo.AnchoredInner)


def test_a_budget_needs_no_more_steps_than_there_are() -> None:
    inner = lasso(0.3, steps=[0.5])
    want = hypergradient(inner, START, upper, 1)
    got = hypergradient(inner, START, upper, 1, method=Recompute(budget=10**6))
    assert want.norm() == got.norm() > 0
