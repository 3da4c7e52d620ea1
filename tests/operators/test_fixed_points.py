"""What the operators converge to, against solvers and optimality systems of their own."""

from __future__ import annotations

import numpy as np
import torch
from scipy import optimize
from torch import Tensor

import bmo
from bmo import operators, prox, sets, smooth
from bmo.metric import Identity
from bmo.operators import Operator

f64 = torch.float64


def limit(D: Operator, n: int, alpha: float = 0.9) -> Tensor:
    found = bmo.GKM(D, alpha).iterate(torch.zeros(n, dtype=f64), 20_000, tol=1e-11)
    assert found.converged
    return found.value


def problem() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    half = torch.randn(4, 4, dtype=f64)
    q = half.mT @ half / 2 + torch.eye(4, dtype=f64)
    return q, torch.randn(4, dtype=f64), torch.randn(2, 4, dtype=f64), torch.randn(2, dtype=f64)


def kkt(Q: Tensor, c: Tensor, A: Tensor, b: Tensor) -> Tensor:
    """The minimiser of u.Qu/2 - c.u with Au = b, and its multiplier: one linear system."""
    zero = torch.zeros(A.shape[0], A.shape[0], dtype=f64)
    system = torch.cat([torch.cat([Q, A.mT], 1), torch.cat([A, zero], 1)])
    return torch.linalg.solve(system, torch.cat([c, b]))


def lasso_violation(gradient: Tensor, u: Tensor, weight: float) -> float:
    """Distance of 0 from gradient + weight * d|u|; damped steps reach zeros in the limit only."""
    u = torch.where(u.abs() < 1e-9, 0.0, u)
    at_zero = torch.relu(gradient.abs() - weight)
    return float(torch.where(u == 0, at_zero, (gradient + weight * u.sign()).abs()).max())


def test_equality_constraints() -> None:
    Q, c, A, b = problem()
    f, exact = smooth.Quadratic(Q, c), kkt(Q, c, A, b)
    beta = 1.0
    for D in (
        operators.ProximalALM(f, A, b, beta, 0.5),
        operators.LinearisedALM(f, A, b, beta),
        operators.GradientLinearisedALM(f, prox.Zero(), A, b, beta),
        operators.LearnedALM(f, A, b),
    ):
        assert torch.allclose(limit(D, 6).detach(), exact, atol=1e-8), type(D)


def test_basis_pursuit_is_a_linear_programme() -> None:
    _, _, A, b = problem()
    u = limit(operators.LinearisedALM(prox.L1(1.0), A, b), 6)[:4]
    both = np.concatenate([A.numpy(), -A.numpy()], 1)
    best = optimize.linprog(np.ones(8), A_eq=both, b_eq=b.numpy(), bounds=(0, None))
    assert np.abs((best.x[:4] - best.x[4:]) - u.numpy()).max() <= 1e-8


def test_two_blocks() -> None:
    Q, c, A, b = problem()
    B, R = torch.randn(2, 3, dtype=f64), torch.eye(3, dtype=f64)
    f, g = smooth.Quadratic(Q, c), smooth.Quadratic(R, torch.ones(3, dtype=f64))
    both = torch.block_diag(Q, R), torch.cat([c, torch.ones(3, dtype=f64)])
    exact = kkt(*both, torch.cat([A, B], 1), b)
    for D in (
        operators.LinearisedADMM(f, g, A, B, b),
        operators.LinearisedADMM(prox.Zero(), g, A, B, b, smooth=f),
        operators.ProximalADMM(f, g, A, B, b, P_u=0.5, P_v=0.1),
        operators.LearnedLinearisedADMM(f, g, A, B, b),
    ):
        assert torch.allclose(limit(D, 9).detach(), exact, atol=1e-8), type(D)


def test_total_variation_has_a_bounded_least_squares_dual() -> None:
    c = torch.randn(8, dtype=f64).cumsum(0)
    K = torch.diff(torch.eye(8, dtype=f64), dim=0)
    dual = optimize.lsq_linear(K.mT.numpy(), c.numpy(), bounds=(-0.6, 0.6), tol=1e-14)
    exact = c - K.mT @ torch.from_numpy(dual.x)
    f, g = prox.SquaredL2(1.0, center=c), prox.L1(0.6)
    h = bmo.LeastSquares(torch.eye(8, dtype=f64), c)
    for D in (
        operators.PDHG(f, g, K),
        operators.CondatVu(h, prox.Zero(), g, K),
        operators.LearnedPDHG(f, g, K),
    ):
        assert torch.allclose(limit(D, 15)[:8].detach(), exact, atol=1e-6), type(D)


