"""Chapter 4: each numbered statement against linear algebra that knows nothing of the package."""

from __future__ import annotations

import pytest
import torch

import bmo
from bmo.metric import Dense, Identity
from bmo.operators import Composition, Conjugate, Lambda, ProximalGradient, Unrelaxed


def spd(n: int, rng: torch.Generator, cond: float = 100.0) -> torch.Tensor:
    """A random symmetric positive definite matrix of given condition number."""
    q, _ = torch.linalg.qr(torch.randn(n, n, generator=rng))
    return q @ torch.diag(torch.logspace(0, float(torch.tensor(cond).log10()), n)) @ q.T


def norm_in(matrix: torch.Tensor, H: torch.Tensor) -> float:
    """The operator norm of a matrix in the metric H, by a symmetric square root."""
    values, vectors = torch.linalg.eigh(H)
    root = vectors @ torch.diag(values.sqrt()) @ vectors.T
    return float(torch.linalg.matrix_norm(root @ matrix @ torch.linalg.inv(root), 2))


def linear(matrix: torch.Tensor, H: torch.Tensor, averaged: float = 1.0) -> Lambda:
    """A linear map as an operator."""
    return Lambda(lambda u: u @ matrix.T, Dense(H), averaged)


def matrix_of(T: torch.nn.Module, n: int) -> torch.Tensor:
    """The matrix of a linear map, column by column."""
    return T(torch.eye(n)).T


