r"""A mixture of Gaussians over small patches, all with mean zero, fitted by EM.

.. math:: p(x) = \sum_{j=1}^{J} \pi_j\,\mathcal N(x; 0, \Sigma_j)

Book: chapter 11. The patches have their mean removed; the mean itself is left free.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from bmo.errors import ShapeError

_ROWS = 8192


class PatchMixture(nn.Module):
    r"""Weights :math:`\pi_j` and covariances :math:`\Sigma_j` of patches with mean zero.

    Args:
        weights: :math:`\pi`, positive, shape (J,); divided by their sum.
        covariances: :math:`\Sigma_j`, symmetric positive semidefinite, shape (J, n, n).

    Raises:
        ShapeError: Shapes do not fit.

    Source: Zoran, Weiss, ICCV 2011.

    Example:
        >>> mixture = PatchMixture(torch.ones(1), torch.eye(4)[None])
        >>> round(mixture.log_density(torch.zeros(1, 4)).item(), 4)  # -2 log 2 pi
        -3.6758
    """

    def __init__(self, weights: Tensor, covariances: Tensor) -> None:
        super().__init__()
        count = weights.shape[-1]
        side = covariances.shape[-1]
        if weights.dim() != 1 or covariances.shape != (count, side, side):
            raise ShapeError(
                "weights (J,) and covariances (J, n, n)",
                f"{tuple(weights.shape)} and {tuple(covariances.shape)}",
                "give one covariance for each weight",
            )
        values, vectors = torch.linalg.eigh(covariances.double())
        kind = covariances.dtype
        self.register_buffer("weights", weights / weights.sum())
        self.register_buffer("values", values.clamp_min(0).to(kind))
        self.register_buffer("vectors", vectors.to(kind).contiguous())
        self.weights: Tensor
        self.values: Tensor
        self.vectors: Tensor

    @property
    def covariances(self) -> Tensor:
        r""":math:`\Sigma_j`, shape (J, n, n)."""
        return (self.vectors * self.values[:, None]) @ self.vectors.mT

    def log_parts(self, x: Tensor, noise: float = 0.0) -> Tensor:
        r""":math:`\log \pi_j + \log\mathcal N(x; 0, \Sigma_j + \varepsilon I)`.

        Args:
            x: Patches in rows, shape (N, n).
            noise: :math:`\varepsilon \ge 0`, the variance of white noise in them.

        Returns:
            Shape (N, J).
        """
        spread = self.values.double() + noise
        constant = self.weights.double().log() - 0.5 * (spread.log() + _LOG_2PI).sum(-1)
        scaled = self.vectors * spread.rsqrt()[:, None].to(self.vectors)
        out = x.new_empty(len(x), len(scaled))
        for rows, part in zip(x.split(_ROWS), out.split(_ROWS), strict=True):
            for j, basis in enumerate(scaled):  # one component at a time stays in the cache
                part[:, j] = (rows @ basis).square_().sum(-1)
        return out.mul_(-0.5).add_(constant.to(out))

    def log_density(self, x: Tensor, noise: float = 0.0) -> Tensor:
        r""":math:`\log p(x)` of each row, shape (N,)."""
        return torch.logsumexp(self.log_parts(x, noise), -1)

    def most_likely(self, x: Tensor, noise: float) -> Tensor:
        r"""What a patch was before white noise, by its most likely component.

        .. math:: z = \Sigma_j(\Sigma_j + \varepsilon I)^{-1} x, \qquad
                  j = \arg\max_j \pi_j\,\mathcal N(x; 0, \Sigma_j + \varepsilon I)

        Args:
            x: Patches in rows, shape (N, n).
            noise: :math:`\varepsilon > 0`.
        """
        best = self.log_parts(x, noise).argmax(-1)
        out = torch.empty_like(x)
        for j in best.unique().tolist():
            at = (best == j).nonzero().squeeze(-1)
            basis, kept = self.vectors[j], self.values[j] / (self.values[j] + noise)
            out[at] = ((x[at] @ basis) * kept) @ basis.mT
        return out


_LOG_2PI = math.log(2 * math.pi)


def first_guess(x: Tensor, count: int, generator: torch.Generator, floor: float) -> PatchMixture:
    """Group patches by the drawn patch that they are most like in direction; one Gaussian each."""
    direction = x / x.norm(dim=-1, keepdim=True).clamp_min(1e-12)
    seeds = direction[torch.randperm(len(x), generator=generator)[:count]]
    group = torch.cat([(rows @ seeds.mT).abs().argmax(-1) for rows in direction.split(_ROWS)])
    return maximise(x, torch.nn.functional.one_hot(group, count).to(x), floor)


def maximise(x: Tensor, shares: Tensor, floor: float) -> PatchMixture:
    r"""The M step: the mixture that explains the patches best when each one's shares are known.

    .. math:: \pi_j = \tfrac1N\sum_i r_{ij}, \qquad
              \Sigma_j = \frac{\sum_i r_{ij}x_ix_i^\top}{\sum_i r_{ij}} + \varepsilon I

    Args:
        x: Patches in rows, shape (N, n).
        shares: :math:`r_{ij}`, how far component j answers for patch i, shape (N, J).
        floor: :math:`\varepsilon > 0`: no direction is certain.
    """
    count, side = shares.shape[-1], x.shape[-1]
    sums = x.new_zeros(count, side, side)
    for rows, part in zip(x.split(_ROWS), shares.split(_ROWS), strict=True):
        for j in range(count):
            sums[j].addmm_((rows * part[:, j : j + 1]).mT, rows)
    mass = shares.double().sum(0).clamp_min(1e-6)
    eye = torch.eye(side, dtype=x.dtype)
    return PatchMixture(mass.to(x), sums / mass[:, None, None].to(x) + floor * eye)


def expectation_maximisation(
    x: Tensor, count: int, iterations: int, seed: int = 0, floor: float = 1e-6
) -> tuple[PatchMixture, list[float]]:
    r"""Fit a mixture of ``count`` Gaussians with mean zero.

    Each iteration takes :math:`r_{ij} \propto \pi_j\,\mathcal N(x_i; 0, \Sigma_j)` and maximises.
    The mean log-density never falls, but for what the floor takes.

    Args:
        x: Patches in rows, shape (N, n), mean removed.
        count: J.
        iterations: Number of EM steps.
        seed: Of the patches that the first groups are drawn around.
        floor: Added to each covariance; the variance of rounding to 8 bits is 1.3e-6.

    Returns:
        The mixture, and the mean log-density before each step.

    Source: Dempster, Laird, Rubin, J. Royal Statistical Society B 39(1), 1977.

    Example:
        >>> x = torch.randn(500, 2, generator=torch.Generator().manual_seed(0))
        >>> mixture, trace = expectation_maximisation(x, count=1, iterations=2)
        >>> bool(torch.allclose(mixture.covariances[0], x.mT @ x / 500, atol=1e-5))
        True
    """
    mixture, trace = first_guess(x, count, torch.Generator().manual_seed(seed), floor), []
    for _ in range(iterations):
        parts = mixture.log_parts(x)
        total = torch.logsumexp(parts, -1, keepdim=True)
        trace.append(float(total.double().mean()))
        mixture = maximise(x, parts.sub_(total).exp_(), floor)
    return mixture, trace
