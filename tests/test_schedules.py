"""Step sizes: the formula, and everything that is not positive and nonincreasing."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bmo
from bmo.errors import ScheduleError
from bmo.schedules import as_steps


def test_the_formula() -> None:
    half = bmo.schedule(3.0, p=0.5)
    assert [half(k) for k in (1, 2, 3)] == [3 / math.sqrt(2), 3 / math.sqrt(3), 1.5]
    one = bmo.schedule(1)
    assert [one(k) for k in (1, 2, 3)] == [float(Fraction(1, k + 1)) for k in (1, 2, 3)]
    assert as_steps(bmo.schedule(2.0, p=0.0), 3) == [2.0, 2.0, 2.0]
    assert repr(half) == "schedule(3, p=0.5)"


@settings(derandomize=True, max_examples=50, deadline=None)
@given(s=st.floats(1e-6, 1e6), p=st.floats(0.0, 1.0), count=st.integers(0, 50))
def test_every_schedule_is_accepted_by_the_loop(s: float, p: float, count: int) -> None:
    values = as_steps(bmo.schedule(s, p), count)
    assert len(values) == count
    assert all(a >= b > 0 for a, b in zip(values, values[1:], strict=False))


def test_three_ways_to_give_steps() -> None:
    assert as_steps(1, 2) == [1.0, 1.0]
    assert as_steps([3, 2.0, 1], 2) == [3.0, 2.0]
    assert as_steps(lambda k: 1 / k, 2) == [1.0, 0.5]
    assert as_steps(0.5, 0) == []


@pytest.mark.parametrize(
    ("steps", "count", "says"),
    [
        ([1.0, 2.0], 2, "s_2 = 2 after s_1 = 1"),
        (lambda k: float(k), 3, "nonincreasing"),
        ([1.0, 0.0], 2, "s_2 = 0"),
        (-1.0, 1, "s_1 = -1"),
        ([1.0, math.nan], 2, "s_2 = nan"),
        (math.inf, 1, "s_1 = inf"),
        ([1.0], 2, "2 step sizes; got: 1"),
        (1.0, -1, "number of steps >= 0"),
    ],
)
def test_bad_steps_are_refused(steps, count: int, says: str) -> None:
    with pytest.raises(ScheduleError, match=says):
        as_steps(steps, count)


@pytest.mark.parametrize("s", [0.0, -1.0, math.inf, math.nan])
def test_bad_scales_are_refused(s: float) -> None:
    with pytest.raises(ScheduleError, match="scale"):
        bmo.schedule(s)


@pytest.mark.parametrize("p", [-0.1, 1.1, math.nan])
def test_bad_exponents_are_refused(p: float) -> None:
    with pytest.raises(ScheduleError, match="exponent"):
        bmo.schedule(1.0, p)
