r"""ALISTA: the matrix is computed from the dictionary, only numbers are learned. Class ENA.

Book: chapter 10.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bmo.baselines.base import State, Unrolled, copies, first_step, require_positive, thresholds
from bmo.baselines.lista import require_layers, schedule, select
from bmo.errors import ConditionError, ShapeError


def analytic_weight(A: Tensor) -> Tensor:
    r"""The matrix least coherent with A, in the mean square.

    .. math:: \min_W \|W^\top A\|_F^2 \quad\text{subject to}\quad w_i^\top a_i = 1

    Column by column a quadratic program with one constraint, hence
    :math:`w_i = (AA^\top)^{-1}a_i/(a_i^\top(AA^\top)^{-1}a_i)`. Its value is at least
    :math:`n^2/m`.

    Args:
        A: Dictionary of full row rank, shape (..., m, n).

    Returns:
        W, same shape.

    Raises:
        ConditionError: The rows of A are dependent.

    Source: Liu, Chen, Wang, Yin, ICLR 2019 (there solved by projected gradients).

    Example:
        >>> analytic_weight(torch.tensor([[2.0, 0.0, 1.0], [0.0, 2.0, 1.0]]))[:, 0]
        tensor([ 0.5000, -0.1000])
    """
    values = torch.linalg.svdvals(A)
    if bool((values[..., -1] <= A.shape[-1] * torch.finfo(A.dtype).eps * values[..., 0]).any()):
        raise ConditionError(
            "a dictionary whose rows are independent",
            f"smallest singular value {float(values[..., -1].min()):.1e}",
            "drop the dependent rows",
            A,
        )
    solved = torch.linalg.solve(A @ A.mT, A)
    return solved / (A * solved).sum(-2, keepdim=True)


def coherence(W: Tensor, A: Tensor) -> Tensor:
    r"""The generalised mutual coherence, :math:`\max_{i \ne j}|w_i^\top a_j|`, shape (...).

    Example:
        >>> float(coherence(torch.eye(2), torch.tensor([[1.0, 0.3], [0.0, 1.0]])))
        0.3
    """
    product = (W.mT @ A).abs()
    off = product - torch.diag_embed(torch.diagonal(product, dim1=-2, dim2=-1))
    return off.flatten(-2).amax(-1)


class ALISTA(Unrolled):
    r"""Analytic LISTA: :math:`u^{k+1} = \mathrm{select}(u^k + \gamma^kW^\top(b - Au^k), \theta^k)`.

    Learned: two numbers a layer, :math:`\gamma^k` and :math:`\theta^k`.

    Args:
        A: Dictionary, shape (..., m, n).
        depth: Number of layers.
        penalty: :math:`\lambda > 0`; :math:`\theta = \lambda/\|A\|^2` at the start.
        W: Shape (..., m, n); ``None`` for :func:`analytic_weight`.
        step: :math:`\gamma > 0` at the start.
        percent: As in :class:`~bmo.baselines.LISTACPSS`.
        most: As in :class:`~bmo.baselines.LISTACPSS`.

    Raises:
        ShapeError: W does not have the shape of A.
        DomainError: A number is out of its range.

    Source: Liu, Chen, Wang, Yin, ICLR 2019.

    Example:
        >>> net = ALISTA(torch.eye(2), depth=3, penalty=1.0, percent=0.0)
        >>> net(torch.tensor([3.0, 0.5])).detach()
        tensor([2., 0.])
    """

    name = "ena-alista"

    def __init__(
        self,
        A: Tensor,
        depth: int,
        penalty: float | Tensor,
        W: Tensor | None = None,
        step: float | Tensor = 1.0,
        percent: float = 1.2,
        most: float = 13.0,
    ) -> None:
        super().__init__(A, depth, require_layers(depth))
        require_positive("penalty", penalty)
        require_positive("step", step)
        if W is not None and W.shape != A.shape:
            raise ShapeError(f"W of shape {tuple(A.shape)}", f"{tuple(W.shape)}", "transpose it", W)
        self.register_buffer("W", analytic_weight(A) if W is None else W)
        self.W: Tensor
        self.gamma = copies(thresholds(A, step, False), depth)
        self.theta = copies(thresholds(A, first_step(A, None) * penalty, False), depth)
        self.counts = schedule(A.shape[-1], depth, percent, most)

    def step(self, k: int, state: State, data: Any) -> State:
        (u,) = state
        z = u + self.gamma[k] * ((data - u @ self.A.mT) @ self.W)
        return (select(z, self.theta[k], self.counts[k]),)
