"""Chapter 1 in small: what each way of learning ignores, it does badly."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import bmo
from bmo.data import synthetic
from bmo.measure import nmse_db

K, LONG, ALPHA, SIGMA = 32, 400, 0.9, 0.05
M, N = 10, 20
Curve = tuple[list[float], list[float]]


class Setting:
    """A dictionary, examples to learn from, and data to test on."""

    def __init__(self) -> None:
        self.rng = synthetic.generator(0)
        A = torch.randn(M, N, generator=self.rng, dtype=torch.float64)
        self.A = A / A.norm(dim=0)
        self.L = float(torch.linalg.matrix_norm(self.A, 2)) ** 2
        self.weight = SIGMA * math.sqrt(2 * math.log(N))
        self.clean, self.b = self.draw(150)
        self.batches = [self.draw(32) for _ in range(80)]

    def draw(self, count: int) -> tuple[Tensor, Tensor]:
        rare = synthetic.sparse_codes(count, N // 2, 0.01, self.rng)
        often = synthetic.sparse_codes(count, N // 2, 0.25, self.rng)
        clean = torch.cat([rare, often], 1)
        noise = torch.randn(count, M, generator=self.rng, dtype=torch.float64)
        return clean, clean @ self.A.mT + SIGMA * noise

    @torch.no_grad()
    def run(self, step: Callable[[Tensor], Tensor], norm: Callable[[Tensor], Tensor]) -> Curve:
        """Repeat one map from zero; the clean codes are for the measurement only."""
        u, errors, residuals = torch.zeros_like(self.clean), [], []
        for _ in range(LONG + 1):
            new = step(u)
            errors.append(float(nmse_db(u, self.clean)))
            residuals.append(float(norm(u - new).norm()))
            u = new
        return errors, residuals

    def train(self, weights: list[Tensor], value: Callable[..., Tensor], rate: float) -> None:
        optimizer = torch.optim.Adam(weights, lr=rate)
        for clean, b in self.batches:
            optimizer.zero_grad()
            value(clean, b).mean().backward()
            optimizer.step()


@pytest.fixture(scope="module")
def curves() -> dict[str, Curve]:
    torch.manual_seed(0)
    at = Setting()
    f = bmo.LeastSquares(at.A, at.b)
    prior = bmo.prox.L1(torch.tensor(at.weight, dtype=torch.float64))
    unh = bmo.GKM(bmo.ProximalGradient(f, prior, step=1 / at.L), ALPHA)
    D = bmo.operators.LearnedForwardBackward(at.A, at.b, at.weight, learn=("p", "theta"))

    def joint(clean: Tensor, b: Tensor) -> Tensor:
        def upper(u: Tensor) -> Tensor:
            return 0.5 * (u - clean).square().sum(-1)

        inner = bmo.Inner(bmo.GKM(D.bind(b=b), ALPHA), 0.3, bmo.schedule(0.5))
        return upper(inner(torch.zeros_like(clean), upper, K))

    at.train([w for w in D.parameters() if w.requires_grad], joint, 0.1)
    learned = bmo.GKM(D.bind(b=at.b), ALPHA)
    W1 = (at.A.mT / at.L).requires_grad_()
    W2 = (torch.eye(N, dtype=torch.float64) - at.A.mT @ at.A / at.L).requires_grad_()
    theta = torch.full((N,), at.weight / at.L, dtype=torch.float64, requires_grad=True)

    def layer(u: Tensor, b: Tensor) -> Tensor:
        return bmo.prox.soft(u @ W2.mT + b @ W1.mT, theta)

    def embedded(clean: Tensor, b: Tensor) -> Tensor:
        u = torch.zeros_like(clean)
        for _ in range(K):
            u = layer(u, b)
        return 0.5 * (u - clean).square().sum(-1)

    at.train([W1, W2, theta], embedded, 5e-3)
    return {
        "unh": at.run(unh, unh.metric.norm),
        "ena": at.run(lambda u: layer(u, at.b), lambda u: u.norm(dim=-1)),
        "bmo": at.run(learned, learned.metric.norm),
    }


def test_unh_settles_at_a_large_error(curves: dict[str, Curve]) -> None:
    errors, residuals = curves["unh"]
    assert residuals[LONG] < 1e-3 * residuals[0]
    assert all(new <= old * (1 + 1e-12) for old, new in zip(residuals, residuals[1:], strict=False))
    best = curves["bmo"][0]
    assert errors[K] > best[K] + 1 and errors[LONG] > best[LONG] + 1


def test_ena_is_good_at_its_depth_and_does_not_settle(curves: dict[str, Curve]) -> None:
    errors, residuals = curves["ena"]
    assert errors[K] < curves["unh"][0][K] - 1
    assert errors[LONG] > errors[K] + 1
    assert residuals[LONG] > 10 * curves["bmo"][1][LONG] / curves["bmo"][1][0] * residuals[0]


def test_bmo_is_good_and_settles(curves: dict[str, Curve]) -> None:
    errors, residuals = curves["bmo"]
    assert errors[LONG] < errors[K] - 0.3
    assert residuals[LONG] < 1e-3 * residuals[0]
    assert all(new <= old * (1 + 1e-12) for old, new in zip(residuals, residuals[1:], strict=False))
