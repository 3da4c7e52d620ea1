"""The bounds of chapter 7 as functions: special cases, limits, and what they refuse."""

from __future__ import annotations

import math
from typing import Any

import pytest

from bmo import bounds
from bmo.errors import ConditionError, DomainError

HAVE: dict[str, Any] = {"alpha": 0.3, "mu": 0.4, "diameter": 2.0, "slope": 1.5}
STRONG: dict[str, Any] = {"strength": 0.5, "lipschitz": 2.0, "mu": 0.4}


def test_the_weight_of_lemma_5_is_that_of_the_averaged_map() -> None:
    for alpha in (0.1, 0.5, 0.9):
        for mu in (0.0, 0.3, 0.8):
            a = bounds.projected_averaged((1 - mu) * alpha + mu)
            assert bounds.map_relaxation(alpha, mu) == pytest.approx((1 - a) / a, rel=1e-12)


def test_the_window_form_of_a_by_hand() -> None:
    """alpha = mu = 1/2, c = 1/2, Delta = 2, G = 3, M = 5, w = 4, sigma = 0.1."""
    common: dict[str, Any] = {"alpha": 0.5, "mu": 0.5, "diameter": 2.0, "slope": 3.0}
    got = bounds.uniform_residual(9, 4, 0.1, oscillation=5.0, **common)
    assert got == pytest.approx(math.sqrt(2 * (1 + 0.5 + 0.045)) + 0.6, rel=1e-14)
    sharp = bounds.uniform_residual(9, 4, 0.1, oscillation=5.0, sharp=True, **common)
    assert sharp == pytest.approx(math.sqrt(3.0) + 0.6, rel=1e-14)


@pytest.mark.parametrize("k", [0, 1, 2, 7, 40, 1000])
def test_the_harmonic_form_follows_from_sums_that_are_smaller(k: int) -> None:
    """Recompute the two sums and the drift of the proof; each is below its estimate."""
    m = math.ceil(k / 2)
    steps = [1 / (j + 2) for j in range(m, k + 1)]
    assert len(steps) >= (k + 1) / 2
    assert sum(steps) <= math.log(2) + 1e-12
    assert sum(x * x for x in steps) <= 1 / (k + 2) + 1e-12
    assert steps[0] <= 2 / (k + 4) + 1e-12
    c, G, M, s = bounds.relaxation(0.3, 0.4), 1.5, 2.5, 0.7
    square = 4 + 2 * 0.4 * M * s * sum(steps) + 0.4 * (G * s) ** 2 * sum(x * x for x in steps)
    exact = math.sqrt(square / (c * len(steps))) + 2 * 0.4 * G * s * steps[0] / 0.6
    assert exact <= bounds.uniform_residual_harmonic(k, s, oscillation=M, **HAVE) * (1 + 1e-12)


@pytest.mark.parametrize("p", [0.0, 1 / 7, 0.5, 1.0])
@pytest.mark.parametrize("k", [0, 1, 2, 3, 10, 99, 5000])
def test_the_closed_form_is_above_the_window_form(k: int, p: float) -> None:
    s, w = 0.8, bounds.power_window(k, p)
    change = s / (k - w + 3) ** p - s / (k + 2) ** p
    assert w * change <= 2 ** (2 + p) * p * s + 1e-12
    assert w >= (k + 1) ** ((1 + p) / 2) / 2 - 1e-9
    exact = bounds.move_window(k, w, change, **HAVE)
    assert exact <= bounds.move_power(k, s, p, **HAVE) * (1 + 1e-12)


def test_constant_steps_have_no_drift() -> None:
    size = {name: HAVE[name] for name in ("alpha", "mu", "diameter")}
    assert bounds.move_constant(8, **size) == pytest.approx(2 / math.sqrt(0.42 * 9), rel=1e-14)


