"""ALISTA's matrix, TISTA's shrinkage and variance, and the fixed point of the equilibrium model."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad

from bmo.baselines import ALISTA, DEQ, TISTA, analytic_weight, coherence, ista
from bmo.baselines.deq import anderson
from bmo.baselines.tista import posterior_mean
from bmo.errors import ConditionError, DomainError, ShapeError

DRAWS = torch.Generator().manual_seed(11)


def dictionary(m, n):
    A = torch.randn(m, n, dtype=torch.float64, generator=DRAWS)
    return A / A.norm(dim=0)


A = dictionary(20, 40)


def test_the_weight_is_what_projected_gradients_converge_to():
    W, start = analytic_weight(A), A.clone()
    assert torch.allclose((W * A).sum(0), torch.ones(40, dtype=torch.float64), atol=1e-12)
    V = start
    for _ in range(3_000):  # the published algorithm: a gradient step, then back to diag = 1
        V = V - 0.1 * A @ (A.mT @ V)
        V = V + (1 - (V * A).sum(0)) * A
    assert float((V - W).abs().max()) < 1e-9
    assert float((start - W).abs().max()) > 0.1


def test_the_weight_is_less_coherent_and_near_the_lower_bound():
    W = analytic_weight(A)
    value = float((W.mT @ A).square().sum())
    assert 40**2 / 20 <= value < float((A.mT @ A).square().sum())
    assert value < 1.03 * 40**2 / 20
    assert float(coherence(W, A)) < float(coherence(A, A))
    frame = torch.linalg.qr(A.mT)[0].mT  # a tight frame is its own best matrix, and the bound holds
    V = analytic_weight(frame)
    assert torch.allclose(V, frame / frame.square().sum(0), atol=1e-12)
    product = W.mT @ A
    product.fill_diagonal_(0)
    assert float(coherence(W, A)) == float(product.abs().max())


def test_a_weight_needs_independent_rows_and_the_shape_of_the_dictionary():
    with pytest.raises(ConditionError, match="independent"):
        analytic_weight(torch.cat([A, A[:1]]))
    with pytest.raises(ShapeError, match="transpose"):
        ALISTA(A, 2, 0.1, W=A.mT)
    with pytest.raises(DomainError, match="step"):
        ALISTA(A, 2, 0.1, step=0.0)


@pytest.mark.parametrize("tau", [0.05, 0.3, 2.0])
def test_the_shrinkage_is_the_mean_of_the_posterior(tau):
    p, variance = 0.1, 1.7

    def normal(x, v):
        return math.exp(-x * x / (2 * v)) / math.sqrt(2 * math.pi * v)

    for r in (-3.0, -0.4, 0.0, 0.2, 1.1, 2.5):
        points = sorted({0.0, r * variance / (variance + tau**2)})
        over, under = (
            quad(
                lambda x, f=f, r=r: f(x) * normal(x, variance) * normal(r - x, tau**2),
                -15,
                15,
                points=points,
                epsabs=1e-14,
                limit=400,
            )[0]
            for f in (lambda x: x, lambda x: 1.0)
        )
        want = p * over / ((1 - p) * normal(r, tau**2) + p * under)
        got = posterior_mean(
            torch.tensor(r, dtype=torch.float64),
            torch.tensor(tau**2, dtype=torch.float64),
            p,
            variance,
        )
        assert abs(float(got) - want) < 1e-9


def test_the_shrinkage_is_finite_where_densities_vanish():
    r = torch.tensor([-50.0, -1e-3, 0.0, 50.0]).requires_grad_()
    out = posterior_mean(r, torch.tensor(1e-9), 0.1, 1.0)
    out.sum().backward()
    assert torch.allclose(out.detach(), torch.tensor([-50.0, -1e-3, 0.0, 50.0]), atol=1e-2)
    assert bool(torch.isfinite(r.grad).all())


@pytest.mark.parametrize("gamma", [0.6, 1.0, 1.7])
def test_the_error_variance_is_that_of_many_draws(gamma):
    sigma2, v2 = 0.02, 0.3
    net = TISTA(A, 1, sigma2)
    error = v2**0.5 * torch.randn(40_000, 40, dtype=torch.float64, generator=DRAWS)
    noise = sigma2**0.5 * torch.randn(40_000, 20, dtype=torch.float64, generator=DRAWS)
    rest = noise - error @ A.mT  # b - Au for u = x + error
    g = torch.tensor(gamma, dtype=torch.float64)
    r = error + g * rest @ net.W.mT
    assert float(net.error_variance(rest, g).mean()) == pytest.approx(
        float(r.square().mean()), rel=0.01
    )


def test_tista_is_far_ahead_of_ista_before_it_is_trained():
    D = dictionary(125, 250)
    x = torch.randn(100, 250, dtype=torch.float64, generator=DRAWS)
    x = x * (torch.rand(100, 250, generator=DRAWS) < 0.1)
    b = x @ D.mT
    sigma2 = float(b.square().mean()) * 1e-3  # 30 dB
    b = b + sigma2**0.5 * torch.randn(b.shape, dtype=torch.float64, generator=DRAWS)

    def nmse(u):
        return float(10 * torch.log10((u - x).square().sum() / x.square().sum()))

    net = TISTA(D, 16, sigma2)
    with torch.no_grad():
        assert nmse(net(b)) < -20
        assert nmse(net(b, 200)) < -25
        assert bool(torch.isfinite(TISTA(D, 16, 0.0)(x @ D.mT, 400)).all())
    assert nmse(ista(D, b, 0.1, 16)) > -7


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"noise": -0.1}, "noise variance"),
        ({"noise": 0.1, "density": 1.0}, "density"),
        ({"noise": 0.1, "variance": 0.0}, "variance > 0"),
    ],
)
def test_a_prior_out_of_range_is_refused(options, words):
    with pytest.raises(DomainError, match=words):
        TISTA(A, 2, **options)


def test_anderson_solves_an_affine_equation_in_as_many_steps_as_there_are_unknowns():
    M = torch.randn(4, 4, dtype=torch.float64, generator=DRAWS)
    M = 0.9 * M / torch.linalg.matrix_norm(M, 2)
    c = torch.randn(3, 4, dtype=torch.float64, generator=DRAWS)
    want = torch.linalg.solve(torch.eye(4, dtype=torch.float64) - M, c.mT).mT
    points, images = [torch.zeros_like(c)], [c]
    for _ in range(5):
        points.append(anderson(points, images))
        images.append(points[-1] @ M.mT + c)
    assert float((images[-1] - want).abs().max()) < 1e-7
    assert float((images[1] - want).abs().max()) > 1e-2
    assert bool(torch.isfinite(anderson([want] * 4, [want] * 4)).all())  # nothing moves any more


def sparse_data(count=6):
    draws = torch.Generator().manual_seed(2)
    x = torch.randn(count, 40, dtype=torch.float64, generator=draws)
    return (x * (torch.rand(count, 40, generator=draws) < 0.08)) @ A.mT


def test_the_equilibrium_model_starts_at_the_solution_of_the_lasso():
    b = sparse_data()
    net = DEQ(A, 200, 0.1)
    with torch.no_grad():
        u = net(b)
        slope = (u @ A.mT - b) @ A
        assert float(((slope + 0.1 * u.sign()) * (u != 0)).abs().max()) < 1e-12
        assert float((slope.abs() * (u == 0)).max()) <= 0.1 + 1e-12
        assert float((net(b, 150) - u).norm()) < 1e-9
        assert float((ista(A, b, 0.1, 150) - u).norm()) > 1e-4


def test_its_gradient_is_that_of_its_fixed_point():
    b = sparse_data()
    target = torch.randn(6, 40, dtype=torch.float64, generator=DRAWS)
    net = DEQ(A, 300, 0.1, coordinates=True, tol=1e-12, limit=60)

    def loss():
        return 0.5 * (net(b) - target).square().sum()

    loss().backward()
    gradients = [p.grad.clone() for p in net.parameters()]
    assert len(gradients) == 2
    for p, g in zip(net.parameters(), gradients, strict=True):
        v, h = torch.randn(p.shape, dtype=torch.float64, generator=DRAWS), 1e-6
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                p.add_(sign * h * v)
                values.append(float(loss()))
                p.sub_(sign * h * v)
        slope = (values[0] - values[1]) / (2 * h)
        assert abs(slope - float((g * v).sum())) < 1e-6 * abs(slope)
    net.zero_grad()
    u = torch.zeros(6, 40, dtype=torch.float64)
    for _ in range(3_000):
        u = net.layer(u, b)
    (0.5 * (u - target).square().sum()).backward()
    for p, g in zip(net.parameters(), gradients, strict=True):
        assert torch.allclose(p.grad, g, atol=1e-7 * float(g.abs().max()), rtol=0)


def test_without_parameters_to_learn_there_is_no_graph():
    b = torch.randn(2, 20, dtype=torch.float64, generator=DRAWS)
    net = DEQ(A, 5, 0.2).requires_grad_(False)
    assert not net(b).requires_grad
    assert DEQ(A, 5, 0.2)(b).requires_grad
    assert np.array_equal(net(b).numpy(), DEQ(A, 5, 0.2)(b).detach().numpy())


@pytest.mark.parametrize("options", [{"window": 0}, {"limit": 0}, {"tol": 2.0}])
def test_settings_of_the_equilibrium_model_are_checked(options):
    with pytest.raises(DomainError):
        DEQ(A, 5, 0.2, **options)
