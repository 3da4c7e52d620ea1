r"""ISTA and FISTA, as they are written in the literature: nothing is learned.

Book: chapters 4 and 10. Class UNH (unrolling with a numerical step only): the step
:math:`z \leftarrow \mathrm{soft}(z - \tau A^\top(Az - b), \tau\lambda)` for
:math:`\min_z \tfrac12\|Az - b\|^2 + \lambda\|z\|_1`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bmo.baselines.base import (
    State,
    Unrolled,
    first_step,
    require_at_most,
    squared_norm,
)
from bmo.errors import ConditionError, ShapeError
from bmo.prox import soft


def _prepare(A: Tensor, b: Tensor, step: float | None) -> tuple[Tensor, Tensor, float]:
    r"""The Gram matrix, :math:`A^\top b` in rows, and the step (1/L if none is given)."""
    if A.dim() != 2 or b.shape[-1] != A.shape[0]:
        raise ShapeError(
            "A of shape (m, n) and b of shape (..., m)",
            f"A {tuple(A.shape)}, b {tuple(b.shape)}",
            "put the data into rows",
            tuple(b.shape),
        )
    longest = 2 / float(torch.linalg.matrix_norm(A, 2)) ** 2
    if step is not None and not 0 < step <= longest * (1 + 1e-12):
        raise ConditionError(
            f"0 < step <= 2/||A||^2 = {longest:.6g}", f"step = {step}", "shorten it", step
        )
    return A.mT @ A, b @ A, longest / 2 if step is None else step


def ista(
    A: Tensor,
    b: Tensor,
    penalty: float | Tensor,
    iterations: int,
    step: float | None = None,
    z0: Tensor | None = None,
) -> Tensor:
    r"""Iterative soft thresholding.

    Args:
        A: Dictionary, shape (m, n).
        b: Data in rows, shape (..., m).
        penalty: :math:`\lambda`, a number or one for each of the n coefficients.
        iterations: Number of steps.
        step: :math:`\tau \in (0, 2/\|A\|^2]`; ``None`` for :math:`1/\|A\|^2`.
        z0: Start, shape (..., n); zero by default.

    Returns:
        Codes in rows, shape (..., n).

    Raises:
        ShapeError: ``b`` does not fit ``A``.
        ConditionError: The step is too long, or not positive.

    Source: Daubechies, Defrise, De Mol, CPAM 57, 2004.

    Example:
        >>> ista(torch.eye(2), torch.tensor([3.0, 0.5]), 1.0, iterations=5)
        tensor([2., 0.])
    """
    gram, back, tau = _prepare(A, b, step)
    z = torch.zeros_like(back) if z0 is None else z0
    for _ in range(iterations):
        z = soft(z - tau * (z @ gram - back), tau * penalty)
    return z


def fista(A: Tensor, b: Tensor, penalty: float | Tensor, iterations: int) -> Tensor:
    r"""The accelerated method: :math:`v = z^k + \frac{t_{k-1} - 1}{t_k}(z^k - z^{k-1})`, step at v.

    Not a GKM: its operator changes with k. Arguments as in :func:`ista`; the step is 1/L.

    Source: Beck, Teboulle, SIAM J. Imaging Sciences 2(1), 2009.

    Example:
        >>> fista(torch.eye(2), torch.tensor([3.0, 0.5]), 1.0, iterations=5)
        tensor([2., 0.])
    """
    gram, back, tau = _prepare(A, b, None)
    z = v = torch.zeros_like(back)
    t = 1.0
    for _ in range(iterations):
        new = soft(v - tau * (v @ gram - back), tau * penalty)
        t_new = (1 + math.sqrt(1 + 4 * t * t)) / 2
        v = new + (t - 1) / t_new * (new - z)
        z, t = new, t_new
    return z


class ISTA(Unrolled):
    r""":func:`ista` as a method of the comparison: 2 products a step, weight-tied.

    Args:
        A: Dictionary, shape (..., m, n).
        penalty: :math:`\lambda > 0`: a number, or a tensor that broadcasts against u.
        step: :math:`\tau \in (0, 2/\|A\|^2]`; ``None`` for :math:`1/\|A\|^2`.
        depth: Number of steps, unless told otherwise.

    Raises:
        DomainError: The penalty or the step is not positive.
        ConditionError: The step is too long.

    Source: Daubechies, Defrise, De Mol, CPAM 57, 2004.

    Example:
        >>> ISTA(torch.eye(2), penalty=1.0)(torch.tensor([3.0, 0.5]), depth=1)
        tensor([2., 0.])
    """

    name = "unh-ista"

    def __init__(
        self,
        A: Tensor,
        penalty: float | Tensor,
        step: float | Tensor | None = None,
        depth: int = 16,
    ) -> None:
        super().__init__(A, depth)
        self.positive("penalty", penalty)
        self.number("tau", first_step(A, step))
        self.tau: Tensor
        self.penalty: Tensor

    def _move(self, u: Tensor, b: Tensor) -> Tensor:
        slope = (u @ self.A.mT - b) @ self.A
        return soft(u - self.tau * slope, self.tau * self.penalty)

    def step(self, k: int, state: State, data: Tensor) -> State:
        return (self._move(state[0], data),)


class FISTA(ISTA):
    r""":func:`fista` as a method of the comparison; arguments as in :class:`ISTA`.

    Here :math:`\tau \le 1/\|A\|^2`. It is no fixed-point map of u: its step changes with k.

    Source: Beck, Teboulle, SIAM J. Imaging Sciences 2(1), 2009.

    Example:
        >>> FISTA(torch.eye(2), penalty=1.0)(torch.tensor([3.0, 0.5]), depth=2)
        tensor([2., 0.])
    """

    name = "unh-fista"

    def __init__(
        self,
        A: Tensor,
        penalty: float | Tensor,
        step: float | Tensor | None = None,
        depth: int = 16,
    ) -> None:
        super().__init__(A, penalty, step, depth)
        require_at_most("step", self.tau, 1 / squared_norm(A))

    def start(self, b: Tensor) -> State:
        (u,) = super().start(b)
        return u, u, 1.0

    def step(self, k: int, state: State, data: Tensor) -> State:
        u, v, t = state
        new = self._move(v, data)
        longer = (1 + math.sqrt(1 + 4 * t * t)) / 2
        return new, new + (t - 1) / longer * (new - u), longer
