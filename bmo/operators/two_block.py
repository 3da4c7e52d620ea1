r"""What both forms of two-block ADMM share: the step, its metric, its data.

Book: chapter 4, "Two blocks: ADMM and its linearised forms".
"""

from __future__ import annotations

import dataclasses
from abc import abstractmethod

import torch
from torch import Tensor

from bmo.errors import MetricError, ShapeError
from bmo.metric import Block, Metric, Scaled
from bmo.operators.constrained import Constrained
from bmo.operators.subproblem import Solvable, Subproblem, require_matrix
from bmo.smooth import Smooth


@dataclasses.dataclass(frozen=True)
class Blocks:
    """What one step needs: both subproblems, the penalty, and the metric of u if it is one."""

    first: Subproblem
    second: Subproblem  # its metric is P_v + beta B^T B, which is also the metric of v
    beta: Tensor
    P: Metric | None


class TwoBlock(Constrained):
    r"""The step that both forms share: u, then v with the new u, then :math:`\lambda`."""

    def __init__(
        self,
        first: Solvable,
        second: Solvable,
        A: Tensor,
        B: Tensor,
        b: Tensor,
        smooth: Smooth | None,
        check: bool,
    ) -> None:
        super().__init__()
        require_matrix(A, b)
        require_matrix(B, b, "B and b")
        if A.dtype != B.dtype:
            raise ShapeError("A and B of one dtype", f"{A.dtype} and {B.dtype}", "convert one")
        self.first, self.second, self.smooth = first, second, smooth
        self.check = check
        self.certified = "checked" if check else "none"
        for name, value in (("A", A), ("B", B), ("b", b)):
            self.register_buffer(name, value)
        self.B: Tensor

    @abstractmethod
    def _compute(self) -> Blocks:
        """The subproblems, the penalty and the metric at the current parameters."""

    @property
    def sizes(self) -> list[int]:
        r"""Lengths of u, v and :math:`\lambda`."""
        return [self.A.shape[1], self.B.shape[1], self.A.shape[0]]

    @property
    def metric(self) -> Metric:
        r""":math:`H = \mathrm{blkdiag}(P_u, P_v + \beta B^\top B, \beta^{-1}I)`.

        Raises:
            MetricError: :math:`P_u` is not positive definite (with ``check=False`` only).
        """
        at: Blocks = self.prepare()
        if at.P is None:
            raise MetricError(
                "P_u positive definite", "it is not", "enlarge tau_u beyond beta ||A||^2"
            )
        return Block(self.sizes, [at.P, at.second.metric, Scaled(1 / at.beta, check=False)])

    def forward(self, z: Tensor) -> Tensor:
        at: Blocks = self.prepare()
        u, v, multiplier = z.split(self.sizes, -1)
        rest = v @ self.B.mT - self.b
        g = (multiplier + at.beta * (u @ self.A.mT + rest)) @ self.A
        u = at.first(u, g if self.smooth is None else g + self.smooth(u))
        image = u @ self.A.mT
        v = at.second(v, (multiplier + at.beta * (image + rest)) @ self.B)
        multiplier = multiplier + at.beta * (image + v @ self.B.mT - self.b)
        return torch.cat([u, v, multiplier], -1)
