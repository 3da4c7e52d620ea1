"""The benchmark's problems and their exact hypergradients, by finite differences."""

import pytest
import torch

import bmo
from bmo.bench import built_in, ours, plain, references
from bmo.bench.aggregated import Aggregated
from bmo.bench.methods import Registry
from bmo.bench.problems import Problem, Smooth, Sparse
from bmo.errors import ConditionError, DomainError


def small(name, steps=12, diagonal=False):
    if name == "P1":
        return Smooth(steps, m=30, n=8, diagonal=diagonal)
    return Sparse(steps, m=12, n=20, batch=6, diagonal=diagonal, density=0.2)


def every():
    for name in ("P1", "P2"):
        for diagonal in (False, True):
            base = small(name, diagonal=diagonal)
            yield base
            yield Aggregated(base)
            yield Aggregated(base, anchored=True)
            yield Aggregated(base, box=float("inf"), plan=0.5)


PROBLEMS = list(every())
IDS = [f"{'-'.join(map(str, p.setting.values()))}-{p.diagonal}-{i}" for i, p in enumerate(PROBLEMS)]


def directions(problem):
    """A direction for each parameter, in turn."""
    draw = torch.Generator().manual_seed(3)
    for name, value in problem.omega.items():
        yield name, torch.randn(value.shape, generator=draw, dtype=torch.float64) * value.abs()


def differences(problem, value, step=1e-6):
    """Central differences of ``value(omega)`` along each direction, with the direction."""
    for name, way in directions(problem):
        ends = [{**problem.omega, name: problem.omega[name] + h * way} for h in (step, -step)]
        high, low = (float(value(omega)) for omega in ends)
        yield name, way, (high - low) / (2 * step)


@pytest.mark.parametrize("problem", PROBLEMS, ids=IDS)
def test_the_unrolled_reference_agrees_with_finite_differences(problem):
    found = references.unrolled(problem)

    def value(omega):
        return problem.value(problem.run(problem.prepare(omega)))

    for name, way, slope in differences(problem, value):
        assert float((found[name] * way).sum()) == pytest.approx(slope, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("problem", [small("P1"), small("P1", diagonal=True), small("P2")])
def test_the_implicit_reference_agrees_with_finite_differences(problem):
    found = references.implicit(problem)

    def value(omega):
        at = problem.prepare(omega)
        u = references.solution(problem)
        for _ in range(3000):
            u = problem.map(u, at)
        return problem.value(u)

    for name, way, slope in differences(problem, value):
        assert float((found[name] * way).sum()) == pytest.approx(slope, rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("problem", PROBLEMS, ids=IDS)
def test_ours_and_plain_torch_agree_with_the_reference(problem):
    exact = references.unrolled(problem)
    registry = Registry()
    ours.register(registry)
    plain.register(registry)
    tried = []
    for method in registry.chosen(problem, "unrolled"):
        if "loss" in method.name and problem.diagonal:
            continue
        assert references.error(method.prepare(problem)(), exact) < 1e-12, method.name
        tried.append(method.name)
    assert {"bmo reverse", "torch", "torch checkpoint"} <= set(tried)


def test_both_gradients_agree_when_the_loop_has_converged():
    for problem in (small("P1", 3000), small("P2", 6000)):
        exact = references.implicit(problem)
        assert references.error(references.unrolled(problem), exact) < 1e-9


def test_the_box_of_p3_is_active_and_inactive():
    for name in ("P1", "P2"):
        P3 = Aggregated(small(name, diagonal=True))
        at = P3.prepare(P3.omega)
        assert torch.equal(P3.map(P3.u0, at), P3.base.map(P3.u0, at))
        u = P3.forward().abs()
        assert 0 < float((u >= P3.half * (1 - 1e-12)).double().mean()) < 0.5


def test_p2_starts_as_ista():
    problem = small("P2")
    s, theta = problem.omega["step"], problem.omega["threshold"]
    f = bmo.LeastSquares(problem.Q, problem.y)
    D = bmo.ProximalGradient(f, bmo.prox.L1(theta / s), step=s)
    u = torch.randn(problem.u0.shape, generator=torch.Generator().manual_seed(1)).double()
    assert torch.allclose(problem.map(u, problem.prepare(problem.omega)), D(u), atol=1e-14)


def test_p1_steps_down_the_gradient_of_its_loss():
    problem = small("P1")
    u = problem.truth.clone().requires_grad_()
    (g,) = torch.autograd.grad(problem.loss(u, problem.omega), u)
    at = problem.prepare(problem.omega)
    assert torch.allclose(problem.map(u, at), u - problem.tau * g, atol=1e-14)
    (g,) = torch.autograd.grad(problem.upper(u), u)
    assert torch.allclose(problem.upper_gradient(u), g, atol=1e-13)


def test_the_data_are_the_same_each_time_and_float64():
    assert torch.equal(Smooth(2).forward(), Smooth(2).forward())
    assert Smooth(1).A.shape == (2000, 500) and Smooth(1).A.dtype == torch.float64
    assert Sparse(1).Q.shape == (250, 500) and Sparse(1).u0.shape == (256, 500)
    assert Sparse(1, diagonal=True).omega["step"].shape == (500,)


class Other(Problem):
    name, steps, diagonal, omega, u0 = "P9", 1, False, {}, torch.zeros(2)

    def map(self, u, at):
        return u

    def upper(self, u):
        return u.sum(-1)

    def upper_gradient(self, u):
        return torch.ones_like(u)


def test_what_cannot_be_done_is_refused():
    with pytest.raises(DomainError, match="K >= 1"):
        Smooth(0)
    with pytest.raises(ConditionError, match="a fixed point"):
        references.solution(small("P2"), limit=3)
    with pytest.raises(ConditionError, match="P1, P2 or P3"):
        references.unrolled(Other())
    with pytest.raises(DomainError, match="write its operator"):
        ours.inner_of(Other())
    with pytest.raises(DomainError, match="write its operator"):
        built_in.loop_of(Other())


def test_the_implicit_rows_agree_with_the_implicit_function_theorem():
    registry = Registry()
    ours.register(registry)
    for problem in (small("P1", 4000), small("P2", 4000)):
        exact = references.implicit(problem)
        rows = registry.chosen(problem, "implicit")
        assert {row.name for row in rows} >= {"bmo fixed-point", "bmo gmres"}
        for row in rows:
            assert references.error(row.prepare(problem)(), exact) < 1e-8, row.name
    with pytest.raises(DomainError, match="no smooth loss"):
        ours.from_loss(small("P2"))
    with pytest.raises(DomainError, match="use the map"):
        plain.loop_of_loss(small("P1", diagonal=True))
