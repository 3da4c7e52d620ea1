r"""Metrics that are known by what they do: Fourier multipliers and the primal-dual metric.

Book: chapter 2, "Metrics that are not matrices"; chapter 4, PDHG.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from bmo.errors import MetricError
from bmo.metric import Metric, _require_positive, exact


class Spectral(Metric):
    r""":math:`H = F^* \mathrm{diag}(h) F` on images: a circular convolution with a positive symbol.

    Args:
        symbol: :math:`h`, shape (H, W) or (C, H, W): real, positive and even
            (:math:`h(-\xi) = h(\xi)`), in the order of :func:`torch.fft.fft2`.

    Raises:
        MetricError: The symbol is not positive, or not even (then :math:`Hu` would not be real).

    Example:
        >>> import torch, bmo
        >>> H = bmo.metric_operators.Spectral(torch.full((4, 4), 2.0))
        >>> bool(torch.allclose(H.apply(torch.ones(1, 4, 4)), 2 * torch.ones(1, 4, 4)))
        True
    """

    event_dims = 3

    def __init__(self, symbol: Tensor) -> None:
        _require_positive(symbol, "symbol")
        mirrored = symbol.flip(-2, -1).roll((1, 1), (-2, -1))
        gap = float((symbol - mirrored).detach().abs().max())
        if gap > 1e3 * torch.finfo(symbol.dtype).eps * float(symbol.detach().max()):
            raise MetricError(
                "an even symbol, h(-xi) = h(xi)", f"asymmetry {gap:.3g}", "symmetrise it", symbol
            )
        self.symbol = symbol
        self.size = int(symbol.shape[-1])

    def _multiply(self, u: Tensor, power: float) -> Tensor:
        if u.shape[-2:] != self.symbol.shape[-2:]:
            raise MetricError(
                f"images of {tuple(self.symbol.shape[-2:])}",
                f"shape {tuple(u.shape)}",
                "build the metric for this image size",
                u,
            )
        half = self.symbol[..., : u.shape[-1] // 2 + 1].to(u)
        return torch.fft.irfft2(torch.fft.rfft2(u) * half**power, s=u.shape[-2:])

    def apply(self, u: Tensor) -> Tensor:
        return self._multiply(u, 1.0)

    def solve(self, u: Tensor) -> Tensor:
        return self._multiply(u, -1.0)

    def factor(self, u: Tensor) -> Tensor:
        return self._multiply(u, 0.5)

    def unfactor(self, u: Tensor) -> Tensor:
        return self._multiply(u, -0.5)

    def bounds(self) -> tuple[float, float]:
        return float(self.symbol.detach().min()), float(self.symbol.detach().max())

    def event_shape(self) -> tuple[int, ...]:
        return (1,) * (3 - self.symbol.dim()) + tuple(self.symbol.shape)


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
        >>> H = bmo.metric_operators.PrimalDual(torch.tensor([[1.0]]), tau=0.5, sigma=0.5)
        >>> H.inner(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]))
        tensor(-1.)
    """

    def __init__(self, K: Tensor, tau: float | Tensor, sigma: float | Tensor) -> None:
        self.K = K
        self.tau, self.sigma = exact(tau).to(K), exact(sigma).to(K)
        _require_positive(torch.stack([self.tau, self.sigma]), "tau and sigma")
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


class Functional(Metric):
    r"""A metric given only by the function :math:`u \mapsto Hu`; solved by conjugate gradients.

    The function must be linear, symmetric and positive definite; symmetry and positivity are
    tested on random points by :func:`bmo.certify.metric_is_spd`, not here.

    Args:
        function: :math:`u \mapsto Hu` on batched points.
        lower: A lower bound on the spectrum, > 0.
        upper: An upper bound on the spectrum.
        event_dims: Trailing axes of one point.
        tol: Relative residual at which conjugate gradients stop.

    Raises:
        MetricError: The bounds are not ``0 < lower <= upper``, or the solve did not reach ``tol``.
    """

    def __init__(
        self,
        function: Callable[[Tensor], Tensor],
        lower: float,
        upper: float,
        event_dims: int = 1,
        tol: float = 1e-12,
    ) -> None:
        if not 0 < lower <= upper < math.inf:
            raise MetricError("0 < lower <= upper", f"{lower}, {upper}", "bound the spectrum of H")
        self.function = function
        self.lower, self.upper, self.tol = lower, upper, tol
        self.event_dims = event_dims

    def apply(self, u: Tensor) -> Tensor:
        return self.function(u)

    def _sum(self, u: Tensor) -> Tensor:
        return u.sum(dim=tuple(range(-self.event_dims, 0)), keepdim=True)

    def solve(self, u: Tensor) -> Tensor:
        steps = int(20 + 4 * math.sqrt(self.upper / self.lower) * math.log(2 / self.tol))
        x = torch.zeros_like(u)
        r = p = u
        rho = start = self._sum(r * r)
        for _ in range(steps):
            if bool((rho <= self.tol**2 * start).all()):
                return x
            hp = self.function(p)
            step = rho / self._sum(p * hp).clamp_min(torch.finfo(u.dtype).tiny)
            x, r = x + step * p, r - step * hp
            new = self._sum(r * r)
            p = r + (new / rho.clamp_min(torch.finfo(u.dtype).tiny)) * p
            rho = new
        worst = float((rho / start.clamp_min(torch.finfo(u.dtype).tiny)).max().sqrt())
        raise MetricError(
            f"conjugate gradients to reach {self.tol:g}",
            f"relative residual {worst:.3g} after {steps} steps",
            "widen the bounds of the spectrum, loosen tol, or use a dense metric",
        )

    def factor(self, u: Tensor) -> Tensor:
        raise MetricError("a factor H = R^T R", "a metric known only as a function", "use norm()")

    unfactor = factor

    def norm(self, u: Tensor) -> Tensor:
        return self.inner(u, u).clamp_min(0).sqrt()

    def bounds(self) -> tuple[float, float]:
        return self.lower, self.upper
