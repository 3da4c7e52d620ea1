"""The bounds of chapter 14 as functions: special cases, limits, and what they refuse."""

from __future__ import annotations

import math
from typing import Any

import pytest

from bmo import bounds
from bmo.errors import DomainError


@pytest.mark.parametrize("k", [0, 1, 2, 9, 100, 10_000])
def test_the_worst_rotation_by_search(k: int) -> None:
    """max over y of y (1 - y/4)^k is the square of the bound, and above the simple form."""
    grid = (4 * i / 40_000 for i in range(40_001))
    best = max(y * (1 - y / 4) ** k for y in grid)
    got = bounds.memoryless_residual(k)
    assert got**2 >= best * (1 - 1e-12)
    assert got**2 == pytest.approx(best, rel=1e-2)
    assert got >= 2 / math.sqrt(math.e * (k + 1))


def test_the_reach_by_hand() -> None:
    """nu = 1/4, K = 3: 8 s_1, s_1 + 8 s_2, s_1 + s_2 + 8 s_3."""
    assert bounds.memoryless_reach([1.0, 0.5, 0.05], 0.5, 0.5) == pytest.approx(1.9, rel=1e-14)
    assert bounds.memoryless_reach([1.0, 0.1, 0.1], 0.5, 0.5) == pytest.approx(1.8, rel=1e-14)
    assert bounds.memoryless_reach([1.0, 1.0, 1.0], 0.5, 0.5) == pytest.approx(8.0, rel=1e-14)


def test_the_gap_of_a_constant_step() -> None:
    constant = math.exp(-0.5) / 2 - 0.25
    assert constant > 0.05
    for K, s in ((3, 1.0), (99, 0.2), (2499, 4.0)):
        want = constant * min(1.0, 0.25 / (4 * 0.5 * s * math.sqrt(K + 1)))
        assert bounds.memoryless_gap([s] * K, 0.5, 0.5) == pytest.approx(want, rel=1e-12)
    assert bounds.memoryless_gap([1e-9], 0.5, 0.5) == pytest.approx(constant, rel=1e-14)


@pytest.mark.parametrize("p", [0.0, 0.25, 0.5, 0.75])
def test_the_order_of_the_gap_for_power_schedules(p: float) -> None:
    """P_K has the order K^((1-p)/2), the order of the sum up to the square root of K."""
    K = 250_000
    small, large = (
        bounds.memoryless_reach([(k + 1) ** -p for k in range(1, n + 1)], 0.5, 0.5)
        for n in (K // 100, K)
    )
    assert math.log(large / small) / math.log(100) == pytest.approx((1 - p) / 2, abs=0.05)


@pytest.mark.parametrize("K", [1, 10, 1000, 10**6])
def test_no_constant_step_is_below_the_bound_for_both(K: int) -> None:
    alpha, mu = 0.6, 0.3
    nu, c0 = (1 - mu) * alpha, math.exp(-0.5) / 2 - 0.25
    for i in range(-60, 61):
        s = 10 ** (i / 10)
        residual = bounds.memoryless_drift(K, s, alpha, mu)
        gap = c0 * min(1.0, nu / (4 * mu * s * math.sqrt(K + 1)))
        assert max(residual, gap) >= bounds.memoryless_both(K, alpha, mu) * (1 - 1e-12)


def test_theorem_h_by_hand() -> None:
    assert bounds.anchored_move(4, 5.0) == pytest.approx(2.0)
    got = bounds.anchored_residual(4, 0.5, mu=0.2, diameter=5.0, slope=3.0)
    assert got == pytest.approx((2.0 + 0.3) / 0.8, rel=1e-14)
    have: dict[str, Any] = {"mu": 0.2, "distance": 2.0, "slope": 3.0}
    assert bounds.anchored_gap(4, 0.5, **have) == pytest.approx(2.3**2 / (0.2 * 5), rel=1e-14)
    assert bounds.anchored_gap(4, 0.5, inactive=True, **have) == pytest.approx(5.0, rel=1e-14)


REFUSED: list[Any] = [
    lambda: bounds.memoryless_residual(-1),
    lambda: bounds.memoryless_reach([], 0.5, 0.5),
    lambda: bounds.memoryless_reach([1.0, 2.0], 0.5, 0.5),
    lambda: bounds.memoryless_reach([1.0, 0.0], 0.5, 0.5),
    lambda: bounds.memoryless_gap([1.0], 1.0, 0.5),
    lambda: bounds.memoryless_gap([1.0], 0.5, 0.0),
    lambda: bounds.memoryless_drift(0, 1.0, 0.5, 0.5),
    lambda: bounds.memoryless_drift(3, 0.0, 0.5, 0.5),
    lambda: bounds.memoryless_both(3, 1.0, 0.5),
    lambda: bounds.memoryless_both(3, 0.5, 1.0),
    lambda: bounds.anchored_move(3, -1.0),
    lambda: bounds.anchored_residual(3, 1.0, mu=1.0, diameter=1.0, slope=1.0),
    lambda: bounds.anchored_residual(3, 0.0, mu=0.5, diameter=1.0, slope=1.0),
    lambda: bounds.anchored_gap(3, 1.0, mu=0.0, distance=1.0, slope=1.0),
    lambda: bounds.anchored_gap(0, 1.0, mu=0.5, distance=1.0, slope=1.0, inactive=True),
]


@pytest.mark.parametrize("call", REFUSED)
def test_arguments_outside_the_range_are_refused(call: Any) -> None:
    with pytest.raises(DomainError):
        call()
