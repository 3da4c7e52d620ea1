r"""A learned linearised ADMM step for sparse codes: thin products only, no solve.

Book: chapter 4, "Two blocks: ADMM and its linearised forms", and chapter 10.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from bmo.kernels import DualSoft, Kernel
from bmo.metric import Diagonal, Metric
from bmo.operators.learned_sparse import LearnedSparse, require_learnable
from bmo.operators.spectral import largest_eigenvalue
from bmo.operators.subproblem import require_matrix, squared_norm

LEARNABLE = ("G", "B", "beta", "p", "theta")


@dataclasses.dataclass(frozen=True)
class Ready:
    """What one loop needs and no step changes."""

    shift: Tensor
    p: Tensor
    beta: Tensor
    threshold: Tensor


class LearnedSparseLADMM(LearnedSparse):
    r"""Linearised ADMM for :math:`\min\tfrac12\|e\|^2 + \sum\theta_i|u_i|`, :math:`e + Gu = b`.

    The residual e is found first, exactly, so it needs no place in the point
    :math:`z = (u, \lambda)`. With positive weights :math:`\beta` of the constraint, and all
    quotients entrywise,

    .. math::
        y &= (\lambda + \beta(Gu - b))/(1 + \beta), \qquad
        u^+ = \mathrm{soft}(u - P^{-1}G^\top y + Bb, P^{-1}\theta),\\
        \lambda^+ &= \lambda + \beta(Gu^+ - b) - \beta y

    Nonexpansive in :math:`H = \mathrm{blkdiag}(P, \beta^{-1})` if
    :math:`G^\top\beta G \preceq P = \mathrm{diag}(p)`: the two-block lemma with e as first block,
    :math:`P_e = 0` and :math:`P_u = P - G^\top\beta G`. With free positive q that holds for
    :math:`p = q\max(1, \lambda_{\max}(Q^{-1/2}G^\top\beta GQ^{-1/2}))`, whatever raw values an
    optimizer reaches. B is free, since a constant shift
    expands nothing (it starts at zero: the data enter through the constraint).

    ``weights`` are data as b is: :math:`\theta_i` is multiplied by them, and they may depend on the
    observation ("What may depend on the observation"). They are 1 unless bound.

    Args:
        A: The matrix to start from, shape (m, n): :math:`G = A`.
        b: Data, shape (m,) or (batch, m); replaced by ``bind(b=...)``.
        threshold: :math:`\theta > 0` at the start.
        beta: :math:`\beta > 0` at the start.
        learn: Which of ``"G"``, ``"B"``, ``"beta"``, ``"p"``, ``"theta"`` are learned.
        norm: ``"exact"`` or ``"power"``, see :func:`~bmo.operators.spectral.largest_eigenvalue`.

    Raises:
        ConditionError: A name in ``learn`` or ``norm`` is unknown.
        DomainError: ``threshold`` or ``beta`` is not positive.
        ShapeError: ``b`` does not fit ``A``.
        NonFiniteError: NaN or infinity in ``A`` or ``b``.

    Example:
        >>> import torch, bmo
        >>> b = torch.tensor([3.0, 0.5])
        >>> D = bmo.operators.LearnedSparseLADMM(torch.eye(2), b, threshold=1.0)
        >>> z = bmo.GKM(D, 0.9).iterate(torch.zeros(4), tol=1e-7).value
        >>> D.code(z).round(decimals=4)
        tensor([2., 0.])
    """

    def __init__(
        self,
        A: Tensor,
        b: Tensor,
        threshold: float,
        beta: float = 1.0,
        learn: Sequence[str] = LEARNABLE,
        norm: str = "exact",
    ) -> None:
        super().__init__()
        require_matrix(A, b)
        require_learnable(learn, LEARNABLE, threshold=threshold, beta=beta)
        self.norm = norm
        m, n = A.shape
        self._begin(A, b, torch.zeros(n, m).to(A), learn)
        self._add_number("beta", float(beta), m, learn)
        self._add_number("p", float(beta) * squared_norm(A), n, learn)
        self._add_number("theta", float(threshold), n, learn)

    def _compute(self) -> Ready:
        beta, q = self._number("beta"), self._number("p")
        thin = beta.sqrt()[:, None] * self.G / q.sqrt()
        gram = thin @ thin.mT if thin.shape[0] <= thin.shape[1] else thin.mT @ thin
        p = q * largest_eigenvalue(gram, self.norm).clamp_min(1.0)
        threshold = self.weights * (self._number("theta") / p)
        return Ready(self.b @ self.B.mT, p, beta, threshold)

    @property
    def metric(self) -> Metric:
        r""":math:`\mathrm{blkdiag}(P, \beta^{-1})`, positive by construction."""
        at: Ready = self.prepare()
        return Diagonal(torch.cat([at.p, 1 / at.beta]), check=False)

    def step(self, z: Tensor, at: Ready) -> Tensor:
        """One step with these numbers."""
        u, multiplier = z.split([self.G.shape[1], self.G.shape[0]], -1)
        G, b = self.G, self.b
        y = (multiplier + at.beta * (u @ G.mT - b)) / (1 + at.beta)
        w = u - (y @ G) / at.p + at.shift
        u = w - torch.minimum(torch.maximum(w, -at.threshold), at.threshold)
        return torch.cat([u, multiplier + at.beta * (u @ G.mT - b - y)], -1)

    def code(self, z: Tensor) -> Tensor:
        """The code u in a point z."""
        return z[..., : self.G.shape[1]]

    def magnitude(self, z: Tensor, at: Ready) -> Tensor:
        """How large an entry of the code is."""
        return self.code(z).abs()

    def warm(self, z: Tensor, at: Ready) -> Tensor:
        """The point to start from with these numbers: as it is."""
        return z

    def kernel(self) -> Kernel:
        at: Ready = self.prepare()
        return DualSoft(self.G, self.b, at.shift, at.p, at.beta, at.threshold)
