r"""TISTA: the shrinkage is the best one for a sparse signal in Gaussian noise. Class ENA.

Book: chapter 10. It knows how the signals are drawn (density, variance) and how strong the noise
in the data is; the other methods learn that from samples.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from bmo.baselines.base import State, Unrolled, copies, require_positive, thresholds
from bmo.baselines.lista import require_layers
from bmo.errors import DomainError

#: The smallest error variance: the estimate may be negative, and is zero without noise at the end.
LEAST = 1e-9


def posterior_mean(r: Tensor, tau2: Tensor, density: float, variance: float) -> Tensor:
    r"""The mean of x given :math:`r = x + \tau n`, for x sparse: p N(0, a²) + (1 - p) zero.

    .. math:: \eta(r) = \frac{a^2}{a^2 + \tau^2}\,r\;
        \frac{pF(r; a^2 + \tau^2)}{(1 - p)F(r; \tau^2) + pF(r; a^2 + \tau^2)}

    with the density F of a normal variable of mean zero.

    Args:
        r: Noisy values, shape (..., n).
        tau2: :math:`\tau^2 > 0`, broadcasts against r.
        density: p in (0, 1).
        variance: :math:`a^2 > 0`.

    Example:
        >>> posterior_mean(torch.tensor([0.1, 3.0]), torch.tensor(0.01), 0.1, 1.0)
        tensor([0.0018, 2.9703])
    """
    wide = variance + tau2
    odds = math.log(density / (1 - density)) - 0.5 * torch.log(wide / tau2)
    odds = odds + 0.5 * r**2 * (1 / tau2 - 1 / wide)
    return variance / wide * r * torch.sigmoid(odds)


class TISTA(Unrolled):
    r"""Trainable ISTA: one learned number :math:`\gamma_k` a layer.

    .. math::
        r^k &= u^k + \gamma_kA^+(b - Au^k), \qquad u^{k+1} = \eta(r^k; \tau_k^2), \\
        v_k^2 &= \max\{(\|b - Au^k\|^2 - m\sigma^2)/\mathrm{tr}(A^\top A), \epsilon\}, \\
        \tau_k^2 &= v_k^2\,(n + (\gamma_k^2 - 2\gamma_k)m)/n
            + \gamma_k^2\sigma^2\,\mathrm{tr}(A^+A^{+\top})/n

    :math:`\eta` is :func:`posterior_mean` and :math:`A^+` the pseudoinverse: 2 products a step.

    Args:
        A: Dictionary of full row rank, shape (..., m, n), m <= n.
        depth: Number of layers.
        noise: :math:`\sigma^2 \ge 0` of an entry of the data: a number, or (..., 1, 1). It is the
            buffer ``noise``.
        density: p, the share of entries that are not zero.
        variance: :math:`a^2`, their variance.

    Raises:
        DomainError: A number is out of its range.

    Source: Ito, Takabe, Wadayama, IEEE Trans. Signal Process. 67(12), 2019.

    Example:
        >>> net = TISTA(torch.eye(2), depth=1, noise=0.01)
        >>> net(torch.tensor([3.0, 0.1])).detach()
        tensor([2.9703, 0.0018])
    """

    name = "ena-tista"

    def __init__(
        self,
        A: Tensor,
        depth: int,
        noise: float | Tensor,
        density: float = 0.1,
        variance: float = 1.0,
    ) -> None:
        super().__init__(A, depth, require_layers(depth))
        require_positive("variance", variance)
        if not 0 < density < 1:
            raise DomainError("a density in (0, 1)", f"{density}", "0.1 is usual", density)
        if not bool((torch.as_tensor(noise) >= 0).all()):
            raise DomainError("a noise variance >= 0", f"{noise}", "it is a square", noise)
        self.density, self.variance = density, variance
        self.number("noise", noise)
        self.register_buffer("W", torch.linalg.pinv(A))
        self.noise: Tensor
        self.W: Tensor
        self.gamma = copies(thresholds(A, 1.0, False), depth)

    def error_variance(self, rest: Tensor, gamma: Tensor) -> Tensor:
        r""":math:`\tau^2` from the residual :math:`b - Au`, shape (..., 1)."""
        m, n = self.A.shape[-2:]
        dims = (-2, -1)
        energy, spread = (M.square().sum(dims, keepdim=M.dim() > 2) for M in (self.A, self.W))
        v2 = (rest.square().sum(-1, keepdim=True) - m * self.noise) / energy
        kept = (n + (gamma**2 - 2 * gamma) * m) / n
        return v2.clamp_min(LEAST) * kept + gamma**2 * self.noise * spread / n

    def step(self, k: int, state: State, data: Any) -> State:
        (u,) = state
        rest, gamma = data - u @ self.A.mT, self.gamma[k]
        r = u + gamma * (rest @ self.W.mT)
        tau2 = self.error_variance(rest, gamma).clamp_min(torch.finfo(r.dtype).tiny)
        return (posterior_mean(r, tau2, self.density, self.variance),)
