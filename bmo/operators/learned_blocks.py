r"""The learned ADMM step with a block metric: entries of the code that are measured together.

Book: chapter 10, "What each number does".
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from bmo.errors import ConditionError
from bmo.kernels import Kernel
from bmo.metric import Block, Dense, Diagonal, Metric
from bmo.operators.learned_admm import LearnedSparseADMM, Solved


class LearnedBlockADMM(LearnedSparseADMM):
    r"""The learned ADMM step with blocks in its metric.

    As :class:`LearnedSparseADMM`, with
    :math:`Q = \mathrm{diag}(q) + \mathrm{blkdiag}(F_jF_j^\top)`.
    The proof of the diagonal case asks nothing of Q but that it is symmetric and positive definite,
    which it is for every F. So the step is nonexpansive in
    :math:`H = \mathrm{blkdiag}(Q, \beta, \beta^{-1})`. Book: chapter 10.

    Args:
        block: Number of entries in a block; it divides n.
        *args: As :class:`LearnedSparseADMM`, and so are the keywords.

    Raises:
        ConditionError: ``block`` does not divide n.

    Example:
        >>> import torch, bmo
        >>> D = bmo.operators.LearnedBlockADMM(2, torch.eye(2), torch.tensor([3.0, 0.5]), 1.0)
        >>> z = bmo.GKM(D, 0.9).iterate(torch.zeros(6), tol=1e-7).value
        >>> D.code(z).round(decimals=4)
        tensor([2., 0.])
    """

    def __init__(self, block: int, *args: Any, **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        n = self.G.shape[1]
        if block < 1 or n % block:
            raise ConditionError(f"a block that divides {n}", f"{block}", "choose another", block)
        start = 0.5 * self.scales["q"] ** 0.5 * torch.eye(block).to(self.G)
        self.F = nn.Parameter(start.repeat(n // block, 1, 1))

    def _compute(self) -> Solved:
        beta, q = self._number("beta"), self._number("q")
        Q = torch.diag(q) + torch.block_diag(*(self.F @ self.F.mT))
        lower = torch.linalg.cholesky(self.G.mT @ self.G + torch.diag(beta) + Q)
        threshold = self.weights * (self._number("theta") / beta)
        inverse = torch.cholesky_inverse(lower)
        return Solved(inverse, self.b @ self.B.mT, Q, beta, threshold)

    @property
    def metric(self) -> Metric:
        r""":math:`\mathrm{blkdiag}(Q, \beta, \beta^{-1})`, positive by construction."""
        at: Solved = self.prepare()
        parts = [Dense(at.q), Diagonal(at.beta, check=False), Diagonal(1 / at.beta, check=False)]
        return Block([len(at.beta)] * 3, parts)

    def step(self, z: Tensor, at: Solved) -> Tensor:
        u, v, multiplier = z.chunk(3, -1)
        x = (u @ at.q + at.beta * v - multiplier) @ at.inverse + at.shift
        w = x + multiplier / at.beta
        inside = torch.minimum(torch.maximum(w, -at.threshold), at.threshold)
        return torch.cat([x, w - inside, at.beta * inside], -1)

    def kernel(self) -> Kernel | None:  # type: ignore[override]
        return None
