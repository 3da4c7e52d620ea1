"""The baselines against optimality conditions, a matrix form and each other."""

import pytest
import torch

from bmo.baselines import TiedLISTA, fista, ista
from bmo.errors import ConditionError, ShapeError

torch.manual_seed(0)
A = torch.randn(12, 20, dtype=torch.float64)
B = torch.randn(5, 12, dtype=torch.float64)
LAMBDA = 0.7


def violation(z):
    """How far z is from 0 in the subdifferential of the lasso objective."""
    gradient = (z @ A.mT - B) @ A
    on = (gradient + LAMBDA * z.sign()).abs() * (z != 0)
    off = (gradient.abs() - LAMBDA).clamp_min(0) * (z == 0)
    return float((on + off).max())


@pytest.mark.parametrize(("method", "steps"), [(ista, 8_000), (fista, 5_000)])
def test_they_reach_the_optimality_conditions_of_the_lasso(method, steps):
    assert violation(method(A, B, LAMBDA, steps)) < 1e-9
    assert violation(method(A, B, LAMBDA, 3)) > 1e-3


def test_fista_is_ahead_of_ista_after_equally_many_steps():
    def value(z):
        return float((0.5 * (z @ A.mT - B).square().sum(1) + LAMBDA * z.abs().sum(1)).sum())

    best = value(fista(A, B, LAMBDA, 1_000))
    assert value(fista(A, B, LAMBDA, 60)) - best < 0.2 * (value(ista(A, B, LAMBDA, 60)) - best)


def test_ista_starts_where_it_is_told_and_takes_a_penalty_for_each_entry():
    half = ista(A, B, LAMBDA, 10)
    assert torch.equal(ista(A, B, LAMBDA, 7, z0=half), ista(A, B, LAMBDA, 17))
    heavy = torch.full((20,), LAMBDA, dtype=torch.float64)
    heavy[3] = 1e6
    assert float(ista(A, B, heavy, 50)[:, 3].abs().max()) == 0


def test_one_layer_of_lista_starts_as_a_step_of_ista():
    tau = 1.3 / float(torch.linalg.matrix_norm(A, 2)) ** 2
    D = TiedLISTA(A, B, LAMBDA, step=tau)
    u = torch.randn(5, 20, dtype=torch.float64)
    got = D(u).detach()
    assert torch.allclose(got, ista(A, B, LAMBDA, 1, step=tau, z0=u), atol=1e-13, rtol=0)
    T = D.map()
    assert torch.equal(T(u), D(u))
    assert {n for n, _ in D.named_parameters()} == {"W1", "W2", "theta.raw"}


def test_nothing_keeps_lista_from_diverging_once_its_matrix_grows():
    D = TiedLISTA(A, B, 0.1)
    with torch.no_grad():
        D.W2.mul_(1.5)
    found = D.map().iterate(torch.zeros(5, 20, dtype=torch.float64), 400)
    assert float(found.residuals[-1].max()) > 1e6


@pytest.mark.parametrize("make", [ista, lambda a, b, p, k, step: TiedLISTA(a, b, p, step=step)])
def test_a_step_beyond_two_over_L_is_refused(make):
    with pytest.raises(ConditionError, match="2/"):
        make(A, B, LAMBDA, 1, step=2.02 / float(torch.linalg.matrix_norm(A, 2)) ** 2)
    with pytest.raises(ConditionError):
        make(A, B, LAMBDA, 1, step=-0.1)
    with pytest.raises(ShapeError, match="rows"):
        make(A, B.mT, LAMBDA, 1, step=None)
