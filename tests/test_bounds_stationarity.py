"""Bounds of stationarity: closed forms at special values, and refusals outside the range."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bmo import bounds
from bmo.errors import DomainError


def test_plain_training_has_a_closed_form() -> None:
    for k in (1, 2, 7, 30):
        got = bounds.jacobian_distance(2.0, 3.0, 0.8, 0.0, 5.0, [1.0] * k, 0.7, 9.0)
        assert got == pytest.approx(0.8**k * 2 + k * 0.8 ** (k - 1) * 0.7 * 3, rel=1e-12)
        closed = bounds.jacobian_distance_limit(k, 2.0, 3.0, 0.8, 0.0, 5.0, 1.0, 0.7, 9.0)
        assert got == pytest.approx(closed, rel=1e-12)
        assert bounds.fixed_point_distance(3.0, 0.8, 0.0, 5.0, [1.0] * k) == pytest.approx(
            3 * 0.8**k, rel=1e-12
        )


def test_a_constant_schedule_tends_to_its_geometric_sum() -> None:
    assert bounds.step_memory(0.5, [0.1] * 200) == pytest.approx(0.2, rel=1e-12)
    got = bounds.fixed_point_distance(1.0, 0.5, 0.5, 2.0, [0.1] * 200)
    assert got == pytest.approx(0.5 * 2 * 0.2, rel=1e-12)


def test_no_steps_leave_the_start() -> None:
    assert bounds.fixed_point_distance(1.5, 0.5, 0.5, 2.0, []) == 1.5
    assert bounds.jacobian_distance(1.5, 1.0, 0.5, 0.5, 2.0, [], 1.0, 1.0) == 1.5
    assert bounds.truncation(0, 0.5, 2.0) == 2.0
    assert bounds.cg_factor(0, 0.5) == 1.0


def test_the_numbers_of_the_chapter() -> None:
    q = bounds.inner_contraction(0.95, 0.5)
    assert bounds.truncation(10, q, 1.0) == pytest.approx(0.776, abs=5e-4)
    assert bounds.truncation(10, 0.95, 1.0) == pytest.approx(0.599, abs=5e-4)


def test_one_neumann_term_is_weaker_than_the_one_step_bound_only_by_its_constants() -> None:
    exact = bounds.neumann(1, 0.5, 2.0, 0.0, 1.0)
    assert exact == bounds.one_term(0.5, 2.0, 0.0, 1.0) == 1.0


@pytest.mark.parametrize(
    "call",
    [
        lambda: bounds.inner_contraction(1.0, 0.5),
        lambda: bounds.inner_contraction(0.5, 1.0),
        lambda: bounds.step_memory(1.0, [1.0]),
        lambda: bounds.step_memory(0.5, [0.0]),
        lambda: bounds.step_memory_limit(0.5, -1.0),
        lambda: bounds.fixed_point_distance(-1.0, 0.5, 0.5, 1.0, [1.0]),
        lambda: bounds.jacobian_distance(1.0, 1.0, 0.5, 0.5, 1.0, [-1.0], 1.0, 1.0),
        lambda: bounds.jacobian_distance_limit(0, 1.0, 1.0, 0.5, 0.5, 1.0, 1.0, 1.0, 1.0),
        lambda: bounds.hypergradient_distance(1.0, 1.0, -1.0, 1.0, 1.0),
        lambda: bounds.metric_term(1.0, 1.0, 0.5, [1.0]),
        lambda: bounds.truncation(-1, 0.5, 1.0),
        lambda: bounds.neumann(1, 1.0, 1.0, 1.0, 1.0),
        lambda: bounds.cg_factor(2, 1.0),
        lambda: bounds.conjugate_gradient(2, 0.5, -1.0, 1.0),
        lambda: bounds.one_term(0.5, -1.0, 1.0, 1.0),
        lambda: bounds.implicit(0.5, 1.0, float("nan")),
    ],
)
def test_arguments_out_of_range_are_refused(call: Callable[[], float]) -> None:
    with pytest.raises(DomainError):
        call()
