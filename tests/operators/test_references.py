"""Each operator against its textbook iteration in plain NumPy: 20 steps, to 1e-12."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

import bmo
from bmo import operators, prox, sets, smooth
from bmo.metric import Dense, Identity
from bmo.operators import Operator

Array = np.ndarray
Step = Callable[[Array], Array]
STEPS = 20


def rng() -> np.random.Generator:
    return np.random.default_rng(3)


def t(x: Array) -> Tensor:
    return torch.from_numpy(np.array(x))


def soft(x: Array, c: float) -> Array:
    return np.maximum(x - c, 0) - np.maximum(-x - c, 0)


def agree(D: Operator, reference: Step, z: Array, batch: bool = True) -> None:
    """Run both for 20 steps from a few points; the operator once more without a batch."""
    mine, theirs = t(z), z.copy()
    single = mine[0]
    for _ in range(STEPS):
        mine, single = D(mine), D(single)
        theirs = np.stack([reference(row) for row in theirs])
    size = max(1.0, float(np.abs(theirs).max()))
    assert np.abs(mine.numpy() - theirs).max() <= 1e-12 * size
    assert torch.allclose(single, mine[0], atol=1e-12 * size, rtol=0)


def problem() -> tuple[Array, Array, Array, Array]:
    """Q positive definite (4, 4), c, and a constraint A (2, 4), b."""
    r = rng()
    half = r.normal(size=(4, 4))
    return half.T @ half + np.eye(4), r.normal(size=4), r.normal(size=(2, 4)), r.normal(size=2)


def test_gradient_descent_and_proximal_gradient() -> None:
    Q, c, _, _ = problem()
    L = np.linalg.eigvalsh(Q)[-1]
    f = smooth.Quadratic(t(Q), t(c))
    z = rng().normal(size=(3, 4))
    agree(bmo.ProximalGradient(f, step=1.3 / L), lambda u: u - 1.3 / L * (Q @ u - c), z)
    ista = bmo.ProximalGradient(f, prox.L1(0.7), step=1.3 / L)
    agree(ista, lambda u: soft(u - 1.3 / L * (Q @ u - c), 0.7 * 1.3 / L), z)
    T = bmo.GKM(operators.Unrelaxed(ista), alpha=ista.averaged)  # undamped ISTA is a GKM map
    u = t(z)
    assert torch.allclose(T(u), ista(u), atol=1e-12)


def test_preconditioned_proximal_gradient() -> None:
    Q, c, _, _ = problem()
    d = np.abs(Q).sum(1)  # row sums bound Q
    D = bmo.ProximalGradient(
        smooth.Quadratic(t(Q), t(c)), prox.L1(0.5), metric=bmo.metric.Diagonal(t(d))
    )
    agree(D, lambda u: soft(u - (Q @ u - c) / d, 0.5 / d), rng().normal(size=(3, 4)))


def test_tied_lista() -> None:
    r = rng()
    W2, _ = np.linalg.qr(r.normal(size=(4, 4)))
    W1, b = r.normal(size=(4, 2)), r.normal(size=2)
    move = t(W1 @ b)
    D = operators.Lambda(lambda u: prox.soft(u @ t(W2).mT + move, 0.1), Identity())
    agree(D, lambda u: soft(W2 @ u + W1 @ b, 0.1), r.normal(size=(3, 4)))
    assert bmo.certify.nonexpansive(D, size=4).holds


def test_proximal_alm() -> None:
    Q, c, A, b = problem()
    half = rng().normal(size=(4, 4))
    P, beta = half @ half.T + 0.3 * np.eye(4), 0.7
    D = operators.ProximalALM(smooth.Quadratic(t(Q), t(c)), t(A), t(b), beta, Dense(t(P)))

    def step(z: Array) -> Array:
        u, lam = z[:4], z[4:]
        right = c - A.T @ lam + beta * A.T @ b + P @ u
        u = np.linalg.solve(Q + beta * A.T @ A + P, right)
        return np.concatenate([u, lam + beta * (A @ u - b)])

    agree(D, step, rng().normal(size=(3, 6)))


def test_linearised_alm() -> None:
    _, _, A, b = problem()
    beta, tau = 0.7, 0.7 * np.linalg.norm(A, 2) ** 2 * 1.2
    D = operators.LinearisedALM(prox.L1(0.5), t(A), t(b), beta, tau)

    def step(z: Array) -> Array:
        u, lam = z[:4], z[4:]
        u = soft(u - A.T @ (lam + beta * (A @ u - b)) / tau, 0.5 / tau)
        return np.concatenate([u, lam + beta * (A @ u - b)])

    agree(D, step, rng().normal(size=(3, 6)))


def test_gradient_linearised_alm() -> None:
    Q, c, A, b = problem()
    beta = 0.7
    tau = np.linalg.eigvalsh(Q / 1.4 + beta * A.T @ A)[-1]  # delta = 0.7
    f = smooth.Quadratic(t(Q), t(c))
    D = operators.GradientLinearisedALM(f, prox.L1(0.5), t(A), t(b), beta, tau)

    def step(z: Array) -> Array:
        u, lam = z[:4], z[4:]
        u = soft(u - (Q @ u - c + A.T @ (lam + beta * (A @ u - b))) / tau, 0.5 / tau)
        return np.concatenate([u, lam + beta * (A @ u - b)])

    agree(D, step, rng().normal(size=(3, 6)))
    delta = np.max(np.linalg.eigvals(np.linalg.solve(tau * np.eye(4) - beta * A.T @ A, Q)).real) / 2
    assert abs(D.averaged - 1 / (2 - delta)) <= 1e-10 and delta <= 0.7 + 1e-9


def test_linearised_admm() -> None:
    Q, c, A, b = problem()
    B, beta = rng().normal(size=(2, 3)), 0.4
    tau_u, tau_v = 1.3 * beta * np.linalg.norm(A, 2) ** 2, 1.1 * beta * np.linalg.norm(B, 2) ** 2
    h = smooth.Quadratic(0.05 * t(Q), 0.05 * t(c))
    f, g = prox.L1(0.5), prox.Indicator(sets.Box(-1.0, 2.0))
    for part in (None, h):
        extra = 0.0 if part is None else np.linalg.eigvalsh(Q)[-1] * 0.05
        tau = tau_u + extra
        D = operators.LinearisedADMM(f, g, t(A), t(B), t(b), beta, tau, tau_v, part)

        def step(z: Array, tau: float = tau, on: bool = part is not None) -> Array:
            u, v, lam = z[:4], z[4:7], z[7:]
            grad = 0.05 * (Q @ u - c) if on else 0.0
            u = soft(u - (grad + A.T @ (lam + beta * (A @ u + B @ v - b))) / tau, 0.5 / tau)
            v = np.clip(v - B.T @ (lam + beta * (A @ u + B @ v - b)) / tau_v, -1.0, 2.0)
            return np.concatenate([u, v, lam + beta * (A @ u + B @ v - b)])

        agree(D, step, rng().normal(size=(3, 9)))


def test_proximal_admm() -> None:
    Q, c, A, b = problem()
    B, beta, p = rng().normal(size=(2, 2)), 0.4, 0.6
    R = np.diag([1.0, 3.0])
    f, g = smooth.Quadratic(t(Q), t(c)), smooth.LeastSquares(t(R), t(b))
    D = operators.ProximalADMM(f, g, t(A), t(B), t(b), beta, P_u=p)

    def step(z: Array) -> Array:
        u, v, lam = z[:4], z[4:6], z[6:]
        right = c - A.T @ (lam + beta * (B @ v - b)) + p * u
        u = np.linalg.solve(Q + beta * A.T @ A + p * np.eye(4), right)
        right = R.T @ b - B.T @ (lam + beta * (A @ u - b))
        v = np.linalg.solve(R.T @ R + beta * B.T @ B, right)
        return np.concatenate([u, v, lam + beta * (A @ u + B @ v - b)])

    agree(D, step, rng().normal(size=(3, 8)))


def test_pdhg_and_condat_vu() -> None:
    Q, c, K, b = problem()
    tau, sigma = 0.3, 0.2
    f = prox.SquaredL2(0.5, center=t(c))
    g = prox.L1(0.4)  # its conjugate is the indicator of |y| <= 0.4
    h = smooth.Quadratic(0.2 * t(Q), t(c))
    for D, on in (
        (operators.PDHG(f, g, t(K), tau, sigma), 0.0),
        (operators.CondatVu(h, f, g, t(K), tau, sigma), 1.0),
    ):

        def step(z: Array, on: float = on) -> Array:
            x, y = z[:4], z[4:]
            w = x - tau * (K.T @ y + on * (0.2 * Q @ x - c))
            new = (w + tau * 0.5 * c) / (1 + tau * 0.5)
            return np.concatenate([new, np.clip(y + sigma * K @ (2 * new - x), -0.4, 0.4)])

        agree(D, step, rng().normal(size=(3, 6)))


def test_pdhg_with_a_quadratic_primal() -> None:
    Q, c, K, _ = problem()
    tau, sigma = 0.3, 0.2
    D = operators.PDHG(smooth.Quadratic(t(Q), t(c)), prox.L1(0.4), t(K), tau, sigma)

    def step(z: Array) -> Array:
        x, y = z[:4], z[4:]
        new = np.linalg.solve(np.eye(4) + tau * Q, x - tau * K.T @ y + tau * c)
        return np.concatenate([new, np.clip(y + sigma * K @ (2 * new - x), -0.4, 0.4)])

    agree(D, step, rng().normal(size=(3, 6)))


def test_douglas_rachford_at_one_half() -> None:
    Q, c, _, _ = problem()
    tau = 0.8
    D = operators.DouglasRachford(smooth.Quadratic(t(Q), t(c)), prox.L1(0.5), tau)
    T = operators.Lambda(bmo.GKM(D, 0.5), Identity())

    def step(z: Array) -> Array:
        x = np.linalg.solve(np.eye(4) + tau * Q, z + tau * c)
        return z + soft(2 * x - z, tau * 0.5) - x

    agree(T, step, rng().normal(size=(3, 4)))


def test_admm_in_three_lines() -> None:
    Q, c, _, _ = problem()
    beta = 0.8
    D = operators.ADMM(smooth.Quadratic(t(Q), t(c)), prox.L1(0.5), beta)
    T = bmo.GKM(D, 0.5)
    y = d = np.zeros(4)
    w = None
    for _ in range(STEPS):
        x = np.linalg.solve(Q / beta + np.eye(4), y - d + c / beta)
        w = t(x + d) if w is None else T(w)
        y = soft(x + d, 0.5 / beta)
        d = d + x - y
        mine = D.variables(w)
        assert np.abs(mine[0].numpy() - y).max() <= 1e-12
        assert np.abs(mine[1].numpy() - d).max() <= 1e-12


def test_steps_with_networks() -> None:
    Q, c, _, _ = problem()
    L, r = np.linalg.eigvalsh(Q)[-1], rng()
    V, _ = np.linalg.qr(r.normal(size=(4, 4)))
    N = operators.Lambda(lambda u: torch.relu(u @ t(V).mT), Identity())
    net = lambda u: np.maximum(V @ u, 0)  # noqa: E731
    f, z = smooth.Quadratic(t(Q), t(c)), r.normal(size=(3, 4))
    step = 1.2 / (L + 2 * 0.6)
    agree(operators.RED(f, N, 0.6, step), lambda u: u - step * (Q @ u - c + 0.6 * (u - net(u))), z)
    pnp = operators.PnPProximalGradient(f, N, 1.2 / L)
    agree(pnp, lambda u: net(u - 1.2 / L * (Q @ u - c)), z)
    hqs = operators.HalfQuadratic(f, N, 0.5)
    agree(hqs, lambda u: np.linalg.solve(np.eye(4) + 0.5 * Q, net(u) + 0.5 * c), z)


def test_monotone_equilibrium() -> None:
    r = rng()
    S, A, b = r.normal(size=(4, 4)), r.normal(size=(4, 4)), r.normal(size=4)
    G = 0.5 * np.eye(4) + A.T @ A + S - S.T
    a = 0.5 / np.linalg.norm(G, 2) ** 2
    relu = prox.Indicator(sets.Nonnegative())
    D = operators.MonotoneEquilibrium(t(np.eye(4) - G), t(b), relu, a)
    agree(D, lambda z: np.maximum(z - a * (G @ z - b), 0), r.normal(size=(3, 4)))
