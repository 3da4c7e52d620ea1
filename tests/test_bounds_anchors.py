"""The bounds of anchored loops as functions: by hand, in the limit, and what they refuse."""

from __future__ import annotations

from typing import Any

import pytest

from bmo import bounds
from bmo.errors import DomainError


def test_the_move_by_hand() -> None:
    """p = 1/2: a = 3/4, 1 - a^2 = 7/16."""
    have: dict[str, Any] = {"p": 0.5, "mu": 0.4, "slope": 3.0}
    got = bounds.free_anchor_move(15, 1.0, diameter=2.0, **have)
    assert got == pytest.approx(2**1.75 * 16 / 7 * (1.5 + 0.6) / 8, rel=1e-14)
    got = bounds.free_anchor_move(0, 2.0, diameter=0.0, **have)
    assert got == pytest.approx(2**1.75 * 16 / 7 * 1.2, rel=1e-14)


@pytest.mark.parametrize("p", [0.0, 0.2, 1 / 3, 0.7, 0.95])
@pytest.mark.parametrize("slope", [0.0, 1.0, 100.0])
def test_the_move_bounds_its_recursion(p: float, slope: float) -> None:
    """e_k <= (1 - l_{k+1}) e_{k-1} + (l_k - l_{k+1}) D + mu G (s_k - s_{k+1}), from e_0 = 0."""
    a, mu, s, D, e, worst = (1 + p) / 2, 0.5, 0.7, 2.0, 0.0, 0.0
    for k in range(1, 3000):
        fall = (k**-a - (k + 1) ** -a) * D + mu * slope * s * (k**-p - (k + 1) ** -p)
        e = (1 - (k + 1) ** -a) * e + fall
        worst = max(worst, e / bounds.free_anchor_move(k, s, p, mu, D, slope))
    assert 0.05 < worst <= 1


def test_the_contractive_bounds_solve_their_recursions() -> None:
    """d_k <= q d_{k-1} + R/(k+1) + mu G s from d_0 = R, and the same one floor higher."""
    q, mu, R, G, s, J, lam, C = 0.8, 0.3, 2.0, 1.5, 0.1, 0.7, 0.4, 0.9
    d, D = R, J
    for k in range(1, 400):
        eta = J / (k + 1) + (1 - mu) * lam * d + mu * s * C
        d, D = q * d + R / (k + 1) + mu * G * s, q * D + eta
        have: dict[str, Any] = {"q": q, "mu": mu, "start": R, "slope": G}
        near = bounds.anchored_distance(k, s, **have)
        curve = bounds.anchored_jacobian(k, s, start_jacobian=J, variation=lam, push=C, **have)
        assert d <= near and D <= curve
    assert d == pytest.approx(mu * G * s / (1 - q), rel=0.2)
    assert near < 1.5 * d and curve < 2.5 * D


REFUSED: list[Any] = [
    lambda: bounds.free_anchor_move(3, 1.0, -0.1, 0.5, 1.0, 1.0),
    lambda: bounds.free_anchor_move(-1, 1.0, 0.5, 0.5, 1.0, 1.0),
    lambda: bounds.free_anchor_move(3, 0.0, 0.5, 0.5, 1.0, 1.0),
    lambda: bounds.free_anchor_move(3, 1.0, 1.0, 0.5, 1.0, 1.0),
    lambda: bounds.free_anchor_move(3, 1.0, 0.5, 1.0, 1.0, 1.0),
    lambda: bounds.free_anchor_move(3, 1.0, 0.5, 0.5, -1.0, 1.0),
    lambda: bounds.anchored_distance(0, 1.0, q=0.5, mu=0.5, start=1.0, slope=1.0),
    lambda: bounds.anchored_distance(3, 1.0, q=1.0, mu=0.5, start=1.0, slope=1.0),
    lambda: bounds.anchored_distance(3, 1.0, q=0.5, mu=1.0, start=1.0, slope=1.0),
    lambda: bounds.anchored_distance(3, 0.0, q=0.5, mu=0.5, start=1.0, slope=1.0),
    lambda: bounds.anchored_distance(3, 1.0, q=0.5, mu=0.5, start=-1.0, slope=1.0),
]


@pytest.mark.parametrize("call", REFUSED)
def test_arguments_outside_the_range_are_refused(call: Any) -> None:
    with pytest.raises(DomainError):
        call()


@pytest.mark.parametrize("name", ["start", "slope", "start_jacobian", "variation", "push"])
def test_a_negative_size_is_refused(name: str) -> None:
    sizes = dict.fromkeys(["start", "slope", "start_jacobian", "variation", "push"], 1.0)
    with pytest.raises(DomainError):
        bounds.anchored_jacobian(3, 1.0, q=0.5, mu=0.5, **{**sizes, name: -1.0})
