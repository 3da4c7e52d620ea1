"""Random parameter settings of every operator, within its condition and with cond(H) <= 1e4."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

import bmo
from bmo import operators, prox, sets, smooth
from bmo.metric import Dense, Diagonal, Identity, Metric
from bmo.networks import CertifiedDense
from bmo.operators import Operator

f64 = torch.float64
Drawn = tuple[Operator, int]


def matrix(m: int, n: int) -> Tensor:
    """A matrix of random size, rank and scale."""
    A = torch.randn(m, n, dtype=f64) * spread(1.0)
    if pick(3) == 0:
        A[:, 0] = 0.0  # a direction that the matrix does not see
    return A


def spread(decades: float) -> float:
    """A positive number, log-uniform over +-decades."""
    return float(10 ** torch.empty((), dtype=f64).uniform_(-decades, decades))


def fraction() -> float:
    """A number in (0, 1], often close to 1 and sometimes 1 itself."""
    return 1.0 if pick(3) == 0 else 1 - 10 ** float(torch.empty(()).uniform_(-3, -0.05))


def pick(n: int) -> int:
    return int(torch.randint(n, ()))


def spd(n: int, decades: float = 1.5) -> Tensor:
    q, _ = torch.linalg.qr(torch.randn(n, n, dtype=f64))
    return q @ torch.diag(10 ** torch.empty(n, dtype=f64).uniform_(-decades, decades)) @ q.mT


def function(n: int) -> prox.Prox:
    """A function with a proximal operator in every diagonal metric."""
    made: list[Callable[[], prox.Prox]] = [
        lambda: prox.L1(torch.rand(n, dtype=f64) + 0.01),
        lambda: prox.NonnegativeL1(spread(1)),
        lambda: prox.SquaredL2(spread(2), center=torch.randn(n, dtype=f64)),
        lambda: prox.Indicator(sets.Box(-1.0, spread(1))),
        prox.Zero,
    ]
    return made[pick(len(made))]()


def quadratic(n: int) -> smooth.Quadratic:
    half = matrix(n, n)
    Q = half.mT @ half
    return smooth.Quadratic((Q + Q.mT) / 2, torch.randn(n, dtype=f64))


def network(n: int) -> Operator:
    """A Euclidean nonexpansive map: a rotation, a proximal operator, or a certified network."""
    kind = pick(3)
    if kind == 0:
        q, _ = torch.linalg.qr(torch.randn(n, n, dtype=f64))
        return operators.Lambda(lambda u: u @ q, Identity())
    if kind == 1:
        g = function(n)
        return operators.Lambda(lambda u: g(u, Identity()), Identity(), averaged=0.5)
    return CertifiedDense(n, 6, 2, averaged=fraction()).double().prepared()


def norm2(A: Tensor) -> float:
    return float(torch.linalg.matrix_norm(A, 2)) ** 2


def curvature(f: smooth.Smooth, P: Metric) -> float:
    return float(f.curvature(P))


def gradient_descent() -> Drawn:
    f = quadratic(5)
    return bmo.ProximalGradient(f, step=2 * fraction() / curvature(f, Identity())), 5


def proximal_gradient() -> Drawn:
    f = smooth.LeastSquares(matrix(4, 6), torch.randn(4, dtype=f64))
    return bmo.ProximalGradient(f, function(6), 2 * fraction() / curvature(f, Identity())), 6


def preconditioned() -> Drawn:
    f = quadratic(5)
    d = 10 ** torch.empty(5, dtype=f64).uniform_(-1.9, 1.9)
    d = d * curvature(f, Diagonal(d)) / (2 * fraction())
    return bmo.ProximalGradient(f, function(5), metric=Diagonal(d)), 5


def dense_metric() -> Drawn:
    f, P = quadratic(4), spd(4)
    P = P * curvature(f, Dense(P)) / (2 * fraction())
    return bmo.ProximalGradient(f, metric=Dense((P + P.mT) / 2)), 4


def proximal_alm() -> Drawn:
    A = matrix(2, 4)
    P = spd(4)
    D = operators.ProximalALM(
        quadratic(4), A, torch.randn(2, dtype=f64), spread(1), Dense((P + P.mT) / 2)
    )
    return D, 6


def linearised_alm() -> Drawn:
    A, beta = matrix(2, 4), spread(1)
    tau = beta * norm2(A) * (1 + spread(2))
    return operators.LinearisedALM(function(4), A, torch.randn(2, dtype=f64), beta, tau), 6


def gradient_alm() -> Drawn:
    A, beta, f = matrix(2, 4), spread(1), quadratic(4)
    # lambda_max(f'' - 2 delta P) = 0 at the boundary; a generalised eigenvalue gives tau
    delta = fraction()
    top = torch.linalg.eigvalsh(f.Q / (2 * delta) + beta * A.mT @ A)[-1]
    tau = max(float(top), 1.001 * beta * norm2(A))
    b = torch.randn(2, dtype=f64)
    return operators.GradientLinearisedALM(f, function(4), A, b, beta, tau), 6


def linearised_admm() -> Drawn:
    A, B, beta = matrix(3, 4), torch.randn(3, 2, dtype=f64), spread(1)
    tau_u = beta * norm2(A) * (1 + spread(2))
    tau_v = beta * norm2(B) * (1 if pick(2) else 1 + spread(2))
    b = torch.randn(3, dtype=f64)
    return operators.LinearisedADMM(function(4), function(2), A, B, b, beta, tau_u, tau_v), 9


def gradient_admm() -> Drawn:
    A, B, beta, h = matrix(3, 4), torch.randn(3, 2, dtype=f64), spread(1), quadratic(4)
    top = torch.linalg.eigvalsh(h.Q / (2 * fraction()) + beta * A.mT @ A)[-1]
    tau_u, b = max(float(top), 1.001 * beta * norm2(A)), torch.randn(3, dtype=f64)
    D = operators.LinearisedADMM(function(4), function(2), A, B, b, beta, tau_u, smooth=h)
    return D, 9


def proximal_admm() -> Drawn:
    A, B, P = matrix(3, 4), torch.randn(3, 2, dtype=f64), spd(4)
    P_v = None if pick(2) else spread(1)
    b = torch.randn(3, dtype=f64)
    f, g = quadratic(4), quadratic(2)
    D = operators.ProximalADMM(f, g, A, B, b, spread(1), Dense((P + P.mT) / 2), P_v)
    return D, 9


def pdhg() -> Drawn:
    K, ratio = matrix(3, 4), spread(1)
    t = min(fraction(), 0.999) / norm2(K) ** 0.5
    return operators.PDHG(function(4), function(3), K, t * ratio, t / ratio), 7


def condat_vu() -> Drawn:
    K, h, sigma = matrix(3, 4), quadratic(4), spread(1)
    top = torch.linalg.eigvalsh(h.Q / (2 * fraction()) + sigma * K.mT @ K)[-1]
    tau = 1 / max(float(top), 1.001 * sigma * norm2(K))
    return operators.CondatVu(h, function(4), function(3), K, tau, sigma), 7


def douglas_rachford() -> Drawn:
    f = function(5) if pick(2) else quadratic(5)
    return operators.DouglasRachford(f, function(5), spread(2)), 5


def admm() -> Drawn:
    f = function(5) if pick(2) else quadratic(5)
    return operators.ADMM(f, function(5), spread(2)), 5


def half_quadratic() -> Drawn:
    f = function(5) if pick(2) else quadratic(5)
    return operators.HalfQuadratic(f, network(5), spread(2)), 5


def equilibrium() -> Drawn:
    S, m, A = matrix(5, 5), spread(1), matrix(5, 5)
    G = m * torch.eye(5, dtype=f64) + A.mT @ A + S - S.mT
    W = torch.eye(5, dtype=f64) - G
    m = float(torch.linalg.eigvalsh((G + G.mT) / 2)[0])
    step = fraction() * 2 * m / norm2(G)
    return operators.MonotoneEquilibrium(W, torch.randn(5, dtype=f64), function(5), step), 5


def red() -> Drawn:
    f, weight = quadratic(5), spread(1)
    step = 2 * fraction() / (curvature(f, Identity()) + 2 * weight)
    return operators.RED(f, network(5), weight, step), 5


def plug_and_play() -> Drawn:
    f = quadratic(5)
    step = 2 * fraction() / curvature(f, Identity())
    return operators.PnPProximalGradient(f, network(5), step), 5


FAMILIES: dict[str, Callable[[], Drawn]] = {
    made.__name__: made
    for made in (
        gradient_descent, proximal_gradient, preconditioned, dense_metric, proximal_alm,
        linearised_alm, gradient_alm, linearised_admm, gradient_admm, proximal_admm, pdhg,
        condat_vu, douglas_rachford, admm, half_quadratic, equilibrium, red, plug_and_play,
    )
}  # fmt: skip


def settings(name: str, count: int, condition: float = 1e4) -> list[Drawn]:
    """Draw ``count`` settings of a family; metrics of larger condition are drawn again."""
    torch.manual_seed(sum(map(ord, name)))
    found: list[Drawn] = []
    while len(found) < count:
        D, n = FAMILIES[name]()
        low, high = D.metric.bounds()
        if high <= condition * low:
            found.append((D, n))
    return found
