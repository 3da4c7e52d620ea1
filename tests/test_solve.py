"""Algorithm 1 against known minimisers, hand-written steps and torch's own optimizers."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import bmo
from bmo.errors import DomainError, NonFiniteError, TrainingError
from bmo.hypergradient import hypergradient
from bmo.problems import toy
from bmo.sets import Box
from bmo.solve import solve

NAME = "training_map.operator.omega"


def loop(problem: toy.Bilevel, mu: float = 0.0, alpha: float = 0.5, s: float = 0.5) -> bmo.Inner:
    return bmo.Inner(problem.training(alpha), mu, bmo.schedule(s, p=0.5), problem.domain)


@pytest.mark.parametrize("K", [1, 3, 20])
def test_plain_unrolling_of_the_counterexample_stays_wrong(K: int) -> None:
    problem, c = toy.singleton_failure(), 1 - 0.5**K
    found = solve(loop(problem), problem.start, problem.upper, K, outer=200, gamma=0.5)
    assert float(found.omega[NAME]) == pytest.approx(c / (1 + c**2), abs=1e-12)
    assert float(found.values[-1]) == pytest.approx(0.5 / (1 + c**2), abs=1e-12)


def test_aggregation_repairs_the_counterexample() -> None:
    errors = []
    for K in (20, 100):
        problem = toy.singleton_failure()
        inner = loop(problem, mu=0.5)
        found = solve(inner, problem.start, problem.upper, K, outer=60, gamma=0.5)
        errors.append(abs(float(found.omega[NAME]) - 1))
    assert errors[0] < 0.05 and errors[1] < 0.01 * errors[0]


def test_each_step_is_the_printed_one() -> None:
    problem = toy.quadratic(3, seed=1)
    inner, gamma, K = loop(problem, mu=0.3), 0.7, 5
    found = solve(inner, problem.start, problem.upper, K, outer=4, gamma=gamma, keep=True)
    again = toy.quadratic(3, seed=1)
    other = loop(again, mu=0.3)
    for t in range(4):
        assert torch.equal(found.trace[NAME][t], again.omega.detach())
        here = hypergradient(other, again.start, again.upper, K)
        assert float(found.values[t]) == float(here.value)
        assert float(found.gradient_norms[t]) == here.norm()
        assert float(found.residuals[t]) == float(here.residual)
        with torch.no_grad():
            again.omega.sub_(gamma * here.gradients[NAME])
    assert torch.equal(found.omega[NAME], again.omega.detach())
    last = other.run(again.start, again.upper, K)
    assert torch.equal(found.u, last.value)
    assert float(found.residuals[4]) == float(last.residuals[-1])
    assert float(found.values[4]) == float(again.upper(last.value))
    assert found.values.shape == (5,) and found.gradient_norms.shape == (4,)
    assert found.trace[NAME].shape == (5, 3)


def test_the_ridge_weights_are_found() -> None:
    problem = toy.quadratic(3, seed=1)
    inner = bmo.Inner(problem.training(0.9), 0.0)
    optimizer = torch.optim.LBFGS(
        inner.parameters(),
        line_search_fn="strong_wolfe",
        tolerance_grad=1e-12,
        tolerance_change=1e-15,
    )
    found = solve(inner, problem.start, problem.upper, 100, outer=3, optimizer=optimizer)
    assert torch.allclose(found.omega[NAME], problem.best_omega, atol=1e-4)
    assert float(found.values[-1]) < 1e-9
    assert found.trace == {}


@pytest.mark.parametrize("name", ["SGD", "Adam"])
def test_torch_optimizers_take_their_own_steps(name: str) -> None:
    make: Any = getattr(torch.optim, name)
    problem = toy.quadratic(3, seed=1)
    inner = loop(problem, mu=0.3)
    problem.omega.grad = mark = torch.ones_like(problem.omega)
    found = solve(
        inner, problem.start, problem.upper, 5, 6, optimizer=make(inner.parameters(), lr=0.1)
    )
    assert problem.omega.grad is mark
    again = toy.quadratic(3, seed=1)
    other = loop(again, mu=0.3)
    optimizer = make(other.parameters(), lr=0.1)
    for _ in range(6):
        optimizer.zero_grad()
        again.upper(other(again.start, again.upper, 5)).backward()
        optimizer.step()
    assert torch.allclose(found.omega[NAME], again.omega.detach(), rtol=1e-12)
    if name == "SGD":  # the same as the plain step
        third = toy.quadratic(3, seed=1)
        plain = solve(loop(third, mu=0.3), third.start, third.upper, 5, outer=6, gamma=0.1)
        assert torch.allclose(plain.omega[NAME], found.omega[NAME], rtol=1e-12)


@pytest.mark.parametrize("onto", [Box(0.0, 0.3), lambda w: w.clamp(0, 0.3)])
@pytest.mark.parametrize("name", ["omega", "operator.omega", NAME])
def test_projection_onto_omega(onto: Any, name: str) -> None:
    problem = toy.singleton_failure()
    found = solve(
        loop(problem),
        problem.start,
        problem.upper,
        iterations=20,
        outer=30,
        gamma=0.5,
        projection={name: onto},
        keep=True,
    )
    assert float(found.omega[NAME]) == pytest.approx(0.3, abs=1e-15)  # 1/2 without it
    assert float(found.trace[NAME].max()) <= 0.3


def test_parameters_of_the_upper_objective_and_a_start_that_depends_on_them() -> None:
    class Upper(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.shift = nn.Parameter(torch.tensor([0.0], dtype=torch.float64))

        def forward(self, u: Tensor) -> Tensor:
            return 0.5 * (u - 1).square().sum(-1) + 0.5 * (self.shift - 3).square().sum(-1)

    problem, upper = toy.box_least_squares(2), Upper()
    inner = bmo.Inner(problem.training(), 0.0, domain=problem.domain)
    chosen = {"shift": upper.shift}
    found = solve(inner, problem.start, upper, 3, outer=60, gamma=0.5, parameters=chosen)
    assert float(found.omega["shift"]) == pytest.approx(3.0, abs=1e-12)
    assert torch.equal(problem.omega, torch.full_like(problem.omega, 0.5))
    # K = 0: u^0 = w^2 alone; the minimiser of (w^2 - 1)^2 / 2 is 1
    with_start = solve(inner, lambda: problem.omega**2, upper, 0, outer=60, gamma=0.25)
    assert torch.allclose(with_start.omega[NAME], torch.ones(2, dtype=torch.float64), atol=1e-9)
    assert "upper.shift" in with_start.omega


def test_no_outer_step_only_evaluates() -> None:
    problem = toy.quadratic(3)
    found = solve(loop(problem), problem.start, problem.upper, 5, outer=0, gamma=1.0, keep=True)
    assert found.values.shape == (1,) and found.gradient_norms.shape == (0,)
    assert torch.equal(found.omega[NAME], torch.zeros(3, dtype=torch.float64))
    assert found.trace[NAME].shape == (1, 3)


def test_a_gradient_that_is_not_finite_stops_at_its_step_and_keeps_omega() -> None:
    problem = toy.singleton_failure()

    def upper(u: Tensor) -> Tensor:  # finite until omega reaches 0.4
        return problem.upper(u) * (1.0 if float(problem.omega.detach()) < 0.4 else math.nan)

    with pytest.raises(NonFiniteError, match=r"outer step t = 5\b") as caught:
        solve(loop(problem), problem.start, upper, 20, outer=50, gamma=0.2, keep=True)
    so_far = caught.value.value
    path = so_far.trace[NAME].flatten()
    assert bool((path[:-1] < 0.4).all()) and 0.4 <= float(path[-1]) < 0.5
    assert len(path) == 5 and so_far.values.shape == (4,)
    assert torch.equal(problem.omega.detach(), path[-1:])


def test_an_overflowing_step_keeps_the_last_finite_parameters() -> None:
    problem = toy.quadratic(3)
    with pytest.raises(NonFiniteError, match="outer step t = "):
        solve(loop(problem), problem.start, problem.upper, 5, outer=50, gamma=1e308)
    assert bool(torch.isfinite(problem.omega).all())


@pytest.mark.parametrize("gamma", [0.0, -1.0, math.nan, math.inf])
def test_bad_gamma_is_refused(gamma: float) -> None:
    problem = toy.quadratic(3)
    with pytest.raises(DomainError, match="gamma"):
        solve(loop(problem), problem.start, problem.upper, 5, outer=1, gamma=gamma)


def test_bad_settings_are_refused() -> None:
    problem = toy.quadratic(3)
    inner, args = loop(problem), (problem.start, problem.upper, 5)
    sgd = torch.optim.SGD(inner.parameters(), lr=0.1)
    other = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    for settings, message in [
        ({"outer": 1}, "either gamma or optimizer"),
        ({"outer": 1, "gamma": 0.1, "optimizer": sgd}, "either gamma or optimizer"),
        ({"outer": -1, "gamma": 0.1}, "outer >= 0"),
        ({"outer": 1, "optimizer": other}, "holds every parameter"),
        ({"outer": 1, "gamma": 0.1, "projection": {"nobody": Box(0, 1)}}, "nobody"),
        ({"outer": 1, "gamma": 0.1, "projection": {"omega": Box(1, 2)}}, "inside Omega"),
        ({"outer": 1, "gamma": 0.1, "method": "magic"}, "magic"),
    ]:
        with pytest.raises(DomainError, match=message):
            solve(inner, *args, **settings)  # type: ignore[arg-type]
    fixed = toy.rotation(1.0)
    with pytest.raises(TrainingError, match="nothing to learn"):
        solve(bmo.Inner(fixed.training()), fixed.start, problem.upper, 5, outer=1, gamma=0.1)