@pytest.mark.parametrize("p", [0.2, 0.5, 1.0])
def test_the_error_bound_recursion_stays_below_gamma(p: float) -> None:
    """The worst recursion a_k = eta a_{k-1} + mu G s_k itself, from a_0 = Delta."""
    s, kappa = 0.6, 2.0
    eta, a = bounds.error_bound_factor(HAVE["alpha"], HAVE["mu"], kappa), HAVE["diameter"]
    assert eta**2 == pytest.approx(1 - (1.4 + 0.24) / 4, rel=1e-12)
    for k in range(200):
        assert a <= bounds.error_bound_distance(k, s, p, kappa=kappa, **HAVE) * (1 + 1e-12)
        a = eta * a + HAVE["mu"] * HAVE["slope"] * s / (k + 2) ** p


@pytest.mark.parametrize("p", [0.0, 0.3, 0.5, 0.9, 1.0])
def test_the_strongly_convex_recursion_stays_below_its_bound(p: float) -> None:
    """The worst recursion of the proof, from e_0 = Delta; for p = 1 it is attained."""
    e, mu, m, G = HAVE["diameter"], STRONG["mu"], STRONG["strength"], HAVE["slope"]
    for k in range(400):
        bound = bounds.strong_move(k, p, diameter=2.0, slope=G, **STRONG)
        assert e <= bound * (1 + 1e-12)
        if p == 1:
            assert e == pytest.approx(bound, rel=1e-10)
        here, after = (bounds.strong_step(j, p, **STRONG) for j in (k + 1, k + 2))
        e = (1 - mu * m * after) * e + mu * G * (here - after)


def test_the_first_strong_step_is_allowed_and_the_rest_fall() -> None:
    for p in (0.0, 0.5, 1.0):
        steps = [bounds.strong_step(k, p, **STRONG) for k in range(1, 50)]
        assert steps[0] <= 2 / 2.5 + 1e-15
        assert all(b <= a for a, b in zip(steps[:-1], steps[1:], strict=True))
    assert bounds.strong_offset(0.5, 2.0, 0.4) == 13  # ceil(12.5)
    assert bounds.strong_offset(1.0, 1.0, 0.999) == 3  # never less


def test_the_mean_and_the_lower_side() -> None:
    assert bounds.ergodic_gap(3.0, 0.25, 6.0) == pytest.approx(3.0)
    assert bounds.gap_below(2.0, 3.0, 0.25, theta=0.5) == pytest.approx(3.0)


REFUSED: list[Any] = [
    lambda: bounds.uniform_residual(3, 5, 0.1, oscillation=1.0, **HAVE),
    lambda: bounds.uniform_residual(3, 0, 0.1, oscillation=1.0, **HAVE),
    lambda: bounds.uniform_residual(3, 2, -0.1, oscillation=1.0, **HAVE),
    lambda: bounds.uniform_residual_harmonic(3, 0.0, oscillation=1.0, **HAVE),
    lambda: bounds.move_window(3, 2, 0.1, **{**HAVE, "alpha": 1.0}),
    lambda: bounds.move_power(3, 1.0, 1.5, **HAVE),
    lambda: bounds.power_window(-1, 0.5),
    lambda: bounds.ergodic_gap(1.0, 0.0, 1.0),
    lambda: bounds.gap_below(1.0, 1.0, 1.0, theta=0.0),
    lambda: bounds.error_bound_distance(3, 1.0, 0.0, kappa=3.0, **HAVE),
    lambda: bounds.error_bound_gap(0, 1.0, 0.5, kappa=3.0, **HAVE),
    lambda: bounds.strong_offset(2.0, 1.0, 0.5),
    lambda: bounds.strong_step(0, 1.0, **STRONG),
    lambda: bounds.strong_move(3, 1.1, diameter=1.0, slope=1.0, **STRONG),
]


@pytest.mark.parametrize("call", REFUSED)
def test_arguments_outside_the_range_are_refused(call: Any) -> None:
    with pytest.raises(DomainError):
        call()


def test_a_kappa_that_no_map_has_is_refused() -> None:
    with pytest.raises(ConditionError):
        bounds.error_bound_factor(0.3, 0.4, 0.5)
