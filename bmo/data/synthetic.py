r"""Seeded synthetic draws: sparse codes, metrics, and maps nonexpansive in a metric.

Every function takes a :class:`torch.Generator`, so a draw is a function of its seed alone.
Draws are made on the generator's device; move them afterwards with ``.to``.
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

from bmo.errors import DomainError, MetricError, ShapeError


def generator(seed: int, device: torch.device | str = "cpu") -> Generator:
    """A random generator with its seed set.

    The same seed gives the same numbers on the CPU everywhere; a GPU has numbers of its own.

    Raises:
        DomainError: ``seed`` is negative or not an integer.

    Example:
        >>> bool(torch.rand((), generator=generator(0)) == torch.rand((), generator=generator(0)))
        True
    """
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise DomainError("a nonnegative integer seed", repr(seed), "write seed=0, say", seed)
    return torch.Generator(device=device).manual_seed(seed)


def sparse_codes(
    count: int,
    size: int,
    density: float,
    rng: Generator,
    dtype: torch.dtype = torch.float64,
) -> Tensor:
    r"""Bernoulli–Gaussian codes: each entry is N(0, 1) with probability ``density``, else 0.

    Args:
        count: Number of codes.
        size: Length n of a code.
        density: Probability of a nonzero, in (0, 1].
        rng: Where the randomness comes from.
        dtype: float32 or float64.

    Returns:
        Shape (count, n).

    Raises:
        DomainError: ``density`` outside (0, 1], or a size below 1.

    Example:
        >>> u = sparse_codes(200, 100, 0.1, generator(0))
        >>> 0.09 < (u != 0).double().mean().item() < 0.11
        True
    """
    _at_least(1, count=count, size=size)
    if not 0 < density <= 1:
        raise DomainError("density in (0, 1]", f"{density}", "density=0.1, say", density)
    shape = (count, size)
    support = torch.rand(shape, generator=rng, dtype=dtype, device=rng.device) < density
    values = torch.randn(shape, generator=rng, dtype=dtype, device=rng.device)
    return torch.where(support, values, torch.zeros_like(values))


def random_orthogonal(n: int, rng: Generator, dtype: torch.dtype = torch.float64) -> Tensor:
    r"""A random orthogonal matrix, uniform (Haar measure) on O(n).

    The QR factor of a Gaussian matrix, with the signs of R's diagonal moved into Q: without
    them the distribution is not uniform.

    Returns:
        Q of shape (n, n), :math:`Q^\top Q = I`.

    Raises:
        DomainError: n < 1.

    Source: Mezzadri, Notices of the AMS 54(5), 2007.

    Example:
        >>> q = random_orthogonal(5, generator(0))
        >>> bool(torch.allclose(q.T @ q, torch.eye(5, dtype=q.dtype), atol=1e-12))
        True
    """
    _at_least(1, n=n)
    q, r = torch.linalg.qr(torch.randn(n, n, generator=rng, dtype=dtype, device=rng.device))
    signed: Tensor = q * torch.sign(r.diagonal())
    return signed


def random_spd(
    n: int, condition: float, rng: Generator, dtype: torch.dtype = torch.float64
) -> Tensor:
    r"""A random symmetric positive definite matrix with a given condition number.

    .. math:: H = Q\,\mathrm{diag}(\lambda)\,Q^\top, \qquad
              \lambda_i = \kappa^{(i-1)/(n-1)}, \quad i = 1, \dots, n

    with Q uniform on O(n): the smallest eigenvalue is 1, the largest κ.

    Args:
        n: Size, at least 2 unless κ = 1.
        condition: κ ≥ 1.
        rng: Where the randomness comes from.
        dtype: float32 or float64.

    Returns:
        H of shape (n, n), exactly symmetric.

    Raises:
        DomainError: κ < 1 or not finite, or n = 1 with κ > 1.

    Example:
        >>> H = random_spd(6, 100.0, generator(0))
        >>> round(torch.linalg.cond(H).item(), 6)
        100.0
    """
    _at_least(1 if condition == 1 else 2, n=n)
    if not 1 <= condition < math.inf:
        raise DomainError("condition ≥ 1, finite", f"{condition}", "condition=100", condition)
    powers = torch.linspace(0, 1, n, dtype=dtype, device=rng.device)
    q = random_orthogonal(n, rng, dtype)
    h = (q * condition**powers) @ q.T
    return (h + h.T) / 2


def nonexpansive_matrix(H: Tensor, rng: Generator, norm: float = 1.0) -> Tensor:
    r"""A random linear map with a given operator norm in the metric H.

    .. math:: D = c\,H^{-1/2} Q H^{1/2}, \qquad
              \|D\|_H = \max_u \frac{\|Du\|_H}{\|u\|_H} = c

    with Q uniform on O(n). For c = 1 it is an isometry of H: nonexpansive, and not a
    contraction, while its Euclidean norm may be as large as :math:`\sqrt{\mathrm{cond}(H)}`.

    Args:
        H: Symmetric positive definite, shape (n, n).
        rng: Where the randomness comes from, on the device of H.
        norm: c ≥ 0.

    Returns:
        D of shape (n, n), the dtype of H.

    Raises:
        ShapeError: H is not a square matrix.
        MetricError: H is not symmetric positive definite.
        DomainError: c < 0 or not finite.

    Source: Book: chapter 2.

    Example:
        >>> H = random_spd(6, 100.0, generator(0))
        >>> D = nonexpansive_matrix(H, generator(1))
        >>> bool(torch.allclose(D.T @ H @ D, H, atol=1e-10))  # an isometry of H
        True
    """
    if H.ndim != 2 or H.shape[0] != H.shape[1]:
        raise ShapeError("a square matrix H", f"shape {tuple(H.shape)}", "one n×n matrix", H)
    if not 0 <= norm < math.inf:
        raise DomainError("norm ≥ 0, finite", f"{norm}", "norm=1 for nonexpansive", norm)
    if not bool(torch.isfinite(H).all()) or not torch.allclose(H, H.T):
        raise MetricError("a finite symmetric H", "one that is not", "use (H + H.T) / 2", H)
    values, vectors = torch.linalg.eigh(H)
    if not bool(values[0] > 0):
        raise MetricError(
            "a positive definite H",
            f"smallest eigenvalue {values[0].item():.3g}",
            "add a multiple of the identity",
            H,
        )
    root = values.sqrt()
    q = random_orthogonal(H.shape[0], rng, H.dtype)
    inner = vectors.T @ q @ vectors
    linear: Tensor = norm * (vectors / root) @ inner @ (vectors * root).T
    return linear


def _at_least(least: int, **sizes: int) -> None:
    for name, size in sizes.items():
        if size < least:
            raise DomainError(f"{name} ≥ {least}", f"{name} = {size}", "a larger size", size)
