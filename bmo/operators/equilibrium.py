r"""Equilibrium networks: a layer whose output is the fixed point of a step.

Book: chapter 4, "Steps with networks".
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bmo.errors import ConditionError, ShapeError
from bmo.metric import Identity, Metric, Scaled, exact
from bmo.operators.base import Preparing
from bmo.prox import Prox


class MonotoneEquilibrium(Preparing):
    r"""A forward-backward step of a monotone equilibrium network.

    .. math:: z^+ = \mathrm{prox}_{af}\big(z - a((I - W)z - b)\big)

    With :math:`\langle(I - W)w, w\rangle \ge m|w|^2` it is nonexpansive in the Euclidean metric
    for :math:`0 < a \le 2m/\|I - W\|^2` (:math:`\tfrac1{2-\delta}`-averaged,
    :math:`\delta = a\|I - W\|^2/2m`), and a contraction below. The fixed point is the layer's
    output :math:`z = \mathrm{prox}_f(Wz + b)` (for an f whose proximal operator does not depend
    on the step, such as a ReLU's). Book: chapter 4, "Steps with networks".

    Args:
        W: Matrix of shape (n, n).
        b: Injected input, shape (n,) or (batch, n); replaced by ``bind(b=...)``.
        activation: :math:`f`; ``Indicator(Nonnegative())`` is the ReLU.
        step: :math:`a`; ``None`` for :math:`m/\|I - W\|^2`.
        check: Refuse a violated condition.

    Raises:
        ConditionError: :math:`I - W` is not strongly monotone, or the step is not in its range.
        ShapeError: ``W`` and ``b`` do not fit.

    Example:
        >>> import torch, bmo
        >>> relu = bmo.prox.Indicator(bmo.sets.Nonnegative())
        >>> W, b = torch.tensor([[0.0, -1.0], [1.0, 0.0]]), torch.tensor([2.0, -3.0])
        >>> D = bmo.operators.MonotoneEquilibrium(W, b, relu)
        >>> bmo.GKM(D, 0.9).iterate(torch.zeros(2), tol=1e-7).value.round(decimals=4)
        tensor([2., 0.])
    """

    def __init__(
        self,
        W: Tensor,
        b: Tensor,
        activation: Prox,
        step: float | Tensor | None = None,
        check: bool = True,
    ) -> None:
        super().__init__()
        if W.dim() != 2 or not W.shape[0] == W.shape[1] == b.shape[-1]:
            raise ShapeError(
                "W of shape (n, n) and b of shape (..., n)",
                f"W {tuple(W.shape)}, b {tuple(b.shape)}",
                "make them fit",
            )
        self.activation = activation
        self.check = check
        self.certified = "checked" if check else "none"
        self.register_buffer("W", W)
        self.register_buffer("b", b)
        self.W: Tensor
        self.b: Tensor
        self._step = None if step is None else exact(step)
        self.prepare()

    def _depends(self) -> list[Tensor]:
        return [t for t in super()._depends() if t is not self.b]

    def _matrix(self) -> tuple[Tensor, float]:
        r""":math:`G = I - W` and its strong monotonicity m."""
        eye = torch.eye(self.W.shape[0], dtype=self.W.dtype, device=self.W.device)
        G = eye - self.W
        return G, float(torch.linalg.eigvalsh((G + G.mT).detach() / 2)[0])

    def _compute(self) -> tuple[Tensor, Tensor, float]:
        G, m = self._matrix()
        top = float(torch.linalg.matrix_norm(G.detach(), 2))
        if self.check and not m > 0:
            raise ConditionError(
                "I - W strongly monotone (m > 0)",
                f"m = {m:.6g}",
                "lower the symmetric part of W",
                m,
            )
        a = torch.as_tensor(m / top**2 if self._step is None else self._step).to(G)
        delta = float(a) * top**2 / (2 * m) if m > 0 else math.inf
        if self.check and not 0 < delta <= 1 + 1e-12:
            raise ConditionError(
                f"0 < step <= 2m/||I - W||^2 = {2 * m / top**2:.6g}",
                f"{float(a):.6g}",
                "shorten it",
                a,
            )
        return G, a, delta

    @property
    def metric(self) -> Metric:
        return Identity()

    @property
    def averaged(self) -> float:
        return 1 / (2 - min(1.0, self.prepare()[2]))

    def _injection(self) -> Tensor:
        """The injected input at the current parameters."""
        return self.b

    def forward(self, z: Tensor) -> Tensor:
        G, a, _ = self.prepare()
        z = z - a * (z @ G.mT - self._injection())
        return self.activation(z, Scaled(1 / a, check=False))
