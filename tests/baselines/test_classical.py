"""The classical iterations against other solvers of the same problem, and published values."""

import numpy as np
import pytest
import torch
from scipy.optimize import linprog

from bmo.baselines import ADMM, FISTA, ISTA, PDHG, LinearisedADMM, fista, ista
from bmo.errors import ConditionError, DomainError, ShapeError
from bmo.operators import LinearisedADMM as Step
from bmo.prox import L1, SquaredL2

DRAWS = torch.Generator().manual_seed(3)
A = torch.randn(12, 20, dtype=torch.float64, generator=DRAWS)
B = torch.randn(5, 12, dtype=torch.float64, generator=DRAWS)
LAMBDA = 0.7
TOP = float(torch.linalg.matrix_norm(A, 2)) ** 2
METHODS = [
    (ISTA(A, LAMBDA), 10_000),
    (FISTA(A, LAMBDA), 6_000),
    (ADMM(A, LAMBDA, rho=3.0, relax=1.6), 1_500),
    (LinearisedADMM(A, LAMBDA, beta=0.3), 12_000),
    (PDHG(A, LAMBDA, sigma=0.1), 12_000),
]


def coordinate_descent(A, b, penalty, sweeps=4_000):
    """The lasso, one coordinate at a time: no step size, no splitting."""
    u, rest, sizes = np.zeros(A.shape[1]), b.copy(), (A**2).sum(0)
    for _ in range(sweeps):
        for j in range(A.shape[1]):
            old = u[j]
            slope = A[:, j] @ rest + sizes[j] * old
            u[j] = np.sign(slope) * max(abs(slope) - penalty, 0) / sizes[j]
            if u[j] != old:
                rest -= (u[j] - old) * A[:, j]
    return u


SOLUTION = torch.tensor(
    np.stack([coordinate_descent(A.numpy(), b, LAMBDA) for b in B.numpy().copy()])
)


@pytest.mark.parametrize(("method", "depth"), METHODS, ids=lambda m: getattr(m, "name", None))
def test_each_reaches_what_coordinate_descent_finds(method, depth):
    u = method(B, depth)
    assert float((u - SOLUTION).abs().max()) < 1e-10
    assert float((method(B, 8) - SOLUTION).abs().max()) > 1e-3
    slope = (u @ A.mT - B) @ A  # zero is in the subdifferential
    assert float(((slope + LAMBDA * u.sign()) * (u != 0)).abs().max()) < 1e-10
    assert float((slope.abs() * (u == 0)).max()) <= LAMBDA + 1e-10
    assert method.tied
    assert method.products == 2


@pytest.mark.parametrize(("method", "function"), [(ISTA, ista), (FISTA, fista)])
def test_methods_and_functions_take_the_same_steps(method, function):
    for depth, u in enumerate(method(A, LAMBDA).iterates(B, 30), 1):
        assert torch.allclose(u, function(A, B, LAMBDA, depth), atol=1e-12, rtol=0)


def test_linearised_admm_is_the_operator_of_the_book():
    method = LinearisedADMM(A, LAMBDA, beta=0.8, tau=0.9 * TOP)
    eye = torch.eye(12, dtype=torch.float64)
    D = Step(L1(LAMBDA), SquaredL2(1.0), A, eye, B, beta=0.8, tau_u=0.9 * TOP)
    z = torch.zeros(5, 20 + 12 + 12, dtype=torch.float64)
    for u, e, y, _ in method.states(B, 25):
        z = D(z)
        assert torch.allclose(torch.cat([u, e, y], -1), z, atol=1e-12, rtol=0)


@pytest.mark.parametrize("make", [LinearisedADMM, PDHG])
def test_with_an_l1_fit_they_reach_the_value_of_a_linear_program(make):
    draws = torch.Generator().manual_seed(5)
    C = torch.randn(8, 12, dtype=torch.float64, generator=draws)
    b = torch.randn(4, 8, dtype=torch.float64, generator=draws)
    u = make(C, LAMBDA, fit="l1")(b, 10_000)
    got = LAMBDA * u.abs().sum(-1) + (u @ C.mT - b).abs().sum(-1)
    cost = np.concatenate([np.full(24, LAMBDA), np.ones(16)])
    equations = np.hstack([C, -C, np.eye(8), -np.eye(8)])
    for value, right in zip(got, b, strict=True):
        best = linprog(cost, A_eq=equations, b_eq=right.numpy()).fun
        assert abs(float(value) - best) < 1e-10


