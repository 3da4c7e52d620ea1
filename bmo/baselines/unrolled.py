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
from bmo.kernels import AffineSoft, Kernel, ResidualSoft
from bmo.metric import Identity, Metric
from bmo.operators.base import Piece, Preparing
from bmo.parameters import Positive
from bmo.prox import soft


class TiedLISTA(Preparing):
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
        tau = start_step(A, b, step)
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

    def _compute(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.W2.mT, self.b @ self.W1.mT, self.theta()

    def forward(self, u: Tensor) -> Tensor:
        matrix, shift, threshold = self.prepare()
        return soft(u @ matrix + shift, threshold)

    def kernel(self) -> Kernel:
        return AffineSoft(*self.prepare())

    def map(self) -> GKM:
        r"""The undamped iteration :math:`u \leftarrow D(u)`: relaxation 1, without a theorem."""
        return GKM(self, alpha=1.0, check=False)


class CoupledLISTA(Preparing):
    r"""One layer of tied LISTA-CP, :math:`\mathrm{soft}(u - \gamma W(Au - b), \theta)`.

    The two matrices of LISTA are coupled through A, which is known: two thin products a step.
    Learned: :math:`W` (shape (n, m)), :math:`\gamma` and :math:`\theta`. Starts as ISTA's step.

    Args:
        A: Dictionary, shape (m, n); :math:`W = A^\top` at the start.
        b: Data, shape (m,) or (batch, m); replaced by ``bind(b=...)``.
        threshold: :math:`\lambda > 0`; at the start :math:`\theta = \gamma\lambda` for each entry.
        step: :math:`\gamma \in (0, 2/\|A\|^2]`; ``None`` for :math:`1/\|A\|^2`.

    Raises:
        ShapeError: ``b`` does not fit ``A``.
        ConditionError: The step is too long, or not positive.

    Source: Chen, Liu, Wang, Yin, NeurIPS 2018 (there with other matrices at each layer).

    Example:
        >>> D = CoupledLISTA(torch.eye(2), torch.tensor([3.0, 0.5]), threshold=1.0)
        >>> D(torch.zeros(2)).detach()
        tensor([2., 0.])
    """

    certified = "none"

    def __init__(
        self, A: Tensor, b: Tensor, threshold: float | Tensor, step: float | None = None
    ) -> None:
        super().__init__()
        gamma = start_step(A, b, step)
        self.register_buffer("A", A)
        self.register_buffer("b", b)
        self.A: Tensor
        self.b: Tensor
        self.W = nn.Parameter(A.mT.clone())
        self.step = Positive(torch.as_tensor(gamma, dtype=A.dtype, device=A.device))
        start = torch.as_tensor(threshold, dtype=A.dtype, device=A.device)
        self.theta = Positive(gamma * start.expand(A.shape[1]))

    @property
    def metric(self) -> Metric:
        return Identity()

    def _compute(self) -> tuple[Tensor, Tensor]:
        return -self.step() * self.W.mT, self.theta()

    def forward(self, u: Tensor) -> Tensor:
        back, threshold = self.prepare()
        return soft(u + (u @ self.A.mT - self.b) @ back, threshold)

    def kernel(self) -> Kernel:
        back, threshold = self.prepare()
        return ResidualSoft(self.A.mT, self.b, back, back.new_zeros(()), threshold)

    def piece(self, u: Tensor) -> Piece:
        back, _ = self.prepare()
        return Piece(self(u) != 0, u.new_ones(()), -back.mT @ self.A, symmetric=False)

    def map(self) -> GKM:
        r"""The undamped iteration :math:`u \leftarrow D(u)`: relaxation 1, without a theorem."""
        return GKM(self, alpha=1.0, check=False)


def start_step(A: Tensor, b: Tensor, step: float | None) -> float:
    r"""The step length to start from; refuse data that do not fit, and a step above its limit."""
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
    return tau
