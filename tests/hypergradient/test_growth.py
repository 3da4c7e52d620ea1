"""Growth of time and memory with K, the batch and n, counted: no clock is read.

Memory is the most bytes of tensors alive at a time; time is the number of operations and of
multiplications. Both are the same on every machine.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import pytest
import torch
from torch import Tensor

import bmo
from bmo.errors import DomainError
from bmo.hypergradient import (
    GMRES,
    ConjugateGradient,
    FixedPoint,
    Neumann,
    Recompute,
    Truncated,
    hypergradient,
)
from bmo.hypergradient.recompute import bytes_of_step, fitting
from tests.hypergradient.counting import Cost, slope
from tests.instances import F64, generator, normal

COUNTS = (16, 64, 256, 1024, 4096)
BATCH, N, POINT = 4, 20, 4 * 20 * 8
OBJECTIVE = bmo.smooth.Objective(bmo.smooth.Ridge(1.0))


def quartic(u: Tensor) -> Tensor:
    return (0.5 * (u - 0.1).square() + 0.1 * u**4).sum(-1)


@functools.cache
def loop(kind: str = "learned", fuse: bool = True, mu: float = 0.0) -> tuple[bmo.Inner, Tensor]:
    """A loop and its fixed point."""
    g = generator(0)
    A, b = normal(g, 30, N) / 30**0.5, normal(g, BATCH, 30)
    smooth = bmo.smooth.Sum(bmo.LeastSquares(A, b), bmo.smooth.Ridge(torch.ones(N).double(), True))
    D: Any = bmo.operators.LearnedForwardBackward(A, b, threshold=0.1)
    if kind == "lasso":
        prior = bmo.prox.L1(torch.tensor(0.1, dtype=F64), learn=True)
        D = bmo.ProximalGradient(bmo.LeastSquares(A, b), prior, step=0.3)
    if kind == "gradient":
        D = bmo.ProximalGradient(smooth, step=0.2)
    inner = bmo.Inner(bmo.GKM(D, 0.9), mu, 0.2, fuse=fuse)
    with torch.no_grad():
        return inner, inner(torch.zeros(BATCH, N, dtype=F64), OBJECTIVE, 1000)


@functools.cache
def cost(
    method: Any, K: int, kind: str = "learned", fuse: bool = True, mu: float = 0.0,
    upper: Any = OBJECTIVE, solved: bool = False,
) -> Cost:  # fmt: skip
    inner, end = loop(kind, fuse, mu)
    u0 = end if solved else torch.zeros_like(end)
    with Cost() as counted:
        hypergradient(inner, u0, upper, K, method=method)
    return counted


def steps_between(values: list[int], at: list[int]) -> set[float]:
    """The increments of ``values`` for one more unit of ``at``."""
    pairs = zip(values, values[1:], at, at[1:], strict=False)
    return {(v1 - v0) / (x1 - x0) for v0, v1, x0, x1 in pairs}


@pytest.mark.parametrize("fuse", [True, False], ids=["fused", "autograd"])
def test_reverse_is_linear_in_time_and_memory(fuse: bool) -> None:
    costs = [cost("reverse", K, fuse=fuse) for K in COUNTS]
    counts = list(COUNTS)
    (more,) = steps_between([c.peak for c in costs], counts)
    inner, u = loop(fuse=fuse)
    assert more == bytes_of_step(inner, u, OBJECTIVE)
    assert more == POINT + BATCH * N if fuse else more >= 3 * POINT
    assert len(steps_between([c.operations.total() for c in costs], counts)) == 1
    (products,) = steps_between([c.products for c in costs], counts)
    assert products == 3 * BATCH * N * N  # one forward, one backward, one for the matrix


@pytest.mark.parametrize("fuse", [True, False], ids=["fused", "autograd"])
def test_recompute_keeps_the_root_of_K_and_takes_each_step_twice(fuse: bool) -> None:
    costs = [cost("recompute", K, fuse=fuse) for K in COUNTS]
    roots = [math.isqrt(K) for K in COUNTS]
    (more,) = steps_between([c.peak for c in costs][2:], roots[2:])
    inner, u = loop(fuse=fuse)
    assert more == POINT + bytes_of_step(inner, u, OBJECTIVE)  # one more start, one more step
    assert costs[-1].products == pytest.approx(4 * costs[-2].products, rel=0.02)
    reverse = cost("reverse", COUNTS[-1], fuse=fuse)
    assert costs[-1].products < 4 / 3 * reverse.products  # four products instead of three
    assert costs[-1].peak < reverse.peak / 20


def test_the_others_keep_the_same_for_every_K() -> None:
    """Truncated and implicit: memory constant, time linear in K with the plain step alone."""
    methods: list[tuple[Any, str]] = [
        (Truncated(10), "learned"), (Neumann(10), "learned"), (FixedPoint(1e-2), "learned"),
        (GMRES(1e-8), "learned"), ("active-set", "lasso"), (ConjugateGradient(1e-8), "gradient"),
    ]  # fmt: skip
    counts = list(COUNTS[:4])
    for method, kind in methods:
        costs = [cost(method, K, kind, solved=True) for K in counts]
        assert len({c.peak for c in costs}) == 1, method
        (products,) = steps_between([c.products for c in costs], counts)
        plain = N * N if kind == "learned" else 2 * 30 * N
        assert products == BATCH * plain, method


@pytest.mark.parametrize("method", ["reverse", "recompute", Truncated(5), Neumann(10)])
def test_a_batch_that_is_doubled(method: Any) -> None:
    """Five times: bytes grow by the same for each point, operations not at all."""
    g = generator(1)
    A, b = normal(g, 30, N) / 30**0.5, normal(g, 2, 30)
    sizes, costs, gradients = [2**i for i in range(1, 7)], [], []
    for size in sizes:
        D = bmo.operators.LearnedForwardBackward(A, b.repeat(size // 2, 1), threshold=0.1)
        inner, u0 = bmo.Inner(bmo.GKM(D, 0.9), 0.3, 0.2), torch.zeros(size, N, dtype=F64)
        with Cost() as counted:
            got = hypergradient(inner, u0, OBJECTIVE, 25, method=method)
        costs.append(counted)
        gradients.append(torch.cat([w.flatten() for w in got.gradients.values()]))
    (operations,) = {c.operations.total() for c in costs}
    assert operations > 0
    assert len(steps_between([c.products for c in costs], sizes)) == 1
    peaks = [c.peak for c in costs]  # first the matrices alone, then what grows with the batch
    assert all(b <= 2 * a for a, b in zip(peaks, peaks[1:], strict=False)) and peaks[-1] > peaks[0]
    # the same points again and again have the same mean
    assert all(torch.allclose(g, gradients[0], rtol=1e-11, atol=1e-15) for g in gradients)


def test_larger_points() -> None:
    """From n = 62 to 2,000 with eight data each: a step keeps 9n + 64 bytes, time follows n."""
    sizes, products = [62, 125, 250, 500, 1000, 2000], []
    for n in sizes:
        g = generator(2)
        D = bmo.operators.LearnedForwardBackward(
            normal(g, 8, n) / 3, normal(g, BATCH, 8), threshold=0.1
        )
        inner, u0 = bmo.Inner(bmo.GKM(D, 0.9), 0.0), torch.zeros(BATCH, n, dtype=F64)
        costs = []
        for K in (32, 96):
            with Cost() as counted:
                hypergradient(inner, u0, OBJECTIVE, K)
            costs.append(counted)
        assert costs[1].peak - costs[0].peak == 64 * BATCH * (9 * n + 64)
        products.append(costs[1].products - costs[0].products)
    assert slope(sizes, products) == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("mu", [0.0, 0.3])
@pytest.mark.parametrize("fuse", [True, False], ids=["fused", "autograd"])
@pytest.mark.parametrize("kind", ["learned", "lasso", "gradient"])
def test_a_budget_is_kept(kind: str, fuse: bool, mu: float) -> None:
    """What a step keeps is measured rightly on both paths, and the budget follows from it."""
    K = 300
    for upper in (OBJECTIVE, quartic):
        inner, end = loop(kind, fuse, mu)
        step = bytes_of_step(inner, end, upper)
        one, two = (cost("reverse", k, kind, fuse, mu, upper).peak for k in (40, 80))
        assert two - one == 40 * step
        around = one - 40 * step  # what the work needs besides, whatever K is
        with pytest.raises(DomainError) as error:
            cost(Recompute(budget=1), K, kind, fuse, mu, upper)
        least = int(str(error.value).split("at least ")[1].split()[0])
        for budget in (least, 2 * least, 5 * least):
            peak = cost(Recompute(budget=budget), K, kind, fuse, mu, upper).peak
            assert peak <= around + budget + step + POINT  # a step at work, too
        with pytest.raises(DomainError, match=f"{least} bytes"):
            cost(Recompute(budget=least - 1), K, kind, fuse, mu, upper)


def test_segments_of_a_budget() -> None:
    """The fewest segments that fit, found by trying all."""
    for K, point, step in ((1, 8, 8), (7, 10, 3), (50, 4, 100), (50, 100, 1)):
        needs = [c * point + math.ceil(K / c) * step for c in range(1, K + 1)]
        for budget in range(min(needs), max(needs) + 2, max(1, max(needs) // 50)):
            count = fitting(budget, K, point, step)
            assert needs[count - 1] <= budget and all(n > budget for n in needs[: count - 1])
        with pytest.raises(DomainError, match=f"at least {min(needs)} bytes"):
            fitting(min(needs) - 1, K, point, step)
