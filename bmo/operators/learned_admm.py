r"""A learned two-block ADMM step for sparse codes, with its dense solve.

Book: chapter 4, "Two blocks: ADMM and its linearised forms", and chapter 10.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from bmo.kernels import Kernel, SolveSoft
from bmo.metric import Diagonal, Metric
from bmo.operators.learned_sparse import LearnedSparse, require_learnable
from bmo.operators.subproblem import require_matrix

LEARNABLE = ("G", "B", "beta", "q", "theta")


@dataclasses.dataclass(frozen=True)
class Solved:
    """What one loop needs: the inverse, its image of the data, and the three diagonals."""

    inverse: Tensor
    shift: Tensor
    q: Tensor
    beta: Tensor
    threshold: Tensor


class LearnedSparseADMM(LearnedSparse):
    r"""Two-block ADMM for :math:`\min f(u) + \sum\theta_i|v_i|`, :math:`u = v`, feasible always.

    Here :math:`f(u) = \tfrac12\|Gu\|^2 - \langle c, u\rangle`, the constraint is weighed by
    :math:`\beta = \mathrm{diag}(\beta_i)`, and the first block has the proximal term
    :math:`Q = \mathrm{diag}(q)`. A point is :math:`z = (u, v, \lambda)`, and with
    :math:`M = G^\top G + Q + \beta` and :math:`c = MBb`

    .. math::
        u^+ &= M^{-1}(Qu + \beta v - \lambda) + Bb,\\
        v^+ &= \mathrm{soft}(u^+ + \beta^{-1}\lambda, \beta^{-1}\theta),\\
        \lambda^+ &= \lambda + \beta(u^+ - v^+)

    Nonexpansive in :math:`H = \mathrm{blkdiag}(Q, \beta, \beta^{-1})` whatever G and B are and
    for all positive :math:`\beta, q, \theta`: the two-block lemma with
    :math:`A = \beta^{1/2}`, :math:`B = -\beta^{1/2}` and :math:`P_v = 0`, the multiplier scaled by
    :math:`\beta^{1/2}`. (B is learned and not c: :math:`M^{-1}` would magnify every error of c
    where G vanishes.) The inverse is computed once for each loop; a step is then one product
    with an (n, n) matrix, as a step of learned ISTA is. The code is :math:`v`, a coordinate of
    the point, so an upper objective that is convex in the code is convex in z.

    ``weights`` are data as b is: :math:`\theta_i` is multiplied by them, and they may depend on the
    observation ("What may depend on the observation"). They are 1 unless bound.

    Args:
        A: The matrix to start from, shape (m, n): :math:`G = A`,
            :math:`B = M^{-1}A^\top`.
        b: Data, shape (m,) or (batch, m); replaced by ``bind(b=...)``.
        threshold: :math:`\theta > 0` at the start.
        beta: :math:`\beta > 0` at the start.
        q: :math:`q > 0` at the start, relative to ``beta``.
        learn: Which of ``"G"``, ``"B"``, ``"beta"``, ``"q"``, ``"theta"`` are learned.

    Raises:
        ConditionError: A name in ``learn`` is unknown.
        DomainError: ``threshold``, ``beta`` or ``q`` is not positive.
        ShapeError: ``b`` does not fit ``A``.
        NonFiniteError: NaN or infinity in ``A`` or ``b``.

    Example:
        >>> import torch, bmo
        >>> b = torch.tensor([3.0, 0.5])
        >>> D = bmo.operators.LearnedSparseADMM(torch.eye(2), b, threshold=1.0)
        >>> z = bmo.GKM(D, 0.9).iterate(torch.zeros(6), tol=1e-7).value
        >>> D.code(z).round(decimals=4)
        tensor([2., 0.])
    """

    def __init__(
        self,
        A: Tensor,
        b: Tensor,
        threshold: float,
        beta: float = 1.0,
        q: float = 0.1,
        learn: Sequence[str] = LEARNABLE,
    ) -> None:
        super().__init__()
        require_matrix(A, b)
        require_learnable(learn, LEARNABLE, threshold=threshold, beta=beta, q=q)
        n = A.shape[1]
        gram = A.detach().mT @ A.detach() + beta * (1 + q) * torch.eye(n).to(A)
        self._begin(A, b, torch.linalg.solve(gram, A.detach().mT), learn)
        self._add_number("beta", float(beta), n, learn)
        self._add_number("q", float(q * beta), n, learn)
        self._add_number("theta", float(threshold), n, learn)

    def _compute(self) -> Solved:
        beta, q = self._number("beta"), self._number("q")
        lower = torch.linalg.cholesky(self.G.mT @ self.G + torch.diag(beta + q))
        inverse = torch.cholesky_inverse(lower)
        threshold = self.weights * (self._number("theta") / beta)
        return Solved(inverse, self.b @ self.B.mT, q, beta, threshold)

    @property
    def metric(self) -> Metric:
        r""":math:`\mathrm{blkdiag}(Q, \beta, \beta^{-1})`, positive by construction."""
        at: Solved = self.prepare()
        return Diagonal(torch.cat([at.q, at.beta, 1 / at.beta]), check=False)

    def step(self, z: Tensor, at: Solved) -> Tensor:
        """One step with these numbers."""
        u, v, multiplier = z.chunk(3, -1)
        x = (at.q * u + at.beta * v - multiplier) @ at.inverse + at.shift
        w = x + multiplier / at.beta
        inside = torch.minimum(torch.maximum(w, -at.threshold), at.threshold)
        return torch.cat([x, w - inside, at.beta * inside], -1)

    def code(self, z: Tensor) -> Tensor:
        """The code v in a point z."""
        return z.chunk(3, -1)[1]

    def magnitude(self, z: Tensor, at: Solved) -> Tensor:
        r""":math:`|v + \beta^{-1}\lambda|`: how large an entry is before it is thresholded."""
        _, v, multiplier = z.chunk(3, -1)
        return (v + multiplier / at.beta).abs()

    def warm(self, z: Tensor, at: Solved) -> Tensor:
        r"""The point to start from with these numbers: :math:`|\lambda_i| \le \theta_i`."""
        u, v, multiplier = z.chunk(3, -1)
        most = at.beta * at.threshold
        return torch.cat([u, v, torch.minimum(torch.maximum(multiplier, -most), most)], -1)

    def kernel(self) -> Kernel:
        at: Solved = self.prepare()
        return SolveSoft(at.inverse, at.shift, at.q, at.beta, at.threshold)
