"""What all steps under a linear constraint share."""

from __future__ import annotations

import torch
from torch import Tensor

from bmo.operators.base import Preparing


class Constrained(Preparing):
    """A step whose constraint has a matrix A and a right-hand side b, which is data."""

    A: Tensor
    b: Tensor

    def _number(self, name: str, value: float | Tensor) -> None:
        """Keep a number in the precision of the matrix."""
        self.register_buffer(name, torch.as_tensor(value, dtype=self.A.dtype, device=self.A.device))

    def _depends(self) -> list[Tensor]:
        return [t for t in super()._depends() if t is not self.b]
