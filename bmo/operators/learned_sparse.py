"""What the learned two-block steps for sparse codes share: their data and learned numbers."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from bmo.errors import ConditionError, DomainError
from bmo.operators.base import Preparing
from bmo.parameters import Positive


class LearnedSparse(Preparing):
    """A step with data ``b`` and ``weights``, learned matrices G and B, and positive numbers."""

    certified = "by construction"
    b: Tensor
    weights: Tensor

    def _begin(self, A: Tensor, b: Tensor, B: Tensor, learn: Sequence[str]) -> None:
        """Keep the data, and both matrices at their start."""
        self.register_buffer("b", b)
        self.register_buffer("weights", torch.ones(A.shape[1]).to(A), persistent=False)
        self.G = nn.Parameter(A.detach().clone(), requires_grad="G" in learn)
        self.B = nn.Parameter(B, requires_grad="B" in learn)
        self.scales: dict[str, float] = {}

    def _add_number(self, name: str, start: float, count: int, learn: Sequence[str]) -> None:
        """Make a positive number of each of ``count`` entries, relative to its start.

        So every raw parameter has the size of one.
        """
        self.scales[name] = start
        weight = Positive(torch.ones(count).to(self.G), low=1e-3)
        weight.raw.requires_grad_(name in learn)
        setattr(self, name, weight)

    def _number(self, name: str) -> Tensor:
        value: Tensor = self.scales[name] * getattr(self, name)()
        return value

    def forward(self, z: Tensor) -> Tensor:
        return self.step(z, self.prepare())

    @abstractmethod
    def step(self, z: Tensor, at: Any) -> Tensor:
        """One step with these numbers."""


def require_learnable(learn: Sequence[str], known: Sequence[str], **numbers: float) -> None:
    """Refuse names that are not known, and numbers that are not positive."""
    unknown = sorted(set(learn) - set(known))
    if unknown:
        raise ConditionError(f"learn out of {known}", f"{unknown}", "correct the name", unknown)
    for name, value in numbers.items():
        if not 0 < value < float("inf"):
            raise DomainError(f"{name} finite and > 0", f"{value}", "0.1 is a start", value)
