r"""Learned ISTA without any constraint: class ENA, a network trained end to end.

Book: chapters 1 and 10. :math:`D(u) = \mathrm{soft}(W_2u + W_1b, \theta)` with the same
:math:`W_1, W_2, \theta` at every layer ("tied"). Nothing keeps it nonexpansive, so nothing is
known about what happens after the layers that it was trained for.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bmo.errors import ConditionError, ShapeError
from bmo.gkm import GKM
from bmo.metric import Identity, Metric
from bmo.operators import Operator
from bmo.parameters import Positive
from bmo.prox import soft


class TiedLISTA(Operator):
    r"""One layer of tied LISTA, :math:`\mathrm{soft}(W_2u + W_1b, \theta)`; starts as ISTA's step.

    Args:
        A: Dictionary to start from, shape (m, n): :math:`W_1 = \tau A^\top`,
            :math:`W_2 = I - \tau A^\top A`.
        b: Data, shape (m,) or (batch, m); replaced by ``bind(b=...)``.
        threshold: :math:`\lambda > 0`; at the start :math:`\theta = \tau\lambda` for each entry.
        step: :math:`\tau \in (0, 2/\|A\|^2]`; ``None`` for :math:`1/\|A\|^2`.

    Raises:
        ShapeError: ``b`` does not fit ``A``.
        ConditionError: The step is too long, or not positive.

    Source: Gregor, LeCun, ICML 2010.

    Example:
        >>> D = TiedLISTA(torch.eye(2), torch.tensor([3.0, 0.5]), threshold=1.0)
        >>> D(torch.zeros(2)).detach()
        tensor([2., 0.])
        >>> D.certified
        'none'
    """

    certified = "none"

    def __init__(
        self, A: Tensor, b: Tensor, threshold: float | Tensor, step: float | None = None
    ) -> None:
        super().__init__()
        if A.dim() != 2 or b.shape[-1:] != A.shape[:1]:
            raise ShapeError(
                "A of shape (m, n) and b of shape (..., m)",
                f"A {tuple(A.shape)}, b {tuple(b.shape)}",
                "put the data into rows",
            )
        longest = 2 / float(torch.linalg.matrix_norm(A, 2)) ** 2
        tau = longest / 2 if step is None else step
        if not 0 < tau <= longest * (1 + 1e-12):
            raise ConditionError(
                f"0 < step <= 2/||A||^2 = {longest:.6g}", f"step = {step}", "shorten it", step
            )
        n = A.shape[1]
        self.register_buffer("b", b)
        self.b: Tensor
        self.W1 = nn.Parameter(tau * A.mT.contiguous())
        self.W2 = nn.Parameter(torch.eye(n).to(A) - tau * A.mT @ A)
        self.theta = Positive(
            tau * torch.as_tensor(threshold, dtype=A.dtype, device=A.device).expand(n)
        )

    @property
    def metric(self) -> Metric:
        return Identity()

    def forward(self, u: Tensor) -> Tensor:
        return soft(u @ self.W2.mT + self.b @ self.W1.mT, self.theta())

    def map(self) -> GKM:
        r"""The undamped iteration :math:`u \leftarrow D(u)`: relaxation 1, without a theorem."""
        return GKM(self, alpha=1.0, check=False)