def test_condat_vu_solves_all_three_inclusions() -> None:
    Q, c, K, _ = problem()
    f = prox.Indicator(sets.Nonnegative())
    z = limit(operators.CondatVu(smooth.Quadratic(Q, c), f, prox.L1(0.3), K), 6)
    x, y = z[:4], z[4:]
    gradient = Q @ x - c + K.mT @ y
    assert float(x.min()) >= 0 and float(gradient.min()) >= -1e-9
    assert float((x * gradient).abs().max()) <= 1e-9  # complementarity
    aligned = (K @ x * y).sum(), 0.3 * (K @ x).abs().sum()  # y in 0.3 d|Kx|
    assert torch.allclose(*aligned, atol=1e-9) and float(y.abs().max()) <= 0.3 + 1e-12


def test_lasso_four_ways() -> None:
    Q, c, _, _ = problem()
    c = Q @ torch.tensor([2.0, 0.0, 0.0, -3.0], dtype=f64)
    f, g = smooth.Quadratic(Q, c), prox.L1(0.8)
    dr, admm = operators.DouglasRachford(f, g, 0.7), operators.ADMM(f, g, 1.3)
    eye, zero = torch.eye(4, dtype=f64), torch.zeros(4, dtype=f64)
    split = operators.LinearisedADMM(f, g, eye, -eye, zero)
    found = {
        "ista": limit(bmo.ProximalGradient(f, g, step=1 / float(torch.linalg.eigvalsh(Q)[-1])), 4),
        "dr": g(2 * dr.solution(limit(dr, 4)) - limit(dr, 4), bmo.metric.Scaled(1 / 0.7)),
        "admm": admm.variables(limit(admm, 4))[0],
        "split": limit(split, 12)[4:8],
    }
    for name, u in found.items():
        assert lasso_violation(Q @ u - c, u, 0.8) <= 1e-8, name
    assert all(int((u.abs() < 1e-9).sum()) == 2 for u in found.values())


def test_networks_in_the_step() -> None:
    Q, c, _, _ = problem()
    V = torch.linalg.qr(torch.randn(4, 4, dtype=f64))[0]
    N = operators.Lambda(lambda u: u @ V.mT, Identity())
    f, eye = smooth.Quadratic(Q, c), torch.eye(4, dtype=f64)
    red = torch.linalg.solve(Q + 0.6 * (eye - V), c)
    assert torch.allclose(limit(operators.RED(f, N, 0.6), 4), red, atol=1e-9)
    learned = operators.LearnedRED(f, N, 0.6)
    assert torch.allclose(limit(learned, 4).detach(), red, atol=1e-9)
    tau = 1 / float(torch.linalg.eigvalsh(Q)[-1])
    pnp = torch.linalg.solve(eye - V @ (eye - tau * Q), tau * V @ c)
    assert torch.allclose(limit(operators.PnPProximalGradient(f, N), 4), pnp, atol=1e-9)
    hqs = torch.linalg.solve(eye + 0.5 * Q - V, 0.5 * c)
    assert torch.allclose(limit(operators.HalfQuadratic(f, N, 0.5), 4), hqs, atol=1e-9)


def test_monotone_equilibrium_is_the_layer() -> None:
    A, S, b = torch.randn(3, 4, 4, dtype=f64)
    G = 0.5 * torch.eye(4, dtype=f64) + A.mT @ A + S - S.mT
    W, b = torch.eye(4, dtype=f64) - G, b[0]
    relu = prox.Indicator(sets.Nonnegative())
    z = limit(operators.MonotoneEquilibrium(W, b, relu), 4)
    assert torch.allclose(z, torch.relu(W @ z + b), atol=1e-9)
    D = operators.LearnedMonotoneEquilibrium(4, 2, relu, dtype=f64)
    x = torch.randn(2, dtype=f64)
    z = limit(D.bind(x=x), 4)
    eye = torch.eye(4, dtype=f64)
    W = eye - (0.5 * eye + D.A.mT @ D.A + D.S - D.S.mT)
    assert torch.allclose(z, torch.relu(W @ z + D.U @ x + D.c).detach(), atol=1e-9)
