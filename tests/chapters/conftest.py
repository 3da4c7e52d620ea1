"""The chapters are checked in float64."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture(autouse=True)
def double(seeded: None) -> None:
    """Make float64 the default; the fixture ``seeded`` restores what was before."""
    torch.set_default_dtype(torch.float64)
