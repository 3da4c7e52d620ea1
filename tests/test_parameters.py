"""Learned numbers stay in their range for every raw value that an optimizer may reach."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bmo.errors import DomainError
from bmo.parameters import Interval, Positive, inverse_softplus
from tests.instances import F64

RAW = st.floats(-1e6, 1e6)
DTYPES = st.sampled_from([torch.float32, F64])


def with_raw(module: torch.nn.Module, raw: float) -> torch.Tensor:
    with torch.no_grad():
        module.raw.fill_(raw)
    return module().detach()


@settings(derandomize=True, max_examples=60, deadline=None)
@given(raw=RAW, dtype=DTYPES, low=st.sampled_from([0.0, 0.25]))
def test_positive_for_every_raw_value(raw: float, dtype: torch.dtype, low: float) -> None:
    value = with_raw(Positive(torch.ones(2, dtype=dtype), low), raw)
    assert value.dtype == dtype
    assert bool((value > 0).all()) and bool((value >= low).all())
    assert bool(torch.isfinite(value).all()) and bool(torch.isfinite(1 / value).all())


@settings(derandomize=True, max_examples=60, deadline=None)
@given(raw=RAW, dtype=DTYPES)
def test_interval_for_every_raw_value(raw: float, dtype: torch.dtype) -> None:
    value = with_raw(Interval(torch.tensor(0.3, dtype=dtype), -0.5, 2.0), raw)
    assert -0.5 <= float(value) <= 2.0


@settings(derandomize=True, max_examples=60, deadline=None)
@given(start=st.floats(1e-12, 1e6))
@example(start=20.0)
@example(start=21.0)
def test_the_initial_value_is_kept(start: float) -> None:
    value = torch.tensor(start, dtype=F64)
    assert Positive(value)().item() == pytest.approx(start, rel=1e-12)
    assert Positive(value + 1, low=1.0)().item() == pytest.approx(start + 1, rel=1e-12)
    share = start / (1e6 + 1)
    inside = Interval(torch.tensor(share, dtype=F64), 0.0, 1.0)
    assert inside().item() == pytest.approx(share, rel=1e-9)


def test_the_inverse_of_softplus() -> None:
    y = torch.logspace(-200, 3, 50, dtype=F64)
    back = torch.nn.functional.softplus(inverse_softplus(y))
    torch.testing.assert_close(back, y, rtol=1e-12, atol=0)


def test_the_middle_of_the_range_is_the_formula() -> None:
    value = with_raw(Positive(torch.tensor(1.0, dtype=F64), low=0.5), 0.3)
    assert float(value) == pytest.approx(0.5 + math.log1p(math.exp(0.3)), rel=1e-14)
    value = with_raw(Interval(torch.tensor(0.5, dtype=F64), -1.0, 3.0), 0.3)
    assert float(value) == pytest.approx(-1 + 4 / (1 + math.exp(-0.3)), rel=1e-14)


def test_gradients_and_dtypes() -> None:
    assert Positive(1)().dtype == torch.float32
    for module in (
        Positive(torch.tensor(0.7, dtype=F64)),
        Interval(torch.tensor(0.7).to(F64), 0, 1),
    ):

        def call(raw: torch.Tensor, module: torch.nn.Module = module) -> torch.Tensor:
            return torch.func.functional_call(module, {"raw": raw}, ())

        assert torch.autograd.gradcheck(call, (module.raw.detach().requires_grad_(),))


@pytest.mark.parametrize(
    "build",
    [
        lambda: Positive(0.0),
        lambda: Positive(1.0, low=1.0),
        lambda: Positive(math.nan),
        lambda: Positive(math.inf),
        lambda: Positive(torch.tensor([1.0, -1.0])),
        lambda: Interval(0.0, 0.0, 1.0),
        lambda: Interval(1.0, 0.0, 1.0),
        lambda: Interval(math.nan, 0.0, 1.0),
        lambda: Interval(0.5, 1.0, 0.0),
        lambda: Interval(0.5, 0.0, math.inf),
    ],
)
def test_starts_outside_the_range_are_refused(build) -> None:
    with pytest.raises(DomainError):
        build()
