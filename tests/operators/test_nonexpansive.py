"""Every operator in its own metric, over 200 random settings; and what each condition prevents."""

from __future__ import annotations

import pytest
import torch

import bmo
from bmo.operators import Unrelaxed
from tests.operators.random_settings import FAMILIES, settings
from tests.operators.ratios import jacobian, norm_in, worst_ratio


@pytest.mark.parametrize("name", FAMILIES)
def test_nonexpansive_in_its_own_metric(name: str) -> None:
    """Also the averaged constant: I + (D - I)/a must not expand either."""
    worst = 0.0
    for D, n in settings(name, 200):
        D = D.prepared()
        worst = max(worst, worst_ratio(D, n))
        if D.averaged < 1:
            J = jacobian(Unrelaxed(D), torch.randn(n, dtype=torch.float64))
            worst = max(worst, norm_in(J, D.metric))
    assert worst <= 1 + 1e-10
    assert worst >= 0.9  # the settings reach the limit, so the test could fail


@pytest.mark.parametrize("name", FAMILIES)
def test_the_maximiser_finds_nothing_worse(name: str) -> None:
    for D, n in settings(name, 2):
        found = bmo.certify.nonexpansive(D, size=n, ascent=20)
        assert found.holds, found
