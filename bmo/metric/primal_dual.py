r"""The metric of primal-dual methods, in which the two variables are coupled.

Book: chapter 2, "Metrics"; chapter 4, "Primal-dual methods".
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bmo.errors import MetricError
from bmo.metric.base import Metric, exact, require_positive


class PrimalDual(Metric):
    r"""The metric of PDHG.

    .. math:: H = \begin{pmatrix}\tau^{-1}I & -K^\top\\ -K & \sigma^{-1}I\end{pmatrix}

    With :math:`S = \tau^{-1}I - \sigma K^\top K` one has
    :math:`\|(x, y)\|_H^2 = \|x\|_S^2 + \sigma^{-1}\|y - \sigma Kx\|^2`: the factor used here.

    Args:
        K: Matrix of shape (m, n); points are ``(x, y)`` concatenated, of size n + m.
        tau: Primal step > 0.
        sigma: Dual step > 0, with :math:`\tau\sigma\|K\|^2 < 1`.

    Raises:
        MetricError: The steps are not positive, or :math:`H` is not positive definite.

    Example:
        >>> import torch, bmo
        >>> H = bmo.metric.PrimalDual(torch.tensor([[1.0]]), tau=0.5, sigma=0.5)
        >>> H.inner(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]))
        tensor(-1.)
    """

    def __init__(self, K: Tensor, tau: float | Tensor, sigma: float | Tensor) -> None:
        self.K = K
        self.tau, self.sigma = exact(tau).to(K), exact(sigma).to(K)
        require_positive(torch.stack([self.tau, self.sigma]), "tau and sigma")
        m, n = K.shape
        schur = torch.eye(n, dtype=K.dtype, device=K.device) / self.tau - self.sigma * (K.mT @ K)
        self._lower, info = torch.linalg.cholesky_ex(schur)
        if int(info) != 0:
            product = float(self.tau * self.sigma * torch.linalg.matrix_norm(K.detach(), 2) ** 2)
            raise MetricError(
                "tau * sigma * ||K||^2 < 1", f"{product:.6g}", "shorten tau or sigma", product
            )
        self.size = n + m

    def _split(self, u: Tensor) -> tuple[Tensor, Tensor]:
        self.check(u)
        m, n = self.K.shape
        x, y = u.split([n, m], -1)
        return x, y

    def apply(self, u: Tensor) -> Tensor:
        x, y = self._split(u)
        return torch.cat([x / self.tau - y @ self.K, y / self.sigma - x @ self.K.mT], -1)

    def solve(self, u: Tensor) -> Tensor:
        a, b = self._split(u)
        rows = a + self.sigma * (b @ self.K)
        flat = rows.reshape(-1, rows.shape[-1]).mT
        x = torch.cholesky_solve(flat, self._lower).mT.reshape(rows.shape)
        return torch.cat([x, self.sigma * (b + x @ self.K.mT)], -1)

    def factor(self, u: Tensor) -> Tensor:
        x, y = self._split(u)
        root = self.sigma.sqrt()
        return torch.cat([x @ self._lower, y / root - root * (x @ self.K.mT)], -1)

    def unfactor(self, u: Tensor) -> Tensor:
        a, b = self._split(u)
        flat = a.reshape(-1, a.shape[-1]).mT
        x = torch.linalg.solve_triangular(self._lower.mT, flat, upper=True).mT.reshape(a.shape)
        root = self.sigma.sqrt()
        return torch.cat([x, root * b + self.sigma * (x @ self.K.mT)], -1)

    def bounds(self) -> tuple[float, float]:
        p, d = 1 / float(self.tau.detach()), 1 / float(self.sigma.detach())
        top = float(torch.linalg.matrix_norm(self.K.detach(), 2))
        # the 2x2 block of the largest singular value has the extreme eigenvalues
        mid, rad = (p + d) / 2, math.hypot((p - d) / 2, top)
        return mid - rad, mid + rad
