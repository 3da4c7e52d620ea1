"""The instances: five families, each as the package builds it and by its formulas."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

import bmo
from bmo.operators import Operator
from bmo.sets import Box, Set, Whole
from tests.hypergradient.references import Formula, Omega, fixed_point
from tests.instances import F64, generator, normal

BATCH, ALPHA, LOW = 3, 0.8, 1e-3
TINY = torch.finfo(F64).tiny ** 0.5

Made = tuple[
    Operator,
    Omega,
    Tensor,
    Callable[[Tensor, Tensor, Omega], Tensor],
    Callable[[Omega], Tensor],
]


def soft(z: Tensor, t: Tensor) -> Tensor:
    return z.sign() * (z.abs() - t).clamp_min(0)


def positive(raw: Tensor, low: float = 0.0) -> Tensor:
    return low + TINY + torch.log1p(raw.exp())


def top(M: Tensor) -> Tensor:
    """The largest eigenvalue of M^T M."""
    return torch.linalg.eigvalsh(M @ M.mT)[-1]


def moved(module: torch.nn.Module, seed: int, size: float = 0.2) -> Omega:
    """The parameters of a module, moved away from where they started."""
    g = generator(seed)
    with torch.no_grad():
        for w in module.parameters():
            w.add_(size * torch.randn(w.shape, generator=g, dtype=F64))
    return dict(module.named_parameters())


def lasso() -> Made:
    """Proximal gradient, the threshold and a diagonal metric learned."""
    g = generator(1)
    A, b = normal(g, 7, 5) / 2, normal(g, BATCH, 7)
    p = (
        float(torch.linalg.matrix_norm(A, 2)) ** 2 * (1 + 0.2 * normal(g, 5).abs())
    ).requires_grad_()
    number = torch.tensor(0.4, dtype=F64)
    D = bmo.ProximalGradient(
        bmo.LeastSquares(A, b), bmo.prox.L1(number, learn=True), metric=bmo.metric.Diagonal(p)
    )
    omega = {"p": p, **dict(D.named_parameters())}

    def step(u: Tensor, b: Tensor, w: Omega) -> Tensor:
        z = u - A.mT @ (A @ u - b) / w["p"]
        return soft(z, positive(w["prior.threshold.raw"]) / w["p"])

    return D, omega, b, step, lambda w: torch.diag(w["p"])


def learned(m: int, n: int, seed: int, threshold: float) -> Made:
    """LearnedForwardBackward: matrices, metric and thresholds learned, the metric bent by G."""
    g = generator(seed)
    A, b = normal(g, m, n) / 2, normal(g, BATCH, m)
    D = bmo.operators.LearnedForwardBackward(A, b, threshold=threshold)
    omega = moved(D, seed, 0.1)
    with torch.no_grad():
        D.weight.raw.sub_(1.0)  # now the metric is held up by G: its derivative is not zero
    scale = float(torch.linalg.matrix_norm(A, 2)) ** 2

    def weights(w: Omega) -> Tensor:
        q = scale * positive(w["weight.raw"], LOW)
        return q * (top((w["G"] / q.sqrt()).mT) / 2).clamp_min(1)

    def step(u: Tensor, b: Tensor, w: Omega) -> Tensor:
        p = weights(w)
        return soft(u - (w["G"].mT @ (w["G"] @ u) - w["W"] @ b) / p, positive(w["theta.raw"]) / p)

    return D, omega, b, step, lambda w: torch.diag(weights(w))


def primal_dual() -> Made:
    """PDHG with learned lengths, matrix and functions; its metric is not diagonal."""
    g = generator(3)
    K, c = normal(g, 3, 4) / 2, normal(g, BATCH, 4)
    f = bmo.prox.SquaredL2(torch.tensor(0.8, dtype=F64), center=c, learn=True)
    prior = bmo.prox.L1(torch.tensor(0.3, dtype=F64), learn=True)
    D = bmo.operators.LearnedPDHG(f, prior, K, learn_matrix=True)
    omega = moved(D, 3, 0.1)
    with torch.no_grad():
        D.product.raw.sub_(2.0)

    def lengths(w: Omega) -> tuple[Tensor, Tensor]:
        t = (LOW + (1 - 2 * LOW) * torch.sigmoid(w["product.raw"])) / top(w["K"]).sqrt()
        ratio = positive(w["ratio.raw"], LOW)
        return t * ratio, t / ratio

    def step(z: Tensor, c: Tensor, w: Omega) -> Tensor:
        (x, y), (tau, sigma) = z.split([4, 3]), lengths(w)
        weight, limit = positive(w["f.weight.raw"]), positive(w["dual.function.threshold.raw"])
        new = (x - tau * (y @ w["K"]) + tau * weight * c) / (1 + tau * weight)
        ahead = y + sigma * (w["K"] @ (2 * new - x))
        return torch.cat([new, ahead.maximum(-limit).minimum(limit)])

    def metric(w: Omega) -> Tensor:
        tau, sigma = lengths(w)
        eye = torch.eye(7, dtype=F64)
        upper = torch.cat([eye[:4, :4] / tau, -w["K"].mT], 1)
        return torch.cat([upper, torch.cat([-w["K"], eye[4:, 4:] / sigma], 1)])

    return D, omega, c, step, metric


def admm() -> Made:
    """Linearised ADMM with a learned penalty, margins and functions; a block metric."""
    g = generator(4)
    A, b = normal(g, 3, 4) / 2, normal(g, BATCH, 3)
    B = -torch.eye(3, dtype=F64) + 0.2 * normal(g, 3, 3)
    center = normal(g, 4)
    f = bmo.prox.SquaredL2(torch.tensor(0.8, dtype=F64), center=center, learn=True)
    prior = bmo.prox.L1(torch.tensor(0.3, dtype=F64), learn=True)
    D = bmo.operators.LearnedLinearisedADMM(f, prior, A, B, b)
    omega = moved(D, 4, 0.1)
    with torch.no_grad():
        for margin in (D.margin_u, D.margin_v):
            margin.raw.add_(3.0)

    def numbers(w: Omega) -> tuple[Tensor, Tensor, Tensor]:
        beta = positive(w["penalty.raw"], LOW)
        u, v = (beta * top(M) * (1 + positive(w[f"margin_{i}.raw"], LOW))
                for M, i in ((A, "u"), (B, "v")))  # fmt: skip
        return beta, u, v

    def step(z: Tensor, b: Tensor, w: Omega) -> Tensor:
        (u, v, y), (beta, tu, tv) = z.split([4, 3, 3]), numbers(w)
        weight, limit = positive(w["first.weight.raw"]), positive(w["second.threshold.raw"])
        ahead = u - A.mT @ (y + beta * (A @ u + B @ v - b)) / tu
        u = (tu * ahead + weight * center) / (tu + weight)
        v = soft(v - B.mT @ (y + beta * (A @ u + B @ v - b)) / tv, limit / tv)
        return torch.cat([u, v, y + beta * (A @ u + B @ v - b)])

    def metric(w: Omega) -> Tensor:
        beta, tu, tv = numbers(w)
        eye = torch.eye(4, dtype=F64)
        blocks = [tu * eye - beta * A.mT @ A, tv * eye[:3, :3], eye[:3, :3] / beta]
        return torch.block_diag(*blocks)

    return D, omega, b, step, metric


def network() -> Made:
    """A certified network, one layer divided by its norm; the metric is the identity."""
    g = generator(5)
    D = bmo.networks.CertifiedDense(5, hidden=8, depth=2).double()
    omega = dict(D.named_parameters())
    with torch.no_grad():
        for weight, size in zip(D.weights, (2.0, 0.7), strict=True):
            weight.copy_(normal(g, *weight.shape))
            weight.mul_(size / torch.linalg.matrix_norm(weight, 2))
        for bias in D.biases:
            bias.copy_(normal(g, *bias.shape))

    def step(u: Tensor, _: Tensor, w: Omega) -> Tensor:
        first, second = (M / top(M).sqrt().clamp_min(1) for M in (w["weights.0"], w["weights.1"]))
        x = (first @ u + w["biases.0"]).reshape(4, 2)
        x = torch.stack([x.amax(1), x.amin(1)], 1).reshape(8)
        return u / 2 + (second @ x + w["biases.1"]) / 2

    return D, omega, torch.zeros(BATCH, 1, dtype=F64), step, lambda w: torch.eye(5, dtype=F64)


def gradient() -> Made:
    """A gradient step in a learned diagonal metric: its derivative is self-adjoint there."""
    g = generator(8)
    A, b = normal(g, 7, 5) / 2, normal(g, BATCH, 7)
    p = (float(torch.linalg.matrix_norm(A, 2)) ** 2 * (1 + normal(g, 5).abs())).requires_grad_()
    weight = bmo.smooth.Ridge(torch.full((5,), 0.2, dtype=F64), learn=True)
    smooth = bmo.smooth.Sum(bmo.LeastSquares(A, b), weight)
    D = bmo.ProximalGradient(smooth, metric=bmo.metric.Diagonal(p))

    def step(u: Tensor, b: Tensor, w: Omega) -> Tensor:
        ridge = positive(w["smooth.parts.1.weight.raw"])
        return u - (A.mT @ (A @ u - b) + ridge * u) / w["p"]

    return D, {"p": p, **dict(D.named_parameters())}, b, step, lambda w: torch.diag(w["p"])


class Tight(Box):
    """A box whose projection in a metric that is not diagonal is solved to rounding."""

    def project(self, u: Tensor, metric: bmo.metric.Metric, tol: float = 1e-13) -> Tensor:
        return super().project(u, metric, 1e-13)


FAMILIES: dict[str, Callable[[], Made]] = {
    "proximal gradient": lasso,
    "learned, one product": lambda: learned(6, 5, 2, 0.2),
    "learned, two products": lambda: learned(2, 6, 6, 0.6),
    "PDHG": primal_dual,
    "linearised ADMM": admm,
    "certified network": network,
}
DOMAINS = ("whole", "box inactive", "box active")


@dataclass
class Case:
    """One instance: the loop of the package, the same by formulas, a start."""

    inner: bmo.Inner
    formula: Formula
    omega: Omega
    u0: Tensor
    upper: Callable[[Tensor], Tensor]


def objective(n: int) -> Callable[[Tensor], Tensor]:
    """An upper objective that is not quadratic."""
    target = normal(generator(9), n)
    return lambda u: (0.5 * (u - target).square() + 0.02 * u**4).sum(-1)


def case(
    family: str, mu: float = 0.0, domain: str = "whole", steps: object = 0.3, fuse: bool = True
) -> Case:
    """Build one; an active box cuts off what lies beyond half of the largest entry."""
    D, omega, data, step, metric = {**FAMILIES, "gradient": gradient}[family]()
    n = len(metric(omega))
    upper = objective(n)
    formula = Formula(step, metric, lambda u, w: upper(u), data, omega, ALPHA, mu)
    u0 = torch.zeros(BATCH, n, dtype=F64)
    U: Set = Whole()
    if domain != "whole":
        end = 50.0
        if domain == "box active":
            end = 0.5 * float(fixed_point(formula, u0, 0.3).abs().max())
        kind = Box if D.metric.weights() is not None else Tight
        U, formula.box = kind(-end, end), (-end, end)
    inner = bmo.Inner(bmo.GKM(D, ALPHA), mu, steps, U, fuse=fuse)  # type: ignore[arg-type]
    return Case(inner, formula, omega, u0, upper)