@pytest.mark.parametrize("seed", range(20))
def test_gkm_averaged(seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    n, a, alpha = 5, 0.6, 0.7
    H = spd(n, rng)
    values, vectors = torch.linalg.eigh(H)
    root = vectors @ torch.diag(values.sqrt()) @ vectors.T
    q, _ = torch.linalg.qr(torch.randn(n, n, generator=rng))
    N = torch.linalg.inv(root) @ q @ root
    T = bmo.GKM(linear((1 - a) * torch.eye(n) + a * N, H, a), alpha)
    assert T.averaged == pytest.approx(alpha * a)
    inside = torch.eye(n) + (matrix_of(T, n) - torch.eye(n)) / T.averaged
    assert norm_in(inside, H) == pytest.approx(1.0, abs=1e-10)  # attained: N is an isometry


@pytest.mark.parametrize("delta", [0.0, 0.3, 0.9, 1.0])
def test_forward_backward_lemma(delta: float) -> None:
    """Random linear M (positive semidefinite plus skew) and C at curvature exactly 2 delta."""
    worst = 0.0
    for seed in range(40):
        rng = torch.Generator().manual_seed(seed)
        n = 4
        Q = spd(n, rng)
        half = torch.randn(n, n, generator=rng)
        skew = torch.randn(n, n, generator=rng)
        scale = 10.0 ** float(torch.randn(1, generator=rng))
        M = scale * (half @ half.T * (seed % 2) + skew - skew.T)
        C = spd(n, rng)
        top = torch.linalg.eigvals(torch.linalg.solve(Q, C)).real.max()
        C = C * (2 * delta / top)
        D = torch.linalg.solve(Q + M, Q - C)
        a = 1 / (2 - delta)
        N = torch.eye(n) + (D - torch.eye(n)) / a
        worst = max(worst, norm_in(N, Q))
    assert worst <= 1 + 1e-10
    # attained up to 3 per cent somewhere (exactly 1 for pure resolvents of skew maps)
    assert worst >= 0.97


def test_forward_backward_constant_cannot_be_smaller() -> None:
    r"""One dimension: D = (1-2 delta)u composed with the resolvent of a steep M."""
    delta, a = 0.8, 1 / (2 - 0.8)
    forward = Lambda(lambda u: (1 - 2 * delta) * u, Identity(), delta)
    zero = Lambda(lambda u: 0 * u, Identity(), 0.5)
    assert Composition(zero, forward).averaged == pytest.approx(a)
    # rotation-like worst case in two dimensions: resolvent of a skew map after the forward step
    angles = torch.linspace(0.01, 1.5, 400)
    worst = 0.0
    for t in angles:
        c, s = t.cos(), t.sin()
        resolvent = c * torch.stack([torch.stack([c, -s]), torch.stack([s, c])])
        forward2 = torch.diag(torch.tensor([1 - 2 * delta, 1.0]))
        for turn in torch.linspace(0, 3.14, 60):
            r = torch.tensor([[turn.cos(), -turn.sin()], [turn.sin(), turn.cos()]])
            D = resolvent @ r @ forward2 @ r.T
            N = torch.eye(2) + (D - torch.eye(2)) / (0.97 * a)
            worst = max(worst, float(torch.linalg.matrix_norm(N, 2)))
    assert worst > 1.0


def test_curvature_is_cocoercivity() -> None:
    """The largest delta with cocoercivity, by generalised eigenvalues, is half the curvature."""
    for seed in range(20):
        rng = torch.Generator().manual_seed(seed)
        n = 5
        P, A = spd(n, rng), torch.randn(7, n, generator=rng)
        hessian = A.T @ A
        f = bmo.LeastSquares(A, torch.zeros(7))
        delta = float(f.curvature(Dense(P))) / 2
        # <Sw,w> >= |Sw|^2_{P^-1}/(2 delta) for all w  <=>  S - S P^-1 S/(2 delta) >= 0
        gap = hessian - hessian @ torch.linalg.solve(P, hessian) / (2 * delta)
        low = float(torch.linalg.eigvalsh(gap)[0])
        assert low >= -1e-9 * float(torch.linalg.matrix_norm(hessian, 2))
        tight = hessian - hessian @ torch.linalg.solve(P, hessian) / (2 * delta * 0.99)
        assert float(torch.linalg.eigvalsh(tight)[0]) < 0


@pytest.mark.parametrize("curvature", [0.5, 1.0, 1.9, 2.0, 2.02, 3.0])
def test_one_percent_too_far(curvature: float) -> None:
    rng = torch.Generator().manual_seed(3)
    n = 6
    P = spd(n, rng)
    A = torch.randn(9, n, generator=rng)
    f0 = bmo.LeastSquares(A, torch.zeros(9))
    scale = (curvature / f0.curvature(Dense(P))).sqrt()
    f = bmo.LeastSquares(A * scale, torch.zeros(9))
    D = ProximalGradient(f, metric=Dense(P), check=False)
    S = torch.linalg.eigvals(torch.linalg.solve(P, f.A.T @ f.A)).real
    expected = max(abs(1 - float(S.max())), abs(1 - float(S.min())))
    assert norm_in(matrix_of(D, n), P) == pytest.approx(expected, abs=1e-9)
    if curvature > 2:
        assert expected > 1
        with pytest.raises(bmo.errors.ConditionError, match="curvature"):
            ProximalGradient(f, metric=Dense(P))


def test_ista_is_gkm() -> None:
    rng = torch.Generator().manual_seed(0)
    A, b = torch.randn(6, 9, generator=rng), torch.randn(6, generator=rng)
    f = bmo.LeastSquares(A, b)
    L = float(torch.linalg.matrix_norm(A, 2)) ** 2
    step, lam = 1.6 / L, 0.3
    F = ProximalGradient(f, bmo.prox.L1(lam), step=step)
    assert F.averaged == pytest.approx(2 / (4 - step * L), abs=1e-12)
    T = bmo.GKM(Unrelaxed(F), alpha=F.averaged)
    u = x = torch.randn(9, generator=rng)
    for _ in range(30):
        z = x - step * A.T @ (A @ x - b)
        x = z.sign() * (z.abs() - step * lam).clamp_min(0)
        u = T(u)
    assert torch.allclose(u, x, rtol=0, atol=1e-12)


@pytest.mark.parametrize("a", [0.3, 0.7])
def test_lista_condition(a: float) -> None:
    """Symmetric W with eigenvalues in [1 - 2a, 1]: the undamped step is 1/(2-a)-averaged."""
    rng = torch.Generator().manual_seed(1)
    q, _ = torch.linalg.qr(torch.randn(5, 5, generator=rng))
    W = q @ torch.diag(torch.linspace(1 - 2 * a, 1, 5)) @ q.T
    assert float(torch.linalg.matrix_norm(W - (1 - a) * torch.eye(5), 2)) == pytest.approx(a)
    constant = 1 / (2 - a)
    u, v = torch.randn(2, 20_000, 5, generator=rng)
    step = lambda x: bmo.prox.soft(x @ W, 0.5)  # noqa: E731
    inside = lambda x: x + (step(x) - x) / constant  # noqa: E731
    ratio = (inside(u) - inside(v)).norm(dim=-1) / (u - v).norm(dim=-1)
    assert float(ratio.max()) <= 1 + 1e-12
    outside = q @ torch.diag(torch.linspace(1 - 2 * a - 0.05, 1, 5)) @ q.T
    assert float(torch.linalg.matrix_norm(outside - (1 - a) * torch.eye(5), 2)) > a


def test_change_of_metric() -> None:
    rng = torch.Generator().manual_seed(2)
    H = spd(4, rng, 1e4)
    q, _ = torch.linalg.qr(torch.randn(4, 4, generator=rng))
    D = Conjugate(Lambda(lambda u: u @ q.T, Identity()), Dense(H))
    matrix = matrix_of(D, 4)
    assert norm_in(matrix, H) == pytest.approx(1.0, abs=1e-9)
    assert float(torch.linalg.matrix_norm(matrix, 2)) > 1.5


@pytest.mark.parametrize("linearised", [False, True])
def test_two_block_admm(linearised: bool) -> None:
    """|v| + quadratic in u, written out here: nonexpansive in H, fixed points are the solutions."""
    rng = torch.Generator().manual_seed(5)
    beta, lam = 0.7, 0.4
    A, B = torch.randn(3, 4, generator=rng), torch.randn(3, 2, generator=rng)
    b, c = torch.randn(3, generator=rng), torch.randn(4, generator=rng)
    Q = spd(4, rng, 5.0)
    Pu = Q / 2 if linearised else 0.01 * torch.eye(4)  # the boundary of Q <= 2 P_u
    tau = 1.0001 * beta * float(torch.linalg.matrix_norm(B, 2)) ** 2
    Pv = tau * torch.eye(2) - beta * B.T @ B
    left = Pu + beta * A.T @ A + (0 if linearised else 1) * Q

    def step(z: torch.Tensor) -> torch.Tensor:
        u, v, y = z.split([4, 2, 3], -1)
        pull = c - u @ Q if linearised else c
        right = pull + u @ Pu - (y + beta * (v @ B.T - b)) @ A
        u = torch.linalg.solve(left, right.mT).mT
        w = v - (y + beta * (u @ A.T + v @ B.T - b)) @ B / tau
        v = w.sign() * (w.abs() - lam / tau).clamp_min(0)
        return torch.cat([u, v, y + beta * (u @ A.T + v @ B.T - b)], -1)

    H = torch.block_diag(Pu, Pv + beta * B.T @ B, torch.eye(3) / beta)
    points = 3 * torch.randn(60, 1, 9, generator=rng)
    J = [torch.func.jacrev(lambda x: step(x)[0])(z)[:, 0] for z in points]
    assert 0.9 < max(norm_in(j, H) for j in J) <= 1 + 1e-10
    end = torch.zeros(1, 9)
    for _ in range(6000):
        end = 0.1 * end + 0.9 * step(end)
    u, v, y = end[0].split([4, 2, 3])
    assert float((A @ u + B @ v - b).abs().max()) < 1e-9
    assert float((Q @ u - c + A.T @ y).abs().max()) < 1e-9
    slope = -B.T @ y
    assert float(slope.abs().max()) <= lam + 1e-9
    assert float((slope * v).sum()) == pytest.approx(lam * float(v.abs().sum()), abs=1e-9)


def test_the_trap_of_douglas_rachford() -> None:
    """The numbers of the warning: z -> 1/2 (prox(z) - 2)^2 with f = |.| at 0, 1, 2."""
    prox = bmo.prox.L1(1.0)(torch.tensor([[0.0], [1.0], [2.0]]), Identity())
    values = 0.5 * (prox.squeeze(-1) - 2) ** 2
    assert values.tolist() == [2.0, 2.0, 0.5]
    assert values[1] > (values[0] + values[2]) / 2


def test_composition_changes_fixed_points() -> None:
    """The exercise: 2/3 and 4/3."""
    first = Lambda(lambda u: u / 2, Identity(), 0.25)
    second = Lambda(lambda u: u / 2 + 1, Identity(), 0.25)
    for parts, expected in [((first, second), 2 / 3), ((second, first), 4 / 3)]:
        T = bmo.GKM(Composition(*parts), alpha=0.9)
        assert float(T.iterate(torch.zeros(1), tol=1e-14).value) == pytest.approx(expected)
