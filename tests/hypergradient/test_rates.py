"""Rates: truncation q^h, Neumann rho^m, conjugate gradients; and where the last are wrong."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

import bmo
from bmo import bounds
from bmo.errors import ConditionError
from bmo.hypergradient import (
    GMRES,
    ConjugateGradient,
    Neumann,
    Truncated,
    hypergradient,
)
from bmo.hypergradient.adjoint import (
    Adjoint,
    asymmetry,
    conjugate_gradient,
    gmres,
    require_self_adjoint,
)
from bmo.metric import Dense, Diagonal, Identity
from tests.hypergradient.cases import case
from tests.hypergradient.references import dual_norm, fixed_point, implicit
from tests.instances import F64, generator, normal, spd, square_root

RHO, ALPHA, N = 0.9, 0.5, 6


class Linear(bmo.operators.Operator):
    r"""T with eigenvalues between -rho and rho in a dense metric, both ends among them."""

    def __init__(self, rho: float = RHO) -> None:
        super().__init__()
        g = generator(0)
        H = spd(g, N, cond=30.0)
        root = square_root(H)
        back = torch.linalg.inv(root)
        vectors, _ = torch.linalg.qr(normal(g, N, N))
        values = torch.linspace(-rho, rho, N, dtype=F64)
        self.M = back @ (vectors * values) @ vectors.mT @ root  # H M is symmetric
        self.top = back @ vectors[:, -1]  # M top = rho top
        self._metric, self.omega = Dense(H), nn.Parameter(normal(g, N))
        self.dense = H

    @property
    def metric(self) -> bmo.metric.Metric:
        return self._metric

    def forward(self, u: Tensor) -> Tensor:
        image = u @ self.M.mT + self.omega  # T(u); the scheme relaxes D, so D is stretched
        return u + (image - u) / ALPHA


def loop(mu: float, s: float = 0.0) -> tuple[bmo.Inner, Linear]:
    D = Linear()
    return bmo.Inner(bmo.GKM(D, ALPHA), mu, s or 1.0, check=False), D


def slope(values: list[float]) -> float:
    """The factor from one entry to the next, over the second half."""
    half = len(values) // 2
    return (values[-1] / values[half]) ** (1 / (len(values) - 1 - half))


@pytest.mark.parametrize("mu", [0.0, 0.3, 0.6])
def test_truncation_forgets_at_q_and_not_at_rho(mu: float) -> None:
    r"""With :math:`+\rho` in the spectrum, h more steps gain :math:`q^h`, q = (1-mu) rho + mu."""
    inner, D = loop(mu)
    q, K = (1 - mu) * RHO + mu, 400
    target = normal(generator(1), N)
    # a linear objective has no curvature: the upper step does not contract at all
    upper = lambda u: (u * target).sum(-1)  # noqa: E731
    u0 = torch.zeros(N, dtype=F64)
    exact = hypergradient(inner, u0, upper, K).gradients["training_map.operator.omega"]
    H = D.dense
    errors = []
    for h in range(10, 90, 10):
        got = hypergradient(inner, u0, upper, K, method=Truncated(h))
        gap = (got.gradients["training_map.operator.omega"] - exact)[None]
        errors.append(float(dual_norm(gap, H)))
        # J_{K-h} is a sum of (1-mu) A^i, A = (1-mu) M + mu I, of norm at most (1-mu)/(1-q)
        limit = bounds.truncation(h, q, (1 - mu) / (1 - q)) * float(dual_norm(target[None], H))
        assert errors[-1] <= limit * (1 + 1e-9)
    assert slope(errors) ** 0.1 == pytest.approx(q, rel=2e-3)
    if mu:
        assert slope(errors) ** 0.1 > RHO * 1.02


def test_neumann_gains_rho_a_term() -> None:
    inner, D = loop(0.0)
    target = normal(generator(2), N)
    upper = lambda u: 0.5 * (u - target).square().sum(-1)  # noqa: E731
    eye = torch.eye(N, dtype=F64)
    u = torch.linalg.solve(eye - D.M, D.omega.detach())
    g = u - target
    exact = torch.linalg.solve(eye - D.M.mT, g)
    jacobian = torch.linalg.inv(eye - D.M)
    root = square_root(D.dense)
    size = float(torch.linalg.matrix_norm(root @ jacobian @ torch.linalg.inv(root), 2))
    errors = []
    for m in range(10, 90, 10):
        got = hypergradient(inner, u, upper, 0, method=Neumann(m))
        gap = got.gradients["training_map.operator.omega"] - exact
        errors.append(float(dual_norm(gap[None], D.dense)))
        limit = bounds.neumann(m, RHO, size, 0.0, 0.0) * float(dual_norm(g[None], D.dense))
        assert errors[-1] <= limit * (1 + 1e-9)
    assert slope(errors) ** 0.1 == pytest.approx(RHO, rel=1e-3)


def symmetric(n: int, rho: float, spread: str = "even") -> tuple[Adjoint, Tensor, Tensor]:
    """A self-adjoint map in a dense metric, as an adjoint equation; its matrix and metric."""
    g = generator(3)
    H = spd(g, n, cond=30.0)
    root = square_root(H)
    vectors, _ = torch.linalg.qr(normal(g, n, n))
    values = rho * torch.linspace(-1, 1, n, dtype=F64)
    M = torch.linalg.inv(root) @ (vectors * values) @ vectors.mT @ root
    return Adjoint(lambda v: v @ M, normal(g, n), Dense(H)), M, H


def test_conjugate_gradients_keep_their_rate_in_the_metric() -> None:
    n, rho = 40, 0.95
    equation, M, H = symmetric(n, rho)
    B = torch.eye(n, dtype=F64) - M.mT
    exact = torch.linalg.solve(B, equation.right)
    inverse = torch.linalg.inv(H)

    def energy(e: Tensor) -> float:
        return math.sqrt(float(e @ inverse @ (B @ e)))

    g = float(dual_norm(equation.right[None], H))
    lam = torch.zeros(n, dtype=F64)
    term = equation.right
    for m in range(1, 21):
        gap = conjugate_gradient(equation, 1e-15, m).value - exact
        assert energy(gap) <= bounds.cg_factor(m, rho) * energy(exact) * (1 + 1e-9)
        size = float(dual_norm(gap[None], H))
        assert size <= bounds.conjugate_gradient(m, rho, g, 1.0) * (1 + 1e-9)
        lam, term = lam + term, equation.transpose(term)
    neumann = float(dual_norm((lam - exact)[None], H))
    assert size < 0.03 * neumann  # after twenty products each
    # in the Euclidean inner product the same map is not self-adjoint, and nothing is promised
    wrong = Adjoint(equation.transpose, equation.right, Identity())
    assert asymmetry(wrong) > 1e-2 and asymmetry(equation) < 1e-14


def test_conjugate_gradients_fail_on_a_proximal_map_and_are_refused() -> None:
    r"""A lasso with correlated columns, at its solution: rows are cut off, not columns.

    For a symmetric matrix n steps end at the solution. Here they diverge.
    """
    g, n = generator(4), 40
    A = (normal(g, 20, n) + 0.5 * normal(g, 20, 1)) / 20**0.5
    b = A[:, :10].sum(-1) + 0.05 * normal(g, 20)
    prior = bmo.prox.L1(torch.tensor(0.05, dtype=F64), learn=True)
    top = float(torch.linalg.matrix_norm(A, 2)) ** 2
    D = bmo.ProximalGradient(bmo.LeastSquares(A, b), prior, step=1 / top)
    inner = bmo.Inner(bmo.GKM(D, 0.9), mu=0.0)
    upper = lambda u: 0.5 * (u - 1).square().sum(-1)  # noqa: E731
    u = torch.zeros(n, dtype=F64)
    with torch.no_grad():
        for _ in range(20000):
            u = D(u)
    M = torch.diag(u.ne(0).to(F64))
    assert 10 <= int(M.sum()) <= 20
    assert float((D(u) - u).detach().abs().max()) < 1e-10
    # dense, from the formulas: dT/du = (1-a) I + a M (I - Q / L)
    eye = torch.eye(n, dtype=F64)
    F = 0.1 * eye + 0.9 * M @ (eye - A.mT @ A / top)
    right = u - 1
    exact = torch.linalg.solve(eye - F.mT, right)
    equation = Adjoint(lambda v: v @ F, right, Identity())
    raw, more = (conjugate_gradient(equation, 1e-10, steps) for steps in (n, 10 * n))
    slopes = -0.9 / top * (M @ u.sign())  # dT/d threshold
    truth, found = float(slopes @ exact), float(slopes @ raw.value)
    assert abs(found - truth) > abs(truth)  # wrong by more than itself
    assert float(raw.residual) > 1 and float(more.residual) > 1  # ten times the work: no better
    assert not raw.enough  # the residual is computed from the equation: this solver would tell
    with pytest.raises(ConditionError, match="self-adjoint"):
        hypergradient(inner, u, upper, 0, method="cg")
    dlam = torch.sigmoid(prior.threshold.raw.detach())  # the threshold is a softplus
    for method in ("active-set", GMRES(1e-13)):
        got = hypergradient(inner, u, upper, 0, method=method).gradients
        (value,) = got.values()
        assert float(value) == pytest.approx(truth * float(dlam), rel=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("shape", [(), (3,)])
@pytest.mark.parametrize("n", [5, 50, 2000])
def test_one_entry_that_is_cut_off_is_seen_and_rounding_is_not(
    dtype: torch.dtype, shape: tuple[int, ...], n: int
) -> None:
    g = generator(n)
    metric = Diagonal(torch.logspace(0, 4, n, dtype=F64).to(dtype))
    B = (normal(g, n, n) / (2 * n**0.5)).to(dtype)
    root = metric.weights().sqrt()
    mask = torch.ones(n, dtype=dtype)
    mask[n // 2] = 0

    def smooth(v: Tensor) -> Tensor:  # v - Q P^-1 v with Q = root B^T B root
        return v - ((v / root) @ B.mT) @ B * root

    right = normal(g, *shape, n).to(dtype) * 1e-6
    require_self_adjoint(Adjoint(smooth, right, metric))
    with pytest.raises(ConditionError, match="asymmetry"):
        require_self_adjoint(Adjoint(lambda v: smooth(v * mask), right, metric))


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
def test_gmres_counts_the_same_steps_at_every_scale(scale: float) -> None:
    """Also with a batch of which some points are done at once, and one has nothing to do."""
    equation, M, _ = symmetric(12, 0.9)
    values, vectors = torch.linalg.eig(M.mT)
    eigenvector = vectors.real[:, 0]
    right = torch.stack([eigenvector, equation.right, 0 * eigenvector]) * scale
    count = 0

    def transpose(v: Tensor) -> Tensor:
        nonlocal count
        count += 1
        return v @ M

    batch = Adjoint(transpose, right, equation.metric)
    exact = torch.linalg.solve(torch.eye(12, dtype=F64) - M.mT, right.mT).mT
    got = gmres(batch, 1e-12, 1000, 30)
    assert got.enough and torch.allclose(got.value, exact, rtol=1e-9, atol=1e-12 * scale)
    assert count <= 12 + 3  # n steps, and the residual at the start and at the end
    count = 0
    short = gmres(batch, 1e-12, 1000, 3)
    assert short.enough and torch.allclose(short.value, exact, rtol=1e-9, atol=1e-12 * scale)
    assert 15 < count < 200
    assert not gmres(batch, 1e-12, 4, 30).enough


def test_solvers_count_as_they_should() -> None:
    """Conjugate gradients need far fewer products than the fixed-point iteration."""
    c = case("gradient", 0.0, "whole", 0.3)
    u = fixed_point(c.formula, c.u0, 0.3)
    E = implicit(c.formula, u, 0.3)
    steps = len(E.g[0])
    got = hypergradient(c.inner, u, c.upper, 0, c.omega, ConjugateGradient(1e-10, steps))
    assert got.solved  # n steps
    with pytest.warns(bmo.hypergradient.AdjointWarning):
        slow = hypergradient(
            c.inner, u, c.upper, 0, c.omega, bmo.hypergradient.FixedPoint(1e-10, steps)
        )
    assert not slow.solved and float(slow.adjoint_residual.max()) > 1e-3
