"""The closed forms of the toy problems, against iteration, enumeration and differences."""

from __future__ import annotations

import math

import pytest
import torch

import bmo
from bmo.errors import DomainError
from bmo.problems import toy

BILEVEL = [
    toy.singleton_failure,
    toy.discontinuous_value,
    toy.quadratic,
    toy.box_least_squares,
]


@pytest.mark.parametrize("alpha", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("angle", [0.3, 2.0, math.pi])
def test_rotation_residual_is_the_iterated_one(alpha: float, angle: float) -> None:
    problem = toy.rotation(angle)
    got = problem.training(alpha).iterate(problem.start, iterations=9).residuals
    want = [problem.residual(alpha, k) for k in range(9)]
    assert torch.allclose(got, torch.tensor(want, dtype=torch.float64), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("alpha", [0.2, 0.5, 0.8])
def test_line_is_nonexpansive_and_its_residual_does_not_fall_for_k_steps(alpha: float) -> None:
    k = 5
    problem = toy.line(alpha, k)
    u = torch.linspace(-2, 2, 801, dtype=torch.float64)[:, None]
    ratio = (problem.operator(u[1:]) - problem.operator(u[:-1])).abs() / (u[1:] - u[:-1])
    assert float(ratio.max()) <= 1 + 1e-12
    residuals = problem.training(alpha).iterate(problem.start, iterations=k + 2).residuals
    want = problem.residual(alpha, k)
    assert torch.allclose(residuals[: k + 1], torch.full_like(residuals[: k + 1], want), rtol=1e-12)
    assert float(residuals[k + 1]) < want * (1 - 1e-3)


def test_skewed_rotation_expands_in_the_euclidean_norm_only() -> None:
    problem = toy.skewed_rotation(6, seed=0)
    D, H = problem.operator, problem.operator.metric
    eye = torch.eye(6, dtype=torch.float64)
    step = D(eye).mT
    assert float(torch.linalg.matrix_norm(step, 2)) > 2
    dense = H.matrix((6,))
    # D^T H D = H: an isometry of the metric
    assert torch.allclose(step.mT @ dense @ step, dense, rtol=1e-10, atol=1e-10)
    assert float((torch.linalg.eigvals(step) - 1).abs().min()) > 0.25
    low, high = torch.linalg.eigvalsh(dense)[[0, -1]]
    assert float(high / low) == pytest.approx(100.0, rel=1e-9)


def test_wrong_metric_and_wrong_projection_have_the_stated_best_points() -> None:
    problem = toy.wrong_metric()
    u = torch.randn(50, 2, dtype=torch.float64)
    line = torch.cat(
        [torch.linspace(-2, 2, 401, dtype=torch.float64)[:, None], u.new_zeros(401, 1)], 1
    )
    # D is the H-projection on the axis: no point of the axis is H-nearer
    H = problem.operator.metric
    apart = H.distance(u[:, None], line[None]).min(1).values
    assert bool((H.distance(u, problem.operator(u)) <= apart + 1e-12).all())
    assert float(problem.upper(line).min()) == float(problem.upper(problem.solution)) == 0.5
    other = toy.wrong_projection()
    x, y = torch.meshgrid(line[:, 0], line[:201, 0], indexing="ij")
    grid = torch.stack([x, y], -1).reshape(-1, 2)
    assert bool(other.domain.contains(grid).all())
    assert float(other.upper(grid).min()) == float(other.upper(other.solution)) == 0.5


def test_constant_step_leaves_the_stated_bias() -> None:
    problem, mu, s, alpha = toy.constant_step(), 0.5, 0.5, 0.5
    inner = bmo.Inner(problem.training(alpha), mu=mu, steps=s, domain=problem.domain)
    u = inner.run(problem.start, problem.upper, 200).value
    assert float(u) == pytest.approx(mu * s / ((1 - mu) * alpha + mu * s), abs=1e-12)


@pytest.mark.parametrize("make", BILEVEL)
@pytest.mark.parametrize("inside", [0.0, 0.2, 0.7, 1.0])
def test_best_is_fixed_and_gives_the_value(make: object, inside: float) -> None:
    problem = make()  # type: ignore[operator]
    omega = torch.full_like(problem.omega.detach(), inside)
    with torch.no_grad():
        problem.omega.copy_(omega)
    assert bool(problem.parameter_domain.contains(omega))
    best = problem.best(omega)
    assert bool(problem.domain.contains(best))
    assert torch.allclose(problem.operator(best), best, atol=1e-12)
    assert float(problem.upper(best).detach()) == pytest.approx(
        float(problem.value(omega)), abs=1e-14
    )
    # no other fixed point is better: nearest points of S to random points of U
    points = problem.domain.project(2 * torch.randn(200, len(best)).double(), bmo.metric.Identity())
    fixed = problem.nearest(points, omega)
    assert torch.allclose(problem.operator(fixed), fixed, atol=1e-12)
    assert bool((problem.upper(fixed) >= problem.value(omega) - 1e-12).all())
    limit = problem.training(0.5).iterate(points, iterations=4000).value
    assert torch.allclose(problem.nearest(limit, omega), limit, atol=1e-9)


@pytest.mark.parametrize("make", BILEVEL)
def test_minimiser_and_gradient_of_the_value(make: object) -> None:
    problem = make()  # type: ignore[operator]
    star = problem.best_omega
    least = float(problem.value(star))
    draws = torch.randn(300, len(star), generator=torch.Generator().manual_seed(1)).double()
    for draw in draws:
        omega = problem.parameter_domain.project(draw, bmo.metric.Identity())
        assert float(problem.value(omega)) >= least
    omega = torch.full_like(star, 0.3)
    h, eye = 1e-6, torch.eye(len(star), dtype=torch.float64)
    slope = torch.stack(
        [(problem.value(omega + h * e) - problem.value(omega - h * e)) / (2 * h) for e in eye]
    )
    assert torch.allclose(problem.gradient(omega), slope, rtol=1e-7, atol=1e-9)


def test_quadratic_contracts_in_a_metric_that_moves_with_omega() -> None:
    problem = toy.quadratic(5, seed=3)
    with torch.no_grad():
        problem.omega.copy_(torch.linspace(-2, 2, 5, dtype=torch.float64))
    H = problem.operator.metric.matrix((5,)).detach()
    J = torch.autograd.functional.jacobian(problem.operator, problem.start)
    root = torch.linalg.cholesky(H)
    inside = torch.linalg.eigvals(root.mT @ J @ torch.linalg.inv(root.mT)).real
    assert float(inside.min()) >= -1e-12 and float(inside.max()) < 1
    assert float(H.diagonal().max() / H.diagonal().min()) > 1.5


def test_plain_unrolling_of_singleton_failure_has_the_stated_minimiser() -> None:
    problem, alpha, K = toy.singleton_failure(), 0.5, 4
    inner = bmo.Inner(problem.training(alpha), mu=0.0, domain=problem.domain)
    c = 1 - (1 - alpha) ** K
    with torch.no_grad():
        problem.omega.fill_(c / (1 + c**2))
    problem.upper(inner(problem.start, problem.upper, K)).backward()
    assert float(problem.omega.grad) == pytest.approx(0.0, abs=1e-15)


@pytest.mark.parametrize(
    "call",
    [
        lambda: toy.rotation(0.0),
        lambda: toy.rotation(math.nan),
        lambda: toy.line(1.0, 3),
        lambda: toy.line(0.5, -1),
        lambda: toy.line(0.5, 3).residual(0.5, 4),
        lambda: toy.skewed_rotation(5),
        lambda: toy.skewed_rotation(4, condition=0.5),
        lambda: toy.quadratic(0),
        lambda: toy.box_least_squares(0),
    ],
)
def test_bad_input_is_refused(call: object) -> None:
    with pytest.raises(DomainError):
        call()  # type: ignore[operator]
