"""Hypergradients against an adjoint recursion written by hand, differences, and closed forms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import bmo
from bmo import hypergradient as module
from bmo.errors import DomainError, NonFiniteError, TrainingError
from bmo.hypergradient import hypergradient, named_parameters, register, validity
from bmo.problems import toy
from bmo.sets import Box, Set, Whole

NAME = "training_map.operator.omega"


def rounded(problem: toy.Bilevel, omega: list[float]) -> toy.Bilevel:
    with torch.no_grad():
        problem.omega.copy_(torch.tensor(omega, dtype=torch.float64))
    return problem


def adjoint(
    problem: toy.Bilevel, M0: Any, c: Any, L: float, target: Any, a: float, mu: float,
    steps: list[float], low: float, high: float,
) -> tuple[Any, Any]:  # fmt: skip
    """Theory, section 6 (b), in numpy: u^K and the gradient for the ridge problem on a box.

    A = (1-mu) dT/du + mu (I - s H^-1), B = (1-mu) dT/dw + mu s H^-1 (dH) H^-1 (u - target).
    """
    w = problem.omega.detach().numpy()
    e = np.exp(w)
    h, M, n = L + e, M0 + np.diag(e), len(w)
    u, tape = np.zeros(n), []
    for s in steps:
        r = M @ u - c
        v = (1 - mu) * (u - a * r / h) + mu * (u - s * (u - target) / h)
        free = (v > low) & (v < high)
        tape.append((u, r, s, free))
        u = np.clip(v, low, high)
    lam, grad = u - target, np.zeros(n)
    for x, r, s, free in reversed(tape):
        lam = lam * free
        dT = -a * (e * x / h - e * r / h**2)
        grad = grad + lam * ((1 - mu) * dT + mu * s * e * (x - target) / h**2)
        A = (1 - mu) * (np.eye(n) - a * M / h[:, None]) + mu * (np.eye(n) - s * np.diag(1 / h))
        lam = A.T @ lam
    return u, grad


def ridge_data(problem: toy.Bilevel) -> tuple[Any, Any, float, Any]:
    """Read the matrices of the ridge problem off its step and its upper objective."""
    n = len(problem.start)
    zero = torch.zeros(n, dtype=torch.float64)
    with torch.no_grad():
        weight = problem.operator.metric.weights()
        e = problem.omega.exp()
        c = weight * problem.operator(zero)
        eye = torch.eye(n, dtype=torch.float64)
        M = weight * (eye - problem.operator(eye) + problem.operator(zero))
    u = zero.clone().requires_grad_()
    problem.upper(u).backward()
    M0 = M.mT - torch.diag(e)
    return M0.numpy(), c.numpy(), float((weight - e)[0]), -u.grad.numpy()


@pytest.mark.parametrize("mu", [0.0, 0.4])
@pytest.mark.parametrize("domain", [Whole(), Box(-0.35, 0.4)], ids=["whole", "box"])
@pytest.mark.parametrize("alpha", [0.5, 0.9])
def test_reverse_is_the_adjoint_recursion(mu: float, domain: Set, alpha: float) -> None:
    problem = rounded(toy.quadratic(4, seed=2), [0.7, -0.3, 0.2, -1.0])
    inner = bmo.Inner(problem.training(alpha), mu, bmo.schedule(1.5, p=0.5), domain)
    K, ends = 12, (-np.inf, np.inf) if isinstance(domain, Whole) else (-0.35, 0.4)
    u, want = adjoint(problem, *ridge_data(problem), alpha, mu, inner.sizes(K), *ends)
    got = hypergradient(inner, problem.start, problem.upper, K)
    np.testing.assert_allclose(got.u.numpy(), u, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(got.gradients[NAME].numpy(), want, rtol=1e-10, atol=1e-14)
    on_edge = int(np.sum((u == ends[0]) | (u == ends[1])))
    assert on_edge == 0 if isinstance(domain, Whole) else on_edge >= 1  # the projection is active
    assert float(np.abs(want).max()) > 1e-3


def test_the_metric_term_is_there_and_matters() -> None:
    """Leaving out dH^-1 (the metric held fixed in the upper step) changes the gradient."""
    problem = rounded(toy.quadratic(4, seed=2), [0.7, -0.3, 0.2, -1.0])

    class Frozen(toy.Parametrised):
        @property
        def metric(self) -> bmo.metric.Metric:
            return bmo.metric.Diagonal(problem.operator.metric.weights().detach())

    frozen = Frozen(problem.operator.step, problem.omega.detach())
    steps = bmo.schedule(1.5, p=0.5)
    full = hypergradient(
        bmo.Inner(problem.training(0.5), 0.4, steps), problem.start, problem.upper, 12
    )
    part = hypergradient(
        bmo.Inner(bmo.GKM(frozen, 0.5), 0.4, steps), problem.start, problem.upper, 12
    )
    assert torch.allclose(full.value, part.value, rtol=1e-14)
    gap = (full.gradients[NAME] - part.gradients[NAME]).norm() / full.gradients[NAME].norm()
    assert float(gap) > 1e-2


class DenseStep(bmo.operators.Operator):
    """A gradient step in a dense metric that depends on omega; H = C + e^w (I + ones / 4)."""

    def __init__(self) -> None:
        super().__init__()
        self.omega = nn.Parameter(torch.tensor(0.3, dtype=torch.float64))
        self.Q = torch.tensor([[2.0, 0.6, 0], [0.6, 1, 0.2], [0, 0.2, 0.5]], dtype=torch.float64)
        self.c = torch.tensor([1.0, -0.5, 2.0], dtype=torch.float64)

    @property
    def metric(self) -> bmo.metric.Metric:
        shape = torch.eye(3, dtype=torch.float64) + 0.25
        return bmo.metric.Dense(self.Q + self.omega.exp() * shape)

    def forward(self, u: Tensor) -> Tensor:
        return u - self.metric.solve(u @ self.Q - self.c)


@pytest.mark.parametrize("loop", [bmo.Inner, bmo.AnchoredInner])
@pytest.mark.parametrize("mu", [0.0, 0.3])
def test_differences_with_a_dense_metric_and_an_active_projection(loop: Any, mu: float) -> None:
    D = DenseStep()
    inner = loop(bmo.GKM(D, 0.6), mu, 0.4, Box(-0.4, 0.5))
    target = torch.tensor([0.3, 0.1, 1.0], dtype=torch.float64)

    def upper(u: Tensor) -> Tensor:  # depends on omega as well
        return 0.5 * (u - target).square().sum(-1) + 0.1 * D.omega * u.sum(-1)

    u0 = torch.zeros(3, dtype=torch.float64)
    got = hypergradient(inner, u0, upper, 6)
    assert bool((got.u == 0.5).any()) or loop is bmo.AnchoredInner
    values, h = [], 1e-5
    for sign in (1, -1):
        with torch.no_grad():
            D.omega.fill_(0.3 + sign * h)
            values.append(float(upper(inner(u0, upper, 6))))
    slope = (values[0] - values[1]) / (2 * h)
    assert float(got.gradients[NAME]) == pytest.approx(slope, rel=1e-6)
    assert abs(slope) > 1e-3


@pytest.mark.parametrize("make", [toy.quadratic, toy.box_least_squares])
def test_closed_form_in_the_limit(make: Any) -> None:
    problem = make(4)
    omega = problem.omega.detach() + torch.tensor([0.4, -0.4, 0.1, 0.9], dtype=torch.float64)
    with torch.no_grad():
        problem.omega.copy_(omega)
    want = problem.gradient(omega)
    inner = bmo.Inner(problem.training(0.9), 0.0, domain=problem.domain)
    got = hypergradient(inner, problem.start, problem.upper, 400)
    assert torch.allclose(got.gradients[NAME], want, rtol=1e-9, atol=1e-12)
    assert float(got.value) == pytest.approx(float(problem.value(omega)), rel=1e-9)
    assert float(got.residual) < 1e-9


def test_with_mu_the_error_falls_like_the_step() -> None:
    problem = rounded(toy.quadratic(4), [0.4, -0.4, 0.1, 0.9])
    inner = bmo.Inner(problem.training(0.9), 0.3, bmo.schedule(0.5))
    want, errors = problem.gradient(problem.omega.detach()), []
    for K in (100, 200, 400):
        got = hypergradient(inner, problem.start, problem.upper, K).gradients[NAME]
        errors.append(float((got - want).norm()))
    # O(s_K) with s_K = s / (K + 1): halved when K doubles
    assert errors[0] / errors[1] == pytest.approx(2.0, rel=0.05)
    assert errors[1] / errors[2] == pytest.approx(2.0, rel=0.05)


def test_no_grad_is_touched_and_no_grad_mode_does_not_matter() -> None:
    problem = rounded(toy.quadratic(3), [0.1, 0.2, 0.3])
    problem.omega.grad = mark = torch.full_like(problem.omega, 7.0)
    inner = bmo.Inner(problem.training(), 0.2)
    first = hypergradient(inner, problem.start, problem.upper, 5)
    assert problem.omega.grad is mark and bool((mark == 7).all())
    with torch.no_grad():
        second = hypergradient(inner, problem.start, problem.upper, 5)
    assert torch.equal(first.gradients[NAME], second.gradients[NAME])
    assert not first.u.requires_grad and not first.value.requires_grad
    assert first.norm() == pytest.approx(float(first.gradients[NAME].norm()))


def test_a_batch_gives_the_mean_of_its_points() -> None:
    problem = rounded(toy.quadratic(3), [0.1, 0.2, 0.3])
    inner = bmo.Inner(problem.training(), 0.2)
    starts = torch.randn(5, 3, dtype=torch.float64)
    whole = hypergradient(inner, starts, problem.upper, 4)
    each = [hypergradient(inner, u0, problem.upper, 4) for u0 in starts]
    mean = torch.stack([one.gradients[NAME] for one in each]).mean(0)
    assert torch.allclose(whole.gradients[NAME], mean, rtol=1e-12)
    assert float(whole.value) == pytest.approx(sum(float(one.value) for one in each) / 5)
    assert whole.residual.shape == (5,)


def test_a_start_that_depends_on_omega_and_parameters_of_the_upper_objective() -> None:
    class Upper(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.tensor(2.0, dtype=torch.float64))

        def forward(self, u: Tensor) -> Tensor:
            return self.weight * u.square().sum(-1)

    problem, upper = toy.discontinuous_value(), Upper()
    inner = bmo.Inner(problem.training(0.5), 0.0)
    # u^1 = (1 - w/2) u^0 with u^0 = w: value 2 w^2 (1 - w/2)^2, w = 1/2
    got = hypergradient(inner, problem.omega * 1.0, upper, 1)
    assert float(got.value) == pytest.approx(2 * 0.375**2)
    assert float(got.gradients[NAME]) == pytest.approx(4 * 0.375 * 0.5)
    assert float(got.gradients["upper.weight"]) == pytest.approx(0.375**2)


def test_choice_of_parameters() -> None:
    problem = toy.quadratic(3)
    inner = bmo.Inner(problem.training())
    by_name = hypergradient(inner, problem.start, problem.upper, 3, {"w": problem.omega})
    by_list = hypergradient(inner, problem.start, problem.upper, 3, [problem.omega])
    assert list(by_name.gradients) == ["w"] and list(by_list.gradients) == [NAME]
    other = torch.ones(2, dtype=torch.float64, requires_grad=True)
    unrelated = hypergradient(inner, problem.start, problem.upper, 3, [other])
    assert torch.equal(unrelated.gradients["parameter 0"], torch.zeros(2, dtype=torch.float64))
    at_zero = hypergradient(inner, problem.start, problem.upper, 0)
    assert float(at_zero.norm()) == 0.0  # u^0 and this upper objective do not depend on omega


def test_methods_are_a_registry() -> None:
    problem = toy.quadratic(3)
    inner = bmo.Inner(problem.training())
    with pytest.raises(DomainError, match="reverse"):
        hypergradient(inner, problem.start, problem.upper, 3, method="magic")
    with pytest.raises(DomainError):
        validity("magic")
    assert "Memory" in validity("reverse")
    with pytest.raises(DomainError, match="taken"):
        register("reverse", "again")(module.Reverse)
    register("twice", "never: it doubles the truth")(
        lambda *a: (*(r := module.Reverse()(*a))[:2], tuple(2 * g for g in r[2]))
    )
    try:
        double = hypergradient(inner, problem.start, problem.upper, 3, method="twice")
        single = hypergradient(inner, problem.start, problem.upper, 3)
        assert torch.equal(double.gradients[NAME], 2 * single.gradients[NAME])
    finally:
        del module.METHODS["twice"], module.VALIDITY["twice"]


def test_nothing_to_learn_and_not_finite() -> None:
    fixed = toy.rotation(0.5)
    inner = bmo.Inner(fixed.training())
    with pytest.raises(TrainingError, match="nothing to learn"):
        named_parameters(inner, lambda u: u.sum(-1), None)
    with pytest.raises(TrainingError, match="without gradients"):
        named_parameters(inner, lambda u: u.sum(-1), {"u0": fixed.start})
    problem = toy.discontinuous_value()
    inner = bmo.Inner(problem.training())
    # the value is finite, the derivative of the root at 0 is not
    plain = bmo.Inner(problem.training(), 0.0)
    with pytest.raises(NonFiniteError, match=NAME):
        hypergradient(plain, problem.start + 1, lambda u: (0 * u).sqrt().sum(-1), 2)
    with pytest.raises(NonFiniteError, match="the value"):
        hypergradient(plain, problem.start + 1, lambda u: u.sum(-1) / 0, 2)


def test_numbers_are_not_rounded_before_they_meet_a_double() -> None:
    u = torch.full((2,), 7.0, dtype=torch.float64)
    assert Box(-0.1, 0.1).nearest(u).tolist() == [0.1, 0.1]
    assert bmo.sets.Ball(1.0, 0.1).nearest(u[:1]).tolist() == [1.1]
    assert bmo.metric.Scaled(0.1).apply(u).tolist() == [0.1 * 7.0] * 2
    K = torch.ones(1, 1, dtype=torch.float64)
    assert bmo.metric.PrimalDual(K, 0.1, 0.1).apply(u).tolist() == [63.0, 63.0]
    f = bmo.LeastSquares(torch.eye(2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64))
    assert bmo.ProximalGradient(f, step=0.1)(u).tolist() == [7.0 - 7.0 / (1 / 0.1)] * 2


def test_an_iterate_is_the_same_with_and_without_gradients() -> None:
    """The upper step differentiates at a projected point: the hook there must not act."""
    D = DenseStep()
    inner = bmo.Inner(bmo.GKM(D, 0.6), 0.3, 0.4, Box(-0.4, 0.5))
    u0 = torch.zeros(3, dtype=torch.float64)

    def upper(u: Tensor) -> Tensor:
        return 0.5 * (u - 1).square().sum(-1)

    assert torch.allclose(inner(u0, upper, 6), inner.run(u0, upper, 6).value, rtol=1e-12)


def test_an_operator_that_prepares_itself_can_be_asked_twice() -> None:
    A = torch.randn(4, 6, dtype=torch.float64)
    b = torch.randn(4, dtype=torch.float64)
    D = bmo.operators.LearnedForwardBackward(A, b, threshold=0.1)
    inner = bmo.Inner(bmo.GKM(D, 0.5), 0.3)

    def upper(u: Tensor) -> Tensor:
        return 0.5 * (u - 1).square().sum(-1)

    first, second = (hypergradient(inner, torch.zeros(6).double(), upper, 4) for _ in range(2))
    assert all(torch.equal(first.gradients[n], second.gradients[n]) for n in first.gradients)
    upper(inner(torch.zeros(6).double(), upper, 4)).backward()  # each step prepares for itself
    for name, w in inner.named_parameters():
        assert torch.allclose(first.gradients[name], w.grad, rtol=1e-9, atol=1e-12)