def test_values_of_the_gaussian_setting_are_those_that_were_measured_before():
    draws = torch.Generator().manual_seed(0)
    D = torch.randn(250, 500, generator=draws)
    D = D / D.norm(dim=0)
    x = torch.randn(300, 500, generator=draws) * (torch.rand(300, 500, generator=draws) < 0.1)
    size = x.square().sum()

    def nmse(u):
        return float(10 * torch.log10((u - x).square().sum() / size))

    # NMSE in dB of another draw of dictionary and signals, so a few tenths of a dB
    known = {
        ISTA(D, 0.1): {5: -3.00, 16: -5.34, 30: -7.78, 100: -15.66},
        FISTA(D, 0.1): {5: -3.48, 16: -10.33, 30: -17.92, 100: -17.07},
        FISTA(D, 0.4): {5: -3.88, 16: -7.66, 30: -7.42, 100: -7.46},
    }
    for method, values in known.items():
        found = [nmse(u) for u in method.iterates(x @ D.mT, 100)]
        for depth, value in values.items():
            assert abs(found[depth - 1] - value) < 0.55


def test_several_penalties_and_steps_run_side_by_side():
    penalties = torch.tensor([0.2, 0.7, 1.5], dtype=torch.float64)[:, None, None]
    rho = torch.tensor([0.5, 1.0, 4.0], dtype=torch.float64)[:, None, None]
    steps = torch.tensor([0.5, 1.0, 0.7], dtype=torch.float64)[:, None, None] / TOP
    for many, one in (
        (ADMM(A, penalties, rho), lambda i: ADMM(A, float(penalties[i]), float(rho[i]))),
        (ISTA(A, penalties, steps), lambda i: ISTA(A, float(penalties[i]), float(steps[i]))),
        (FISTA(A, penalties, steps), lambda i: FISTA(A, float(penalties[i]), float(steps[i]))),
        (PDHG(A, penalties, tau=rho / TOP), lambda i: PDHG(A, penalties[i], tau=rho[i] / TOP)),
        (
            LinearisedADMM(A, penalties, rho),
            lambda i: LinearisedADMM(A, float(penalties[i]), float(rho[i])),
        ),
    ):
        u = many(B, 20)
        for i in range(3):
            assert torch.allclose(u[i], one(i)(B, 20).reshape(5, 20), atol=1e-12, rtol=0)


def test_solve_looks_at_each_iterate_and_tells_how_far_it_moved():
    method = ISTA(A, LAMBDA, depth=7)
    result = method.solve(B, trace={"u": lambda u: u})
    seen = result.traced("u")
    assert result.status.name == "FINISHED"
    assert result.iterations == 7
    assert seen.shape == (8, 5, 20)
    assert torch.equal(seen[-1], result.value)
    assert torch.equal(result.residuals, (seen[1:] - seen[:-1]).norm(dim=-1))
    assert torch.equal(method(B, 0), torch.zeros(5, 20, dtype=torch.float64))


def test_solve_stops_at_the_last_finite_iterate():
    class Square(ISTA):
        def step(self, k, state, data):
            return (state[0] ** 2 + 2,)

    result = Square(A, LAMBDA).solve(B, 100)
    assert result.status.name == "NONFINITE"
    assert bool(torch.isfinite(result.value).all())
    assert result.iterations == len(result.residuals) < 12


def test_moving_to_another_precision_moves_the_numbers():
    u = ADMM(A, LAMBDA, rho=0.3).float()(B.float(), 5)
    assert u.dtype == torch.float32
    assert torch.allclose(u.double(), ADMM(A, LAMBDA, rho=0.3)(B, 5), atol=1e-4)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: ISTA(A, -1.0), DomainError, "penalty > 0"),
        (lambda: ISTA(A, 1.0, step=2.1 / TOP), ConditionError, "step <="),
        (lambda: FISTA(A, 1.0, step=1.1 / TOP), ConditionError, "step <="),
        (lambda: ISTA(A, 1.0, depth=-1), DomainError, "depth >= 0"),
        (lambda: ISTA(A[0], 1.0), ShapeError, "m, n"),
        (lambda: ISTA(A, 1.0)(B.mT), ShapeError, "one point a row"),
        (lambda: ISTA(A, 1.0)(B, -1), DomainError, "depth >= 0"),
        (lambda: ADMM(A, 1.0, rho=0.0), DomainError, "rho > 0"),
        (lambda: ADMM(A, 1.0, relax=2.0), DomainError, "relax in"),
        (lambda: LinearisedADMM(A, 1.0, tau=0.9 * TOP), ConditionError, "beta"),
        (lambda: LinearisedADMM(A, 1.0, fit="l3"), DomainError, "l2"),
        (lambda: PDHG(A, 1.0, tau=1.0, sigma=1.1 / TOP), ConditionError, "tau sigma"),
        (lambda: PDHG(A, 1.0, sigma=float("nan")), DomainError, "sigma > 0"),
    ],
)
def test_what_no_theorem_covers_is_refused(make, error, words):
    with pytest.raises(error, match=words):
        make()
