"""Each numbered statement of chapter 2, compared with what is computed here without `bmo`."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import bmo
from bmo import bounds, certify, operators
from bmo.metric import Dense, Diagonal, Identity, PrimalDual
from bmo.operators import Lambda
from bmo.problems import toy
from bmo.sets import Box

SKEW = torch.tensor([[2.0, 1.0], [1.0, 2.0]], dtype=torch.float64)


def spd(n: int, seed: int = 1) -> Tensor:
    A = torch.randn(n, n, generator=torch.Generator().manual_seed(seed))
    return A @ A.mT + 0.5 * torch.eye(n)


def norm(H: Tensor, u: Tensor) -> Tensor:
    return torch.einsum("...i,ij,...j->...", u, H, u).sqrt()


def stretch(H: Tensor, D: Tensor) -> float:
    """The largest stretch of a matrix in H, from the generalised eigenvalues."""
    top = torch.linalg.eigvals(torch.linalg.solve(H, D.mT @ H @ D)).real.max()
    return float(top.sqrt())


def quarter() -> Lambda:
    turn = torch.tensor([[0.0, -1.0], [1.0, 0.0]])
    return Lambda(lambda u: u @ turn.mT, Identity())


def test_change_of_coordinates() -> None:
    H, D = spd(5), torch.randn(5, 5)
    R = torch.linalg.cholesky(H).mT
    moved = torch.linalg.matrix_norm(R @ D @ torch.linalg.inv(R), 2)
    assert float(moved) == pytest.approx(stretch(H, D), rel=1e-10)
    u = torch.randn(7, 5)
    assert torch.allclose(norm(H, u), (u @ R.mT).norm(dim=-1), rtol=1e-12)
    conjugate = operators.Conjugate(Lambda(lambda x: -x.abs(), Identity()), Dense(H))
    v = torch.randn(7, 5)
    gap = norm(H, conjugate(u) - conjugate(v))
    outside = ((u @ R.mT).abs() - (v @ R.mT).abs()).norm(dim=-1)
    assert torch.allclose(gap, outside, rtol=1e-10)


@pytest.mark.parametrize("excess", [0.9, 0.999, 1.001, 1.1])
def test_primal_dual_is_a_metric_exactly_below_the_limit(excess: float) -> None:
    K = torch.randn(3, 4)
    tau = 0.7
    sigma = excess / (tau * float(torch.linalg.matrix_norm(K, 2)) ** 2)
    H = torch.cat(
        [torch.cat([torch.eye(4) / tau, -K.mT], 1), torch.cat([-K, torch.eye(3) / sigma], 1)]
    )
    positive = float(torch.linalg.eigvalsh(H)[0]) > 0
    assert positive == (excess < 1)
    if positive:
        assert torch.allclose(PrimalDual(K, tau, sigma).matrix((7,)), H, atol=1e-12)
    else:
        with pytest.raises(bmo.errors.MetricError):
            PrimalDual(K, tau, sigma)


@pytest.mark.parametrize("alpha", [0.2, 0.5, 0.8, 1.0])
def test_averaged_in_three_ways(alpha: float) -> None:
    # the three inequalities differ only by a positive factor: they must change sign together
    H = spd(3)
    w, b = torch.randn(2, 20_000, 3)
    t, d = w - b, w - b / alpha  # Tu - Tv and Du - Dv
    nonexpansive = norm(H, w) ** 2 - norm(H, d) ** 2
    decrease = norm(H, w) ** 2 - (1 - alpha) / alpha * norm(H, b) ** 2 - norm(H, t) ** 2
    cocoercive = torch.einsum("ki,ij,kj->k", b, H, w) - norm(H, b) ** 2 / (2 * alpha)
    assert torch.allclose(nonexpansive * alpha / 2, cocoercive, atol=1e-10)
    assert torch.allclose(decrease / 2, cocoercive, atol=1e-10)
    if alpha == 0.5:
        firm = torch.einsum("ki,ij,kj->k", t, H, w) - norm(H, t) ** 2
        assert torch.allclose(firm, cocoercive, atol=1e-10)
    assert 0 < int((cocoercive > 0).sum()) < 20_000


def test_baillon_haddad_and_the_flat_set() -> None:
    A = torch.randn(6, 3)
    L = float(torch.linalg.matrix_norm(A, 2)) ** 2
    u, v = torch.randn(2, 5000, 3)
    d = (torch.tanh(u @ A.mT) - torch.tanh(v @ A.mT)) @ A
    assert float((L * (d * (u - v)).sum(-1) - d.square().sum(-1)).min()) >= 0
    # on the line u_2 = 0 the gradient of (u_1 + u_2)^2 / 2 has Lipschitz constant sqrt 2 only
    w, g = torch.tensor([1.0, 0.0]), torch.tensor([1.0, 1.0])
    assert float(w @ g) < float(g @ g) / math.sqrt(2)  # so cocoercivity fails with it
    assert float(w @ g) == float(g @ g) / 2  # and holds with 2
    step = w - 2 / math.sqrt(2) * g
    assert float(step.norm()) == pytest.approx(math.sqrt(5 - 2 * math.sqrt(2)), rel=1e-14)


def test_gradient_step_in_a_metric() -> None:
    H, Q = spd(4), spd(4, seed=2)
    g = torch.linalg.solve(H, Q)  # H^-1 Q, the gradient in the metric
    L_H = float(torch.linalg.eigvals(g).real.max())
    L = float(torch.linalg.eigvalsh(Q)[-1])
    assert L_H <= L / float(torch.linalg.eigvalsh(H)[0])
    for s in (0.3 / L_H, 1.7 / L_H):
        alpha = bounds.gradient_alpha(s, L_H)
        D = torch.eye(4) - s / alpha * g
        assert stretch(H, D) == pytest.approx(1, abs=1e-9)  # alpha is the smallest constant
    assert stretch(H, torch.eye(4) - 2 / L_H * g) <= 1 + 1e-9
    assert stretch(H, torch.eye(4) - 2.02 / L_H * g) == pytest.approx(1.02, abs=1e-9)


def test_proximal_operators_are_firmly_nonexpansive() -> None:
    d = torch.tensor([0.5, 1.0, 4.0])
    g = bmo.prox.L1(0.7)
    u, v, x = torch.randn(3, 4000, 3) * 2
    p, q = g(u, Diagonal(d)), g(v, Diagonal(d))
    slack = (g.value(x) - g.value(p)) - ((u - p) * d * (x - p)).sum(-1)
    assert float(slack.min()) >= -1e-12
    firm = ((p - q) * d * (u - v)).sum(-1) - (d * (p - q).square()).sum(-1)
    assert float(firm.min()) >= -1e-12
    half = Box(torch.tensor([-math.inf, -math.inf]), torch.tensor([math.inf, 0.0]))
    near = half.project(torch.tensor([0.0, 1.0]), Dense(SKEW))
    assert torch.allclose(near, torch.tensor([0.5, 0.0]), atol=1e-9)
    wrong = Lambda(half.nearest, Dense(SKEW))
    assert certify.nonexpansive(wrong).measured == pytest.approx(2 / math.sqrt(3), abs=1e-8)


def test_separable_closed_forms() -> None:
    d, lam = torch.tensor([0.5, 2.0]), 0.8
    u = torch.tensor([[1.0, 0.3], [-3.0, 1.7], [1.7, -0.41]])
    grid = torch.linspace(-4, 4, 80_001)[:, None, None]
    objective = lam * grid.abs() + d / 2 * (grid - u) ** 2
    best = grid[:, 0, 0][objective.argmin(0)]
    assert torch.allclose(bmo.prox.L1(lam)(u, Diagonal(d)), best, atol=1e-4)
    assert torch.equal(Box(-1.0, 1.0).project(u, Diagonal(d)), u.clamp(-1, 1))


def test_projection_from_the_euclidean_one() -> None:
    H, u = spd(4), 3 * torch.randn(50, 4)
    eig = torch.linalg.eigvalsh(H)
    x, previous = u.clamp(0, 1), math.inf
    for _ in range(3000):
        new = (x - (x - u) @ H / eig[-1]).clamp(0, 1)
        moved = float((new - x).norm(dim=-1).max())
        assert moved <= (1 - float(eig[0] / eig[-1])) * previous + 1e-15  # the contraction factor
        x, previous = new, moved
    assert torch.allclose(Box(0.0, 1.0).project(u, Dense(H)), x, atol=1e-8)


def test_projection_adds_no_fixed_points() -> None:
    box, center = Box(0.0, 1.0), torch.tensor([0.9, 0.2])
    N = quarter()
    around = Lambda(lambda u: box.nearest(center + N(u - center)), Identity())
    starts = torch.rand(20, 2)
    ends = bmo.GKM(around, 0.5).iterate(starts, 3000).value
    assert torch.allclose(ends, center.expand(20, 2), atol=1e-9)
    # dropped: no fixed point in U, and the projection invents one
    shift = Lambda(lambda u: box.nearest(u + 1), Identity())
    assert float(shift(torch.ones(1))) == 1


def averaged_number(alpha: float, angle: float) -> complex:
    return 1 - alpha + alpha * complex(math.cos(angle), math.sin(angle))


def smallest_constant(z: complex) -> float:
    return 1 / (1 + (1 - abs(z) ** 2) / abs(1 - z) ** 2)


@pytest.mark.parametrize(("a1", "a2"), [(0.5, 0.5), (0.3, 0.6), (0.9, 0.2)])
def test_composition_constant_holds_and_is_sharp(a1: float, a2: float) -> None:
    formula = bounds.composition_averaged(a1, a2)
    angles = torch.linspace(0.001, 2 * math.pi - 0.001, 200).tolist()
    circle1 = [averaged_number(a1, t) for t in angles]
    circle2 = [averaged_number(a2, t) for t in angles]
    worst = max(smallest_constant(z1 * z2) for z1 in circle1 for z2 in circle2)
    assert worst <= formula + 1e-9
    k1, k2, t = (1 - a1) / a1, (1 - a2) / a2, 1e-3
    sharp = averaged_number(a1, t / (k1 * a1)) * averaged_number(a2, t / (k2 * a2))
    assert smallest_constant(sharp) == pytest.approx(formula, rel=1e-4)


def test_projected_step() -> None:
    for alpha in (0.1, 0.5, 0.9, 1.0):
        expected = bounds.composition_averaged(0.5, alpha)
        assert 1 / (2 - alpha) == pytest.approx(expected, rel=1e-14)
        assert bounds.projected_averaged(alpha) == pytest.approx(expected, rel=1e-14)


def test_convex_combination() -> None:
    parts = [averaged_number(a, t) for a, t in ((0.3, 2.0), (0.8, -1.0))]
    D = [
        Lambda(lambda u, z=z: torch.stack([z.real * u[..., 0] - z.imag * u[..., 1],
                                           z.imag * u[..., 0] + z.real * u[..., 1]], -1),
               Identity(), averaged=a)
        for z, a in zip(parts, (0.3, 0.8), strict=True)
    ]  # fmt: skip
    mean = operators.Combination(D, [0.25, 0.75])
    assert mean.averaged == pytest.approx(0.25 * 0.3 + 0.75 * 0.8)
    z = 0.25 * parts[0] + 0.75 * parts[1]
    assert smallest_constant(z) <= mean.averaged
    # equal maps attain it
    same = operators.Combination([D[1], D[1]], [0.25, 0.75])
    assert smallest_constant(parts[1]) == pytest.approx(same.averaged, rel=1e-12)


def test_two_metrics_do_not_compose() -> None:
    H1, H2 = Diagonal(torch.tensor([1.0, 100.0])), Diagonal(torch.tensor([100.0, 1.0]))
    D1, D2 = operators.Conjugate(quarter(), H1), operators.Conjugate(quarter(), H2)
    assert torch.allclose(D1(torch.eye(2)).mT, torch.tensor([[0.0, -10.0], [0.1, 0.0]]))
    product = operators.Composition(D1, D2, check=False)(torch.eye(2)).mT
    assert torch.allclose(product, torch.diag(torch.tensor([-100.0, -0.01])))
    with pytest.raises(bmo.errors.MetricError):
        operators.Composition(D1, D2)
    assert stretch(torch.diag(H1.d), quarter()(torch.eye(2)).mT) == pytest.approx(10)


@pytest.mark.parametrize("rho", [0.9, -0.6, 0.0])
def test_worst_stretch_of_relu(rho: float) -> None:
    H = torch.tensor([[1.0, rho], [rho, 1.0]])
    limit = 1 / math.sqrt(1 - rho**2)
    u, v = torch.randn(2, 100_000, 2)
    ratio = norm(H, u.relu() - v.relu()) / norm(H, u - v)
    assert float(ratio.max()) <= limit + 1e-12
    pair = ([1.0, -rho], [0.0, 0.0]) if rho >= 0 else ([1.0, 0.0], [0.0, rho])
    u, v = (torch.tensor(p) for p in pair)
    assert float(norm(H, u.relu() - v.relu()) / norm(H, u - v)) == pytest.approx(limit, rel=1e-13)
    if rho == 0.9:
        u = torch.tensor([1.0, -1.0])
        assert float(norm(H, u.relu()) / norm(H, u)) == pytest.approx(math.sqrt(5), rel=1e-12)
        inside = operators.Conjugate(Lambda(torch.relu, Identity()), Dense(H))
        assert certify.nonexpansive(inside)


def test_stretch_is_the_largest_jacobian_norm() -> None:
    H, A = spd(3), torch.randn(3, 3)
    R = torch.linalg.cholesky(H).mT
    u, v = torch.randn(2, 20_000, 3)
    pairs = norm(H, torch.tanh(u @ A.mT) - torch.tanh(v @ A.mT)) / norm(H, u - v)
    J = (1 - torch.tanh(u @ A.mT) ** 2)[..., None] * A
    at_points = torch.linalg.matrix_norm(R @ J @ torch.linalg.inv(R), 2)
    found = certify.nonexpansive(lambda x: torch.tanh(x @ A.mT), metric=Dense(H), seed=3)
    small = 1e-6 * torch.randn(20_000, 3)
    near_zero = norm(H, torch.tanh(small @ A.mT)) / norm(H, small)
    assert float(pairs.max()) <= max(float(at_points.max()), found.measured) * (1 + 1e-9)
    assert float(near_zero.max()) <= stretch(H, A) * (1 + 1e-9)
    assert float(near_zero.max()) >= 0.99 * stretch(H, A)


def test_the_euclidean_distance_rises_and_the_own_one_does_not() -> None:
    problem = toy.skewed_rotation(n=6, seed=3)
    D = problem.operator(torch.eye(6)).mT
    H = problem.operator.metric.matrix((6,))
    assert stretch(H, D) == pytest.approx(1, abs=1e-9)
    assert float(torch.linalg.matrix_norm(D, 2)) > 5
    u, own, euclid = problem.start, [], []
    for _ in range(200):
        own.append(norm(H, u))
        euclid.append(u.norm())
        u = 0.5 * (u + D @ u)
    assert int((torch.stack(own).diff() > 0).sum()) == 0
    assert int((torch.stack(euclid).diff() > 0).sum()) >= 50


def test_a_needle_escapes_every_search() -> None:
    def needle(u: Tensor) -> Tensor:
        offset = u - 0.3
        length = offset.norm(dim=-1, keepdim=True)
        return 0.3 + offset * (1 + 2 * torch.relu(1 - length / 1e-3))

    assert certify.nonexpansive(needle, size=2, metric=Identity(), trials=500).holds
    tip = torch.full((2,), 0.3) + 1e-8
    middle = torch.full((2,), 0.3)
    assert float((needle(tip) - needle(middle)).norm() / (tip - middle).norm()) > 2.99
