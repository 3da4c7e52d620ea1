r"""A layer of learned ISTA that is nonexpansive for every value of its weights.

Book: chapter 5, and chapter 10, "The other forms of the step". Learned ISTA repeats
:math:`S_\theta(Vu + Wb)` with free matrices. Here :math:`V` is divided by its norm, where that is
above one; W may be anything, for it only shifts.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bmo.errors import ConditionError, ShapeError
from bmo.metric import Identity, Metric
from bmo.operators.base import Preparing
from bmo.operators.spectral import METHODS, largest_eigenvalue
from bmo.parameters import Positive


@dataclass(frozen=True)
class Prepared:
    """What one loop needs and no step changes."""

    matrix: Tensor  # V / max(1, ||V||), transposed for points in rows
    shift: Tensor
    threshold: Tensor


class CertifiedShrinkage(Preparing):
    r"""The layer :math:`D(u) = S_\theta(\bar Vu + Wb)`, :math:`\bar V = V/\max(1, \|V\|)`.

    :math:`S_\theta` is soft thresholding, entry by entry. V, W and :math:`\theta > 0` are learned.
    D is nonexpansive in the Euclidean metric for each b, whatever V and W are: soft thresholding
    is, a shift is an isometry, and :math:`\|\bar V\| \le 1`.

    Args:
        V: Matrix to start from, shape (n, n).
        W: Matrix to start from, shape (n, m).
        b: Data, shape (m,) or (batch, m); replaced by ``bind(b=...)``.
        threshold: :math:`\theta > 0` at the start (number, or shape (n,)).
        norm: ``"exact"`` or ``"power"``, see :func:`~bmo.operators.spectral.largest_eigenvalue`.

    Raises:
        ShapeError: V, W and b do not fit.
        ConditionError: Another name of a norm.
        DomainError: The threshold is not positive.

    Example:
        >>> import torch
        >>> from bmo.networks import CertifiedShrinkage
        >>> b = torch.tensor([3.0, 0.5])
        >>> D = CertifiedShrinkage(2 * torch.eye(2), torch.eye(2), b, threshold=1.0)
        >>> D(torch.ones(2)).detach()
        tensor([3.0000, 0.5000])
    """

    certified = "by construction"

    def __init__(
        self,
        V: Tensor,
        W: Tensor,
        b: Tensor,
        threshold: float | Tensor,
        norm: str = "exact",
    ) -> None:
        super().__init__()
        n = V.shape[-1]
        if V.shape != (n, n) or W.dim() != 2 or W.shape != (n, b.shape[-1]):
            raise ShapeError(
                "V of shape (n, n), W of shape (n, m), b of shape (..., m)",
                f"V {tuple(V.shape)}, W {tuple(W.shape)}, b {tuple(b.shape)}",
                "make them fit",
            )
        if norm not in METHODS:
            raise ConditionError(f"a norm out of {METHODS}", repr(norm), "use 'exact'", norm)
        self.norm = norm
        self.V = nn.Parameter(V.detach().clone())
        self.W = nn.Parameter(W.detach().clone())
        self.theta = Positive(torch.as_tensor(threshold).to(V).expand(n))
        self.register_buffer("b", b)
        self.b: Tensor

    def _compute(self) -> Prepared:
        top = largest_eigenvalue(self.V @ self.V.mT, self.norm).clamp_min(1.0).sqrt()
        return Prepared(self.V.mT / top, self.b @ self.W.mT, self.theta())

    @property
    def metric(self) -> Metric:
        return Identity()

    def forward(self, u: Tensor) -> Tensor:
        at: Prepared = self.prepare()
        z = u @ at.matrix + at.shift
        return z - torch.minimum(torch.maximum(z, -at.threshold), at.threshold)
